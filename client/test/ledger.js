import assert from "node:assert/strict";

const keyOf = (topic, epoch) => JSON.stringify([topic, epoch]);

/**
 * Who published what, who heard what, and who was told of which gaps; and whether that adds up.
 *
 * Every listener must, in every epoch that it was in, have each message from where it began to the end exactly once:
 * delivered, or within a gap. Where an epoch ended while it was away, its last gap is open: `to` is `null`.
 */
export class Ledger {
  #listeners = [];
  #sent = [];

  /** Listens to a topic, from its answer on. */
  listen(client, topic, name) {
    const listener = { client, topic, name, heard: [], begun: null, gone: false, off: null };
    const note = (entry) => { if (!listener.gone) listener.heard.push(entry); };
    const gap = client.on("gap", (each) => { if (each.topic === topic) note({ ...each, gap: true }); });
    const off = client.subscribe(topic, ({ epoch, offset, data }) => note({ epoch, from: offset, to: offset, data }));
    off.ready.then((begun) => { listener.begun = begun; }, () => {});
    listener.off = () => {
      listener.gone = true;
      off();
      gap();
    };
    this.#listeners.push(listener);
    return listener;
  }

  /** Ends a member's listener of a topic, or begins one if there is none. */
  toggle(member, topic) {
    const old = member.listeners.find((listener) => listener.topic === topic && !listener.gone);
    if (old) old.off();
    else member.listeners.push(this.listen(member.log.client, topic, member.name));
  }

  /** Publishes, and notes what becomes of it. */
  publish(client, topic, data) {
    const entry = { topic, data, ack: null, error: null };
    this.#sent.push(entry);
    const promise = client.publish(topic, data);
    promise.then((ack) => { entry.ack = ack; }, (error) => { entry.error = error; });
    return promise;
  }

  totals() {
    const all = this.#listeners.flatMap(({ heard }) => heard);
    const missed = all.reduce((sum, { gap, missed }) => sum + (gap ? missed ?? 0 : 0), 0);
    return { published: this.#sent.length, delivered: all.filter(({ gap }) => !gap).length, missed };
  }

  /** `model.published` is what there was to hear. Without a model, listeners are compared with each other. */
  check(model) {
    this.#checkSent(model?.published ?? this.#heardByAnybody());
    const ends = new Map();
    const truth = new Map();
    for (const { topic, epoch, offset, json } of model?.published ?? this.#heardByAnybody()) {
      ends.set(keyOf(topic, epoch), Math.max(offset, ends.get(keyOf(topic, epoch)) ?? 0));
      truth.set(`${keyOf(topic, epoch)}${offset}`, json);
    }
    const current = (topic) => this.#current(topic, model);
    for (const listener of this.#listeners) checkListener(listener, truth, ends, current(listener.topic));
  }

  #current(topic, model) {
    if (model) return model.topic(topic).epoch;
    const acks = this.#sent.filter(({ ack }) => ack?.topic === topic);
    return acks.at(-1)?.ack.epoch;
  }

  /** Whatever was acknowledged is where the acknowledgement says; whatever is there is there once. */
  #checkSent(published) {
    const places = new Map();
    for (const { json, topic, epoch, offset } of published) {
      assert.ok(!places.has(json), `${json} is in ${topic} twice`);
      places.set(json, { topic, epoch, offset });
    }
    for (const { topic, data, ack, error } of this.#sent) {
      const place = places.get(JSON.stringify(data));
      assert.ok(ack || error, `${data} is not settled`);
      if (!ack) assert.ok(["unknown_outcome", "timeout"].includes(error.code), `${data}: ${error}`);
      else if (place) assert.deepEqual({ topic, epoch: ack.epoch, offset: ack.offset }, place);
    }
  }

  #heardByAnybody() {
    const found = new Map();
    for (const { topic, heard } of this.#listeners) {
      for (const { gap, epoch, from, data } of heard) {
        const message = { topic, epoch, offset: from, json: JSON.stringify(data) };
        if (!gap) found.set(`${keyOf(topic, epoch)}${from}`, message);
      }
    }
    return [...found.values()];
  }
}

/** `truth`: what there is at each place; `ends`: the newest of each epoch; `current`: the epoch at the end. */
function checkListener({ topic, name, heard, begun, gone }, truth, ends, current) {
  if (begun === null) {
    assert.equal(heard.length, 0, `${name} heard ${topic} before it was subscribed`);
    return;
  }
  let { epoch, offset } = begun;
  // Of an epoch that was over when this listener began, for one that was there before.
  const before = heard.findIndex((entry) => !entry.gap || entry.to !== null || entry.epoch === epoch);
  for (const entry of before < 0 ? [] : heard.slice(before)) {
    const where = `${name}, ${topic}: at ${offset} of ${epoch}, then ${JSON.stringify(entry)}`;
    if (epoch === null) [epoch, offset] = [entry.epoch, 0]; // after an open gap, another epoch from its beginning
    assert.equal(entry.epoch, epoch, where);
    assert.equal(entry.from, offset + 1, where);
    if (entry.to === null) epoch = null;
    else offset = entry.to;
    if (!entry.gap) assert.equal(JSON.stringify(entry.data), truth.get(`${keyOf(topic, epoch)}${offset}`), where);
  }
  if (gone) return;
  const end = ends.get(keyOf(topic, current)) ?? 0;
  if (epoch === null) assert.equal(end, 0, `${name} has nothing of the last epoch of ${topic}`);
  else assert.deepEqual([epoch, offset], [current, end], `${name} does not have all of ${topic}`);
}
