import { UproarError } from "./errors.js";

/** What a token may be made of: visible ASCII, as fits the value of a header field. */
const TOKEN = /^[\x21-\x7e]+$/;

/** A token as it was given, or what a function has come to; throws if it is none. */
export function checkToken(token) {
  if (typeof token === "string" && TOKEN.test(token)) return token;
  throw new TypeError("a token is a text of visible ASCII characters");
}

/** The client's own token: a text, or a function that is asked for a fresh one whenever one is needed. */
export class AccessToken {
  /** The newest one; `null` if there is none. */
  current = null;
  #given;

  /** `given`: a text, a function that returns one or its promise, or nothing. Throws if it is neither. */
  constructor(given) {
    if (given !== undefined && given !== null && typeof given !== "function") this.current = checkToken(given);
    this.#given = given;
  }

  /** Whether another one can be had. */
  get isRenewable() {
    return typeof this.#given === "function";
  }

  /** A fresh one, where that can be had; `null` if there is none. Rejects with an error of code `token`. */
  async fetch() {
    if (!this.isRenewable) return this.current;
    try {
      const token = await this.#given();
      this.current = token === undefined || token === null ? null : checkToken(token);
    } catch (cause) {
      throw new UproarError("token", `no access token: ${cause?.message ?? cause}`, { cause });
    }
    return this.current;
  }

  /** Of a request by HTTP. */
  get headers() {
    return this.current === null ? {} : bearer(this.current);
  }
}

const bearer = (token) => ({ authorization: `Bearer ${token}` });

/** What a subprotocol may be made of (RFC 9110, section 5.6.2). A JWT is. */
const SUBPROTOCOL = /^[\w!#$%&'*+.^`|~-]+$/;

/** Whether this is Node.js itself, and nothing that only has its names. */
const isNode = (versions = globalThis.process?.versions) => Boolean(versions?.node && !versions.bun && !versions.deno);

/**
 * What to call a class of WebSocket with, so that it brings the token along: in a header where it can send one, as its
 * platform's own in Node.js and that of `ws`, which has `terminate`; else as a subprotocol, as browsers can; else, for
 * not every text can be one, in the query.
 */
export function socketArguments(WebSocket, address, token) {
  if (token === null) return [address];
  const headers = bearer(token);
  if (isNode() && WebSocket === globalThis.WebSocket) return [address, { headers }];
  if (isNode() && typeof WebSocket.prototype?.terminate === "function") return [address, [], { headers }];
  if (SUBPROTOCOL.test(token)) return [address, ["bearer", token]];
  const url = new URL(address);
  url.searchParams.set("access_token", token);
  return [url.href];
}
