# The guide of docs/OPERATIONS.md from an open server to a safe one, as a reader follows it: its blocks are run, on free ports.
# To be sourced by run.sh.

# blocks LANGUAGE: the blocks of that language in "Step by step", with a line of NUL between.
blocks() {
    awk -v fence="\`\`\`$1" '
        /^##/ { inside = ($0 == "### Step by step") }
        inside && $1 == "```" && open { open = 0; printf "%c", 0; next }
        open { print }
        inside && $1 == fence { open = 1 }' docs/OPERATIONS.md
}

# It needs nothing but the server and openssl.
check_guide() {
    local code=0
    follow_guide || code=$?
    cd "$repo"
    return $code
}

follow_guide() {
    local home=$logs/guide port secret run
    local -a shell configuration commands
    mapfile -d '' shell < <(blocks bash)
    mapfile -d '' configuration < <(blocks toml)
    mapfile -d '' commands < <(blocks sh)
    ((${#shell[@]} == 2 && ${#configuration[@]} == 1 && ${#commands[@]} == 1)) || { echo "other blocks than expected"; return 1; }
    rm -rf "$home" && mkdir -p "$home" && cd "$home" || return 1
    port=$(free_port)
    secret=$(openssl rand -hex 32)
    eval "${shell[0]}" 2>openssl.log || { cat openssl.log; return 1; }
    sed -e "s/0\.0\.0\.0:8443/127.0.0.1:$port/; s/127\.0\.0\.1:8080/127.0.0.1:0/; s#unix:/run/uproar#unix:$home#" \
        -e "s/^ *jwt_secret = \"[^\"]*\"/jwt_secret = \"$secret\"/" <<<"${configuration[0]}" >uproar.toml
    chmod 600 uproar.toml
    "$server" --config uproar.toml --check >check.log 2>&1 || { cat check.log; return 1; }
    [[ $(<check.log) == "configuration ok" ]] || { echo "a warning: $(<check.log)"; return 1; }
    start "$port" server.log "$server" --config uproar.toml
    eval "${shell[1]}"
    run=${commands[0]%$'\n'}
    run=${run//8443/$port}
    run=${run//uproar /"$server" }
    if eval "${run/--token-file token/} --timeout 2s" >refused.log 2>&1 || ! grep -q 401 refused.log; then
        echo "without a token: $(<refused.log)"
        return 1
    fi
    eval "$run --count 1 --timeout 20s" >line.log 2>subscribe.log &
    local subscriber=$!
    # Until it is there, nothing that is published reaches it.
    while kill -0 "$subscriber" 2>/dev/null; do
        "$server" publish prices.AAPL '{"bid":1}' --admin "unix:$home/admin.sock" >/dev/null || return 1
        sleep 0.1
    done
    wait "$subscriber" || { cat subscribe.log; return 1; }
    [[ $(<line.log) == '{"bid":1}' ]] || { echo "not that: $(<line.log)"; return 1; }
    # What the token does not allow.
    ! eval "${run/prices.AAPL/other} --count 1 --timeout 5s" >refused.log 2>&1 && grep -q not_allowed refused.log
}
