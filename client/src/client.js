import { AccessToken } from "./access-token.js";
import { Address } from "./address.js";
import { Attempts } from "./attempts.js";
import { Backoff } from "./backoff.js";
import { promised } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { denial } from "./denial.js";
import { UproarError, isLasting } from "./errors.js";
import { addressed, checkFields, jsonOf } from "./fields.js";
import { idSource } from "./ids.js";
import { Link, REPLACED } from "./link.js";
import { Messages } from "./messages.js";
import { checkName } from "./names.js";
import { complete } from "./options.js";
import { Outbox } from "./outbox.js";
import { Pause, isExpired, isTooMuch } from "./pause.js";
import { Postponed } from "./postponed.js";
import { Poster } from "./poster.js";
import { Presence } from "./presence.js";
import { Renewal } from "./renewal.js";
import { SseTransport } from "./sse.js";
import { dataOf } from "./subscription.js";
import { Topics } from "./topics.js";
import { WebSocketTransport } from "./websocket.js";

/** What the server says about who is in a room. */
const PRESENCE = new Set(["user_joined", "user_left", "presence"]);
/** What it says that needs no answer: that something was heard is known. */
const SILENT = new Set(["pong", "connected"]);

/** A client of an Uproar server. The README says what each method does, `index.d.ts` what it takes and gives. */
export class Uproar {
  #options;
  #address;
  #emitter = new Emitter(["state", "message", "gap", "presence", "error", "retry", "refreshed"]);
  #nextId = idSource();
  #topics;
  #presence;
  #outbox;
  #pause;
  /** The last connection ended because the server would take no more. */
  #wasTooMuch = false;
  #link;
  #iterations = new Set();
  #identity;
  #user = null;
  #room = null;
  /** Where SSE goes on, from one connection to the next. */
  #resume = { lastEventId: "" };
  #token;
  #renewal;

  constructor(url, options) {
    this.#options = complete(options);
    const { clock, identity, connect, accessToken } = this.#options;
    this.#token = new AccessToken(accessToken);
    this.#address = new Address(url, this.#options);
    this.#identity = identity;
    this.#pause = new Pause(clock, this.#makeBackoff(), () => this.#goOn());
    this.#topics = this.#makeTopics();
    this.#presence = new Presence(clock, this.#nextId, this.#pause, (event) => this.#emitter.emit("presence", event));
    this.#outbox = new Outbox(clock, this.#makePoster(), this.#pause, this.#options);
    this.#renewal = this.#makeRenewal();
    this.#link = this.#makeLink();
    if (connect) this.connect();
  }

  /** `connecting`, `connected`, `reconnecting` or `disconnected`. */
  get state() {
    return this.#link.state;
  }

  /** `websocket` or `sse`; `null` while there is no connection. */
  get transport() {
    return this.#link.transport;
  }

  /** What others know this client by; `null` before the first welcome. */
  get clientId() {
    return this.#identity?.clientId ?? null;
  }

  /** `clientId` and the secret `token` that proves it, for the option `identity` of a later client; `null` as above. */
  get identity() {
    return this.#identity && { ...this.#identity };
  }

  /** The user that the access token names, as the server has understood it; `null` if it names none, or before that. */
  get user() {
    return this.#user;
  }

  /** The room; before the first welcome, what the URL says. */
  get room() {
    return this.#room ?? this.#address.room;
  }

  /** Who is in the room; `null` without a `presence` listener, before it is first called, and in very full rooms. */
  get members() {
    return this.#presence.members && [...this.#presence.members];
  }

  /** How many are in the room; `null` until a `presence` listener is first called. */
  get userCount() {
    return this.#presence.userCount;
  }

  /** Messages whose promises are not settled. */
  get pending() {
    return this.#outbox.pending;
  }

  /** Calls `listener` at every event of that name; returns a function that ends it. */
  on(event, listener) {
    const off = this.#emitter.on(event, listener);
    if (event === "presence") this.#presence.track(this.#options.ackTimeout);
    return off;
  }

  /** Connects, and keeps connected until `close`. */
  connect() {
    this.#outbox.open();
    this.#link.start();
  }

  /** Ends the connection. Promises are rejected with `closed`, iterations end; listeners are kept for `connect`. */
  close() {
    this.#end(new UproarError("closed", "the client was closed"), {});
  }

  /** Goes to another room, by a new connection. Subscriptions and messages on their way are taken along. */
  join(room) {
    checkName(room);
    if (room !== this.room) this.#presence.forget();
    this.#address.room = room;
    this.#room = null;
    this.#link.restart();
  }

  /** Calls `listener` with every message of a topic. Returns a function that ends it, whose `ready` is a promise. */
  subscribe(topic, listener, options = {}) {
    return this.#topics.add(topic, listener, options);
  }

  /** The messages of a topic, for `for await`. */
  messages(topic, { limit = 1000, recover = true, token, signal } = {}) {
    const iteration = new Messages(limit);
    const off = this.subscribe(topic, (message) => iteration.push(message), { recover, token });
    this.#iterations.add(iteration);
    iteration.bind(signal, () => {
      off();
      this.#iterations.delete(iteration);
    });
    return iteration;
  }

