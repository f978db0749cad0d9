import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { Uproar } from "../src/index.js";
import { outcome, record } from "./harness.js";
import { Proxy } from "./proxy.js";
import { STORM_MS, storm } from "./storm.js";

const WAIT = 15_000;
const TEST_MS = Math.max(150_000, STORM_MS);
const QUICK = { retryBase: 50, retryCap: 500, heartbeatInterval: 500, heartbeatTimeout: 1000, connectTimeout: 3000 };

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until `check()` is true, and fails with what `see()` sees if it takes too long. */
export async function until(what, check, see = () => "") {
  const deadline = Date.now() + WAIT;
  while (!check()) {
    if (Date.now() > deadline) assert.fail(`timed out: ${what} ${JSON.stringify(see())}`);
    await sleep(5);
  }
}

/**
 * What a client must be able to do with a server, through a proxy that misbehaves. `start()` is a server whose topics
 * `kept.*` have a history of 100,000 messages and others none: `{port, restart(), stop()}`.
 */
export function suite(name, start, options = {}) {
  describe(name, { concurrency: false, ...options }, () => {
    const context = { server: null, proxy: null, clients: [], topics: 0 };
    before(async () => {
      context.server = await start();
      context.proxy = await Proxy.listen(context.server.port);
    });
    beforeEach(() => context.proxy.behave());
    after(async () => {
      await context.proxy?.close();
      await context.server?.stop();
    });
    for (const [title, check] of Object.entries(CHECKS)) {
      test(title, { timeout: TEST_MS }, (t) => run(context, check, t));
    }
  });
}

async function run({ server, proxy, topics }, check, t) {
  const clients = [];
  const client = (port, more) => {
    const { path = `/room-${t.name.length}`, ...rest } = more ?? {};
    const made = record(new Uproar(`ws://127.0.0.1:${port}${path}`, { ...QUICK, ...rest }));
    clients.push(made.client);
    return made;
  };
  try {
    await check({
      t, server, proxy, topics,
      direct: (more) => client(server.port, more),
      proxied: (more) => client(proxy.port, more),
    });
  } finally {
    for (const each of clients) each.close();
    proxy.cutAll();
  }
}

let names = 0;
const fresh = (kind = "kept") => `${kind}.${process.pid}.${names++}`;
const room = () => `/${fresh("room")}`;
const connected = (...logs) => until("connected", () => logs.every(({ client }) => client.state === "connected"));

/** Listens to a topic; `heard` is the data, in order. */
async function listen({ client }, topic, options) {
  const heard = [];
  const off = client.subscribe(topic, ({ data }) => heard.push(data), options);
  await off.ready;
  return { heard, off };
}

const numbers = (count, from = 0) => Array.from({ length: count }, (_, i) => from + i);

async function chat({ direct }) {
  const path = room();
  const [one, two] = [direct({ path }), direct({ path })];
  await connected(one, two);
  const before = Date.now();
  await one.client.chat({ text: "hello", color: "red" });
  await until("both hear it", () => [one, two].every(({ messages }) => messages.length === 1));
  for (const { messages: [message] } of [one, two]) {
    const { timestamp, ...rest } = message;
    assert.deepEqual(rest, { type: "chat", text: "hello", color: "red", from: one.client.clientId });
    assert.ok(Math.abs(timestamp - before) < 60_000);
  }
}

async function addressed({ direct }) {
  const path = room();
  const [one, two, three] = [direct({ path }), direct({ path }), direct({ path })];
  await connected(one, two, three);
  await one.client.sendTo(two.client.clientId, { content: "psst", id: "m1", meta: { reply: "m0" } });
  await one.client.sendTo(path.slice(1), { type: "system", content: "all" });
  await assert.rejects(one.client.sendTo("nobody at all", { content: "?" }), { code: "no_receiver" });
  await until("two hears both", () => two.messages.length === 2, () => two.messages);
  await until("three hears one", () => three.messages.length === 1, () => three.messages);
  const [{ type, content, id, meta, from }, all] = two.messages;
  assert.deepEqual([type, content, id, meta, from], ["text", "psst", "m1", { reply: "m0" }, one.client.clientId]);
  assert.deepEqual([all.type, all.content], ["system", "all"]);
  assert.deepEqual(one.messages, []);
}

