/**
 * What a server's message is: an object with a `type`, as it came; anything else is what somebody published to our
 * room, and becomes `{type: "data", data}`: other JSON, a text that is none, or bytes.
 */
export function parse(data) {
  if (typeof data !== "string") return { type: "data", data: new Uint8Array(data) };
  let value = data;
  try {
    value = JSON.parse(data);
  } catch {
    // A text that is no JSON, of a client of another dialect.
  }
  return typeof value?.type === "string" ? value : { type: "data", data: value };
}
