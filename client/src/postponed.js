/**
 * Topics that were answered `busy`: the server could not find out whether they may be had. They are asked for again,
 * all together, after pauses that grow until every one of them is answered otherwise.
 */
export class Postponed {
  #clock;
  #backoff;
  #over;
  #topics = new Set();
  #timer = null;
  /** When the pause is over. */
  #end = 0;

  /** `backoff` says how long a pause takes; at its end, `over` is called with the topics. */
  constructor(clock, backoff, over) {
    this.#clock = clock;
    this.#backoff = backoff;
    this.#over = over;
  }

  /** Whether a topic is not to be asked for yet. */
  holds(topic) {
    return this.#timer !== null && this.#topics.has(topic);
  }

  /** These were answered so. Returns the number of the pause that they wait for, and how much is left of it, in ms. */
  add(topics) {
    for (const topic of topics) this.#topics.add(topic);
    if (this.#timer === null) this.#begin(this.#backoff.next());
    return { attempt: this.#backoff.attempt, delay: this.#end - this.#clock.now() };
  }

  /** It was answered otherwise, or nobody wants it any more. After the last one, the next pause is a short one. */
  delete(topic) {
    if (this.#topics.delete(topic) && this.#topics.size === 0) this.clear();
  }

  /** The connection is lost. On the next one everything is asked for; what is answered so again waits for longer. */
  stop() {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Nobody waits any more. */
  clear() {
    this.stop();
    this.#topics.clear();
    this.#backoff.reset();
  }

  #begin(delay) {
    this.#end = this.#clock.now() + delay;
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.#over([...this.#topics]);
    }, delay);
  }
}
