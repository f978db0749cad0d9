import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";
import { seeded } from "./random.js";

test("the bound doubles up to the cap, and begins anew after a reset", () => {
  const backoff = new Backoff({ base: 500, cap: 3000, random: () => 0.999999 });
  const waits = () => Array.from({ length: 5 }, () => Math.round(backoff.next()));
  assert.deepEqual(waits(), [500, 1000, 2000, 3000, 3000]);
  assert.equal(backoff.attempt, 5);
  backoff.reset();
  assert.deepEqual(waits(), [500, 1000, 2000, 3000, 3000]);
});

test("the jitter is full: waits are spread over all of the range", () => {
  const random = seeded(1);
  const waits = Array.from({ length: 10_000 }, () => new Backoff({ base: 1000, cap: 1000, random }).next());
  const tenths = Array.from({ length: 10 }, (_, i) => waits.filter((wait) => Math.floor(wait / 100) === i).length);
  for (const count of tenths) assert.ok(count > 850 && count < 1150, `${tenths}`);
});

test("no wait is so short that trying again is a busy loop", () => {
  const backoff = new Backoff({ base: 1, cap: 1, random: () => 0 });
  for (let i = 0; i < 2000; i++) assert.equal(backoff.next(), 50); // also when 2 to that power is infinite
});
