/** The close code of a server that was sent too much at once, or has another reason to take no more of it. */
const POLICY = 1008;
/** With what reason it closes so where a token is over, which is no reason to send less. */
const EXPIRED = "token expired";

/** Whether a connection was closed so because of what was sent. */
export const isTooMuch = ({ code, reason }) => code === POLICY && reason !== EXPIRED;

/** Whether it was closed because its token is over. */
export const isExpired = ({ code, reason }) => code === POLICY && reason === EXPIRED;

/** Codes of errors by which the server refuses for now what it would take a while later. It has not acted upon it. */
const FOR_NOW = new Set(["too_fast", "busy"]);

/** Whether what was refused so may be sent again. */
export const isForNow = ({ code }) => FOR_NOW.has(code);

/** While it is on, a client sends nothing: the server has said that it takes nothing more at the moment. */
export class Pause {
  #clock;
  #backoff;
  #over;
  #timer = null;

  /** `backoff` says how long it takes; `over` is called at its end. */
  constructor(clock, backoff, over) {
    this.#clock = clock;
    this.#backoff = backoff;
    this.#over = over;
  }

  get on() {
    return this.#timer !== null;
  }

  /** Something was refused. That more was, which had been sent before that was known, makes it no longer. */
  begin() {
    if (this.on) return;
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.#over();
    }, this.#backoff.next());
  }

  /** Something was taken: the next one is short again. */
  reset() {
    this.#backoff.reset();
  }

  /** Ends it, without a word. */
  cancel() {
    if (this.on) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#backoff.reset();
  }
}
