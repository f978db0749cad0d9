import assert from "node:assert/strict";
import { test } from "node:test";
import { Position } from "../src/position.js";
import { seeded } from "./random.js";

const begun = (offset, epoch = "e") => {
  const position = new Position();
  position.begin(epoch, offset, false);
  return position;
};
const delivered = (position, ...offsets) => offsets.filter((offset) => position.take("e", offset).deliver);

test("nothing is known before the first answer", () => {
  assert.equal(new Position().since, null);
  assert.deepEqual(begun(7).since, { epoch: "e", offset: 7 });
});

test("messages in order are delivered once, without gaps", () => {
  const position = begun(0);
  for (const offset of [1, 2, 3]) assert.deepEqual(position.take("e", offset), { deliver: true, gaps: [] });
  assert.deepEqual(delivered(position, 1, 2, 3), []);
  assert.deepEqual(delivered(position, 4), [4]);
});

test("a hole in the offsets is a gap", () => {
  const position = begun(2);
  assert.deepEqual(position.take("e", 6), { deliver: true, gaps: [{ epoch: "e", from: 3, to: 5 }] });
  assert.deepEqual(position.take("e", 7), { deliver: true, gaps: [] });
});

test("going on where it was: what the server repeats is not delivered again", () => {
  const position = begun(0);
  delivered(position, 1, 2, 3);
  assert.deepEqual(position.begin("e", 6, true), []);
  assert.deepEqual(delivered(position, 2, 3, 4, 5, 6), [4, 5, 6]);
});

test("what history does not hold is a gap, told once", () => {
  const position = begun(3);
  position.begin("e", 9, true);
  assert.deepEqual(position.skip("e", 4, 7), [{ epoch: "e", from: 4, to: 7 }]);
  assert.deepEqual(position.skip("e", 4, 7), []);
  assert.deepEqual(position.take("e", 8), { deliver: true, gaps: [] });
});

test("a gap that begins later than what we have takes what lies between", () => {
  const position = begun(3);
  assert.deepEqual(position.skip("e", 6, 7), [{ epoch: "e", from: 4, to: 7 }]);
});

test("another epoch: nobody knows how much of the old one is missed, and the new one is from its beginning", () => {
  const position = begun(3);
  assert.deepEqual(position.begin("f", 5, true), [{ epoch: "e", from: 4, to: null }]);
  assert.deepEqual(position.skip("f", 1, 4), [{ epoch: "f", from: 1, to: 4 }]);
  assert.deepEqual(position.take("f", 5), { deliver: true, gaps: [] });
});

test("another epoch that only a message tells of", () => {
  const position = begun(3);
  const gaps = [{ epoch: "e", from: 4, to: null }, { epoch: "f", from: 1, to: 1 }];
  assert.deepEqual(position.take("f", 2), { deliver: true, gaps });
});

test("who does not want to recover goes on with what is new, without a gap", () => {
  const position = begun(3);
  assert.deepEqual(position.begin("e", 9, false), []);
  assert.deepEqual(position.take("e", 10), { deliver: true, gaps: [] });
  assert.deepEqual(position.begin("f", 1, false), []);
  assert.deepEqual(position.take("f", 2), { deliver: true, gaps: [] });
});

test("an epoch that goes back is not believed to be the same", () => {
  const position = begun(9);
  assert.deepEqual(position.begin("e", 4, true), [{ epoch: "e", from: 10, to: null }]);
  assert.deepEqual(position.take("e", 5), { deliver: true, gaps: [] });
});

test("a snapshot is delivered beside the stream, and once", () => {
  const position = begun(5);
  assert.equal(position.take("e", 5, true).deliver, true);
  assert.equal(position.take("e", 5, true).deliver, false);
  assert.deepEqual(position.take("e", 6), { deliver: true, gaps: [] });
  position.begin("e", 8, false);
  assert.equal(position.take("e", 8, true).deliver, true);
  assert.deepEqual(delivered(position, 8, 9), [9]);
});

test("a snapshot takes no message's place", () => {
  const position = begun(5);
  position.begin("e", 8, true);
  assert.equal(position.take("e", 8, true).deliver, true);
  assert.deepEqual(delivered(position, 6, 7, 8), [6, 7, 8]);
});

test("without an answer of the server, the first message is where it begins", () => {
  const position = new Position();
  assert.deepEqual(position.take("e", 40), { deliver: true, gaps: [] });
  assert.deepEqual(position.take("e", 42), { deliver: true, gaps: [{ epoch: "e", from: 41, to: 41 }] });
  assert.deepEqual(new Position().skip("e", 5, 6), [{ epoch: "e", from: 5, to: 6 }]);
});

/** Each offset of the epoch, by how often it was delivered and how often it was in a gap. */
function tally(position, count, next) {
  const had = new Map();
  const note = (from, to, what) => {
    for (let offset = from; offset <= to; offset++) had.set(offset, (had.get(offset) ?? "") + what);
  };
  for (let i = 0; i < count; i++) {
    const { offset, deliver, gaps } = next();
    for (const { from, to } of gaps) note(from, to, "g");
    if (deliver) note(offset, offset, "d");
  }
  return had;
}

test("whatever comes, each message is delivered once or within a gap, and nothing is both", () => {
  const random = seeded(7);
  for (let round = 0; round < 300; round++) {
    const position = begun(0);
    const had = tally(position, 60, () => {
      const offset = Math.max(1, position.offset + Math.floor(random() * 7) - 3);
      if (random() < 0.2) return { gaps: position.skip("e", Math.max(1, offset - 2), offset) };
      return { offset, ...position.take("e", offset) };
    });
    assert.equal(had.size, position.offset);
    for (const [offset, times] of had) assert.match(times, /^[dg]$/, `${offset}`);
  }
});
