// Tokens: how they are sent, how they are renewed while a connection lasts, and those of single topics.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Uproar } from "../src/index.js";
import { AccessToken, socketArguments } from "../src/access-token.js";
import { outcome, world } from "./harness.js";

const T0 = 1_790_000_000_000;
const named = (log, name) => log.client.on(name, (detail) => (log[name] ??= []).push(detail));
const first = (set) => [...set][0];
const sent = (network, type) =>
  first(network.sockets).sent.map((text) => JSON.parse(text)).filter((message) => message.type === type);

/** A world in which tokens last `life` ms; `asked` is when the client wanted one. The server's clock is not ours. */
async function guarded({ life = 60_000, accessToken, ...options } = {}) {
  const asked = [];
  const own = () => `token-${asked.push(clock.now())}`;
  const { clock, network, model, client } = world();
  model.expires = () => T0 + clock.now() + life;
  model.now = () => T0 + clock.now();
  const log = client({ accessToken: accessToken ?? own, ...options });
  named(log, "refreshed");
  await clock.advance(5);
  return { clock, network, model, log, asked };
}

test("the platform's way to bring a token along", () => {
  const url = "ws://server/room?a=b";
  class Browser {}
  class Ws { terminate() {} }
  const headers = { authorization: "Bearer a.b-c" };
  assert.deepEqual(socketArguments(Browser, url, null), [url]);
  assert.deepEqual(socketArguments(Browser, url, "a.b-c"), [url, ["bearer", "a.b-c"]]);
  assert.deepEqual(socketArguments(Ws, url, "a.b-c"), [url, [], { headers }]);
  assert.deepEqual(socketArguments(Browser, url, "a/b="), [`${url}&access_token=a%2Fb%3D`], "no subprotocol");
  if (globalThis.WebSocket) assert.deepEqual(socketArguments(WebSocket, url, "a.b-c"), [url, { headers }]);
});

test("what can be no token, and what can be no option", async () => {
  for (const accessToken of ["", "a b", "a\r\nb", "ž", 7, {}]) {
    assert.throws(() => new Uproar("ws://server/a", { accessToken, connect: false }), TypeError);
    await assert.rejects(new AccessToken(() => accessToken).fetch(), { code: "token" });
  }
  assert.equal(await new AccessToken(async () => null).fetch(), null);
  assert.deepEqual(new AccessToken(undefined).headers, {});
});

test("a token is renewed before it expires, again and again, and the connection stays", async () => {
  const { clock, network, log, asked } = await guarded({ life: 60_000 });
  await clock.advance(10 * 60_000);
  assert.deepEqual([log.client.state, log.retries, log.errors, network.attempts.length], ["connected", [], [], 1]);
  assert.ok(asked.length >= 11 && asked.length <= 16, `${asked}`);
  assert.equal(log.refreshed.length, asked.length - 1);
  assert.ok(log.refreshed.every(({ expires }, i, all) => i === 0 || expires > all[i - 1].expires));
  // A third of a minute, times 0.75 for chance: 15 s before the end.
  assert.ok(Math.abs(asked[1] - 45_000) < 20, `${asked[1]}`);
  log.client.close();
  await clock.advance(5);
  assert.equal(clock.timers, 0);
});

test("of a long-lived token a minute is kept, whatever our clock says", async () => {
  const { clock, asked } = await guarded({ life: 3_600_000 });
  await clock.advance(3_600_000);
  assert.ok(Math.abs(asked[1] - (3_600_000 - 45_000)) < 20, `${asked[1]}`);
});

test("a token that cannot be had in time is asked for a few times, and told once", async () => {
  let calls = 0;
  const accessToken = () => {
    if (calls++ > 0) throw new Error("no backend");
    return "a";
  };
  const { clock, network, log } = await guarded({ accessToken });
  await clock.advance(59_000);
  assert.deepEqual([calls, log.errors.map(({ code, message }) => [code, message])],
    [6, [["token", "no access token: no backend"]]]);
  // At its end the server closes the connection: it is made anew, with another token.
  first(network.sockets).serverCloses(1008, "token expired");
  assert.equal(log.client.state, "reconnecting");
  await clock.advance(10);
  assert.equal(clock.timers > 0, true);
});

test("a token that never comes is asked for again", async () => {
  let calls = 0;
  const accessToken = () => (calls++ === 1 ? new Promise(() => {}) : `t${calls}`);
  const { clock, log } = await guarded({ accessToken, connectTimeout: 3000 });
  await clock.advance(50_000);
  assert.deepEqual([calls, log.refreshed.length, log.errors], [3, 1, []]);
});

