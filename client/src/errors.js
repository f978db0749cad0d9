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

/** There was no connection to `address`: for what `cause` says, or in words, `said`, as far as either is known. */
export function unreachable(address, cause, said) {
  const why = systemCode(cause) ?? said;
  const what = `no connection to ${new URL(address).origin}`;
  return new UproarError("unreachable", why ? `${what}: ${why}` : what, { cause });
}

const DENIED = new Set([401, 403]);

const WAITING = new Set([429, 503]);

/** Whether a server has answered that takes nobody at the moment. */
export const isBusy = ({ status }) => WAITING.has(status);

/** Whether it would be the same by another attempt, or another way: it is for people to mend. */
export const isLasting = ({ code, status }) => code === "token" || code === "protocol" || DENIED.has(status);
