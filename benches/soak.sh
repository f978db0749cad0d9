#!/usr/bin/env bash
# Soaks a server: everything that clients do, good and bad, for so many minutes, and looks whether it stays flat.
#
#   bash benches/soak.sh [MINUTES]            # 30
#
# The server has a configuration of a production kind, with its times shortened (tests/hostile/soak.rs). At once there are
# connections that come and go (WebSockets of both dialects, event streams, TLS, posts), subscriptions, presence, histories
# and clients who go on where they were, readers who stop, and a little of each attack of tests/hostile; and healthy clients
# who must get everything. Every ten seconds memory, descriptors, connections, topics and counters are looked at. It ends
# with 0 if memory is flat and nobody healthy has missed anything.
#
#   RECORD   where samples.csv, samples.svg and verdict.txt go (default: benches/record/DATE/soak)
#   PROFILE  cargo's profile (default: release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export SOAK_MINUTES=${1:-30}
export SOAK_RECORD=${RECORD:-$PWD/benches/record/$(date +%F)/soak}
mkdir -p "$SOAK_RECORD"
SOAK_RECORD=$(cd "$SOAK_RECORD" && pwd)
exec cargo test --profile "${PROFILE:-release}" --test hostile soak::soak -- --ignored --exact --nocapture
