/** The longest that timers can wait; asked for more, they do not wait at all. Milliseconds. */
const LONGEST = 2 ** 31 - 1;

/** The time that passes, in milliseconds, and timers. Tests put their own in its place. */
export const systemClock = {
  now: () => performance.now(),
  setTimeout: (call, delay) => setTimeout(call, Math.min(delay, LONGEST)),
  clearTimeout: (timer) => clearTimeout(timer),
};
