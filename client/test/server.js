import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const { UPROAR: binary } = process.env;
const HISTORY = "kept.* count=100000 age=10m bytes=64MiB";
const START_MS = 10_000;

/** A port of this machine that nobody listens to. */
export async function freePort() {
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
export class Server {
  #process;
  #log = "";
  #options;
  #env;

  /** `options` of the command line, besides those that all tests need, and of the environment. */
  static async start(options = [], env = {}) {
    const server = new Server();
    server.#options = options;
    // The storm of thousands is patient; a drain need not be.
    server.#env = { UPROAR_DRAIN_TIME: "500ms", ...process.env, ...env };
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

  /** Drains it, and begins another on the same port as soon as it has ended. */
  async replace() {
    await this.#end("SIGTERM");
    await this.#spawn();
  }

  async #spawn() {
    const args = ["--listen", `127.0.0.1:${this.port}`, "--admin-listen", "off", "--shards", "2", "--pin", "false"];
    args.push("--history", HISTORY, "--ack-window", "1h", ...this.#options);
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

/** Why tests with the server are left out, or `false`. */
export const skip = binary ? false : "UPROAR is not set to the path of the server: UPROAR=../target/release/uproar npm test";
