import { checkToken } from "./access-token.js";
import { UproarError } from "./errors.js";
import { checkName } from "./names.js";
import { isForNow } from "./pause.js";
import { Subscription, dataOf, isPlace } from "./subscription.js";

/** Topics in one request: with names of any length it is far from the largest message that a server takes. */
const TOPICS_A_REQUEST = 256;
/** Topics with a token that are asked for at a time: as many as a server checks of one connection. */
const TOKENS_AT_ONCE = 16;

const inParts = (list) => Array.from({ length: Math.ceil(list.length / TOPICS_A_REQUEST) },
  (_, i) => list.slice(i * TOPICS_A_REQUEST, (i + 1) * TOPICS_A_REQUEST));

/** By topic, what `of(subscription)` is, where it is something. */
const ofEach = (subscriptions, of) => Object.fromEntries(
  subscriptions.map((subscription) => [subscription.topic, of(subscription)]).filter(([, value]) => value));

/** What an application is given of an envelope. */
function messageOf(envelope) {
  const { topic, epoch, offset, snapshot } = envelope;
  const message = { topic, epoch, offset, data: dataOf(envelope) };
  if (snapshot === true) message.snapshot = true;
  return message;
}

/**
 * The topics that are listened to. It keeps the server informed: what is asked within one turn of the event loop goes
 * out together, and after a reconnection everything is asked again, each topic from where it was.
 */
export class Topics {
  #subscriptions = new Map();
  /** Names with something to tell the server. */
  #changed = new Set();
  /** By topic, the ids of the requests to subscribe that are to be answered yet; only the last one's answer counts. */
  #asking = new Map();
  #scheduled = false;
  #transport = null;
  #nextId;
  #pause;
  #postponed;
  #hooks;

  /**
   * `nextId()` names a request. When `pause` ends, call `resume`; when `postponed` does, `askAgain`. `hooks`:
   * `gap(gap)`, `error(error)`, `thrown(error)` for what listeners throw, `retry({attempt, delay, error, topics})`, and
   * `attempts(act, outcome)`, which makes `Attempts`, to have a token.
   */
  constructor(nextId, pause, postponed, hooks) {
    this.#nextId = nextId;
    this.#pause = pause;
    this.#postponed = postponed;
    this.#hooks = hooks;
  }

