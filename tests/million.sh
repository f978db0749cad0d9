#!/usr/bin/env bash
# benches/million.sh with two thousand connections: that it works from end to end, that it puts back what it sets, and that
# it does so when it is stopped midway, and leaves nothing running.
#
#   PROFILE  cargo's profile (default: dev)
#
# It needs root. For its own use it lowers net.core.somaxconn, so that there is something to be raised.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"
export PROFILE=${PROFILE:-dev}

if [[ $(id -u) != 0 ]]; then
    echo "SKIPPED: sysctls and /proc/slabinfo are for root"
    exit 0
fi

somaxconn=/proc/sys/net/core/somaxconn
before=$(<"$somaxconn")
work=$(mktemp -d)
tidy_up() {
    local status=$?
    stop_children
    echo "$before" >"$somaxconn"
    rm -rf "$work"
    exit "$status"
}
trap tidy_up EXIT
echo 512 >"$somaxconn"

fail() {
    echo "FAIL: $*" >&2
    cat "$work"/*.log >&2
    exit 1
}

sysctls() { tail -n +1 /proc/sys/fs/file-max /proc/sys/net/ipv4/tcp_mem "$somaxconn" /proc/sys/net/netfilter/nf_conntrack_max; }

# begin NAME N: starts it; its number is $!.
begin() {
    RECORD=$work/$1 PORT=$port benches/million.sh "$2" >"$work/$1.log" 2>&1 &
    children+=($!)
}

# as_before NAME: what was set is put back, and the server is gone.
as_before() {
    [[ $(sysctls 2>/dev/null) == "$snapshot" ]] || fail "$1: not all sysctls are as before"
    grep -q "sysctl net.core.somaxconn: 512 again" "$work/$1.log" || fail "$1: nothing was put back"
    ! listening "$port" || fail "$1: the server is still there"
}

snapshot=$(sysctls 2>/dev/null || true)
port=$(free_port)

begin whole 2000
wait $! || fail "it ended with $?"
as_before whole
for file in million.json million.html million.md memory.svg settings.txt; do
    [[ -s $work/whole/$file ]] || fail "no $file"
done
grep -q '^| connections | 2,000 |$' "$work/whole/million.md" || fail "not all are in the table"
grep -q '^| pings answered | 0 |$' "$work/whole/million.md" && fail "nobody was pinged"
grep -q '<polyline' "$work/whole/memory.svg" || fail "the plot has no line"

begin stopped 20000
stopped=$!
until listening "$port"; do kill -0 "$stopped" 2>/dev/null || fail "it ended before it was stopped"; sleep 0.05; done
[[ $(<"$somaxconn") == 1024 ]] || fail "nothing was raised"
sleep 3
kill -TERM "$stopped"
status=0
wait "$stopped" || status=$?
((status == 143)) || fail "it ended with $status, not as by SIGTERM"
as_before stopped

RECORD=$work/many benches/million.sh 99999999 >"$work/many.log" 2>&1 && fail "it has memory for everything"
grep -q "there is memory for [0-9]* connections only" "$work/many.log" || fail "it does not say what fits"

echo "million.sh: 3 passed"
