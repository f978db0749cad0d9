// Drives the admin page in a real browser, with market data going out: node admin.mjs ADMIN_URL OUTDIR
// UPROAR_URL is where clients connect (ws://host:port), UPROAR_ADMIN_KEY the server's key. Screenshots go to OUTDIR;
// PORTRAIT_SECONDS of charts are in them (default 4).
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { NARROW, WIDE, faults, fits, newPage, run, until } from "./common.mjs";

const READERS = 240;
const SYMBOLS = ["EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF", "AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "BTCUSD", "ETHUSD"];
const TICK_MS = 50;
const MARKUP = "<img src=x onerror=\"document.title='owned'\">";
const target = new URL(process.env.UPROAR_URL);
const key = process.env.UPROAR_ADMIN_KEY;

/** A reader, on a bare socket. One that does not read leaves all that comes to the kernel, and then to the server. */
async function reader(path, { from = "192.0.2.1", reads = true } = {}) {
  const socket = connect({ host: target.hostname, port: Number(target.port) });
  const seen = { text: "", ended: false, socket };
  socket.on("error", () => {});
  socket.on("close", () => { seen.ended = true; });
  socket.write([
    `GET ${path} HTTP/1.1`, `Host: ${target.host}`, `X-Forwarded-For: ${from}`, "Connection: Upgrade", "Upgrade: websocket",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", "",
  ].join("\r\n"));
  const [head] = await once(socket, "data");
  assert.match(String(head), /^HTTP\/1.1 101 /, "the server takes the reader");
  if (reads) socket.on("data", (bytes) => { seen.text = (seen.text + bytes).slice(-4096); });
  else socket.pause();
  return seen;
}

const raw = (topic) => `/raw/${encodeURIComponent(topic)}`;

/** The reader of that number: many are in few topics; one in eight speaks json, in the room of that name. */
function nthReader(i) {
  const topic = `prices.${SYMBOLS[Math.floor((i / READERS) ** 2 * SYMBOLS.length)]}`;
  return reader(i % 8 ? raw(topic) : `/?room=${topic}`, { from: `198.51.100.${1 + (i * 37) % 250}` });
}

/** Prices go out: of every symbol, some more often than others, to so many readers. `stop()` ends it. */
async function market(admin) {
  const prices = new Map(SYMBOLS.map((symbol, i) => [symbol, 10 ** (i % 4)]));
  const post = (messages) => fetch(new URL("/batch", admin), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ messages }),
  });
  const readers = await Promise.all(Array.from({ length: READERS }, (_, i) => nthReader(i)));
  const slow = await reader(raw("depth.EURUSD"), { from: "203.0.113.7", reads: false });
  const depth = JSON.stringify(Array.from({ length: 900 }, (_, i) => ({ price: (1.08 + i / 1e5).toFixed(5), size: 1e6 })));
  let round = 0;
  const tick = () => {
    round += 1;
    const busy = 1 + 0.4 * Math.sin(round / 160) + 0.2 * Math.sin(round / 23);
    const messages = SYMBOLS.filter((_, i) => Math.random() * (i + 1) < busy).map((symbol) => {
      prices.set(symbol, prices.get(symbol) * (1 + (Math.random() - 0.5) / 1000));
      return { topic: `prices.${symbol}`, data: { bid: Number(prices.get(symbol).toPrecision(6)), at: Date.now() } };
    });
    if (round % 10 === 0) messages.push({ topic: "depth.EURUSD", data: depth, encoding: "text" });
    if (messages.length) post(messages).catch(() => {});
  };
  const timer = setInterval(tick, TICK_MS);
  // A check that fails ends the process, whatever is still open.
  timer.unref();
  for (const { socket } of [...readers, slow]) socket.unref();
  const stop = () => {
    clearInterval(timer);
    for (const { socket } of [...readers, slow]) socket.destroy();
  };
  return { slow, stop };
}

const state = (page) => page.textContent("#state");
const value = (page, id) => page.textContent(`#${id}`).then((text) => Number(text.replace(/[^\d.]/g, "")));
const slowest = (page) => page.locator("#connections tr").first();

async function checkCharts(page) {
  await until("it is told that the server serves", () => state(page), "Serving");
  const picture = () => page.locator("#chart-delivered").evaluate((canvas) => canvas.toDataURL());
  await until("deliveries are counted", () => value(page, "delivered").then((perSecond) => perSecond > 10), true);
  const before = await picture();
  await until("and the chart goes on", () => picture().then((now) => now !== before), true);
  assert.ok(await value(page, "connections-count") > READERS, "connections are counted");
  assert.ok(await value(page, "memory") > 1, "memory is measured");
  for (const id of ["delivered", "latency", "connections", "memory", "dropped"]) {
    await until(`the chart of ${id} has points`, () => page.getAttribute(`#chart-${id}`, "data-points").then((n) => Number(n) >= 3), true);
  }
  await page.click("#pause");
  const held = await picture();
  await page.waitForTimeout(1500);
  assert.equal(await picture(), held, "a pause holds it");
  await page.click("#pause");
}

async function checkTopics(page) {
  const first = () => page.locator("#topics tr td").first().textContent();
  await until("the busiest topic is first", first, "prices.EURUSD");
  await until("with its rate", () => page.locator("#topics tr td").nth(2).textContent().then((rate) => Number(rate.replace(",", "")) > 1), true);
  await page.check('input[name="topics"][value="subscribers"]');
  const readers = () => page.locator("#topics tr td").nth(1).textContent().then(Number);
  await until("the largest topic has most readers", () => readers().then((n) => n > READERS / SYMBOLS.length), true);
}

