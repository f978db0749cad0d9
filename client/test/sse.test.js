import assert from "node:assert/strict";
import { test } from "node:test";
import { retryAfter } from "../src/retry-after.js";
import { outcome, world } from "./harness.js";

/** An HTTP server in memory: streams that the test writes to, and publications that it answers. */
class FakeHttp {
  /** The streams, in the order in which they were opened: `{url, open, say(id, message), end()}`. */
  streams = [];
  /** Bodies of publications. */
  posts = [];
  /** Status of streams. */
  status = 200;
  /** What a publication is answered: `{status, body}`, or an error to throw, or a promise of either. */
  answer = (body) => ({ status: 200, body: { topic: body.topic, epoch: "e", offset: this.posts.length } });

  fetch = async (url, { method = "GET", headers, body, signal }) => {
    const post = method === "POST";
    if (post) this.postedAs = headers.authorization;
    const answer = post ? await this.#post(JSON.parse(body), url, signal) : this.#stream(new URL(url), headers, signal);
    signal.throwIfAborted();
    return answer;
  };

  get live() {
    return this.streams.filter(({ open }) => open);
  }

  async #post(body, url, signal) {
    this.posts.push(body);
    this.postedTo = url;
    const aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    const answer = await Promise.race([this.answer(body), aborted]);
    if (answer instanceof Error) throw answer;
    return new Response(JSON.stringify(answer.body), answer);
  }

  #stream(url, { authorization: as }, signal) {
    const encoder = new TextEncoder();
    const { searchParams } = url;
    const [topics, since] = [searchParams.getAll("topic"), searchParams.get("lastEventId")];
    const stream = { url, topics, since, as, open: true };
    const body = new ReadableStream({
      start(controller) {
        const end = (how) => {
          if (!stream.open) return;
          stream.open = false;
          how();
        };
        stream.write = (text) => { if (stream.open) controller.enqueue(encoder.encode(text)); };
        stream.say = (id, message) => stream.write(`id: ${id}\nevent: message\ndata: ${JSON.stringify(message)}\n\n`);
        stream.end = () => end(() => controller.close());
        signal.addEventListener("abort", () => end(() => controller.error(signal.reason)));
      },
    });
    this.streams.push(stream);
    return new Response(body, { status: this.status, headers: { "content-type": "text/event-stream" } });
  }
}

const message = (topic, offset, data) => ({ type: "message", topic, epoch: "e", offset, data });

function blocked(options) {
  const { clock, model, network, client } = world();
  network.mode = "refuse";
  const http = new FakeHttp();
  const log = client({ fallback: true, fetch: http.fetch, ...options });
  return { clock, model, network, http, log };
}

test("after attempts that never succeeded, it listens by SSE", async () => {
  const { clock, network, http, log } = blocked();
  const heard = [];
  log.client.subscribe("a", ({ offset, data }) => heard.push([offset, data]));
  await clock.advance(1700); // three attempts, and their waits of 250, 500 and 1000
  assert.equal(network.attempts.length, 3);
  await clock.advance(200);
  assert.deepEqual([log.client.state, log.client.transport], ["connected", "sse"]);
  const [stream] = http.live;
  assert.equal(stream.url.origin + stream.url.pathname, "http://server/sse");
  assert.deepEqual([stream.topics, stream.since], [["room", "a"], null]);
  stream.write(": still there\n\n");
  stream.say("1", message("a", 7, "x"));
  stream.say("2", message("room", 3, { type: "chat", text: "hello", from: "c1" }));
  stream.say("3", message("a", 7, "x"));
  stream.say("4", message("a", 9, "y"));
  await clock.advance(1);
  assert.deepEqual(heard, [[7, "x"], [9, "y"]]);
  assert.deepEqual(log.gaps, [{ topic: "a", epoch: "e", from: 8, to: 8, missed: 1 }]);
  assert.deepEqual(log.messages, [{ type: "chat", text: "hello", from: "c1" }]);
});

test("where a WebSocket is not blocked but something else is wrong, it does not go to SSE, and says what", async () => {
  const wrongs = { deny: "handshake", silent: "no_welcome", foreign: "protocol" };
  for (const [mode, code] of Object.entries(wrongs)) {
    const { clock, network, http, log } = blocked({ connectTimeout: 1000 });
    network.mode = mode;
    await clock.advance(120_000);
    assert.deepEqual([log.client.state, http.streams.length], ["connecting", 0], mode);
    assert.ok(log.retries.length > 5 && log.retries.every(({ error }) => error.code === code), mode);
    const events = code === "no_welcome" ? [] : log.retries.map(({ error }) => error);
    assert.deepEqual(log.errors, events, "it may have been the network that was silent");
    network.mode = "refuse";
    await clock.advance(200_000);
    assert.equal(log.client.transport, "sse");
  }
});

