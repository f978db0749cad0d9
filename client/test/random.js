/** Numbers from 0 to below 1 that look random and are the same for a seed (mulberry32). */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The seed that `SEED` names, or a new one; say it, so that a failure can be repeated. */
export const seedOf = ({ SEED } = process.env) => Number(SEED ?? Math.floor(Math.random() * 2 ** 32));

export const pick = (random, list) => list[Math.floor(random() * list.length)];
