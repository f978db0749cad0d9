import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";
import { isForNow, Pause } from "../src/pause.js";
import { FakeClock } from "./fake-clock.js";

test("it is longer each time, up to the cap, and a short one again after a reset", async () => {
  const clock = new FakeClock();
  const ends = [];
  const pause = new Pause(clock, new Backoff({ base: 200, cap: 800, random: () => 0.5 }), () => ends.push(clock.now()));
  for (const length of [100, 200, 400, 400]) {
    const begun = clock.now();
    pause.begin();
    await clock.advance(length - 1);
    pause.begin();
    assert.equal(pause.on, true);
    await clock.advance(1);
    assert.deepEqual([pause.on, ends.pop()], [false, begun + length]);
  }
  pause.reset();
  pause.begin();
  await clock.advance(100);
  assert.equal(ends.length, 1);
  pause.begin();
  pause.cancel();
  assert.deepEqual([pause.on, clock.timers], [false, 0]);
});

test("what is refused for now, and what for good", () => {
  const codes = ["too_fast", "busy", "no_backend", "bad_topic", undefined];
  assert.deepEqual(codes.map((code) => isForNow({ code })), [true, true, false, false, false]);
});
