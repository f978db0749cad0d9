// index.d.ts, by the compiler of TypeScript, which npm brings: what an application may write, and must not.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Uproar } from "../src/index.js";
import { complete } from "../src/options.js";

const FETCH_MS = 120_000;
const project = fileURLToPath(new URL("types/tsconfig.json", import.meta.url));
const sample = readFileSync(new URL("types/sample.mts", import.meta.url), "utf8");

function tsc(...args) {
  const command = ["exec", "--yes", "--package=typescript@5", "--", "tsc", ...args];
  return spawnSync("npm", command, { encoding: "utf8", timeout: FETCH_MS });
}

test("the sample uses every option and every event", () => {
  for (const name of Object.keys(complete({ WebSocket: null }))) assert.match(sample, new RegExp(`^  ${name}[:,]`, "m"));
  const client = new Uproar("ws://server/a", { WebSocket: null, connect: false });
  assert.throws(() => client.on("", () => {}), ({ message }) => {
    const events = message.replace(/^.*there are /, "").split(", ");
    for (const name of events) assert.ok(sample.includes(`client.on("${name}"`), name);
    return events.length > 5;
  });
});

test("the types are as the sample has it", { timeout: 2 * FETCH_MS }, (t) => {
  const { status, error } = tsc("--version");
  if (status !== 0) return t.skip(`npm does not bring TypeScript: ${error?.code ?? `status ${status}`}`);
  const { stdout, status: found } = tsc("--project", project);
  assert.equal(found, 0, stdout);
  return undefined;
});
