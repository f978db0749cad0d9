const SCHEMES = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };
const WANTED = "wanted is one that begins with ws:, wss:, http: or https:, ws://127.0.0.1:8080/chat for instance";
const HTTP = { "ws:": "http:", "wss:": "https:" };

/** Paths of the server that are no rooms, and what is there. */
const OTHERS = [
  [/^\/raw(\/|$)/, "there, topics come without a word about them; use subscribe(topic, listener)"],
  [/^\/backend\/?$/, "that is for backends, which use a plain WebSocket"],
  [/^\/sse\/?$/, "the client goes there by itself where it has to, see sseUrl"],
  [/^\/publish\/?$/, "the client goes there by itself where it has to, see publishUrl; use publish(topic, data)"],
];

/** Throws if the address is one at which there is something else. */
function checkPath(address) {
  const [, what] = OTHERS.find(([path]) => path.test(address.pathname)) ?? [];
  if (what) throw new TypeError(`${address.pathname} is not the URL of a room, as /chat is: ${what}`);
}

/** The server's addresses, and what the queries say. */
export class Address {
  #websocket;
  #sse;
  #publish;

  /** `url` of the WebSocket, relative to the page if there is one; `sseUrl` and `publishUrl` relative to that. */
  constructor(url, { sseUrl, publishUrl, room }) {
    const address = parse(url);
    const scheme = SCHEMES[address?.protocol];
    if (!scheme) throw new TypeError(`not the URL of a server: ${url}; ${WANTED}`);
    checkPath(address);
    address.protocol = scheme;
    address.hash = "";
    this.#websocket = address;
    const base = new URL(address);
    base.protocol = HTTP[scheme];
    this.#sse = new URL(sseUrl, base);
    this.#publish = new URL(publishUrl, base);
    if (room !== undefined) this.room = room;
  }

  /** The room that the server takes the address to mean. */
  get room() {
    const { searchParams, pathname } = this.#websocket;
    const named = searchParams.get("room");
    if (named) return named;
    const last = pathname.split("/").pop();
    return pathname === "/ws" || last === "" ? "default" : decodeURIComponent(last);
  }

  set room(room) {
    this.#websocket.searchParams.set("room", room);
  }

  /** Where to connect to; `identity` is what an earlier welcome said, or `null`. */
  websocket(identity) {
    return identified(new URL(this.#websocket), identity).href;
  }

  sse(topics, lastEventId) {
    const url = new URL(this.#sse);
    for (const topic of topics) url.searchParams.append("topic", topic);
    if (lastEventId !== "") url.searchParams.set("lastEventId", lastEventId);
    return url.href;
  }

  /** With an identity, the server knows a message that is posted again. */
  publish(identity) {
    return identified(new URL(this.#publish), identity).href;
  }
}

/** The whole address, or `null`. What is not given would be a path in a browser: /undefined. */
function parse(url) {
  if (url === undefined || url === null) return null;
  try {
    return new URL(url, globalThis.location?.href);
  } catch {
    return null;
  }
}

function identified(url, identity) {
  for (const name of ["clientId", "token"]) if (identity) url.searchParams.set(name, identity[name]);
  return url;
}