  /** Publishes `data` to a topic. Resolves with `{id, topic, epoch, offset}` when it is ordered. */
  publish(topic, data, options = {}) {
    return promised(() => {
      checkName(topic);
      const json = jsonOf(data);
      const what = `"topic":${JSON.stringify(topic)},"data":${json}}`;
      if (options.ack === false) return this.#outbox.sendNow(`{"type":"publish",${what}`, options);
      const id = options.id ?? this.#nextId();
      const named = `"id":${JSON.stringify(id)},${what}`;
      return this.#outbox.send({ id, text: `{"type":"publish","ack":true,${named}`, post: `{${named}` }, options);
    });
  }

  /** Sends an object with a `type`: one that is relayed to the room, or that the backend takes. */
  send(fields, options = {}) {
    return promised(() => {
      checkFields(fields);
      const json = jsonOf(fields);
      if (options.ack === false) return this.#outbox.sendNow(json, options);
      const id = options.id ?? this.#nextId();
      // In an envelope, whose id is between the server and us: an `id` of the message itself is the application's.
      const text = `{"id":${JSON.stringify(id)},"data":${json},"timestamp":${Date.now()}}`;
      return this.#outbox.send({ id, text, post: null }, options);
    });
  }

  /** Says a text, or an object's fields, to everybody in the room. */
  chat(message, options) {
    return this.send({ ...(typeof message === "string" ? { text: message } : message), type: "chat" }, options);
  }

  /** Sends a message of type `text`, or the other addressed one that `fields.type` says, to one client or a room. */
  sendTo(receiver, fields, options) {
    return promised(() => {
      checkName(receiver);
      return this.send(addressed(fields, receiver), options);
    });
  }

  /** Asks who is in a room, by default our own. Resolves with `{topic, userCount, members}`. */
  presence(topic = null, { timeout = this.#options.ackTimeout, signal } = {}) {
    return promised(() => {
      if (topic !== null) checkName(topic);
      return this.#presence.ask(topic, { timeout, signal });
    });
  }

  #makeBackoff(base = this.#options.retryBase) {
    const { retryCap, random } = this.#options;
    return new Backoff({ base, cap: retryCap, random });
  }

