import { Attempts } from "./attempts.js";
import { deferred } from "./deferred.js";
import { UproarError } from "./errors.js";
import { isForNow } from "./pause.js";

/** How long before its end a token is renewed; one that is short-lived, in the last third of its time. Milliseconds. */
const MARGIN = 60_000;
/** The least time between two renewals, whatever tokens say. Milliseconds. */
const LEAST = 100;

/**
 * Renews the access token of a connection before it expires, so that the connection need not end for that. If it cannot
 * be had in a few attempts, the server ends the connection, and the next one asks for a token of its own.
 */
export class Renewal {
  #clock;
  #random;
  #token;
  #nextId;
  #attempts;
  #hooks;
  #transport = null;
  /** The server's clock less ours, in milliseconds; ours may be wrong. */
  #skew = 0;
  #expires = 0;
  #timer = null;
  #renewing = null;
  /** The request that is to be answered: `{id, promise, resolve, reject}`. */
  #asked = null;

  /**
   * `options`: `clock`, `random`, the `token`, `nextId()`, and `attempts(act, outcome)`, which makes `Attempts`.
   * `hooks`: `refreshed({expires})`, and `error(error)` if it was given up.
   */
  constructor({ clock, random, token, nextId, attempts }, hooks) {
    this.#clock = clock;
    this.#random = random;
    this.#token = token;
    this.#nextId = nextId;
    this.#attempts = attempts;
    this.#hooks = hooks;
  }

  /** There is a connection, with that welcome of the server. */
  connected(transport, welcome) {
    this.disconnected();
    if (!this.#token.isRenewable || !Number.isFinite(welcome?.expires) || !Number.isFinite(welcome.timestamp)) return;
    this.#transport = transport;
    this.#skew = welcome.timestamp - this.#clock.now();
    this.#wait(welcome.expires);
  }

  disconnected() {
    this.#renewing?.cancel();
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#transport = this.#renewing = this.#timer = this.#asked = null;
  }

  /** A `refreshed` of the server. */
  refreshed({ expires }) {
    const isLater = expires === undefined || expires > this.#expires;
    if (isLater) this.#asked?.resolve(expires);
    else this.#asked?.reject(new UproarError("token", "the new access token ends no later than the one before"));
  }

  /** An error of the server. `false` if it is none of ours. */
  refused(error) {
    const isOurs = error.id === undefined ? error.code === "bad_token" : error.id === this.#asked?.id;
    if (!this.#asked || !isOurs) return false;
    // What came too fast is sent again as what was refused is: after a pause.
    const text = `the server refused a new access token: ${error.message}`;
    this.#asked.reject(isForNow(error) ? error : new UproarError("bad_token", text));
    return true;
  }

  #wait(expires) {
    this.#expires = expires;
    const left = expires - this.#skew - this.#clock.now();
    // Not all clients at the same time, whose tokens end at the same time.
    const margin = Math.min(left / 3, MARGIN) * (0.5 + this.#random() / 2);
    this.#timer = this.#clock.setTimeout(() => this.#renew(), Math.max(LEAST, left - margin));
  }

  #renew() {
    this.#timer = null;
    this.#renewing = this.#attempts((wanted) => this.#ask(wanted), {
      done: (expires) => {
        this.#renewing = this.#asked = null;
        if (expires !== undefined) this.#wait(expires);
        this.#hooks.refreshed({ expires: expires ?? null });
      },
      failed: (error) => {
        this.#renewing = this.#asked = null;
        this.#hooks.error(error);
      },
    });
  }

  /** Resolves with when the new one expires. */
  async #ask(wanted) {
    const token = await this.#token.fetch();
    if (!wanted()) return undefined;
    if (token === null) throw new UproarError("token", "accessToken gave none");
    const asked = this.#asked = { id: this.#nextId(), ...deferred() };
    this.#transport.send(JSON.stringify({ type: "refresh", id: asked.id, token }));
    return asked.promise;
  }
}
