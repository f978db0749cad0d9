#!/usr/bin/env bash
# Everything that must hold before a change is merged:
#
#   bash tests/run.sh
#
# It needs Rust with rustfmt and clippy, a C compiler, and Linux 6.1 or later with io_uring allowed; what the clients, the
# proxies and the container need is installed by their scripts. The fuzzers' corpora are replayed by `cargo test`. Not in
# it, for they take longer: tests/autobahn/run.sh, the benchmarks, and fuzzing itself (benches/README.md,
# fuzz/Cargo.toml).
#
#   PROFILE  cargo's profile of the server that the clients meet (default: dev, which the other tests have built)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PROFILE=${PROFILE:-dev} CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
results=() failed=0

# step NAME COMMAND...: runs a check; the others are run whatever comes of it.
step() {
    local name=$1 begin=$SECONDS
    shift
    echo
    echo "==> $name: $*"
    if "$@" </dev/null; then
        results+=("PASS  $name ($((SECONDS - begin)) s)")
    else
        results+=("FAIL  $name ($((SECONDS - begin)) s)")
        failed=$((failed + 1))
    fi
}

# cargo test, and one line that adds up what it says of each of its binaries.
tests() {
    local log status
    log=$(mktemp)
    cargo test --no-fail-fast 2>&1 | tee "$log"
    status=$?
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
         END { printf "cargo test: %d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
    rm -f "$log"
    return "$status"
}

# Not the advisories: their database is not where a test should depend on. `cargo deny check advisories` asks it.
deny() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny check bans licenses sources
    else
        echo "SKIPPED: cargo-deny is not installed (cargo install --locked cargo-deny)"
    fi
}

step "format" cargo fmt --check
step "lints" cargo clippy --quiet --all-targets -- -D warnings
step "tests" tests
step "examples" cargo build --quiet --examples
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps
step "dependencies" deny
step "client" tests/client.sh
step "clients" tests/clients/run.sh
step "proxies" tests/proxies/run.sh
step "unit and container" tests/tuning/run.sh
step "packaging" tests/packaging/run.sh
step "many connections" tests/million.sh

echo
printf '%s\n' "${results[@]}"
echo "checks: $((${#results[@]} - failed)) passed, $failed failed"
((failed == 0))