async function ordered({ direct }) {
  const topic = fresh();
  const [one, two] = [direct(), direct()];
  const { heard } = await listen(two, topic);
  await connected(one);
  const acks = await Promise.all(numbers(2000).map((n) => one.client.publish(topic, n)));
  assert.deepEqual(acks.map(({ offset }) => offset), numbers(2000, 1));
  assert.equal(new Set(acks.map(({ epoch }) => epoch)).size, 1);
  await until("all are heard", () => heard.length === 2000, () => heard.length);
  assert.deepEqual(heard, numbers(2000));
}

async function resumed({ direct, proxied, proxy }) {
  const topic = fresh();
  const [one, two] = [direct(), proxied()];
  const { heard } = await listen(two, topic);
  for (let n = 0; n < 100; n++) {
    await one.client.publish(topic, n);
    if (n % 20 === 7) proxy.cutAll();
  }
  await until("all are heard", () => heard.length >= 100, () => heard);
  assert.deepEqual(heard, numbers(100));
  assert.deepEqual(two.gaps, []);
}

async function gap({ direct, proxied, proxy }) {
  const topic = fresh("lost");
  const [one, two] = [direct(), proxied()];
  const keeper = await listen(one, topic); // somebody stays, so that the topic stays the same
  const { heard } = await listen(two, topic);
  await one.client.publish(topic, 0);
  await until("the first is heard", () => heard.length === 1);
  proxy.mode = "refuse";
  proxy.cutAll();
  for (const n of [1, 2, 3]) await one.client.publish(topic, n);
  proxy.mode = "up";
  await until("the gap is told", () => two.gaps.length > 0);
  await one.client.publish(topic, 4);
  await until("the last is heard", () => heard.length === 2);
  const [{ from, to, missed, topic: of }] = two.gaps;
  assert.deepEqual([heard, of, from, to, missed, two.gaps.length], [[0, 4], topic, 2, 4, 3, 1]);
  keeper.off();
}

async function liveOnly({ direct, proxied, proxy }) {
  const topic = fresh();
  const [one, two] = [direct(), proxied()];
  const { heard } = await listen(two, topic, { recover: false });
  proxy.mode = "refuse";
  proxy.cutAll();
  await one.client.publish(topic, "missed");
  proxy.mode = "up";
  await until("reconnected", () => two.states.filter(([state]) => state === "connected").length >= 2);
  await two.client.subscribe(topic, () => {}, { recover: false }).ready;
  await one.client.publish(topic, "new");
  await until("the new one is heard", () => heard.length > 0);
  assert.deepEqual([heard, two.gaps], [["new"], []]);
}

/** The conversation is cut at every byte, both ways: whatever is lost, the message is there once. */
async function cutAnywhere({ direct, proxied, proxy, t }) {
  const topic = fresh();
  const listener = await listen(direct(), topic);
  let count = 0;
  for (const direction of ["up", "down"]) {
    for (let bytes = 1; bytes < 600; bytes += 5) {
      let pairs = 0;
      proxy.onpair = (pair) => { if (pairs++ === 0) pair.cutAfter(direction, bytes); };
      const one = proxied();
      await one.client.publish(topic, count++);
      one.client.close();
    }
  }
  t.diagnostic(`${count} messages`);
  await until("all are heard", () => listener.heard.length >= count, () => listener.heard.length);
  assert.deepEqual(listener.heard, numbers(count));
}

async function halfOpen({ direct, proxied, proxy }) {
  const topic = fresh();
  const [one, two] = [direct(), proxied()];
  const { heard } = await listen(two, topic);
  for (let n = 0; n < 3; n++) {
    for (const pair of proxy.pairs) pair.halfOpen();
    await Promise.all([one.client.publish(topic, `one ${n}`), two.client.publish(topic, `two ${n}`)]);
    await until("both are heard", () => heard.length === 2 * (n + 1), () => heard);
  }
  assert.equal(new Set(heard).size, 6);
  assert.deepEqual(two.gaps, []);
  assert.ok(two.states.some(([, { error }]) => error?.code === "heartbeat"));
}

