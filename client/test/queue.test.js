import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../src/queue.js";

const entry = (id) => ({ id, number: id.charCodeAt(0) });
const ids = (queue) => queue.entries().map(({ id }) => id);

test("first in, first out", () => {
  const queue = new Queue(3, "reject");
  for (const id of ["a", "b", "c"]) assert.equal(queue.push(entry(id)), null);
  assert.equal(queue.size, 3);
  assert.equal(queue.shift().id, "a");
  assert.deepEqual(ids(queue), ["b", "c"]);
  assert.ok(queue.has("b") && !queue.has("a"));
});

test("what a full queue does with one more", () => {
  const full = (overflow) => {
    const queue = new Queue(2, overflow);
    queue.push(entry("a"));
    queue.push(entry("b"));
    const { entry: loser, code } = queue.push(entry("c"));
    return [ids(queue).join(""), loser.id, code];
  };
  assert.deepEqual(full("reject"), ["ab", "c", "queue_full"]);
  assert.deepEqual(full("drop-newest"), ["ab", "c", "dropped"]);
  assert.deepEqual(full("drop-oldest"), ["bc", "a", "dropped"]);
});

test("a queue of no room takes nothing", () => {
  for (const overflow of ["reject", "drop-newest", "drop-oldest"]) {
    const queue = new Queue(0, overflow);
    assert.equal(queue.push(entry("a")).entry.id, "a");
    assert.equal(queue.size, 0);
  }
});

test("what is put back goes where it was, beyond the limit", () => {
  const queue = new Queue(2, "reject");
  queue.push(entry("c"));
  queue.push(entry("d"));
  queue.putBack([entry("a"), entry("b")]);
  assert.deepEqual(ids(queue), ["a", "b", "c", "d"]);
  assert.equal(queue.push(entry("e")).code, "queue_full");
  const [a, b] = [queue.shift(), queue.shift()];
  queue.putBack([b]);
  queue.putBack([a]);
  assert.deepEqual(ids(queue), ["a", "b", "c", "d"]);
});

test("an entry may be taken from the middle", () => {
  const queue = new Queue(3, "reject");
  const entries = ["a", "b", "c"].map(entry);
  for (const each of entries) queue.push(each);
  assert.equal(queue.delete(entries[1]), true);
  assert.equal(queue.delete(entries[1]), false);
  assert.deepEqual(ids(queue), ["a", "c"]);
  assert.equal(new Queue(1, "reject").shift(), undefined);
});
