import assert from "node:assert/strict";
import { test } from "node:test";
import { world } from "./harness.js";
import { Ledger } from "./ledger.js";
import { pick, seedOf, seeded } from "./random.js";

const ROUNDS = Number(process.env.ROUNDS ?? 40);
const TOPICS = ["deep.a", "deep.b", "short.c"];
const SETTINGS = {
  heartbeatInterval: 400,
  heartbeatTimeout: 300,
  connectTimeout: 800,
  retryCap: 500,
  stableAfter: 0,
  ackTimeout: 60_000,
};

/** Clients that publish and listen while their network does its worst; everything is in the ledger. */
class Round {
  constructor(seed) {
    this.random = seeded(seed);
    const latency = () => 1 + this.random() * 40;
    this.world = world({ latency, history: (topic) => (topic.startsWith("deep") ? 10_000 : 5) });
    this.ledger = new Ledger();
    this.crowd = Array.from({ length: 4 }, (_, i) => this.#member(i));
  }

  #member(name) {
    const log = this.world.client({ random: this.random, page: {}, ...SETTINGS });
    const listeners = TOPICS.map((topic) => this.ledger.listen(log.client, topic, name));
    return { name, log, listeners, count: 0 };
  }

  act() {
    const { network, model } = this.world;
    const member = pick(this.random, this.crowd);
    const dice = this.random();
    if (dice < 0.7) this.#publish(member, pick(this.random, TOPICS));
    else if (dice < 0.85) pick(this.random, [...network.sockets, null])?.cut();
    else if (dice < 0.9) pick(this.random, [...network.sockets, null])?.halfOpen();
    else if (dice < 0.93) network.mode = pick(this.random, ["up", "up", "refuse", "swallow"]);
    else if (dice < 0.935) model.restart();
    else if (dice < 0.97) this.#toggle(member, pick(this.random, TOPICS));
    else network.mode = "up";
  }

  #publish(member, topic) {
    this.ledger.publish(member.log.client, topic, `${member.name}:${member.count++}`);
  }

  /** Ends a subscription or begins one; or, within one turn, both. */
  #toggle(member, topic) {
    this.ledger.toggle(member, topic);
    if (this.random() < 0.5) this.ledger.toggle(member, topic);
  }

  async run(steps) {
    const { clock, network } = this.world;
    for (let i = 0; i < steps; i++) {
      this.act();
      await clock.advance(this.random() * 60);
    }
    network.mode = "up";
    await clock.advance(70_000); // everybody is back, and every promise is settled
    this.ledger.check(this.world.model);
    for (const { log } of this.crowd) {
      assert.deepEqual([log.client.state, log.client.pending, log.errors], ["connected", 0, []]);
      log.client.close();
    }
    await clock.advance(100);
    assert.equal(clock.timers, 0);
  }
}

test(`${ROUNDS} rounds of a bad network: no message is missed without a gap, none comes twice`, async (t) => {
  const first = seedOf();
  t.diagnostic(`SEED=${first}`);
  const totals = { published: 0, delivered: 0, missed: 0 };
  for (let i = 0; i < ROUNDS; i++) {
    const round = new Round((first + i) >>> 0);
    try {
      await round.run(300);
    } catch (error) {
      error.message = `SEED=${(first + i) >>> 0} ROUNDS=1: ${error.message}`;
      throw error;
    }
    for (const [name, value] of Object.entries(round.ledger.totals())) totals[name] += value;
  }
  t.diagnostic(JSON.stringify(totals));
  assert.ok(totals.delivered > totals.published, "each message goes to several");
  assert.ok(totals.missed > 0, "there are gaps to be told");
});
