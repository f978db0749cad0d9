import { UproarError } from "./errors.js";
import { retryAfter } from "./retry-after.js";

/** Answers after which the same request may do better: too early, too many, or a fault of the server. */
const passes = (status) => status === 408 || status === 425 || status === 429 || status >= 500;

/**
 * Publishes over HTTP, one message at a time: `POST` of `{"topic","data","id"}`, again and again under the same `id`
 * until it is answered.
 */
export class Poster {
  #fetch;
  #clock;
  #address;
  #backoff;
  #timeout;
  #token;
  /** The entry for which another token was asked for. */
  #renewedFor = null;
  #entry = null;
  #timer = null;
  #controller = null;

  /** `address()` is where to post to, with `token`; `timeout` is that of one request, in milliseconds. */
  constructor({ fetch, clock, address, token, backoff, timeout }) {
    this.#fetch = fetch;
    this.#clock = clock;
    this.#address = address;
    this.#token = token;
    this.#backoff = backoff;
    this.#timeout = timeout;
  }

  get busy() {
    return this.#entry !== null;
  }

  /** Posts `entry.post`. Calls `outcome.done(ack)` or `outcome.refused(error)`, unless it is cancelled before. */
  post(entry, outcome) {
    this.#entry = entry;
    this.#backoff.reset();
    this.#try(entry, outcome);
  }

  /** Ends the attempts, if it is this entry's. */
  cancel(entry) {
    if (this.#entry !== entry) return;
    this.#entry = null;
    this.#clock.clearTimeout(this.#timer);
    this.#controller.abort();
  }

  async #try(entry, outcome) {
    const controller = new AbortController();
    const timer = this.#clock.setTimeout(() => controller.abort(), this.#timeout);
    this.#controller = controller;
    this.#timer = timer;
    const answer = await this.#request(entry, controller.signal).catch(() => null);
    const again = answer?.status === 401 && (await this.#renew(entry));
    this.#clock.clearTimeout(timer);
    if (this.#entry !== entry || this.#controller !== controller) return;
    if (answer === null || again || passes(answer.status)) {
      const delay = Math.max(this.#backoff.next(), answer?.retryAfter ?? 0);
      this.#timer = this.#clock.setTimeout(() => this.#try(entry, outcome), delay);
      return;
    }
    this.#entry = null;
    this.#settle(entry, answer, outcome);
  }

  /** The token may be over: another one is asked for, once for each entry. Whether there is one. */
  async #renew(entry) {
    if (!this.#token.isRenewable || this.#renewedFor === entry) return false;
    this.#renewedFor = entry;
    return this.#token.fetch().then(() => true, () => false);
  }

  async #request(entry, signal) {
    const headers = { "content-type": "application/json", ...this.#token.headers };
    const response = await this.#fetch(this.#address(), { method: "POST", headers, body: entry.post, signal });
    const body = await response.json().catch(() => null);
    const wait = retryAfter(response.headers.get("retry-after"));
    return { ok: response.ok, status: response.status, retryAfter: wait, body };
  }

  #settle({ id }, { ok, status, body }, outcome) {
    if (ok) return outcome.done({ ...body, id });
    const code = typeof body?.code === "string" ? body.code : "refused";
    return outcome.refused(new UproarError(code, body?.message ?? `publishing was answered ${status}`, { id, status }));
  }
}
