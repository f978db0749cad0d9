/** The room that an address means: by its query, its path, or neither. */
export function roomOf({ searchParams, pathname }) {
  const last = decodeURIComponent(pathname.split("/").pop());
  return searchParams.get("room") ?? (pathname === "/ws" || last === "" ? "default" : last);
}

/**
 * The server as docs/PROTOCOL.md has it, and nothing else: no sockets, no time of its own. Tests talk to it through a
 * network that is simulated (network.js) or real (model-server.js).
 */
export class Model {
  #topics = new Map();
  /** By `clientId`: token, session, and what was acknowledged. */
  #clients = new Map();
  #history;
  #presenceLimit;
  #limit;
  #count = 0;
  /** When a token is over that comes now, in milliseconds since 1970 by `now()`. */
  expires = () => undefined;
  now = () => Date.now();
  /** Whether nobody can say if a topic may be had. */
  busy = () => false;
  /** No new token is good. */
  badTokens = false;
  /** Everything that was published, in order: `{topic, epoch, offset, json}`. */
  published = [];

  /**
   * `history(topic)`: how many messages of a topic are kept. `limit`: what a connection may send, `{perSecond, burst}`,
   * by the clock `now()`, in milliseconds.
   */
  constructor({ history = () => 1000, presenceLimit = 200, limit = null } = {}) {
    this.#history = history;
    this.#presenceLimit = presenceLimit;
    this.#limit = limit;
  }

