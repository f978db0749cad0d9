import { once } from "node:events";
import { connect, createServer } from "node:net";

/** One connection through the proxy: towards the server `up`, towards the client `down`. */
class Pair {
  /** Nothing goes through any more, and nobody is told. */
  deaf = false;
  #proxy;
  #ends;
  /** Bytes that may still go before it is cut, by direction. */
  #budget = { up: Infinity, down: Infinity };
  #timers = new Set();

  constructor(proxy, client, server) {
    this.#proxy = proxy;
    this.#ends = { up: server, down: client };
    this.#pump(client, "up");
    this.#pump(server, "down");
  }

  /** Cuts it, by a RST to both sides, as soon as so many more bytes have gone that way. */
  cutAfter(direction, bytes) {
    this.#budget[direction] = bytes;
    if (bytes <= 0) this.cut();
  }

  cut() {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const end of Object.values(this.#ends)) end.resetAndDestroy();
    this.#proxy.pairs.delete(this);
  }

  halfOpen() {
    this.deaf = true;
  }

  /** It is not cut any more, unless it is now. */
  spare() {
    this.#budget = { up: Infinity, down: Infinity };
  }

  #pump(from, direction) {
    const to = this.#ends[direction];
    from.on("error", () => {});
    from.on("data", (chunk) => this.#forward(chunk, direction, from));
    from.on("end", () => this.#later(() => to.end()));
    from.on("close", () => {
      // A half-open connection stays so for the other side.
      if (!this.deaf) this.#later(() => to.destroy());
      if (from.destroyed && to.destroyed) this.#proxy.pairs.delete(this);
    });
  }

  #forward(chunk, direction, from) {
    if (this.deaf) return;
    if (this.#proxy.forbids(chunk, direction)) {
      this.cut();
      return;
    }
    from.pause(); // one chunk at a time: order, and no more in memory than that
    this.#later(() => this.#write(chunk, direction, () => from.resume()));
  }

  #write(chunk, direction, done) {
    if (this.deaf) return done();
    const allowed = Math.min(chunk.length, this.#budget[direction]);
    this.#budget[direction] -= chunk.length;
    const cut = this.#budget[direction] <= 0;
    return this.#ends[direction].write(chunk.subarray(0, allowed), () => {
      if (cut) this.cut();
      else done();
    });
  }

  #later(act) {
    if (this.#proxy.delay === 0) {
      act();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, this.#proxy.delay);
    this.#timers.add(timer);
  }
}

/** A TCP proxy that does what networks do: it delays, drops, cuts at any byte, half-opens, refuses and swallows. */
export class Proxy {
  /** Connections that are open. */
  pairs = new Set();
  /** Milliseconds that a chunk takes. */
  delay = 0;
  /** New connections: `up`, `refuse` (a RST), `swallow` (accepted, and never a byte). */
  mode = "up";
  /** Requests to upgrade to WebSocket are cut, as by some company's proxy. */
  noWebSocket = false;
  /** Called with every new pair. */
  onpair = () => {};
  #listener;
  #swallowed = new Set();

  /** Listens on a port of its own, for a server on `port` of this machine. */
  static async listen(port) {
    const proxy = new Proxy();
    proxy.target = port;
    proxy.#listener = createServer((client) => proxy.#accept(client));
    proxy.#listener.listen(0, "127.0.0.1");
    await once(proxy.#listener, "listening");
    return proxy;
  }

  get port() {
    return this.#listener.address().port;
  }

  forbids(chunk, direction) {
    return this.noWebSocket && direction === "up" && /^upgrade: *websocket/im.test(chunk.toString("latin1"));
  }

  cutAll() {
    for (const pair of [...this.pairs]) pair.cut();
  }

  /** Does no more than a network that is well. What is half open stays so. */
  behave() {
    Object.assign(this, { mode: "up", delay: 0, noWebSocket: false, onpair: () => {} });
    for (const pair of this.pairs) pair.spare();
  }

  async close() {
    this.cutAll();
    for (const socket of this.#swallowed) socket.destroy();
    this.#listener.close();
    await once(this.#listener, "close");
  }

  #accept(client) {
    client.on("error", () => {});
    if (this.mode === "refuse") {
      client.resetAndDestroy();
    } else if (this.mode === "swallow") {
      this.#swallowed.add(client);
      client.on("close", () => this.#swallowed.delete(client)).resume();
    } else {
      const pair = new Pair(this, client, connect(this.target, "127.0.0.1"));
      this.pairs.add(pair);
      this.onpair(pair);
    }
  }
}
