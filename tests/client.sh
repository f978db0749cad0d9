#!/usr/bin/env bash
# The tests of client/: its own, against a model of the server and in Chromium, and the same against the server.
#
#   tests/client.sh
#
# Last among the latter is a storm: clients publish and listen while their connections are cut, delayed and left half
# open, and the server is killed and begun anew; what was delivered twice, or is missing without being told, fails it.
#
#   PROFILE        cargo's profile of the server (default: release)
#   CLIENTS        how many there are in the storm (default: 300); each takes five descriptors
#   STORM_SECONDS  how long it lasts (default: 15)
#   CHROMIUM       the browser (default: where Debian has it; without one, that test is skipped)
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$repo"
profile=${PROFILE:-release}
log=$(mktemp)

if ! need node nodejs || ! node --experimental-websocket -e '0' 2>/dev/null; then
    echo "Node.js 20.10 or newer is missing: apt-get install nodejs" >&2
    exit 1
fi
cargo build --quiet --profile "$profile" --bin uproar
export UPROAR=$target/${profile/#dev/debug}/uproar

# SECONDS is bash's own: node is given it under that name.
status=0
(cd client && env SECONDS="${STORM_SECONDS:-15}" node --experimental-websocket --test test/*.test.js) >"$log" 2>&1 || status=$?
if ((status)); then
    grep -v '^ *\(# Subtest\|ok \|---$\|\.\.\.$\|duration_ms\|type:\)' "$log" || true
fi
# What the storms have counted, and the sum of all.
grep -E '# (SEED=|\{"published")|^# (tests|pass|fail|skipped) ' "$log" || true
rm -f "$log"
exit "$status"
