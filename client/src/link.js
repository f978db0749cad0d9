import { Backoff } from "./backoff.js";
import { Dial } from "./dial.js";
import { UproarError, isBusy, isLasting } from "./errors.js";
import { Heartbeat } from "./heartbeat.js";
import { watchPage } from "./page.js";

/** The close code of a server that has seen our `clientId` on another connection since. */
export const REPLACED = 4001;

/** The close code of a server that is about to end. */
const RESTART = 1012;
/** Within what time to come back to it, if it does not say when; and what it may say at most. Milliseconds. */
const RESTART_SPREAD_MS = 2000;
const LONGEST_RESTART_MS = 60_000;

/** Close codes by which an application says that this client is not to come back. */
const FOR_GOOD = [[3500, 3999], [4500, 4999]];
const isForGood = (code) => FOR_GOOD.some(([first, last]) => code >= first && code <= last);

/** How long an attempt that was given up may be on its way to the server yet, through whatever is slow between. */
const GHOST_MS = 60_000;

/**
 * Keeps one connection up: it connects, and after every loss it connects again. By WebSocket; where that never works,
 * by Server-Sent Events, and then it looks for a WebSocket from time to time.
 *
 * At most one thing is under way: an attempt or connection (`#dial`), or a wait for the next one (`#timer`); besides a
 * connection by SSE, an attempt by WebSocket (`#probe`) or a wait for that (`#probeTimer`).
 */
export class Link {
  /** `connecting`, `connected`, `reconnecting`, `disconnected`. */
  state = "disconnected";
  #options;
  #hooks;
  #clock;
  #backoff;
  #heartbeat;
  #dial = null;
  #probe = null;
  #timer = null;
  #probeTimer = null;
  #unwatch = null;
  #upSince = 0;
  /** Attempts by WebSocket that failed in a row, and whether one ever succeeded. */
  #failures = 0;
  #worked = false;
  /** We were sent away by a server that is about to end, and have not been connected for long since. */
  #sentAway = false;
  /** When attempts by WebSocket were given up that the server may come to yet, and then closes a later one. */
  #ghosts = [];

