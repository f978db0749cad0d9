/** What JSON can say. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

export type State = "connecting" | "connected" | "reconnecting" | "disconnected";

/** A client's name and the secret that proves it, as the server's welcome said them. */
export interface Identity {
  clientId: string;
  token: string;
}

/** The part of the standard `WebSocket` class that is used. The class of `ws` has it too. */
export interface WebSocketClass {
  /** `options`: subprotocols; or, in Node.js, an object with `headers`, which the class of `ws` takes behind those. */
  new (url: string, options?: any, more?: any): {
    binaryType: string;
    readonly bufferedAmount: number;
    onopen?: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    send(text: string): void;
    close(code?: number, reason?: string): void;
  };
}

/** Options of a client; times in milliseconds. The README has the defaults. */
export interface Options {
  /** Connect at once; else at `connect()`. */
  connect?: boolean;
  /** The room to be in; else what the URL says. */
  room?: string;
  /** Who to be, from `client.identity` of an earlier client. */
  identity?: Identity | null;
  /**
   * The token that the server wants (a JWT as a rule), or a function that gives a fresh one: it is asked before every
   * attempt to connect, and before the last one expires.
   */
  accessToken?: string | null | (() => Promise<string | null | undefined> | string | null | undefined);
  /** The class to use instead of the platform's; `null`: none, only Server-Sent Events. */
  WebSocket?: WebSocketClass | null;
  /** The function to use instead of the platform's. */
  fetch?: typeof fetch;
  /** For an attempt, from `accessToken` to the server's welcome. */
  connectTimeout?: number;
  /** The first wait before connecting again, or sending again what was refused for now, is at most this; it doubles… */
  retryBase?: number;
  /** … up to this. */
  retryCap?: number;
  /** After a connection that was up for so long, waits begin with short ones again. */
  stableAfter?: number;
  /** Nothing heard for so long: the server is asked whether it is there. */
  heartbeatInterval?: number;
  /** Nothing heard for so long after that: the connection is given up. */
  heartbeatTimeout?: number;
  /** For an acknowledgement, from when the message was first sent. No longer than the server's `ack_window`. */
  ackTimeout?: number;
  /** Messages that may wait for their acknowledgement; more wait in the queue. */
  maxInFlight?: number;
  /** Messages that may wait to be sent. */
  queueLimit?: number;
  /** What becomes of a message for which the queue has no room. */
  overflow?: "reject" | "drop-oldest" | "drop-newest";
  /** What becomes of a message that may have arrived, when the server has forgotten this client. */
  unsure?: "reject" | "resend";
  /** Use Server-Sent Events and HTTP where WebSocket does not get through. */
  fallback?: boolean;
  /** After so many attempts by WebSocket that failed, and none that succeeded. */
  fallbackAfter?: number;
  /** While on Server-Sent Events, WebSocket is tried about this often. */
  websocketRetry?: number;
  /** Nothing heard for so long on a stream of events, not even a comment: it is given up. */
  sseTimeout?: number;
  /** Where the streams are; relative to the URL of the server. */
  sseUrl?: string;
  /** Where to publish by HTTP; relative to the URL of the server. */
  publishUrl?: string;
  /** Time and timers, for tests. */
  clock?: {
    now(): number;
    setTimeout(call: () => void, delay: number): unknown;
    clearTimeout(timer: any): void;
  };
  /** A number from 0 to below 1, for tests. */
  random?: () => number;
  /** What `online` and `visibilitychange` are heard of, for tests. */
  page?: unknown;
}

/** A message of a topic. */
export interface Message<T = any> {
  topic: string;
  /** The incarnation of the topic. */
  epoch: string;
  /** The message's number in it. */
  offset: number;
  /** What was published; a `Uint8Array` if it was binary. */
  data: T;
  /** It is the topic's newest message, from before the subscription. */
  snapshot?: true;
  /** Of `messages`: how many before this one had to go because they were not taken in time. */
  dropped?: number;
}

/** What was said in the room, or to this client: as it came, with `from` and `timestamp` where the server adds them. */
export interface RoomMessage {
  /** `chat`, `text`, …; `data` for what has no type, which is then in `data`. */
  type: string;
  from?: string;
  timestamp?: number;
  [field: string]: any;
}

/** Messages that are lost to this client. */
export interface Gap {
  /** `null`: of messages that were dropped before they came to the room, and of which only the number is known. */
  topic: string | null;
  epoch: string | null;
  /** The first one missed. */
  from: number | null;
  /** The last one missed; `null`: nobody knows, for the server has begun the topic anew. */
  to: number | null;
  /** How many; `null`: nobody knows, it may be none. */
  missed: number | null;
}

/** A change in a room. */
export interface PresenceEvent {
  /** One has `joined` or `left`; `moved`: several, or the list was taken anew. */
  type: "joined" | "left" | "moved";
  topic: string;
  joined: readonly string[];
  left: readonly string[];
  userCount: number;
}

export interface PresenceAnswer {
  topic: string;
  userCount: number;
  /** `null`: they are too many for a list. */
  members: string[] | null;
}

/** Why a connection was lost, or an attempt failed; whatever of it is known. */
export interface Cause {
  /** The close code of the WebSocket. */
  code?: number;
  reason?: string;
  error?: Error;
  /** After how many milliseconds the server wants us to come back, if it has sent us away and said that. */
  after?: number;
}

export interface StateDetail extends Cause {
  previous: State;
  /** Of `connected`. */
  transport?: "websocket" | "sse";
}

