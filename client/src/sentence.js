/** The longest sentence that is passed on: a proxy may have more to say. Characters. */
const LONGEST = 200;

/**
 * What a server says in words about an answer of its own, "A token is wanted here." for instance; an empty text where
 * it says nothing. The line of the status before it, "401 Unauthorized", says nothing new.
 */
export async function sentence(response) {
  const isText = response.headers.get("content-type")?.startsWith("text/plain") ?? false;
  const text = isText ? await response.text().catch(() => "") : "";
  const lines = text.split("\n").map((line) => line.trim());
  return (lines.find((line) => line !== "" && !line.startsWith(`${response.status} `)) ?? "").slice(0, LONGEST);
}