  #makeTopics() {
    const { clock, retryBase } = this.#options;
    // Each question is one more for whoever is behind the server and cannot answer: there is less haste.
    const backoff = this.#makeBackoff(2 * retryBase);
    const postponed = new Postponed(clock, backoff, (topics) => this.#topics.askAgain(topics));
    return new Topics(this.#nextId, this.#pause, postponed, {
      gap: (gap) => this.#emitter.emit("gap", gap),
      error: (error) => this.#emitter.emit("error", error),
      retry: (detail) => this.#emitter.emit("retry", detail),
      thrown: this.#emitter.thrown,
      attempts: this.#attempts,
    });
  }

  #makePoster() {
    const { fetch, clock, connectTimeout } = this.#options;
    const address = () => this.#address.publish(this.#identity);
    const token = this.#token;
    return new Poster({ fetch, clock, backoff: this.#makeBackoff(), address, token, timeout: connectTimeout });
  }

  #attempts = (act, outcome) => {
    const { clock, connectTimeout } = this.#options;
    return new Attempts({ clock, backoff: this.#makeBackoff(), timeout: connectTimeout }, act, outcome);
  };

  #makeRenewal() {
    const { clock, random } = this.#options;
    return new Renewal({ clock, random, token: this.#token, nextId: this.#nextId, attempts: this.#attempts }, {
      refreshed: (detail) => this.#emitter.emit("refreshed", detail),
      error: (error) => this.#emitter.emit("error", error),
    });
  }

  #makeLink() {
    const open = (kind, handlers) => this.#open(kind, handlers);
    const token = () => this.#token.fetch();
    return new Link({ ...this.#options, token, open }, {
      up: (transport, welcome) => this.#up(transport, welcome),
      message: (message) => this.#receive(message),
      down: (cause) => this.#down(cause),
      ended: (cause) => this.#end(endedBy(cause), cause),
      state: (state, detail) => this.#emitter.emit("state", state, detail),
      retry: (detail) => this.#retry(detail),
    });
  }

  #open(kind, handlers) {
    const { WebSocket, fetch, clock } = this.#options;
    if (kind === "websocket") {
      const address = this.#address.websocket(this.#identity);
      return new WebSocketTransport(WebSocket, address, this.#token.current, handlers);
    }
    const address = (topics, lastEventId) => this.#address.sse(topics, lastEventId);
    const [topics, { headers }] = [this.#topics.names(), this.#token];
    const options = { fetch, clock, address, headers, room: this.room, topics, resume: this.#resume };
    return new SseTransport(options, handlers);
  }

  #up(transport, welcome) {
    const known = welcome !== null && welcome.clientId === this.#identity?.clientId;
    if (welcome) {
      this.#identity = { clientId: welcome.clientId, token: welcome.token };
      this.#room = welcome.room;
      this.#user = welcome.user ?? null;
    }
    this.#renewal.connected(transport, welcome);
    if (this.#wasTooMuch) this.#pause.begin();
    this.#wasTooMuch = false;
    this.#topics.connected(transport);
    this.#presence.connected(transport, this.room);
    this.#outbox.connected(transport, known);
  }

  #down({ code, reason }) {
    this.#wasTooMuch = isTooMuch({ code, reason });
    this.#renewal.disconnected();
    this.#outbox.disconnected(code, reason);
    this.#topics.disconnected();
    this.#presence.disconnected();
  }

  /** The server may take something again. */
  #goOn() {
    this.#topics.resume();
    this.#presence.resume();
    this.#outbox.resume();
  }

  #retry(detail) {
    this.#emitter.emit("retry", detail);
    if (isLasting(detail.error)) this.#emitter.emit("error", detail.error);
    else if (isExpired(detail) && !this.#token.isRenewable) this.#emitter.emit("error", expired(detail));
    else this.#explain(detail);
  }

  /** Browsers do not tell why a WebSocket was refused. If it may be for the token, the server is asked by HTTP. */
  async #explain({ attempt, error }) {
    const { fetch, connectTimeout } = this.#options;
    const isUnknown = error.code === "unreachable" && error.cause === undefined;
    const isDue = (attempt & (attempt - 1)) === 0; // the first, second, fourth, eighth: it costs a request
    if (!isUnknown || !isDue || this.#token.current === null || !fetch) return;
    const why = await denial(fetch, this.#address.sse([this.room], ""), this.#token.headers, connectTimeout);
    if (why && this.#link.running && this.#link.transport === null) this.#emitter.emit("error", why);
  }

  #end(error, cause) {
    this.#pause.cancel();
    this.#outbox.close(error);
    this.#presence.close(error);
    this.#topics.close(error);
    for (const iteration of [...this.#iterations]) iteration.end();
    this.#link.stop(cause); // last, for its listeners may connect again
  }

  /** Whatever a server says: it must not take the client down. */
  #receive(message) {
    try {
      this.#dispatch(message);
    } catch (cause) {
      const text = `the server said what cannot be understood: ${cause.message}`;
      this.#emitter.emit("error", new UproarError("protocol", text, { cause }));
    }
  }

  #dispatch(message) {
    const { type } = message;
    if (type === "message") this.#envelope(message);
    else if (type === "ack") this.#outbox.acknowledged(message);
    else if (type === "subscribed") this.#topics.subscribed(message);
    else if (type === "unsubscribed") this.#topics.unsubscribed(message);
    else if (type === "gap") this.#gap(message);
    else if (type === "refreshed") this.#renewal.refreshed(message);
    else if (type === "error") this.#refused(message);
    else if (PRESENCE.has(type)) this.#presence.take(message);
    else if (!SILENT.has(type)) this.#emitter.emit("message", message);
  }

  /** A message of a topic. The room is one: what is said there comes so too, if it was asked for or over SSE. */
  #envelope(envelope) {
    const taken = this.#topics.message(envelope);
    if (envelope.topic !== this.room) return;
    const data = dataOf(envelope);
    const message = typeof data?.type === "string" ? data : { type: "data", data };
    if (PRESENCE.has(message.type)) this.#presence.take({ topic: this.room, ...message });
    else if (!taken) this.#emitter.emit("message", message);
  }

  /** Of a topic, or a number of messages that were dropped before they came to the room. */
  #gap(gap) {
    if (gap.topic !== undefined) this.#topics.gap(gap);
    else this.#emitter.emit("gap", { topic: null, epoch: null, from: null, to: null, missed: gap.dropped ?? null });
  }

  #refused({ code, message, id }) {
    const error = new UproarError(code ?? "error", message ?? "the server refused a message", { id });
    const isKnown = [this.#renewal, this.#outbox, this.#topics, this.#presence].some((part) => part.refused(error));
    if (isKnown) return;
    if (error.code === "too_fast") this.#hush();
    this.#emitter.emit("error", error);
  }

  /** Something that is not sent again came too fast. As nothing will tell that such things are taken, it is short. */
  #hush() {
    if (this.#pause.on) return;
    this.#pause.reset();
    this.#pause.begin();
  }
}

/** A token that was given as a text is over: nothing but a person can mend that. */
function expired({ code: closeCode }) {
  const text = "the access token has expired: as a function, accessToken would be asked for another one";
  return new UproarError("token", text, { closeCode });
}

/** Why a connection ended that is not to be made again. */
function endedBy({ code: closeCode, reason }) {
  const isElsewhere = closeCode === REPLACED;
  if (isElsewhere) return new UproarError("replaced", "this clientId has connected elsewhere", { closeCode });
  const text = `the server has sent this client away, with ${closeCode}${reason ? `: ${reason}` : ""}`;
  return new UproarError("dismissed", text, { closeCode });
}