test("a stream that is denied is an error event, and no connection", async () => {
  for (const status of [401, 403]) {
    const { clock, http, log } = blocked({ WebSocket: null });
    http.status = status;
    await clock.advance(10_000);
    assert.equal(log.client.state, "connecting");
    assert.ok(log.errors.length > 2);
    for (const error of log.errors) assert.deepEqual([error.code, error.status], ["sse", status]);
  }
});

test("other topics need another stream, which goes on where the last one was", async () => {
  const { clock, http, log } = blocked({ WebSocket: null });
  await clock.advance(10);
  http.live[0].say("t1", message("room", 1, "x"));
  const a = log.client.subscribe("a", () => {});
  await clock.advance(20);
  const b = log.client.subscribe("b", () => {});
  const ready = [a, b].map(({ ready }) => outcome(ready));
  await clock.advance(100);
  const streams = http.streams.map(({ topics, since, open }) => [topics.join(), since, open]);
  assert.deepEqual(streams, [["room", null, false], ["room,a,b", "t1", true]]);
  assert.deepEqual(ready.map(({ status }) => status), ["resolved", "resolved"]);
  a();
  await clock.advance(100);
  assert.deepEqual(http.live.map(({ topics }) => topics.join()), ["room,b"]);
  const again = outcome(log.client.subscribe("b", () => {}).ready);
  await clock.advance(100);
  assert.equal(again.status, "resolved");
  assert.equal(http.streams.length, 3);
});

test("a stream that ends, fails or falls silent is opened anew, from where it was", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, sseTimeout: 5000 });
  const heard = [];
  log.client.subscribe("a", ({ data }) => heard.push(data));
  await clock.advance(100);
  http.live[0].say("t1", message("a", 1, 1));
  await clock.advance(1);
  http.live[0].end();
  await clock.advance(300);
  assert.deepEqual([http.live[0].since, log.client.state], ["t1", "connected"]);
  http.live[0].say("t2", message("a", 2, 2));
  await clock.advance(5000);
  assert.equal(log.client.state, "reconnecting");
  await clock.advance(600);
  assert.equal(http.live[0].since, "t2");
  assert.deepEqual(heard, [1, 2]);
  http.status = 503;
  http.live[0].end();
  await clock.advance(10_000);
  assert.equal(log.retries.at(-1).error.status, 503);
  assert.ok(http.streams.length < 12, "not a busy loop");
});

test("a stream that ends with the word when to come back", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, stableAfter: 0 });
  await clock.advance(10);
  http.live[0].write("retry: 2000\n\n");
  http.live[0].say("1", message("room", 1, {}));
  http.live[0].write("retry: 1270\n\n");
  await clock.advance(1);
  http.live[0].end();
  await clock.advance(1268);
  assert.deepEqual([log.retries[0].delay, log.retries[0].attempt, http.live.length], [1270, 0, 0]);
  await clock.advance(10);
  assert.equal(log.client.state, "connected");
});

test("a publication for whose token it is too late is posted once more with another", async () => {
  const tokens = ["old", "new", "newer"];
  const { clock, http, log } = blocked({ WebSocket: null, accessToken: () => tokens.shift() });
  const as = [];
  let status = 401;
  http.answer = () => {
    as.push(http.postedAs);
    const answer = { status, body: { topic: "a", epoch: "e", offset: 1 } };
    status = 200;
    return answer;
  };
  const one = outcome(log.client.publish("a", 1));
  await clock.advance(1000);
  assert.deepEqual([one.status, as], ["resolved", ["Bearer old", "Bearer new"]]);
  http.answer = () => ({ status: 401, body: null });
  const two = outcome(log.client.publish("a", 2));
  await clock.advance(5000);
  assert.deepEqual([two.status, two.error.status, tokens], ["rejected", 401, []]);
});

test("topics with a token of their own are no stream's", async () => {
  const { clock, http, log } = blocked({ WebSocket: null });
  const [vip, open] = [log.client.subscribe("vip", () => {}, { token: "t" }), log.client.subscribe("a", () => {})];
  const outcomes = [outcome(vip.ready), outcome(open.ready)];
  await clock.advance(100);
  assert.deepEqual(outcomes.map(({ status, code }) => code ?? status), ["needs_websocket", "resolved"]);
  assert.deepEqual(http.live[0].topics, ["room", "a"]);
});

