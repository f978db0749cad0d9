import { createHmac } from "node:crypto";

/** A JWT (HS256) with these claims, made with JWT_SECRET. */
export function makeToken(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", process.env.JWT_SECRET).update(text).digest("base64url")}`;
}
