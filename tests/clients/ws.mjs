// Node's `ws` against a running server: node ws.mjs URL [PID]
// With the server's process id, it is also asked to end (SIGINT), to see how it takes leave.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import WebSocket from "ws";

const [url, pid] = process.argv.slice(2);
if (!url) {
  console.error("usage: node ws.mjs URL [PID]");
  process.exit(2);
}

const WAIT_MS = 20_000;
let topics = 0;
const freshTopic = () => `ws-${process.pid}-${topics++}`;

/** Rejects where `promise` takes too long. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`timed out: ${what}`)), WAIT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A connection with what it has received: `[data, isBinary]` in order. */
class Client {
  received = [];
  #waiting = [];

  static async open(path, options = { perMessageDeflate: false }) {
    const client = new Client();
    client.socket = new WebSocket(`${url}${path}`, options);
    client.socket.on("message", (data, isBinary) => client.#take(isBinary ? data : data.toString(), isBinary));
    client.closed = once(client.socket, "close").then(([code, reason]) => [code, reason.toString()]);
    client.socket.on("error", (error) => { client.error = error; });
    await within(once(client.socket, "open"), `open ${path}`);
    return client;
  }

  #take(data, isBinary) {
    this.received.push([data, isBinary]);
    this.#waiting = this.#waiting.filter(({ count, resolve }) => this.received.length < count || resolve());
  }

  /** The messages, once there are `count` of them. */
  async messages(count) {
    const enough = new Promise((resolve) => this.#waiting.push({ count, resolve }));
    if (this.received.length < count) {
      const closed = this.closed.then(([code]) => { throw new Error(`closed with ${code}`); });
      await within(Promise.race([enough, closed]), `message ${count}, has ${this.received.length}`);
    }
    assert.equal(this.received.length, count, "no more messages than expected");
    return this.received;
  }

  /** The next message, parsed. */
  async json() {
    const received = await this.messages(this.received.length + 1);
    return JSON.parse(received.at(-1)[0]);
  }

  say(command) {
    this.socket.send(JSON.stringify(command));
    return this.json();
  }

  close(code = 1000, reason = "") {
    this.socket.close(code, reason);
    return within(this.closed, "close");
  }
}

const openMany = (count, path, options) => Promise.all(Array.from({ length: count }, () => Client.open(path, options)));
const closeAll = (clients) => Promise.all(clients.map((client) => client.close()));

/** Every message reaches everybody as it was sent, the sender too. */
async function exchange(messages, options) {
  const clients = await openMany(3, `/raw/${freshTopic()}`, options);
  for (const [i, message] of messages.entries()) {
    clients[i % 3].socket.send(message);
    for (const client of clients) {
      const [data, isBinary] = (await client.messages(i + 1)).at(-1);
      assert.equal(isBinary, typeof message !== "string");
      assert.ok(isDeepStrictEqual(data, message), `message ${i} of ${message.length} arrives as it was sent`);
    }
  }
  await closeAll(clients);
  return clients;
}

const TEXTS = ["", "plain", "žluťoučký 🐎 \u0000", "x".repeat(125), "x".repeat(126), "x".repeat(65_535), "x".repeat(65_536)];
const bytes = (length) => Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31) ^ (i >> 8)));
const BINARIES = [0, 1, 125, 126, 127, 65_535, 65_536].map(bytes);
const TEMPLATE = JSON.stringify({ symbol: "EURUSD", bid: 1.08412, ask: 1.08415, depth: Array(40).fill([1.0841, 250_000]) });
const COMPRESSIBLE = [TEMPLATE, TEMPLATE, Buffer.from(TEMPLATE.repeat(50)), bytes(40_000), "", TEMPLATE.repeat(100)];

