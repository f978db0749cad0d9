const MAX_BYTES = 256;
const MAX_ID_BYTES = 128;
const encoder = new TextEncoder();

/** Bytes of a text in UTF-8. */
export const byteLength = (text) => encoder.encode(text).length;

/** Throws if that cannot be the name of a topic or room. */
export function checkName(name) {
  if (typeof name !== "string" || name === "" || name[0] === "\0" || byteLength(name) > MAX_BYTES) {
    throw new TypeError(`a topic's name is a text of 1 to ${MAX_BYTES} bytes that does not begin with U+0000`);
  }
}

/** Throws if that cannot be the `id` of a message. */
export function checkId(id) {
  if (typeof id !== "string" || id === "" || byteLength(id) > MAX_ID_BYTES) {
    throw new TypeError(`an id is a text of 1 to ${MAX_ID_BYTES} bytes`);
  }
}
