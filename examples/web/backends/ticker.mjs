// Prices of symbols that do not exist, each a topic of its own: `ticker.BAKO`. What symbols there are, `ticker.symbols`
// says. The server keeps the newest message of each (knob `history`, last_value), so who comes late has all prices.
import { connect, isMain } from "./connect.mjs";

const SYMBOLS = 300;
const CHANGES_A_SECOND = 1000;
const TICK_MS = 50;

/** `count` different names of four letters that can be said: BABA, BABE, … in leaps, so that neighbours differ. */
function names(count) {
  const [consonants, vowels] = ["BDFGKLMNPRSTVZ", "AEIOU"];
  const syllables = [...consonants].flatMap((consonant) => [...vowels].map((vowel) => consonant + vowel));
  return Array.from({ length: count }, (_, i) => {
    const n = (i * 1117) % syllables.length ** 2; // 1117 and 70² have no common divisor
    return syllables[Math.floor(n / syllables.length)] + syllables[n % syllables.length];
  }).sort();
}

/** A step of a random walk that is drawn back to where it began; in cents, at least one. */
function move(stock) {
  const pull = (stock.open - stock.price) * 0.002;
  const step = Math.round((Math.random() + Math.random() - 1) * stock.open * 0.004 + pull);
  stock.price = Math.max(1, stock.price + (step || Math.sign(Math.random() - 0.5)));
}

export function ticker(backend) {
  const symbols = names(SYMBOLS);
  const stocks = symbols.map((symbol) => {
    const open = Math.round(100 * Math.exp(1 + Math.random() * 5)); // 2.72 to 400, in cents
    return { symbol, open, price: open };
  });
  const publish = ({ symbol, price, open }) =>
    backend.send({ type: "publish", topic: `ticker.${symbol}`, data: { price: price / 100, open: open / 100 } });

  // A server that was started anew knows of no price.
  backend.on("connected", () => {
    backend.send({ type: "publish", topic: "ticker.symbols", data: symbols });
    stocks.forEach(publish);
  });
  setInterval(() => {
    if (backend.busy) return; // of prices only the newest counts
    for (let i = 0; i < (CHANGES_A_SECOND * TICK_MS) / 1000; i++) {
      const stock = stocks[Math.floor(Math.random() * stocks.length)];
      move(stock);
      publish(stock);
    }
  }, TICK_MS);
}

if (isMain(import.meta.url)) ticker(connect());
