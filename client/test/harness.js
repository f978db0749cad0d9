import { Uproar } from "../src/index.js";
import { FakeClock } from "./fake-clock.js";
import { Model } from "./model.js";
import { Network } from "./network.js";

/** A model, a network, a clock, and clients on it. `limit`: what a connection may send, `{perSecond, burst}`. */
export function world({ limit = null, ...options } = {}) {
  const clock = new FakeClock();
  const model = new Model({ ...options, limit: limit && { ...limit, now: clock.now } });
  const network = new Network(model, clock, options.latency);
  const client = (more = {}) => {
    const { url = "ws://server/room", ...rest } = more;
    const page = new EventTarget();
    page.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
    const { WebSocket } = network;
    const made = new Uproar(url, { WebSocket, fallback: false, clock, random: () => 0.5, page, ...rest });
    return Object.assign(record(made), { page });
  };
  return { clock, model, network, client };
}

/** Notes what a client tells: `states`, `messages`, `gaps`, `events`, `errors`, `retries`. */
export function record(client) {
  const log = { client, states: [], messages: [], gaps: [], errors: [], retries: [] };
  client.on("state", (state, detail) => log.states.push([state, detail]));
  client.on("message", (message) => log.messages.push(message));
  client.on("gap", (gap) => log.gaps.push(gap));
  client.on("error", (error) => log.errors.push(error));
  client.on("retry", (retry) => log.retries.push(retry));
  return log;
}

/** What a promise has come to by now: `pending`, `resolved`, `rejected`, and with what. */
export function outcome(promise) {
  const state = { status: "pending" };
  promise.then(
    (value) => Object.assign(state, { status: "resolved", value }),
    (error) => Object.assign(state, { status: "rejected", error, code: error?.code }),
  );
  return state;
}
