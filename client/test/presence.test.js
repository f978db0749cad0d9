import assert from "node:assert/strict";
import { test } from "node:test";
import { outcome, world } from "./harness.js";
import { seeded } from "./random.js";

/** A client that listens to presence, and what it hears. */
function watching(client, more) {
  const log = client(more);
  log.events = [];
  log.client.on("presence", (event) => log.events.push(event));
  return log;
}

test("who is there, who comes and who goes", async () => {
  const { clock, client } = world();
  const one = watching(client);
  await clock.advance(10);
  const id = one.client.clientId;
  assert.deepEqual(one.client.members, [id]);
  const two = client();
  await clock.advance(10);
  const other = two.client.clientId;
  assert.deepEqual(one.client.members, [id, other]);
  assert.equal(one.client.userCount, 2);
  two.client.close();
  await clock.advance(10);
  assert.deepEqual(one.client.members, [id]);
  assert.deepEqual(one.events, [
    { type: "moved", topic: "room", joined: [id], left: [], userCount: 1 },
    { type: "joined", topic: "room", joined: [other], left: [], userCount: 2 },
    { type: "left", topic: "room", joined: [], left: [other], userCount: 1 },
  ]);
});

test("whenever a listener is called, who is there is known, also when several come at once", async () => {
  const random = seeded(11);
  for (let round = 0; round < 30; round++) {
    const { clock, network, client } = world({ latency: () => 1 + Math.floor(random() * 20) });
    const seen = [];
    const crowd = Array.from({ length: 4 }, () => {
      const { client: one } = client({ random });
      one.on("presence", ({ userCount: now }) => seen.push([one.userCount === now, one.members?.length === now]));
      return one;
    });
    await clock.advance(200);
    assert.ok(seen.length >= crowd.length);
    network.cutAll();
    crowd.pop().close();
    await clock.advance(1000);
    for (const known of seen) assert.deepEqual(known, [true, true]);
    for (const { members, userCount } of crowd) assert.deepEqual([members.length, userCount], [3, 3]);
  }
});

test("a notice before the answer is told with it; one in the same turn behind it, by itself", async () => {
  const { clock, network, client } = world();
  const { client: one, events } = watching(client);
  await clock.advance(2);
  const [socket] = network.sockets;
  assert.equal(one.members, null);
  const notice = (type, clientId, userCount) => socket.inject({ type, clientId, userCount, room: "room" });
  notice("user_joined", "x", 2);
  assert.deepEqual([events, one.members, one.userCount], [[], null, null]);
  socket.inject({ type: "presence", topic: "room", userCount: 2, members: [one.clientId, "x"] });
  notice("user_joined", "y", 3);
  assert.deepEqual(events.map(({ type, joined }) => [type, joined.length]), [["moved", 2], ["joined", 1]]);
  assert.deepEqual([one.members, one.userCount], [[one.clientId, "x", "y"], 3]);
});

test("a question for the list that fails is asked again at the next notice", async () => {
  const { clock, network, client } = world();
  const { client: one, events } = watching(client);
  await clock.advance(2);
  const [socket] = network.sockets;
  const refuse = () => socket.inject({ type: "error", code: "bad_topic", id: JSON.parse(socket.sent.at(-1)).id });
  refuse();
  await clock.advance(0);
  socket.inject({ type: "user_joined", clientId: "x", userCount: 2, room: "room" });
  assert.deepEqual([socket.sent.length, events, one.members], [2, [], null]);
  await clock.advance(10);
  assert.deepEqual([events.length, one.members], [1, [one.clientId]]);
});

test("without a listener, nothing is asked and nothing is known", async () => {
  const { clock, network, client } = world();
  const { client: one } = client();
  await clock.advance(10);
  assert.deepEqual([one.members, one.userCount], [null, null]);
  const [socket] = network.sockets;
  assert.deepEqual(socket.sent, []);
});

