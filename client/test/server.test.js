// The client against the server: UPROAR=path/to/uproar node --experimental-websocket --test test/server.test.js
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Uproar } from "../src/index.js";
import { record } from "./harness.js";
import { suite, until } from "./suite.js";

const { UPROAR: binary } = process.env;
const HISTORY = "kept.* count=100000 age=10m bytes=64MiB";
const START_MS = 10_000;

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

const listens = (port) => new Promise((resolve) => {
  const socket = connect(port, "127.0.0.1", () => { socket.destroy(); resolve(true); });
  socket.on("error", () => resolve(false));
});

/** The server as a process, which can be killed and begun anew on the same port. */
class Server {
  #process;
  #log = "";
  #options;
  #env;

  /** `options` of the command line, besides those that all tests need, and of the environment. */
  static async start(options = [], env = {}) {
    const server = new Server();
    server.#options = options;
    server.#env = { ...process.env, ...env };
    process.once("exit", () => server.#process?.kill("SIGKILL")); // whatever ends the tests
    server.port = await freePort();
    await server.#spawn();
    return server;
  }

  async restart() {
    await this.#end("SIGKILL");
    await this.#spawn();
  }

  async stop() {
    await this.#end("SIGTERM");
  }

  async #spawn() {
    const args = ["--listen", `127.0.0.1:${this.port}`, "--admin-listen", "off", "--shards", "2", "--pin", "false"];
    // The storm of thousands is patient; a drain need not be.
    args.push("--history", HISTORY, "--ack-window", "1h", "--drain-time", "500ms", ...this.#options);
    this.#process = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"], env: this.#env });
    const { stdout, stderr } = this.#process;
    for (const stream of [stdout, stderr]) stream.on("data", (text) => { this.#log += text; });
    const deadline = Date.now() + START_MS;
    while (!await listens(this.port)) {
      const over = this.#process.exitCode !== null || Date.now() > deadline;
      assert.ok(!over, `${binary} ${args.join(" ")} does not listen:\n${this.#log}`);
      await sleep(20);
    }
  }

  async #end(signal) {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const over = once(this.#process, "exit");
    this.#process.kill(signal);
    await over;
  }
}

const skip = binary ? false : "UPROAR is not set to the path of the server: UPROAR=../target/release/uproar npm test";
suite("against the server", () => Server.start(), { skip });

/** 300 at once from who may send 40 at once and 20 a second: 13 s, or a little less by a connection or two more. */
test("what comes too fast for the server comes later, once and in order", { skip, timeout: 60_000 }, async () => {
  const server = await Server.start(["--message-rate", "20 burst=40"]);
  const clients = ["a", "b"].map((room) => record(new Uproar(`ws://127.0.0.1:${server.port}/${room}`)));
  try {
    const [one, two] = clients;
    const heard = [];
    await two.client.subscribe("fast", ({ data }) => heard.push(data)).ready;
    await until("connected", () => one.client.state === "connected");
    const numbers = Array.from({ length: 300 }, (_, n) => n);
    const acks = await Promise.all(numbers.map((n) => one.client.publish("fast", n, { timeout: 50_000 })));
    assert.deepEqual(acks.map(({ offset }) => offset), numbers.map((n) => n + 1));
    await until("all are heard", () => heard.length >= 300, () => heard);
    assert.deepEqual([heard, two.gaps, one.errors, one.client.pending], [numbers, [], [], 0]);
    assert.ok(one.retries.length <= 2, "closed for the first 300 at most, not again and again");
  } finally {
    for (const { client } of clients) client.close();
    await server.stop();
  }
});

test("whom a backend sends away for good stays away; others come back", { skip, timeout: 60_000 }, async () => {
  const key = "key-of-this-test-alone";
  const server = await Server.start([], { UPROAR_BACKEND_KEY: key });
  const clients = ["a", "b"].map((room) => record(new Uproar(`ws://127.0.0.1:${server.port}/${room}`)));
  const backend = new WebSocket(`ws://127.0.0.1:${server.port}/backend?key=${key}`);
  try {
    const [one, two] = clients;
    const ready = () => clients.every(({ client }) => client.state === "connected") && backend.readyState === 1;
    await until("all are connected", ready);
    const close = ({ clientId }, code) => JSON.stringify({ type: "close", clientId, code, reason: "banned" });
    backend.send(close(one.client, 4500));
    backend.send(close(two.client, 4400));
    await until("both are closed", () => one.states.length > 1 && two.states.length > 2);
    await sleep(1000);
    assert.deepEqual([one.client.state, two.client.state], ["disconnected", "connected"]);
    assert.deepEqual(clients.map(({ states: [, [, { code, reason }]] }) => [code, reason]),
      [[4500, "banned"], [4400, "banned"]]);
    assert.deepEqual([one.retries, two.retries.length], [[], 1]);
  } finally {
    backend.close();
    for (const { client } of clients) client.close();
    await server.stop();
  }
});
