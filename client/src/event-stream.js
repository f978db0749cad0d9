/** Reads a stream of Server-Sent Events, decoded, in pieces that may end anywhere. */
export class EventStream {
  /** The `id` of the newest event, with which to go on. */
  lastEventId;
  /** After how many milliseconds to come back, if that was said after the first event; before, it means little. */
  after;
  #begun = false;
  #onEvent;
  #rest = "";
  #id;
  #event = "";
  #data = [];

  /** `onEvent` is called with `{event, data}`. */
  constructor(lastEventId, onEvent) {
    this.lastEventId = this.#id = lastEventId;
    this.#onEvent = onEvent;
  }

  /** The next piece of the stream's text. */
  push(text) {
    const pending = this.#rest + text;
    const lines = /([^\r\n]*)(?:\r\n|\n|\r(?=[^]))/gy; // a \r at the end may be half of a \r\n
    let end = 0;
    for (let match = lines.exec(pending); match; match = lines.exec(pending)) {
      end = lines.lastIndex;
      if (match[1] === "") this.#dispatch();
      else this.#field(match[1]);
    }
    this.#rest = pending.slice(end);
  }

  #field(line) {
    const [, name, value] = /^([^:]*)(?::[ ]?(.*))?$/s.exec(line); // without a name, it is a comment
    if (name === "data") this.#data.push(value ?? "");
    else if (name === "event") this.#event = value ?? "";
    else if (name === "retry" && this.#begun && /^\d+$/.test(value)) this.after = Number(value);
    else if (name === "id" && !value?.includes("\0")) this.#id = value ?? "";
  }

  #dispatch() {
    const [event, data] = [this.#event || "message", this.#data];
    this.#event = "";
    this.#data = [];
    if (data.length > 0) {
      this.#begun = true;
      this.#onEvent({ event, data: data.join("\n") });
    }
    this.lastEventId = this.#id; // after the event: if what it does fails, it comes again
  }
}
