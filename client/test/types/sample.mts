// What an application may write, for a compiler to check index.d.ts by: every option, event and method. It is not run.
import { Uproar, UproarError } from "uproar-client";
import type { Ack, Gap, Message, Options, PresenceAnswer, State, TopicToken } from "uproar-client";

declare const NodeSocket: { new (url: string, protocols?: string[], options?: { headers?: object }): WebSocket };

const options: Options = {
  connect: false,
  room: "lobby",
  identity: { clientId: "c", token: "t" },
  accessToken: async () => "eyJ",
  WebSocket: NodeSocket,
  fetch,
  connectTimeout: 10_000,
  retryBase: 500,
  retryCap: 30_000,
  stableAfter: 10_000,
  heartbeatInterval: 15_000,
  heartbeatTimeout: 10_000,
  ackTimeout: 30_000,
  maxInFlight: 1024,
  queueLimit: 1000,
  overflow: "drop-oldest",
  unsure: "resend",
  fallback: true,
  fallbackAfter: 3,
  websocketRetry: 60_000,
  sseTimeout: 60_000,
  sseUrl: "/sse",
  publishUrl: "/publish",
  clock: { now: () => performance.now(), setTimeout: (call, delay) => setTimeout(call, delay), clearTimeout },
  random: Math.random,
  page: globalThis,
};

const client = new Uproar(new URL("wss://server/chat"), options);
const others = [
  new Uproar("/chat", { accessToken: "eyJ", WebSocket }), new Uproar("/chat", { accessToken: () => null }),
  new Uproar("/chat", { accessToken: null, WebSocket: null, identity: null }), new Uproar("/chat"),
];

const state: State = client.state;
const words: (string | null)[] = [client.transport, client.clientId, client.room, client.user];
const numbers: (number | null)[] = [client.userCount, client.pending, client.members?.length ?? 0];
const { clientId, token } = client.identity ?? { clientId: "", token: "" };

const ends: (() => void)[] = [
  client.on("state", (now, { previous, transport, code, reason, error, after }) =>
    console.log(now === previous, transport, code, reason, error?.message, after)),
  client.on("retry", ({ attempt, delay, error, code, reason, after, topics }) =>
    console.log(attempt + delay, error.message, code, reason, after)),
  client.on("message", ({ type, from, timestamp, text }) => console.log(type, from, timestamp, text)),
  client.on("gap", ({ topic, epoch, from, to, missed }: Gap) => console.log(topic, epoch, from, to, missed)),
  client.on("presence", ({ type, topic, joined, left, userCount }) =>
    console.log(type === "moved", topic, joined.length + left.length, userCount)),
  client.on("error", (error: UproarError) =>
    console.log(error.code, error.id, error.topic, error.closeCode, error.status, error.retryAfter, error.cause)),
  client.on("refreshed", ({ expires }) => console.log(expires === null ? "for ever" : new Date(expires))),
];

const price = ({ data, offset, epoch, snapshot }: Message<{ bid: number }>) => console.log(data.bid, offset, epoch, snapshot);
const own: TopicToken = async (topic) => `for ${topic}`;
const off = client.subscribe<{ bid: number }>("AAPL", price, { recover: true, history: true, token: own });
const { epoch, offset } = await off.ready;
client.subscribe("MSFT", price, { token: "eyJ" });
client.subscribe("x", ({ data }) => console.log(data), { recover: false });
off();

for await (const { data, dropped } of client.messages<string>("news", {
  limit: 10, recover: false, token: own, signal: AbortSignal.timeout(1000),
})) {
  console.log(data.length, dropped);
}

const ack: Ack = await client.publish("AAPL", { bid: 1 }, { id: "a", timeout: Infinity, signal: AbortSignal.timeout(1) });
const nothing: void = await client.publish("AAPL", 1, { ack: false });
const acks: Ack[] = [
  await client.chat("hello"), await client.chat({ text: "hello" }, { id: "b" }), await client.send({ type: "prompt" }),
  await client.sendTo("ann", { type: "image", url: "x" }), await client.sendTo("ann", { content: "psst" }),
];
const answer: PresenceAnswer = await client.presence("lobby", { timeout: 1000, signal: AbortSignal.timeout(1) });
const own_room = await client.presence();
client.connect();
client.join("lobby");
client.close();

// What must not be written.
// @ts-expect-error: no option of that name
new Uproar("/chat", { getToken: () => "x" });
// @ts-expect-error: a token is a text
new Uproar("/chat", { accessToken: 7 });
// @ts-expect-error: no such word
new Uproar("/chat", { overflow: "explode" });
// @ts-expect-error: no event of that name
client.on("nothing", () => {});
// @ts-expect-error: it is read, not set
client.room = "x";
// @ts-expect-error: not addressed
client.sendTo("ann", { type: "chat" });

export { acks, ack, answer, clientId, ends, epoch, nothing, numbers, offset, others, own_room, state, token, words };
