// What the browser tests share. CHROMIUM names the browser, /usr/bin/chromium otherwise.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { chromium } from "playwright-core";

export const WAIT_MS = 10_000;
export const WIDE = { width: 1280, height: 800 };
export const NARROW = { width: 390, height: 844 };
const ARGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** What the pages complained of: script errors, and anything the content security policy refused. */
export const faults = [];

/** Waits until `read()` is `wanted`, and fails with the last value seen. */
export async function until(what, read, wanted = true) {
  const deadline = Date.now() + WAIT_MS;
  let seen = await read();
  while (seen !== wanted && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    seen = await read();
  }
  assert.equal(seen, wanted, what);
}

/** A page whose complaints are heard. */
export async function newPage(context, name) {
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error}`));
  page.on("console", (line) => { if (line.type() === "error") faults.push(`${name}: ${line.text()}`); });
  page.setDefaultTimeout(WAIT_MS);
  return page;
}

/** Whether nothing sticks out sideways. */
export const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

/** Runs the checks of `node NAME.mjs URL OUTDIR`; the process then exits with 1 if one has failed. */
export async function run(name, checks) {
  const [url, outdir] = process.argv.slice(2);
  if (!url || !outdir) {
    console.error(`usage: node ${name}.mjs URL OUTDIR`);
    process.exit(2);
  }
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, headless: true, args: ARGS });
  try {
    await mkdir(outdir, { recursive: true });
    await checks(browser, url, outdir);
    assert.deepEqual(faults, [], "no page reports an error");
    console.log(`${name}: all checks passed, screenshots in ${outdir}`);
  } catch (error) {
    console.error(`${name}: FAILED: ${error.message}`);
    if (faults.length) console.error(`pages reported:\n  ${faults.join("\n  ")}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
  // What a check that failed has started ends with this process.
  process.exit();
}
