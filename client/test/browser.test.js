// The client in Chromium, against the model of the server. CHROMIUM names the browser; by default it is looked for.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ModelServer } from "./model-server.js";
import { Proxy } from "./proxy.js";

const FOUND = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const { CHROMIUM = FOUND } = process.env;
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update",
];
const WAIT = 90_000;
const SCRIPT = /^\/(src|test)\/[a-z-]+\.js$/;
const PAGE = '<!doctype html><script type="module" src="/test/browser-page.js"></script>';

function page(path) {
  if (path === "/page") return ["text/html", PAGE];
  if (!SCRIPT.test(path)) return null;
  return ["text/javascript", readFileSync(new URL(`..${path}`, import.meta.url), "utf8")];
}

/** What the page asks for, and what it reports. */
async function controller(proxy) {
  const acts = {
    "/cut": () => proxy.cutAll(),
    "/refuse": () => { proxy.mode = "refuse"; },
    "/block": () => { proxy.noWebSocket = true; },
    "/half-open": () => { for (const pair of proxy.pairs) pair.halfOpen(); },
    "/up": () => proxy.behave(),
  };
  let tell;
  const report = new Promise((resolve) => { tell = resolve; });
  const listener = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    acts[request.url]?.();
    response.writeHead(204, { "access-control-allow-origin": "*" }).end();
    if (request.url === "/report") tell(JSON.parse(Buffer.concat(chunks).toString()));
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return { report, url: `http://127.0.0.1:${listener.address().port}`, close: () => listener.close() };
}

const skip = CHROMIUM ? false : "there is no Chromium; CHROMIUM may name one";

test("in Chromium", { skip, timeout: WAIT }, async (t) => {
  const server = await ModelServer.start({ page });
  const proxy = await Proxy.listen(server.port);
  const control = await controller(proxy);
  const profile = await mkdtemp(join(tmpdir(), "uproar-browser-"));
  const address = `http://127.0.0.1:${proxy.port}/page?control=${encodeURIComponent(control.url)}`;
  const browser = spawn(CHROMIUM, [...FLAGS, `--user-data-dir=${profile}`, address], { stdio: "ignore" });
  const over = once(browser, "exit");
  t.after(async () => {
    browser.kill();
    await over;
    control.close();
    await proxy.close();
    await server.stop();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  const ended = over.then(([code]) => assert.fail(`the browser ended with ${code}`));
  const outcomes = await Promise.race([control.report, ended]);
  assert.deepEqual(outcomes, { topics: "ok", online: "ok", halfOpen: "ok", fallback: "ok" });
});
