/** Messages that were sent and wait to be acknowledged, by `id`, in the order in which they were sent. */
export class Acks {
  #entries = new Map();
  #clock;
  #expired;

  /** `expired` is called with an entry whose `timeout` has passed since it was first sent. */
  constructor(clock, expired) {
    this.#clock = clock;
    this.#expired = expired;
  }

  get size() {
    return this.#entries.size;
  }

  get(id) {
    return this.#entries.get(id);
  }

  /** The entry is sent. Sent again, it gets no more time: the server knows an `id` for so long only. */
  add(entry) {
    this.#entries.set(entry.id, entry);
    if (entry.timer === null && Number.isFinite(entry.timeout)) {
      entry.timer = this.#clock.setTimeout(() => this.#expired(entry), entry.timeout);
    }
  }

  delete(entry) {
    return this.#entries.delete(entry.id);
  }

  /** All of them, in order. */
  entries() {
    return [...this.#entries.values()];
  }
}
