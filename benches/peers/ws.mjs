// The `ws` package on Node.js. It has no publish: topics are sets here. Without compression a message is framed once and
// the bytes are written to every socket, as Socket.IO does it, which is cheaper than `client.send` for each; compressed
// messages can only be had by `client.send`. `/raw/{topic}` subscribes, and what a client sends goes to the topic's
// others; on any path below `/echo` it comes back. Environment: PORT, DEFLATE=1. There is no bound to a backlog.

import { createServer } from "node:http";
import { Sender, WebSocketServer } from "ws";

const TEXT = 1;
const BINARY = 2;

const deflate = process.env.DEFLATE === "1";
const topics = new Map();
const http = createServer();
const server = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: deflate && { threshold: 0 },
});

http.on("upgrade", (request, socket, head) => {
  const [, kind, topic] = new URL(request.url, "http://localhost").pathname.split("/");
  const open = kind === "echo" ? echo : kind === "raw" && topic ? (client) => subscribe(client, topic) : null;
  if (open === null) return socket.destroy();
  server.handleUpgrade(request, socket, head, open);
});

function echo(client) {
  client.on("error", () => client.terminate());
  client.on("message", (data, binary) => client.send(data, { binary }));
}

function subscribe(client, topic) {
  if (!topics.has(topic)) topics.set(topic, new Set());
  const subscribers = topics.get(topic);
  subscribers.add(client);
  client.on("close", () => subscribers.delete(client));
  client.on("error", () => client.terminate());
  const publish = deflate ? publishCompressed : publishFramed;
  client.on("message", (data, binary) => publish(subscribers, client, data, binary));
}

function publishFramed(subscribers, publisher, data, binary) {
  const opcode = binary ? BINARY : TEXT;
  const frame = Buffer.concat(Sender.frame(data, { fin: true, mask: false, opcode, readOnly: true, rsv1: false }));
  for (const client of subscribers) {
    if (client !== publisher) client._socket.write(frame);
  }
}

function publishCompressed(subscribers, publisher, data, binary) {
  for (const client of subscribers) {
    if (client !== publisher) client.send(data, { binary });
  }
}

http.listen({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 4096 });
