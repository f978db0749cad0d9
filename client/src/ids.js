/** `bytes` random bytes in hexadecimal. Unguessable where the platform has `crypto`, unlikely to repeat elsewhere. */
export function randomId(bytes = 8) {
  const values = new Uint8Array(bytes);
  if (globalThis.crypto?.getRandomValues) globalThis.crypto.getRandomValues(values);
  else values.forEach((_, i) => { values[i] = Math.floor(Math.random() * 256); });
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

/** A function that names messages: a random prefix, which no other client has, and a counter. */
export function idSource(prefix = randomId()) {
  let count = 0;
  return () => `${prefix}-${(count++).toString(36)}`;
}