async function swallowed({ proxied, proxy }) {
  proxy.mode = "swallow";
  const one = proxied({ connectTimeout: 300 });
  await until("given up twice", () => one.retries.length >= 2);
  assert.equal(one.retries[0].error.code, "connect_timeout");
  proxy.mode = "up";
  proxy.cutAll();
  await connected(one);
}

async function slow({ direct, proxied, proxy }) {
  proxy.delay = 40;
  const topic = fresh();
  const [one, two] = [proxied(), direct()];
  const { heard } = await listen(two, topic);
  await Promise.all(numbers(200).map((n) => one.client.publish(topic, n)));
  await until("all are heard", () => heard.length === 200);
  assert.deepEqual(heard, numbers(200));
}

async function queued({ direct, proxied, proxy }) {
  const topic = fresh();
  const { heard } = await listen(direct(), topic);
  proxy.mode = "refuse";
  const one = proxied({ queueLimit: 5, overflow: "drop-oldest", fallback: false });
  const all = numbers(8).map((n) => outcome(one.client.publish(topic, n)));
  await sleep(200);
  proxy.mode = "up";
  await until("all are settled", () => all.every(({ status }) => status !== "pending"));
  assert.deepEqual(all.map(({ code }) => code), ["dropped", "dropped", "dropped", ...Array(5).fill(undefined)]);
  await until("all are heard", () => heard.length === 5);
  assert.deepEqual(heard, numbers(5, 3));
}

/** Sent again and again it would close every connection; and those with it would never get through. */
async function tooLarge({ direct }) {
  const topic = fresh();
  const one = direct();
  const { heard } = await listen(one, topic);
  const large = outcome(one.client.publish(topic, "x".repeat(2 << 20)));
  await one.client.publish(topic, "small");
  await until("it is refused", () => large.status === "rejected");
  assert.equal(large.code, "too_large");
  await until("the other one is heard", () => heard.length > 0);
  assert.deepEqual(heard, ["small"]);
}

async function identity({ direct, proxied, proxy }) {
  const path = room();
  const [one, two] = [proxied({ path }), direct({ path })];
  await connected(one, two);
  const { clientId } = one.client;
  proxy.cutAll();
  await until("reconnected", () => one.states.filter(([state]) => state === "connected").length === 2);
  assert.equal(one.client.clientId, clientId);
  await two.client.sendTo(clientId, { content: "still you?" });
  await until("it is heard", () => one.messages.length === 1);
  const three = direct({ path, identity: one.client.identity });
  await until("the older one stays away", () => one.client.state === "disconnected");
  assert.equal(three.client.clientId, clientId);
  assert.equal(one.states.at(-1)[1].code, 4001);
}

async function presence({ direct, proxied, proxy }) {
  const path = room();
  const one = direct({ path });
  one.client.on("presence", () => {});
  await until("its own list", () => one.client.members?.length === 1);
  const others = [proxied({ path }), proxied({ path })];
  await until("both have come", () => one.client.members.length === 3, () => one.client.members);
  const answer = await others[0].client.presence();
  assert.deepEqual([answer.topic, answer.userCount], [path.slice(1), 3]);
  assert.deepEqual([...answer.members].sort(), [one, ...others].map(({ client }) => client.clientId).sort());
  const [gone] = [others[0].client.clientId];
  others[0].client.close();
  await until("one has gone", () => one.client.userCount === 2, () => one.client.members);
  assert.ok(!one.client.members.includes(gone));
  assert.deepEqual((await one.client.presence(fresh("empty"))).members, []);
  proxy.cutAll();
  await until("the other is back", () => one.client.members.includes(others[1].client.clientId));
}

