import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStream } from "../src/event-stream.js";

/** The events of a stream that comes in these pieces, and the id at its end. */
function read(...pieces) {
  const events = [];
  const stream = new EventStream("before", ({ event, data }) => events.push([event, data]));
  for (const piece of pieces) stream.push(piece);
  return { events, id: stream.lastEventId };
}

const TEXT = ": a comment\nretry: 10\n\nid: 1\nevent: message\ndata: {\"a\":1}\n\n"
  + "id:2\ndata:one\ndata:  two\n\nnothing\ndata\n\n";
const EVENTS = [["message", "{\"a\":1}"], ["message", "one\n two"], ["message", ""]];

test("when to come back, if it is said after the first event: before, it is said to all", () => {
  const after = (...lines) => {
    const stream = new EventStream("", () => {});
    stream.push(lines.map((line) => `${line}\n\n`).join(""));
    return stream.after;
  };
  assert.deepEqual([after("retry: 2000", "data: a"), after("retry: 1", "data: a", "retry:1270")], [undefined, 1270]);
  assert.deepEqual([after("data: a", "retry: soon"), after("data: a", "retry: -1")], [undefined, undefined]);
});

test("events, comments, and fields that mean nothing here", () => {
  assert.deepEqual(read(TEXT), { events: EVENTS, id: "2" });
});

test("all ends of lines, and pieces of any size", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    // A \r at the very end may be half of a \r\n: more must come before it counts.
    const text = `${TEXT.replaceAll("\n", end)}:${end}`;
    for (let size = 1; size <= text.length; size++) {
      const count = Math.ceil(text.length / size);
      const pieces = Array.from({ length: count }, (_, i) => text.slice(i * size, (i + 1) * size));
      assert.deepEqual(read(...pieces), { events: EVENTS, id: "2" }, `${JSON.stringify(end)} in pieces of ${size}`);
    }
  }
});

test("names of events, ids that are kept, emptied, or none", () => {
  const { events, id } = read("event: gap\ndata: 1\n\ndata: 2\n\n");
  assert.deepEqual(events, [["gap", "1"], ["message", "2"]]);
  assert.equal(id, "before");
  assert.equal(read("id\ndata: 1\n\n").id, "");
  assert.equal(read("id: a\0b\ndata: 1\n\n").id, "before");
  assert.equal(read("id: 7\n\n").id, "7", "an id counts without data");
});

test("an event that is not complete does not count", () => {
  assert.deepEqual(read("id: 9\ndata: 1\n"), { events: [], id: "before" });
});
