import assert from "node:assert/strict";
import { test } from "node:test";
import { Emitter } from "../src/emitter.js";
import { settle } from "./fake-clock.js";

const emitter = () => new Emitter(["a", "error"]);

/** What is thrown with nobody to catch it while `act` runs. */
async function uncaught(act) {
  const caught = [];
  const own = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => caught.push(error.message));
  try {
    await act();
    await settle();
  } finally {
    process.removeAllListeners("uncaughtException");
    for (const listener of own) process.on("uncaughtException", listener);
  }
  return caught;
}

test("listeners are called in order until they are taken away, one of each time they were added", () => {
  const events = emitter();
  const heard = [];
  const note = (value) => heard.push(value);
  const [first] = [events.on("a", note), events.on("a", note), events.on("a", (value) => heard.push(-value))];
  events.emit("a", 1);
  first();
  first();
  events.emit("a", 2);
  assert.deepEqual(heard, [1, 1, -1, 2, -2]);
  assert.equal(events.count("a"), 2);
});

test("a listener that is taken away by another is not called, one that is added is called the next time", () => {
  const events = emitter();
  const heard = [];
  events.on("a", () => {
    off();
    events.on("a", () => heard.push("new"));
  });
  const off = events.on("a", () => heard.push("old"));
  events.emit("a");
  assert.deepEqual(heard, []);
  events.emit("a");
  assert.deepEqual(heard, ["new"]);
});

test("a listener that throws or rejects is reported, and the others are called", async () => {
  const events = emitter();
  const [heard, errors] = [[], []];
  events.on("error", (error) => errors.push([error.code, error.cause.message]));
  events.on("a", () => { throw new Error("thrown"); });
  events.on("a", async () => { throw new Error("rejected"); });
  events.on("a", () => heard.push("called"));
  events.emit("a");
  await settle();
  assert.deepEqual(heard, ["called"]);
  assert.deepEqual(errors, [["listener", "thrown"], ["listener", "rejected"]]);
});

test("without a listener of errors it is uncaught, and so is what that one throws", async () => {
  const events = emitter();
  const heard = [];
  events.on("a", () => { throw new Error("of a"); });
  events.on("a", () => heard.push("called"));
  assert.deepEqual(await uncaught(() => events.emit("a")), ["of a"]);
  events.on("error", () => { throw new Error("of error"); });
  assert.deepEqual(await uncaught(() => events.emit("a")), ["of error"]);
  assert.deepEqual(heard, ["called", "called"]);
});

test("there is no listening to what never happens, nor with what is no function", () => {
  assert.throws(() => emitter().on("messages", () => {}), /no event "messages"; there are a, error/);
  assert.throws(() => emitter().on("a", {}), TypeError);
});