/** Who comes late hears what was said before, and then goes on. */
async function history({ direct }) {
  const topic = fresh();
  const [one, two] = [direct(), direct()];
  for (const n of numbers(30)) await one.client.publish(topic, n);
  const { heard } = await listen(two, topic, { history: true });
  await one.client.publish(topic, 30);
  await until("all are heard", () => heard.length === 31, () => heard);
  assert.deepEqual([heard, two.gaps], [numbers(31), []]);
}

async function iteration({ direct, proxied, proxy }) {
  const topic = fresh();
  const [one, two] = [direct(), proxied()];
  const messages = two.client.messages(topic);
  await two.client.subscribe(topic, () => {}).ready;
  const publishing = (async () => { for (const n of numbers(50)) await one.client.publish(topic, n); })();
  const heard = [];
  for await (const { data } of messages) {
    heard.push(data);
    if (data === 20) proxy.cutAll();
    if (data === 49) break;
  }
  await publishing;
  assert.deepEqual(heard, numbers(50));
}

async function fallback({ direct, proxied, proxy, server, t }) {
  const probe = await fetch(`http://127.0.0.1:${server.port}/sse?topic=x`, { signal: AbortSignal.timeout(5000) });
  await probe.body?.cancel();
  if (probe.status === 404) return t.skip("the server has no /sse");
  const topic = fresh();
  const one = direct();
  const { heard: atOne } = await listen(one, topic);
  proxy.noWebSocket = true;
  const two = proxied({ fallbackAfter: 2, websocketRetry: 300 });
  const { heard } = await listen(two, topic);
  assert.equal(two.client.transport, "sse");
  for (const n of numbers(10)) await one.client.publish(topic, n);
  await until("all are heard by SSE", () => heard.length === 10, () => heard);
  proxy.cutAll();
  const acks = await Promise.all(numbers(10, 10).map((n) => two.client.publish(topic, n)));
  assert.deepEqual(acks.map(({ offset }) => offset), numbers(10, 11));
  await until("all are heard again", () => heard.length === 20 && atOne.length === 20, () => [heard, atOne]);
  await assert.rejects(two.client.chat("?"), { code: "needs_websocket" });
  proxy.noWebSocket = false;
  await until("back to WebSocket", () => two.client.transport === "websocket");
  await one.client.publish(topic, 20);
  await two.client.publish(topic, 21);
  await until("all are heard by WebSocket", () => heard.length === 22, () => heard);
  assert.deepEqual([heard, atOne, two.gaps], [numbers(22), numbers(22), []]);
  return undefined;
}

async function restarted({ server, direct }) {
  const topic = fresh();
  const one = direct({ fallback: false });
  const { heard } = await listen(one, topic);
  await one.client.publish(topic, "before");
  await server.restart();
  await until("the gap is told", () => one.gaps.length === 1, () => one.gaps);
  const { offset } = await one.client.publish(topic, "after");
  await until("both are heard", () => heard.length === 2);
  assert.deepEqual([one.gaps[0].from, one.gaps[0].to, one.gaps[0].missed, offset], [2, null, null, 1]);
}

const CHECKS = {
  "chat goes to the room, the sender too": chat,
  "to one client, to the others in a room, to nobody": addressed,
  "2,000 publications are acknowledged and heard in order": ordered,
  "a topic with history goes on where it was": resumed,
  "a topic without history tells its gap": gap,
  "recover: false goes on with what is new": liveOnly,
  "cut at any byte, every message is there once": cutAnywhere,
  "a half-open connection is noticed, and nothing is lost": halfOpen,
  "an attempt that is swallowed is given up": swallowed,
  "a slow network": slow,
  "what is sent without a connection waits": queued,
  "a message that is too large for the server": tooLarge,
  "the same client after a reconnection, and once only": identity,
  "presence": presence,
  "who comes late hears what was said before": history,
  "for await, over a reconnection": iteration,
  "Server-Sent Events where WebSocket is blocked": fallback,
  "a server that was restarted": restarted,
  "hundreds of clients, killed at random, and the server restarted": storm,
};
