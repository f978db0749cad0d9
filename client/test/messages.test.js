import assert from "node:assert/strict";
import { test } from "node:test";
import { Messages } from "../src/messages.js";
import { outcome, world } from "./harness.js";

const message = (offset) => ({ offset });
const filled = (limit, count) => {
  const messages = new Messages(limit);
  for (let offset = 1; offset <= count; offset++) messages.push(message(offset));
  return messages;
};

test("messages wait to be taken, and takers wait for messages, in order", async () => {
  const messages = filled(10, 2);
  const taken = [messages.next(), messages.next(), messages.next(), messages.next()];
  messages.push(message(3));
  messages.push(message(4));
  const values = (await Promise.all(taken)).map(({ value }) => value.offset);
  assert.deepEqual(values, [1, 2, 3, 4]);
});

test("of too many, the oldest go, and the next one says how many", async () => {
  const messages = filled(3, 10);
  const first = await messages.next();
  assert.deepEqual(first, { done: false, value: { offset: 8, dropped: 7 } });
  assert.deepEqual((await messages.next()).value, { offset: 9 });
});

test("an end comes after what is there; a return at once; both only once", async () => {
  let ends = 0;
  const messages = filled(3, 1);
  messages.bind(undefined, () => ends++);
  messages.end();
  messages.push(message(2));
  assert.deepEqual((await messages.next()).value, { offset: 1 });
  assert.deepEqual(await messages.next(), { done: true, value: undefined });
  const returned = filled(3, 1);
  returned.bind(undefined, () => ends++);
  const waiting = filled(3, 0);
  const next = waiting.next();
  await Promise.all([returned.return(), returned.return(), waiting.return()]);
  assert.equal((await returned.next()).done, true);
  assert.equal((await next).done, true);
  assert.equal(ends, 2);
});

test("a signal ends it, also one that is aborted already", async () => {
  const controller = new AbortController();
  let ends = 0;
  const messages = filled(3, 0);
  messages.bind(controller.signal, () => ends++);
  const next = messages.next();
  controller.abort();
  assert.equal((await next).done, true);
  const late = filled(3, 1);
  late.bind(controller.signal, () => ends++);
  assert.equal((await late.next()).done, true);
  assert.equal(ends, 2);
});

test("for await: from the call on, over a reconnection, until a break, which unsubscribes", async () => {
  const { clock, model, network, client } = world();
  const { client: one } = client();
  const messages = one.messages("t");
  const taken = [];
  const loop = (async () => {
    for await (const { offset, data } of messages) {
      taken.push([offset, data]);
      if (data === "c") break;
    }
  })();
  await clock.advance(10);
  model.publish("t", '"a"');
  await clock.advance(10);
  network.cutAll();
  model.publish("t", '"b"');
  await clock.advance(1000);
  model.publish("t", '"c"');
  await clock.advance(10);
  await loop;
  await clock.advance(10);
  assert.deepEqual(taken, [[1, "a"], [2, "b"], [3, "c"]]);
  assert.equal(model.topic("t").members.size, 0);
});

test("closing the client ends iterations", async () => {
  const { clock, client } = world();
  const { client: one } = client();
  const next = outcome(one.messages("t").next());
  await clock.advance(10);
  one.close();
  await clock.advance(0);
  assert.deepEqual(next, { status: "resolved", value: { done: true, value: undefined } });
});
