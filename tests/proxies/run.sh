#!/usr/bin/env bash
# Puts nginx, HAProxy and Caddy in front of the server, with the files of tuning/, and real clients in front of them.
#
#   tests/proxies/run.sh [nginx|haproxy|caddy]...
#
# The files are used as they are, but for ports, certificates, the time-outs (90 s become 3) and the limit of one
# address (256 becomes 8). What is missing is installed if this is run by root, else the proxy is SKIPPED, and said so.
#
#   PROFILE  cargo's profile of the server (default: release)
#   UPROAR   the server, if it is built already
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
cd "$repo"
profile=${PROFILE:-release}
venv=$target/clients-venv
work=$target/proxies
results=() failed=0

# filled FILE SED...: a file of tuning/, with nothing of another machine left in it.
filled() {
    local file=$1
    shift
    sed -E "$@" -e "s/127\.0\.0\.1:8080/127.0.0.1:$upstream/; s/\b90s/3s/; s/\b256\b/8/" "tuning/$file"
}

nginx_files() {
    filled nginx/uproar.conf -e "s/listen 443/listen 127.0.0.1:$port/; s#/etc/ssl/uproar#$work#" >"$work/uproar.conf"
    cat >"$work/nginx.conf" <<END
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events {}
http {
    access_log off;
    client_body_temp_path $work/nginx-body;
    proxy_temp_path $work/nginx-proxy;
    fastcgi_temp_path $work/nginx-fastcgi;
    uwsgi_temp_path $work/nginx-uwsgi;
    scgi_temp_path $work/nginx-scgi;
    include $work/uproar.conf;
}
END
    nginx -q -t -c "$work/nginx.conf" -e "$work/nginx.log"
    command=(nginx -c "$work/nginx.conf" -e "$work/nginx.log")
}

haproxy_files() {
    filled haproxy/uproar.cfg -e "s/bind :443/bind 127.0.0.1:$port/; s#/etc/haproxy/uproar.pem#$work/both.pem#" \
        -e "s/^ +maxconn +[0-9]+/    maxconn 1000/" >"$work/haproxy.cfg"
    haproxy -q -c -f "$work/haproxy.cfg"
    command=(haproxy -db -f "$work/haproxy.cfg")
}

caddy_files() {
    filled caddy/Caddyfile -e "0,/^\{$/s//{\n\tadmin off\n\tauto_https disable_redirects/" \
        -e "s#^example.com \{#https://localhost:$port {\n\ttls $work/fullchain.pem $work/privkey.pem#" >"$work/Caddyfile"
    export XDG_DATA_HOME=$work/caddy XDG_CONFIG_HOME=$work/caddy
    caddy validate --adapter caddyfile --config "$work/Caddyfile" >"$work/caddy.log" 2>&1 || { cat "$work/caddy.log"; return 1; }
    command=(caddy run --adapter caddyfile --config "$work/Caddyfile")
}

# behind PROXY UPSTREAM...: starts what is to be behind the proxy, and the proxy.
behind() {
    local proxy=$1
    shift
    stop_children
    upstream=$(free_port)
    port=$(free_port)
    start "$upstream" "$work/upstream.log" "${@//UPSTREAM/$upstream}"
    "${proxy}_files"
    start "$port" "$work/$proxy.log" "${command[@]}"
}

# check PROXY WHAT [ARGUMENT...]: one of the checks of check.py.
check() {
    local proxy=$1
    shift
    if "$venv/bin/python" tests/proxies/check.py "$port" "$work/fullchain.pem" "$@" </dev/null; then
        results+=("PASS  $proxy: $*")
    else
        results+=("FAIL  $proxy: $*")
        failed=$((failed + 1))
        tail -n 20 "$work/$proxy.log" >&2
    fi
}

test_proxy() {
    local proxy=$1 serve=("$server" --listen 127.0.0.1:UPSTREAM --admin-listen off --shards 2)
    behind "$proxy" "${serve[@]}" --ping-interval 1s --ping-timeout 1s
    check "$proxy" exchange
    check "$proxy" origins
    check "$proxy" stays 6
    [[ $proxy == caddy ]] || check "$proxy" limit 8 # Caddy has none
    behind "$proxy" "${serve[@]}" --ping-interval off
    # A silent WebSocket ends with the time-out if the server does not ping. Caddy has none.
    if [[ $proxy == caddy ]]; then check "$proxy" stays 6; else check "$proxy" ends 2 9; fi
    behind "$proxy" "$venv/bin/python" tests/proxies/upstream.py UPSTREAM
    [[ $proxy == caddy ]] || check "$proxy" sources # Caddy has one
    check "$proxy" events
    stop_children
}

need python3 python3 && need openssl openssl || { echo "SKIPPED: python3 and openssl are needed"; exit 0; }
mkdir -p "$work"
python3 -c "import ensurepip" 2>/dev/null || packages python3-venv || true # Debian packages it apart
[[ -x $venv/bin/python ]] || python3 -m venv "$venv" || { echo "SKIPPED: no Python environment can be made"; exit 0; }
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
cat "$work/fullchain.pem" "$work/privkey.pem" >"$work/both.pem"
chmod 755 "$work"
server=${UPROAR:-}
if [[ -z $server ]]; then
    cargo build --quiet --profile "$profile" --bin uproar
    server=$target/${profile/#dev/debug}/uproar
fi
(($#)) || set -- nginx haproxy caddy
for proxy; do
    if need "$proxy" "$proxy"; then
        test_proxy "$proxy"
    else
        results+=("SKIPPED: $proxy is not installed (apt-get install $proxy)")
    fi
done
printf '%s\n' "${results[@]}"
((failed == 0))
