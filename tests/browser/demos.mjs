// Drives the demos in a real browser, each in two tabs, with their backends: node demos.mjs URL OUTDIR
// UPROAR_BACKEND_KEY is the server's. The server keeps what examples/web/demos.toml says. Screenshots go to OUTDIR.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NARROW, WIDE, fits, newPage, run, until } from "./common.mjs";

const BACKENDS = fileURLToPath(new URL("../../examples/web/backends/all.mjs", import.meta.url));
const SYMBOLS = 300;
const numbers = (count) => `${Array.from({ length: count }, (_, i) => i + 1).join(" ")}.`;

let url; // of the server

/** All backends in one process. `stop()` ends it as a service manager would, and sees that it ends well. */
async function startBackends() {
  const env = { ...process.env, UPROAR_URL: url.replace(/^http/, "ws") };
  const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", BACKENDS], { env, stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => child.kill("SIGKILL"));
  const [line] = await once(child.stdout, "data");
  assert.match(String(line), /^connected to /, "the backends connect");
  child.stdout.resume();
  const stop = async () => {
    const over = once(child, "exit");
    child.kill("SIGTERM");
    assert.deepEqual(await over, [0, null], "the backends end when they are told to");
  };
  return { stop, freeze: () => child.kill("SIGSTOP"), thaw: () => child.kill("SIGCONT") };
}

/** With another key than the server's, a backend says so and tries again. */
async function checkWrongKey() {
  const env = { ...process.env, UPROAR_BACKEND_KEY: "not-the-key-of-the-server", UPROAR_URL: url.replace(/^http/, "ws") };
  const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", BACKENDS], { env, stdio: ["ignore", "inherit", "pipe"] });
  process.once("exit", () => child.kill("SIGKILL"));
  let said = "";
  child.stderr.on("data", (text) => { said += text; });
  const tries = () => said.match(/: not reached, or the key is not the server's.*, again in \d+ ms$/gm)?.length ?? 0;
  await until("a refused backend says why, each time", () => tries() >= 3);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null], "it ends when it is told to");
  assert.equal(said.trim().split("\n").length, tries(), "and says nothing else");
}

/** A demo in a tab, connected. `cuts` collects functions that cut its connections; while it is `down`, all are refused. */
async function open(context, path, name, cuts = null) {
  const page = await newPage(context, name);
  if (cuts) {
    await page.routeWebSocket(/./, (route) => {
      if (cuts.down) return route.close({ code: 1012, reason: "down in the test" });
      route.connectToServer();
      return cuts.push(() => route.close({ code: 1012, reason: "cut by the test" }));
    });
  }
  await page.goto(new URL(`/demo/${path}`, url).href);
  await until(`${name} connects`, () => page.textContent("#status"), "connected");
  return page;
}

const texts = (page, selector) => page.locator(selector).allTextContents();
const listed = (page, selector) => texts(page, selector).then((all) => all.join("|"));

async function checkIndex(context) {
  const page = await newPage(context, "index");
  for (const path of ["/demo", "/demo/"]) {
    await page.goto(new URL(path, url).href);
    assert.equal(await listed(page, "main h2"), "Chat|Ticker|Game|Stream");
  }
  await page.goto(url);
  await page.click('a[href="/demo/"]');
  await page.click("text=Ticker");
  assert.equal(new URL(page.url()).pathname, "/demo/ticker", "the playground leads to the demos");
  await page.close();
}