  /** A connection: `out.send(text)` and `out.close(code)` reach the client. */
  connect({ room = "default", clientId, token }, out) {
    const known = clientId && this.#clients.get(clientId)?.token === token;
    const id = known ? clientId : this.#name("client");
    const client = known ? this.#clients.get(id) : { token: this.#name("token"), session: null, acked: new Map() };
    client.session?.close(4001);
    this.#clients.set(id, client);
    const session = client.session = new Session(this, id, room, out, this.#limit && new Bucket(this.#limit));
    const [expires, timestamp] = [this.expires(), this.now()];
    session.tell({ type: "connected", clientId: id, room, token: client.token, expires, timestamp });
    this.topic(room).members.add(session);
    session.topics.set(room, false);
    this.#announce(session, "user_joined");
    return session;
  }

  /** A session has ended. */
  leave(session) {
    const client = this.#clients.get(session.clientId);
    if (client?.session === session) client.session = null;
    for (const name of session.topics.keys()) this.topic(name).members.delete(session);
    session.topics.clear();
    this.#announce(session, "user_left");
  }

  /** The server forgets everything, and closes all connections. */
  restart() {
    const sessions = [...this.#clients.values()].map(({ session }) => session).filter(Boolean);
    this.#clients.clear();
    this.#topics.clear();
    for (const session of sessions) session.close(1001);
  }

  topic(name) {
    let topic = this.#topics.get(name);
    if (!topic) {
      topic = { name, epoch: this.#name("epoch"), offset: 0, log: [], members: new Set() };
      this.#topics.set(name, topic);
    }
    return topic;
  }

  publish(name, json, but) {
    const topic = this.topic(name);
    const message = { topic: name, epoch: topic.epoch, offset: ++topic.offset, json };
    this.published.push(message);
    topic.log.push(message);
    if (topic.log.length > this.#history(name)) topic.log.shift();
    for (const session of topic.members) if (session !== but) session.deliver(message);
    return { topic: name, epoch: message.epoch, offset: message.offset };
  }

  /** What somebody who has `since` of a topic gets first: `{epoch, offset, gap, messages}`. */
  past(name, since) {
    const { epoch, offset, log } = this.topic(name);
    if (!since) return { epoch, offset, gap: null, messages: [] };
    const had = since.epoch === epoch ? since.offset : 0;
    const messages = log.filter((message) => message.offset > had);
    const to = (messages[0]?.offset ?? offset + 1) - 1;
    return { epoch, offset, gap: to > had ? { type: "gap", topic: name, epoch, from: had + 1, to } : null, messages };
  }

  /** The tokens by which sessions are subscribed to a topic are over. */
  expire(name) {
    for (const session of this.topic(name).members) {
      if (!session.topics.delete(name)) continue;
      this.topic(name).members.delete(session);
      session.tell({ type: "unsubscribed", topics: [{ topic: name, ok: true, code: "token_expired" }] });
    }
  }

  /** Those whose room it is. */
  members(room) {
    const sessions = [...this.#clients.values()].map(({ session }) => session);
    return sessions.filter((session) => session?.room === room);
  }

  presence(room) {
    const ids = this.members(room).map(({ clientId }) => clientId);
    const answer = { type: "presence", topic: room, userCount: ids.length };
    return ids.length > this.#presenceLimit ? answer : { ...answer, members: ids };
  }

  /** The session of a client, or those of a room but for the sender; `null` if there is neither. */
  receivers(name, sender) {
    const session = this.#clients.get(name)?.session;
    if (session) return [session];
    const members = this.members(name);
    return members.length === 0 ? null : members.filter((member) => member !== sender);
  }

  /** Does it once for a client's `id` and destination; later, says what was said then. */
  once(clientId, to, id, act) {
    const { acked } = this.#clients.get(clientId);
    const key = JSON.stringify([to, id]);
    if (!acked.has(key)) acked.set(key, act());
    return acked.get(key);
  }

  #announce({ room, clientId }, type) {
    const members = this.members(room);
    if (members.length > this.#presenceLimit) return;
    const others = members.filter((member) => member.clientId !== clientId);
    for (const member of others) member.tell({ type, clientId, userCount: members.length });
  }

  #name(kind) {
    return `${kind}${(this.#count++).toString(16).padStart(8, "0")}`;
  }
}

/** What a connection may send yet. What is refused is paid for all the same. */
class Bucket {
  #limit;
  #level;
  #filled;

  constructor(limit) {
    this.#limit = limit;
    this.#level = limit.burst;
    this.#filled = limit.now();
  }

  /** How a message is taken that comes now: `good`, `too_fast`, or `close`. */
  take() {
    const { perSecond, burst, now } = this.#limit;
    const level = this.#level + (now() - this.#filled) * perSecond / 1000;
    this.#filled = now();
    this.#level = Math.max(Math.min(level, burst) - 1, -burst);
    if (this.#level >= 0) return "good";
    return this.#level > -burst ? "too_fast" : "close";
  }
}

/** One connection, as the server sees it. */
class Session {
  /** By name: whether in envelopes. */
  topics = new Map();
  #model;
  #out;
  #bucket;
  #open = true;

  constructor(model, clientId, room, out, bucket) {
    this.#bucket = bucket;
    this.#model = model;
    this.clientId = clientId;
    this.room = room;
    this.#out = out;
  }

  tell(message) {
    if (this.#open) this.#out.send(JSON.stringify(message));
  }

  deliver({ topic, epoch, offset, json }) {
    if (!this.#open) return;
    const place = `"topic":${JSON.stringify(topic)},"epoch":"${epoch}","offset":${offset}`;
    this.#out.send(this.topics.get(topic) ? `{"type":"message",${place},"data":${json}}` : json);
  }

  close(code) {
    if (!this.#open) return;
    this.ended();
    this.#out.close(code);
  }

  /** The connection is gone. */
  ended() {
    if (!this.#open) return;
    this.#open = false;
    this.#model.leave(this);
  }

  receive(text) {
    if (!this.#open) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      // answered below
    }
    const pace = this.#bucket?.take();
    if (pace === "close") this.close(1008);
    else if (pace === "too_fast") this.tell({ type: "error", message: "wait", code: pace, id: message?.id });
    else this.#answer(message);
  }

  #answer(message) {
    if (message && message.type === undefined && message.data) {
      this.#act(message.data, { id: message.id, ack: true });
    } else if (typeof message?.type !== "string") {
      this.tell({ type: "error", message: "Invalid JSON", code: "invalid_json" });
    } else {
      this.#act(message, message);
    }
  }

  #act(message, { id, ack }) {
    const { type, topic, data, receiver } = message;
    const error = (code, text) => this.tell({ type: "error", message: text, code, id });
    if (type === "ping") this.tell({ type: "pong", timestamp: Date.now() });
    else if (type === "subscribe") this.#subscribe(message);
    else if (type === "refresh") this.#refresh();
    else if (type === "unsubscribe") this.#unsubscribe(message.topics);
    else if (type === "presence") this.tell(this.#model.presence(topic ?? this.room));
    else if (type === "publish") this.#order(topic, id, ack, () => this.#model.publish(topic, JSON.stringify(data)));
    else if (type === "chat") this.#order("", id, ack, () => this.#chat(message));
    else if (["text", "image", "file", "system"].includes(type)) {
      const receivers = this.#model.receivers(receiver, this);
      if (!receivers) error("no_receiver", `No such receiver: ${receiver}`);
      else this.#order(receiver, id, ack, () => this.#address(receivers, message));
    } else error("unknown_type", `Unknown type: ${type}`);
  }

  #refresh() {
    if (this.#model.badTokens) this.tell({ type: "error", message: "no", code: "bad_token" });
    else this.tell({ type: "refreshed", expires: this.#model.expires() });
  }

  #order(to, id, ack, act) {
    if (ack) this.tell({ type: "ack", id, ...this.#model.once(this.clientId, to, id, act) });
    else act();
  }

  #chat(message) {
    this.#model.publish(this.room, JSON.stringify({ ...message, from: this.clientId, timestamp: Date.now() }));
  }

  #address(receivers, message) {
    for (const session of receivers) session.tell({ ...message, from: this.clientId });
  }

  #subscribe({ topics, recover = false, since = {} }) {
    for (const name of topics) {
      const error = this.#model.busy(name) ? "busy" : name.startsWith("refused") ? "too_many_topics" : null;
      if (error) {
        this.tell({ type: "subscribed", topics: [{ topic: name, ok: false, error }] });
        continue;
      }
      const { epoch, offset, gap, messages } = this.#model.past(name, recover ? since[name] : undefined);
      this.topics.set(name, recover);
      this.#model.topic(name).members.add(this);
      this.tell({ type: "subscribed", topics: [{ topic: name, ok: true, ...(recover && { epoch, offset }) }] });
      if (gap) this.tell(gap);
      for (const message of messages) this.deliver(message);
    }
  }

  #unsubscribe(topics) {
    for (const name of topics) {
      const ok = this.topics.has(name);
      if (name === this.room) this.topics.set(name, false);
      else if (this.topics.delete(name)) this.#model.topic(name).members.delete(this);
      this.tell({ type: "unsubscribed", topics: [{ topic: name, ok, ...(!ok && { error: "not_subscribed" }) }] });
    }
  }
}
