// A page by https whose client connects by wss, with a token and without: node secured.mjs HTTPS_URL
// The server takes clients without a token, and tokens made with JWT_SECRET. SPKI is the base64 of the SHA-256 of the
// certificate's public key, which is all that is trusted. CHROMIUM names the browser, /usr/bin/chromium otherwise.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { makeToken } from "../clients/token.mjs";

const [url] = process.argv.slice(2);
if (!url || !process.env.SPKI) {
  console.error("usage: SPKI=… node secured.mjs HTTPS_URL");
  process.exit(2);
}

const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const WAIT_MS = 30_000;
const trusted = `--ignore-certificate-errors-spki-list=${process.env.SPKI}`;
const exp = Math.floor(Date.now() / 1000) + 60;

/** In the page: says something to itself by each way, and what it then knows; tokens are the server's, and a forged one. */
async function converse({ token, forged }) {
  const { Uproar } = await import("/demo/client/index.js");
  const ways = { anonymous: {}, token: { accessToken: async () => token }, stream: { accessToken: token, WebSocket: null } };
  const known = {};
  for (const [name, options] of Object.entries(ways)) {
    const client = new Uproar("/secured", options);
    const errors = [];
    client.on("error", ({ message }) => errors.push(message));
    let tell;
    const heard = new Promise((resolve) => { tell = resolve; });
    await client.subscribe(`browser-${name}`, ({ data }) => tell(data)).ready;
    await client.publish(`browser-${name}`, "🐎".repeat(1000));
    known[name] = { length: (await heard).length, user: client.user, transport: client.transport, errors };
    client.close();
  }
  const client = new Uproar("/secured", { accessToken: forged, fallback: false });
  known.forged = await new Promise((resolve) => client.on("error", ({ code, status }) => resolve([code, status])));
  client.close();
  return known;
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...ARGS, trusted] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  await page.goto(new URL("/demo/chat", url).href);
  await page.waitForFunction(() => document.getElementById("status").textContent === "connected");
  const token = makeToken({ sub: "ann", exp });
  const known = await page.evaluate(converse, { token, forged: `${token.slice(0, -4)}AAAA` });
  const expected = (user, transport) => ({ length: 2000, user, transport, errors: [] });
  assert.deepEqual(known, {
    anonymous: expected(null, "websocket"), token: expected("ann", "websocket"), stream: expected(null, "sse"),
    forged: ["handshake", 401],
  });
  assert.ok(sockets.length >= 4 && sockets.every((each) => each.startsWith("wss://") && !each.includes("access_token")));
  const stranger = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
  const refused = await (await stranger.newPage()).goto(url).then(() => "trusted", ({ message }) => message);
  await stranger.close();
  assert.match(refused, /ERR_CERT_AUTHORITY_INVALID/, "a browser that was not told to trust the certificate does not");
  console.log(`secured: ${sockets.length} WebSockets by TLS, with a token and without; a forged one is told`);
} finally {
  await browser.close();
}
