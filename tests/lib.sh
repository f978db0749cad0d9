# What the scripts below tests/ share: a place to build, packages, free ports, and processes that are stopped whatever
# happens.
# To be sourced by bash, with `set -euo pipefail` in force.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
children=()

stop_children() {
    local child
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    for child in "${children[@]}"; do wait "$child" 2>/dev/null || true; done
    children=()
}

# Forbids Debian packages to start what they install, while it is there and ours.
policy=/usr/sbin/policy-rc.d
our_policy=

allow_starts() {
    [[ -z $our_policy ]] || rm -f "$policy"
    our_policy=
}

trap 'stop_children; allow_starts' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# packages NAME...: installs Debian packages, without starting anything; fails if this is not root, or not Debian.
packages() {
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    if [[ ! -e $policy ]]; then
        our_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "$@"; } >/dev/null || true
    allow_starts
}

# need COMMAND PACKAGE: the command is there, installed if need be.
need() { command -v "$1" >/dev/null || { packages "$2" && command -v "$1" >/dev/null; }; }

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port that nothing listens on, below the range the kernel takes for outgoing connections.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)) && listening "$port"; do :; done
    echo "$port"
}

# start PORT LOG COMMAND...: starts a server in the background and returns once it accepts connections.
start() {
    local port=$1 log=$2 deadline=$((SECONDS + 10))
    shift 2
    "$@" >"$log" 2>&1 &
    children+=($!)
    until listening "$port"; do
        if ! kill -0 "${children[-1]}" 2>/dev/null || ((SECONDS > deadline)); then
            echo "does not listen on port $port: $*" >&2
            cat "$log" >&2
            return 1
        fi
        sleep 0.05
    done
}

# What was tried, a line each, and how much of it failed.
results=() failed=0

# check NAME COMMAND...: runs the command, and notes how it went.
check() {
    local name=$1
    shift
    if "$@"; then
        results+=("PASS  $name")
    else
        results+=("FAIL  $name")
        failed=$((failed + 1))
    fi
}

# skip WHAT: notes what is missing.
skip() { results+=("SKIPPED: $*"); }