test("a new token that the server refuses is tried a few times, and told once", async () => {
  const { clock, network, model, log, asked } = await guarded();
  model.badTokens = true;
  await clock.advance(59_000);
  assert.deepEqual([asked.length, sent(network, "refresh").length], [6, 5]);
  assert.deepEqual(log.errors.map(({ code }) => code), ["bad_token"]);
  assert.match(log.errors[0].message, /^the server refused a new access token: /);
});

test("a token that ends no later than the one before is no new one", async () => {
  const { clock, model, log, asked } = await guarded();
  const fixed = T0 + 60_000;
  model.expires = () => fixed;
  await clock.advance(59_000);
  assert.ok(asked.length <= 6, "no busy loop");
  assert.deepEqual(log.errors.map(({ code }) => code), ["token"]);
});

test("after an expired token it comes back at full speed; that a text cannot be renewed is told", async () => {
  for (const [accessToken, codes] of [[undefined, []], ["text", ["token"]]]) {
    const { clock, network, model, log } = await guarded({ accessToken });
    model.badTokens = true; // so that it is not renewed
    await clock.advance(100);
    log.errors.length = 0;
    first(network.sockets).serverCloses(1008, "token expired");
    assert.deepEqual(log.errors.map(({ code }) => code), codes);
    await clock.advance(600);
    assert.equal(log.client.state, "connected");
    const acks = Array.from({ length: 20 }, (_, n) => outcome(log.client.publish("a", n)));
    await clock.advance(5);
    assert.ok(acks.every(({ status }) => status === "resolved"), "they were not slowed down");
    log.client.close();
  }
});

test("a text is sent with every connection and never renewed", async () => {
  const { clock, network, log } = await guarded({ accessToken: "only" });
  await clock.advance(120_000);
  network.cutAll();
  await clock.advance(1000);
  assert.deepEqual([network.protocols, log.refreshed], [[["bearer", "only"], ["bearer", "only"]], undefined]);
});

test("who is denied again and again says so, and does not storm", async () => {
  const { clock, network, client } = world();
  network.mode = "deny";
  const log = client({ accessToken: "bad" });
  await clock.advance(600_000);
  assert.ok(network.attempts.length < 60, `${network.attempts.length} attempts in ten minutes`);
  assert.deepEqual(new Set(log.errors.map(({ code, status }) => `${code} ${status}`)), new Set(["handshake 401"]));
});

test("where the platform keeps to itself why, the server is asked by HTTP", async () => {
  const { clock, network, client } = world();
  network.mode = "refuse";
  const asked = [];
  let status = 401;
  let ended = 0;
  const fetch = async (url, request) => {
    asked.push([url, request.method, request.headers.authorization]);
    if (status === 0) throw new TypeError("failed to fetch");
    if (status === 200) return new Response(new ReadableStream({ cancel: () => { ended++; } }));
    return new Response(`${status} Unauthorized\nThe token is not valid.\n`, { status });
  };
  const log = client({ accessToken: "bad", fetch });
  await clock.advance(10_000);
  assert.deepEqual(asked[0], ["http://server/sse?topic=room", undefined, "Bearer bad"]);
  assert.deepEqual([log.errors[0].code, log.errors[0].status], ["handshake", 401]);
  assert.match(log.errors[0].message, /the server answers 401: The token is not valid\.$/);
  assert.ok(asked.length < log.retries.length, `${asked.length} of ${log.retries.length}`);
  for (const other of [200, 0]) {
    status = other;
    log.errors.length = 0;
    await clock.advance(300_000);
    assert.deepEqual(log.errors, []);
  }
  assert.ok(ended > 0, "a stream that was let in is ended");
  const count = asked.length;
  const anonymous = client({ fetch });
  await clock.advance(10_000);
  assert.deepEqual([asked.length, anonymous.errors], [count, []], "without a token, it is not for the token");
});

