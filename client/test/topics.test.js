import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";
import { idSource } from "../src/ids.js";
import { Pause } from "../src/pause.js";
import { Postponed } from "../src/postponed.js";
import { Topics } from "../src/topics.js";
import { FakeClock, settle } from "./fake-clock.js";
import { outcome } from "./harness.js";

/** Topics on a transport that only notes what is asked; `answer` is what the server would say. */
function topicsOn() {
  const log = { asked: [], gaps: [], errors: [], heard: [], retries: [] };
  const error = (each) => log.errors.push(each);
  const retry = (each) => log.retries.push(each);
  const hooks = { gap: (gap) => log.gaps.push(gap), error, thrown: error, retry };
  const clock = new FakeClock();
  const backoff = (base, cap) => new Backoff({ base, cap, random: () => 0.5 });
  const pause = new Pause(clock, backoff(200, 800), () => topics.resume());
  const postponed = new Postponed(clock, backoff(2000, 8000), (names) => topics.askAgain(names));
  const topics = new Topics(idSource("id"), pause, postponed, hooks);
  const transport = {
    subscribe: (names, since, id) => {
      log.id = id;
      log.asked.push(["+", names.join(), since]);
    },
    unsubscribe: (names) => log.asked.push(["-", names.join()]),
  };
  const note = ({ topic, offset, data }) => log.heard.push([topic, offset, data]);
  const add = (topic, recover, history) => topics.add(topic, note, { recover, history });
  const answer = (topic, offset, epoch = "e") => topics.subscribed({ topics: [{ topic, ok: true, epoch, offset }] });
  const say = (topic, offset, more) => topics.message({ topic, epoch: "e", offset, data: offset * 10, ...more });
  const asked = async () => {
    await settle();
    return log.asked.splice(0);
  };
  return { clock, topics, transport, log, add, answer, say, asked };
}

test("what is asked in one turn goes out together; several listeners share a subscription", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  const [off] = [add("a"), add("a"), add("b")];
  assert.deepEqual(await asked(), [["+", "a,b", {}]]);
  answer("a", 0);
  say("a", 1);
  assert.deepEqual(log.heard, [["a", 1, 10], ["a", 1, 10]]);
  off();
  off();
  assert.deepEqual(await asked(), []);
  say("a", 2);
  assert.equal(log.heard.length, 3);
});

test("the last listener to go unsubscribes; who goes and comes within a turn is not noticed", async () => {
  const { topics, transport, add, answer, say, log, asked } = topicsOn();
  topics.connected(transport);
  const off = add("a");
  await asked();
  answer("a", 0);
  off();
  const again = add("a");
  assert.deepEqual(await asked(), []);
  say("a", 1);
  assert.deepEqual(log.heard, [["a", 1, 10]]);
  again();
  assert.deepEqual(await asked(), [["-", "a"]]);
  assert.equal(say("a", 2), false);
  assert.deepEqual(topics.names(), []);
});

test("nothing is said before there is a connection, nor of what came and went meanwhile", async () => {
  const { topics, transport, add, asked } = topicsOn();
  add("a");
  add("b")();
  assert.deepEqual(await asked(), []);
  topics.connected(transport);
  assert.deepEqual(await asked(), [["+", "a", {}]]);
});

