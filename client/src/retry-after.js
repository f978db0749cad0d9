const MS_A_SECOND = 1000;

/** What the field `Retry-After` asks for, seconds or a date, in milliseconds; 0 if it is not there, or neither. */
export function retryAfter(value, now = Date.now()) {
  if (value === null || value === undefined) return 0;
  const wait = /^\s*\d+\s*$/.test(value) ? Number(value) * MS_A_SECOND : Date.parse(value) - now;
  return Math.max(0, wait) || 0;
}