test("publications go by POST, one by one, in order", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, accessToken: () => "secret" });
  const acks = [1, 2, 3].map((n) => outcome(log.client.publish("a", { n })));
  await clock.advance(10);
  assert.deepEqual(http.posts.map(({ topic, data }) => [topic, data.n]), [["a", 1], ["a", 2], ["a", 3]]);
  assert.equal(http.postedTo, "http://server/publish");
  assert.deepEqual([http.postedAs, http.streams[0].as], ["Bearer secret", "Bearer secret"]);
  const places = acks.map(({ value: { topic, epoch, offset } }) => [topic, epoch, offset]);
  assert.deepEqual(places, [["a", "e", 1], ["a", "e", 2], ["a", "e", 3]]);
  assert.equal(new Set(http.posts.map(({ id }) => id)).size, 3);
});

test("who was welcomed once says so when it posts, so that what it posts again is known", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, identity: { clientId: "c", token: "t" } });
  const ack = outcome(log.client.publish("a", 1));
  await clock.advance(10);
  assert.deepEqual([http.postedTo, ack.status], ["http://server/publish?clientId=c&token=t", "resolved"]);
});

test("a POST that fails is made again under the same id; one that is refused is not", async () => {
  const { clock, http, log } = blocked({ WebSocket: null });
  const answers = [
    new Error("network"),
    { status: 503, body: {} },
    { status: 429, body: {} },
    { status: 200, body: { topic: "a", epoch: "e", offset: 5 } },
    { status: 400, body: { code: "bad_topic", message: "no" } },
  ];
  http.answer = () => answers.shift();
  const [one, two] = [1, 2].map((n) => outcome(log.client.publish("a", n)));
  await clock.advance(10_000);
  assert.deepEqual(http.posts.map(({ data }) => data), [1, 1, 1, 1, 2]);
  assert.equal(new Set(http.posts.map(({ id }) => id)).size, 2);
  assert.equal(one.value.offset, 5);
  assert.deepEqual([two.code, two.error.message, two.error.status], ["bad_topic", "no", 400]);
});

test("a POST that came too fast is made again when the answer says, and not before", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, ackTimeout: 60_000 });
  const fast = { status: 429, body: {}, headers: { "retry-after": "3" } };
  const answers = [fast, fast, { status: 200, body: { topic: "a", epoch: "e", offset: 1 } }];
  const times = [];
  http.answer = () => {
    times.push(clock.now());
    return answers.shift() ?? { status: 200, body: { topic: "a", epoch: "e", offset: 2 } };
  };
  const acks = [1, 2].map((n) => outcome(log.client.publish("a", n)));
  await clock.advance(20_000);
  assert.deepEqual(http.posts.map(({ data }) => data), [1, 1, 1, 2]);
  assert.deepEqual(times.map((time) => time - times[0]), [0, 3000, 6000, 6000]);
  assert.deepEqual(acks.map(({ value }) => value.offset), [1, 2]);
});

test("a POST that comes too fast for all of its time is rejected", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, ackTimeout: 5000 });
  http.answer = () => ({ status: 429, body: {}, headers: { "retry-after": "3600" } });
  const ack = outcome(log.client.publish("a", 1));
  await clock.advance(5010);
  assert.deepEqual([ack.code, http.posts.length], ["timeout", 1]);
});

test("Retry-After is seconds, or a date, or nothing that can be understood", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  const values = [null, "0", " 2 ", "Thu, 01 Jan 2026 00:00:05 GMT", "Thu, 01 Jan 2015 00:00:00 GMT", "soon", "", "-1"];
  assert.deepEqual(values.map((value) => retryAfter(value, now)), [0, 0, 2000, 5000, 0, 0, 0, 0]);
});

test("a POST that hangs is made again, and ends by the message's time-out", async () => {
  const { clock, http, log } = blocked({ WebSocket: null, connectTimeout: 1000, ackTimeout: 5000 });
  http.answer = () => new Promise(() => {});
  const one = outcome(log.client.publish("a", 1));
  await clock.advance(4000);
  assert.ok(http.posts.length >= 2);
  await clock.advance(1100);
  assert.equal(one.code, "timeout");
  http.answer = (body) => ({ status: 200, body: { topic: body.topic, epoch: "e", offset: 1 } });
  const two = outcome(log.client.publish("a", 2));
  await clock.advance(10);
  assert.equal(two.status, "resolved");
});

