import assert from "node:assert/strict";
import { test } from "node:test";
import { Uproar, UproarError } from "../src/index.js";
import { outcome, world } from "./harness.js";

const socketOf = (network) => [...network.sockets].at(-1);

test("chat goes to the room, the sender too", async () => {
  const { clock, client } = world();
  const [one, two] = [client(), client()];
  const ack = outcome(one.client.chat("hello"));
  await clock.advance(10);
  one.client.chat({ text: "with more", color: "red" });
  await clock.advance(10);
  const from = one.client.clientId;
  for (const { messages } of [one, two]) {
    assert.deepEqual(messages.map(({ timestamp, ...message }) => message), [
      { type: "chat", text: "hello", from },
      { type: "chat", text: "with more", color: "red", from },
    ]);
  }
  assert.deepEqual(Object.keys(ack.value), ["id"]);
});

test("to one client, to the others in a room, to nobody", async () => {
  const { clock, client } = world();
  const [one, two, three] = [client(), client(), client()];
  await clock.advance(10);
  const from = one.client.clientId;
  one.client.sendTo(two.client.clientId, { content: "psst", id: "m1", meta: { reply: "m0" } });
  one.client.sendTo("room", { type: "system", content: "all" });
  const nobody = outcome(one.client.sendTo("no one", { content: "?" }));
  await clock.advance(10);
  const psst = { type: "text", content: "psst", id: "m1", meta: { reply: "m0" }, receiver: two.client.clientId, from };
  const all = { type: "system", content: "all", receiver: "room", from };
  assert.deepEqual([one.messages, two.messages, three.messages], [[], [psst, all], [all]]);
  assert.ok(nobody.error instanceof UproarError);
  assert.deepEqual([nobody.code, one.errors], ["no_receiver", []]);
});

test("what is addressed goes to its receiver, or nowhere: never to the room", async () => {
  const { clock, client } = world();
  const [one, two, three] = [client(), client(), client()];
  await clock.advance(10);
  const to = two.client.clientId;
  const types = ["chat", "publish", "Text", null, 7];
  const refused = types.map((type) => outcome(one.client.sendTo(to, { type, content: "?" })));
  refused.push(outcome(one.client.sendTo(to, "psst")), outcome(one.client.sendTo(to)));
  for (const type of [undefined, "text", "image", "file", "system"]) one.client.sendTo(to, { type, content: "psst" });
  await clock.advance(10);
  for (const { error } of refused) assert.ok(error instanceof TypeError, `${error}`);
  assert.match(refused[0].error.message, /text, image, file, system; chat is not/);
  assert.deepEqual(two.messages.map(({ type }) => type), ["text", "text", "image", "file", "system"]);
  assert.deepEqual([one.messages, three.messages], [[], []]);
});

test("publish and subscribe", async () => {
  const { clock, model, client } = world();
  const [one, two] = [client(), client()];
  const heard = [];
  const off = two.client.subscribe("t", (message) => heard.push(message));
  await clock.advance(10);
  const all = [{ bid: 1 }, "text", null, [1, [2]], 0];
  const acks = all.map((data) => outcome(one.client.publish("t", data)));
  await clock.advance(10);
  const { epoch } = model.topic("t");
  const places = [1, 2, 3, 4, 5].map((offset) => ({ topic: "t", epoch, offset }));
  assert.deepEqual(heard, places.map((place, i) => ({ ...place, data: all[i] })));
  assert.deepEqual(acks.map(({ value: { id, ...place } }) => place), places);
  assert.equal(new Set(acks.map(({ value }) => value.id)).size, 5);
  assert.deepEqual(await off.ready, { topic: "t", epoch, offset: 0 });
  assert.deepEqual([one.messages, two.messages], [[], []]);
});

test("what is given is taken at once: what changes later does not change the message", async () => {
  const { clock, model, client } = world();
  const data = { n: 1 };
  client().client.publish("t", data);
  data.n = 2;
  await clock.advance(10);
  assert.equal(model.published.at(-1).json, '{"n":1}');
});

