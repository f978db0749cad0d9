/** Functions to be called, in the order in which they were added. If one throws, the others are called all the same. */
export class Listeners {
  #entries = [];

  get size() {
    return this.#entries.length;
  }

  /** Adds a function, which may be there already, and returns one that takes it away. */
  add(listener) {
    if (typeof listener !== "function") throw new TypeError("a listener is a function");
    const entry = { listener };
    this.#entries = [...this.#entries, entry];
    return () => {
      entry.listener = null; // also for a call that is under way
      this.#entries = this.#entries.filter((other) => other !== entry);
    };
  }

  /** Calls all that are there now. `onThrow` gets what they throw, or reject with if they are async. */
  call(args, onThrow) {
    for (const entry of this.#entries) {
      try {
        const { listener } = entry;
        const result = listener?.(...args);
        if (typeof result?.then === "function") result.then(undefined, onThrow);
      } catch (error) {
        onThrow(error);
      }
    }
  }
}
