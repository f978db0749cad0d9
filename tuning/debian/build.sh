#!/usr/bin/env bash
# Makes the Debian package, with what the binary itself prints: manual and completions. Prints where the package is.
#
#   bash tuning/debian/build.sh
#
# It needs cargo-deb (cargo install --locked cargo-deb), also in tools/bin below cargo's target directory.
#
#   UPROAR   the binary, if it is built already
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
PATH=$target/tools/bin:$PATH
if ! cargo deb --version >/dev/null 2>&1; then
    echo "cargo-deb is not installed: cargo install --locked cargo-deb" >&2
    exit 1
fi
if [[ -z ${UPROAR:-} ]]; then
    cargo build --quiet --release --locked --bin uproar
    UPROAR=$target/release/uproar
fi

# What cargo-deb takes as target/release.
stage=$target/debian-stage/release
rm -rf "$stage"
mkdir -p "$stage/man" "$stage/completions"
strip -o "$stage/uproar" "$UPROAR"
env -i "$UPROAR" man --out "$stage/man"
gzip -9n "$stage"/man/*
gzip -9n <CHANGELOG.md >"$stage/changelog.gz"
env -i "$UPROAR" completions bash >"$stage/completions/uproar"
env -i "$UPROAR" completions zsh >"$stage/completions/_uproar"
env -i "$UPROAR" completions fish >"$stage/completions/uproar.fish"
version=$("$UPROAR" --version | cut -d ' ' -f 2)
gzip -9n >"$stage/changelog.Debian.gz" <<END
uproar ($version-1) unstable; urgency=medium

  * What has changed is in /usr/share/doc/uproar/changelog.gz.

 -- Uproar <uproar@example.org>  $(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}")
END
CARGO_TARGET_DIR=$target/debian-stage cargo deb --quiet --no-build --offline --output "$target/debian/"
