//! Another configuration for a server that runs: all of it or nothing, and a true report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustls::version::TLS13;
use serde_json::{Value, json};
use tempfile::TempDir;
use uproar::config::{Patterns, Secret};

use super::common::client::{PING, PONG, TEXT, frame};
use super::common::tls::{TlsClient, certificate, trusting};
use super::common::{Client, Process, TestServer, config, scrape, wait_until};

/// A server that was started with a file, and may be with more.
pub struct Configured {
    dir: TempDir,
    pub server: Process,
}

impl Configured {
    pub fn start(text: &str) -> Configured {
        Configured::start_with(text, |_| {})
    }

    /// `more`: flags and variables besides. The log is in a file.
    pub fn start_with(text: &str, more: impl FnOnce(&mut Command)) -> Configured {
        let dir = TempDir::new().expect("a directory");
        let (file, log) = (file_in(dir.path()), fs::File::create(log_in(dir.path())).expect("a log"));
        fs::write(&file, text).expect("a file");
        let listen = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--pin=false"];
        let mut command = Process::command(&listen);
        command.arg("--config").arg(file).stderr(log);
        more(&mut command);
        Configured { server: Process::launch(command), dir }
    }

    pub fn write(&self, text: &str) {
        fs::write(file_in(self.dir.path()), text).expect("a file");
    }

    /// `POST /reload`: its status, and the answer.
    pub fn reload(&self) -> (u16, Value) {
        reload(&self.server.admin, None)
    }

    /// Writes the file, and has it taken up.
    #[track_caller]
    pub fn take_up(&self, text: &str) -> Value {
        self.write(text);
        let (status, report) = self.reload();
        assert_eq!(status, 200, "{report}");
        report
    }

