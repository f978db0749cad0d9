/** Below this, however the dice fall: nothing that is tried again and again may keep a processor busy. Milliseconds. */
const FLOOR = 50;

/** How long to wait before trying again: exponential, with full jitter, so that clients of one server spread. */
export class Backoff {
  #base;
  #cap;
  #random;
  /** Waits since it last went well. */
  attempt = 0;

  /** The first wait is below `base`, the bound of each is twice that of the last, and at most `cap`; milliseconds. */
  constructor({ base, cap, random = Math.random }) {
    this.#base = base;
    this.#cap = cap;
    this.#random = random;
  }

  /** The next wait, in milliseconds. */
  next() {
    const ceiling = Math.min(this.#cap, this.#base * 2 ** this.attempt);
    this.attempt++;
    return Math.max(FLOOR, this.#random() * ceiling);
  }

  /** It went well: the next wait is a short one again. */
  reset() {
    this.attempt = 0;
  }
}
