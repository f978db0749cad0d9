import assert from "node:assert/strict";
import { test } from "node:test";
import { sentence } from "../src/sentence.js";

const said = (text, status = 401, type = "text/plain; charset=utf-8") =>
  sentence(new Response(text, { status, headers: { "content-type": type } }));

test("what the server says behind the line of the status", async () => {
  assert.equal(await said("401 Unauthorized\nA token is wanted here.\n"), "A token is wanted here.");
  assert.equal(await said("403 Forbidden\r\n\r\nThis page may not connect here.\r\n", 403), "This page may not connect here.");
  assert.equal(await said("no\n"), "no");
  assert.equal(await said(`401 x\n${"long".repeat(1000)}`), "long".repeat(50));
});

test("nothing, where nothing is said, or not in words", async () => {
  assert.equal(await said(""), "");
  assert.equal(await said("401 Unauthorized\n"), "");
  assert.equal(await said("<html>No</html>", 403, "text/html"), "");
  assert.equal(await sentence(new Response(null, { status: 401 })), "");
  const broken = new ReadableStream({ start: (controller) => controller.error(new Error("cut")) });
  assert.equal(await said(broken), "");
});
