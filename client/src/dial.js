import { UproarError } from "./errors.js";

/** One attempt to connect, and the connection that becomes of it. It ends once, with `down`, unless it is cancelled. */
export class Dial {
  kind;
  up = false;
  transport = null;
  #over = false;
  #timer;
  #options;
  #handlers;

  /**
   * Begins. `options`: `clock`, `connectTimeout` until the server has welcomed us, `token()`,
   * which sees to a fresh access token, and `open(kind, handlers)`, which makes a transport. `handlers`:
   * `up(dial, welcome)`, `heard(dial)`, `message(dial, message)`, `down(dial, {code, reason, error, after})`.
   */
  constructor(kind, options, handlers) {
    this.kind = kind;
    this.#options = options;
    this.#handlers = handlers;
    this.#timer = options.clock.setTimeout(() => this.#late(), options.connectTimeout);
    this.#begin().catch((error) => this.end({ error }));
  }

  async #begin() {
    await this.#options.token();
    if (this.#over) return;
    this.transport = this.#options.open(this.kind, {
      opened: (welcome) => this.#opened(welcome),
      heard: () => this.#handlers.heard(this),
      message: (message) => { if (!this.#over) this.#handlers.message(this, message); },
      closed: (cause) => this.end(cause),
    });
  }

  #late() {
    const time = `within ${this.#options.connectTimeout} ms`;
    const silent = `the WebSocket is open, but no Uproar server's welcome has come ${time}: is the URL that of a room?`;
    const error = this.transport?.isOpen
      ? new UproarError("no_welcome", silent)
      : new UproarError("connect_timeout", `not connected ${time}`);
    this.end({ error });
  }

  #opened(welcome) {
    if (this.#over) return;
    this.#options.clock.clearTimeout(this.#timer);
    this.up = true;
    this.#handlers.up(this, welcome);
  }

  /** It is over, and that is why: `{code, reason, error, after}`, whatever of it is known. */
  end(cause) {
    if (this.#over) return;
    this.cancel();
    this.#handlers.down(this, cause);
  }

  /** It is over, and nobody is told but the server: politely, if a close code is given. */
  cancel(code) {
    if (this.#over) return;
    this.#over = true;
    this.#options.clock.clearTimeout(this.#timer);
    this.transport?.drop(code);
  }
}
