/**
 * What went wrong, with a `code` for programs: one of the server's, or one of the client's own (see the README).
 * Where they are known: `id` of the message, `topic`, `closeCode` of the connection, `status` of an HTTP answer.
 */
export class UproarError extends Error {
  constructor(code, message, { cause, ...details } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "UproarError";
    this.code = code;
    Object.assign(this, details);
  }
}
