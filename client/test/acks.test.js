import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Acks } from "../src/acks.js";
import { Backoff } from "../src/backoff.js";
import { Outbox } from "../src/outbox.js";
import { Pause } from "../src/pause.js";
import { FakeClock } from "./fake-clock.js";
import { outcome } from "./harness.js";

const OPTIONS = { queueLimit: 3, overflow: "reject", maxInFlight: 2, ackTimeout: 1000, unsure: "reject" };

/** An outbox, connections for it, and what they were given to send. */
function outboxOf(options) {
  const clock = new FakeClock();
  const poster = { busy: false, post() {}, cancel() {} };
  const backoff = new Backoff({ base: 200, cap: 800, random: () => 0.5 });
  const pause = new Pause(clock, backoff, () => outbox.resume());
  const outbox = new Outbox(clock, poster, pause, { ...OPTIONS, ...options });
  const sent = [];
  const transport = { kind: "websocket", buffered: 0, send: (text) => sent.push(text) };
  const connect = (known = true) => outbox.connected(transport, known);
  const send = (id, more) => outcome(outbox.send({ id, text: `text of ${id}`, post: null }, more));
  const ack = (id) => outbox.acknowledged({ type: "ack", id, topic: "t", epoch: "e", offset: 1 });
  const refuse = (id, code = "too_fast") => outbox.refused(Object.assign(new Error(code), { id, code }));
  return { clock, outbox, pause, sent, connect, send, ack, refuse };
}

test("entries expire so long after they were first sent, however often they are sent", async () => {
  const clock = new FakeClock();
  const expired = [];
  const acks = new Acks(clock, ({ id }) => expired.push([id, clock.now()]));
  const [a, b] = [{ id: "a", timeout: 100, timer: null }, { id: "b", timeout: Infinity, timer: null }];
  acks.add(a);
  acks.add(b);
  await clock.advance(60);
  assert.equal(acks.delete(a), true);
  acks.add(a);
  assert.deepEqual(acks.entries(), [b, a]);
  assert.equal(acks.get("a"), a);
  await clock.advance(1000);
  assert.deepEqual(expired, [["a", 100]]);
});

test("what is sent without a connection waits for one, and is settled by its acknowledgement", async () => {
  const { clock, outbox, sent, connect, send, ack } = outboxOf();
  const [a, b] = [send("a"), send("b")];
  assert.deepEqual([sent, outbox.pending], [[], 2]);
  connect();
  assert.deepEqual(sent, ["text of a", "text of b"]);
  ack("b");
  ack("nobody's");
  await clock.advance(0);
  assert.deepEqual(b, { status: "resolved", value: { id: "b", topic: "t", epoch: "e", offset: 1 } });
  assert.equal(a.status, "pending");
  outbox.acknowledged({ type: "ack", id: "a" });
  await clock.advance(0);
  assert.deepEqual(a.value, { id: "a" });
  assert.deepEqual([outbox.pending, clock.timers], [0, 0]);
});

test("so many are in flight, the others wait their turn, and the queue overflows", async () => {
  const { clock, sent, connect, send, ack } = outboxOf();
  connect();
  const all = ["a", "b", "c", "d", "e", "f"].map((id) => send(id));
  await clock.advance(0);
  assert.deepEqual(sent, ["text of a", "text of b"]);
  assert.deepEqual(all.map(({ code }) => code).filter(Boolean), ["queue_full"]);
  assert.equal(all[5].code, "queue_full");
  ack("a");
  ack("b");
  assert.deepEqual(sent.slice(2), ["text of c", "text of d"]);
});

test("what is dropped from the queue is rejected", async () => {
  const { clock, send } = outboxOf({ overflow: "drop-oldest" });
  const all = ["a", "b", "c", "d"].map((id) => send(id));
  await clock.advance(0);
  assert.deepEqual(all.map(({ code }) => code), ["dropped", undefined, undefined, undefined]);
});