  /** The names that are listened to, and need no token. */
  names() {
    const all = [...this.#subscriptions.values()];
    return all.filter(({ wanted, token }) => wanted && token === undefined).map(({ topic }) => topic);
  }

  /** Adds a listener; returns the function that ends it, whose `ready` settles with the server's answer. */
  add(topic, listener, { recover = true, history = false, token } = {}) {
    checkName(topic);
    if (token !== undefined && typeof token !== "function") checkToken(token);
    if (typeof listener !== "function") throw new TypeError("a listener is a function");
    const subscription = this.#subscriptions.get(topic) ?? new Subscription(topic);
    this.#subscriptions.set(topic, subscription);
    const take = subscription.add(listener, recover);
    if (history) subscription.history = true;
    if (token !== undefined) subscription.token = token;
    subscription.refused = false;
    this.#touch(topic);
    const off = () => {
      take();
      if (!subscription.wanted) this.#touch(topic);
    };
    off.ready = subscription.ready;
    return off;
  }

  /** There is a connection: `transport.subscribe(names, since, id, tokens)` and `transport.unsubscribe(names)`. */
  connected(transport) {
    this.#transport = transport;
    for (const [topic, subscription] of this.#subscriptions) {
      subscription.refused = false;
      this.#changed.add(topic);
    }
    this.#sync();
  }

  disconnected() {
    this.#transport = null;
    this.#asking.clear();
    this.#postponed.stop();
    for (const subscription of this.#subscriptions.values()) subscription.detach();
  }

  /** The pause is over: what was refused, and what has changed meanwhile, is asked for. */
  resume() {
    this.#sync();
  }

  /** These were answered `busy`, a while ago. */
  askAgain(topics) {
    for (const topic of topics) this.#changed.add(topic);
    this.#sync();
  }

  /** Nothing will be answered any more; what is listened to is kept for another connection. */
  close(error) {
    this.#postponed.clear();
    for (const subscription of this.#subscriptions.values()) {
      subscription.detach();
      subscription.giveUp(error);
    }
  }

  /** A `subscribed` of the server. */
  subscribed({ topics }) {
    const busy = [];
    for (const { topic, ok, epoch, offset, error } of Array.isArray(topics) ? topics : []) {
      const open = this.#answered(topic);
      const subscription = this.#subscriptions.get(topic);
      if (open !== 0 || !subscription?.asked) continue;
      if (!ok && error === "busy") {
        subscription.asked = false;
        busy.push(topic);
        continue;
      }
      this.#postponed.delete(topic);
      this.#pause.reset();
      if (ok) this.#tell(topic, subscription.begin(epoch, offset));
      else this.#refuse(subscription, error);
    }
    if (busy.length > 0) this.#postpone(busy);
    if (this.#changed.size > 0) this.#schedule();
  }

  /** An `unsubscribed` of the server. Nobody asked for that of a topic whose token is over: where there may be another, it goes on. */
  unsubscribed({ topics }) {
    for (const { topic, code } of Array.isArray(topics) ? topics : []) {
      const subscription = this.#subscriptions.get(topic);
      if (code !== "token_expired" || !subscription?.live || this.#asking.has(topic)) continue;
      subscription.detach();
      if (typeof subscription.token === "function") this.#touch(topic);
      else this.#fail(subscription, new UproarError("token", `the token of topic ${topic} has expired`, { topic }));
    }
  }

  /** An error of the server that names a request which may be made again. `false` if it is none of ours. */
  refused(error) {
    const asked = isForNow(error) ? [...this.#asking].filter(([, ids]) => ids.includes(error.id)) : [];
    if (asked.length === 0) return false;
    for (const [topic, ids] of asked) {
      if (ids.at(-1) === error.id) this.#takeBack(topic);
      this.#settle(topic, ids.filter((id) => id !== error.id));
    }
    this.#pause.begin();
    return true;
  }

  /** A `message` of the server. `false` if nobody listens to its topic. */
  message(envelope) {
    const subscription = this.#subscriptions.get(envelope.topic);
    if (!subscription?.wanted) return false;
    if (!subscription.live) return true; // of a subscription that was ended and has begun anew since
    if (!isPlace(envelope.epoch, envelope.offset)) {
      this.#hooks.error(new UproarError("protocol", "a message without its place", { topic: envelope.topic }));
      return true;
    }
    const { deliver, gaps } = subscription.position.take(envelope.epoch, envelope.offset, envelope.snapshot === true);
    this.#tell(envelope.topic, gaps);
    if (deliver) subscription.listeners.call([messageOf(envelope)], this.#hooks.thrown);
    return true;
  }

  /** A `gap` of the server that names a topic: the topic was begun anew (`reset`), messages are lost, or both. */
  gap({ topic, epoch, from, to, reset }) {
    const subscription = this.#subscriptions.get(topic);
    if (!subscription?.live) return;
    if (reset === true && isPlace(epoch)) this.#tell(topic, subscription.position.enter(epoch));
    if (isPlace(epoch, from, to)) this.#tell(topic, subscription.position.skip(epoch, from, to));
  }

  /** Nobody can say at the moment whether we may have these. They keep their places until somebody can. */
  #postpone(topics) {
    const what = topics.length === 1 ? `topic ${topics[0]}` : `${topics.length} topics`;
    const text = `the server cannot say at the moment whether this client may have ${what}`;
    const error = new UproarError("busy", text, topics.length === 1 ? { topic: topics[0] } : {});
    this.#hooks.retry({ ...this.#postponed.add(topics), error, topics });
  }

  #tell(topic, gaps) {
    for (const { epoch, from, to } of gaps) {
      this.#hooks.gap({ topic, epoch, from, to, missed: to === null ? null : to - from + 1 });
    }
  }

  #refuse(subscription, code = "refused") {
    const { topic } = subscription;
    this.#fail(subscription, new UproarError(code, `the server refused topic ${topic}: ${code}`, { topic }));
  }

  /** We do not have the topic, on this connection. */
  #fail(subscription, error) {
    const { granted } = subscription;
    subscription.refuse(error);
    if (granted) this.#hooks.error(error); // on an earlier connection, so that a promise says that they have it
  }

  /** One request for that topic is answered. Returns how many are not; -1 if there was none. */
  #answered(topic) {
    const ids = this.#asking.get(topic);
    if (!ids) return -1;
    this.#settle(topic, ids.slice(1));
    return ids.length - 1;
  }

  #settle(topic, open) {
    if (open.length > 0) this.#asking.set(topic, open);
    else this.#asking.delete(topic);
  }

