#!/usr/bin/env bash
# A million connections in one server, on one machine that has the clients too: what do they cost, and what does a message
# to all of them do to others?
#
#   benches/million.sh [N]        N connections, a million unless told
#
# It starts the server, opens N subscribed connections over loopback, publishes to all of them while pings go on and a
# second topic is published to at a steady rate, checks that everybody got everything once, closes all and looks at what
# memory comes back. It needs root, for sysctls and /proc/slabinfo; 12 KiB of memory for each connection, both ends; and
# some minutes for a million. The report goes to benches/record/DATE/million/.
#
# A ring's table of connections is bounded by RLIMIT_NOFILE, so the server has as many shards and the load as many threads
# as they need for N: where `ulimit -n 1048576` is allowed, call that first, and a shard a core will do.
#
#   RECORD   where the report goes instead
#   PROFILE  cargo's profile (default: release)
#   SHARDS   shards of the server, if not as many as are needed
#   PORT     where the server listens, if not on a free port
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/lib.sh

connections=${1:-1000000}
record=${RECORD:-benches/record/$(date +%F)/million}
profile=${PROFILE:-release}

# Of a shard's table, those that are kept for telling newcomers that it is full.
readonly spare_slots=64
# Memory of the machine for each connection: 8.4 KiB was measured, of both ends and idle. What is on its way comes on top.
readonly bytes_each=12288
# Left for everything else.
readonly reserve=$((1 << 30))

die() {
    echo "million.sh: $*" >&2
    exit 1
}

# --- what the kernel needs, and putting it back --------------------------------------------------------------------------

names=() values=()

proc() { echo "/proc/sys/${1//./\/}"; }

# raise NAME VALUE...: sets a sysctl of one or more numbers, those that are lower only; remembers what it was.
raise() {
    local name=$1 before wanted=() i
    shift
    before=$(tr '\t' ' ' <"$(proc "$name")")
    local now=($before)
    for i in "${!now[@]}"; do wanted+=("$((now[i] < $1 ? $1 : now[i]))") && shift; done
    [[ ${wanted[*]} == "$before" ]] && return
    names+=("$name") values+=("$before")
    echo "sysctl $name: $before, for this run ${wanted[*]}" | tee -a "$record/settings.txt"
    echo "${wanted[*]}" >"$(proc "$name")"
}

put_back() {
    local i failed=0
    for i in "${!names[@]}"; do
        echo "${values[i]}" >"$(proc "${names[i]}")" || failed=1
        echo "sysctl ${names[i]}: $(tr '\t' ' ' <"$(proc "${names[i]}")") again"
    done
    names=() values=()
    return "$failed"
}

# Whatever happens: nothing is left running, and nothing is left set.
finish() {
    local status=$?
    trap '' INT TERM HUP
    stop_children
    put_back || status=1
    exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP

# run COMMAND...: in the background and waited for, so that a signal is acted upon at once.
run() {
    local status=0
    "$@" &
    children+=($!)
    wait $! || status=$?
    unset 'children[-1]'
    return "$status"
}

# Whether the firewall keeps track of connections over loopback.
is_tracked() {
    local count=/proc/sys/net/netfilter/nf_conntrack_count before
    [[ -r $count ]] || return 1
    before=$(<"$count")
    (exec 3<>"/dev/tcp/127.0.0.1/$1" && (($(<"$count") > before)))
}

# --- can it be done at all -----------------------------------------------------------------------------------------------

[[ $connections =~ ^[1-9][0-9]{0,7}$ ]] || die "$connections: expected a number of connections"
[[ $(id -u) == 0 ]] || die "needs root, to set sysctls and to read /proc/slabinfo"
available=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) * 1024))
fit=$(((available - reserve) / bytes_each))
((connections <= fit)) || die "there is memory for $fit connections only: benches/million.sh $fit"

mkdir -p "$record"
: >"$record/settings.txt"
ulimit -n "$(ulimit -Hn)"
slots=$(ulimit -n)
cores=$(nproc)

# The kernel spreads connections over the shards by a hash of their addresses: evenly, but not more evenly than chance. With
# M to a shard on average, one has more than M + 6√M once in a billion. All of them have to fit the shard that gets most.
shards=${SHARDS:-$(awk -v n="$connections" -v room="$((slots - spare_slots))" -v least="$cores" 'BEGIN {
    for (s = least; n / s + 6 * sqrt(n / s) > room; s++);
    print s
}')}
# The load's threads share them exactly.
threads=$(((connections + slots - 1) / slots))
((threads >= 2 || connections < 2)) || threads=2

# Two files for each connection. A page of TCP's memory for whoever has anything queued, which all may at once. Handshakes:
# 64 for each thread of load, over all shards. What was tried and made no difference to a million: netdev_max_backlog,
# tcp_max_syn_backlog, tcp_max_orphans, vm.max_map_count; and ports are not short, since the load has an address in
# 127.0.0.0/8 for every 12,000 connections.
raise fs.file-max $((2 * connections + 100000))
raise net.ipv4.tcp_mem $((connections * 3 / 4)) "$connections" $((connections * 3 / 2))
raise net.core.somaxconn 1024

# --- the run -------------------------------------------------------------------------------------------------------------

options=(--profile "$profile")
binaries=$target/$([[ $profile == dev ]] && echo debug || echo "$profile")
run cargo build --quiet "${options[@]}" --bin uproar --example million-record

# Long enough for a million to be published to; each is pinged once at least.
hold=$((4 + connections / 12000))
port=${PORT:-$(free_port)}
server=("$binaries/uproar" --listen "127.0.0.1:$port" --admin-listen off --log warn --shards "$shards"
    --ping-interval "${hold}s" --ping-timeout "$(((hold + 1) / 2))s")
load=("$binaries/uproar" bench idle --url "ws://127.0.0.1:$port/raw/{topic}" --connections "$connections"
    --threads "$threads" --concurrency 64 --timeout 60s --hold "${hold}s" --publishes 2
    --bystanders 10 --bystander-rate 1000 --json "$record/million.json" --html "$record/million.html")
{
    echo "RLIMIT_NOFILE: $slots, so $shards shards and $threads threads of load, on $cores cores"
    echo "server: uproar ${server[*]:1}"
    echo "load: uproar ${load[*]:1}"
} >>"$record/settings.txt"

start "$port" "$record/server.log" "${server[@]}"
if is_tracked "$port"; then raise net.netfilter.nf_conntrack_max $((connections * 5 / 4)); fi
faults=0
run timeout "$((120 + connections / 1500))" "${load[@]}" --server-pid "${children[-1]}" || faults=$?
[[ -s $record/server.log ]] || rm "$record/server.log"
((faults <= 1)) || die "the run came to no result ($faults)"
run "$binaries/examples/million-record" "$record"
echo "written to $record"
exit "$faults"