test("what was not acknowledged is sent again, before what has not been sent yet", async () => {
  const { clock, outbox, sent, connect, send, ack } = outboxOf();
  connect();
  const [a] = ["a", "b", "c"].map((id) => send(id));
  ack("b");
  outbox.disconnected();
  send("d");
  sent.length = 0;
  connect();
  assert.deepEqual(sent, ["text of a", "text of c"]);
  ack("a");
  await clock.advance(0);
  assert.equal(a.status, "resolved");
  assert.deepEqual(sent.slice(2), ["text of d"]);
});

test("a server that has forgotten us: what may have arrived is rejected, what was not sent goes", async () => {
  const { clock, outbox, sent, connect, send } = outboxOf();
  connect();
  const [a, b, c] = ["a", "b", "c"].map((id) => send(id));
  outbox.disconnected();
  sent.length = 0;
  connect(false);
  await clock.advance(0);
  assert.deepEqual([a.code, b.code, c.status], ["unknown_outcome", "unknown_outcome", "pending"]);
  assert.deepEqual(sent, ["text of c"]);
});

test("… or sent again, if that is wanted", async () => {
  const { clock, outbox, sent, connect, send } = outboxOf({ unsure: "resend" });
  connect();
  const a = send("a");
  outbox.disconnected();
  connect(false);
  await clock.advance(0);
  assert.deepEqual(sent, ["text of a", "text of a"]);
  assert.equal(a.status, "pending");
});

test("the time-out counts from when it was first sent", async () => {
  const { clock, outbox, connect, send } = outboxOf();
  const [a, b] = [send("a"), send("b", { timeout: Infinity })];
  await clock.advance(5000);
  assert.equal(a.status, "pending");
  connect();
  await clock.advance(600);
  outbox.disconnected();
  connect();
  await clock.advance(399);
  assert.equal(a.status, "pending");
  await clock.advance(1);
  assert.equal(a.code, "timeout");
  await clock.advance(100_000);
  assert.equal(b.status, "pending");
});

test("a time-out passes while there is no connection too", async () => {
  const { clock, outbox, sent, connect, send } = outboxOf();
  connect();
  const a = send("a");
  outbox.disconnected();
  await clock.advance(1000);
  assert.equal(a.code, "timeout");
  connect();
  assert.deepEqual(sent, ["text of a"]);
});

