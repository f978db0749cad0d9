import { systemClock } from "./clock.js";
import { checkName } from "./names.js";
import { OVERFLOWS } from "./queue.js";

/** What an option is if it is not given; times in milliseconds. */
const DEFAULTS = {
  connect: true,
  room: undefined,
  identity: null,
  accessToken: undefined,
  WebSocket: undefined,
  fetch: undefined,
  connectTimeout: 10_000,
  retryBase: 500,
  retryCap: 30_000,
  stableAfter: 10_000,
  heartbeatInterval: 15_000,
  heartbeatTimeout: 10_000,
  ackTimeout: 30_000,
  maxInFlight: 1024,
  queueLimit: 1000,
  overflow: "reject",
  unsure: "reject",
  fallback: true,
  fallbackAfter: 3,
  websocketRetry: 60_000,
  sseTimeout: 60_000,
  sseUrl: "/sse",
  publishUrl: "/publish",
  clock: systemClock,
  random: Math.random,
  page: globalThis,
};

/** The least that numbers may be. There must be time to wait, or a retry would be a busy loop. */
const LEAST = {
  connectTimeout: 1,
  retryBase: 1,
  retryCap: 1,
  stableAfter: 0,
  heartbeatInterval: 1,
  heartbeatTimeout: 1,
  ackTimeout: 1,
  maxInFlight: 1,
  queueLimit: 0,
  fallbackAfter: 1,
  websocketRetry: 1,
  sseTimeout: 1,
};

const WORDS = { overflow: OVERFLOWS, unsure: ["reject", "resend"] };

function checkIdentity(identity) {
  if (identity === null) return;
  const sound = typeof identity.clientId === "string" && typeof identity.token === "string";
  if (!sound) throw new TypeError("option identity is what identity of an earlier client was");
}

/** Whole and sound options; throws a `TypeError` that says which one is not. */
export function complete(given = {}) {
  const unknown = Object.keys(given).find((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown !== undefined) throw new TypeError(`there is no option ${unknown}`);
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const options = { ...DEFAULTS, ...set };
  for (const [name, least] of Object.entries(LEAST)) {
    if (!(options[name] >= least)) throw new TypeError(`option ${name} is a number, at least ${least}`);
  }
  for (const [name, words] of Object.entries(WORDS)) {
    if (!words.includes(options[name])) throw new TypeError(`option ${name} is one of ${words.join(", ")}`);
  }
  if (options.room !== undefined) checkName(options.room);
  checkIdentity(options.identity);
  options.fetch ??= globalThis.fetch?.bind(globalThis);
  options.fallback &&= options.fetch !== undefined;
  if (options.WebSocket === undefined) options.WebSocket = globalThis.WebSocket;
  if (options.WebSocket === undefined) {
    throw new TypeError("there is no WebSocket here: give one as option WebSocket, or null to do without");
  }
  return options;
}
