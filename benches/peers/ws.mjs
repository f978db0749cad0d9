// The `ws` package has no publish: topics are sets here, and a message is framed once and written to every socket,
// which is cheaper than `client.send` for each. `/raw/{topic}` subscribes; what a client sends goes to the others.

import { createServer } from "node:http";
import { Sender, WebSocketServer } from "ws";

const PREFIX = "/raw/";
const TEXT = 1;
const BINARY = 2;

const topics = new Map();
const http = createServer();
const server = new WebSocketServer({ noServer: true, perMessageDeflate: false });

http.on("upgrade", (request, socket, head) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (!pathname.startsWith(PREFIX)) return socket.destroy();
  server.handleUpgrade(request, socket, head, (client) => subscribe(client, pathname.slice(PREFIX.length)));
});

function subscribe(client, topic) {
  if (!topics.has(topic)) topics.set(topic, new Set());
  const subscribers = topics.get(topic);
  subscribers.add(client);
  client.on("close", () => subscribers.delete(client));
  client.on("error", () => client.terminate());
  client.on("message", (data, isBinary) => publish(subscribers, client, data, isBinary ? BINARY : TEXT));
}

function publish(subscribers, publisher, data, opcode) {
  const frame = Buffer.concat(Sender.frame(data, { fin: true, mask: false, opcode, readOnly: true, rsv1: false }));
  for (const client of subscribers) {
    if (client !== publisher) client._socket.write(frame);
  }
}

http.listen({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 4096 });
