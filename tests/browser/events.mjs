// Reads an event stream with a real browser's EventSource: node events.mjs URL
// The server keeps a history, and ends each stream after seconds (`--max-lifetime`), so that the browser has to come back.
// CHROMIUM names the browser, /usr/bin/chromium otherwise. Exits 1 at the first failed check.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url] = process.argv.slice(2);
if (!url) {
  console.error("usage: node events.mjs URL");
  process.exit(2);
}

const WAIT_MS = 30_000;
const COUNT = 200;
const PAUSE_MS = 40;
const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const topics = ["one", "two"].map((name) => `events-${process.pid}-${name}`);

/** In the page: listens to the topics, and notes what comes. */
function listen(names) {
  const source = new EventSource(`/sse?${names.map((name) => `topic=${name}`).join("&")}`);
  window.seen = { opened: 0, events: [] };
  source.onopen = () => { window.seen.opened++; };
  const note = ({ type, data, lastEventId }) => window.seen.events.push({ type, lastEventId, ...JSON.parse(data) });
  for (const type of ["subscribed", "message", "gap"]) source.addEventListener(type, note);
}

/** In the page: publishes numbers to each topic, one after the other. */
async function publish({ names, count, pause }) {
  for (let data = 1; data <= count; data++) {
    for (const topic of names) {
      const response = await fetch("/publish", { method: "POST", body: JSON.stringify({ topic, data }) });
      const { offset } = await response.json();
      if (offset !== data) throw new Error(`${topic}: ${offset} instead of ${data}`);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function check({ opened, events }) {
  assert.ok(opened >= 3, `the browser came back: ${opened}`);
  assert.deepEqual(events.filter(({ type }) => type === "gap"), []);
  const messages = events.filter(({ type }) => type === "message");
  for (const name of topics) {
    const numbers = messages.filter(({ topic }) => topic === name).map(({ data }) => data);
    assert.deepEqual(numbers, Array.from({ length: COUNT }, (_, i) => i + 1), name);
  }
  for (const { lastEventId } of messages) assert.equal(lastEventId.split(",").length, topics.length);
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(WAIT_MS);
  await page.goto(url);
  await page.evaluate(listen, topics);
  await page.waitForFunction(() => window.seen.events.length >= 2);
  await page.evaluate(publish, { names: topics, count: COUNT, pause: PAUSE_MS });
  const all = COUNT * topics.length;
  await page.waitForFunction((n) => window.seen.events.filter(({ type }) => type === "message").length >= n, all);
  const seen = await page.evaluate(() => window.seen);
  check(seen);
  console.log(`events: ${all} messages by ${seen.opened} streams, none missed, none twice`);
} finally {
  await browser.close();
}
