import assert from "node:assert/strict";
import { test } from "node:test";
import { outcome, world } from "./harness.js";

const names = (log) => log.states.map(([state]) => state);
const first = (set) => [...set][0];

test("connects, and says so", async () => {
  const { clock, client } = world();
  const log = client();
  const { state, clientId, transport, room } = log.client;
  assert.deepEqual([state, clientId, transport, room], ["connecting", null, null, "room"]);
  await clock.advance(10);
  assert.deepEqual(log.states, [["connected", { previous: "connecting", transport: "websocket" }]]);
  assert.match(log.client.clientId, /^client/);
  assert.equal(log.client.transport, "websocket");
});

test("a lost connection is made again, as the same client", async () => {
  const { clock, network, client } = world();
  const log = client();
  await clock.advance(10);
  const { clientId, identity } = log.client;
  first(network.sockets).cut();
  assert.equal(log.client.state, "reconnecting");
  assert.deepEqual(log.retries.map(({ attempt, delay, code }) => [attempt, delay, code]), [[1, 250, 1006]]);
  await clock.advance(249);
  assert.equal(network.attempts.length, 1);
  await clock.advance(10);
  assert.deepEqual(names(log), ["connected", "reconnecting", "connected"]);
  assert.equal(log.client.clientId, clientId);
  assert.deepEqual(log.client.identity, identity);
  const query = new URL(network.attempts[1]).searchParams;
  assert.deepEqual([query.get("clientId"), query.get("token")], [clientId, identity.token]);
});