const OFFERS = {
  "no parameters": {},
  "everything compressed": { threshold: 0 },
  "serverMaxWindowBits 9": { serverMaxWindowBits: 9, threshold: 0 },
  "serverMaxWindowBits 12": { serverMaxWindowBits: 12, threshold: 0 },
  "clientMaxWindowBits 10": { clientMaxWindowBits: 10, threshold: 0 },
  "clientMaxWindowBits true": { clientMaxWindowBits: true, threshold: 0 },
  serverNoContextTakeover: { serverNoContextTakeover: true, threshold: 0 },
  clientNoContextTakeover: { clientNoContextTakeover: true, threshold: 0 },
  "all of them": {
    serverMaxWindowBits: 11, clientMaxWindowBits: 11, serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0,
  },
};

async function deflate(perMessageDeflate) {
  const [client] = await exchange(COMPRESSIBLE, { perMessageDeflate });
  assert.match(client.socket.extensions, /permessage-deflate/);
}

async function deflateBesidePlain() {
  const path = `/raw/${freshTopic()}`;
  const plain = await openMany(2, path);
  const narrow = await openMany(2, path, { perMessageDeflate: { serverMaxWindowBits: 9, threshold: 0 } });
  const wide = await openMany(2, path, { perMessageDeflate: { threshold: 0 } });
  const all = [...plain, ...narrow, ...wide];
  for (const [i, client] of all.entries()) {
    client.socket.send(`${i} ${TEMPLATE}`);
    for (const other of all) assert.equal((await other.messages(i + 1)).at(-1)[0], `${i} ${TEMPLATE}`);
  }
  await closeAll(all);
}

async function pings() {
  const client = await Client.open(`/raw/${freshTopic()}`);
  for (const payload of [Buffer.alloc(0), Buffer.from("are you there"), bytes(125)]) {
    const pong = once(client.socket, "pong");
    client.socket.ping(payload);
    assert.deepEqual((await within(pong, "pong"))[0], payload);
  }
  client.socket.pong("unasked for");
  client.socket.send("still open");
  await client.messages(1);
  await client.close();
}

async function fragments(options) {
  const [one, two] = await openMany(2, `/raw/${freshTopic()}`, options);
  const pieces = ["fra", "gme", "", "nts 🐎", "."];
  for (const [i, piece] of pieces.entries()) {
    one.socket.send(piece, { fin: i === pieces.length - 1 });
    one.socket.ping("between"); // a control frame may come between the fragments of a message
  }
  for (const client of [one, two]) assert.deepEqual(await client.messages(1), [[pieces.join(""), false]]);
  const parts = Array.from({ length: 100 }, (_, i) => bytes(i * 7));
  for (const [i, part] of parts.entries()) two.socket.send(part, { fin: i === parts.length - 1 });
  for (const client of [one, two]) assert.ok(Buffer.concat(parts).equals((await client.messages(2))[1][0]));
  await closeAll([one, two]);
}

async function senderLeftOut() {
  const topic = freshTopic();
  const [silent, listener] = [await Client.open(`/raw/${topic}?self=false`), await Client.open(`/raw/${topic}`)];
  silent.socket.send("from the silent one");
  await listener.messages(1);
  listener.socket.send("from the listener");
  assert.deepEqual(await silent.messages(1), [["from the listener", false]]);
  assert.equal((await listener.messages(2))[1][0], "from the listener");
  await closeAll([silent, listener]);
}

/** Everybody sends at once: everybody receives everything, in one order, and each sender's messages in its order. */
async function crowd(count, each, options) {
  const clients = await openMany(count, `/raw/${freshTopic()}`, options);
  for (let n = 0; n < each; n++) for (const [i, client] of clients.entries()) client.socket.send(`${i}:${n}`);
  const orders = await Promise.all(clients.map((client) => client.messages(count * each)));
  const sequence = orders[0].map(([text]) => text);
  for (const [i, order] of orders.entries()) {
    assert.ok(order.every(([text], at) => text === sequence[at]), `client ${i} receives in the order of client 0`);
  }
  const next = new Array(count).fill(0);
  for (const text of sequence) {
    const [sender, n] = text.split(":").map(Number);
    assert.equal(n, next[sender]++, `messages of client ${sender} keep their order`);
  }
  await closeAll(clients);
}

