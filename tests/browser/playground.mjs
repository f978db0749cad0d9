// Drives the playground in a real browser: node playground.mjs URL OUTDIR
// CHROMIUM names the browser, /usr/bin/chromium otherwise. Screenshots go to OUTDIR. Exits 1 at the first failed check.
import assert from "node:assert/strict";
import { exec } from "node:child_process";
import { join } from "node:path";
import { NARROW, WIDE, fits, newPage, run, until } from "./common.mjs";

const NARROWEST = { width: 360, height: 640 };
const topic = `browser-${process.pid}`;
let url; // of the page

async function openTab(context, name) {
  const page = await newPage(context, name);
  await page.goto(`${url}#topic=${topic}`);
  await until(`${name} connects`, () => page.textContent("#state"), "Open");
  assert.equal(await page.inputValue("#topic"), topic, `${name} takes the topic from the address`);
  return page;
}

/** What a command of a shell says, whatever its exit code. */
const shell = (command) => new Promise((resolve) => { exec(command, (_, stdout) => resolve(stdout)); });
const received = (page) => page.locator("#count").getAttribute("value").then(Number);
const lastBody = (page) => page.locator("#messages .row .body").last();
const lastWho = (page) => page.locator("#messages .row .who").last().textContent();

/** Types `text` in one tab and waits until all tabs have counted and listed it. */
async function say(from, tabs, text) {
  const before = await Promise.all(tabs.map(received));
  await from.fill("#text", text);
  await from.press("#text", "Enter");
  for (const [i, tab] of tabs.entries()) await until(`a message reaches tab ${i + 1}`, () => received(tab), before[i] + 1);
  assert.equal(await from.inputValue("#text"), "", "a sent text leaves the field");
}

async function checkBothWays(one, two) {
  for (const [from, to, text] of [[one, two, "from the first"], [two, one, "from the second"]]) {
    await say(from, [one, two], text);
    for (const tab of [one, two]) await until("the text is listed", () => lastBody(tab).textContent(), text);
    assert.equal(await lastWho(from), "you");
    assert.equal(await lastWho(to), "peer");
  }
}

async function checkPayloads(one, two) {
  const markup = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>";
  await say(one, [one, two], markup);
  for (const tab of [one, two]) {
    await until("markup is shown as text", () => lastBody(tab).textContent(), markup);
    assert.equal(await tab.locator("#messages img, #messages b").count(), 0, "markup makes no elements");
    assert.notEqual(await tab.title(), "owned", "markup runs no script");
  }

  await say(one, [one, two], "");
  for (const tab of [one, two]) await until("an empty message says so", () => lastBody(tab).textContent(), "empty");

  const long = "0123456789".repeat(1000);
  await say(one, [one, two], long);
  await until("a long message is cut", () => lastBody(two).textContent(), `${long.slice(0, 320)} +9,680 characters`);
  await lastBody(two).locator("button").click();
  assert.equal(await lastBody(two).textContent(), long, "and shown whole on request");

  await one.check("#as-hex");
  await say(one, [one, two], "00 ff 3c 62 3e");
  for (const tab of [one, two]) await until("binary is shown in hex", () => lastBody(tab).textContent(), "00 ff 3c 62 3e");
  const before = await received(two);
  await one.fill("#text", "0g");
  await one.press("#text", "Enter");
  assert.match(await one.textContent("#hint"), /Not hex/);
  await one.fill("#text", "");
  await one.check("#as-text");
  await say(one, [one, two], "line one\nline two");
  assert.equal(await received(two), before + 1, "what is not hex is not sent");
}

async function checkRecall(page) {
  await page.focus("#text");
  await page.press("#text", "ArrowUp");
  assert.equal(await page.inputValue("#text"), "line one\nline two", "up recalls the last text");
  await page.fill("#text", "");
}

async function checkPauseAndClear(one, two) {
  await two.click("#pause");
  const rows = await two.locator("#messages .row").count();
  await say(one, [one, two], "while paused");
  assert.equal(await two.locator("#messages .row").count(), rows, "a paused tape stands still");
  await two.click("#pause");
  await until("the gap is told", () => two.locator("#messages .note").last().textContent().then((t) => /1 arrived while paused/.test(t)), true);
  await two.click("#clear");
  assert.equal(await two.locator("#messages li").count(), 0, "clear empties the tape");
}

/** The commands of a shell that the page shows work for this topic, whatever is in it. */
async function checkCode(page) {
  const name = `${topic} it's "é"`;
  await page.fill("#topic", name);
  await page.press("#topic", "Enter");
  await until("the topic is joined", () => page.textContent("#state"), "Open");
  await page.click("#tab-curl");
  const commands = (await page.textContent("#code")).split("\n").filter((line) => line.startsWith("curl "));
  const [events, publish, health] = commands.map((command) => command.replace(/^curl/, "curl --silent --max-time 2"));
  const stream = shell(events); // ends by its time
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.match(await shell(publish), /"offset":\d+/, "what is published is ordered");
  await until("and arrives here", () => lastBody(page).textContent(), '"hello"');
  assert.match(await stream, /^data: .*"hello"/m, "and in the stream");
  assert.match(await shell(health), /"connections":\d+/);
  await page.fill("#topic", topic);
  await page.press("#topic", "Enter");
  await until("the first topic is joined again", () => page.textContent("#state"), "Open");
}

