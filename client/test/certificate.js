import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate for this machine that nobody has signed but itself: the paths of both files, and what is in them. */
function make() {
  const directory = mkdtempSync(join(tmpdir(), "uproar-client-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  const [keyFile, certFile] = ["key.pem", "cert.pem"].map((name) => join(directory, name));
  const args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(" ");
  args.push("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", keyFile, "-out", certFile);
  execFileSync("openssl", args, { stdio: "ignore" });
  return { keyFile, certFile, key: readFileSync(keyFile), cert: readFileSync(certFile) };
}

/** As `make` says; `null` where there is no `openssl`. */
export const selfSigned = (() => {
  try {
    return make();
  } catch {
    return null;
  }
})();