async function closesOfTheClient() {
  for (const [code, reason] of [[1000, ""], [1000, "done"], [1001, "leaving"], [3000, "a library's"], [4999, "ž".repeat(61)]]) {
    const client = await Client.open(`/raw/${freshTopic()}`);
    const [answered] = await client.close(code, reason);
    assert.equal(answered, code);
  }
  const client = await Client.open(`/raw/${freshTopic()}`);
  client.socket.close();
  assert.deepEqual(await within(client.closed, "close"), [1005, ""]);
}

/** What a client does wrong, and the code it is told. */
const OFFENCES = {
  1002: { "an unmasked frame": (client) => client.socket.send("x", { mask: false }),
    "a reserved opcode": (client) => client.socket._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0])),
    "a compressed frame, not agreed on": (client) => client.socket._socket.write(Buffer.from([0xc1, 0x80, 0, 0, 0, 0])),
    "a continuation of nothing": (client) => client.socket._socket.write(Buffer.from([0x80, 0x80, 0, 0, 0, 0])),
    "a ping of 126 bytes": (client) => client.socket._socket.write(Buffer.from([0x89, 0xfe, 0, 126, 0, 0, 0, 0])) },
  1007: { "text that is not UTF-8": (client) => client.socket.send(Buffer.from([0x68, 0xff]), { binary: false }) },
  1009: { "a message beyond 1 MiB": (client) => client.socket.send(Buffer.alloc((1 << 20) + 1)) },
};

async function closesOfTheServer() {
  for (const [code, offences] of Object.entries(OFFENCES)) {
    for (const [what, commit] of Object.entries(offences)) {
      const client = await Client.open(`/raw/${freshTopic()}`);
      commit(client);
      const [told] = await within(client.closed, `close after ${what}`);
      assert.equal(told, Number(code), what);
    }
  }
}

/** A client of the `json` dialect, alone in a room, that was welcomed. */
async function openJson() {
  const client = await Client.open(`/?room=${freshTopic()}`);
  const [[welcome]] = await client.messages(1);
  assert.equal(JSON.parse(welcome).type, "connected");
  return client;
}

async function jsonDialect() {
  const [one, two] = [await openJson(), await openJson()];
  const [a, b] = [freshTopic(), freshTopic()];
  const joined = (...topics) => ({ type: "subscribed", topics: topics.map((topic) => ({ topic, ok: true })) });
  assert.deepEqual(await one.say({ type: "subscribe", topics: [a, b] }), joined(a, b));
  assert.deepEqual(await two.say({ type: "subscribe", topic: b }), joined(b));
  assert.equal((await one.say({ type: "ping" })).type, "pong");

  const data = { bid: 1.5, text: "ž\n\"🐎\"", list: [null, true, { deep: [] }] };
  const atTwo = two.json();
  assert.deepEqual(await one.say({ type: "publish", topic: b, data }), data, "a subscriber receives what it publishes");
  assert.deepEqual(await atTwo, data);
  const atOne = one.json();
  two.socket.send(JSON.stringify({ type: "publish", topic: a, data: "to a, without having joined" }));
  assert.equal(await atOne, "to a, without having joined");

  const left = { type: "unsubscribed", topics: [{ topic: a, ok: true }, { topic: "never", ok: false, error: "not_subscribed" }] };
  assert.deepEqual(await one.say({ type: "unsubscribe", topics: [a, "never"] }), left);
  two.socket.send(JSON.stringify({ type: "publish", topic: a, data: "to nobody" }));
  for (const [command, code] of [[{ type: "no such" }, "unknown_type"], [{ type: "subscribe" }, "no_topic"],
    [{ type: "publish", topic: a }, "no_data"], [[], "invalid_json"], ["{", "invalid_json"]]) {
    const { type, message, code: told } = await one.say(command);
    assert.deepEqual([type, typeof message, told], ["error", "string", code]);
  }
  const toTheRoom = one.messages(one.received.length + 1);
  one.socket.send(Buffer.from("binary"));
  assert.deepEqual((await toTheRoom).at(-1), [Buffer.from("binary"), true], "binary messages go to the room as they are");
  const refused = await one.say({ type: "subscribe", topics: ["x".repeat(257), ""] });
  assert.deepEqual(refused.topics.map(({ ok, error }) => [ok, error]), [[false, "bad_topic"], [false, "bad_topic"]]);
  await closeAll([one, two]);
}

