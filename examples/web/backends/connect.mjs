// A backend's connection to the server, as docs/PROTOCOL.md describes it under "Backend".
//
//   UPROAR_BACKEND_KEY  the server's backend_key
//   UPROAR_URL          where the server is (default: ws://127.0.0.1:8080)
//
// Node.js has a WebSocket from version 22 on, 20 with --experimental-websocket.
import { pathToFileURL } from "node:url";

const { UPROAR_BACKEND_KEY: key, UPROAR_URL: server = "ws://127.0.0.1:8080" } = process.env;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 10_000;
/** Beyond this, what need not arrive is not sent: see `busy`. */
const BUSY_BYTES = 1 << 20;

/** Whether Node.js was started with the module at `url`. */
export const isMain = (url) => pathToFileURL(process.argv[1] ?? "").href === url;

/** Connects, and keeps connected until SIGINT or SIGTERM. */
export function connect() {
  if (!key || typeof WebSocket === "undefined") {
    console.error(key ? "there is no WebSocket: node --experimental-websocket" : "UPROAR_BACKEND_KEY is not set");
    process.exit(2);
  }
  const backend = new Backend();
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => backend.close());
  return backend;
}

class Backend {
  #socket;
  #listeners = new Map();
  #welcomed = false; // by the server, on this connection
  #closed = false;
  #failures = 0;
  #timer;

  constructor() {
    this.#open();
  }

  /** Calls `listener` with every message of that type; `connected` is the server's welcome, on each connection. */
  on(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  /** Sends a message if there is a connection. Says whether there is. */
  send(message) {
    const open = this.#socket.readyState === WebSocket.OPEN;
    if (open) this.#socket.send(JSON.stringify(message));
    return open;
  }

  /** There is no connection, or the server does not keep up with what was sent. */
  get busy() {
    return this.#socket.readyState !== WebSocket.OPEN || this.#socket.bufferedAmount > BUSY_BYTES;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket.close(1000);
    // A timer of a demo, or a server that does not answer, must not hold the process up.
    setTimeout(() => process.exit(0), 200);
  }

  #open() {
    const url = new URL("/backend?presence=true", server);
    url.searchParams.set("key", key);
    const socket = this.#socket = new WebSocket(url);
    this.#welcomed = false;
    socket.onmessage = ({ data }) => this.#receive(data);
    // Of a handshake that failed, Node.js 20 tells an error and no close, later versions both.
    socket.onerror = () => this.#lost(socket, "");
    socket.onclose = ({ code, reason }) => this.#lost(socket, ` (${code}${reason && ` ${reason}`})`);
  }

  #receive(data) {
    const message = JSON.parse(data);
    if (message.type === "connected") {
      this.#welcomed = true;
      this.#failures = 0;
      console.log(`connected to ${server}`);
    }
    for (const listener of this.#listeners.get(message.type) ?? []) listener(message);
  }

  /** Tries again later, once for each connection. An error does not tell a refusal from a server that is away. */
  #lost(socket, detail) {
    socket.onerror = socket.onclose = null;
    if (this.#closed) return;
    const what = this.#welcomed ? "the connection is lost" : "not reached, or the key is not the server's";
    const delay = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    console.error(`${server}: ${what}${detail}, again in ${Math.ceil(delay)} ms`);
    this.#timer = setTimeout(() => this.#open(), delay);
  }
}
