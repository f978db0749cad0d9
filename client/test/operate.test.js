// The client and a server that wants tokens, or is replaced: UPROAR=path/to/uproar node --experimental-websocket --test …
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Uproar } from "../src/index.js";
import { record } from "./harness.js";
import { Server, skip } from "./server.js";
import { until } from "./suite.js";

const SECRET = "a-secret-of-this-test-alone";
const GUARDED = { UPROAR_JWT_SECRET: SECRET };
const SLOWLY = { UPROAR_DRAIN_TIME: "1500ms" };
const TOPICS = ["kept.0", "kept.1", "kept.2", "kept.3", "kept.4"];

/** A JWT (HS256) that is over in `seconds`, in whole seconds as the clock has them. */
function token(seconds, claims = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = { sub: "ann", exp: Math.floor(Date.now() / 1000) + seconds, ...claims };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(body)}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

/** Runs `act` with a server and a function that makes clients of it; ends all of them. */
async function withServer(options, env, act) {
  const server = await Server.start(options, env);
  const clients = [];
  const client = (more = {}) => {
    const made = record(new Uproar(`ws://127.0.0.1:${server.port}/room`, more));
    clients.push(made.client);
    return made;
  };
  try {
    await act({ server, client });
  } finally {
    for (const each of clients) each.close();
    await server.stop();
  }
}

/** Listens to a topic; `heard` is what it was told, in order: data, or `null` for a gap whose size nobody knows. */
async function listen(log, topic) {
  const heard = [];
  log.client.on("gap", ({ topic: of, missed }) => { if (of === topic) heard.push(missed); });
  await log.client.subscribe(topic, ({ data }) => heard.push(data)).ready;
  return { log, topic, heard };
}

const publishAll = (log, kind, count) => Promise.all(TOPICS.flatMap((topic) =>
  Array.from({ length: count }, (_, n) => log.client.publish(topic, `${topic} ${kind} ${n}`))));
const named = (topic, kind, count) => Array.from({ length: count }, (_, n) => `${topic} ${kind} ${n}`);

test("a server that is drained, with 300 clients: all come to the next one, and nothing is lost or there twice", { skip, timeout: 120_000 }, async (t) => {
  await withServer([], SLOWLY, async ({ server, client }) => {
    const logs = Array.from({ length: 300 }, () => client({ fallback: false }));
    const listeners = await Promise.all(logs.map((log, i) => listen(log, TOPICS[i % TOPICS.length])));
    const publisher = client({ fallback: false });
    await publishAll(publisher, "before", 20);
    await until("all is heard", () => listeners.every(({ heard }) => heard.length === 20));
    const begin = Date.now();
    await server.replace();
    const drained = Date.now() - begin;
    const back = ({ client: { state }, retries }) => state === "connected" && retries.length > 0;
    await until("all are back", () => [...logs, publisher].every(back), () => logs.filter((log) => !back(log)).length);
    t.diagnostic(`drained in ${drained} ms, all back after ${Date.now() - begin} ms`);
    await until("all topics are had again", () => listeners.every(({ heard }) => heard.length === 21));
    await publishAll(publisher, "after", 20);
    await until("all is heard again", () => listeners.every(({ heard }) => heard.length >= 41));
    for (const { topic, heard, log } of listeners) {
      // The one gap is the new server's word that it knows nothing of the time before it.
      assert.deepEqual(heard, [...named(topic, "before", 20), null, ...named(topic, "after", 20)]);
      const [{ code, attempt, delay }] = log.retries;
      assert.deepEqual([code, attempt, delay <= 2000], [1012, 0, true]);
      assert.deepEqual(log.errors, []);
    }
    const [least, most] = [Math.min, Math.max].map((of) => of(...logs.map(({ retries: [{ delay }] }) => delay)));
    assert.ok(most - least > 1000, `they are spread: ${least} to ${most} ms`);
  });
});

test("what is published while a server is drained reaches everybody it still has, once", { skip, timeout: 120_000 }, async () => {
  await withServer([], SLOWLY, async ({ server, client }) => {
    const listeners = await Promise.all(Array.from({ length: 50 }, () => listen(client({ fallback: false }), "kept.a")));
    const publisher = client({ fallback: false, unsure: "resend" });
    let [number, over] = [0, false];
    const acknowledged = [];
    const publishing = (async () => {
      for (; !over; number++) acknowledged.push([number, await publisher.client.publish("kept.a", number)]);
    })();
    await until("it goes well", () => number > 50);
    await server.replace();
    await until("all are back", () => listeners.every(({ heard }) => heard.includes(null)));
    over = true;
    await publishing;
    const last = acknowledged.at(-1)[0];
    await until("the end is heard", () => listeners.every(({ heard }) => heard.at(-1) === last), () => last);
    for (const { heard } of listeners) {
      const [old, next, ...more] = [heard.slice(0, heard.indexOf(null)), heard.slice(heard.indexOf(null) + 1)];
      assert.deepEqual(more, []);
      assert.deepEqual(old, Array.from({ length: old.length }, (_, n) => n), "all up to where it was sent away");
      const whole = next.filter((entry) => typeof entry === "number");
      assert.ok(whole.every((n, i) => i === 0 || n === whole[i - 1] + 1), "and all from where it came back");
    }
  });
});

