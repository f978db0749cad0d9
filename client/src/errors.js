/**
 * What went wrong, with a `code` for programs: one of the server's, or one of the client's own (see the README).
 * Where they are known: `id` of the message, `topic`, `closeCode` of the connection, `status` of an HTTP answer, and
 * `retryAfter`, the milliseconds after which that said to come back.
 */
export class UproarError extends Error {
  constructor(code, message, { cause, ...details } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "UproarError";
    this.code = code;
    Object.assign(this, details);
  }
}

/** The system's word for what is behind an error, ECONNREFUSED for instance; `undefined` where there is none. */
function systemCode(error) {
  let each = error;
  while (each && typeof each.code !== "string") each = each.cause ?? each.errors?.[0];
  return each?.code;
}

/** The system's words for a server's certificate that is not to be trusted (OpenSSL's and Node.js's own). */
const UNTRUSTED = new Set([
  "CERT_CHAIN_TOO_LONG", "CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID", "CERT_REJECTED", "CERT_REVOKED",
  "CERT_SIGNATURE_FAILURE", "CERT_UNTRUSTED", "DEPTH_ZERO_SELF_SIGNED_CERT", "ERR_TLS_CERT_ALTNAME_INVALID",
  "HOSTNAME_MISMATCH", "INVALID_CA", "INVALID_PURPOSE", "PATH_LENGTH_EXCEEDED", "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

/**
 * There was no connection to `address`: for what `cause` says, or in words, `said`, as far as either is known. If the
 * server's certificate is not trusted, the error's code is the system's word for that, else `unreachable`.
 */
export function unreachable(address, cause, said) {
  const word = systemCode(cause);
  const why = word ?? said;
  const what = `no connection to ${new URL(address).origin}`;
  if (UNTRUSTED.has(word)) return new UproarError(word, `${what}: its certificate is not trusted: ${word}`, { cause });
  return new UproarError("unreachable", why ? `${what}: ${why}` : what, { cause });
}

const LASTING = new Set(["token", "protocol", ...UNTRUSTED]);
const DENIED = new Set([401, 403]);

const WAITING = new Set([429, 503]);

/** Whether a server has answered that takes nobody at the moment. */
export const isBusy = ({ status }) => WAITING.has(status);

/** Whether it would be the same by another attempt, or another way: it is for people to mend. */
export const isLasting = ({ code, status }) => LASTING.has(code) || DENIED.has(status);
