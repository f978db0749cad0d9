import { createHash } from "node:crypto";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX_SMALL = 125;

export const acceptKey = (key) => createHash("sha1").update(key + GUID).digest("base64");

/** A frame of a server: text (1), close (8), pong (10). */
export function frame(opcode, payload) {
  const { length } = payload;
  const extended = length <= MAX_SMALL ? 0 : length < 65_536 ? 2 : 8;
  const head = Buffer.alloc(2 + extended);
  head[0] = 0x80 | opcode;
  head[1] = extended === 0 ? length : extended === 2 ? 126 : 127;
  if (extended === 2) head.writeUInt16BE(length, 2);
  if (extended === 8) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}

export function closeFrame(code) {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return frame(8, payload);
}

/** Reads the frames of a client, in pieces that may end anywhere. No fragments: clients here send none. */
export class FrameReader {
  #rest = Buffer.alloc(0);

  /** The frames that are complete now: `{opcode, payload}`. */
  push(piece) {
    this.#rest = Buffer.concat([this.#rest, piece]);
    const frames = [];
    for (let next = this.#next(); next; next = this.#next()) frames.push(next);
    return frames;
  }

  #next() {
    const bytes = this.#rest;
    if (bytes.length < 2) return null;
    const short = bytes[1] & 0x7f;
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0;
    const begin = 2 + extended + 4;
    if (bytes.length < begin) return null;
    const length = extended === 2 ? bytes.readUInt16BE(2) : extended === 8 ? Number(bytes.readBigUInt64BE(2)) : short;
    if (bytes.length < begin + length) return null;
    const mask = bytes.subarray(begin - 4, begin);
    const payload = Buffer.from(bytes.subarray(begin, begin + length));
    for (let i = 0; i < length; i++) payload[i] ^= mask[i % 4];
    this.#rest = bytes.subarray(begin + length);
    return { opcode: bytes[0] & 0x0f, payload };
  }
}
