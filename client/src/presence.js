import { quiet } from "./deferred.js";
import { UproarError } from "./errors.js";
import { isForNow } from "./pause.js";

const NOBODY = Object.freeze([]);

/**
 * Who is in a room. It answers questions, and for our own room it can keep a list: asked for once a connection, and
 * from then on kept by the server's notices.
 */
export class Presence {
  /** Who is in our room, a `Set`; `null` while that is not known, and where the server gives no list. */
  members = null;
  /** How many are in our room; `null` while that is not known. */
  userCount = null;
  #clock;
  #nextId;
  #pause;
  #event;
  #room = null;
  #transport = null;
  /** A list is kept, and how long its question may take. */
  #tracking = false;
  #timeout = Infinity;
  /** Stands for the question for the list that is to be answered; else `null`. */
  #refreshing = null;
  /** The room had no list when it was that full. */
  #unlisted = Infinity;
  /** Questions in the order in which they were asked; the answers to those about one room come in that order. */
  #questions = [];

  /** `nextId()` names a message; when `pause` ends, call `resume`; `event` is called with every change. */
  constructor(clock, nextId, pause, event) {
    this.#clock = clock;
    this.#nextId = nextId;
    this.#pause = pause;
    this.#event = event;
  }

  /** Asks who is in a room; `topic` `null` for our own. Resolves with `{topic, userCount, members}`. */
  ask(topic, { timeout, signal } = {}) {
    return quiet(new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const question = { id: this.#nextId(), topic, signal, resolve, reject, timer: null, posed: false };
      question.abort = () => this.#settle(question, () => reject(signal.reason));
      signal?.addEventListener("abort", question.abort);
      const late = () => this.#late(question, timeout);
      if (Number.isFinite(timeout)) question.timer = this.#clock.setTimeout(late, timeout);
      this.#questions.push(question);
      this.#pose(question);
    }));
  }

  /** Keeps the list from now on; costs a question on every connection. */
  track(timeout) {
    if (this.#tracking) return;
    this.#tracking = true;
    this.#timeout = timeout;
    this.#refresh();
  }

  connected(transport, room) {
    this.#transport = transport;
    if (room !== this.#room) this.forget();
    this.#room = room;
    this.resume();
    this.#refresh();
  }

  /** It is to be another room. */
  forget() {
    this.#room = this.members = this.userCount = null;
    this.#unlisted = Infinity;
  }

  disconnected() {
    this.#transport = null;
    for (const question of this.#questions) question.posed = false;
  }

  /** The pause is over: what was not asked, or not answered for it, is asked. */
  resume() {
    for (const question of this.#questions.filter(({ posed }) => !posed)) this.#pose(question);
  }

  close(error) {
    for (const question of [...this.#questions]) this.#settle(question, () => question.reject(error));
  }

  /** An error of the server that names a question. `false` if it is none of ours. */
  refused(error) {
    const question = this.#questions.find(({ id }) => id === error.id);
    if (!question) return false;
    if (isForNow(error)) {
      question.posed = false;
      this.#pause.begin();
    } else {
      this.#settle(question, () => question.reject(error));
    }
    return true;
  }

  /** `user_joined`, `user_left`, `presence`. */
  take(message) {
    const { type, clientId, room = this.#room, topic, joined, left, userCount, members } = message;
    if (type === "user_joined") this.#change("joined", room, [clientId], NOBODY, userCount);
    else if (type === "user_left") this.#change("left", room, NOBODY, [clientId], userCount);
    else if (joined || left) this.#change("moved", topic, joined ?? NOBODY, left ?? NOBODY, userCount);
    else this.#answer(topic, userCount, members ?? null);
  }

  #pose(question) {
    if (!this.#transport || this.#pause.on) return;
    const { id, topic } = question;
    if (this.#transport.kind !== "websocket") {
      const error = new UproarError("needs_websocket", "presence does not go over HTTP", { id });
      this.#settle(question, () => question.reject(error));
      return;
    }
    question.posed = true;
    this.#transport.send(JSON.stringify(topic === null ? { type: "presence", id } : { type: "presence", id, topic }));
  }

  #refresh() {
    if (!this.#tracking || this.#refreshing || this.#transport?.kind !== "websocket") return;
    const refreshing = this.#refreshing = {};
    const over = () => { if (this.#refreshing === refreshing) this.#refreshing = null; };
    this.ask(null, { timeout: this.#timeout }).then(over, over);
  }

  #answer(topic, userCount, members) {
    if (topic === this.#room && this.#tracking) this.#replace(userCount, members);
    const question = this.#questions.find((candidate) => (candidate.topic ?? this.#room) === topic);
    if (question) this.#settle(question, () => question.resolve({ topic, userCount, members }));
  }

  /** The list anew. What is different from the one we had is told as a change. */
  #replace(userCount, list) {
    const old = this.members ?? new Set();
    const members = list && new Set(list);
    const other = this.userCount !== userCount;
    this.#refreshing = null; // here, for a notice may be in the same turn of the event loop
    this.userCount = userCount;
    this.members = members;
    this.#unlisted = members ? Infinity : userCount;
    const joined = members ? list.filter((id) => !old.has(id)) : NOBODY;
    const left = members ? [...old].filter((id) => !members.has(id)) : NOBODY;
    const changed = other || joined.length > 0 || left.length > 0;
    if (changed) this.#event({ type: "moved", topic: this.#room, joined, left, userCount });
  }

  #change(type, topic, joined, left, userCount) {
    if (!this.#tracking) return; // nobody listens
    if (topic === this.#room) {
      if (this.#isBehind()) return; // the answer that is on its way tells of them, and of those before
      this.userCount = userCount;
      for (const id of joined) this.members?.add(id);
      for (const id of left) this.members?.delete(id);
      if (this.members === null && userCount < this.#unlisted) {
        this.#unlisted = userCount; // not again for the same number
        this.#refresh();
      }
    }
    this.#event({ type, topic, joined, left, userCount });
  }

  /** Whether the list that listeners are to find up to date is on its way. If nothing is known, it is asked for. */
  #isBehind() {
    if (this.userCount === null) this.#refresh();
    return this.#refreshing !== null;
  }

  #late(question, timeout) {
    this.#settle(question, () => question.reject(new UproarError("timeout", `no answer within ${timeout} ms`)));
  }

  #settle(question, how) {
    this.#questions = this.#questions.filter((other) => other !== question);
    if (question.timer !== null) this.#clock.clearTimeout(question.timer);
    question.signal?.removeEventListener("abort", question.abort);
    how();
  }
}