test("what needs a WebSocket is rejected, what waited for one too", async () => {
  const { clock, log } = blocked();
  const outcomes = [log.client.chat("a"), log.client.publish("a", 1), log.client.presence()].map(outcome);
  await clock.advance(2000);
  outcomes.push(outcome(log.client.sendTo("x", {})), outcome(log.client.publish("a", 1, { ack: false })));
  await clock.advance(10);
  const needs = "needs_websocket";
  const all = outcomes.map(({ status, code }) => code ?? status);
  assert.deepEqual(all, [needs, "resolved", needs, needs, "not_connected"]);
});

test("it goes back to WebSocket when that works, without a gap or a repetition", async () => {
  const { clock, model, network, http, log } = blocked({ websocketRetry: 10_000 });
  const heard = [];
  log.client.subscribe("a", ({ data }) => heard.push(data));
  await clock.advance(2000);
  const { epoch } = model.topic("a");
  for (const n of [1, 2]) {
    model.publish("a", `${n}`);
    http.live[0].say(`t${n}`, { ...message("a", n, n), epoch });
  }
  await clock.advance(8000);
  assert.equal(log.client.transport, "sse", "one more attempt by WebSocket has failed");
  model.publish("a", "3");
  network.mode = "up";
  await clock.advance(16_000);
  assert.deepEqual([log.client.transport, http.live.length], ["websocket", 0]);
  model.publish("a", "4");
  await clock.advance(10);
  assert.deepEqual([heard, log.gaps], [[1, 2, 3, 4], []]);
  assert.deepEqual(log.states.map(([state]) => state), ["connected"], "no state in between");
  log.client.close();
  await clock.advance(5);
  assert.equal(clock.timers, 0);
});

test("an attempt by WebSocket that is sent away for good ends the stream too", async () => {
  const { clock, network, http, log } = blocked({ websocketRetry: 1000 });
  await clock.advance(2000);
  network.mode = "swallow";
  await clock.advance(2000);
  [...network.sockets].at(-1).serverCloses(4900, "no");
  await clock.advance(10);
  assert.deepEqual([log.client.state, log.states.at(-1)[1].code], ["disconnected", 4900]);
  assert.deepEqual([clock.timers, http.live.length], [0, 0]);
});

test("what is being posted when it goes over is not sent by both ways, and keeps its place", async () => {
  const { clock, model, network, http, log } = blocked({ websocketRetry: 1000 });
  await clock.advance(2000);
  let release;
  http.answer = () => new Promise((resolve) => { release = resolve; });
  const [one, two] = [1, 2].map((n) => outcome(log.client.publish("a", n)));
  await clock.advance(10);
  network.mode = "up";
  await clock.advance(3000);
  assert.equal(log.client.transport, "websocket");
  assert.deepEqual([one.status, two.status, model.published.length], ["pending", "pending", 0]);
  release({ status: 200, body: { topic: "a", epoch: "e", offset: 1 } });
  await clock.advance(10);
  assert.deepEqual([one.status, two.status], ["resolved", "resolved"]);
  assert.deepEqual([http.posts.map(({ data }) => data), model.published.map(({ json }) => json)], [[1], ["2"]]);
});

test("where neither works it tries them by turns, and never often", async () => {
  const { clock, network, http, log } = blocked();
  http.status = 404;
  await clock.advance(300_000);
  assert.equal(log.client.state, "connecting");
  assert.ok(http.streams.length > 5 && network.attempts.length > 5);
  assert.ok(http.streams.length + network.attempts.length < 40);
  log.client.close();
  assert.equal(clock.timers, 0);
});

test("who had a WebSocket keeps to it, until the network is another", async () => {
  const { clock, network, http, log } = blocked();
  network.mode = "up";
  await clock.advance(10_000);
  network.mode = "refuse";
  network.cutAll();
  await clock.advance(100_000);
  assert.equal(http.streams.length, 0);
  const before = network.attempts.length;
  log.page.dispatchEvent(new Event("online"));
  await clock.advance(30_000);
  assert.equal(network.attempts.length, before + 1, "where the network is new, WebSocket is tried first");
  assert.equal(log.client.transport, "sse");
});

test("closing leaves nothing, in any state", async () => {
  for (const moment of [0, 10, 1800, 2000, 20_000]) {
    const { clock, http, log } = blocked({ websocketRetry: 5000 });
    http.answer = () => new Promise(() => {});
    log.client.subscribe("a", () => {});
    const sent = outcome(log.client.publish("a", 1));
    await clock.advance(moment);
    log.client.close();
    await clock.advance(5);
    assert.deepEqual([clock.timers, http.live.length, sent.status], [0, 0, "rejected"], `closed after ${moment} ms`);
  }
});
