import { UproarError } from "./errors.js";

/** How often a thing is tried. */
const MOST = 5;

/** Tries something until it succeeds, a few times at most, with pauses between. */
export class Attempts {
  #options;
  #act;
  #outcome;
  #count = 0;
  #timer = null;
  /** Stands for the attempt under way. */
  #round = null;

  /**
   * Begins. `options`: `clock`, `backoff` for the pauses, and `timeout` of one attempt, in milliseconds. `act(wanted)`
   * makes it, and returns a promise; `wanted()` says whether it is still waited for. `outcome`: `done(value)`, or
   * `failed(error)` of the last one; one of them is called once, unless it is cancelled.
   */
  constructor(options, act, outcome) {
    this.#options = options;
    this.#act = act;
    this.#outcome = outcome;
    this.#try();
  }

  /** Ends it, without a word. */
  cancel() {
    this.#round = null;
    this.#options.clock.clearTimeout(this.#timer);
  }

  #try() {
    const { clock, timeout } = this.#options;
    const round = this.#round = {};
    const late = () => this.#failed(round, new UproarError("timeout", `nothing came of it within ${timeout} ms`));
    this.#count++;
    this.#timer = clock.setTimeout(late, timeout);
    const wanted = () => round === this.#round;
    this.#act(wanted).then((value) => this.#done(round, value), (error) => this.#failed(round, error));
  }

  #done(round, value) {
    if (round !== this.#round) return;
    this.cancel();
    this.#outcome.done(value);
  }

  #failed(round, error) {
    if (round !== this.#round) return;
    this.cancel();
    if (this.#count >= MOST) this.#outcome.failed(error);
    else this.#timer = this.#options.clock.setTimeout(() => this.#try(), this.#options.backoff.next());
  }
}
