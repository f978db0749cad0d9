#!/usr/bin/env bash
# Tries the systemd unit, the seccomp profile and the rules for Prometheus of tuning/ with the real server, real clients and a real
# Prometheus.
#
#   tests/tuning/run.sh
#
# It needs systemd-analyze, promtool with prometheus and, as root, runc; what is missing is installed if this is run by root, else
# SKIPPED.
#
#   PROFILE  cargo's profile of the server (default: release)
#   UPROAR   the server, if it is built already
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
cd "$repo"
profile=${PROFILE:-release}
venv=$target/clients-venv
work=$target/tuning

# The unit is sound, and its command line is one that the server takes.
unit() {
    local arguments
    sed -E "s#^(Exec[A-Za-z]+)=uproar#\1=$server#" tuning/systemd/uproar.service >"$work/uproar.service"
    cp tuning/systemd/uproar.socket "$work/"
    systemd-analyze verify "$work/uproar.service" "$work/uproar.socket" || return 1
    arguments=$(sed -n 's#^ExecStart=uproar ##p' tuning/systemd/uproar.service)
    touch "$work/uproar.toml"
    # shellcheck disable=SC2086 # words are what is wanted
    "$server" ${arguments//\/etc\/uproar/$work} --check
}

# profile FILTER: a seccomp profile, as runc wants it: that of tuning/, that without io_uring, or that of the unit.
profile() {
    local line set names=()
    case $1 in
        profile) cat tuning/seccomp/uproar.json ;;
        no-io_uring) jq '.syscalls |= map(.names |= map(select(startswith("io_uring") | not)) | select(.names != []))' \
            tuning/seccomp/uproar.json ;;
        unit)
            while read -r line; do
                for set in ${line#\~}; do
                    if [[ $line == "~"* ]]; then
                        mapfile -t names < <(printf '%s\n' "${names[@]}" | grep -vxFf <(calls "$set"))
                    else
                        mapfile -t -O ${#names[@]} names < <(calls "$set")
                    fi
                done
            done < <(sed -n 's/^SystemCallFilter=//p' tuning/systemd/uproar.service)
            # systemd always allows what it needs itself to start the program.
            printf '%s\n' "${names[@]}" execve | sort -u | jq -R . |
                jq -s '{defaultAction: "SCMP_ACT_ERRNO", defaultErrnoRet: 38,
                        syscalls: [{names: ., action: "SCMP_ACT_ALLOW"}]}'
            ;;
    esac
}

# calls SET: the system calls of one of systemd's sets, or the call itself.
calls() {
    local call
    [[ $1 == @* ]] || { echo "$1"; return; }
    systemd-analyze syscall-filter "$1" | sed -n 's/^ \+\([@a-z0-9_-]\+\)$/\1/p' | while read -r call; do calls "$call"; done
}

# bundle FILTER ARGUMENT...: what runc runs: the server in the directories of this machine, under a filter.
bundle() {
    local filter=$1 dir=$work/bundle
    shift
    rm -rf "$dir" && mkdir -p "$dir/root"
    profile "$filter" >"$dir/seccomp.json"
    (cd "$dir" && runc spec)
    printf '%s\n' "$server" "$@" | jq -R . | jq -s . >"$dir/command.json"
    jq --slurpfile seccomp "$dir/seccomp.json" --slurpfile command "$dir/command.json" --argjson nofile "$(ulimit -Hn)" '
        .root = {path: "root", readonly: false}
        | .process += {terminal: false, args: $command[0], user: {uid: 65534, gid: 65534},
                       rlimits: [{type: "RLIMIT_NOFILE", soft: $nofile, hard: $nofile}]}
        | .process.capabilities |= map_values([])
        | .mounts |= map(select(.type != "cgroup"))
        | .mounts += [("/usr", "/lib", "/lib64", ($command[0][0] | split("/")[:-1] | join("/")))
                      | {destination: ., source: ., type: "bind", options: ["rbind", "ro"]}]
        | .linux.namespaces |= map(select(.type != "network"))
        | del(.linux.resources, .linux.maskedPaths, .linux.readonlyPaths)
        | .linux.seccomp = $seccomp[0]' "$dir/config.json" >"$dir/config"
    mv "$dir/config" "$dir/config.json"
}

contained() { runc --root "$work/runc" run --bundle "$work/bundle" "uproar-$$"; }

