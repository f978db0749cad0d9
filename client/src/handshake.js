import { UproarError, unreachable } from "./errors.js";
import { retryAfter } from "./retry-after.js";

/** Channels on which Node.js tells what its own WebSocket keeps to itself. */
const ANSWERED = "undici:request:headers";
const FAILED = "undici:request:error";

/** How the class of `ws` says that the answer was another one than 101. */
const UNEXPECTED = /^Unexpected server response: (\d{3})$/;

/** The value of a field in a list of names and values, as bytes or texts; `undefined` if it is not there. */
function fieldOf(headers, name) {
  const texts = headers.map(String);
  const at = texts.findIndex((text, i) => i % 2 === 0 && text.toLowerCase() === name);
  return at < 0 ? undefined : texts[at + 1];
}

/** Looks on while a WebSocket connects to an address, to say why if it fails: by its events, and in Node.js by more. */
export class Handshake {
  #address;
  #path;
  #channels = globalThis.process?.getBuiltinModule?.("node:diagnostics_channel");
  #status = null;
  #retryAfter = 0;
  #error = null;

  constructor(address) {
    const { pathname, search } = new URL(address);
    this.#address = address;
    this.#path = pathname + search;
    this.#channels?.subscribe(ANSWERED, this.#answered);
    this.#channels?.subscribe(FAILED, this.#failed);
  }

  /** It is over. */
  stop() {
    this.#channels?.unsubscribe(ANSWERED, this.#answered);
    this.#channels?.unsubscribe(FAILED, this.#failed);
  }

  /** Why it failed, also by what the WebSocket's `error` event says, which differs from platform to platform. */
  explain(event) {
    const status = this.#status ?? Number(UNEXPECTED.exec(event?.message)?.[1] ?? 0);
    if (status === 0) return unreachable(this.#address, this.#error ?? event?.error, event?.message);
    const details = { status, ...(this.#retryAfter > 0 && { retryAfter: this.#retryAfter }) };
    return new UproarError("handshake", `the server answered ${status} instead of opening a WebSocket`, details);
  }

  #answered = ({ request, response }) => {
    if (!this.#isOurs(request)) return;
    this.#status = response.statusCode;
    this.#retryAfter = retryAfter(fieldOf(response.headers, "retry-after"));
  };

  #failed = ({ request, error }) => {
    if (this.#isOurs(request)) this.#error = error;
  };

  #isOurs({ origin, path }) {
    return path === this.#path && new URL(origin).host === new URL(this.#address).host;
  }
}