test("a request that came too fast is made again after a pause, for what is still wanted", async () => {
  const { clock, topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  const off = add("b");
  await asked();
  const first = log.id;
  add("c");
  await asked();
  const error = Object.assign(new Error("wait"), { code: "too_fast", id: first });
  assert.equal(topics.refused(error), true);
  assert.equal(topics.refused(error), false);
  assert.equal(topics.refused(Object.assign(new Error("no"), { code: "bad_since", id: log.id })), false);
  off();
  add("d");
  answer("c", 0);
  await clock.advance(99);
  assert.deepEqual(await asked(), [], "not in a pause");
  await clock.advance(1);
  assert.deepEqual(await asked(), [["+", "a,d", {}]]);
  for (const topic of ["a", "d"]) answer(topic, 0);
  say("a", 1);
  assert.deepEqual(log.heard, [["a", 1, 10]]);
});

test("of two requests for one topic, one of which is refused, the last one's answer counts", async () => {
  for (const isFirst of [true, false]) {
    const { clock, topics, transport, log, add, answer, say, asked } = topicsOn();
    topics.connected(transport);
    const off = add("a");
    await asked();
    const ids = [log.id];
    off();
    await asked();
    add("a");
    await asked();
    ids.push(log.id);
    assert.equal(topics.refused({ code: "too_fast", id: ids[isFirst ? 0 : 1] }), true);
    answer("a", 7);
    say("a", 8);
    assert.deepEqual(log.heard, isFirst ? [["a", 8, 80]] : []);
    await clock.advance(100);
    assert.deepEqual(await asked(), isFirst ? [] : [["+", "a", {}]]);
    answer("a", 8);
    say("a", 9);
    assert.deepEqual(log.heard.at(-1), ["a", 9, 90]);
  }
});

test("many topics go in several requests", async () => {
  const { topics, transport, add, asked } = topicsOn();
  topics.connected(transport);
  for (let i = 0; i < 600; i++) add(`t${i}`);
  const sizes = (await asked()).map(([, names]) => names.split(",").length);
  assert.deepEqual(sizes, [256, 256, 88]);
});

test("with history, it begins with all that the server holds, and tells what it does not", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a", true, true);
  assert.deepEqual(await asked(), [["+", "a", { a: { epoch: "", offset: 0 } }]]);
  answer("a", 5);
  topics.gap({ topic: "a", epoch: "e", from: 1, to: 3 });
  for (const offset of [4, 5, 6]) say("a", offset);
  assert.deepEqual(log.heard.map(([, offset]) => offset), [4, 5, 6]);
  assert.deepEqual(log.gaps, [{ topic: "a", epoch: "e", from: 1, to: 3, missed: 3 }]);
  topics.disconnected();
  topics.connected(transport);
  assert.deepEqual(await asked(), [["+", "a", { a: { epoch: "e", offset: 6 } }]]);
});

test("with history of a topic that nobody has used, it begins at 1, without a gap", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a", true, true);
  await asked();
  answer("a", 0);
  say("a", 1);
  assert.deepEqual([log.heard.length, log.gaps], [1, []]);
});

test("after a reconnection each topic goes on where it was", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  add("b");
  add("c", false);
  await asked();
  for (const topic of ["a", "c"]) answer(topic, 5);
  say("a", 6);
  say("c", 6);
  topics.disconnected();
  assert.equal(say("a", 7), true);
  topics.connected(transport);
  assert.deepEqual(await asked(), [["+", "a,b,c", { a: { epoch: "e", offset: 6 } }]]);
  answer("a", 8);
  say("a", 7);
  say("a", 8);
  answer("c", 9);
  say("c", 10);
  assert.deepEqual(log.heard, [["a", 6, 60], ["c", 6, 60], ["a", 7, 70], ["a", 8, 80], ["c", 10, 100]]);
  assert.deepEqual(log.gaps, []);
});

test("gaps: told by the server, seen in the offsets, and of an epoch that is over", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  await asked();
  answer("a", 1);
  say("a", 4);
  topics.disconnected();
  topics.connected(transport);
  answer("a", 9);
  topics.gap({ topic: "a", epoch: "e", from: 5, to: 8 });
  say("a", 9);
  topics.disconnected();
  topics.connected(transport);
  answer("a", 0, "f");
  say("a", 1, { epoch: "f" });
  topics.gap({ topic: "nobody's", epoch: "e", from: 1, to: 1 });
  assert.deepEqual(log.gaps, [
    { topic: "a", epoch: "e", from: 2, to: 3, missed: 2 },
    { topic: "a", epoch: "e", from: 5, to: 8, missed: 4 },
    { topic: "a", epoch: "e", from: 10, to: null, missed: null },
  ]);
  assert.deepEqual(log.heard.map(([, offset]) => offset), [4, 9, 1]);
});

