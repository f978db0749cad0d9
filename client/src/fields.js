/** Types that go to one receiver; the others would go to the whole room. */
const ADDRESSED = ["text", "image", "file", "system"];

/** A copy of `fields` as an addressed message, a `text` by default. Throws if it would not go to its receiver alone. */
export function addressed(fields, receiver) {
  if (typeof fields !== "object" || fields === null) throw new TypeError("fields is an object");
  const { type = "text" } = fields;
  if (!ADDRESSED.includes(type)) {
    throw new TypeError(`what is sent to one receiver is of type ${ADDRESSED.join(", ")}; ${type} is not`);
  }
  return { ...fields, type, receiver };
}

/** What the client says to the server by itself, and which of its methods do it. */
const METHODS = new Map(Object.entries({
  subscribe: "use subscribe(topic, listener)",
  unsubscribe: "call the function that subscribe returned",
  publish: "use publish(topic, data)",
  presence: "use presence(topic)",
  ping: "the client does so by itself, after the option heartbeatInterval",
  heartbeat: "the client does so by itself, after the option heartbeatInterval",
}));

/** Throws if that is not a message, or one that has a method of its own. */
export function checkFields(fields) {
  if (typeof fields?.type !== "string") throw new TypeError("a message is an object with a type");
  const method = METHODS.get(fields.type);
  if (method) throw new TypeError(`${fields.type} is not sent so: ${method}`);
}

const isBytes = (value) => {
  const { Blob } = globalThis;
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer || (Blob !== undefined && value instanceof Blob);
};

/**
 * The JSON of `data`. Throws if JSON cannot say it; also of bytes, and of an object or list that has bytes for a value:
 * they would arrive as an object of numbers, or an empty one.
 */
export function jsonOf(data) {
  const values = isBytes(data) || typeof data !== "object" || data === null ? [data] : Object.values(data);
  if (values.some(isBytes)) {
    throw new TypeError("this client sends JSON, which has no bytes: send them as text, in base64 for instance");
  }
  const json = JSON.stringify(data);
  if (json === undefined) throw new TypeError("data is something that JSON can say");
  return json;
}
