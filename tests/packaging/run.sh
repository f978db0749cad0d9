#!/usr/bin/env bash
# Makes the Debian package, looks at it, installs it in a clean Debian, runs the server there, and takes it away again; and runs
# the container's last stage.
#
#   tests/packaging/run.sh
#
# It needs cargo-deb, on the path or in tools/bin below cargo's target directory (cargo install --locked --root target/tools
# cargo-deb); the clean Debian needs root, mmdebstrap and a mirror; the container podman. What is missing is SKIPPED.
#
#   PROFILE  cargo's profile of the server (default: dev)
#   UPROAR   the server, if it is built already
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
cd "$repo"
profile=${PROFILE:-dev}
work=$target/packaging
root=$work/root

# What has to be in the package, with its rights, and nothing of this machine.
contents() {
    local list=$work/contents path
    dpkg-deb --contents "$deb" | awk '{print $1, $6}' >"$list"
    for path in "-rwxr-xr-x ./usr/bin/uproar" \
        "-rw-r----- ./etc/uproar/uproar.toml" \
        "-rw-r--r-- ./usr/lib/systemd/system/uproar.service" \
        "-rw-r--r-- ./usr/lib/systemd/system/uproar.socket" \
        "-rw-r--r-- ./usr/lib/sysusers.d/uproar.conf" \
        "-rw-r--r-- ./usr/share/man/man1/uproar.1.gz" \
        "-rw-r--r-- ./usr/share/man/man1/uproar-bench-fanout.1.gz" \
        "-rw-r--r-- ./usr/share/man/man5/uproar.toml.5.gz" \
        "-rw-r--r-- ./usr/share/bash-completion/completions/uproar" \
        "-rw-r--r-- ./usr/share/zsh/vendor-completions/_uproar" \
        "-rw-r--r-- ./usr/share/fish/vendor_completions.d/uproar.fish" \
        "-rw-r--r-- ./usr/share/doc/uproar/tuning/sysctl.d/uproar-100k.conf" \
        "-rw-r--r-- ./usr/share/doc/uproar/tuning/prometheus/alerts.yml" \
        "-rw-r--r-- ./usr/share/doc/uproar/tuning/grafana/uproar.json" \
        "-rw-r--r-- ./usr/share/doc/uproar/tuning/nginx/uproar.conf"; do
        grep -qxF -- "$path" "$list" || { echo "not in the package: $path"; return 1; }
    done
    dpkg-deb --contents "$deb" | awk '$2 != "0/0" && $2 != "root/root" {print; found = 1} END {exit found}' || return 1
    ! grep -E ' \./etc/(sysctl|security)' "$list" || { echo "a profile is activated"; return 1; }
    [[ $(dpkg-deb --info "$deb" conffiles) == /etc/uproar/uproar.toml ]] || return 1
    dpkg-deb --field "$deb" Depends | grep -q 'libc6 .*sysusers'
}

# What Debian's own reviewer calls an error.
reviewed() { lintian --allow-root --fail-on error --tag-display-limit 0 "$deb"; }

# Debian's essential packages, which are fetched the first time only.
clean_root() {
    local archive=$work/bookworm.tar
    if [[ ! -e $archive ]]; then
        mmdebstrap --quiet --variant=essential --include=systemd-standalone-sysusers,init-system-helpers \
            bookworm "$work/new.tar" || return 1
        mv "$work/new.tar" "$archive"
    fi
    rm -rf "$root" && mkdir -p "$root" && tar --extract --file "$archive" --directory "$root" --exclude './dev/*'
}

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }

installed() {
    cp "$deb" "$root/uproar.deb"
    inside dpkg --install /uproar.deb || return 1
    [[ $(inside stat -c '%U:%G %a' /etc/uproar/uproar.toml) == "root:uproar 640" ]] || return 1
    [[ $(inside id -u uproar) -gt 0 ]] || return 1
    [[ -L $root/etc/systemd/system/multi-user.target.wants/uproar.service ]] || { echo "not enabled"; return 1; }
    [[ ! -e $root/etc/systemd/system/sockets.target.wants/uproar.socket ]] || { echo "the socket is"; return 1; }
    ! inside dpkg --audit | grep .
}

# How tight the unit of the package is: 100 is nothing at all. (Whether it is sound, tests/tuning/run.sh looks.)
unit() { systemd-analyze security --root="$root" --offline=true --threshold=20 --no-pager uproar.service | tail -n 1; }