export interface Retry extends Cause {
  /** How many waits in a row, from 1; 0 when a server that ends has said when to come back: that is no failure. */
  attempt: number;
  /** How long it is going to wait, in milliseconds. */
  delay: number;
  /** Why, in its `message`. */
  error: Error;
  /** The topics that it is going to ask for again; if they are not there, it is going to connect. */
  topics?: string[];
}

/** The access token was renewed while the connection lasts. */
export interface Refreshed {
  /** When the new one expires, in milliseconds since 1970 by the server's clock; `null`: never. */
  expires: number | null;
}

export interface Events {
  state: (state: State, detail: StateDetail) => void;
  message: (message: RoomMessage) => void;
  gap: (gap: Gap) => void;
  presence: (event: PresenceEvent) => void;
  error: (error: UproarError) => void;
  retry: (retry: Retry) => void;
  refreshed: (token: Refreshed) => void;
}

export interface Ack {
  id: string;
  /** Of publications, as are `epoch` and `offset`. */
  topic?: string;
  epoch?: string;
  offset?: number;
}

export interface SendOptions {
  /** Its name between client and server, 1 to 128 bytes: the same again within `ack_window` is the same message. */
  id?: string;
  /** Instead of the option `ackTimeout`; `Infinity`: none. What is refused for now is sent again within this time. */
  timeout?: number;
  /** Gives it up: it is not sent if it was not, and its promise is rejected with the signal's reason. */
  signal?: AbortSignal;
  /** `false`: now or never. It is sent if there is a connection that takes something, and not acknowledged. */
  ack?: boolean;
}

/** What `ack: false` leaves of a promise's value. */
type Sent<O> = O extends { ack: false } ? void : Ack;

/** What lets a client subscribe to one topic, or a function that gives it, which is asked for every subscription. */
export type TopicToken = string | ((topic: string) => Promise<string> | string);

/** Ends a subscription. */
export interface Unsubscribe {
  (): void;
  /** Resolves when messages come, rejects if the server refuses; that is no `error` event too. `busy` is no refusal. */
  readonly ready: Promise<{ topic: string; epoch?: string; offset?: number }>;
}

export class UproarError extends Error {
  readonly name: "UproarError";
  /** A word for programs; see the README. */
  readonly code: string;
  /** Of the message. */
  readonly id?: string;
  readonly topic?: string;
  /** Of the WebSocket. */
  readonly closeCode?: number;
  /** Of an HTTP answer. */
  readonly status?: number;
  /** After how many milliseconds that said to come back. */
  readonly retryAfter?: number;
}

export class Uproar {
  /** `url` is that of a room: `ws:`, `wss:`, `http:` or `https:`, or in a browser relative to the page. */
  constructor(url: string | URL, options?: Options);

  readonly state: State;
  /** `null` while there is no connection. */
  readonly transport: "websocket" | "sse" | null;
  /** `null` before the first welcome. */
  readonly clientId: string | null;
  /** `null` before the first welcome. Its `token` is secret. */
  readonly identity: Identity | null;
  readonly room: string;
  /** The user that the access token names; `null` if it names none, and before the first welcome. */
  readonly user: string | null;
  /** Who is in the room; `null` without a `presence` listener, before it is first called, and in very full rooms. */
  readonly members: string[] | null;
  /** How many are in the room; `null` until a `presence` listener is first called. */
  readonly userCount: number | null;
  /** Messages whose promises are not settled. */
  readonly pending: number;

  /** Calls `listener` at every event of that name; returns a function that ends it. */
  on<E extends keyof Events>(event: E, listener: Events[E]): () => void;

  /**
   * Connects, and keeps connected until `close`, or until the server says not to come back. Only needed after these, or
   * with the option `connect: false`.
   */
  connect(): void;
  /** Ends the connection and every timer. Promises are rejected, iterations end; listeners are kept for `connect`. */
  close(): void;
  /** Goes to another room. */
  join(room: string): void;

  /**
   * Calls `listener` with every message of a topic. `recover: false`: after a loss, go on with what is new.
   * `history: true`: begin with what the server's history holds. `token`: the topic's own, where the server wants one.
   */
  subscribe<T = any>(
    topic: string,
    listener: (message: Message<T>) => void,
    options?: { recover?: boolean; history?: boolean; token?: TopicToken },
  ): Unsubscribe;

  /** The messages of a topic for `for await`; at most `limit` wait, beyond it the oldest go. */
  messages<T = any>(
    topic: string,
    options?: { limit?: number; recover?: boolean; token?: TopicToken; signal?: AbortSignal },
  ): AsyncIterableIterator<Message<T>>;

  /** Publishes what JSON can say to a topic; bytes are a `TypeError`. */
  publish<O extends SendOptions = {}>(topic: string, data: unknown, options?: O): Promise<Sent<O>>;
  /** Sends an object whose type is relayed to the room, or taken by the backend; not one that has a method here. */
  send<O extends SendOptions = {}>(fields: { type: string; [field: string]: any }, options?: O): Promise<Sent<O>>;
  /** Says something to everybody in the room. */
  chat<O extends SendOptions = {}>(message: string | { [field: string]: any }, options?: O): Promise<Sent<O>>;
  /** Sends a message to a client, or to the others in a room; its `type` is `text` by default. */
  sendTo<O extends SendOptions = {}>(
    receiver: string,
    fields: { type?: "text" | "image" | "file" | "system"; [field: string]: any },
    options?: O,
  ): Promise<Sent<O>>;

  /** Asks who is in a room, by default our own. */
  presence(topic?: string | null, options?: { timeout?: number; signal?: AbortSignal }): Promise<PresenceAnswer>;
}
