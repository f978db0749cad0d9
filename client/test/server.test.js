// The client against the server: UPROAR=path/to/uproar node --experimental-websocket --test test/server.test.js
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Uproar } from "../src/index.js";
import { record } from "./harness.js";
import { Server, skip } from "./server.js";
import { suite, until } from "./suite.js";

suite("against the server", () => Server.start(), { skip });

/** 300 at once from who may send 40 at once and 20 a second: 13 s, or a little less by a connection or two more. */
test("what comes too fast for the server comes later, once and in order", { skip, timeout: 60_000 }, async () => {
  const server = await Server.start(["--message-rate", "20 burst=40"]);
  const clients = ["a", "b"].map((room) => record(new Uproar(`ws://127.0.0.1:${server.port}/${room}`)));
  try {
    const [one, two] = clients;
    const heard = [];
    await two.client.subscribe("fast", ({ data }) => heard.push(data)).ready;
    await until("connected", () => one.client.state === "connected");
    const numbers = Array.from({ length: 300 }, (_, n) => n);
    const acks = await Promise.all(numbers.map((n) => one.client.publish("fast", n, { timeout: 50_000 })));
    assert.deepEqual(acks.map(({ offset }) => offset), numbers.map((n) => n + 1));
    await until("all are heard", () => heard.length >= 300, () => heard);
    assert.deepEqual([heard, two.gaps, one.errors, one.client.pending], [numbers, [], [], 0]);
    assert.ok(one.retries.length <= 2, "closed for the first 300 at most, not again and again");
  } finally {
    for (const { client } of clients) client.close();
    await server.stop();
  }
});

test("whom a backend sends away for good stays away; others come back", { skip, timeout: 60_000 }, async () => {
  const key = "key-of-this-test-alone";
  const server = await Server.start([], { UPROAR_BACKEND_KEY: key });
  const clients = ["a", "b"].map((room) => record(new Uproar(`ws://127.0.0.1:${server.port}/${room}`)));
  const backend = new WebSocket(`ws://127.0.0.1:${server.port}/backend?key=${key}`);
  try {
    const [one, two] = clients;
    const ready = () => clients.every(({ client }) => client.state === "connected") && backend.readyState === 1;
    await until("all are connected", ready);
    const close = ({ clientId }, code) => JSON.stringify({ type: "close", clientId, code, reason: "banned" });
    backend.send(close(one.client, 4500));
    backend.send(close(two.client, 4400));
    await until("both are closed", () => one.states.length > 1 && two.states.length > 2);
    await sleep(1000);
    assert.deepEqual([one.client.state, two.client.state], ["disconnected", "connected"]);
    assert.deepEqual(clients.map(({ states: [, [, { code, reason }]] }) => [code, reason]),
      [[4500, "banned"], [4400, "banned"]]);
    assert.deepEqual([one.retries, two.retries.length], [[], 1]);
  } finally {
    backend.close();
    for (const { client } of clients) client.close();
    await server.stop();
  }
});
