// Answers prompts in pieces, as a language model would; there is none, so it recites.
//
//   {"type":"prompt","id":"q1","text":"…"}      answer: `stream` pieces, numbered by `n`, and `complete`
//   {"type":"prompt","id":"q1","after":17}      go on behind piece 17: the client was away
//   {"type":"prompt","id":"q1","cancel":true}   stop: `complete` with `stopped`
//
// A client has one answer at a time; another prompt takes its place.
import { connect, isMain } from "./connect.mjs";

const PIECE_MS = 30;
const KEPT_MS = 60_000; // an answer that is complete can be asked for again so long
const MAX_COUNT = 1000;

const RECITAL = `No model is behind this page: a small Node.js process recites what you read. How it comes to you is real.

Your prompt went to the server as a message of a type that it hands over. It chose a backend, which is always the same \
one for this room, and passed the prompt on with your client's name. Every word since is a message of its own, addressed \
to that name, so nobody else in the room is sent it.

The server keeps the order: pieces of an answer arrive as they were sent. If your connection is lost in between, the page \
says which piece it had last, and the answer goes on behind it. Try it: switch the network off and on again.

Stop sends a word to the backend, which then sends no more. Ask me to count to 200 and see that no number is missing.`;

/** What is said to a prompt. */
function answerTo(text) {
  const count = /\bcount to (\d{1,9})\b/i.exec(text);
  if (!count) return RECITAL;
  const numbers = Array.from({ length: Math.min(MAX_COUNT, Number(count[1])) }, (_, i) => i + 1);
  return `${numbers.join(" ")}.`;
}

/** Words, each with the white space before it: put together again, they are the text. */
const inPieces = (text) => text.match(/\s*\S+/g) ?? [];

export function stream(backend) {
  const answers = new Map(); // clientId → { id, pieces, next, timer }

  function forget(clientId, answer) {
    if (answers.get(clientId) === answer) answers.delete(clientId);
  }

  function complete(clientId, answer, more) {
    clearTimeout(answer.timer);
    backend.send({ type: "complete", clientId, id: answer.id, ...more });
    answer.timer = setTimeout(() => forget(clientId, answer), KEPT_MS);
  }

  function recite(clientId, answer) {
    clearTimeout(answer.timer);
    const { id, pieces, next: n } = answer;
    if (n >= pieces.length) return complete(clientId, answer, { pieces: n });
    backend.send({ type: "stream", clientId, id, n, content: pieces[n] });
    answer.next = n + 1;
    answer.timer = setTimeout(() => recite(clientId, answer), PIECE_MS);
  }

  function begin(clientId, id, text) {
    clearTimeout(answers.get(clientId)?.timer);
    const answer = { id, pieces: inPieces(answerTo(text)), next: 0 };
    answers.set(clientId, answer);
    recite(clientId, answer);
  }

  backend.on("prompt", ({ clientId, id, text, after, cancel }) => {
    const answer = answers.get(clientId);
    const known = answer?.id === id;
    if (typeof text === "string" && !known) return begin(clientId, id, text);
    if (!known) return backend.send({ type: "complete", clientId, id, error: "That answer is not known here any more." });
    if (cancel === true) return complete(clientId, answer, { stopped: true });
    if (!Number.isInteger(after) || after < 0 || after > answer.pieces.length) return undefined;
    answer.next = after;
    return recite(clientId, answer);
  });
}

if (isMain(import.meta.url)) stream(connect());
