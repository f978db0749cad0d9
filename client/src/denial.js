import { UproarError, isLasting } from "./errors.js";

/**
 * Whether a server answers a request with 401 or 403: resolves with an error that says so, or with `null` if it does
 * not, or nothing is known. `headers` are those of the token; `timeout` in milliseconds.
 */
export async function denial(fetch, address, headers, timeout) {
  const request = { method: "HEAD", headers, cache: "no-store", signal: AbortSignal.timeout(timeout) };
  const { status } = await fetch(address, request).catch(() => ({ status: 0 }));
  const text = `there is no WebSocket, and by HTTP the server answers ${status}: it may be for the access token`;
  const error = new UproarError("handshake", text, { status });
  return isLasting(error) ? error : null;
}