test("tokens that are over every second or two are renewed under traffic", { skip, timeout: 60_000 }, async (t) => {
  await withServer([], GUARDED, async ({ client }) => {
    const logs = Array.from({ length: 20 }, () => client({ accessToken: async () => token(2) }));
    let renewals = 0;
    for (const { client: each } of logs) each.on("refreshed", () => { renewals++; });
    const listeners = await Promise.all(logs.map((log, i) => listen(log, TOPICS[i % TOPICS.length])));
    const begin = Date.now();
    let count = 0;
    for (; Date.now() - begin < 6000; count++) {
      await publishAll(logs[count % logs.length], `round ${count}`, 1);
      await sleep(10);
    }
    await until("all is heard", () => listeners.every(({ heard }) => heard.length >= count));
    const rounds = Array.from({ length: count }, (_, n) => n);
    for (const { topic, heard } of listeners) assert.deepEqual(heard, rounds.map((n) => `${topic} round ${n} 0`));
    const lost = logs.flatMap(({ retries }) => retries.map(({ reason }) => reason));
    t.diagnostic(`${count * TOPICS.length} messages, ${renewals} renewals, ${lost.length} connections lost`);
    assert.ok(renewals >= 3 * logs.length, `${renewals} renewals`);
    // On a machine that is busy with other things, one may come too late.
    assert.ok(lost.length <= renewals / 20 && lost.every((reason) => reason === "token expired"), `${lost}`);
    assert.deepEqual(logs.flatMap(({ errors }) => errors), []);
    assert.equal(logs[0].client.user, "ann");
  });
});

test("a token that is no good, none, and one that is over and cannot be renewed", { skip, timeout: 60_000 }, async () => {
  const told = process.getBuiltinModule !== undefined; // else this Node.js keeps the status to itself, as browsers do
  await withServer([], GUARDED, async ({ server, client }) => {
    const [bad, none, brief] = [client({ accessToken: "no.good.token" }), client(), client({ accessToken: token(2) })];
    const query = record(new Uproar(`ws://127.0.0.1:${server.port}/room?access_token=${token(60)}`));
    await until("the one in the query is good", () => query.client.state === "connected");
    query.client.close();
    const status = ({ errors }) => errors[0]?.status;
    await until("both are denied", () => status(bad) === 401 && (!told || status(none) === 401));
    await until("the third one is over", () => brief.errors.length > 0);
    assert.deepEqual([brief.errors[0].code, brief.errors[0].closeCode], ["token", 1008]);
    assert.deepEqual([bad.client.state, none.client.state], ["connecting", "connecting"]);
  });
});

test("streams and posts bring the token too", { skip, timeout: 60_000 }, async () => {
  await withServer([], GUARDED, async ({ client }) => {
    const one = client({ WebSocket: null, accessToken: () => token(60) });
    const { heard } = await listen(one, "kept.x");
    const { offset } = await one.client.publish("kept.x", "posted");
    await until("it is heard", () => heard.length > 0);
    assert.deepEqual([offset, heard, one.client.transport, one.errors], [1, ["posted"], "sse", []]);
    const denied = client({ WebSocket: null, accessToken: "no.good.token" });
    await until("it is denied", () => denied.errors.length > 0);
    assert.deepEqual([denied.errors[0].code, denied.errors[0].status], ["sse", 401]);
  });
});

test("a topic for which a token of its own is needed", { skip, timeout: 60_000 }, async () => {
  await withServer(["--client-subscribe", "open.*,room"], GUARDED, async ({ client }) => {
    const log = client({ accessToken: () => token(60) });
    const own = (topic, seconds = 60) => token(seconds, { uproar: { topic } });
    const heard = [];
    const note = ({ data }) => heard.push(data);
    await assert.rejects(log.client.subscribe("vip.1", note).ready, { code: "not_allowed" });
    await assert.rejects(log.client.subscribe("vip.2", note, { token: own("other") }).ready, { code: "not_allowed" });
    const subscriptions = [
      log.client.subscribe("open.a", note), log.client.subscribe("vip.3", note, { token: own("vip.3") }),
      log.client.subscribe("vip.4", note, { token: async (topic) => own(topic) }),
    ];
    await Promise.all(subscriptions.map(({ ready }) => ready));
    await log.client.publish("vip.4", "news");
    await until("it is heard", () => heard.length > 0);
    assert.deepEqual([heard, log.errors], [["news"], []]);
    let calls = 0;
    const brief = log.client.subscribe("vip.5", note, { token: async (topic) => own(topic, calls++ === 0 ? 2 : 60) });
    await brief.ready;
    await until("it was over, and another was asked for", () => calls > 1);
    await log.client.publish("vip.5", "more");
    await until("it is heard", () => heard.length > 1);
    assert.deepEqual([heard, log.errors], [["news", "more"], []]);
  });
});