async function checkBurst(one, two) {
  const before = await received(two);
  for (const [id, value] of [["count", 3000], ["rate", 3000], ["size", 64]]) await one.fill(`#burst-${id}`, String(value));
  await one.click("#fire");
  await until("every message of a burst is counted", () => received(two), before + 3000);
  assert.ok((await two.locator("#messages > li").count()) <= 500, "the tape stays bounded");
  await until("the burst ends", () => one.textContent("#fire"), "Start");
}

async function checkSwitch(page) {
  await page.fill("#topic", `${topic}/other é`);
  assert.equal(await page.textContent("#connect"), "Switch");
  await page.press("#topic", "Enter");
  await until("the other topic is joined", () => page.textContent("#state"), "Open");
  assert.equal(new URL(page.url()).hash, `#topic=${encodeURIComponent(`${topic}/other é`)}`);
  await say(page, [page], "alone here");
  await page.click("#connect");
  await until("disconnecting closes", () => page.textContent("#state"), "Closed");
  assert.match(await page.textContent("#why"), /^100[05]/, "with the code of the close");
  assert.equal(await page.textContent("#connect"), "Connect");
}

/** The first connection is closed as by a server, later ones are let through. */
async function checkReconnect(context) {
  const page = await context.newPage();
  let first = true;
  await page.routeWebSocket(/\/raw\//, (route) => {
    if (first) setTimeout(() => route.close({ code: 1013, reason: "fell behind" }), 50);
    else route.connectToServer();
    first = false;
  });
  await page.goto(`${url}#topic=${topic}`);
  await until("a close shows its code and reason", () => page.textContent("#why"), "1013 try again later “fell behind”");
  assert.match(await page.textContent("#countdown"), /again in \d/);
  await until("the page connects again by itself", () => page.textContent("#state"), "Open");
  await page.close();
}

async function checkTheme(page) {
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const before = await ground();
  await page.click("#theme");
  const after = await ground();
  assert.notEqual(after, before, "the toggle changes the theme");
  await page.reload();
  assert.equal(await ground(), after, "and the choice outlives a reload");
  await page.evaluate(() => localStorage.clear());
}

/** A fresh page with something to look at: two voices, every kind of payload, a burst. */
async function portray(browser, outdir, name, viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 2, reducedMotion: "reduce" });
  const [page, peer] = [await openTab(context, name), await openTab(context, `${name} peer`)];
  await page.bringToFront();
  await page.fill("#burst-count", "240");
  await page.fill("#burst-rate", "120");
  await page.click("#fire");
  for (const tab of [page, peer]) await until("the burst of the portrait arrives", () => received(tab), 240);
  await page.click("#clear");
  const lines = [
    [peer, '{"symbol":"EURUSD","bid":1.08412,"ask":1.08415,"at":1718035200123}'], [page, "hello from this tab"],
    [peer, "hello back, <b>not bold</b>"], [page, ""], [peer, "first line\nsecond line"],
    [peer, `a long one: ${"the quick brown fox jumps over the lazy dog, ".repeat(20)}`],
  ];
  for (const [from, text] of lines) await say(from, [page, peer], text);
  await peer.check("#as-hex");
  await say(peer, [page, peer], "de ad be ef 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15 16 17");
  await page.mouse.move(0, 0);
  await page.waitForTimeout(600);
  assert.ok(await fits(page), `${name}: nothing sticks out sideways`);
  await page.screenshot({ path: join(outdir, `${name}.png`) });
  await page.setViewportSize(NARROWEST);
  assert.ok(await fits(page), `${name}: nothing sticks out sideways at ${NARROWEST.width} px`);
  await context.close();
}

await run("playground", async (browser, address, outdir) => {
  url = address;
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light" });
  const [one, two] = [await openTab(context, "first tab"), await openTab(context, "second tab")];
  await checkBothWays(one, two);
  await checkPayloads(one, two);
  await checkRecall(one);
  await checkPauseAndClear(one, two);
  await checkCode(two);
  await checkBurst(one, two);
  await until("the health of the server is shown", () => one.textContent("#connections").then((t) => Number(t) >= 2), true);
  await checkSwitch(two);
  await checkTheme(one);
  await checkReconnect(context);
  await context.close();

  await portray(browser, outdir, "light", WIDE, "light");
  await portray(browser, outdir, "dark", WIDE, "dark");
  await portray(browser, outdir, "narrow", NARROW, "light");
  await portray(browser, outdir, "narrow-dark", NARROW, "dark");
});
