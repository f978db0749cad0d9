/** Lets everything happen that is to happen without time passing. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A clock that stands still until it is told to go on. */
export class FakeClock {
  #now = 0;
  #next = 1;
  #timers = new Map();

  now = () => this.#now;

  setTimeout = (call, delay) => {
    const id = this.#next++;
    this.#timers.set(id, { id, at: this.#now + Math.max(0, delay), call });
    return id;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  /** How many timers there are. */
  get timers() {
    return this.#timers.size;
  }

  /** Lets time pass, timer by timer, and after each what comes of it. */
  async advance(milliseconds) {
    const end = this.#now + milliseconds;
    for (;;) {
      await settle();
      const due = this.#earliest();
      if (!due || due.at > end) break;
      this.#now = Math.max(this.#now, due.at);
      this.#timers.delete(due.id);
      due.call();
    }
    this.#now = end;
    await settle();
  }

  /** Time passes, and nobody notices: the machine was asleep. Timers are late by so much. */
  sleep(milliseconds) {
    this.#now += milliseconds;
  }

  #earliest() {
    let first;
    for (const timer of this.#timers.values()) if (!first || timer.at < first.at) first = timer;
    return first;
  }
}
