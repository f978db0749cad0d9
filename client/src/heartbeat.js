/**
 * Notices that a connection is dead: when nothing was heard for `interval`, it asks; when nothing is heard for
 * `timeout` after that, it is dead.
 */
export class Heartbeat {
  #clock;
  #hooks;
  #interval = 0;
  #timeout = 0;
  #heardAt = 0;
  #timer = null;
  /** When the answer is due, or `null` if nothing was asked. */
  #due = null;
  #again = false;

  /** `hooks`: `ping()`, which returns whether it could ask, and `dead()`. */
  constructor(clock, hooks) {
    this.#clock = clock;
    this.#hooks = hooks;
  }

  /** Watches a connection from now on; times in milliseconds. */
  start(interval, timeout) {
    this.stop();
    this.#interval = interval;
    this.#timeout = timeout;
    this.heard();
    this.#wait(interval);
  }

  stop() {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#due = null;
  }

  /** Something has come. It is called for every message: it sets no timer. */
  heard() {
    this.#heardAt = this.#clock.now();
    this.#due = null;
    this.#again = false;
  }

  /** Asks at once, for there is reason to doubt. */
  probe() {
    if (this.#timer === null || this.#due !== null) return;
    this.stop();
    this.#ask();
  }

  #wait(delay) {
    this.#timer = this.#clock.setTimeout(() => this.#check(), delay);
  }

  #check() {
    this.#timer = null;
    const now = this.#clock.now();
    const quiet = now - this.#heardAt;
    if (this.#due !== null && now < this.#due) this.#wait(this.#due - now);
    else if (this.#due !== null && !this.#overslept(now)) this.#hooks.dead();
    else if (this.#due !== null || quiet >= this.#interval) this.#ask();
    else this.#wait(this.#interval - quiet);
  }

  /** The machine was asleep while the answer was due, which may be there but not read yet. Once only. */
  #overslept(now) {
    if (this.#again || now - this.#due < this.#timeout) return false;
    this.#again = true;
    return true;
  }

  #ask() {
    this.#due = this.#clock.now() + this.#timeout;
    if (this.#hooks.ping()) this.#wait(this.#timeout);
    else this.#hooks.dead();
  }
}
