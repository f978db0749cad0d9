// The client library in Node.js over TLS, by a WebSocket and without: node --experimental-websocket secured.mjs WSS_URL
// The server takes clients without a token, and tokens made with JWT_SECRET. NODE_EXTRA_CA_CERTS has whom to trust.
import assert from "node:assert/strict";
import { Uproar } from "../../client/src/index.js";
import NodeSocket from "ws";
import { makeToken } from "./token.mjs";

const [url] = process.argv.slice(2);
if (!url) {
  console.error("usage: node secured.mjs WSS_URL");
  process.exit(2);
}

const COUNT = 200;
const topic = `secured-${process.pid}`;
const accessToken = () => makeToken({ sub: "ann", exp: Math.floor(Date.now() / 1000) + 60 });
const failure = setTimeout(() => assert.fail("timed out"), 20_000);

const ways = { platform: {}, ws: { WebSocket: NodeSocket }, streams: { WebSocket: null } };
const clients = Object.entries(ways).map(([name, options]) => {
  const client = new Uproar(`${url}/room`, { accessToken, ...options });
  client.on("error", (error) => assert.fail(`${name}: ${error.message}`));
  client.on("retry", ({ error }) => assert.fail(`${name}: ${error.message}`));
  return { name, client, heard: [] };
});
for (const { client, heard } of clients) await client.subscribe(topic, ({ data }) => heard.push(data)).ready;
for (const { name, client } of clients) {
  for (let n = 0; n < COUNT; n++) await client.publish(topic, `${name} ${n}`);
}
const whole = Object.keys(ways).flatMap((name) => Array.from({ length: COUNT }, (_, n) => `${name} ${n}`));
while (clients.some(({ heard }) => heard.length < whole.length)) await new Promise((resolve) => setTimeout(resolve, 10));
for (const { name, client, heard } of clients) {
  assert.deepEqual(heard, whole, name);
  assert.equal(client.user, client.transport === "websocket" ? "ann" : null, name);
  client.close();
}
clearTimeout(failure);
console.log(`client: ${whole.length} messages over TLS, each heard by WebSockets of two kinds and a stream`);