test("what cannot be sent is rejected, and says why; nobody has to look", async () => {
  const { clock, client } = world();
  const { client: one } = client();
  const circular = {};
  circular.self = circular;
  const bad = [
    one.publish("t", undefined), one.publish("", 1), one.publish("t", circular), one.publish("t", 1n),
    one.send({}), one.send({ type: 7 }), one.sendTo("", {}), one.publish("t", 1, { id: 7 }),
  ];
  const outcomes = bad.map(outcome);
  one.publish("t", undefined); // not looked at
  await clock.advance(10);
  for (const [i, { error }] of outcomes.entries()) assert.ok(error instanceof TypeError, `${i}: ${error}`);
});

test("bytes are not sent, for they would arrive as something else; how they are sent is said", async () => {
  const { clock, model, client } = world();
  const { client: one } = client();
  await clock.advance(10);
  const bytes = Uint8Array.of(1, 2);
  const all = [bytes, bytes.buffer, Buffer.from(bytes), new DataView(bytes.buffer), new Blob([bytes])];
  const refused = [
    ...all.flatMap((each) => [one.publish("t", each), one.publish("t", [1, each]), one.chat({ file: each })]),
    one.publish("t", bytes, { ack: false }), one.sendTo(one.clientId, { content: bytes }),
  ].map(outcome);
  one.publish("t", [...bytes]);
  await clock.advance(10);
  for (const { error } of refused) assert.ok(error instanceof TypeError && /base64/.test(error.message), `${error}`);
  assert.deepEqual(model.published.map(({ json }) => json), ["[1,2]"]);
});

test("what has a method of its own is not sent, and the method is named", async () => {
  const { clock, network, client } = world();
  const { client: one } = client();
  await clock.advance(10);
  const methods = {
    subscribe: /subscribe\(topic, listener\)/, unsubscribe: /that subscribe returned/, presence: /presence\(topic\)/,
    publish: /publish\(topic, data\)/, ping: /heartbeatInterval/, heartbeat: /heartbeatInterval/,
  };
  for (const [type, message] of Object.entries(methods)) {
    for (const ack of [true, false]) {
      await assert.rejects(one.send({ type, topic: "t" }, { ack }), { name: "TypeError", message });
    }
  }
  await clock.advance(10);
  assert.deepEqual([socketOf(network).sent, one.pending], [[], 0]);
});

