// Runs in a browser: what only a browser can show. The address says who controls the network: ?control=URL
import { Uproar } from "/src/index.js";

const WAIT = 10_000;
const control = new URLSearchParams(location.search).get("control");
const network = (what) => fetch(`${control}/${what}`, { method: "POST" });

async function until(what, check) {
  const deadline = Date.now() + WAIT;
  while (!check()) {
    if (Date.now() > deadline) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function equal(what, seen, wanted) {
  if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

async function topics() {
  const client = new Uproar("/room", { retryBase: 50 }); // relative to the page
  const heard = [];
  client.on("message", ({ text }) => heard.push(text));
  await client.chat("hello");
  await client.subscribe("kept.browser", ({ data }) => heard.push(data)).ready;
  await client.publish("kept.browser", 1);
  await network("cut");
  await client.publish("kept.browser", 2);
  await until("all are heard", () => heard.length === 3);
  equal("what was heard", heard, ["hello", 1, 2]);
  client.close();
}

/** With waits of an hour, only the event can have brought it back. */
async function online() {
  const client = new Uproar("/room", { retryBase: 3_600_000, retryCap: 3_600_000 });
  await until("connected", () => client.state === "connected");
  await network("refuse");
  await network("cut");
  await until("lost", () => client.state === "reconnecting");
  await network("up");
  dispatchEvent(new Event("online"));
  await until("connected again", () => client.state === "connected");
  await network("refuse");
  await network("cut");
  await until("lost again", () => client.state === "reconnecting");
  await network("up");
  document.dispatchEvent(new Event("visibilitychange"));
  await until("connected again", () => client.state === "connected");
  client.close();
}

async function halfOpen() {
  const client = new Uproar("/room", { retryBase: 50, heartbeatInterval: 200, heartbeatTimeout: 500 });
  const { ready } = client.subscribe("kept.browser.deaf", () => {});
  await ready;
  await network("half-open");
  const { offset } = await client.publish("kept.browser.deaf", 1);
  equal("where it is", offset, 1);
  client.close();
}

async function fallback() {
  await network("block");
  const client = new Uproar("/room", { retryBase: 50, fallbackAfter: 2, websocketRetry: 300 });
  const heard = [];
  await client.subscribe("kept.browser.sse", ({ data }) => heard.push(data)).ready;
  equal("transport", client.transport, "sse");
  await client.publish("kept.browser.sse", "posted");
  await until("it is heard", () => heard.length === 1);
  await network("up");
  await until("back to WebSocket", () => client.transport === "websocket");
  await client.publish("kept.browser.sse", "sent");
  await until("both are heard", () => heard.length === 2);
  equal("what was heard", heard, ["posted", "sent"]);
  client.close();
}

const outcomes = {};
for (const check of [topics, online, halfOpen, fallback]) {
  try {
    await check();
    outcomes[check.name] = "ok";
  } catch (error) {
    outcomes[check.name] = String(error.stack ?? error);
  }
}
await fetch(`${control}/report`, { method: "POST", body: JSON.stringify(outcomes) });