  /**
   * `options`: those of the client, and `open` as for `Dial`. `hooks`: `up(transport, welcome)`, `message(message)`,
   * `down(cause)`, `ended(cause)` if it is not to connect again, and for the application `state(state, detail)` and
   * `retry(detail)`.
   */
  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#clock = options.clock;
    this.#backoff = new Backoff({ base: options.retryBase, cap: options.retryCap, random: options.random });
    this.#heartbeat = new Heartbeat(this.#clock, {
      ping: () => this.#dial.transport.ping(),
      dead: () => this.#dial.end({ error: new UproarError("heartbeat", "nothing was heard of the server") }),
    });
  }

  get running() {
    return this.#unwatch !== null;
  }

  /** `websocket` or `sse` while there is a connection, else `null`. */
  get transport() {
    return this.#dial?.up ? this.#dial.kind : null;
  }

  start() {
    if (this.running) return;
    this.#unwatch = watchPage(this.#options.page, (why) => this.#nudge(why));
    this.#backoff.reset();
    this.#connect();
    this.#become("connecting", {});
  }

  /** Ends the connection, and every timer. */
  stop(cause = {}) {
    if (!this.running) return;
    this.#unwatch();
    this.#unwatch = null;
    this.#cancel();
    this.#hooks.down({});
    this.#become("disconnected", cause);
  }

  /** Connects anew, for the address has changed. */
  restart() {
    if (!this.running) return;
    const { state } = this;
    this.#cancel();
    this.#connect();
    this.#hooks.down({});
    if (state === "connected") this.#become("reconnecting", {});
  }

  #cancel() {
    this.#heartbeat.stop();
    this.#stopTimers();
    const [dial, probe] = [this.#dial, this.#probe];
    this.#dial = this.#probe = null;
    dial?.cancel(1000);
    probe?.cancel(1000);
  }

  #stopTimers() {
    for (const timer of [this.#timer, this.#probeTimer]) if (timer !== null) this.#clock.clearTimeout(timer);
    this.#timer = this.#probeTimer = null;
  }

  #connect() {
    this.#stopTimers();
    this.#dial = this.#open(this.#kind());
  }

  #open(kind) {
    return new Dial(kind, this.#options, {
      up: (dial, welcome) => this.#up(dial, welcome),
      heard: (dial) => { if (dial === this.#dial) this.#heartbeat.heard(); },
      message: (dial, message) => { if (dial === this.#dial) this.#hooks.message(message); },
      down: (dial, cause) => this.#down(dial, cause),
    });
  }

  /** What to try next. */
  #kind() {
    const { WebSocket, fallback, fallbackAfter } = this.#options;
    if (WebSocket === null) return "sse";
    return fallback && !this.#worked && this.#failures >= fallbackAfter ? "sse" : "websocket";
  }

  #up(dial, welcome) {
    const { heartbeatInterval, heartbeatTimeout, sseTimeout } = this.#options;
    if (dial === this.#probe) this.#adopt(dial);
    this.#upSince = this.#clock.now();
    if (dial.kind === "websocket") {
      this.#worked = true;
      this.#failures = 0;
      this.#heartbeat.start(heartbeatInterval, heartbeatTimeout);
    } else {
      this.#heartbeat.start(sseTimeout, 0);
      this.#waitToProbe();
    }
    this.#hooks.up(dial.transport, welcome);
    this.#become("connected", { transport: dial.kind });
  }

  /** The attempt by WebSocket takes the place of the connection by SSE. */
  #adopt(dial) {
    const old = this.#dial;
    this.#stopTimers();
    this.#dial = dial;
    this.#probe = null;
    old.cancel();
    this.#hooks.down({});
  }

  #down(dial, cause) {
    if (isForGood(cause.code)) {
      this.#hooks.ended(cause);
    } else if (dial === this.#probe) {
      this.#probe = null;
      this.#waitToProbe();
    } else if (dial === this.#dial) {
      this.#lost(dial, cause);
    }
  }

  #lost(dial, cause) {
    if (cause.code === REPLACED && !this.#haunted()) {
      this.#hooks.ended(cause);
      return;
    }
    this.#cancel();
    const isRestart = dial.up && (cause.code === RESTART || cause.after !== undefined);
    const error = (isRestart ? restart(cause) : cause.error) ?? unexplained(cause, dial.up);
    this.#count(dial, error);
    const delay = isRestart ? this.#restartDelay(cause) : Math.max(this.#backoff.next(), error.retryAfter ?? 0);
    this.#timer = this.#clock.setTimeout(() => this.#connect(), delay);
    const { attempt } = this.#backoff;
    // All is in order before listeners are told, for these may do anything, also close.
    if (dial.up) {
      this.#hooks.down(cause);
      this.#become("reconnecting", { ...cause, error });
    }
    if (this.running) this.#hooks.retry({ attempt, delay, ...cause, error });
  }

  /** How long to stay away from a server that ends. It is no failure, unless it happens again and again. */
  #restartDelay({ after = this.#options.random() * RESTART_SPREAD_MS }) {
    const again = this.#sentAway ? this.#backoff.next() : 0;
    this.#sentAway = true;
    return Math.max(again, Math.min(after, LONGEST_RESTART_MS));
  }

  /** Draws the lesson from an attempt that has failed, or a connection that was lost. */
  #count(dial, error) {
    if (dial.up) {
      if (this.#clock.now() - this.#upSince < this.#options.stableAfter) return;
      this.#backoff.reset();
      this.#sentAway = false;
    } else if (dial.kind === "websocket") {
      // If it is not WebSocket that is in the way, Server-Sent Events would hide what is.
      if (!isLasting(error) && !isBusy(error) && error.code !== "no_welcome") this.#failures++;
      this.#ghosts.push(this.#clock.now());
    } else {
      this.#failures = this.#options.fallbackAfter - 1; // by turns, until one of them works
    }
  }

  /** Whether it was an attempt of ours, long given up, that took our place. Each can do so once. */
  #haunted() {
    const since = this.#clock.now() - GHOST_MS;
    this.#ghosts = this.#ghosts.filter((time) => time > since);
    return this.#ghosts.shift() !== undefined;
  }

  #waitToProbe() {
    if (this.#options.WebSocket === null) return;
    const delay = this.#options.websocketRetry * (0.5 + this.#options.random());
    this.#probeTimer = this.#clock.setTimeout(() => this.#startProbe(), delay);
  }

  #startProbe() {
    if (this.#probeTimer !== null) this.#clock.clearTimeout(this.#probeTimer);
    this.#probeTimer = null;
    if (this.#probe === null) this.#probe = this.#open("websocket");
  }

  /** There is reason not to wait. */
  #nudge(why) {
    if (why === "online") this.#doubt();
    if (this.#timer !== null) this.#connect();
    else if (this.#dial?.up && this.#dial.kind === "websocket") this.#heartbeat.probe();
    else if (this.#dial?.up && this.#options.WebSocket !== null) this.#startProbe();
  }

  /** It may be another network, with other obstacles: WebSocket is tried again, once at least. */
  #doubt() {
    this.#worked = false;
    this.#failures = Math.min(this.#failures, this.#options.fallbackAfter - 1);
  }

  #become(state, detail) {
    if (state === this.state) return;
    const previous = this.state;
    this.state = state;
    this.#hooks.state(state, { previous, ...detail });
  }
}

/** A server that is about to end has sent us away. */
const restart = ({ code: closeCode, after }) => {
  const when = after === undefined ? "" : `, after ${after} ms`;
  return new UproarError("restart", `the server is about to end: come back${when}`, { closeCode });
};

/** A loss or failure of which the platform says no more than a close code and a reason, if that. */
function unexplained({ code, reason }, isLoss) {
  const why = [code, reason].filter(Boolean).join(" ");
  const what = isLoss ? "the connection was lost" : "the connection was closed before the server's welcome";
  return new UproarError(isLoss ? "lost" : "unreachable", why ? `${what}: ${why}` : what, { closeCode: code });
}