test("many at once", async () => {
  const { clock, network, client } = world();
  const { client: one, events } = watching(client);
  await clock.advance(10);
  const [socket] = network.sockets;
  socket.inject({ type: "presence", topic: "room", joined: ["x", "y"], left: [one.clientId], userCount: 2 });
  assert.deepEqual(one.members, ["x", "y"]);
  assert.deepEqual(events[1], { type: "moved", topic: "room", joined: ["x", "y"], left: [one.clientId], userCount: 2 });
});

test("what changed while the connection was lost is told, and only that", async () => {
  const { clock, network, client } = world();
  const [two, three] = [client().client, client().client];
  await clock.advance(10);
  const { client: one, events } = watching(client);
  await clock.advance(10);
  events.length = 0;
  const [left] = [two.clientId];
  network.mode = "refuse";
  for (const socket of [...network.sockets]) if (socket.url.includes("room")) socket.cut();
  two.close();
  network.mode = "up";
  await clock.advance(1000);
  const changes = events.filter(({ type }) => type === "moved");
  assert.ok(!one.members.includes(left));
  assert.ok(one.members.includes(three.clientId) && one.members.includes(one.clientId));
  assert.ok(changes.every(({ joined }) => !joined.includes(one.clientId)), "who stayed has not joined");
});

test("another room is another list", async () => {
  const { clock, client } = world();
  const lobby = client({ room: "lobby" });
  const { client: one, events } = watching(client);
  await clock.advance(10);
  one.join("lobby");
  assert.deepEqual([one.room, one.members, one.userCount], ["lobby", null, null]);
  await clock.advance(10);
  assert.equal(one.state, "connected");
  assert.deepEqual(one.members, [lobby.client.clientId, one.clientId].sort());
  assert.deepEqual(events.at(-1), { type: "moved", topic: "lobby", joined: one.members, left: [], userCount: 2 });
});

test("a room that is too full for a list has a number, and a list again when it is less full", async () => {
  const { clock, client } = world({ presenceLimit: 2 });
  const others = [client(), client()];
  const one = watching(client);
  await clock.advance(10);
  assert.deepEqual([one.client.members, one.client.userCount], [null, 3]);
  assert.deepEqual(one.events, [{ type: "moved", topic: "room", joined: [], left: [], userCount: 3 }]);
  others[0].client.close();
  await clock.advance(10);
  assert.deepEqual(one.client.members, [others[1].client.clientId, one.client.clientId]);
});

test("asking: our room, another, in order, and over a reconnection", async () => {
  const { clock, network, client } = world();
  const { client: one } = client();
  client({ room: "lobby" });
  const early = outcome(one.presence());
  await clock.advance(10);
  assert.deepEqual(early.value, { topic: "room", userCount: 1, members: [one.clientId] });
  const answers = [one.presence("lobby"), one.presence("empty"), one.presence("lobby")].map(outcome);
  network.cutAll();
  await clock.advance(1000);
  assert.deepEqual(answers.map(({ value }) => value.topic), ["lobby", "empty", "lobby"]);
  assert.deepEqual(answers[1].value.members, []);
});

test("asking in vain: a refusal, a time-out, a signal, a close", async () => {
  const { clock, network, client } = world();
  const { client: one } = client();
  await clock.advance(10);
  const [socket] = network.sockets;
  const refused = outcome(one.presence("bad"));
  const { id } = JSON.parse(socket.sent.at(-1));
  socket.inject({ type: "error", code: "bad_topic", message: "no", id });
  socket.halfOpen();
  const late = outcome(one.presence("x", { timeout: 100 }));
  const controller = new AbortController();
  const aborted = outcome(one.presence("x", { signal: controller.signal }));
  controller.abort();
  await clock.advance(100);
  const closed = outcome(one.presence("x"));
  const bad = outcome(one.presence(""));
  one.close();
  await clock.advance(10);
  const codes = [refused.code, late.code, aborted.error.name, closed.code];
  assert.deepEqual(codes, ["bad_topic", "timeout", "AbortError", "closed"]);
  assert.ok(bad.error instanceof TypeError);
  assert.equal(clock.timers, 0);
});
