/**
 * The messages of a topic for `for await`. Those that are not taken at once wait, a bounded number of them; beyond it
 * the oldest go, and the next one says how many: `dropped`. It ends by `return`, which is what `break` does, the
 * signal, or `end`.
 */
export class Messages {
  #buffer = [];
  #takers = [];
  #dropped = 0;
  #ended = false;
  #limit;
  #onEnd = () => {};

  constructor(limit) {
    this.#limit = limit;
  }

  /** `onEnd` is to be called once, when it ends; a signal may end it. */
  bind(signal, onEnd) {
    const abort = () => this.return();
    this.#onEnd = () => {
      signal?.removeEventListener("abort", abort);
      onEnd();
    };
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  push(message) {
    if (this.#ended) return;
    const taker = this.#takers.shift();
    if (taker) {
      taker({ done: false, value: message });
      return;
    }
    this.#buffer.push(message);
    if (this.#buffer.length <= this.#limit) return;
    this.#buffer.shift();
    this.#dropped++;
  }

  async next() {
    if (this.#buffer.length > 0) return { done: false, value: this.#take() };
    if (this.#ended) return { done: true, value: undefined };
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  /** Ends it at once. */
  async return() {
    this.#buffer = [];
    this.end();
    return { done: true, value: undefined };
  }

  /** Ends it after what is there already. */
  end() {
    if (this.#ended) return;
    this.#ended = true;
    for (const taker of this.#takers) taker({ done: true, value: undefined });
    this.#takers = [];
    this.#onEnd();
  }

  /** The next one, with the number of those that had to go before it. */
  #take() {
    const message = this.#buffer.shift();
    if (this.#dropped === 0) return message;
    const dropped = this.#dropped;
    this.#dropped = 0;
    return { ...message, dropped };
  }
}