test("a signal gives a message up: waiting, in flight, or before it began", async () => {
  const { clock, outbox, sent, connect, send } = outboxOf();
  const controllers = [new AbortController(), new AbortController(), new AbortController()];
  const [a, b] = ["a", "b"].map((id, i) => send(id, { signal: controllers[i].signal }));
  controllers[0].abort();
  connect();
  controllers[1].abort(new Error("enough"));
  controllers[2].abort();
  const c = send("c", { signal: controllers[2].signal });
  await clock.advance(0);
  assert.deepEqual(sent, ["text of b"]);
  assert.deepEqual([a.error.name, b.error.message, c.error.name], ["AbortError", "enough", "AbortError"]);
  assert.deepEqual([outbox.pending, clock.timers], [0, 0]);
  for (const { signal } of controllers) assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("an error of the server that names a message is its outcome", async () => {
  const { clock, outbox, connect, send } = outboxOf();
  connect();
  const a = send("a");
  const error = Object.assign(new Error("no"), { id: "a", code: "bad_topic" });
  assert.equal(outbox.refused(error), true);
  assert.equal(outbox.refused(error), false);
  await clock.advance(0);
  assert.equal(a.error, error);
});

test("what is refused for now is sent again after a pause, in order, before what has not been sent yet", async () => {
  for (const code of ["too_fast", "busy"]) {
    const { clock, outbox, sent, connect, send, ack, refuse } = outboxOf({ maxInFlight: 4, queueLimit: 9 });
    connect();
    const all = ["a", "b", "c", "d", "e"].map((id) => send(id));
    ack("a");
    assert.equal(sent.splice(0).length, 5);
    for (const id of ["c", "b", "d", "e"]) assert.equal(refuse(id, code), true);
    await clock.advance(99);
    assert.deepEqual([sent, outbox.pending], [[], 4]);
    await clock.advance(1);
    for (const id of ["b", "c", "d", "e"]) {
      assert.deepEqual(sent.splice(0), [`text of ${id}`], "one at a time");
      ack(id);
    }
    await clock.advance(0);
    assert.ok(all.every(({ status }) => status === "resolved"));
    assert.deepEqual([outbox.pending, clock.timers], [0, 0]);
  }
});

test("as long as it is refused, pauses are longer, and one message a pause is sent; then more and more", async () => {
  const { clock, sent, connect, send, ack, refuse } = outboxOf({ maxInFlight: 3, queueLimit: 9, ackTimeout: 9000 });
  connect();
  for (const id of ["a", "b", "c", "d", "e", "f", "g"]) send(id);
  for (const id of ["a", "b", "c"]) refuse(id);
  for (const pause of [100, 200, 400, 400]) {
    sent.length = 0;
    await clock.advance(pause);
    assert.deepEqual(sent, ["text of a"]);
    refuse("a");
  }
  await clock.advance(400);
  sent.length = 0;
  for (const [id, next] of [["a", "bc"], ["b", "de"], ["c", "f"], ["d", "g"]]) {
    await clock.advance(60);
    ack(id);
    assert.deepEqual(sent.splice(0), [...next].map((each) => `text of ${each}`), "one more in flight, up to three");
  }
  refuse("e");
  await clock.advance(100);
  assert.deepEqual(sent, [], "what is in flight yet is waited for");
  ack("g");
  ack("f");
  assert.deepEqual(sent, ["text of e"]);
});

test("what is refused until its time is over is rejected with that; it is known not to be there", async () => {
  const { clock, outbox, connect, send, refuse } = outboxOf();
  connect();
  const a = send("a");
  for (let i = 0; i < 9; i++) {
    refuse("a");
    await clock.advance(100);
  }
  outbox.disconnected(1006);
  connect(false);
  await clock.advance(99);
  assert.equal(a.status, "pending", "a server that has forgotten us cannot have it");
  refuse("a");
  await clock.advance(1);
  assert.deepEqual([a.code, outbox.pending], ["too_fast", 0]);
});

test("… but if it was sent before, and that was not answered, nobody knows", async () => {
  const { clock, outbox, sent, connect, send, refuse } = outboxOf();
  connect();
  const [a, b] = [send("a"), send("b")];
  outbox.disconnected(1006);
  connect();
  refuse("a");
  refuse("b");
  await clock.advance(999);
  assert.equal(sent.length, 5);
  await clock.advance(1);
  assert.deepEqual([a.code, b.code], ["timeout", "timeout"]);
});

test("what is refused and given up leaves nothing; an acknowledgement of it counts", async () => {
  const { clock, outbox, pause, sent, connect, send, ack, refuse } = outboxOf();
  connect();
  const controller = new AbortController();
  const [a, b] = [send("a", { signal: controller.signal }), send("b")];
  refuse("a");
  refuse("b");
  controller.abort();
  ack("b");
  await clock.advance(1000);
  assert.deepEqual([a.error.name, b.status, sent.length, outbox.pending], ["AbortError", "resolved", 2, 0]);
  const c = send("c");
  refuse("c");
  outbox.close(Object.assign(new Error("over"), { code: "closed" }));
  pause.cancel();
  await clock.advance(0);
  assert.deepEqual([c.code, outbox.pending, clock.timers], ["closed", 0, 0]);
});

test("a connection lost with some refused and some in flight: all in order on the next one", async () => {
  const { clock, outbox, sent, connect, send, ack, refuse } = outboxOf({ maxInFlight: 4 });
  connect();
  for (const id of ["a", "b", "c", "d", "e"]) send(id);
  refuse("b");
  ack("a");
  outbox.disconnected(1008);
  sent.length = 0;
  await clock.advance(1000 - 1);
  connect();
  for (const id of ["b", "c", "d", "e"]) {
    assert.deepEqual(sent.splice(0), [`text of ${id}`], "one at a time, after 1008");
    ack(id);
  }
});

test("now or never is never while there is a pause", async () => {
  const { clock, outbox, sent, connect, send, refuse } = outboxOf();
  connect();
  send("a");
  refuse("a");
  const never = outcome(outbox.sendNow("one"));
  await clock.advance(100);
  const now = outcome(outbox.sendNow("two"));
  await clock.advance(0);
  assert.deepEqual([never.code, now.status], ["too_fast", "resolved"]);
  assert.deepEqual(sent, ["text of a", "text of a", "two"]);
});

test("an id is used by one message at a time, and is what an id can be", async () => {
  const { clock, connect, send, ack } = outboxOf();
  const [a, again, bad, long] = [send("a"), send("a"), send(""), send("ž".repeat(65))];
  connect();
  const third = send("a");
  await clock.advance(0);
  assert.deepEqual([again.code, third.code], ["duplicate_id", "duplicate_id"]);
  assert.ok(bad.error instanceof TypeError && long.error instanceof TypeError);
  ack("a");
  await clock.advance(0);
  assert.equal(a.status, "resolved");
  assert.equal(send("a").status, "pending");
});

test("the message that closed the connection by its size is not sent again: it is the largest", async () => {
  const { clock, outbox, sent, connect } = outboxOf({ maxInFlight: 9 });
  connect();
  const send = (id, text) => outcome(outbox.send({ id, text, post: null }));
  const [a, b, c] = [send("a", "x".repeat(15)), send("b", "ž".repeat(10)), send("c", "y")];
  outbox.disconnected(1009);
  sent.length = 0;
  connect();
  await clock.advance(0);
  assert.deepEqual([a.status, b.code, c.status], ["pending", "too_large", "pending"]);
  assert.deepEqual(sent, ["x".repeat(15), "y"]);
});

test("a message that the server skipped for its size is the largest: the server could tell no id", async () => {
  const { clock, outbox, connect } = outboxOf({ maxInFlight: 9 });
  connect();
  const send = (id, text) => outcome(outbox.send({ id, text, post: null }));
  const [a, b, c] = [send("a", "x".repeat(15)), send("b", "ž".repeat(10)), send("c", "y")];
  assert.equal(outbox.refused({ code: "too_large", id: undefined }), true);
  await clock.advance(0);
  assert.deepEqual([a.status, b.code, c.status], ["pending", "too_large", "pending"]);
  assert.equal(outbox.refused({ code: "invalid_json", id: undefined }), false);
});

test("what the server says of the size that it takes is in the error", async () => {
  const { clock, outbox, connect, send } = outboxOf();
  const limit = "Message too large: at most 65536 bytes";
  const outcomes = [];
  for (const end of [
    () => outbox.refused({ code: "too_large", message: limit }),
    () => outbox.refused({ code: "too_large", message: "" }),
    () => outbox.disconnected(1009, limit), () => outbox.disconnected(1009, ""), () => outbox.disconnected(1009),
  ]) {
    connect();
    outcomes.push(send("a"));
    end();
    await clock.advance(0);
  }
  const own = "the message is larger than the server takes";
  assert.deepEqual(outcomes.map(({ code, error }) => [code, error.message]), [
    ["too_large", limit], ["too_large", own], ["too_large", limit], ["too_large", own], ["too_large", own],
  ]);
});

test("closing rejects everything, and leaves nothing", async () => {
  const { clock, outbox, connect, send } = outboxOf();
  connect();
  const all = ["a", "b", "c"].map((id) => send(id));
  outbox.close(Object.assign(new Error("over"), { code: "closed" }));
  all.push(send("d"));
  await clock.advance(0);
  assert.deepEqual(all.map(({ code }) => code), ["closed", "closed", "closed", "closed"]);
  assert.deepEqual([outbox.pending, clock.timers], [0, 0]);
  outbox.open();
  assert.equal(send("e").status, "pending");
});

test("now or never", async () => {
  const { clock, outbox, sent } = outboxOf();
  const never = outcome(outbox.sendNow("one"));
  const transport = { kind: "websocket", buffered: 0, send: (text) => sent.push(text) };
  outbox.connected(transport, true);
  const now = outcome(outbox.sendNow("two"));
  transport.buffered = 2 ** 21;
  const slow = outcome(outbox.sendNow("three"));
  await clock.advance(0);
  assert.deepEqual([never.code, now.status, slow.code], ["not_connected", "resolved", "dropped"]);
  assert.deepEqual([sent, outbox.pending], [["two"], 0]);
});
