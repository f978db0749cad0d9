// What a client does when a server ends, or has no room: it comes back when it is told, and not before.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { Uproar } from "../src/index.js";
import { record, world } from "./harness.js";
import { until } from "./suite.js";

const first = (set) => [...set][0];

async function connected(options) {
  const { clock, network, client } = world();
  const log = client(options);
  await clock.advance(10);
  /** The server sends us away. Returns what it is waited for. */
  const drain = async (after) => {
    const socket = first(network.sockets);
    if (after !== undefined) socket.inject({ type: "reconnect", after });
    socket.serverCloses(1012, "service restart");
    const { delay } = log.retries.at(-1);
    await clock.advance(delay - 1);
    const early = network.sockets.size;
    await clock.advance(10);
    assert.deepEqual([early, log.client.state], [0, "connected"]);
    return log.retries.at(-1);
  };
  return { clock, network, log, drain };
}

test("a server that ends says when to come back; that is no failure", async () => {
  const { clock, log, drain } = await connected();
  for (const after of [1270, 40, 2000]) {
    await clock.advance(20_000);
    const { attempt, delay, code, error } = await drain(after);
    assert.deepEqual([attempt, delay, code, error.code], [0, after, 1012, "restart"]);
    assert.equal(error.message, `the server is about to end: come back, after ${after} ms`);
  }
  assert.deepEqual([log.errors, log.messages], [[], []]);
});

test("if it does not say when, within two seconds, at random", async () => {
  const delays = [];
  for (const chance of [0, 0.5, 0.999]) {
    const { drain } = await connected({ random: () => chance });
    delays.push((await drain()).delay);
  }
  assert.deepEqual(delays, [0, 1000, 1998]);
});

test("sent away again and again, the client waits as after failures; it believes no nonsense", async () => {
  const { clock, drain } = await connected();
  const delays = [];
  for (let n = 0; n < 7; n++) delays.push((await drain(0)).delay);
  assert.deepEqual(delays, [0, 250, 500, 1000, 2000, 4000, 8000]);
  await clock.advance(20_000);
  assert.equal((await drain(1e15)).delay, 60_000);
  await clock.advance(20_000);
  for (const after of [-1, "soon", null, {}]) {
    assert.equal((await drain(after)).delay, 1000, `${after}`);
    await clock.advance(20_000);
  }
});

test("a connection that is cut after the word to come back is one that was sent away", async () => {
  const { network, log } = await connected();
  const socket = first(network.sockets);
  socket.inject({ type: "reconnect", after: 700 });
  socket.cut();
  assert.deepEqual([log.retries[0].delay, log.retries[0].error.code], [700, "restart"]);
});

/** A server that answers every request `status`, with `Retry-After`, and the times at which it was asked. */
async function busy(status, wait, act) {
  const times = [];
  const server = createServer((request, response) => {
    times.push(performance.now());
    response.writeHead(status, { "retry-after": wait }).end();
  });
  server.on("upgrade", (request, socket) => {
    times.push(performance.now());
    socket.end(`HTTP/1.1 ${status} No\r\nRetry-After: ${wait}\r\nContent-Length: 0\r\n\r\n`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await act(server.address().port, times);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const told = process.getBuiltinModule !== undefined;

for (const [name, options, skip] of [
  ["a WebSocket", { fallbackAfter: 1 }, told ? false : "this Node.js does not tell"],
  ["a stream", { WebSocket: null }, false],
]) {
  test(`${name} that is answered 429 or 503 comes again after Retry-After, and by the same way`, { skip }, async () => {
    for (const status of [429, 503]) {
      await busy(status, 1, async (port, times) => {
        const log = record(new Uproar(`ws://127.0.0.1:${port}/room`, { retryBase: 10, ...options }));
        await until("three attempts", () => log.retries.length >= 3);
        log.client.close();
        for (const { delay, error } of log.retries) {
          assert.deepEqual([delay, error.status, error.retryAfter], [1000, status, 1000]);
          assert.equal(error.code, options.WebSocket === null ? "sse" : "handshake");
        }
        assert.ok(times[2] - times[0] >= 1950);
        assert.deepEqual(log.errors, []);
      });
    }
  });
}
