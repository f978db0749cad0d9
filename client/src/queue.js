/** What to do with a message for which a full queue has no room. */
export const OVERFLOWS = ["reject", "drop-oldest", "drop-newest"];

/** Messages that wait to be sent, by `id`, in the order of their `number`; a bounded number of them. */
export class Queue {
  #entries = new Map();
  #limit;
  #overflow;

  constructor(limit, overflow) {
    this.#limit = limit;
    this.#overflow = overflow;
  }

  get size() {
    return this.#entries.size;
  }

  has(id) {
    return this.#entries.has(id);
  }

  /**
   * Puts an entry at the end. Returns `null`, or if the queue is full, who has to go and why: the first under
   * `drop-oldest`, and else this one, which is then not in the queue.
   */
  push(entry) {
    if (this.#entries.size < this.#limit) {
      this.#entries.set(entry.id, entry);
      return null;
    }
    if (this.#overflow === "reject") return { entry, code: "queue_full" };
    if (this.#overflow === "drop-newest" || this.#limit === 0) return { entry, code: "dropped" };
    const oldest = this.shift();
    this.#entries.set(entry.id, entry);
    return { entry: oldest, code: "dropped" };
  }

  /** Puts back what had left already, where it was; beyond the limit if need be. */
  putBack(entries) {
    const all = [...entries, ...this.#entries.values()].sort((one, other) => one.number - other.number);
    this.#entries = new Map(all.map((entry) => [entry.id, entry]));
  }

  /** Takes the first entry away; `undefined` if there is none. */
  shift() {
    const [first] = this.#entries.values();
    if (first) this.#entries.delete(first.id);
    return first;
  }

  delete(entry) {
    return this.#entries.delete(entry.id);
  }

  /** All of them, in order. */
  entries() {
    return [...this.#entries.values()];
  }
}