test("while the server is away, waits grow; it says connecting until it has been connected", async () => {
  const { clock, network, client } = world();
  network.mode = "refuse";
  const log = client();
  await clock.advance(120_000);
  const delays = log.retries.map(({ delay }) => delay);
  assert.deepEqual(delays.slice(0, 8), [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  assert.deepEqual(names(log), []);
  assert.equal(log.client.state, "connecting");
  network.mode = "up";
  await clock.advance(15_000);
  assert.deepEqual(names(log), ["connected"]);
});

test("a connection that does not last does not make waits short; one that does, does", async () => {
  const { clock, network, client } = world();
  const log = client({ stableAfter: 5000 });
  const lose = async (after) => {
    await clock.advance(after);
    first(network.sockets).cut();
    const { delay } = log.retries.at(-1);
    await clock.advance(delay + 5);
    return delay;
  };
  const delays = [];
  for (const after of [10, 10, 10, 5000, 10]) delays.push(await lose(after));
  assert.deepEqual(delays, [250, 500, 1000, 250, 500]);
});

test("an attempt that comes to nothing is given up", async () => {
  const { clock, network, client } = world();
  network.mode = "swallow";
  const log = client({ connectTimeout: 3000 });
  await clock.advance(3000);
  assert.deepEqual(log.retries.map(({ error }) => error.code), ["connect_timeout"]);
  network.mode = "up";
  await clock.advance(300);
  assert.equal(log.client.state, "connected");
});

test("a dead network is noticed", async () => {
  const { clock, network, client } = world();
  const log = client({ heartbeatInterval: 1000, heartbeatTimeout: 500 });
  await clock.advance(10_000);
  assert.deepEqual(names(log), ["connected"]);
  first(network.sockets).halfOpen();
  await clock.advance(1500 + 300);
  assert.deepEqual(names(log), ["connected", "reconnecting", "connected"]);
  assert.equal(log.states[1][1].error.code, "heartbeat");
});

test("online, or visible again: no more waiting, and a connection is doubted", async () => {
  const { clock, network, client } = world();
  const log = client({ heartbeatTimeout: 500 });
  const events = [
    () => log.page.dispatchEvent(new Event("online")),
    () => log.page.document.dispatchEvent(new Event("visibilitychange")),
  ];
  for (const nudge of events) {
    await clock.advance(10);
    network.mode = "refuse";
    network.cutAll();
    await clock.advance(60_000);
    network.mode = "up";
    const before = network.attempts.length;
    nudge();
    nudge();
    await clock.advance(5);
    assert.equal(log.client.state, "connected");
    assert.equal(network.attempts.length, before + 1);
    first(network.sockets).halfOpen();
    nudge();
    await clock.advance(500);
    assert.equal(log.client.state, "reconnecting");
    await clock.advance(60_000);
  }
  log.page.document.visibilityState = "hidden";
  network.mode = "refuse";
  network.cutAll();
  const before = network.attempts.length;
  events[1]();
  await clock.advance(1);
  assert.equal(network.attempts.length, before, "a hidden page is no reason");
});

test("close leaves nothing: no timer, no socket, no listener of the page", async () => {
  const { clock, network, client } = world();
  for (const moment of [0, 1, 2, 10, 300]) {
    const log = client();
    await clock.advance(moment);
    if (moment === 300) network.cutAll();
    const waiting = outcome(log.client.chat("hello"));
    log.client.close();
    log.client.close();
    await clock.advance(5);
    assert.equal(log.client.state, "disconnected");
    assert.equal(waiting.code, "closed");
    assert.equal(clock.timers, 0, `closed after ${moment} ms`);
    const before = network.attempts.length;
    log.page.dispatchEvent(new Event("online"));
    await clock.advance(100_000);
    assert.equal(network.attempts.length, before);
    assert.equal(network.sockets.size, 0);
  }
});

test("connect after close goes on where it was", async () => {
  const { clock, model, client } = world();
  const { client: one, gaps } = client();
  const heard = [];
  one.subscribe("t", ({ data }) => heard.push(data));
  await clock.advance(10);
  model.publish("t", "1");
  await clock.advance(10);
  one.close();
  const refused = outcome(one.publish("t", 0));
  model.publish("t", "2");
  await clock.advance(10);
  one.connect();
  one.connect();
  const sent = outcome(one.publish("t", 3));
  await clock.advance(10);
  assert.deepEqual([heard, gaps], [[1, 2, 3], []]);
  assert.deepEqual([refused.code, sent.status], ["closed", "resolved"]);
});

test("whatever a listener does to the connection in the middle of an event", async () => {
  for (const wanted of ["connected", "reconnecting", "disconnected"]) {
    for (const act of ["close", "connect", "both", "join"]) {
      const { clock, network, client } = world();
      const { client: one } = client();
      let times = 0;
      one.on("state", (state) => {
        if (state !== wanted || times++ > 0) return;
        if (act === "close" || act === "both") one.close();
        if (act === "connect" || act === "both") one.connect();
        if (act === "join") one.join("other");
      });
      await clock.advance(10);
      network.cutAll();
      await clock.advance(400);
      if (one.state !== "disconnected") one.close();
      await clock.advance(400);
      const alive = one.state !== "disconnected";
      if (alive) assert.equal(network.sockets.size, 1, `${act} at ${wanted}`);
      one.close();
      await clock.advance(10);
      assert.deepEqual([clock.timers, network.sockets.size], [0, 0], `${act} at ${wanted}`);
    }
  }
});

test("the same clientId elsewhere: it stays away, and does not fight", async () => {
  const { clock, client } = world();
  const one = client();
  await clock.advance(10);
  const waiting = outcome(one.client.subscribe("refused?", () => {}).ready);
  const two = client({ identity: one.client.identity });
  await clock.advance(10);
  assert.equal(two.client.clientId, one.client.clientId);
  assert.deepEqual(names(one), ["connected", "disconnected"]);
  assert.equal(one.states.at(-1)[1].code, 4001);
  await clock.advance(100_000);
  assert.deepEqual([one.client.state, two.client.state], ["disconnected", "connected"]);
  assert.equal(waiting.status, "rejected");
});

test("who is sent away for good stays away, and says why; after any other code it comes back", async () => {
  for (const code of [3500, 3999, 4500, 4999]) {
    const { clock, network, client } = world();
    const log = client();
    const off = log.client.subscribe("t", () => {});
    await clock.advance(10);
    const sent = outcome(log.client.publish("t", 1, { timeout: Infinity }));
    first(network.sockets).serverCloses(code, "banned");
    await clock.advance(100_000);
    assert.deepEqual([names(log), log.retries], [["connected", "disconnected"], []]);
    const [, { code: why, reason, previous }] = log.states.at(-1);
    assert.deepEqual([why, reason, previous], [code, "banned", "connected"]);
    assert.deepEqual([sent.code, sent.error.closeCode, clock.timers], ["dismissed", code, 0]);
    assert.match(sent.error.message, /banned/);
    log.client.connect();
    await clock.advance(10);
    assert.equal(log.client.state, "connected", "if it is told to");
    off();
  }
  for (const code of [1000, 1001, 1006, 1008, 1013, 3000, 3499, 4000, 4002, 4499]) {
    const { clock, network, client } = world();
    const log = client();
    await clock.advance(10);
    first(network.sockets).serverCloses(code, "for now");
    await clock.advance(1000);
    assert.deepEqual([names(log).at(-1), log.retries.map((retry) => retry.code)], ["connected", [code]]);
    assert.equal(log.states[1][1].reason, "for now");
  }
});

test("who is sent away before it was welcomed stays away too", async () => {
  const { clock, network, client } = world();
  network.mode = "swallow";
  const log = client();
  await clock.advance(10);
  first(network.sockets).serverCloses(4500, "no");
  await clock.advance(100_000);
  assert.deepEqual(log.states, [["disconnected", { previous: "connecting", code: 4500, reason: "no" }]]);
  assert.equal(clock.timers, 0);
});

test("an attempt of its own that was given up and comes to the server late does not keep it away", async () => {
  const { clock, network, client } = world();
  const one = client({ connectTimeout: 1000 });
  await clock.advance(10);
  network.mode = "swallow";
  network.cutAll();
  await clock.advance(1500); // one attempt is given up
  network.mode = "up";
  await clock.advance(5000);
  assert.equal(one.client.state, "connected");
  assert.equal(one.retries.filter(({ error }) => error?.code === "connect_timeout").length, 1);
  [...network.sockets].at(-1).serverCloses(4001); // the server has come to it
  await clock.advance(5000);
  assert.equal(one.client.state, "connected");
  [...network.sockets].at(-1).serverCloses(4001); // and this must be somebody else
  await clock.advance(100_000);
  assert.equal(one.client.state, "disconnected");
});

test("a token is fetched before every attempt; one that cannot be had is told and tried again", async () => {
  const { clock, network, client } = world();
  const tokens = ["first", new Error("expired"), "third"];
  const accessToken = async () => {
    const token = tokens.shift();
    if (token instanceof Error) throw token;
    return token;
  };
  const log = client({ accessToken });
  await clock.advance(10);
  network.cutAll();
  await clock.advance(2000);
  assert.equal(log.client.state, "connected");
  assert.deepEqual(network.protocols, [["bearer", "first"], ["bearer", "third"]]);
  assert.deepEqual(log.errors.map(({ code, cause }) => [code, cause.message]), [["token", "expired"]]);
});

test("a token that never comes is an attempt that comes to nothing", async () => {
  const { clock, client } = world();
  const log = client({ accessToken: () => new Promise(() => {}), connectTimeout: 1000 });
  await clock.advance(1000);
  assert.equal(log.retries[0].error.code, "connect_timeout");
  log.client.close();
  assert.equal(clock.timers, 0);
});

test("a token that comes after the end is not used", async () => {
  const { clock, network, client } = world();
  let release;
  const log = client({ accessToken: () => new Promise((resolve) => { release = resolve; }) });
  await clock.advance(10);
  log.client.close();
  release("late");
  await clock.advance(1000);
  assert.deepEqual([network.attempts.length, clock.timers], [0, 0]);
});

test("with connect: false, it waits to be told", async () => {
  const { clock, network, client } = world();
  const log = client({ connect: false });
  const sent = outcome(log.client.chat("hello"));
  await clock.advance(10_000);
  assert.deepEqual([log.client.state, network.attempts.length], ["disconnected", 0]);
  log.client.connect();
  await clock.advance(10);
  assert.deepEqual([names(log), sent.status], [["connecting", "connected"], "resolved"]);
});

test("a class of WebSocket that throws is an attempt that fails", async () => {
  const { clock, client } = world();
  const log = client({ WebSocket: class { constructor() { throw new SyntaxError("bad"); } } });
  await clock.advance(1000);
  assert.equal(log.retries[0].error.message, "bad");
  log.client.close();
  assert.equal(clock.timers, 0);
});
