import { Acks } from "./acks.js";
import { quiet } from "./deferred.js";
import { UproarError } from "./errors.js";
import { byteLength, checkId } from "./names.js";
import { isForNow, isTooMuch } from "./pause.js";
import { Queue } from "./queue.js";

/** The close code of a server that was sent a message larger than it takes. */
const TOO_LARGE = 1009;
/** Bytes that may wait in the socket before messages that are for now or never are dropped. */
const MAX_BUFFERED = 1 << 20;
/** After a refusal, one more may be in flight so often. Milliseconds. */
const WIDEN = 50;

/**
 * What this client sends: messages that wait for a connection, and those that wait for their acknowledgement.
 *
 * Every message is sent in order, and again on the next connection if its acknowledgement has not come, under the same
 * `id`, by which the server knows it. Its promise settles in any case.
 *
 * What the server refuses for now is sent again after a pause, and then one at a time: what follows a refused one is
 * likely to be refused too, and the server gives up on whoever goes on. Slowly it becomes more again.
 *
 * A message is `{id, text, post}`: `text` goes over a WebSocket, `post` is the body of an HTTP request to publish, and
 * is `null` for what cannot go that way.
 */
export class Outbox {
  #clock;
  #queue;
  #acks;
  #poster;
  #pause;
  #options;
  #transport = null;
  /** How many messages there were. */
  #count = 0;
  /** How many may be in flight, and since when that works. */
  #window;
  #windowSince = 0;
  /** Why nothing is taken any more, or `null`. */
  #closed = null;

  /** `options`: `queueLimit`, `overflow`, `maxInFlight`, `ackTimeout`, `unsure`. When `pause` ends, call `resume`. */
  constructor(clock, poster, pause, options) {
    this.#clock = clock;
    this.#poster = poster;
    this.#pause = pause;
    this.#options = options;
    this.#window = options.maxInFlight;
    this.#queue = new Queue(options.queueLimit, options.overflow);
    this.#acks = new Acks(clock, (entry) => this.#expire(entry));
  }

  /** Messages whose promises are not settled. */
  get pending() {
    return this.#queue.size + this.#acks.size;
  }

  /** Sends a message as soon as there is a connection. Resolves with what the acknowledgement says. */
  send(message, { timeout = this.#options.ackTimeout, signal } = {}) {
    return quiet(new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this.#check(message.id);
      const entry = { ...message, timeout, signal, resolve, reject, ...this.#unsent() };
      entry.abort = () => this.#reject(entry, signal.reason);
      signal?.addEventListener("abort", entry.abort);
      const loser = this.#queue.push(entry);
      if (loser) this.#fail(loser.entry, overflow(loser));
      this.#pump();
    }));
  }

