import { roomOf } from "./model.js";

/**
 * A network between clients and a `Model`, in simulated time: messages take a while and keep their order; connections
 * are refused, swallowed, cut at any moment with what is under way on them, or left half open.
 */
export class Network {
  /** New connections are `up`, or `refuse`, `deny` (401), `swallow`, `silent` (open), `foreign` (no server of ours). */
  mode = "up";
  /** The open sockets. */
  sockets = new Set();
  /** Attempts to connect so far, by URL. */
  attempts = [];
  /** The subprotocols that were offered with each. */
  protocols = [];
  /** A class for the option `WebSocket`. */
  WebSocket;

  /** `latency()`: milliseconds a message takes. */
  constructor(model, clock, latency = () => 1) {
    this.model = model;
    this.clock = clock;
    this.latency = latency;
    const network = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(network, url);
        network.protocols.push(protocols);
      }
    };
  }

  cutAll() {
    for (const socket of [...this.sockets]) socket.cut();
  }
}

class FakeSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  binaryType = "blob";
  bufferedAmount = 0;
  /** What the client has sent. */
  sent = [];
  #network;
  #session = null;
  #closed = false;
  #deaf = false;
  #timers = new Set();
  #upAt = 0;
  #downAt = 0;

  constructor(network, url) {
    this.#network = network;
    this.url = url;
    network.attempts.push(url);
    network.sockets.add(this);
    this.#later("down", () => this.#arrive());
  }

  send(text) {
    this.sent.push(text);
    if (this.#closed) return;
    this.#later("up", () => { if (!this.#deaf) this.#session?.receive(text); });
  }

  close() {
    this.#end();
    this.#network.clock.setTimeout(() => this.#session?.ended(), this.#network.latency());
  }

  /** Both sides lose it, and what was under way is lost. */
  cut(code = 1006) {
    if (this.#closed) return;
    this.#end();
    this.#session?.ended();
    this.onerror?.({});
    this.onclose?.({ code, reason: "" });
  }

  /** Nothing comes through any more, and nobody is told. */
  halfOpen() {
    this.#deaf = true;
  }

  /** The server says something that the model would not. */
  inject(message) {
    const data = typeof message === "object" && !(message instanceof ArrayBuffer) ? JSON.stringify(message) : message;
    this.onmessage?.({ data });
  }

  /** The server closes it. */
  serverCloses(code, reason = "") {
    if (this.#closed) return;
    this.#end();
    this.#session?.ended();
    this.onclose?.({ code, reason });
  }

  #arrive() {
    const { mode, model } = this.#network;
    if (mode === "refuse") this.cut();
    if (mode === "deny") this.onerror?.({ message: "Unexpected server response: 401" });
    if (!["up", "silent", "foreign"].includes(mode)) return;
    this.onopen?.({});
    if (mode === "foreign") this.inject({ bid: 1 });
    if (mode !== "up") return;
    const url = new URL(this.url);
    const [clientId, token] = ["clientId", "token"].map((name) => url.searchParams.get(name));
    this.#session = model.connect({ room: roomOf(url), clientId, token }, {
      send: (text) => this.#later("down", () => { if (!this.#deaf) this.onmessage?.({ data: text }); }),
      close: (code) => this.#later("down", () => { if (!this.#deaf) this.serverCloses(code); }),
    });
  }

  /** After the time that a message takes, and not before those of the same direction. */
  #later(direction, act) {
    const { clock, latency } = this.#network;
    const at = Math.max(clock.now() + latency(), direction === "up" ? this.#upAt : this.#downAt);
    if (direction === "up") this.#upAt = at;
    else this.#downAt = at;
    const timer = clock.setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, at - clock.now());
    this.#timers.add(timer);
  }

  #end() {
    this.#closed = true;
    for (const timer of this.#timers) this.#network.clock.clearTimeout(timer);
    this.#timers.clear();
    this.#network.sockets.delete(this);
  }
}