test("a topic's token: a text, or a function that is asked for each subscription", async () => {
  const { clock, network, client } = world();
  const log = client();
  const calls = [];
  log.client.subscribe("plain", () => {});
  log.client.subscribe("text", () => {}, { token: "t.text" });
  const vip = log.client.subscribe("vip", () => {}, { token: async (topic) => `t.${calls.push(topic)}` });
  const ready = outcome(vip.ready);
  await clock.advance(10);
  assert.deepEqual([ready.status, calls], ["resolved", ["vip"]]);
  const requests = () => sent(network, "subscribe").map(({ topics, tokens }) => [topics, tokens]);
  assert.deepEqual(requests(), [[["plain"], undefined], [["text"], { text: "t.text" }], [["vip"], { vip: "t.1" }]]);
  network.cutAll();
  await clock.advance(1000);
  assert.deepEqual(requests(), [[["plain"], undefined], [["text"], { text: "t.text" }], [["vip"], { vip: "t.2" }]]);
  assert.throws(() => log.client.subscribe("x", () => {}, { token: 7 }), TypeError);
});

test("a topic's token that cannot be had: a few times, then the subscription is refused", async () => {
  const { clock, network, client } = world();
  const log = client();
  let calls = 0;
  let broken = true;
  const token = () => {
    calls++;
    if (broken) throw new Error("no backend");
    return "t";
  };
  const ready = outcome(log.client.subscribe("vip", () => {}, { token }).ready);
  await clock.advance(60_000);
  assert.deepEqual([calls, ready.code, ready.error.topic, ready.error.message],
    [5, "token", "vip", "no token for topic vip: no backend"]);
  broken = false;
  network.cutAll();
  await clock.advance(1000);
  assert.equal(sent(network, "subscribe").length, 1, "on another connection, it is asked for again");
  broken = true;
  network.cutAll();
  await clock.advance(60_000);
  assert.deepEqual(log.errors.map(({ code }) => code), ["token"], "it was granted: that it is not any more is told");
  log.client.close();
  await clock.advance(5);
  assert.equal(clock.timers, 0);
});

test("a topic's token that is over: another one is asked for, and the subscription goes on where it was", async () => {
  const { clock, network, model, client } = world();
  const log = client();
  const [calls, heard] = [[], []];
  const token = async (topic) => `t.${calls.push(topic)}`;
  const listen = (topic, options) => log.client.subscribe(topic, ({ data }) => heard.push(data), options);
  const off = [listen("vip", { token }), listen("text", { token: "once" }), listen("gone", { token })].at(-1);
  await clock.advance(10);
  model.publish("vip", "1");
  await clock.advance(10);
  model.expire("vip");
  model.publish("vip", "2");
  await clock.advance(10);
  assert.deepEqual([heard, calls, log.errors], [[1, 2], ["vip", "gone", "vip"], []]);
  model.expire("text");
  await clock.advance(10);
  assert.deepEqual(log.errors.map(({ code, topic }) => [code, topic]), [["token", "text"]]);
  off();
  await clock.advance(10);
  model.expire("gone");
  await clock.advance(10);
  const asked = () => sent(network, "subscribe").flatMap(({ topics }) => topics).sort();
  assert.deepEqual([calls.length, asked()], [3, ["gone", "text", "vip", "vip"]]);
  network.cutAll();
  await clock.advance(1000);
  assert.deepEqual(asked(), ["text", "vip"], "on another connection, all are asked for");
});

test("tokens of topics are checked some at a time", async () => {
  const { clock, network, client } = world();
  const log = client();
  await clock.advance(10);
  const all = Array.from({ length: 40 }, (_, n) => outcome(log.client.subscribe(`t${n}`, () => {}, { token: "t" }).ready));
  await clock.advance(100);
  const asked = sent(network, "subscribe").map(({ topics }) => topics);
  assert.deepEqual([asked[0].length, new Set(asked.flat()).size, asked.flat().length], [16, 40, 40]);
  assert.ok(all.every(({ status }) => status === "resolved"));
});

test("who ends a subscription, or is cut off, while its token is fetched, asks for nothing", async () => {
  const { clock, network, client } = world();
  const log = client();
  await clock.advance(10);
  const release = [];
  const token = () => new Promise((resolve) => release.push(resolve));
  const off = log.client.subscribe("vip", () => {}, { token });
  await clock.advance(10);
  off();
  release[0]("late");
  await clock.advance(10);
  assert.deepEqual([sent(network, "subscribe"), log.errors], [[], []]);
  log.client.subscribe("vip", () => {}, { token });
  await clock.advance(10);
  network.cutAll();
  await clock.advance(1000);
  release[1]("late");
  release[2]("good");
  await clock.advance(10);
  assert.deepEqual(sent(network, "subscribe").map(({ tokens }) => tokens), [{ vip: "good" }]);
});