  /** Sends a text if it can go right now; it is not acknowledged and never sent again. */
  sendNow(text, { signal } = {}) {
    return quiet(new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const transport = this.#transport;
      if (transport?.kind !== "websocket") throw new UproarError("not_connected", "there is no WebSocket connection");
      if (transport.buffered > MAX_BUFFERED) throw new UproarError("dropped", "the connection is too slow");
      if (this.#pause.on) throw new UproarError("too_fast", "the server takes nothing at the moment");
      transport.send(text);
      resolve();
    }));
  }

  /**
   * There is a connection. `known`: the server knows this client from before, so what is sent again is not there twice.
   * What it may have had already and cannot recognise is rejected, unless the option `unsure` says otherwise.
   */
  connected(transport, known) {
    this.#transport = transport;
    this.#windowSince = this.#clock.now();
    if (!known && this.#options.unsure === "reject") {
      for (const entry of this.#queue.entries().filter(mayBeThere)) this.#fail(entry, unsure(entry));
    }
    this.#pump();
  }

  /** The connection is lost, with that close code and reason: what was not acknowledged is to be sent again. */
  disconnected(closeCode, reason) {
    this.#transport = null;
    const sent = this.#acks.entries().filter(({ posted }) => !posted);
    this.#putBack(sent);
    if (closeCode === TOO_LARGE) this.#rejectLargest(sent.filter(isFlying), reason);
    if (isTooMuch({ code: closeCode, reason })) this.#window = 1;
  }

  /** The pause is over: what was refused is sent again. */
  resume() {
    this.#putBack(this.#acks.entries().filter(({ refusal }) => refusal !== null));
    this.#windowSince = this.#clock.now();
    this.#pump();
  }

  /** Takes messages again, after `close`. */
  open() {
    this.#closed = null;
  }

  /** Rejects everything that is not settled, and whatever comes. */
  close(error) {
    this.#closed = error;
    this.#transport = null;
    for (const entry of [...this.#acks.entries(), ...this.#queue.entries()]) this.#fail(entry, error);
  }

  /** An `ack` of the server. */
  acknowledged({ id, topic, epoch, offset }) {
    const entry = this.#acks.get(id);
    if (!entry) return;
    this.#pause.reset();
    this.#widen();
    this.#forget(entry);
    entry.resolve({ id, ...(topic === undefined ? {} : { topic, epoch, offset }) });
    this.#pump();
  }

  /** An error of the server that names a message, or was too large to be read. `false` if it is none of ours. */
  refused(error) {
    if (error.code === "too_large" && error.id === undefined) {
      return this.#rejectLargest(this.#acks.entries().filter(isFlying), error.message);
    }
    const entry = this.#acks.get(error.id);
    if (!entry) return false;
    if (isForNow(error)) this.#hold(entry, error);
    else this.#reject(entry, error);
    return true;
  }

  /** What of an entry is known before it is sent. */
  #unsent() {
    // `unanswered`: how often it was sent without an answer. `refusal`: the answer, if it is to be sent again.
    return { number: this.#count++, timer: null, unanswered: 0, refusal: null, posted: false };
  }

  #check(id) {
    if (this.#closed) throw this.#closed;
    checkId(id);
    if (this.#queue.has(id) || this.#acks.get(id)) {
      throw new UproarError("duplicate_id", `a message of id ${id} is on its way already`, { id });
    }
  }

  /** Sends what may be sent. What is posted goes one by one, for nothing else would keep its order. */
  #pump() {
    const free = () => !this.#pause.on && !this.#poster.busy && this.#acks.size < this.#window;
    while (this.#transport && this.#queue.size > 0 && free()) this.#transmit(this.#transport, this.#queue.shift());
  }

  #transmit(transport, entry) {
    if (transport.kind !== "websocket" && entry.post === null) {
      this.#fail(entry, new UproarError("needs_websocket", "only publications go over HTTP", { id: entry.id }));
      return;
    }
    entry.unanswered++;
    entry.refusal = null;
    this.#acks.add(entry);
    if (transport.kind === "websocket") {
      transport.send(entry.text);
    } else {
      entry.posted = true;
      this.#poster.post(entry, { done: (ack) => this.acknowledged(ack), refused: (error) => this.refused(error) });
    }
  }

  /** It keeps its place among those that are in flight until the pause is over. */
  #hold(entry, error) {
    entry.unanswered--;
    entry.refusal = error;
    entry.posted = false;
    this.#window = 1;
    this.#pause.begin();
  }

  #putBack(entries) {
    for (const entry of entries) this.#acks.delete(entry);
    this.#queue.putBack(entries);
  }

  #widen() {
    const now = this.#clock.now();
    if (this.#window >= this.#options.maxInFlight || now - this.#windowSince < WIDEN) return;
    this.#window++;
    this.#windowSince = now;
  }

  /**
   * The server does not say which one was too large, but it is one of these; so the largest is. What it does say, how
   * large a message may be for instance, is passed on. `false` of none.
   */
  #rejectLargest(entries, said) {
    if (entries.length === 0) return false;
    const sizes = entries.map(({ text }) => byteLength(text));
    const entry = entries[sizes.indexOf(Math.max(...sizes))];
    const text = said || "the message is larger than the server takes";
    this.#reject(entry, new UproarError("too_large", text, { id: entry.id }));
    return true;
  }

  #expire(entry) {
    const text = `no acknowledgement within ${entry.timeout} ms: it is not known whether the message arrived`;
    const late = () => new UproarError("timeout", text, { id: entry.id });
    this.#reject(entry, mayBeThere(entry) ? late() : entry.refusal);
  }

  #reject(entry, error) {
    this.#fail(entry, error);
    this.#pump();
  }

  #fail(entry, error) {
    this.#forget(entry);
    entry.reject(error);
  }

  #forget(entry) {
    this.#queue.delete(entry);
    this.#acks.delete(entry);
    if (entry.timer !== null) this.#clock.clearTimeout(entry.timer);
    entry.signal?.removeEventListener("abort", entry.abort);
    if (entry.posted) this.#poster.cancel(entry);
  }
}

/** Whether the server has it, or may have it. */
const mayBeThere = ({ unanswered }) => unanswered > 0;
/** Whether an answer to what was sent last is due. */
const isFlying = ({ refusal }) => refusal === null;

function overflow({ entry, code }) {
  const text = mayBeThere(entry) ? "it is not known whether the message arrived" : "the message was not sent";
  return new UproarError(code, `the queue of messages is full: ${text}`, { id: entry.id });
}

function unsure({ id }) {
  const text = "the server has forgotten this client: it is not known whether the message arrived";
  return new UproarError("unknown_outcome", text, { id });
}
