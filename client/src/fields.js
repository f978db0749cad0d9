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

/** Throws if that is not a message. */
export function checkFields(fields) {
  if (typeof fields?.type !== "string") throw new TypeError("a message is an object with a type");
}