  /** It is as if it had not been asked for. */
  #takeBack(topic) {
    const subscription = this.#subscriptions.get(topic);
    if (!subscription) return;
    subscription.asked = false;
    this.#changed.add(topic);
  }

  #touch(topic) {
    this.#changed.add(topic);
    this.#schedule();
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#sync();
    });
  }

  /** Tells the server what has changed, and forgets what nobody listens to. */
  #sync() {
    if (this.#transport && this.#pause.on) return;
    const join = [];
    const leave = [];
    const changed = this.#changed;
    this.#changed = new Set();
    let checks = TOKENS_AT_ONCE - this.#checks();
    for (const topic of changed) {
      const subscription = this.#subscriptions.get(topic);
      if (!subscription) continue;
      if (!subscription.wanted) {
        this.#subscriptions.delete(topic);
        this.#postponed.delete(topic);
        subscription.fetching?.cancel();
        subscription.giveUp(new UproarError("unsubscribed", `topic ${topic} is not listened to`, { topic }));
        if (subscription.asked) leave.push(topic);
      } else if (this.#isDue(subscription) && this.#isReady(subscription)) {
        if (subscription.token === undefined || checks-- > 0) join.push(subscription);
        else this.#changed.add(topic); // when others are answered
      }
    }
    if (this.#transport) this.#request(this.#transport, leave, join);
  }

  /** How many topics with a token the server has yet to answer. */
  #checks() {
    return [...this.#asking.keys()].filter((topic) => this.#subscriptions.get(topic)?.token !== undefined).length;
  }

  /** Whether the server is to be asked for it now. */
  #isDue({ topic, asked, refused }) {
    return this.#transport !== null && !asked && !refused && !this.#postponed.holds(topic);
  }

  /** Whether the server can be asked for it: it needs no token, or has it. Else sees to it that it will. */
  #isReady(subscription) {
    const { topic, token } = subscription;
    if (token === undefined) return true;
    if (this.#transport.kind !== "websocket") {
      const text = `topic ${topic} has a token of its own, which does not go over Server-Sent Events`;
      this.#fail(subscription, new UproarError("needs_websocket", text, { topic }));
      return false;
    }
    if (subscription.needsToken && !subscription.fetching) this.#fetch(subscription);
    return !subscription.needsToken;
  }

  #fetch(subscription) {
    const { topic } = subscription;
    subscription.fetching = this.#hooks.attempts(async () => checkToken(await subscription.token(topic)), {
      done: (token) => {
        subscription.fetched(token);
        this.#changed.add(topic);
        this.#sync();
      },
      failed: (cause) => {
        subscription.fetching = null;
        const text = `no token for topic ${topic}: ${cause?.message ?? cause}`;
        this.#fail(subscription, new UproarError("token", text, { topic, cause }));
      },
    });
  }

  #request(transport, leave, join) {
    for (const topics of inParts(leave)) transport.unsubscribe(topics);
    const free = join.filter(({ token }) => token === undefined);
    const bound = join.filter(({ token }) => token !== undefined);
    for (const part of [...inParts(free), ...inParts(bound)]) {
      const since = ofEach(part, (subscription) => subscription.ask());
      const tokens = ofEach(part, (subscription) => subscription.takeToken());
      const id = this.#nextId();
      for (const { topic } of part) this.#asking.set(topic, [...this.#asking.get(topic) ?? [], id]);
      transport.subscribe(part.map(({ topic }) => topic), since, id, tokens);
    }
  }
}
