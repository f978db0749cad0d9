/** Makes a promise that nobody has to look at: if it is rejected and nobody does, that is no unhandled rejection. */
export function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

/** The promise of what `call` returns, or of what it throws; nobody has to look at it. */
export const promised = (call) => quiet(new Promise((resolve) => resolve(call())));

/** A promise, and the functions that settle it. */
export function deferred() {
  const parts = {};
  parts.promise = quiet(new Promise((resolve, reject) => Object.assign(parts, { resolve, reject })));
  return parts;
}