async function checkDisconnect(page, slow) {
  await until("the slow reader is first", () => slowest(page).getAttribute("class"), "slow");
  assert.equal(await slowest(page).locator("td").nth(1).textContent(), "raw");
  const number = await slowest(page).getAttribute("data-key");
  const button = page.locator(`#connections tr[data-key="${number}"] button`);
  await button.focus();
  await page.keyboard.press("Enter");
  await until("it asks whether that is meant", () => button.textContent(), "Really?");
  await page.waitForTimeout(1200); // a look later, the focus is where it was
  await page.keyboard.press("Enter");
  slow.socket.resume(); // or it would not learn of it
  await until("the connection is closed", () => slow.ended);
  await until("and listed no more", () => button.count(), 0);
}

async function checkPublish(page) {
  const topic = `notes ${MARKUP}`;
  const listener = await reader(raw(topic));
  await page.fill("#topic", topic);
  await page.fill("#data", '{"text": "hello",  "n": 1}');
  await page.press("#data", "Control+Enter");
  await until("what is published is ordered", () => page.textContent("#published").then((said) => said.startsWith("Published: message 1")), true);
  await until("and arrives as it is spelled", () => listener.text.includes('{"text": "hello",  "n": 1}'));
  await page.fill("#data", "no JSON");
  await page.click("#publish button");
  await until("what is no JSON is not sent", () => page.textContent("#published").then((said) => said.startsWith("This is no JSON")), true);
  await page.check('input[name="encoding"][value="text"]');
  await page.click("#publish button");
  await until("but as text it is", () => listener.text.includes("no JSON"));
  await until("a topic's name is text", () => page.locator("#topics td.name", { hasText: "<img" }).count(), 1);
  assert.equal(await page.locator("td img").count(), 0, "markup makes no elements");
  assert.notEqual(await page.title(), "owned", "markup runs no script");
  listener.socket.destroy();
}

/** Under a name of somebody's, the server opens to those with its key alone. */
async function checkKey(browser, admin) {
  const context = await browser.newContext({ viewport: WIDE });
  const page = await context.newPage(); // refusals are errors to the console, and are meant here
  page.on("pageerror", (error) => faults.push(`key: ${error}`));
  const named = new URL(admin);
  named.hostname = "uproar.localhost";
  await page.goto(named.href);
  const asks = () => page.locator("#door").evaluate((door) => door.open);
  await until("the key is asked for", asks, true);
  await page.fill("#key", "not-the-key-of-this-server");
  await page.press("#key", "Enter");
  await until("a wrong key is none", async () => (await asks()) && (await page.inputValue("#key")) === "", true);
  await page.fill("#key", key);
  await page.press("#key", "Enter");
  await until("the right one opens", () => state(page), "Serving");
  await page.reload();
  await until("this tab keeps it", () => state(page), "Serving");
  assert.deepEqual([await context.cookies(), await page.evaluate(() => localStorage.length)], [[], 0]);
  await page.click("#forget");
  await until("until it is told to forget it", asks, true);
  await context.close();
}

/** A page of another origin cannot publish: what it may send is not taken, and for more it would need leave. */
async function checkOthers(browser, admin) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(target.href.replace(/^ws/, "http"));
  const attempt = (type) => page.evaluate(async ([url, contentType]) => {
    const body = '{"topic":"stolen","data":1}';
    const mode = contentType === "text/plain" ? "no-cors" : "cors";
    try { await fetch(url, { method: "POST", mode, body, headers: { "Content-Type": contentType } }); return "sent"; } catch { return "refused"; }
  }, [new URL("/publish", admin).href, type]);
  await attempt("text/plain");
  await attempt("application/json");
  const busiest = await fetch(new URL("/history?topic=stolen", admin)).then((answer) => answer.json());
  assert.equal(busiest.offset, 0, "nothing was published from elsewhere");
  await context.close();
}

async function portray(browser, admin, outdir) {
  const looks = [["admin-light", WIDE, "light"], ["admin-dark", WIDE, "dark"], ["admin-narrow", NARROW, "light"]];
  const pages = [];
  for (const [name, viewport, colorScheme] of looks) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 1.25 });
    const page = await newPage(context, name);
    await page.goto(admin);
    await page.fill("#topic", "prices.EURUSD");
    await page.fill("#data", '{"bid": 1.08412, "ask": 1.08415}');
    pages.push([name, page]);
  }
  await new Promise((resolve) => setTimeout(resolve, 1000 * Number(process.env.PORTRAIT_SECONDS ?? 4)));
  for (const [name, page] of pages) {
    await page.bringToFront();
    await until(`${name} is there`, () => state(page), "Serving");
    await page.waitForTimeout(1500);
    assert.ok(await fits(page), `${name}: nothing sticks out sideways`);
    await page.screenshot({ path: join(outdir, `${name}.png`) });
  }
}

await run("admin", async (browser, admin, outdir) => {
  const first = await market(admin);
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light" });
  const page = await newPage(context, "admin page");
  await page.goto(admin);
  await checkCharts(page);
  await checkTopics(page);
  await checkDisconnect(page, first.slow);
  await checkPublish(page);
  await context.close();
  await checkKey(browser, admin);
  await checkOthers(browser, admin);
  first.stop();
  const second = await market(admin);
  await portray(browser, admin, outdir);
  second.stop();
});
