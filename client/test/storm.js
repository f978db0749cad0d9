import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Ledger } from "./ledger.js";
import { pick, seedOf, seeded } from "./random.js";

const CLIENTS = Number(process.env.CLIENTS ?? 300);
const SECONDS = Number(process.env.SECONDS ?? 15);
/** All of them, the proxy and the checks share one thread: what thousands do takes them longer. */
const PATIENCE = Math.max(1, CLIENTS / 300);
const SETTLE_MS = 60_000 * PATIENCE;
const STEP_MS = 10;
const SETTINGS = {
  fallback: false,
  ackTimeout: 60_000 * PATIENCE,
  retryCap: 500 * PATIENCE,
  heartbeatInterval: 2000 * PATIENCE,
  heartbeatTimeout: 2000 * PATIENCE,
  connectTimeout: 5000 * PATIENCE,
};
/** How long it may take. */
export const STORM_MS = 90_000 + SECONDS * 2000 + SETTLE_MS;
/** Of one topic in six no history is kept. */
const TOPICS = Array.from({ length: 12 }, (_, i) => `${i % 6 === 0 ? "lost" : "kept"}.storm.${process.pid}.${i}`);
const TOPICS_A_CLIENT = 3;

/**
 * Hundreds of clients publish and listen through the proxy, while it cuts, half-opens, delays, refuses and swallows
 * their connections; in the middle the server is restarted. At the end everybody has everything, or knows what not.
 */
export async function storm({ proxied, proxy, server, t }) {
  const seed = seedOf();
  t.diagnostic(`SEED=${seed} CLIENTS=${CLIENTS} SECONDS=${SECONDS}`);
  const random = seeded(seed);
  const ledger = new Ledger();
  const crowd = Array.from({ length: CLIENTS }, (_, name) => {
    const log = proxied({ path: `/storm-${name % 10}`, ...SETTINGS });
    const wanted = new Set(Array.from({ length: TOPICS_A_CLIENT }, () => pick(random, TOPICS)));
    return { name, log, count: 0, listeners: [...wanted].map((topic) => ledger.listen(log.client, topic, name)) };
  });
  const steps = (SECONDS * 1000) / STEP_MS;
  for (let step = 0; step < steps; step++) {
    if (step === Math.floor(steps / 2)) await server.restart();
    disturb(proxy, random);
    const member = pick(random, crowd);
    ledger.publish(member.log.client, pick(random, TOPICS), `${member.name}:${member.count++}`);
    await sleep(STEP_MS);
  }
  proxy.behave();
  await calm(crowd, ledger);
  ledger.check();
  const connections = crowd.flatMap(({ log }) => log.states).filter(([state]) => state === "connected").length;
  t.diagnostic(JSON.stringify({ ...ledger.totals(), connections }));
  for (const { log } of crowd) assert.deepEqual(log.errors, []);
}

function disturb(proxy, random) {
  const pair = pick(random, [...proxy.pairs]);
  const dice = random();
  if (dice < 0.3) pair?.cutAfter(pick(random, ["up", "down"]), Math.floor(random() * 500));
  else if (dice < 0.35) pair?.halfOpen();
  else if (dice < 0.36) proxy.delay = Math.floor(random() * 30);
  else if (dice < 0.365) proxy.mode = pick(random, ["refuse", "swallow"]);
  else if (dice < 0.45) proxy.mode = "up";
  else if (dice < 0.451) proxy.cutAll();
}

/** Waits until all is settled, publishes one last message to every topic, and waits until everybody is up to that. */
async function calm(crowd, ledger) {
  const deadline = Date.now() + SETTLE_MS;
  const wait = async (what, check) => {
    while (!check()) {
      assert.ok(Date.now() < deadline, `timed out: ${what}`);
      await sleep(50);
    }
  };
  const back = ({ log: { client } }) => client.state === "connected" && client.pending === 0;
  await wait("everybody is back", () => crowd.every(back));
  const { client } = crowd[0].log;
  const last = await Promise.all(TOPICS.map((topic) => ledger.publish(client, topic, `last of ${topic}`)));
  const places = new Map(last.map(({ topic, epoch, offset }) => [topic, `${epoch} ${offset}`]));
  const end = (heard) => heard.slice(-1).map(({ epoch, to }) => `${epoch} ${to}`)[0];
  const upToDate = ({ topic, heard }) => end(heard) === places.get(topic);
  await wait("everybody is up to the last", () => crowd.every(({ listeners }) => listeners.every(upToDate)));
}
