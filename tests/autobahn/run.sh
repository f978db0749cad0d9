#!/usr/bin/env bash
# Runs every case of the Autobahn|Testsuite against examples/echo, with one shard and with two.
#
#   tests/autobahn/run.sh
#
# The summaries go to summary-1-shard.txt and summary-2-shards.txt beside this file, the full reports (HTML, one page a
# case) below target/autobahn/. A run takes some ten minutes. The suite needs a CPython 2.7 with headers and a compiler.
#
#   AUTOBAHN_ENV  where the suite is, or is to be, installed (default: target/autobahn/env)
#   PYTHON27      the interpreter to install it with (default: python2.7 of PATH, or one of pyenv's)
#   CASES         the cases to run, comma-separated, as "1.*,2.*" (default: all); of some only, no summary is written
#   SHARDS        the numbers of shards to run them with (default: "1 2")
#
# Exit status: 0 all passed, 1 a case failed or was closed uncleanly, 77 there is no Python 2.7.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
here=$repo/tests/autobahn
env=${AUTOBAHN_ENV:-$target/autobahn/env}
suite=autobahntestsuite==25.10.1

python27() {
    local candidate
    for candidate in "${PYTHON27:-}" "$(command -v python2.7 || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
        if [[ -x $candidate ]] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "SKIPPED: the Autobahn|Testsuite needs Python 2.7, and none was found: set PYTHON27 or AUTOBAHN_ENV" >&2
    exit 77
}

# The last virtualenv that makes environments of Python 2.7, with the last pip, setuptools and wheel that run on it.
install_suite() {
    local python
    python=$(python27)
    python3 -m venv "$target/autobahn/virtualenv"
    "$target/autobahn/virtualenv/bin/pip" install --quiet virtualenv==20.15.1
    "$target/autobahn/virtualenv/bin/virtualenv" --quiet --no-periodic-update --python "$python" \
        --pip 20.3.4 --setuptools 44.1.1 --wheel 0.37.1 "$env"
    "$env/bin/pip" install --quiet --no-python-version-warning "$suite"
}

# run SHARDS NAME: one run of the suite.
run() {
    local shards=$1 name=$2 port out=$target/autobahn/$2 summary=$here/summary-$2.txt
    port=$(free_port)
    rm -rf "$out" && mkdir -p "$out"
    [[ -z ${CASES:-} ]] || summary=$out/summary.txt
    start "$port" "$out/server.log" "$target/release/examples/echo" "127.0.0.1:$port" "$shards"
    "$env/bin/python" "$here/report.py" spec "$out" "$port" "${CASES:-*}"
    echo "running the suite against $name: $out/wstest.log"
    (cd "$out" && "$env/bin/python" -W ignore -u "$env/bin/wstest" -m fuzzingclient -s spec.json) >"$out/wstest.log" 2>&1 </dev/null &
    children+=($!)
    wait $! || true # it exits with 0 or not whatever the outcome was: the report says
    stop_children
    "$env/bin/python" "$here/report.py" summary "$out" "$shards" "$suite" | tee "$summary"
    return "${PIPESTATUS[0]}"
}

[[ -x $env/bin/wstest ]] || install_suite
cargo build --manifest-path "$repo/Cargo.toml" --release --quiet --example echo
failed=0
for shards in ${SHARDS:-1 2}; do
    run "$shards" "$shards-shard$( ((shards == 1)) || echo s)" || failed=1
done
exit "$failed"
