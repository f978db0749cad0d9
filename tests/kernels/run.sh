#!/usr/bin/env bash
# Runs the server and its tests on other kernels than this machine's: Debian's, in QEMU.
#
#   tests/kernels/run.sh
#
# It takes kernels from Debian's archive, with lists of packages of its own: nothing is installed but the tools. Each is booted
# with a file system in memory (busybox, the server, the tests) and ends by itself. Without virtualisation of its own the machine
# is emulated: ten minutes a kernel. The outcome of each test goes to target/kernels/SERIES.log.
#
#   KERNELS  the series to run, the newest of each (default: "6.1 6.12 6.18")
#   TESTS    which tests (default: those that depend on the kernel; the library's are those of its ring)
#   FILTER   only tests with this in their names
#   ACCEL    QEMU's accelerator (default: tcg,thread=multi; kvm where it works)
#   SECONDS_PER_TEST  after which a test is given up (default: 300)
#
# Exit status: 0 all passed, 1 one has failed, 77 a tool or all kernels are missing.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
cd "$repo"
work=$target/kernels
tests=${TESTS:-lib ring websocket http sse broadcast lifecycle tls kernel_tls}
limit=${SECONDS_PER_TEST:-300}
results=() failed=0
# From here on, kernel TLS is to be there.
ktls_since=6.7

skip() {
    echo "SKIPPED: $*" >&2
    exit 77
}

# apt, with its own lists and nothing of this machine's.
debian() {
    local apt=$work/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/%s main\n' \
        "debian bookworm" "debian-security bookworm-security" "debian bookworm-backports" "debian trixie" \
        "debian trixie-backports" >"$apt/sources.list"
    printf '%s\n' "Dir::State::lists \"$apt/lists\";" "Dir::Cache \"$apt/cache\";" "Dir::Etc::sourcelist \"$apt/sources.list\";" \
        'Dir::Etc::sourceparts "/dev/null";' 'APT::Sandbox::User "root";' >"$apt/apt.conf"
    APT_CONFIG=$apt/apt.conf "$@"
}

# kernel SERIES: the directory of its newest kernel, fetched if need be. One package has it all.
kernel() {
    local name dir
    name=$(debian apt-cache pkgnames "linux-image-$1." | grep -- '-cloud-amd64$' | sort -V | tail -n 1)
    [[ -n $name ]] || return 1
    dir=$work/$name
    if [[ ! -d $dir/boot ]]; then
        (mkdir -p "$work/packages" && cd "$work/packages" && debian apt-get -qq download "$name") || return 1
        rm -rf "$dir" && dpkg-deb -x "$work/packages/$name"_*.deb "$dir"
    fi
    [[ -n $(ls "$dir"/boot/vmlinuz-* 2>/dev/null) ]] && echo "$dir"
}

# program FILE PLACE: puts a program there below $root, without what only a debugger reads, and the libraries that it needs.
program() {
    local library
    install -D -m 755 "$1" "$root$2"
    strip --strip-debug "$root$2"
    for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [[ -e $root$library ]] || install -D "$library" "$root$library"
    done
}

# modules KERNEL: what kernel TLS may load.
modules() {
    local release from to
    release=$(cd "$1"/boot && echo vmlinuz-*)
    release=${release#vmlinuz-}
    from=$(find "$1" -type d -path "*/modules/$release/kernel")
    to=$root/lib/modules/$release/kernel
    for part in crypto arch/x86/crypto arch/x86/lib lib net/tls; do
        [[ ! -d $from/$part ]] || { mkdir -p "$to/$part" && cp -r "$from/$part/." "$to/$part/"; }
    done
    find "$to" -name '*.xz' -exec xz -d {} +
    busybox depmod -b "$root" "$release"
}

# executables: the name and the file of each test that is asked for, built.
executables() {
    local arguments=() name
    for name in $tests; do
        [[ $name == lib ]] && arguments+=(--lib) || arguments+=(--test "$name")
    done
    cargo test --no-run --quiet --message-format=json "${arguments[@]}" |
        jq -r 'select(.profile.test and .executable) | "\(if .target.kind[0] == "lib" then "lib" else .target.name end) \(.executable)"'
}

# What is the same for all kernels: busybox, the server where its tests look for it, the tests.
base() {
    local name file
    rm -rf "$root" && mkdir -p "$root"/{bin,dev,proc,sys,tmp,etc,tests} "$root$repo"
    ln -s bin "$root/sbin"
    install -m 755 "$(command -v busybox)" "$root/bin/busybox"
    echo "127.0.0.1 localhost" >"$root/etc/hosts"
    program "$target/debug/uproar" "$target/debug/uproar"
    while read -r name file; do program "$file" "/tests/$name"; done < <(executables)
    # What they read at run time.
    cp -r --parents tests/vectors tests/keys tests/transcripts "$root$repo/" 2>/dev/null || true
    install -m 755 tests/kernels/init.sh "$root/init"
}

# boot SERIES KERNEL: runs the tests on it; what they say is in the log.
boot() {
    local log=$work/$1.log image=$work/$1.cpio expects=
    dpkg --compare-versions "$1" ge $ktls_since && expects=yes
    printf '%s\n' "cd '$repo'" "limit=$limit" "filter='${FILTER:-}'" "expects='$expects'" "tests='$tests'" >"$root/settings"
    rm -rf "$root/lib/modules"
    modules "$2"
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$image"
    timeout $((120 + $(wc -w <<<"$tests") * (limit + 10))) qemu-system-x86_64 -accel "${ACCEL:-tcg,thread=multi}" -cpu max \
        -smp 2 -m "${MEMORY:-2500}" -display none -serial stdio -monitor none -no-reboot -kernel "$2"/boot/vmlinuz-* \
        -initrd "$image" -append "console=ttyS0 quiet panic=-1 rdinit=/init" </dev/null | tr -d '\r' | tee "$log" || true
    rm -f "$image"
    while read -r outcome name; do
        results+=("$outcome  Linux $1: $name")
        [[ $outcome == PASS ]] || failed=$((failed + 1))
    done < <(sed -n 's/^OUTCOME //p' "$log")
    grep -q '^OUTCOME PASS all tests were run' "$log" || {
        results+=("FAIL  Linux $1: it did not come to an end; $log")
        failed=$((failed + 1))
    }
}

for tool in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio jq:jq xz:xz-utils strip:binutils; do
    need "${tool%%:*}" "${tool##*:}" || skip "${tool%%:*} is not installed (apt-get install ${tool##*:})"
done
[[ -z $(ldd "$(command -v busybox)" 2>/dev/null | grep '=>' || true) ]] || skip "busybox is not static (apt-get install busybox-static)"
root=$work/root
cargo build --quiet --bin uproar
base
debian apt-get -qq update || skip "Debian's archive cannot be reached"
for series in ${KERNELS:-6.1 6.12 6.18}; do
    if dir=$(kernel "$series"); then
        boot "$series" "$dir"
    else
        results+=("SKIPPED  Linux $series: Debian has none")
    fi
done
printf '%s\n' "${results[@]}"
((failed == 0))
