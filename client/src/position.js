const NOTHING = Object.freeze([]);
const NEXT = Object.freeze({ deliver: true, gaps: NOTHING });
const REPEATED = Object.freeze({ deliver: false, gaps: NOTHING });

/**
 * Where a client is in a topic: which messages it has had and which it will never get.
 *
 * Gaps are `{epoch, from, to}`, both ends missed; `to` is `null` if nobody knows how many there were. Every message of
 * the topic after the first `begin` is either to be delivered, once, or within a gap that was returned.
 */
export class Position {
  /** The incarnation of the topic; `null` before anything is known. */
  epoch = null;
  /** Everything up to this one is delivered, missed, or from before. */
  offset = 0;
  /** The newest that was delivered, snapshots too. */
  #seen = 0;

  /** What to ask the server to go on after; `null` if nothing is known. */
  get since() {
    return this.epoch === null ? null : { epoch: this.epoch, offset: this.offset };
  }

  /**
   * We are subscribed, and `offset` is the topic's newest message. `resumed`: the server was told our `since`, or to
   * begin with all that it holds, if nothing was known.
   */
  begin(epoch, offset, resumed) {
    if (!resumed) {
      if (this.epoch !== epoch || offset < this.#seen) this.#seen = 0;
      this.epoch = epoch;
      this.offset = offset;
      return NOTHING;
    }
    if (this.epoch !== epoch) return this.enter(epoch);
    if (offset >= this.offset) return NOTHING; // what lies between is on its way
    // An epoch never goes back. Believing it would mean to take new messages for old ones.
    const gaps = [this.#unknown()];
    this.offset = offset;
    this.#seen = 0;
    return gaps;
  }

  /**
   * The topic is in that epoch. If it was in another one, we go over from its beginning: what there was of the old one
   * since, if anything, nobody knows, also where both are empty.
   */
  enter(epoch) {
    if (epoch === this.epoch) return NOTHING;
    const gaps = this.epoch === null ? NOTHING : [this.#unknown()];
    this.epoch = epoch;
    this.offset = 0;
    this.#seen = 0;
    return gaps;
  }

  /** The server says that messages `from` to `to` are lost. Returns what that adds to the gaps told so far. */
  skip(epoch, from, to) {
    const fresh = this.epoch === null;
    const gaps = [...this.enter(epoch)];
    if (to > this.offset) {
      gaps.push({ epoch, from: fresh ? from : this.offset + 1, to });
      this.offset = to;
    }
    return gaps;
  }

  /** A message has come. Returns whether to deliver it, and gaps to be told before. */
  take(epoch, offset, snapshot = false) {
    if (snapshot) return this.#takeSnapshot(epoch, offset);
    if (epoch === this.epoch && offset === this.offset + 1) {
      this.offset = this.#seen = offset;
      return NEXT;
    }
    const fresh = this.epoch === null;
    const gaps = [...this.enter(epoch)];
    if (offset <= this.offset) return REPEATED;
    if (!fresh && offset > this.offset + 1) gaps.push({ epoch, from: this.offset + 1, to: offset - 1 });
    this.offset = this.#seen = offset;
    return { deliver: true, gaps };
  }

  /** A snapshot stands beside the stream: it tells the state, and takes no message's place. */
  #takeSnapshot(epoch, offset) {
    if (this.epoch === null) this.begin(epoch, offset, false);
    else if (epoch === this.epoch && offset <= this.#seen) return REPEATED;
    if (epoch === this.epoch) this.#seen = offset;
    return NEXT;
  }

  #unknown() {
    return { epoch: this.epoch, from: this.offset + 1, to: null };
  }
}