# A server under a filter does all that the clients ask of it.
serves() {
    local port
    port=$(free_port)
    bundle "$1" --listen "127.0.0.1:$port" --admin-listen off --shards 2
    start "$port" "$work/server.log" runc --root "$work/runc" run --bundle "$work/bundle" "uproar-$$" || return 1
    "$venv/bin/python" tests/clients/websockets_test.py "ws://127.0.0.1:$port"
    local status=$?
    stop_children
    return $status
}

# Without io_uring it ends with code 5 and says why: the filters are in force.
refuses() {
    local status=0
    bundle no-io_uring --listen 127.0.0.1:0 --admin-listen off
    contained </dev/null >"$work/refused.log" 2>&1 || status=$?
    [[ $status == 5 ]] && grep -q "seccomp" "$work/refused.log" || { echo "status $status"; cat "$work/refused.log"; return 1; }
}

# The rules are sound and fire when they should, and the example is one that Prometheus takes.
rules() {
    promtool check rules tuning/prometheus/alerts.yml && promtool test rules tuning/prometheus/alerts.test.yml &&
        promtool check config tuning/prometheus/prometheus.yml
}

# fetch URL: what it answers.
fetch() { python3 -c 'import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], timeout=5).read())' "$1"; }

# ask EXPRESSION: its value at the Prometheus of `scraped`; nothing, if it has none.
ask() {
    fetch "http://127.0.0.1:$prometheus/api/v1/query?query=$1" |
        python3 -c 'import json, sys; [print(s["value"][1]) for s in json.load(sys.stdin)["data"]["result"]]'
}

# What the server tells is named as it should be, and Prometheus reads it, in the form that it prefers.
scraped() {
    local port admin prometheus deadline=$((SECONDS + 40))
    port=$(free_port) admin=$(free_port) prometheus=$(free_port)
    start "$port" "$work/scraped.log" "$server" --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$admin" --shards 2 || return 1
    fetch "http://127.0.0.1:$admin/metrics" >"$work/metrics.txt"
    promtool check metrics <"$work/metrics.txt" || return 1
    cp tuning/prometheus/alerts.yml "$work/alerts.yml"
    sed "s/:8081/:$admin/; s/: 15s/: 1s/" tuning/prometheus/prometheus.yml >"$work/prometheus.yml"
    rm -rf "$work/tsdb"
    start "$prometheus" "$work/prometheus.log" prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
        --web.listen-address="127.0.0.1:$prometheus" || return 1
    until [[ $(ask 'up') == 1 ]] && (($(ask 'scrape_samples_scraped') > 200)); do
        ((SECONDS < deadline)) || { echo "it is not scraped: up is $(ask 'up')"; tail "$work/prometheus.log"; return 1; }
        sleep 0.5
    done
    [[ $(ask 'sum(uproar_connections)') == 0 && $(ask 'count(uproar_turn_seconds_count)') == 2 ]] || return 1
    stop_children
}

mkdir -p "$work"
server=${UPROAR:-}
if [[ -z $server ]]; then
    cargo build --quiet --profile "$profile" --bin uproar
    server=$target/${profile/#dev/debug}/uproar
fi
if ! need systemd-analyze systemd; then
    results+=("SKIPPED: systemd is not installed (apt-get install systemd)")
else
    check "systemd unit" unit
fi
if ! need promtool prometheus || ! command -v prometheus >/dev/null; then
    results+=("SKIPPED: promtool and prometheus are not installed (apt-get install prometheus)")
else
    check "prometheus: the rules" rules
    check "prometheus: the metrics" scraped
fi
python3 -c "import ensurepip" 2>/dev/null || packages python3-venv || true # Debian packages it apart
if ! need jq jq || ! need runc runc || [[ $EUID != 0 ]]; then
    results+=("SKIPPED: jq, runc and root are needed for seccomp (apt-get install jq runc)")
elif ! [[ -x $venv/bin/python ]] && ! python3 -m venv "$venv"; then
    results+=("SKIPPED: no Python environment can be made")
else
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
    if ! bundle profile --version || ! contained </dev/null >"$work/try.log" 2>&1; then
        results+=("SKIPPED: runc does not run here: $(tail -n 1 "$work/try.log")")
    else
        check "seccomp: the profile" serves profile
        check "seccomp: no io_uring, no server" refuses
        command -v systemd-analyze >/dev/null && check "seccomp: the unit's filter" serves unit
    fi
fi
printf '%s\n' "${results[@]}"
((failed == 0))