test("idle topics after a reconnection: nothing in the same epoch, one gap each in another", async () => {
  const { topics, transport, log, add, answer, asked } = topicsOn();
  const names = Array.from({ length: 3000 }, (_, i) => `t${i}`);
  for (const name of names) add(name);
  const connection = async (epoch) => {
    topics.disconnected();
    topics.connected(transport);
    const requests = await asked();
    for (const name of names) {
      answer(name, 0, epoch);
      if (epoch !== "e") topics.gap({ topic: name, epoch, reset: true }); // said twice, and told once
    }
    return [requests.length, log.gaps.splice(0)];
  };
  for (let i = 0; i < 3; i++) assert.deepEqual(await connection("e"), [12, []]);
  const open = (epoch) => names.map((topic) => ({ topic, epoch, from: 1, to: null, missed: null }));
  assert.deepEqual(await connection("f"), [12, open("e")]);
  assert.deepEqual(await connection("f"), [12, []]);
  assert.deepEqual(await connection("g"), [12, open("f")], "for each time that it was begun anew");
});

test("a topic that was begun anew, told by a gap alone, as on an event stream", async () => {
  const { topics, transport, log, add, say, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  await asked();
  topics.subscribed({ topics: [{ topic: "a", ok: true }] });
  const reset = (epoch, more) => topics.gap({ topic: "a", epoch, reset: true, ...more });
  reset("e");
  say("a", 1);
  reset("e");
  reset("f");
  say("a", 1, { epoch: "f" });
  reset("g", { from: 1, to: 4 });
  say("a", 5, { epoch: "g" });
  for (const epoch of [undefined, 7, null]) reset(epoch);
  assert.deepEqual(log.gaps.map(({ topic, ...gap }) => gap), [
    { epoch: "e", from: 2, to: null, missed: null },
    { epoch: "f", from: 2, to: null, missed: null },
    { epoch: "g", from: 1, to: 4, missed: 4 },
  ]);
  assert.deepEqual(log.heard.map(([, offset]) => offset), [1, 1, 5]);
});

test("only the answer to the last request counts", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a")();
  const first = add("a");
  await asked();
  first();
  await asked();
  add("a");
  assert.deepEqual(await asked(), [["+", "a", {}]]);
  answer("a", 3); // to the first
  say("a", 4);
  topics.subscribed({ topics: [{ topic: "a", ok: true, epoch: "e", offset: 9 }] });
  say("a", 10);
  answer("a", 2); // to nothing
  say("a", 11);
  assert.deepEqual(log.heard.map(([, offset]) => offset), [10, 11]);
  assert.deepEqual(log.gaps, []);
});

test("a refusal is told, and tried again on another connection or when somebody asks", async () => {
  const { topics, transport, log, add, answer, asked } = topicsOn();
  const refuse = () => topics.subscribed({ topics: [{ topic: "a", ok: false, error: "too_many_topics" }] });
  topics.connected(transport);
  const ready = outcome(add("a").ready);
  await asked();
  refuse();
  await settle();
  assert.deepEqual([ready.code, ready.error.topic, log.errors], ["too_many_topics", "a", []], "told once");
  assert.deepEqual(await asked(), []);
  const again = outcome(add("a").ready);
  assert.deepEqual(await asked(), [["+", "a", {}]]);
  refuse();
  topics.disconnected();
  topics.connected(transport);
  assert.deepEqual(await asked(), [["+", "a", {}]]);
  answer("a", 0);
  await settle();
  assert.equal(again.status, "rejected");
  assert.deepEqual(await add("a").ready, { topic: "a", epoch: "e", offset: 0 });
});

