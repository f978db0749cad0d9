// A server that takes so many messages of a connection, and no more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { outcome, world } from "./harness.js";

const LIMIT = { perSecond: 20, burst: 40 };
const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const sentBy = (network) => [...network.sockets].reduce((sum, { sent }) => sum + sent.length, 0);

test("300 at once arrive once and in order, as fast as they may, and the server is not pestered", async () => {
  const { clock, model, network, client } = world({ limit: LIMIT });
  const { client: one, errors, retries } = client();
  const acks = numbers(300).map((n) => outcome(one.publish("t", n)));
  await clock.advance(25_000);
  assert.deepEqual(model.published.map(({ json }) => Number(json)), numbers(300));
  assert.deepEqual(acks.map(({ value }) => value?.offset), numbers(300).map((n) => n + 1));
  assert.deepEqual([errors, retries.map(({ code }) => code)], [[], [1008]], "the first ones were too many to know");
  assert.ok(sentBy(network) < 300 + 60, "few are sent in vain");
});

test("who stays below the limit is not slowed down", async () => {
  const { clock, model, network, client } = world({ limit: LIMIT });
  const { client: one } = client();
  await clock.advance(10);
  for (let n = 0; n < 100; n++) {
    one.publish("t", n);
    await clock.advance(50);
    assert.equal(model.published.length, n + 1);
  }
  assert.equal(sentBy(network), 100);
});

test("a limit that lets nothing through: ever longer pauses, and every promise is rejected", async () => {
  const { clock, network, client } = world({ limit: { perSecond: 0, burst: 1000 } });
  const { client: one } = client();
  await clock.advance(10);
  for (const n of numbers(1000)) one.publish("t", n);
  await clock.advance(10);
  const before = sentBy(network);
  const all = numbers(10).map((n) => outcome(one.publish("t", n)));
  await clock.advance(120_000);
  assert.deepEqual(new Set(all.map(({ code }) => code)), new Set(["too_fast"]));
  assert.equal(one.pending, 0);
  assert.ok(sentBy(network) - before < 30, "tried so often");
});

test("subscriptions and questions come through too", async () => {
  const { clock, client } = world({ limit: LIMIT });
  const log = client();
  log.client.on("presence", () => {});
  await clock.advance(10);
  for (const n of numbers(45)) log.client.publish("t", n);
  await clock.advance(1);
  const heard = [];
  const ready = outcome(log.client.subscribe("u", ({ data }) => heard.push(data)).ready);
  const answer = outcome(log.client.presence("room"));
  await clock.advance(1);
  assert.deepEqual([ready.status, answer.status], ["pending", "pending"]);
  await clock.advance(5000);
  assert.deepEqual([ready.status, answer.status, answer.value.userCount], ["resolved", "resolved", 1]);
  log.client.publish("u", 1);
  await clock.advance(2000);
  assert.deepEqual([heard, log.errors, log.client.pending], [[1], [], 0]);
});

test("now or never: an error event, a short pause, and then on; the connection is not lost over it", async () => {
  const { clock, model, client } = world({ limit: LIMIT });
  const log = client();
  await clock.advance(10);
  const all = [];
  for (let n = 0; n < 600; n++) {
    all.push(outcome(log.client.publish("t", n, { ack: false })));
    await clock.advance(20);
  }
  assert.deepEqual(new Set(all.map(({ code }) => code)), new Set([undefined, "too_fast"]));
  assert.ok(log.errors.length > 10 && log.errors.every(({ code }) => code === "too_fast"));
  assert.ok(model.published.length > 40 + 12 * 20 * 0.7, "most of what may be sent is");
  assert.deepEqual(log.retries, []);
});

test("closing in a pause leaves nothing", async () => {
  const { clock, client } = world({ limit: { perSecond: 1, burst: 2 } });
  const { client: one } = client();
  const all = numbers(3).map((n) => outcome(one.publish("t", n)));
  await clock.advance(10);
  one.close();
  await clock.advance(10);
  assert.deepEqual([all.map(({ status }) => status), clock.timers], [["resolved", "resolved", "rejected"], 0]);
});