/** The two dialects meet in a topic. */
async function bothDialects() {
  const topic = freshTopic();
  const [json, raw] = [await openJson(), await Client.open(`/raw/${topic}`)];
  await json.say({ type: "subscribe", topic });
  const atRaw = raw.messages(1);
  await json.say({ type: "publish", topic, data: { n: 1 } });
  assert.deepEqual(await atRaw, [['{"n":1}', false]]);
  const atJson = json.json();
  raw.socket.send('"from raw"');
  assert.equal(await atJson, "from raw");
  await closeAll([json, raw]);
}

/** Opens a connection that the server must refuse, and tells with which status. */
async function refusal(path) {
  const socket = new WebSocket(`${url}${path}`);
  socket.on("error", () => {});
  const [, response] = await within(once(socket, "unexpected-response"), `refusal of ${path}`);
  response.destroy();
  return response.statusCode;
}

async function refusals() {
  assert.equal(await refusal("/raw/"), 400);
  assert.equal(await refusal(`/raw/${"x".repeat(257)}`), 400);
  assert.equal(await refusal("/raw/%ff"), 400);
  assert.equal(await refusal("/metrics"), 404);
}

async function shutdown() {
  const clients = [...await openMany(20, `/raw/${freshTopic()}`), ...await openMany(20, "/", {})];
  process.kill(Number(pid), "SIGINT");
  for (const client of clients) assert.equal((await within(client.closed, "close at shutdown"))[0], 1001);
}

const MIB = 1 << 20;
const CHECKS = {
  "text": () => exchange(TEXTS),
  "binary": () => exchange(BINARIES),
  "messages of 1 MiB": () => exchange([bytes(MIB), "y".repeat(MIB)]),
  "messages of 1 MiB, deflated": () => exchange([bytes(MIB), "y".repeat(MIB)], { perMessageDeflate: { threshold: 0 } }),
  "ping and pong": pings,
  "fragmented messages": () => fragments(),
  "fragmented messages, deflated": () => fragments({ perMessageDeflate: { threshold: 0 } }),
  ...Object.fromEntries(Object.entries(OFFERS).map(([name, offer]) => [`deflate: ${name}`, () => deflate(offer)])),
  "deflate: beside plain connections of one topic": deflateBesidePlain,
  "?self=false": senderLeftOut,
  "200 clients in one topic": () => crowd(200, 5),
  "200 clients in one topic, deflated": () => crowd(200, 5, { perMessageDeflate: { threshold: 0 } }),
  "2 clients, 2,000 messages each": () => crowd(2, 2000),
  "closes of the client": closesOfTheClient,
  "closes of the server": closesOfTheServer,
  "json: topics": jsonDialect,
  "json and raw in one topic": bothDialects,
  "refused upgrades": refusals,
  ...(pid && { "shutdown closes with 1001": shutdown }),
};

let failed = 0;
for (const [name, check] of Object.entries(CHECKS)) {
  try {
    await check();
    console.log(`ok    ws: ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ws: ${name}: ${error.message}`);
  }
}
const { version } = JSON.parse(readFileSync(new URL("node_modules/ws/package.json", import.meta.url)));
console.log(`ws ${version}: ${Object.keys(CHECKS).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