/** What a text would do as markup, it does not do. Where it could, the policy keeps the browser from it. */
async function checkPolicy(context) {
  const page = await context.newPage(); // whose complaint is what is wanted
  await page.goto(new URL("/demo/chat", url).href);
  const refused = await page.evaluate(() => {
    try {
      document.body.innerHTML = "<b>bold</b>";
      return "nothing";
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(refused, "TypeError", "no text becomes markup");
  await page.close();
}

// ---- Chat --------------------------------------------------------------------------------------

async function enter(context, room, name, cuts) {
  const page = await open(context, `chat?room=${room}`, name, cuts);
  await page.fill("#name", name);
  await page.locator("#name").blur();
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

const said = (page) => listed(page, "#log .text");
const members = async (page) => (await texts(page, "#members li")).map((text) => text.replace(/[0-9a-f]{4}$/, "")).sort().join("|");

async function checkChat(context, room) {
  const cuts = [];
  const [ann, ben] = [await enter(context, room, "Ann", cuts), await enter(context, room, "Ben")];
  await until("Ann sees who is there", () => members(ann), "Ann (you)|Ben");
  await until("Ben sees who is there", () => members(ben), "Ann|Ben (you)");

  const markup = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>";
  await say(ann, markup);
  await until("it comes to the other tab, as text", () => said(ben), markup);
  await until("with the name", () => ben.locator("#log .who").last().textContent().then((who) => who.slice(0, 3)), "Ann");
  await until("and is acknowledged", () => listed(ann, "#log .mark"), "sent ✓");
  assert.equal(await ben.locator("#log img, #log b").count(), 0, "markup makes no elements");
  await say(ben, "hello Ann");
  for (const tab of [ann, ben]) await until("both ways", () => said(tab), `${markup}|hello Ann`);

  cuts.at(-1)();
  await until("a cut is told", () => listed(ann, "#log .note").then((notes) => notes.includes("The connection is lost")));
  await say(ann, "said while away");
  await until("Ann comes back", () => ann.textContent("#status"), "connected");
  for (const tab of [ann, ben]) await until("it is there once", () => said(tab), `${markup}|hello Ann|said while away`);
  await until("and acknowledged", () => listed(ann, "#log .mark"), "sent ✓||sent ✓");

  const cid = await enter(context, room, "Cid");
  await until("who comes late hears what was said", () => said(cid), `${markup}|hello Ann|said while away`);
  await until("and is told the names", () => members(cid), "Ann|Ben|Cid (you)");
  await ben.close();
  await until("who goes is gone", () => members(cid), "Ann|Cid (you)");
  await ann.fill("#other", `${room} & more`);
  await ann.press("#other", "Enter");
  await until("Ann goes to another room", () => ann.textContent("#room"), `${room} & more`);
  await until("where nobody else is", () => ann.textContent("#count"), "1");
  await until("and is gone from the first", () => members(cid), "Cid (you)");
  await ann.close();
  await cid.close();
}

/** What cannot be a room is told, and the page works. */
async function checkNoRoom(context) {
  for (const name of ["é".repeat(129), "%00"]) {
    const page = await open(context, `chat?room=${name}`, "chat, no such room");
    assert.equal(await page.textContent("#room"), "lobby");
    assert.match(await page.locator("#log .note").first().textContent(), /^No room can have that name/);
    await page.close();
  }
  const game = await open(context, `game?room=${"x".repeat(256)}`, "game, no such field");
  assert.ok(await game.isVisible("#unnamed"), "what cannot be a field is told");
  await game.close();
}

/** What the server refuses is said on the page. */
async function checkRefused(context) {
  for (const path of ["chat?room=refused", "ticker"]) {
    const page = await newPage(context, `${path}, refused`);
    await page.routeWebSocket(/./, (route) => {
      const server = route.connectToServer();
      route.onMessage((text) => {
        const { type, topics } = JSON.parse(text);
        if (type !== "subscribe") return server.send(text);
        const refusals = topics.map((topic) => ({ topic, ok: false, error: "not_allowed" }));
        return route.send(JSON.stringify({ type: "subscribed", topics: refusals }));
      });
    });
    await page.goto(new URL(`/demo/${path}`, url).href);
    await until(`${path} says so`, () => page.getByText("the server refused topic").isVisible());
    await page.close();
  }
}

// ---- Ticker ------------------------------------------------------------------------------------

const prices = (page) => texts(page, "#board li span:nth-of-type(1)");
const priced = (page) => prices(page).then((all) => all.filter((price) => /^\d+\.\d\d$/.test(price)).length);

async function checkTicker(context, backends) {
  const one = await open(context, "ticker", "ticker");
  await until("all symbols are priced", () => priced(one), SYMBOLS);
  const before = await prices(one);
  await until("prices change", async () => (await prices(one)).filter((price, i) => price !== before[i]).length > SYMBOLS * 0.8);
  await until("the rate is shown", async () => Number((await one.textContent("#rate")).replaceAll(",", "")) > 100);
  assert.equal(await one.textContent("#missed"), "0", "and nothing was missed");

  backends.freeze(); // so that whatever a newcomer sees was kept for it
  const two = await open(context, "ticker", "ticker, late");
  await until("who comes late has all prices", () => priced(two), SYMBOLS);
  await until("the same in both tabs", async () => (await listed(one, "#board span:nth-of-type(1)")) === (await listed(two, "#board span:nth-of-type(1)")));
  backends.thaw();

  const first = await one.locator("#board li b").first().textContent();
  await one.fill("#filter", first);
  assert.equal(await one.locator("#board li:visible").count(), 1, "the filter leaves one");
  await one.fill("#filter", "");
  await one.click("#pause");
  // What was to be drawn with the next frame still is.
  await one.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  const still = await listed(one, "#board li");
  await until("messages come while it is paused", async () => Number((await one.textContent("#rate")).replaceAll(",", "")) > 100);
  assert.equal(await listed(one, "#board li"), still, "a paused board stands still");
  for (const tab of [one, two]) await tab.close();
}

// ---- Game --------------------------------------------------------------------------------------

/** A player's place, as a tab has it; `null` if it has no such player. */
async function placeOf(page, name) {
  const item = page.locator("#players li", { hasText: name });
  if (await item.count() !== 1) return null;
  return item.evaluate(({ dataset: { x, y, mine } }) => ({ x: Number(x), y: Number(y), mine: mine === "true" }));
}

async function play(context, room, name, cuts) {
  const page = await open(context, `game?room=${room}`, name, cuts);
  await page.fill("#name", name);
  await page.locator("#name").blur();
  await until(`${name} plays`, async () => (await placeOf(page, name))?.mine);
  return page;
}

/** Holds a key in one tab until the player has moved that way in the other. */
async function checkMove(from, to, name, key, moved) {
  const before = await placeOf(to, name);
  await from.keyboard.down(key);
  await until(`${key} moves ${name} in the other tab`, async () => moved(await placeOf(to, name), before));
  await from.keyboard.up(key);
}

async function checkGame(context, room) {
  const cuts = [];
  const [ann, ben] = [await play(context, room, "Ann", cuts), await play(context, room, "Ben")];
  await until("Ann sees both", () => ann.textContent("#count"), "2");
  await until("states come many times a second", async () => Number(await ann.textContent("#rate")) > 10);
  await ann.bringToFront();
  const { x, y } = await placeOf(ben, "Ann");
  const [aside, along] = [x > 480 ? "ArrowLeft" : "ArrowRight", y > 270 ? "KeyW" : "KeyS"];
  await checkMove(ann, ben, "Ann", aside, (now, before) => (x > 480 ? before.x - now.x : now.x - before.x) > 50);
  await checkMove(ann, ben, "Ann", along, (now, before) => (y > 270 ? before.y - now.y : now.y - before.y) > 50);
  await until("who lets go stands", async () => {
    const [before] = [await placeOf(ben, "Ann"), await ben.waitForTimeout(600)];
    const now = await placeOf(ben, "Ann");
    return now.x === before.x && now.y === before.y;
  });
  const stood = await placeOf(ann, "Ben");
  assert.deepEqual(await placeOf(ann, "Ben"), stood, "and nobody else was moved");
  await ben.close();
  await until("who goes is gone", () => ann.textContent("#count"), "1");
  assert.equal(await placeOf(ann, "Ben"), null);
  assert.equal(await ann.isVisible("#cover"), false);
  cuts.down = true;
  cuts.at(-1)();
  await until("without a server, the field says so", () => ann.isVisible("#cover"));
  cuts.down = false;
  await until("and is played on when it is back", async () => !(await ann.isVisible("#cover")) && (await placeOf(ann, "Ann"))?.mine === true);
  await ann.close();
}

// ---- Stream ------------------------------------------------------------------------------------

async function ask(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

const answer = (page) => page.locator(".answer").last().textContent();
const busy = (page) => page.locator("article").last().getAttribute("aria-busy");
const ended = (page) => page.locator(".end").last().textContent();

async function checkStream(context) {
  const cuts = [];
  const [one, two] = [await open(context, "stream", "stream", cuts), await open(context, "stream", "stream, other")];
  await ask(one, "Please count to 60");
  await until("the answer begins", async () => (await answer(one)).startsWith("1 2 3"));
  assert.equal(await busy(one), "true", "and is rendered as it comes");
  await until("it ends", () => busy(one), "false");
  assert.equal(await answer(one), numbers(60), "whole, and in order");
  assert.equal(await two.locator("article").count(), 0, "nobody else is sent it");

  await Promise.all([ask(one, "count to 1000"), ask(two, "What is this?")]);
  await until("both are answered", async () => (await answer(one)).length > 20 && (await answer(two)).length > 20);
  await one.click("#stop");
  await until("stop ends one", () => busy(one), "false");
  assert.match(await ended(one), /^Stopped after \d+ pieces$/);
  const stopped = await answer(one);
  await until("the other one goes on to its end", () => busy(two), "false");
  assert.match(await answer(two), /^No model is behind this page: [^]* no number is missing\.$/);
  assert.equal(await answer(one), stopped, "nothing comes after a stop");
  assert.ok(numbers(1000).startsWith(stopped), "what came is in order");

  await ask(one, "count to 150");
  await until("the third answer begins", async () => (await answer(one)).startsWith("1 2 3"));
  cuts.at(-1)();
  await until("it goes on after a cut, to its end", () => busy(one), "false");
  assert.equal(await answer(one), numbers(150), "without a gap or a repetition");
  for (const tab of [one, two]) await tab.close();
}

async function checkNoBackend(context) {
  const page = await open(context, "stream", "no backend");
  await ask(page, "Anybody?");
  await until("it is told that nobody is there", () => ended(page).then((text) => text.startsWith("No backend is connected")));
  await page.close();
  const game = await open(context, "game?room=nobody", "game without backend");
  await until("the game says so too", () => game.textContent("#note").then((text) => text.startsWith("No backend is connected")));
  await game.close();
}

// ---- Portraits ---------------------------------------------------------------------------------

/** Something to look at in each. */
const SCENES = {
  chat: async (page, peer, scheme) => {
    await say(peer, "Is anybody here?");
    await say(page, "I am. <b>This</b> stays a text.");
    await say(peer, `A longer one, for the look of it: ${"the quick brown fox jumps over the lazy dog, ".repeat(4)}`);
    await until(`${scheme}: all is said`, () => page.locator("#log .text").count().then((count) => count >= 3));
  },
  ticker: async (page) => {
    await until("the board is full", () => priced(page), SYMBOLS);
    await page.waitForTimeout(3000); // for lines worth looking at
  },
  game: async (page, peer) => {
    await until("both play", () => page.textContent("#count"), "2");
    await peer.waitForTimeout(300);
  },
  stream: async (page) => {
    await ask(page, "What is this?");
    await until("there is some text", async () => (await answer(page)).length > 500);
  },
};

async function portray(browser, outdir, demo, colorScheme) {
  const context = await browser.newContext({ viewport: WIDE, colorScheme });
  const path = ["chat", "game"].includes(demo) ? `${demo}?room=portrait-${colorScheme}` : demo;
  const [peer, page] = [await open(context, path, `${demo} peer`), await open(context, path, `${demo} ${colorScheme}`)];
  await page.bringToFront();
  await SCENES[demo](page, peer, colorScheme);
  assert.ok(await fits(page), `${demo}: nothing sticks out sideways`);
  await page.screenshot({ path: join(outdir, `demo-${demo}-${colorScheme}.png`) });
  await page.setViewportSize(NARROW);
  assert.ok(await fits(page), `${demo}: nothing sticks out sideways at ${NARROW.width} px`);
  if (colorScheme === "light") await page.screenshot({ path: join(outdir, `demo-${demo}-narrow.png`) });
  await context.close();
}

await run("demos", async (browser, address, outdir) => {
  url = address;
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light" });
  const room = `browser-${process.pid}`;
  await checkIndex(context);
  await checkPolicy(context);
  await checkNoBackend(context);
  await checkChat(context, room);
  await checkNoRoom(context);
  await checkWrongKey();
  const backends = await startBackends();
  await checkRefused(context);
  await checkTicker(context, backends);
  await checkGame(context, room);
  await checkStream(context);
  await context.close();
  for (const demo of Object.keys(SCENES)) {
    for (const colorScheme of ["light", "dark"]) await portray(browser, outdir, demo, colorScheme);
  }
  await backends.stop();
});