    pub fn log(&self) -> String {
        fs::read_to_string(log_in(self.dir.path())).expect("a log")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn file_in(dir: &Path) -> PathBuf {
    dir.join("uproar.toml")
}

fn log_in(dir: &Path) -> PathBuf {
    dir.join("log")
}

pub fn reload(admin: &str, key: Option<&str>) -> (u16, Value) {
    let key = key.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
    let mut client = Client::connect(admin.parse().expect("an address"));
    let fields = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2";
    client.send(format!("POST /reload HTTP/1.1\r\n{fields}\r\n{key}\r\n{{}}").as_bytes());
    let response = client.response();
    (response.status, serde_json::from_str(&response.body).expect("JSON"))
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

fn knobs(changes: &Value) -> Vec<&str> {
    changes.as_array().expect("a list").iter().filter_map(|change| change["knob"].as_str()).collect()
}

fn message(client: &mut Client) -> Value {
    serde_json::from_str(client.frame().expect("a message").text()).expect("JSON")
}

/// What a client is told that publishes to a topic which nobody has.
fn publishes(client: &mut Client) -> String {
    client.text(r#"{"type":"publish","topic":"t","data":1,"id":"a","ack":true}"#);
    let answer = message(client);
    answer["code"].as_str().or(answer["type"].as_str()).expect("a word").to_owned()
}

#[test]
fn a_live_knob_holds_for_who_is_there_and_for_who_comes() {
    let it = Configured::start("shards = 2\nping_interval = 'off'\n");
    let mut there: Vec<Client> = (0..8).map(|room| Client::json(it.server.addr, &room.to_string())).collect();
    assert!(there.iter_mut().all(|client| publishes(client) == "ack"));
    let report = it.take_up("shards = 2\nping_interval = 'off'\nclient_publish = 'none'\n");
    let change = json!({"knob": "client_publish", "from": "*", "to": "none"});
    assert_eq!(report, json!({"changed": [change], "restart": [], "notes": []}));
    there.push(Client::json(it.server.addr, "room"));
    for client in &mut there {
        client.text(r#"{"type":"publish","topic":"t","data":1,"id":"b","ack":true}"#);
        assert_eq!(message(client)["code"], "not_allowed");
    }
    // What connections keep for themselves is theirs anew: their pings, and how fast they may send.
    it.take_up("shards = 2\nping_interval = '1s'\nping_timeout = '500ms'\nmessage_rate = '1 burst=3'\n");
    for client in &mut there {
        let frame = client.frame().expect("a ping");
        assert_eq!(frame.opcode(), PING);
        client.send(&super::common::client::frame(PONG, &frame.payload));
    }
    let client = &mut there[0];
    let paces: Vec<String> = (0..5).map(|_| publishes(client)).collect();
    assert!(paces[0] == "ack" && paces[4] == "too_fast", "{paces:?}");
}

#[test]
fn histories_are_kept_by_the_rules_of_the_moment() {
    let it = Configured::start("shards = 2\nhistory = 'a.* count=10; b.* count=10'\n");
    let mut client = Client::json(it.server.addr, "room");
    let kept = |client: &mut Client, topic: &str| {
        client.text(&format!(
            r#"{{"type":"subscribe","topic":"{topic}","recover":true,"since":{{"{topic}":{{"epoch":"x","offset":0}}}}}}"#
        ));
        let answer = message(client);
        let mut offsets = Vec::new();
        while offsets.last() != Some(&answer["topics"][0]["offset"]) {
            let next = message(client);
            match next["type"].as_str() {
                Some("message") => offsets.push(next["offset"].clone()),
                _ if next["to"] == answer["topics"][0]["offset"] => break,
                _ => {}
            }
        }
        client.text(&format!(r#"{{"type":"unsubscribe","topic":"{topic}"}}"#));
        assert_eq!(message(client)["type"], "unsubscribed");
        offsets.len()
    };
    for (topic, number) in ["a.1", "b.1"].into_iter().flat_map(|topic| (0..6).map(move |number| (topic, number))) {
        client.text(&format!(r#"{{"type":"publish","topic":"{topic}","data":{number},"id":"{number}","ack":true}}"#));
        assert_eq!(message(&mut client)["type"], "ack");
    }
    assert_eq!([kept(&mut client, "a.1"), kept(&mut client, "b.1")], [6, 6]);
    it.take_up("shards = 2\nhistory = 'a.* count=2'\n");
    assert_eq!([kept(&mut client, "a.1"), kept(&mut client, "b.1")], [2, 0]);
}

#[test]
fn what_takes_a_restart_is_told_and_stays() {
    let it = Configured::start("shards = 1\nbacklog = '64KiB'\n");
    it.write("shards = 2\naccept_backlog = 17\nbacklog = '1MiB'\n");
    let admin = format!("http://{}", it.server.admin);
    let output = Process::command(&["reload", "--admin", &admin]).output().expect("the binary runs");
    let said = String::from_utf8(output.stdout).expect("text");
    let lines =
        "backlog: 64KiB -> 1MiB\naccept_backlog: 4096 -> 17, after a restart\nshards: 1 -> 2, after a restart\n";
    assert_eq!((output.status.code(), &*said), (Some(0), lines));
    // It goes on being told, and what is done is done.
    let (status, report) = it.reload();
    assert_eq!(
        (status, &report["changed"], knobs(&report["restart"])),
        (200, &json!([]), vec!["accept_backlog", "shards"])
    );
    assert_eq!(it.server.metric("config_reloads_total result=\"ok\""), 2);
    assert!(scrape(&it.server.admin).contains("uproar_turn_seconds_count{shard=\"0\"}"));
    assert!(!scrape(&it.server.admin).contains("uproar_turn_seconds_count{shard=\"1\"}"));
    wait_until("the log says what", || {
        it.log().contains("the configuration was reloaded") && it.log().contains("shards: 1 -> 2")
    });
}

#[test]
fn a_bad_file_changes_nothing_and_every_problem_is_told() {
    let good = "shards = 1\nclient_publish = 'none'\n";
    let it = Configured::start(good);
    let mut client = Client::json(it.server.addr, "room");
    let hash = |text: &str| text.lines().find(|line| line.starts_with("uproar_config_info")).map(str::to_owned);
    let before = hash(&scrape(&it.server.admin)).expect("a hash");
    for (text, words) in [
        (
            "client_publish = '*'\nbacklog = 1\nno_such = 2\nmax_topics = 'x'\n",
            &["backlog", "no_such", "max_topics"][..],
        ),
        ("client_publish = '*'\nthis is no TOML", &["not valid TOML"]),
        ("client_publish = '*'\nrelay = 'ping'\njwt_public_key = '/nowhere'\n", &["relay", "/nowhere"]),
        ("client_publish = '*'\nproxy_protocol = 'v1v2'\n", &["trusted_proxies"]),
        ("client_publish = '*'\ntls_listen = '127.0.0.1:0'\ntls_certificate = '/no'\ntls_key = '/no'\n", &["/no"]),
        ("client_publish = '*'\njwks_url = 'http://127.0.0.1:9/keys'\n", &["jwks_url", "cannot be fetched"]),
    ] {
        it.write(text);
        let (status, answer) = it.reload();
        assert_eq!((status, &answer["code"]), (422, &"bad_configuration".into()), "{answer}");
        let problems = answer["problems"].to_string();
        assert!(words.iter().all(|word| problems.contains(word)), "{words:?} in {problems}");
        assert_eq!(publishes(&mut client), "not_allowed", "{text}");
    }
    let admin = format!("http://{}", it.server.admin);
    it.write("backlog = 1\nmax_topics = 'x'\n");
    let output = Process::command(&["reload", "--admin", &admin])
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("uproar.toml:1: backlog") && said.contains("uproar.toml:2: max_topics"), "{said}");
    fs::remove_file(it.path("uproar.toml")).expect("it was there");
    it.server.signal("HUP");
    wait_until("the log says why", || it.log().contains("cannot read"));
    wait_until("the log says why", || it.log().contains("uproar.toml:3: no_such: unknown"));
    assert_eq!(it.server.metric("config_reloads_total result=\"refused\""), 8);
    assert_eq!(
        (it.server.metric("config_reloads_total result=\"ok\""), hash(&scrape(&it.server.admin))),
        (0, Some(before))
    );
    let report = it.take_up("shards = 1\nclient_publish = '*'\n");
    assert_eq!((knobs(&report["changed"]), publishes(&mut client)), (vec!["client_publish"], "ack".into()));
}

#[test]
fn a_broken_certificate_changes_nothing() {
    let dir = TempDir::new().expect("a directory");
    let good = certificate(dir.path(), "c", &["localhost"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let text = |publish: &str| {
        let (certificate, key) = (good.certificate.display(), good.key.display());
        format!(
            "shards = 1\ntls_listen = '127.0.0.1:{port}'\ntls_certificate = '{certificate}'\ntls_key = '{key}'\n\
             client_publish = '{publish}'\n"
        )
    };
    let it = Configured::start(&text("none"));
    let mut client = Client::json(it.server.addr, "room");
    let whole = fs::read(&good.certificate).expect("a certificate");
    fs::write(&good.certificate, &whole[..whole.len() / 2]).expect("a file");
    it.write(&text("*"));
    it.server.signal("HUP");
    wait_until("it is refused", || it.server.metric("config_reloads_total result=\"refused\"") == 1);
    wait_until("the log says why", || it.log().contains("tls_certificate"));
    assert_eq!(publishes(&mut client), "not_allowed");
    let tls = ([127, 0, 0, 1], port).into();
    let connect = || TlsClient::connect(tls, "localhost", &trusting(&[&good], &[&TLS13])).upgrade("/raw/t");
    connect();
    fs::write(&good.certificate, whole).expect("a file");
    it.server.signal("HUP");
    wait_until("it is taken up", || it.server.metric("config_reloads_total result=\"ok\"") == 1);
    assert_eq!(publishes(&mut client), "ack");
    connect();
}

#[test]
fn flags_and_variables_go_on_winning() {
    let it = Configured::start_with("backlog = '4KiB'\n", |command| {
        command.args(["--backlog=8KiB", "--shards=1"]).env("UPROAR_MAX_TOPICS", "7");
    });
    let report = it.take_up("backlog = '16KiB'\nmax_topics = 9\nmax_errors = 5\n");
    assert_eq!((knobs(&report["changed"]), &report["restart"]), (vec!["max_errors"], &json!([])));
}

#[test]
fn reloads_at_the_same_time_are_one_after_the_other() {
    let files = ["shards = 2\nbacklog = '8KiB'\nmax_topics = 8\n", "shards = 2\nbacklog = '9KiB'\nmax_topics = 9\n"];
    let it = Configured::start(files[0]);
    let mut client = Client::json(it.server.addr, "room");
    thread::scope(|scope| {
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| (0..10).map(|_| it.reload()).collect::<Vec<_>>())).collect();
        for round in 0..40 {
            // Whole, as an editor leaves it.
            fs::write(it.path("new"), files[round % 2]).expect("a file");
            fs::rename(it.path("new"), it.path("uproar.toml")).expect("a file");
            it.server.signal("HUP");
            assert_eq!(publishes(&mut client), "ack");
        }
        for (status, report) in asking.into_iter().flat_map(|asking| asking.join().expect("answers")) {
            let knobs = knobs(&report["changed"]);
            assert!(status == 200 && (knobs.is_empty() || knobs == ["max_topics", "backlog"]), "{report}");
        }
    });
    it.take_up(files[1]);
    assert_eq!(it.take_up(files[1])["changed"], json!([]));
    assert_eq!(knobs(&it.take_up(files[0])["changed"]), ["max_topics", "backlog"]);
    assert_eq!(it.server.metric("config_reloads_total result=\"refused\""), 0);
}

/// HS256 of `{"sub":"ann"}`.
fn token(secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &json!({"sub": "ann"}), &key).expect("a token")
}

#[test]
fn keys_change_for_who_comes_and_end_nobody() {
    const KEYS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];
    let it = Configured::start("shards = 2\n");
    let connects = |token: Option<&str>| {
        let query = token.map_or(String::new(), |token| format!("?access_token={token}"));
        let mut client = Client::connect(it.server.addr);
        client.send(super::common::client::handshake(&format!("/raw/t{query}"), "").as_bytes());
        status_of(&client.head())
    };
    let mut early = it.server.ws("/raw/t");
    assert_eq!(connects(None), 101);
    let report = it.take_up(&format!("shards = 2\njwt_secret = '{}'\nadmin_key = '{}'\n", KEYS[0], KEYS[0]));
    assert_eq!(report["changed"], json!([{"knob": "admin_key"}, {"knob": "jwt_secret"}]));
    assert_eq!((connects(None), connects(Some(&token(KEYS[0]))), connects(Some(&token(KEYS[1])))), (401, 101, 401));
    let fields = format!("Authorization: Bearer {}\r\n", token(KEYS[0]));
    let (mut known, _) = Client::connect(it.server.addr).upgrade("/?room=r", &fields);
    assert_eq!(message(&mut known)["user"], "ann");
    // By the defaults of the configuration, which its token leaves to that.
    it.take_up(&format!(
        "shards = 2\njwt_secret = '{}'\nclient_publish = 'none'\nadmin_key = '{}'\n",
        KEYS[1], KEYS[0]
    ));
    assert_eq!((connects(Some(&token(KEYS[0]))), connects(Some(&token(KEYS[1])))), (401, 101));
    assert_eq!(publishes(&mut known), "not_allowed");
    it.write("shards = 2\n");
    assert_eq!((reload(&it.server.admin, Some(KEYS[1])).0, reload(&it.server.admin, Some(KEYS[0])).0), (401, 200));
    assert_eq!(connects(None), 101);
    early.send(&frame(TEXT, b"still here"));
    early.expect_text("still here");
    assert!(KEYS.iter().all(|key| !it.log().contains(key)), "{}", it.log());
}

#[test]
fn connections_are_bounded_anew() {
    let it = Configured::start("shards = 1\nmax_connections = 3\n");
    let full = |server: &Process| {
        let mut client = Client::connect(server.addr);
        client.send(super::common::client::handshake("/raw/t", "").as_bytes());
        status_of(&client.head())
    };
    let mut there: Vec<Client> = (0..3).map(|_| it.server.ws("/raw/t")).collect();
    assert_eq!(full(&it.server), 503);
    let report = it.take_up("shards = 1\nmax_connections = 1000000\n");
    assert!(report["notes"][0].as_str().is_some_and(|note| note.contains("max_connections")), "{report}");
    it.take_up("shards = 1\nmax_connections = 2\n");
    there.iter_mut().for_each(|client| client.text("to all"));
    assert_eq!(full(&it.server), 503, "nobody is sent away, and nobody comes");
}

#[test]
fn an_embedder_reloads_what_it_has() {
    let server = TestServer::start(config(2));
    let started = || server.running().config().clone();
    let mut client = Client::json(server.addr, "room");
    let mut next = started();
    next.client_publish = Patterns(Vec::new());
    next.drain_time = Duration::from_secs(77);
    next.accept_backlog = 9;
    let report = server.running().reload(next).expect("it is valid");
    let names = |changes: &[uproar::config::Changed]| changes.iter().map(|change| change.knob).collect::<Vec<_>>();
    assert_eq!(names(&report.changed), ["client_publish", "drain_time"]);
    assert_eq!(names(&report.restart), ["accept_backlog"]);
    assert_eq!(publishes(&mut client), "not_allowed");
    let mut bad = started();
    (bad.backlog, bad.max_topics, bad.backend_key) = (1, 0, vec![Secret::new("short")]);
    let error = server.running().reload(bad).expect_err("it is not");
    assert!(error.problems().len() == 3 && !error.to_string().contains("short"), "{error}");
    // Without sources, what is there is read again.
    assert_eq!(reload(&server.admin, None), (200, json!({"changed": [], "restart": [], "notes": []})));
}
