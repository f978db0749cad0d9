"""Writes the suite's specification, and sums up its report. Runs on Python 2.7 as the suite does, and on 3.

    report.py spec OUT PORT CASES
    report.py summary OUT SHARDS SUITE
"""
from __future__ import print_function

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter

AGENT = "uproar"
ALL_CASES = 517
# Verdicts on a case, and on the way its connection was closed.
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
GOOD_CLOSE = {"OK", "INFORMATIONAL"}


def spec(out, port, cases):
    servers = [{"agent": AGENT, "url": "ws://127.0.0.1:%s" % port}]
    text = {"outdir": out, "servers": servers, "cases": cases.split(","), "exclude-cases": [], "exclude-agent-cases": {}}
    with open(os.path.join(out, "spec.json"), "w") as file:
        json.dump(text, file, indent=1)


def in_order(cases):
    return sorted(cases, key=lambda case: [int(number) for number in case.split(".")])


def with_behaviour(results, key, wanted):
    return in_order(case for case, result in results.items() if result[key] == wanted)


def output_of(*command):
    return subprocess.check_output(command).decode("utf-8").strip()


def revision():
    """The commit that was built, and whether what was built differed from it."""
    changed = output_of("git", "status", "--porcelain", "--", "src", "examples", "Cargo.toml", "Cargo.lock")
    return output_of("git", "rev-parse", "--short", "HEAD") + (" and changes" if changed else "")


def announced(out):
    """The cases that the suite has announced to run."""
    with open(os.path.join(out, "wstest.log")) as file:
        return len(set(re.findall(r"Running test case ID (\S+) ", file.read())))


def summary(out, shards, suite):
    with open(os.path.join(out, "index.json")) as file:
        results = json.load(file)[AGENT]
    wanted = json.load(open(os.path.join(out, "spec.json")))["cases"]
    expected = ALL_CASES if wanted == ["*"] else announced(out)
    print("Autobahn|Testsuite against examples/echo, %s shard%s" % (shards, "" if shards == "1" else "s"))
    print("command   tests/autobahn/run.sh  (echo 127.0.0.1:PORT %s)" % shards)
    print("date      %s" % time.strftime("%Y-%m-%d", time.gmtime()))
    print("revision  %s" % revision())
    print("suite     %s" % suite)
    print("compiler  %s" % output_of("rustc", "--version"))
    print("kernel    Linux %s" % platform.release())
    print("cases     %d of %d" % (len(results), expected))
    for key, name in (("behavior", "verdicts"), ("behaviorClose", "closes")):
        counts = Counter(result[key] for result in results.values())
        print("%-9s %s" % (name, ", ".join("%d %s" % (n, verdict) for verdict, n in counts.most_common())))
        for verdict in sorted(set(counts) - {"OK"}):
            cases = with_behaviour(results, key, verdict)
            note = " (closes)" if key == "behaviorClose" else ""
            # Of the verdict on closes, INFORMATIONAL says no more than that any close is right.
            print("  %s%s: %s" % (verdict, note, " ".join(cases)))
    bad = sum(r["behavior"] not in GOOD or r["behaviorClose"] not in GOOD_CLOSE for r in results.values())
    missing = expected - len(results)
    print("%d passed, %d failed, %d without a result" % (len(results) - bad, bad, missing))
    sys.exit(1 if bad or missing else 0)


if __name__ == "__main__":
    {"spec": spec, "summary": summary}[sys.argv[1]](*sys.argv[2:])