test("messages sent before there is a connection arrive in order", async () => {
  const { clock, model, client } = world();
  const { client: one } = client();
  for (let n = 0; n < 10; n++) one.publish("t", n);
  assert.equal(one.pending, 10);
  await clock.advance(10);
  assert.deepEqual(model.published.map(({ json }) => Number(json)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(one.pending, 0);
});

test("an acknowledgement that is lost: sent again, ordered once", async () => {
  const { clock, model, network, client } = world();
  const { client: one } = client();
  await clock.advance(10);
  const ack = outcome(one.publish("t", 1));
  await clock.advance(1);
  assert.equal(model.published.length, 1);
  network.cutAll();
  await clock.advance(1000);
  assert.deepEqual([ack.value.offset, model.published.length], [1, 1]);
  assert.equal(network.attempts.length, 2);
});

test("a server that was restarted: nobody knows what became of it", async () => {
  const { clock, model, network, client } = world();
  const log = client();
  await clock.advance(10);
  const before = log.client.clientId;
  const ack = outcome(log.client.publish("t", 1));
  await clock.advance(1);
  network.cutAll();
  model.restart();
  await clock.advance(1000);
  assert.equal(ack.code, "unknown_outcome");
  assert.notEqual(log.client.clientId, before);
  assert.equal(log.client.state, "connected");
});

test("now or never: not acknowledged, and not kept", async () => {
  const { clock, model, network, client } = world();
  const { client: one } = client();
  const early = outcome(one.publish("t", 1, { ack: false }));
  await clock.advance(10);
  const sent = [one.publish("t", 2, { ack: false }), one.chat("x", { ack: false })].map(outcome);
  await clock.advance(1);
  network.cutAll();
  await clock.advance(1000);
  assert.deepEqual([early.code, ...sent.map(({ status }) => status)], ["not_connected", "resolved", "resolved"]);
  assert.deepEqual(model.published.map(({ topic }) => topic), ["t", "room"]);
});

test("what comes to the room without a type, as text, or in bytes", async () => {
  const { clock, model, network, client } = world();
  const log = client();
  await clock.advance(10);
  for (const json of ['{"bid":1}', "[1]", "7", "null"]) model.publish("room", json);
  await clock.advance(10);
  socketOf(network).inject("not json");
  socketOf(network).inject(Uint8Array.of(1, 2).buffer);
  const data = [{ bid: 1 }, [1], 7, null, "not json", Uint8Array.of(1, 2)];
  assert.deepEqual(log.messages, data.map((each) => ({ type: "data", data: each })));
});

test("the room recovered as a topic: its messages come there, once", async () => {
  const { clock, network, client } = world();
  const [one, two] = [client(), client()];
  const heard = [];
  two.client.subscribe("room", ({ data }) => heard.push(data.text));
  await clock.advance(10);
  one.client.chat("a");
  await clock.advance(10);
  network.mode = "refuse";
  for (const socket of [...network.sockets].slice(1)) socket.cut();
  one.client.chat("b");
  await clock.advance(100);
  network.mode = "up";
  await clock.advance(1000);
  one.client.chat("c");
  await clock.advance(10);
  assert.deepEqual([heard, two.messages, two.gaps], [["a", "b", "c"], [], []]);
});

test("errors without a message are events; garbage does no harm", async () => {
  const { clock, network, client } = world();
  const log = client();
  await clock.advance(10);
  const { clientId } = log.client;
  const socket = socketOf(network);
  socket.inject({ type: "error", code: "invalid_json", message: "Invalid JSON" });
  socket.inject({ type: "error" });
  for (const garbage of [
    { type: "subscribed" }, { type: "subscribed", topics: [null] }, { type: "subscribed", topics: 7 }, { type: "ack" },
    { type: "message" }, { type: "gap", topic: 7 }, { type: "presence", joined: 7 }, { type: "user_joined" },
    { type: "pong" }, { type: "connected", clientId: "evil" },
    { type: "message", topic: "room", data: "%", encoding: "base64" },
  ]) socket.inject(garbage);
  await clock.advance(10);
  assert.deepEqual(log.errors.slice(0, 2).map(({ code, message }) => [code, message]), [
    ["invalid_json", "Invalid JSON"], ["error", "the server refused a message"],
  ]);
  assert.ok(log.errors.slice(2).every(({ code }) => code === "protocol"));
  assert.deepEqual([log.client.state, log.client.clientId, log.messages], ["connected", clientId, []]);
});

test("messages that were dropped before they came to the room are a gap of known size", async () => {
  const { clock, network, client } = world();
  const log = client();
  await clock.advance(10);
  socketOf(network).inject({ type: "gap", dropped: 3 });
  assert.deepEqual(log.gaps, [{ topic: null, epoch: null, from: null, to: null, missed: 3 }]);
});

test("a listener of a topic that throws is an error event, and the others are called", async () => {
  const { clock, model, client } = world();
  const log = client();
  const heard = [];
  log.client.subscribe("t", () => { throw new Error("mine"); });
  log.client.subscribe("t", ({ data }) => heard.push(data));
  await clock.advance(10);
  model.publish("t", "1");
  model.publish("t", "2");
  await clock.advance(10);
  assert.deepEqual(heard, [1, 2]);
  const mine = ["listener", "mine"];
  assert.deepEqual(log.errors.map(({ code, cause }) => [code, cause.message]), [mine, mine]);
});

test("a topic that is refused is told by its promise alone", async () => {
  const { clock, client } = world();
  const log = client();
  const ready = outcome(log.client.subscribe("refused", () => {}).ready);
  await clock.advance(10);
  assert.deepEqual([ready.code, ready.error.topic, log.errors], ["too_many_topics", "refused", []]);
});

test("going to another room takes along what is on its way", async () => {
  const { clock, model, client } = world();
  const log = client();
  await clock.advance(10);
  const { clientId } = log.client;
  const heard = [];
  log.client.subscribe("t", ({ data }) => heard.push(data));
  const sent = outcome(log.client.publish("t", 1));
  log.client.join("other");
  assert.equal(log.client.state, "reconnecting");
  await clock.advance(20);
  log.client.chat("here");
  await clock.advance(20);
  assert.deepEqual([log.client.room, log.client.clientId, sent.status], ["other", clientId, "resolved"]);
  assert.equal(model.published.at(-1).topic, "other");
  assert.throws(() => log.client.join(""), TypeError);
});

test("idle topics are not told of when the connection is made anew; of a restart, once each", async () => {
  const { clock, model, network, client } = world({ history: () => 0 });
  const log = client();
  const heard = [];
  for (const topic of ["idle", "busy"]) log.client.subscribe(topic, ({ data }) => heard.push(data));
  await clock.advance(10);
  model.publish("busy", "1");
  await clock.advance(10);
  for (const again of [() => log.client.join("other"), () => network.cutAll(), () => log.client.join("room")]) {
    again();
    await clock.advance(1000);
  }
  model.publish("idle", "2");
  await clock.advance(10);
  assert.deepEqual([heard, log.gaps], [[1, 2], []]);
  model.restart();
  await clock.advance(1000);
  const gaps = log.gaps.map(({ topic, from, to, missed }) => [topic, from, to, missed]);
  assert.deepEqual(gaps, [["idle", 2, null, null], ["busy", 2, null, null]]);
});

test("options are checked", () => {
  const make = (options) => () => new Uproar("ws://server/", { connect: false, WebSocket: class {}, ...options });
  for (const options of [
    { retries: 3 }, { retryBase: 0 }, { retryBase: "x" }, { queueLimit: -1 }, { maxInFlight: NaN }, { room: "" },
    { overflow: "drop" }, { unsure: true }, { identity: {} }, { identity: { clientId: "a" } },
  ]) assert.throws(make(options), TypeError, JSON.stringify(options));
  make({ retryBase: undefined, queueLimit: 0, heartbeatInterval: Infinity })();
  assert.throws(() => new Uproar("ftp://server/", { connect: false, WebSocket: class {} }), TypeError);
  assert.throws(() => new Uproar("/relative", { connect: false, WebSocket: class {} }), TypeError);
});

test("addresses and rooms", async () => {
  const { clock, network, client } = world();
  const rooms = {
    "http://server/chat": ["ws://server/chat", "chat"], "https://server/a/b%20c": ["wss://server/a/b%20c", "b c"],
    "ws://server/": ["ws://server/", "default"], "ws://server/ws": ["ws://server/ws", "default"],
    "ws://server/chat?room=x%26y#z": ["ws://server/chat?room=x%26y", "x&y"],
  };
  for (const [url, [address, room]] of Object.entries(rooms)) {
    const { client: one } = client({ url });
    assert.equal(one.room, room);
    await clock.advance(0);
    assert.equal(network.attempts.at(-1), address);
    one.close();
  }
  client({ room: "ž" });
  await clock.advance(0);
  assert.equal(network.attempts.at(-1), "ws://server/room?room=%C5%BE");
});

test("what is no server's address is named, and what is wanted", () => {
  for (const url of [undefined, null, "nope", "", "ftp://127.0.0.1/", 7]) {
    const wanted = { name: "TypeError", message: new RegExp(`^not the URL of a server: ${url}; wanted is .*ws:`) };
    assert.throws(() => new Uproar(url, { WebSocket: null }), wanted);
  }
});

test("an address at which there is no room is refused, and what is there is said", () => {
  const others = {
    "/raw/AAPL": /subscribe\(topic, listener\)/, "/raw": /subscribe/, "/raw/a/b?x=1": /subscribe/,
    "/backend": /plain WebSocket/, "/backend?key=k": /plain/, "/sse?topic=a": /sseUrl/, "/publish": /publish\(/,
  };
  const make = (path) => () => new Uproar(`http://server${path}`, { connect: false, WebSocket: class {} });
  for (const [path, message] of Object.entries(others)) assert.throws(make(path), { name: "TypeError", message }, path);
  for (const path of ["/rawhide", "/a/raw/b", "/backends", "/sses", "/publish/x", "/?room=raw"]) make(path)();
});
