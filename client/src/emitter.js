import { UproarError } from "./errors.js";
import { Listeners } from "./listeners.js";

const throwLater = (error) => queueMicrotask(() => { throw error; });

/** Named events and their listeners. A name that is none is an error, for it would never be heard. */
export class Emitter {
  #lists;

  constructor(names) {
    this.#lists = new Map(names.map((name) => [name, new Listeners()]));
  }

  /** Calls `listener` at every event of that name; returns a function that ends it. */
  on(name, listener) {
    const list = this.#lists.get(name);
    if (!list) throw new TypeError(`no event "${name}"; there are ${[...this.#lists.keys()].join(", ")}`);
    return list.add(listener);
  }

  count(name) {
    return this.#lists.get(name).size;
  }

  emit(name, ...args) {
    // What a listener of errors throws is not told to listeners of errors.
    this.#lists.get(name).call(args, name === "error" ? throwLater : this.thrown);
  }

  /** Reports what a listener threw: as an `error` event, or uncaught if nobody listens to these. */
  thrown = (cause) => {
    if (this.count("error") === 0) throwLater(cause);
    else this.emit("error", new UproarError("listener", `a listener threw: ${cause?.message ?? cause}`, { cause }));
  };
}
