import { deferred } from "./deferred.js";
import { Listeners } from "./listeners.js";
import { Position } from "./position.js";

/** The data of an envelope: JSON, or bytes. */
export function dataOf({ data, encoding }) {
  return encoding === "base64" ? Uint8Array.from(atob(data), (char) => char.charCodeAt(0)) : data;
}

/** Whether an envelope or a gap says where it is, as it must. */
export const isPlace = (epoch, ...offsets) =>
  typeof epoch === "string" && offsets.every((offset) => Number.isSafeInteger(offset) && offset >= 0);

/** Asks for all that the server holds: no topic has this epoch. */
const BEGINNING = Object.freeze({ epoch: "", offset: 0 });

/** One topic, all its listeners, and where they are in it. */
export class Subscription {
  listeners = new Listeners();
  position = new Position();
  /** Settles when the server has answered, on this connection or the next one. */
  #answer = deferred();
  /** How many of the listeners want to go on where they were. */
  recovering = 0;
  /** It begins with what the server's history holds. */
  history = false;
  /** The server was asked on this connection. */
  asked = false;
  /** It has answered: what comes from now on belongs to us. */
  live = false;
  /** It has answered that we cannot have the topic; it is not asked again before the next connection, or listener. */
  refused = false;
  /** The server had granted it, and some listeners know that. */
  granted = false;
  /** The topic's own token, or a function that is asked for one each time; `undefined` where none is needed. */
  token = undefined;
  /** What the function has said for the next request. */
  #fetched = null;
  /** The attempts to have it say something. */
  fetching = null;
  /** It was told where we are. */
  #resumed = false;

  constructor(topic) {
    this.topic = topic;
  }

  get wanted() {
    return this.listeners.size > 0;
  }

  /** Resolves with where a listener begins that is added now: with what follows. */
  get ready() {
    return this.live ? Promise.resolve(this.#place) : this.#answer.promise;
  }

  get #place() {
    return { topic: this.topic, ...this.position.since };
  }

  /** Adds a listener. Returns a function that takes it away, once. */
  add(listener, recover) {
    let take = this.listeners.add(listener);
    if (recover) this.recovering++;
    return () => {
      take?.();
      if (take && recover) this.recovering--;
      take = null;
    };
  }

  /** Whether a token has to be fetched before the server is asked. */
  get needsToken() {
    return typeof this.token === "function" && this.#fetched === null;
  }

  /** There is a token for the next request. */
  fetched(token) {
    this.fetching = null;
    this.#fetched = token;
  }

  /** The token for the request that is made now, if one is needed. */
  takeToken() {
    const token = this.#fetched ?? this.token;
    this.#fetched = null;
    return token;
  }

  /** The server is asked now. Returns where it is to go on, or `null`: with what is new. */
  ask() {
    const since = this.recovering > 0 ? this.position.since ?? (this.history ? BEGINNING : null) : null;
    this.asked = true;
    this.#resumed = since !== null;
    return since;
  }

  /** The server has answered that we have it. Returns gaps. */
  begin(epoch, offset) {
    this.live = this.granted = true;
    const gaps = isPlace(epoch, offset) ? this.position.begin(epoch, offset, this.#resumed) : [];
    this.#answer.resolve(this.#place);
    return gaps;
  }

  refuse(error) {
    this.refused = true;
    this.granted = false;
    this.asked = false;
    this.giveUp(error);
  }

  /** Who waits for the server's answer waits in vain. */
  giveUp(error) {
    this.#answer.reject(error);
    this.#answer = deferred();
  }

  /** The connection is lost. */
  detach() {
    this.fetching?.cancel();
    this.fetching = this.#fetched = null;
    if (this.live) this.#answer = deferred();
    this.asked = false;
    this.live = false;
  }
}
