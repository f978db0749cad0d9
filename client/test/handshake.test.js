// Why an attempt failed, over real sockets, with the platform's own WebSocket and fetch.
import assert from "node:assert/strict";
import { hasSubscribers } from "node:diagnostics_channel";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { test } from "node:test";
import { isLasting, unreachable } from "../src/errors.js";
import { Uproar } from "../src/index.js";
import { selfSigned } from "./certificate.js";
import { record } from "./harness.js";
import { until } from "./suite.js";

const skip = process.getBuiltinModule ? false : "this Node.js does not tell";

/** An HTTP server that answers every request, also one to upgrade, with a status; and what a client there says. */
async function attempts(status, options, count = 1) {
  const answer = `HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`;
  const server = createServer((request, response) => response.writeHead(status).end());
  server.on("upgrade", (request, socket) => socket.end(answer));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  if (status === null) server.close();
  const log = record(new Uproar(`ws://127.0.0.1:${port}/room`, { retryBase: 50, ...options }));
  try {
    await until("it has failed", () => log.retries.length >= count, () => log.states);
    return { port, ...log, state: log.client.state };
  } finally {
    log.client.close();
    server.close();
    server.closeAllConnections();
  }
}

const told = ({ retries }) => retries.map(({ error: { code, message } }) => [code, message])[0];

test("a server that is not there: the system's word for it is in the message", { skip }, async () => {
  const one = await attempts(null, { fallback: false });
  assert.deepEqual(told(one), ["unreachable", `no connection to ws://127.0.0.1:${one.port}: ECONNREFUSED`]);
  assert.deepEqual(one.errors, []);
  for (const name of ["undici:request:headers", "undici:request:error"]) assert.ok(!hasSubscribers(name), name);
});

test("the same by Server-Sent Events", async () => {
  const one = await attempts(null, { WebSocket: null });
  assert.deepEqual(told(one), ["unreachable", `no connection to http://127.0.0.1:${one.port}: ECONNREFUSED`]);
});

test("a name that does not exist", { skip }, async () => {
  const log = record(new Uproar("ws://uproar.invalid/room", { fallback: false }));
  await until("it has failed", () => log.retries.length > 0);
  log.client.close();
  assert.match(log.retries[0].error.message, /^no connection to ws:\/\/uproar.invalid: (ENOTFOUND|EAI_AGAIN)$/);
});

test("who is denied is not connected by another way, and says why", { skip }, async () => {
  for (const status of [401, 403]) {
    const one = await attempts(status, { fallbackAfter: 1 }, 4);
    assert.equal(one.state, "connecting");
    for (const { error } of one.retries) assert.deepEqual([error.code, error.status], ["handshake", status]);
    assert.deepEqual(one.errors, one.retries.map(({ error }) => error));
  }
});

test("of other answers the status is told too; these may mean that WebSocket is blocked", { skip }, async () => {
  const one = await attempts(502, { fallbackAfter: 1 }, 2);
  assert.deepEqual(one.retries.map(({ error }) => [error.code, error.status]), [["handshake", 502], ["sse", 502]]);
  assert.deepEqual(one.errors, []);
});

test("a certificate that is not trusted: the system's word for it, and no other way is tried", { skip: skip || !selfSigned }, async () => {
  const server = createSecureServer(selfSigned, (request, response) => response.writeHead(500).end());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const word = "DEPTH_ZERO_SELF_SIGNED_CERT";
  for (const [scheme, options] of [["wss", { fallbackAfter: 1 }], ["https", { WebSocket: null }]]) {
    const log = record(new Uproar(`wss://127.0.0.1:${port}/room`, { retryBase: 50, ...options }));
    await until("it has failed", () => log.retries.length >= 4, () => log.states);
    log.client.close();
    const text = `no connection to ${scheme}://127.0.0.1:${port}: its certificate is not trusted: ${word}`;
    for (const { error } of log.retries) assert.deepEqual([error.code, error.message], [word, text]);
    assert.deepEqual(log.errors, log.retries.map(({ error }) => error));
  }
  server.close();
  server.closeAllConnections();
});

test("a certificate that is not trusted, as the class of `ws` tells it", () => {
  const error = Object.assign(new Error("certificate has expired"), { code: "CERT_HAS_EXPIRED" });
  const told = unreachable("wss://example.org/room", error, error.message);
  assert.deepEqual([told.code, told.cause, isLasting(told)], ["CERT_HAS_EXPIRED", error, true]);
  const other = unreachable("wss://example.org/room", Object.assign(new Error(), { code: "ERR_SSL_WRONG_VERSION_NUMBER" }));
  assert.deepEqual([other.code, isLasting(other)], ["unreachable", false]);
});
