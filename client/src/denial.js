import { UproarError, isLasting } from "./errors.js";
import { sentence } from "./sentence.js";

/**
 * Whether a server answers a request with 401 or 403: resolves with an error that says so, in the server's words too,
 * or with `null` if it does not, or nothing is known. `headers` are those of the token; `timeout` in milliseconds.
 */
export async function denial(fetch, address, headers, timeout) {
  // Not HEAD, whose answer has no words. Where it is a stream of events, that is ended at once.
  const request = { headers, cache: "no-store", signal: AbortSignal.timeout(timeout) };
  const response = await fetch(address, request).catch(() => null);
  if (!response || !isLasting(response)) {
    response?.body?.cancel().catch(() => {});
    return null;
  }
  const { status } = response;
  const why = await sentence(response) || "it may be for the access token";
  const text = `there is no WebSocket, and by HTTP the server answers ${status}: ${why}`;
  return new UproarError("handshake", text, { status });
}