test("a topic that was granted and is refused on another connection is an error event, once", async () => {
  const { topics, transport, log, add, answer, asked } = topicsOn();
  const anew = async () => {
    topics.disconnected();
    topics.connected(transport);
    await asked();
  };
  const refuse = () => topics.subscribed({ topics: [{ topic: "a", ok: false, error: "too_many_topics" }] });
  topics.connected(transport);
  const ready = outcome(add("a").ready);
  await asked();
  answer("a", 0);
  for (let i = 0; i < 3; i++) {
    await anew();
    refuse();
  }
  assert.deepEqual([ready.status, log.errors.map(({ topic }) => topic)], ["resolved", ["a"]]);
  await anew();
  answer("a", 0);
  await anew();
  refuse();
  assert.deepEqual(log.errors.map(({ code }) => code), ["too_many_topics", "too_many_topics"]);
});

const busy = (...names) => ({ topics: names.map((topic) => ({ topic, ok: false, error: "busy" })) });

test("busy is no refusal: it is asked for again, after longer and longer pauses, until it is granted or refused", async () => {
  const { clock, topics, transport, log, add, answer, asked } = topicsOn();
  topics.connected(transport);
  const ready = ["a", "b", "c"].map((topic) => outcome(add(topic).ready));
  await asked();
  answer("c", 0);
  for (const pause of [1000, 2000, 4000, 4000]) {
    topics.subscribed(busy("a", "b"));
    await clock.advance(pause - 1);
    assert.deepEqual(await asked(), [], `not before ${pause} ms`);
    await clock.advance(1);
    assert.deepEqual(await asked(), [["+", "a,b", {}]]);
  }
  assert.deepEqual(log.retries.map(({ attempt, delay }) => [attempt, delay]), [[1, 1000], [2, 2000], [3, 4000], [4, 4000]]);
  const { error, topics: told } = log.retries[0];
  assert.deepEqual([error.code, error.topic, told], ["busy", undefined, ["a", "b"]]);
  answer("a", 3);
  topics.subscribed({ topics: [{ topic: "b", ok: false, error: "not_allowed" }] });
  await settle();
  assert.deepEqual(ready.map(({ status, code }) => code ?? status), ["resolved", "not_allowed", "resolved"]);
  assert.deepEqual([log.errors, clock.timers], [[], 0]);
  add("d");
  await asked();
  topics.subscribed(busy("d"));
  const { delay, error: { topic }, attempt } = log.retries.at(-1);
  assert.deepEqual([attempt, delay, topic], [1, 1000, "d"], "after all are answered, a pause is short again");
});

