# Real clients over TLS; sourced by run.sh, whose functions it uses. Certificates are made here, by openssl, for a minute's
# use: two servers' names, `localhost` and `other.test`, both signed by one authority, which clients are told to trust.

# certificate NAME EXTENSIONS: $certs/NAME.crt and .key, for EXTENSIONS, signed by the authority.
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$certs/$1.key" \
        -out "$certs/$1.csr" 2>/dev/null
    openssl x509 -req -in "$certs/$1.csr" -CA "$certs/ca.crt" -CAkey "$certs/ca.key" -CAcreateserial -days 2 \
        -extfile <(echo "subjectAltName=$2") -out "$certs/$1.crt" 2>/dev/null
}

make_certificates() {
    certs=$logs/certs
    rm -rf "$certs" && mkdir -p "$certs"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=authority of the tests" \
        -addext basicConstraints=critical,CA:TRUE -keyout "$certs/ca.key" -out "$certs/ca.crt" 2>/dev/null
    certificate localhost "DNS:localhost,IP:127.0.0.1"
    certificate other.test "DNS:other.test,DNS:*.other.test"
    # A browser trusts the one key, and nothing else.
    SPKI=$(openssl x509 -in "$certs/localhost.crt" -noout -pubkey | openssl pkey -pubin -outform der 2>/dev/null |
        openssl dgst -sha256 -binary | base64)
    export SPKI
}

# serve_tls SHARDS OPTION...: the server, with TLS on $secure besides.
serve_tls() {
    secure=$(free_port)
    serve "$@" --tls-listen "127.0.0.1:$secure" \
        --tls-certificate "$certs/localhost.crt,$certs/other.test.crt" --tls-key "$certs/localhost.key,$certs/other.test.key"
}

# shake NAME OPTION...: what openssl says of a connection to the server under a name, which is verified, with a request.
shake() {
    local name=$1
    shift
    printf 'GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$name" |
        timeout 10 openssl s_client -connect "127.0.0.1:$secure" -servername "$name" -CAfile "$certs/ca.crt" \
            -verify_return_error -verify_hostname "$name" -ign_eof "$@" 2>&1 || true
}

# says TEXT PATTERN...: all of the patterns are in the text.
says() {
    local text=$1 pattern
    shift
    for pattern in "$@"; do
        grep -q -- "$pattern" <<<"$text" || { printf 'not there: %s\n%s\n' "$pattern" "$text"; return 1; }
    done
}

check_openssl() {
    local version session=$logs/session seen
    for version in tls1_2 tls1_3; do
        rm -f "$session"
        seen=$(shake localhost "-$version" -sess_out "$session")
        says "$seen" 'Verify return code: 0 (ok)' 'HTTP/1.1 200' "New, TLSv1.${version: -1}" || return 1
        seen=$(shake localhost "-$version" -sess_in "$session")
        says "$seen" 'HTTP/1.1 200' "Reused, TLSv1.${version: -1}" || return 1
    done
    says "$(shake other.test)" 'subject=CN *= *other.test' 'Verify return code: 0 (ok)' 'HTTP/1.1 200' || return 1
    says "$(shake a.other.test)" 'subject=CN *= *other.test' 'Verify return code: 0 (ok)' || return 1
    # What is older is refused, also by who would take it.
    seen=$(shake localhost -tls1_1 -cipher DEFAULT@SECLEVEL=0)
    ! grep -q 'HTTP/1.1 200' <<<"$seen" || { echo "TLS 1.1: $seen"; return 1; }
}

check_curl_tls() {
    local options answer stream out=$logs/stream url=https://localhost:$secure
    local curl=(curl --silent --show-error --fail --max-time 10 --cacert "$certs/ca.crt")
    for options in "--tlsv1.2 --tls-max 1.2" "--tlsv1.3"; do
        # shellcheck disable=SC2086 # they are two words
        "${curl[@]}" $options --no-buffer "$url/sse?topic=curl" >"$out" & stream=$!
        until grep -q 'event: subscribed' "$out"; do kill -0 $stream || return 1; sleep 0.05; done
        # shellcheck disable=SC2086
        answer=$("${curl[@]}" $options --json '{"topic":"curl","data":"by curl"}' "$url/publish") || return 1
        says "$answer" '"topic":"curl"' '"offset":' || return 1
        until grep -q '"data":"by curl"' "$out"; do kill -0 $stream || return 1; sleep 0.05; done
        kill $stream
        wait $stream 2>/dev/null || true
    done
    ! curl --silent --max-time 10 "$url/health" || { echo "an unknown authority is trusted"; return 1; }
}

# run_tls SHARDS VERSION: all of them; those that can be told to, by that version of TLS alone.
run_tls() {
    shards="TLS, $1 shard(s)"
    local version=$2
    serve_tls "$1"
    check "openssl" check_openssl
    check "curl, SSE and POST" check_curl_tls
    export NODE_EXTRA_CA_CERTS=$certs/ca.crt
    check "node ws, TLS $version" node "--tls-min-v$version" "--tls-max-v$version" tests/clients/ws.mjs \
        "wss://localhost:$secure" "${children[-1]}"
    UPROAR_JWT_SECRET=only-for-these-tests serve_tls "$1" --anonymous
    check "the client, TLS $version" env JWT_SECRET=only-for-these-tests node --experimental-websocket --no-warnings \
        "--tls-min-v$version" "--tls-max-v$version" tests/clients/secured.mjs "wss://localhost:$secure"
    check "Chromium, https" env JWT_SECRET=only-for-these-tests node tests/browser/secured.mjs "https://localhost:$secure/"
    unset NODE_EXTRA_CA_CERTS
    stop_children
}
