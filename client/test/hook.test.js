// The client and an application that the server asks, and that is away for a while.
// UPROAR=path/to/uproar node --experimental-websocket --test test/hook.test.js: against the server too.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Uproar } from "../src/index.js";
import { outcome, record, world } from "./harness.js";
import { Server, skip } from "./server.js";
import { until } from "./suite.js";

test("against the model: a subscription that is answered busy is had when somebody can say, and misses nothing", async () => {
  const { clock, model, network, client } = world();
  const [log, other] = [client(), client()];
  const heard = [];
  model.busy = (topic) => topic === "prices.c";
  const off = log.client.subscribe("prices.c", ({ data }) => heard.push(data));
  const ready = outcome(off.ready);
  await clock.advance(1000);
  assert.deepEqual([ready.status, log.client.state], ["pending", "connected"]);
  assert.deepEqual(log.retries.map(({ error, delay, topics }) => [error.code, error.topic, delay, topics]),
    [["busy", "prices.c", 500, ["prices.c"]], ["busy", "prices.c", 1000, ["prices.c"]]]);
  model.busy = () => false;
  await clock.advance(4000);
  assert.equal(ready.status, "resolved");
  for (const data of [1, 2]) other.client.publish("prices.c", data);
  await clock.advance(10);
  model.busy = () => true;
  log.retries.length = 0;
  network.cutAll();
  for (const data of [3, 4]) other.client.publish("prices.c", data);
  await clock.advance(120_000);
  assert.deepEqual([heard, log.client.state], [[1, 2], "connected"]);
  const asked = log.retries.filter(({ topics }) => topics).length;
  assert.ok(asked >= 8 && asked < 16, `${asked} times in two minutes`);
  model.busy = () => false;
  await clock.advance(30_000);
  other.client.publish("prices.c", 5);
  await clock.advance(10);
  assert.deepEqual([heard, log.gaps, log.errors], [[1, 2, 3, 4, 5], [], []]);
});

const QUICKLY = { retryBase: 100, retryCap: 1000 };

/** An application that answers every question with `app.status`, and a server that asks it about `events`. */
async function withApplication(events, act) {
  const app = { status: 200, questions: [] };
  const http = createServer(async (request, response) => {
    let text = "";
    for await (const piece of request) text += piece;
    app.questions.push(JSON.parse(text));
    response.writeHead(app.status).end();
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const hook = `http://127.0.0.1:${http.address().port}/`;
  const server = await Server.start(["--auth-hook", hook, "--auth-hook-events", events]);
  const clients = [];
  const client = (room, options = {}) => {
    const made = record(new Uproar(`ws://127.0.0.1:${server.port}/${room}`, { ...QUICKLY, ...options }));
    clients.push(made.client);
    return made;
  };
  try {
    await act({ app, server, client });
  } finally {
    for (const each of clients) each.close();
    await server.stop();
    http.close();
    http.closeAllConnections();
  }
}

const isWaiting = ({ retries }) => retries.some(({ topics }) => topics?.includes("kept.c"));

test("a new subscription while the application is down", { skip, timeout: 60_000 }, async () => {
  await withApplication("subscribe", async ({ app, client }) => {
    const [log, other] = [client("a"), client("b")];
    await until("connected", () => [log, other].every(({ client: { state } }) => state === "connected"));
    app.status = 500;
    const heard = [];
    const ready = outcome(log.client.subscribe("kept.c", ({ data }) => heard.push(data)).ready);
    await until("it waits", () => isWaiting(log));
    await sleep(2000);
    assert.equal(ready.status, "pending");
    app.status = 200;
    await until("it is had", () => ready.status === "resolved", () => log.retries);
    await other.client.publish("kept.c", "news");
    await until("it is heard", () => heard.length > 0);
    assert.deepEqual([heard, log.errors, log.client.state], [["news"], [], "connected"]);
    app.status = 500;
    const refused = outcome(log.client.subscribe("kept.d", () => {}).ready);
    await until("the other waits", () => log.retries.some(({ topics }) => topics?.includes("kept.d")));
    app.status = 403;
    await until("it is refused", () => refused.status === "rejected", () => log.retries);
    assert.deepEqual([refused.code, log.errors], ["not_allowed", []]);
  });
});

test("a subscription that was granted, and a reconnection while the application is down", { skip, timeout: 60_000 }, async () => {
  await withApplication("subscribe", async ({ app, client }) => {
    const [log, other] = [client("a"), client("b")];
    const heard = [];
    await log.client.subscribe("kept.c", ({ data }) => heard.push(data)).ready;
    await other.client.publish("kept.c", 1);
    await until("the first is heard", () => heard.length === 1);
    // The room of the handshake is asked about too: it is let in, and then the application is gone.
    const questions = app.questions.length;
    log.client.on("state", (state) => { if (state === "connected") app.status = 500; });
    log.client.join("elsewhere");
    await until("it waits", () => isWaiting(log), () => log.states);
    assert.ok(app.questions.length > questions, "the application was asked");
    for (const n of [2, 3]) await other.client.publish("kept.c", n);
    await sleep(1000);
    assert.deepEqual([heard, log.client.state], [[1], "connected"]);
    app.status = 200;
    await until("all is heard", () => heard.length === 3, () => log.retries);
    assert.deepEqual([heard, log.gaps, log.errors], [[1, 2, 3], [], []]);
  });
});

test("who is not let in because the application is down comes in when it is back", { skip, timeout: 60_000 }, async () => {
  await withApplication("connect,subscribe", async ({ app, client }) => {
    const log = client("a");
    await until("connected", () => log.client.state === "connected");
    app.status = 500;
    log.client.join("b");
    await until("it is answered 503", () => log.retries.some(({ error: { status } }) => status === 503), () => log.retries);
    app.status = 200;
    await until("it is in the room", () => log.client.state === "connected" && log.client.room === "b");
    assert.deepEqual([log.client.transport, log.errors], ["websocket", []]);
  });
});
