import assert from "node:assert/strict";
import { test } from "node:test";
import { Heartbeat } from "../src/heartbeat.js";
import { FakeClock } from "./fake-clock.js";

function beating({ answers = () => true, asks = true } = {}) {
  const clock = new FakeClock();
  const log = { pings: [], dead: [] };
  const heartbeat = new Heartbeat(clock, {
    ping: () => {
      log.pings.push(clock.now());
      if (asks && answers()) clock.setTimeout(() => heartbeat.heard(), 5);
      return asks;
    },
    dead: () => log.dead.push(clock.now()),
  });
  heartbeat.start(100, 30);
  return { clock, heartbeat, log };
}

test("asks when nothing was heard for a while, again and again while it is answered", async () => {
  const { clock, log } = beating();
  await clock.advance(99);
  assert.deepEqual(log.pings, []);
  await clock.advance(231);
  assert.deepEqual(log, { pings: [100, 205, 310], dead: [] });
});

test("does not ask while something is heard", async () => {
  const { clock, heartbeat, log } = beating();
  for (let i = 0; i < 20; i++) {
    await clock.advance(50);
    heartbeat.heard();
  }
  assert.deepEqual(log, { pings: [], dead: [] });
});

test("it is dead when the answer does not come, once", async () => {
  const { clock, log } = beating({ answers: () => false });
  await clock.advance(1000);
  assert.deepEqual(log, { pings: [100], dead: [130] });
  assert.equal(clock.timers, 0);
});

test("where it cannot ask, it is dead when nothing was heard", async () => {
  const { clock, log } = beating({ asks: false });
  await clock.advance(1000);
  assert.deepEqual(log.dead, [100]);
});

test("a probe asks at once, and once", async () => {
  const { clock, heartbeat, log } = beating({ answers: () => false });
  await clock.advance(10);
  heartbeat.probe();
  heartbeat.probe();
  await clock.advance(100);
  assert.deepEqual(log, { pings: [10], dead: [40] });
  heartbeat.probe();
  await clock.advance(100);
  assert.deepEqual(log.dead, [40], "what is dead is not asked");
});

test("after a sleep it asks once more, for the answer may be there", async () => {
  const { clock, log } = beating({ answers: () => false });
  await clock.advance(110);
  clock.sleep(5000);
  await clock.advance(0);
  assert.deepEqual(log, { pings: [100, 5110], dead: [] });
  await clock.advance(30);
  assert.deepEqual(log.dead, [5140]);
});

test("that is granted once: a machine that sleeps again and again has a dead connection", async () => {
  const { clock, log } = beating({ answers: () => false });
  await clock.advance(110);
  for (let i = 0; i < 2; i++) {
    clock.sleep(5000);
    await clock.advance(0);
  }
  assert.deepEqual(log, { pings: [100, 5110], dead: [10_110] });
});

test("nothing is left when it is stopped", async () => {
  const { clock, heartbeat, log } = beating();
  heartbeat.stop();
  assert.equal(clock.timers, 0);
  await clock.advance(1000);
  assert.deepEqual(log, { pings: [], dead: [] });
});