# As the unit starts it, by the user that the package has made, with the package's configuration; the commands ask where the
# unit says.
served() {
    local port admin
    port=$(free_port)
    admin=$(sed -n 's/^Environment=\(UPROAR_ADMIN=\)/\1/p' "$root/usr/lib/systemd/system/uproar.service")
    mkdir -p "$root/proc"
    inside install -d -o uproar -g uproar -m 750 /run/uproar || return 1
    start "$port" "$work/server.log" unshare --mount --propagation slave bash -c '
        mount -t proc proc "$0/proc" && exec chroot --userspec=uproar:uproar "$0" "$@"' "$root" \
        /usr/bin/uproar --config /etc/uproar/uproar.toml --listen "127.0.0.1:$port" --shards 2 || return 1
    inside "$admin" uproar health | grep -q '"status":"ok"' || return 1
    inside "$admin" uproar health --ready || return 1
    inside "$admin" uproar publish prices 1 || return 1
    inside "$admin" uproar reload || return 1
    inside "$admin" uproar drain --wait 10s || return 1
    stop_children
}

removed() {
    inside dpkg --purge uproar || return 1
    [[ ! -e $root/etc/uproar && ! -e $root/usr/bin/uproar && ! -e $root/usr/share/doc/uproar ]] || return 1
    inside id uproar >/dev/null
}

# The last stage of the Dockerfile, with the binary that is here, on a base of this machine's libraries: no registry is asked.
image() {
    local dir=$work/image
    rm -rf "$dir" && mkdir -p "$dir/base/tmp"
    cp --parents $(ldd "$server" | grep -o '/[^ ]*') "$dir/base" && cp "$server" "$dir/uproar" || return 1
    sed -e '1,/^FROM docker.io.*AS build/d' -e '/^WORKDIR \/src/d' -e '/^COPY \. \./d' -e '/^RUN cargo/d' \
        -e 's#^FROM gcr.io.*#FROM scratch\nCOPY base /#' -e 's#COPY --from=build /uproar#COPY uproar#' \
        tuning/docker/Dockerfile >"$dir/Dockerfile"
    podman build --quiet --format docker --tag localhost/uproar-test "$dir"
}

# With the options of compose.yaml: it refuses to be open, serves with its secrets, and is found healthy.
contained() {
    local secret status=0 name=uproar-test-$$ options
    secret=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    options=(--runtime runc --cap-drop all --read-only --security-opt no-new-privileges
        --security-opt "seccomp=tuning/seccomp/uproar.json" --network none
        --ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=4096:4096)
    podman run --rm "${options[@]}" localhost/uproar-test >"$work/open.log" 2>&1 || status=$?
    [[ $status == 3 ]] && grep -q "can be reached from other machines" "$work/open.log" ||
        { echo "status $status"; cat "$work/open.log"; return 1; }
    podman run --rm --detach --name "$name" "${options[@]}" --env "UPROAR_JWT_SECRET=$secret" localhost/uproar-test >/dev/null || return 1
    sleep 1
    status=0
    podman healthcheck run "$name" && podman exec "$name" /usr/bin/uproar health || status=1
    podman stop --time 20 "$name" >/dev/null || status=1
    return "$status"
}

mkdir -p "$work"
server=${UPROAR:-}
if [[ -z $server ]]; then
    cargo build --quiet --profile "$profile" --bin uproar
    server=$target/${profile/#dev/debug}/uproar
fi
if ! PATH=$target/tools/bin:$PATH cargo deb --version >/dev/null 2>&1; then
    skip "cargo-deb is not installed (cargo install --locked --root $target/tools cargo-deb)"
elif ! need dpkg-deb dpkg || ! need dpkg-shlibdeps dpkg-dev; then
    skip "dpkg and dpkg-dev are not installed"
else
    deb=$(UPROAR=$server bash tuning/debian/build.sh)
    check "package: contents" contents
    if need lintian lintian; then check "package: lintian" reviewed; else skip "lintian is not installed"; fi
    if [[ $EUID != 0 ]] || ! need mmdebstrap mmdebstrap; then
        skip "root and mmdebstrap are needed for a clean Debian"
    elif ! clean_root >"$work/root.log" 2>&1; then
        skip "no clean Debian can be made: $(tail -n 1 "$work/root.log")"
    else
        check "package: installed in a clean Debian" installed
        if need systemd-analyze systemd; then check "package: unit" unit; fi
        check "package: the server serves" served
        check "package: purged" removed
    fi
fi
if ! command -v podman >/dev/null || ! command -v runc >/dev/null; then
    skip "podman and runc are not installed"
elif ! image >"$work/image.log" 2>&1; then
    skip "no image can be made here: $(tail -n 1 "$work/image.log")"
else
    check "container" contained
    podman image rm --force localhost/uproar-test >/dev/null
fi
printf '%s\n' "${results[@]}"
((failed == 0))
