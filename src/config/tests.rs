//! Every knob's bounds and words, and the fields against each other.

use super::*;

#[test]
fn defaults_are_valid_and_survive_being_shown() {
    let config = Config::default();
    config.validate().unwrap();
    for knob in KNOBS {
        let mut copy = config.clone();
        (knob.set)(&mut copy, &(knob.show)(&config)).unwrap();
        assert_eq!(copy, config, "{}", knob.name);
    }
}

/// Name, the least value, one below it, the greatest, one above it.
const BOUNDS: [[&str; 5]; 36] = [
    ["topic_publish_rate", "1", "-1", "10000000", "10000001"],
    ["address_connections", "1", "-1", "268435456", "268435457"],
    ["address_connect_rate", "1", "-1", "1000000", "1000001"],
    ["connect_rate", "1", "-1", "1000000", "1000001"],
    ["send_buffer", "4KiB", "4095", "64MiB", "67108865"],
    ["accept_backlog", "1", "0", "65535", "65536"],
    ["shards", "1", "0", "256", "257"],
    ["max_connections", "1", "0", "268435456", "268435457"],
    ["max_memory", "64MiB", "67108863", "64TiB", "65TiB"],
    ["max_topics", "1", "0", "65535", "65536"],
    ["max_message", "125", "124", "256MiB", "268435457"],
    ["message_rate", "1", "-1", "10000000", "10000001"],
    ["byte_rate", "1KiB", "1023", "512MiB", "536870913"],
    ["max_head", "1KiB", "1023", "64KiB", "65537"],
    ["backlog", "1KiB", "1023", "1GiB", "1073741825"],
    ["head_timeout", "100ms", "99ms", "10m", "600001ms"],
    ["keep_alive_timeout", "100ms", "99ms", "10m", "601s"],
    ["message_timeout", "1s", "999ms", "1h", "3601s"],
    ["ping_interval", "1s", "999ms", "1h", "3601s"],
    ["ping_timeout", "100ms", "99ms", "10m", "601s"],
    ["sse_heartbeat", "1s", "999ms", "10m", "601s"],
    ["jwks_refresh", "1s", "999ms", "1d", "25h"],
    ["auth_hook_timeout", "10ms", "9ms", "30s", "31s"],
    ["auth_hook_concurrency", "1", "0", "1024", "1025"],
    ["max_lifetime", "1s", "999ms", "30d", "31d"],
    ["lifetime_jitter", "0", "-1", "100", "101"],
    ["close_timeout", "100ms", "99ms", "10m", "601s"],
    ["drain_delay", "0", "-1s", "10m", "601s"],
    ["drain_time", "0", "-1s", "1h", "3601s"],
    ["shutdown_timeout", "0", "-1s", "10m", "601s"],
    ["deflate_min", "0", "-1", "256MiB", "268435457"],
    ["presence_limit", "0", "-1", "65535", "65536"],
    ["presence_rate", "0", "-1", "10000", "10001"],
    ["history_memory", "1MiB", "1048575", "64TiB", "65TiB"],
    ["ack_window", "1s", "999ms", "1h", "3601s"],
    ["max_errors", "1", "0", "65535", "65536"],
];

