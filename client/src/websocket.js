import { socketArguments } from "./access-token.js";
import { UproarError } from "./errors.js";
import { Handshake } from "./handshake.js";
import { parse } from "./parse.js";

const ABNORMAL = 1006;
const NO_WELCOME = "what came first was no Uproar server's welcome: the URL is not that of a room, or of such a server";

/** A connection by WebSocket. It is open when the server has said who we are. */
export class WebSocketTransport {
  kind = "websocket";
  /** There is a WebSocket, whether or not it is the server who speaks on it. */
  isOpen = false;
  #socket;
  #handshake;
  #handlers;
  #welcomed = false;
  /** `{after}`, if the server has said after how many milliseconds to come back. */
  #hint = {};

  /**
   * `accessToken` may be `null`. `handlers`: `opened(welcome)`, `heard()`, `message(message)`, and
   * `closed({code, reason, error, after})`, with whatever of these is known, which ends it.
   */
  constructor(WebSocket, address, accessToken, handlers) {
    this.#handlers = handlers;
    const socket = this.#socket = new WebSocket(...socketArguments(WebSocket, address, accessToken));
    this.#handshake = new Handshake(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#open();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => handlers.closed({ code, reason, ...this.#hint });
    // An error is the end, and not everywhere is it followed by `close`.
    socket.onerror = (event) => this.#fail(event);
  }

  /** Bytes that wait in the socket. */
  get buffered() {
    return this.#socket.bufferedAmount ?? 0;
  }

  send(text) {
    this.#socket.send(text);
  }

  ping() {
    this.#socket.send('{"type":"ping"}');
    return true;
  }

  /** Asks for topics; `since` says of some where to go on, `tokens` has those of some. An error quotes `id`. */
  subscribe(topics, since, id, tokens) {
    const request = { type: "subscribe", id, topics, recover: true };
    if (Object.keys(since).length > 0) request.since = since;
    if (Object.keys(tokens).length > 0) request.tokens = tokens;
    this.send(JSON.stringify(request));
  }

  unsubscribe(topics) {
    this.send(JSON.stringify({ type: "unsubscribe", topics }));
  }

  /** Ends the connection, politely if a code is given, and hears no more of it. */
  drop(code, reason) {
    const socket = this.#socket;
    this.#handshake.stop();
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // some emit errors while they close, and fail where nobody listens
    if (code === undefined && typeof socket.terminate === "function") socket.terminate();
    else socket.close(code ?? 1000, reason);
  }

  #open() {
    this.isOpen = true;
    this.#handshake.stop();
  }

  #fail(event) {
    const cause = { code: ABNORMAL, reason: event?.message ?? "", ...this.#hint };
    if (!this.isOpen) cause.error = this.#handshake.explain(event);
    this.#handlers.closed(cause);
  }

  #receive(data) {
    this.#handlers.heard();
    const message = parse(data);
    if (this.#welcomed && message.type === "reconnect") {
      if (message.after >= 0 && Number.isFinite(message.after)) this.#hint = { after: message.after };
    } else if (this.#welcomed) {
      this.#handlers.message(message);
    } else if (message.type === "connected") {
      this.#welcomed = true;
      this.#handlers.opened(message);
    } else {
      this.#handlers.closed({ error: new UproarError("protocol", NO_WELCOME) });
    }
  }
}
