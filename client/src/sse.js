import { UproarError, unreachable } from "./errors.js";
import { EventStream } from "./event-stream.js";
import { parse } from "./parse.js";
import { retryAfter } from "./retry-after.js";
import { sentence } from "./sentence.js";

/** How long to wait for more topics before the stream is opened anew for them. Milliseconds. */
const SETTLE = 50;

const sameSet = (one, other) => one.size === other.size && [...one].every((value) => other.has(value));

/** Throws if it is no stream. */
async function checkAnswer(response) {
  const { status, headers } = response;
  const type = headers.get("content-type") ?? "";
  if (status === 200 && type.startsWith("text/event-stream")) return;
  const wait = retryAfter(headers.get("retry-after"));
  const said = status === 200 ? "" : await sentence(response);
  const text = `SSE was answered ${status}${said ? `: ${said}` : ` ${type}`}`;
  throw new UproarError("sse", text, { status, ...(wait > 0 && { retryAfter: wait }) });
}

/**
 * A connection by Server-Sent Events: one stream for all topics, and for our room, of which it has no other way to
 * hear. A stream's topics are fixed, so another is opened when they change, which goes on where the last one was.
 */
export class SseTransport {
  kind = "sse";
  buffered = 0;
  #options;
  #handlers;
  #wanted;
  #streamed = new Set();
  /** Topics whose subscription is to be confirmed when the stream has them. */
  #unanswered = new Set();
  #controller = null;
  #timer = null;
  #opened = false;
  /** `{after}`, if the server has said after how many milliseconds to come back. */
  #hint = {};

  /**
   * `options`: `fetch`, `clock`, `address(topics, lastEventId)`, further `headers`, our `room`, `topics` to begin with,
   * and `resume`, whose `lastEventId` is kept up to date, for the next transport. `handlers` as those of
   * `WebSocketTransport`.
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#wanted = new Set([options.room, ...options.topics]);
    this.#open();
  }

  /** It cannot ask: the server sends comments by itself. */
  ping() {
    return false;
  }

  subscribe(topics) {
    for (const topic of topics) {
      this.#wanted.add(topic);
      this.#unanswered.add(topic);
    }
    this.#settle();
  }

  unsubscribe(topics) {
    for (const topic of topics) {
      if (topic !== this.#options.room) this.#wanted.delete(topic);
      this.#unanswered.delete(topic);
    }
    this.#settle();
  }

  drop() {
    this.#options.clock.clearTimeout(this.#timer);
    const controller = this.#controller;
    this.#controller = null;
    controller?.abort();
  }

  /** Soon, the stream has the wanted topics, and who asked for them is told. */
  #settle() {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = this.#options.clock.setTimeout(() => {
      if (sameSet(this.#wanted, this.#streamed)) this.#answer();
      else this.#open();
    }, SETTLE);
  }

  #answer() {
    const topics = [...this.#unanswered].filter((topic) => this.#streamed.has(topic));
    for (const topic of topics) this.#unanswered.delete(topic);
    if (topics.length > 0) {
      this.#handlers.message({ type: "subscribed", topics: topics.map((topic) => ({ topic, ok: true })) });
    }
  }

  #open() {
    this.#controller?.abort();
    const controller = this.#controller = new AbortController();
    const current = () => this.#controller === controller;
    this.#read(controller, current).then(
      () => { if (current()) this.#handlers.closed({ reason: "the stream ended", ...this.#hint }); },
      (error) => { if (current()) this.#fail(error); },
    );
  }

  #fail(error) {
    const { message: reason } = error;
    const isTold = error instanceof UproarError || this.#opened;
    const told = isTold ? error : unreachable(this.#options.address([], ""), error, reason);
    this.#handlers.closed({ reason, error: told, ...this.#hint });
  }

  async #read(controller, current) {
    const { fetch, address, resume } = this.#options;
    const topics = [...this.#wanted];
    const headers = { accept: "text/event-stream", ...this.#options.headers };
    const { signal } = controller;
    const response = await fetch(address(topics, resume.lastEventId), { headers, cache: "no-store", signal });
    if (!current()) return;
    await checkAnswer(response);
    if (!current()) return;
    this.#begin(topics);
    const take = ({ data }) => { if (current()) this.#handlers.message(parse(data)); };
    const stream = new EventStream(resume.lastEventId, take);
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (let piece = await reader.read(); !piece.done && current(); piece = await reader.read()) {
      this.#handlers.heard();
      stream.push(decoder.decode(piece.value, { stream: true }));
      if (stream.after !== undefined) this.#hint = { after: stream.after };
      if (current()) resume.lastEventId = stream.lastEventId;
    }
  }

  #begin(topics) {
    this.#streamed = new Set(topics);
    this.#handlers.heard();
    if (!this.#opened) {
      this.#opened = true;
      this.#handlers.opened(null);
    }
    this.#answer();
  }
}