/// Values of knobs that have no bounds: good ones, bad ones.
const WORDS: [(&str, &[&str], &[&str]); 44] = [
    ("trusted_proxies", &["none", "127.0.0.1", "10.0.0.0/8,2001:db8::/32"], &["", "10.0.0.0/8,", "10.0.0.1/8"]),
    ("proxy_protocol", &["off", "v1v2"], &["v1", "on"]),
    ("address_connections", &["auto", "off", "0"], &["-1", "automatic"]),
    ("message_rate", &["auto", "off", "10 burst=30"], &["auto burst=30", "10 burst=9"]),
    (
        "admin_key",
        &["off", "0123456789abcdef", "0123456789abcdef,fedcba9876543210"],
        &["", "0123456789abcde", "0123456789abcdef,", "0123456789abcdef,short"],
    ),
    ("insecure_open", &["true", "false"], &["yes"]),
    ("jwt_secret", &["off", "0123456789abcdef"], &["", "0123456789abcde"]),
    ("jwt_public_key", &["none", "/etc/a.pem"], &[""]),
    ("jwks_url", &["off", "https://issuer/jwks.json"], &["", "issuer/jwks.json", "file:///jwks.json"]),
    ("auth_hook", &["off", "http://127.0.0.1:9000/auth"], &["", "127.0.0.1:9000", "https://a:b@host/"]),
    (
        "auth_hook_events",
        &["connect", "subscribe,publish", "connect,subscribe,publish"],
        &["", "all", "connect,", "none"],
    ),
    ("auth_hook_secret", &["off", "0123456789abcdef"], &["", "0123456789abcde"]),
    ("auth_hook_headers", &["none", "cookie", "cookie,x-session"], &["", "a,,b"]),
    ("jwt_issuer", &["off", "https://issuer/"], &[""]),
    ("jwt_audience", &["off", "uproar"], &[""]),
    ("anonymous", &["true", "false"], &["no"]),
    ("auth_cookie", &["off", "session"], &[""]),
    ("allowed_origins", &["none", "*", "https://a,https://*.b"], &["", "a,,b"]),
    ("client_rooms", &["none", "*", "lobby,game-*"], &[""]),
    ("client_subscribe", &["none", "*"], &[""]),
    ("client_presence", &["none", "*"], &[""]),
    ("client_history", &["none", "*"], &[""]),
    ("tls_listen", &["off", "0.0.0.0:443"], &["443", "on"]),
    ("tls_certificate", &["none", "/etc/a.pem", "a.pem,b.pem"], &["", "a,,b"]),
    ("tls_key", &["none", "/etc/a.key"], &[""]),
    ("tls_kernel", &["auto", "off"], &["on", ""]),
    ("listen", &["0.0.0.0:80", "[::]:8080", "127.0.0.1:0"], &["8080", "localhost:80", "127.0.0.1", "1.2.3.4:65536"]),
    ("admin_listen", &["127.0.0.1:9", "unix:/run/uproar", "off"], &["unix:", "unix:a\0b", "on", "/run/uproar"]),
    ("playground", &["true", "false"], &["yes", "1", "True", ""]),
    ("pin", &["true", "false"], &["off"]),
    ("deflate", &["true", "false"], &["no"]),
    ("presence", &["true", "false"], &["on"]),
    ("relay", &["none", "chat", "chat,playerMove"], &["", "a,,b"]),
    ("handover", &["none", "prompt"], &["", "a,,b"]),
    (
        "backend_key",
        &["off", "0123456789abcdef", "0123456789abcdef,fedcba9876543210"],
        &["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdéf", "0123456789abcdef,"],
    ),
    ("client_publish", &["none", "*", "chat.*,lobby"], &["", "a,,b", ","]),
    ("history", &["off", "a* count=1 age=1s bytes=1KiB last_value"], &["", "count=1", "a; b=2"]),
    ("max_connections", &["auto"], &["off", "-1", "1k"]),
    ("max_memory", &["auto", "off", "0"], &["1GB", "1.5GiB", "99999999999999999999"]),
    ("ping_interval", &["off", "0"], &["30", "1 s", "1.5s", "s", "", "99999999999999999999s"]),
    ("max_lifetime", &["off", "0"], &["auto", "1w"]),
    ("backlog_policy", &["close", "drop-oldest", "drop-newest", "latest"], &["Close", "drop_oldest", ""]),
    ("log", &["error", "warn", "info", "debug"], &["trace", "INFO"]),
    ("log_format", &["text", "json"], &["JSON", "logfmt"]),
];

#[test]
fn every_bound_holds() {
    for [name, least, below, greatest, above] in BOUNDS {
        let knob = Knob::named(name).unwrap();
        for text in [least, greatest] {
            let mut config = Config::default();
            (knob.set)(&mut config, text).unwrap();
            assert_eq!((knob.show)(&config), text, "{name}");
            config.validate().unwrap();
        }
        for text in [below, above] {
            assert!((knob.set)(&mut Config::default(), text).is_err(), "{name} = {text}");
        }
        assert!((knob.range)().ends_with(&format!("{least}..{greatest}")), "{name}: {}", (knob.range)());
    }
}

#[test]
fn words_are_taken_as_they_are() {
    for (name, good, bad) in WORDS {
        let knob = Knob::named(name).unwrap();
        for text in good {
            let mut config = Config::default();
            (knob.set)(&mut config, text).unwrap();
            let shown = (knob.show)(&config);
            assert_eq!(shown, if *text == "0" { "off" } else { text }, "{name}");
        }
        for text in bad {
            assert!((knob.set)(&mut Config::default(), text).is_err(), "{name} = {text}");
        }
    }
}

#[test]
fn every_knob_is_in_a_table_of_these_tests() {
    let tested = |name| BOUNDS.iter().any(|row| row[0] == name) || WORDS.iter().any(|row| row.0 == name);
    assert!(KNOBS.iter().all(|knob| tested(knob.name)));
}

#[test]
fn an_embedders_values_are_checked_too() {
    let config = Config { backlog: 1, ping_timeout: Duration::MAX, ..Config::default() };
    let message = config.validate().unwrap_err().to_string();
    assert!(message.contains("backlog: \"1\" is out of bounds; allowed: 1KiB..1GiB"), "{message}");
    assert!(message.lines().count() == 2 && message.contains("ping_timeout"), "{message}");
}

#[test]
fn two_listeners_need_two_ports() {
    for (listen, admin, clash) in [
        ("127.0.0.1:8081", "127.0.0.1:8081", true),
        ("0.0.0.0:8081", "127.0.0.1:8081", true),
        ("127.0.0.1:8081", "[::]:8081", true),
        ("127.0.0.2:8081", "127.0.0.1:8081", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ] {
        let admin_listen = AdminListen::Tcp(admin.parse().unwrap());
        let config = Config { listen: listen.parse().unwrap(), admin_listen, ..Config::default() };
        assert_eq!(config.validate().is_err(), clash, "{listen} {admin}");
    }
}
