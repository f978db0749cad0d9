import { once } from "node:events";
import { createServer } from "node:http";
import { acceptKey, closeFrame, frame, FrameReader } from "./frames.js";
import { Model, roomOf } from "./model.js";

const MAX_MESSAGE = 1 << 20;
const HISTORY = (topic) => (topic.startsWith("kept.") ? 100_000 : 0);

/** A `Model` behind real sockets: WebSocket, `/sse` and `/publish`. For what the tests are worth without a server. */
export class ModelServer {
  model = new Model({ history: HISTORY });
  #http;
  #sockets = new Set();
  /** The client that publications by HTTP are of. */
  #poster = null;
  #page;

  /** `page(path)`: the content of a file to be served, as `[type, text]`, or `null`. */
  static async start({ port = 0, page = () => null } = {}) {
    const server = new ModelServer();
    server.#page = page;
    server.#http = createServer((request, response) => server.#answer(request, response));
    server.#http.on("upgrade", (request, socket) => server.#upgrade(request, socket));
    server.#http.on("connection", (socket) => {
      server.#sockets.add(socket);
      socket.on("close", () => server.#sockets.delete(socket));
    });
    server.#http.listen(port, "127.0.0.1");
    await once(server.#http, "listening");
    return server;
  }

  get port() {
    return this.#http.address().port;
  }

  /** As if the process had ended and begun anew: everything is forgotten. */
  async restart() {
    this.model.restart();
    this.#poster = null;
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    this.#http.close();
    await once(this.#http, "close");
  }

  #upgrade(request, socket) {
    const url = new URL(request.url, "ws://server");
    const key = acceptKey(request.headers["sec-websocket-key"]);
    const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
    socket.write(`${head.join("\r\n")}\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`);
    socket.on("error", () => {});
    const [clientId, token] = ["clientId", "token"].map((name) => url.searchParams.get(name));
    const who = { room: roomOf(url), clientId, token };
    const session = this.model.connect(who, {
      send: (text) => socket.write(frame(1, Buffer.from(text))),
      close: (code) => socket.end(closeFrame(code)),
    });
    const reader = new FrameReader();
    socket.on("data", (piece) => {
      for (const { opcode, payload } of reader.push(piece)) {
        if (payload.length > MAX_MESSAGE) session.close(1009);
        else if (opcode === 1) session.receive(payload.toString());
        else if (opcode === 9) socket.write(frame(10, payload));
        else if (opcode === 8) socket.end(frame(8, payload));
      }
    });
    socket.on("close", () => session.ended());
  }

  #answer(request, response) {
    const url = new URL(request.url, "http://server");
    if (url.pathname === "/sse") this.#stream(url.searchParams, response);
    else if (url.pathname === "/publish" && request.method === "POST") this.#publish(request, response);
    else this.#show(this.#page(url.pathname), response);
  }

  #show(page, response) {
    if (page) response.writeHead(200, { "content-type": page[0] }).end(page[1]);
    else response.writeHead(404).end();
  }

  async #publish(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { topic, data, id } = JSON.parse(Buffer.concat(chunks).toString());
    this.#poster ??= this.model.connect({ room: "nowhere" }, { send: () => {}, close: () => {} });
    const publish = () => this.model.publish(topic, JSON.stringify(data));
    const ack = this.model.once(this.#poster.clientId, topic, id, publish);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ type: "ack", id, ...ack }));
  }
  #stream(query, response) {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    const positions = new Map(JSON.parse(Buffer.from(query.get("lastEventId") ?? "", "base64url").toString() || "[]"));
    const id = () => `id: ${Buffer.from(JSON.stringify([...positions])).toString("base64url")}\n`;
    const say = (message) => response.write(`${id()}event: message\ndata: ${JSON.stringify(message)}\n\n`);
    const deliver = ({ topic, epoch, offset, json }) => {
      positions.set(topic, { epoch, offset });
      say({ type: "message", topic, epoch, offset, data: JSON.parse(json) });
    };
    const member = { deliver };
    for (const name of query.getAll("topic")) {
      const { epoch, offset, gap, messages } = this.model.past(name, positions.get(name));
      this.model.topic(name).members.add(member);
      if (gap) {
        positions.set(name, { epoch, offset: gap.to });
        say(gap);
      }
      for (const message of messages) deliver(message);
      positions.set(name, { epoch, offset });
    }
    response.write(`${id()}\n`);
    response.on("close", () => {
      for (const name of query.getAll("topic")) this.model.topic(name).members.delete(member);
    });
  }
}