test("busy: what joins a pause waits for the rest of it; others do not wait", async () => {
  const { clock, topics, transport, log, add, answer, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  await asked();
  topics.subscribed(busy("a"));
  await clock.advance(400);
  add("b");
  add("c");
  add("a");
  assert.deepEqual(await asked(), [["+", "b,c", {}]], "another listener is no reason to hurry");
  answer("b", 0);
  topics.subscribed(busy("c"));
  assert.deepEqual(log.retries.map(({ attempt, delay, topics: told }) => [attempt, delay, told]),
    [[1, 1000, ["a"]], [1, 600, ["c"]]]);
  await clock.advance(600);
  assert.deepEqual(await asked(), [["+", "a,c", {}]]);
});

test("busy, of what was granted: it goes on where it was, and no error is told", async () => {
  const { clock, topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  await asked();
  answer("a", 5);
  say("a", 6);
  topics.disconnected();
  topics.connected(transport);
  await asked();
  topics.subscribed(busy("a"));
  await clock.advance(500);
  topics.disconnected();
  assert.equal(clock.timers, 0, "without a connection, nothing is asked");
  topics.connected(transport);
  assert.deepEqual(await asked(), [["+", "a", { a: { epoch: "e", offset: 6 } }]], "on another, at once");
  topics.subscribed(busy("a"));
  assert.equal(log.retries.at(-1).delay, 2000, "but not as if nothing had been");
  await clock.advance(2000);
  assert.deepEqual(await asked(), [["+", "a", { a: { epoch: "e", offset: 6 } }]]);
  answer("a", 8);
  for (const offset of [7, 8, 9]) say("a", offset);
  assert.deepEqual(log.heard.map(([, offset]) => offset), [6, 7, 8, 9]);
  assert.deepEqual([log.errors, log.gaps], [[], []]);
});

test("busy: who ends the subscription, or closes, is not asked for", async () => {
  const { clock, topics, transport, add, asked } = topicsOn();
  topics.connected(transport);
  const off = add("a");
  const ready = [off, add("b")].map((each) => outcome(each.ready));
  await asked();
  topics.subscribed(busy("a", "b"));
  off();
  await clock.advance(1000);
  assert.deepEqual(await asked(), [["+", "b", {}]], "nor unsubscribed from");
  topics.subscribed(busy("b"));
  topics.close(Object.assign(new Error(), { code: "closed" }));
  await settle();
  assert.deepEqual([ready.map(({ code }) => code), clock.timers], [["unsubscribed", "closed"], 0]);
});

test("ready: resolved by the answer, rejected by an early end or a close", async () => {
  const { topics, transport, add, answer, asked } = topicsOn();
  topics.connected(transport);
  const [a, b, c] = ["a", "b", "c"].map((topic) => add(topic));
  const ready = [a, b, c].map(({ ready }) => outcome(ready));
  await asked();
  answer("a", 7);
  b();
  await asked();
  topics.close(Object.assign(new Error(), { code: "closed" }));
  await settle();
  assert.deepEqual(ready[0].value, { topic: "a", epoch: "e", offset: 7 });
  assert.deepEqual([ready[1].code, ready[2].code], ["unsubscribed", "closed"]);
});

test("data: JSON, bytes, and a snapshot", async () => {
  const { topics, transport, add, answer, asked } = topicsOn();
  const seen = [];
  topics.connected(transport);
  add("a");
  topics.add("a", (message) => seen.push(message));
  await asked();
  answer("a", 1);
  topics.message({ topic: "a", epoch: "e", offset: 1, data: { x: 1 }, snapshot: true });
  topics.message({ topic: "a", epoch: "e", offset: 2, data: "AAH/", encoding: "base64" });
  assert.deepEqual(seen, [
    { topic: "a", epoch: "e", offset: 1, data: { x: 1 }, snapshot: true },
    { topic: "a", epoch: "e", offset: 2, data: Uint8Array.of(0, 1, 255) },
  ]);
});

test("names like those of an object's own members are topics like others", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  for (const topic of ["__proto__", "constructor"]) add(topic);
  topics.connected(transport);
  await asked();
  for (const topic of ["__proto__", "constructor"]) answer(topic, 0);
  say("__proto__", 1);
  topics.disconnected();
  topics.connected(transport);
  const [[, , since]] = await asked();
  const expected = '{"__proto__":{"epoch":"e","offset":1},"constructor":{"epoch":"e","offset":0}}';
  assert.equal(JSON.stringify(since), expected);
  assert.deepEqual(log.heard, [["__proto__", 1, 10]]);
});

test("what a server must not say is an error, or nothing", async () => {
  const { topics, transport, log, add, answer, say, asked } = topicsOn();
  topics.connected(transport);
  add("a");
  await asked();
  answer("a", 0);
  for (const offset of [undefined, -1, 1.5, "1", 2 ** 53]) say("a", offset);
  say("a", 1, { epoch: 7 });
  topics.subscribed({});
  topics.gap({ topic: "a", epoch: "e", from: "x", to: 3 });
  say("a", 1);
  assert.deepEqual(log.errors.map(({ code }) => code), Array(6).fill("protocol"));
  assert.deepEqual(log.heard, [["a", 1, 10]]);
});

test("what cannot be a topic, and what cannot be a listener", () => {
  const { topics, add } = topicsOn();
  for (const name of ["", "\0x", "ž".repeat(129), 7, undefined]) assert.throws(() => add(name), TypeError);
  assert.throws(() => topics.add("a", undefined), TypeError);
  assert.deepEqual(topics.names(), []);
  add("ž".repeat(128));
});
