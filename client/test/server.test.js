// The client against the server: UPROAR=path/to/uproar node --experimental-websocket --test test/server.test.js
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Uproar } from "../src/index.js";
import { selfSigned } from "./certificate.js";
import { record } from "./harness.js";
import { freePort, Server, skip } from "./server.js";
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

test("why it is refused, in the server's words, for a stream and for a WebSocket that does not tell", { skip, timeout: 60_000 }, async () => {
  const server = await Server.start([], { UPROAR_JWT_SECRET: "a-secret-of-this-test-alone" });
  const log = record(new Uproar(`ws://127.0.0.1:${server.port}/room`, { WebSocket: null }));
  // As a browser's.
  class Mute extends EventTarget {
    constructor() {
      super();
      setTimeout(() => this.onerror({}), 0);
    }
    close() {}
  }
  const mute = record(new Uproar(`ws://127.0.0.1:${server.port}/room`, { WebSocket: Mute, accessToken: "no.good.token" }));
  try {
    await until("both are told", () => [log, mute].every(({ errors }) => errors.length > 0));
    assert.deepEqual([log, mute].map(({ errors: [{ status, message }] }) => [status, message]), [
      [401, "SSE was answered 401: A token is wanted here."],
      [401, "there is no WebSocket, and by HTTP the server answers 401: The token is not valid, or not any more."],
    ]);
  } finally {
    for (const { client } of [log, mute]) client.close();
    await server.stop();
  }
});

test("a certificate that is not trusted is told as such, and Server-Sent Events are not tried", { skip: skip || !selfSigned, timeout: 60_000 }, async () => {
  const port = await freePort();
  const tls = ["--tls-listen", `127.0.0.1:${port}`, "--tls-certificate", selfSigned.certFile, "--tls-key", selfSigned.keyFile];
  const server = await Server.start(tls);
  const log = record(new Uproar(`wss://127.0.0.1:${port}/room`, { retryBase: 50, fallbackAfter: 1 }));
  try {
    await until("it has failed", () => log.retries.length >= 3);
    const all = [...log.errors, ...log.retries.map(({ error }) => error)];
    const words = new Set(all.map(({ code, message }) => `${code} ${message.slice(0, 20)}`));
    assert.deepEqual([...words], ["DEPTH_ZERO_SELF_SIGNED_CERT no connection to wss"]);
    assert.equal(log.errors.length, log.retries.length);
  } finally {
    log.client.close();
    await server.stop();
  }
});
