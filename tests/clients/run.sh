#!/usr/bin/env bash
# Drives the server with real clients, with one shard and with two: node's ws, Python's websockets, curl, Chromium with
# the playground and the demos in two tabs each, and tokio-tungstenite (tests/tungstenite.rs). Then the same over TLS, with
# openssl's and the client library besides; and the guide to a safe server (docs/OPERATIONS.md), step by step.
#
#   tests/clients/run.sh [SCREENSHOTS]
#
# Screenshots of the pages go to that directory (default: target/screenshots). What is missing is installed: Debian
# packages if this is run by root, else it says which; ws and playwright-core by npm, websockets by pip into target/.
#
#   PARTS     what of it is run (default: plain tls)
#   PROFILE   cargo's profile of the server (default: release)
#   CHROMIUM  the browser (default: chromium of PATH)
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
cd "$repo"
source tests/clients/tls.sh
source tests/clients/guide.sh
parts=${PARTS:-plain tls}
screenshots=${1:-$target/screenshots}
profile=${PROFILE:-release}
venv=$target/clients-venv
logs=$target/clients-logs
passed=0 failed=0

# need COMMAND PACKAGE...: installs the packages if the command is not there.
need() {
    local command=$1
    shift
    ! command -v "$command" >/dev/null || return 0
    if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "$command is missing: apt-get install $*" >&2
        exit 1
    fi
    [[ -n ${updated:-} ]] || apt-get update -qq
    updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "$@" >/dev/null
}

install() {
    need curl curl ca-certificates
    need openssl openssl
    need node nodejs
    need npm npm
    need python3 python3 python3-venv
    python3 -c "import ensurepip" 2>/dev/null || need ensurepip python3-venv # Debian packages it apart
    [[ -n ${CHROMIUM:-} ]] || need chromium chromium
    export CHROMIUM=${CHROMIUM:-$(command -v chromium)}
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix tests/clients
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix tests/browser
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
}

# check NAME COMMAND...: runs a client, and counts it.
check() {
    local name="$1, $shards" begin=$SECONDS
    shift
    if "$@" </dev/null; then
        passed=$((passed + 1))
        echo "PASS  $name ($((SECONDS - begin)) s)"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
    fi
}

# serve SHARDS OPTION...: the server, new for each client: what one leaves behind cannot help the next.
serve() {
    local shards=$1
    shift
    stop_children
    port=$(free_port)
    start "$port" "$logs/server.log" "$server" --listen "127.0.0.1:$port" --admin-listen off --shards "$shards" "$@"
}

# serve_admin SHARDS: the same with an admin listener. Who does not read is soon behind, and stays; clients say where they come from.
serve_admin() {
    stop_children
    port=$(free_port) admin=$(free_port)
    start "$port" "$logs/server.log" "$server" --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$admin" --shards "$1" \
        --send-buffer 16KiB --backlog 1MiB --backlog-policy drop-oldest --trusted-proxies 127.0.0.1
}

check_http() {
    local health page
    health=$(curl --silent --show-error --fail "http://127.0.0.1:$port/health")
    [[ $health == '{"status":"ok","connections":'* ]] || { echo "health: $health"; return 1; }
    page=$(curl --silent --show-error --fail --dump-header "$logs/head" "http://127.0.0.1:$port/")
    [[ $page == '<!doctype html>'* || $page == '<!DOCTYPE html>'* ]] || { echo "page: ${page:0:100}"; return 1; }
    grep -qi '^content-security-policy:' "$logs/head" || { echo "the page has no policy"; return 1; }
    for path in /no-such /raw/topic /demo/ /demo/client/index.js /demo/client/; do
        curl --silent --output /dev/null --write-out "$path %{http_code}\n" "http://127.0.0.1:$port$path"
    done | diff - <(printf '%s\n' '/no-such 404' '/raw/topic 426' '/demo/ 200' \
        '/demo/client/index.js 200' '/demo/client/ 404')
}

run_all() {
    shards="$1 shard(s)"
    serve "$1"
    check curl check_http
    check "node ws" node tests/clients/ws.mjs "ws://127.0.0.1:$port" "${children[-1]}"
    serve "$1"
    check "Python websockets" "$venv/bin/python" tests/clients/websockets_test.py "ws://127.0.0.1:$port"
    serve "$1"
    check "Chromium, two tabs" node tests/browser/playground.mjs "http://127.0.0.1:$port/" "$screenshots"
    export UPROAR_BACKEND_KEY=only-for-the-demos
    serve "$1" --config examples/web/demos.toml
    check "Chromium, demos" node tests/browser/demos.mjs "http://127.0.0.1:$port/" "$screenshots"
    unset UPROAR_BACKEND_KEY
    export UPROAR_ADMIN_KEY=only-for-the-test
    serve_admin "$1"
    check "Chromium, admin page" env "UPROAR_URL=ws://127.0.0.1:$port" node tests/browser/admin.mjs "http://127.0.0.1:$admin/" "$screenshots"
    unset UPROAR_ADMIN_KEY
    serve "$1" --max-lifetime 2s --history "events-* count=1000 age=10m bytes=1MiB"
    check "Chromium, EventSource" node tests/browser/events.mjs "http://127.0.0.1:$port/"
    stop_children
}

install
mkdir -p "$logs"
cargo build --quiet --profile "$profile" --bin uproar
server=$target/${profile/#dev/debug}/uproar
if [[ $parts == *plain* ]]; then
    run_all 1
    run_all 2
    shards="1 and 2 shards"
    check "tokio-tungstenite" cargo test --quiet --test tungstenite
fi
if [[ $parts == *tls* ]]; then
    shards="as many shards as cores"
    check "the guide to a safe server" check_guide
    stop_children
    make_certificates
    run_tls 1 1.2
    run_tls 2 1.3
    serve_tls 2
    check "Python websockets" env SSL_CERT_FILE="$certs/ca.crt" "$venv/bin/python" tests/clients/websockets_test.py \
        "wss://localhost:$secure"
    stop_children
fi
echo "clients: $passed passed, $failed failed"
((failed == 0))
