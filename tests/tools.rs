//! `uproar publish` and `uproar subscribe` with a server.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use common::{Process, SHARDS, TestServer, config, wait_until};
use uproar::config::{AdminListen, parse_history};
use uproar::{Connection, Handler, Message, Server};

fn command(args: &[&str]) -> Command {
    let mut command = Process::command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    finished(command(args).output().expect("the binary runs"))
}

fn finished(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn admin(server: &TestServer) -> String {
    if server.admin.starts_with("unix:") { server.admin.clone() } else { format!("http://{}", server.admin) }
}

fn start(shards: u32) -> TestServer {
    let mut config = config(shards);
    config.history = parse_history("kept.* count=100 age=1h bytes=1MiB").expect("a rule");
    TestServer::start(config)
}

#[track_caller]
fn publish(server: &TestServer, topic: &str, data: &str) -> String {
    let (code, out, err) = run(&["publish", topic, data, "--admin", &admin(server)]);
    assert_eq!(code, Some(0), "{err}");
    out.trim_end().to_owned()
}

/// `uproar subscribe`, running; it is killed when this is dropped.
struct Subscriber {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Subscriber {
    /// Starts it, and waits until the server knows of so many subscriptions: a room's, and its topics'.
    fn start(server: &TestServer, args: &[&str], subscriptions: u64) -> Subscriber {
        let url = format!("ws://{}", server.addr);
        let subscriber = Subscriber::spawn(&[&["subscribe", "--url", &url], args].concat());
        server.wait_subscriptions(subscriptions);
        subscriber
    }

    fn spawn(args: &[&str]) -> Subscriber {
        Subscriber::of(command(args).spawn().expect("the binary runs"))
    }

    fn of(mut child: Child) -> Subscriber {
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        Subscriber { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.out.read_line(&mut line).expect("text"), 0, "its output has ended");
        line.trim_end().to_owned()
    }

    /// Its exit code, and what it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        wait_until("it ends", || self.child.try_wait().expect("it is our child").is_some());
        let mut err = String::new();
        let stderr = self.child.stderr.take().expect("it is piped");
        BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| err += &(line + "\n"));
        (self.child.wait().expect("it has ended").code(), err)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_published_is_printed() {
    for shards in SHARDS {
        let server = start(shards);
        let mut subscriber = Subscriber::start(&server, &["t", "--count", "4"], 2);
        let mut enveloped = Subscriber::start(&server, &["t", "u", "--envelope"], 5);
        let first = publish(&server, "t", r#"{ "a": 1.0}"#);
        assert_eq!(subscriber.line(), r#"{ "a": 1.0}"#, "at once, though it is a pipe");
        let (epoch, offset) = first.split_once(' ').expect("epoch and offset");
        assert_eq!(offset, "1");
        let envelope = format!(r#"{{"type":"message","topic":"t","epoch":"{epoch}","offset":1,"data":{{ "a": 1.0}}}}"#);
        assert_eq!(enveloped.line(), envelope);
        publish(&server, "t", "[1,\n2]");
        let mut raw = server.ws("/raw/t");
        raw.text("plain \"text\"\n");
        raw.send(&common::client::frame(common::client::BINARY, &[0, 1]));
        assert_eq!([(); 3].map(|()| subscriber.line()), ["[1, 2]", r#""plain \"text\"\n""#, r#""AAE=""#]);
        assert_eq!(subscriber.end(), (Some(0), String::new()), "all of --count came");
    }
}

#[test]
fn text_ids_and_standard_input_are_published() {
    let server = start(1);
    let mut client = server.ws("/raw/t");
    let admin = admin(&server);
    let mut child = command(&["publish", "t", "-", "--text", "--admin", &admin]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("the binary runs");
    child.stdin.take().expect("it is piped").write_all(b"no JSON\n").expect("it reads");
    let (code, placed, err) = finished(child.wait_with_output().expect("it ends"));
    assert!(code == Some(0) && placed.ends_with(" 1\n"), "{placed}{err}");
    client.expect_text("no JSON\n");
    let again = || run(&["publish", "t", "-7", "--id", "x", "--admin", &admin]);
    assert_eq!(again(), again());
    client.expect_text("-7");
    let (code, out, err) = run(&["publish", "", "1", "--admin", &admin]);
    assert!((code, &*out) == (Some(1), "") && err.contains("(bad_topic)"), "{err}");
    let (code, out, err) = run(&["publish", "t", "1", "--admin", &format!("http://{}", server.addr)]);
    assert!((code, &*out) == (Some(3), "") && err.contains("no admin listener"), "not by another's rules: {err}");
    publish(&server, "t", "2");
    client.expect_text("2");
}

/// Over TLS, with a token that is no argument.
#[test]
fn who_subscribes_may_need_a_token_and_trust() {
    const SECRET: &str = "a-secret-of-more-than-32-characters";
    let dir = tempfile::tempdir().expect("a directory");
    let made = common::tls::certificate(dir.path(), "localhost", &["localhost"]);
    let mut config = config(1);
    config.tls_listen = Some(([127, 0, 0, 1], 0).into());
    config.tls_certificate = vec![made.certificate.display().to_string()];
    config.tls_key = vec![made.key.display().to_string()];
    config.jwt_secret = vec![uproar::config::Secret::new(SECRET)];
    let server = TestServer::start(config);
    let token = {
        use jsonwebtoken::{EncodingKey, Header, encode};
        let claims = serde_json::json!({"sub": "ann", "exp": u32::MAX});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
    };
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{token}\n")).expect("a file");
    let port = server.running().tls_address().expect("a TLS listener").port();
    let url = format!("wss://localhost:{port}");
    let ca = made.certificate.to_str().expect("text");
    let subscribe = |more: &[&str]| {
        let mut command = command(&[&["subscribe", "t", "--count", "1", "--url", &url], more].concat());
        command.env_remove("UPROAR_TOKEN");
        command
    };
    let outcome = |mut command: Command| finished(command.output().expect("the binary runs"));
    let (code, _, err) = outcome(subscribe(&["--ca", ca]));
    assert!(code == Some(1) && err.contains("401") && err.contains("UPROAR_TOKEN"), "{err}");
    let (code, _, err) = outcome(subscribe(&["--token-file", file.to_str().expect("text")]));
    assert!(code == Some(3) && err.contains("certificate"), "no authority has made it: {err}");
    let mut from_file = subscribe(&["--ca", ca, "--token-file", file.to_str().expect("text")]);
    let mut from_variable = subscribe(&["--ca", ca]);
    from_variable.env("UPROAR_TOKEN", &token);
    let mut both =
        [&mut from_file, &mut from_variable].map(|command| Subscriber::of(command.spawn().expect("it runs")));
    // Each to its room, its user's topic, and this one.
    server.wait_subscriptions(6);
    publish(&server, "t", "7");
    both.iter_mut().for_each(|subscriber| assert_eq!(subscriber.line(), "7"));
    both.into_iter().for_each(|subscriber| assert_eq!(subscriber.end(), (Some(0), String::new())));
}

#[test]
fn a_unix_socket_will_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(1);
    config.admin_listen = AdminListen::Unix(dir.path().join("admin"));
    let server = TestServer::start(config);
    assert!(publish(&server, "t", "1").ends_with(" 1"));
}

#[test]
fn a_place_in_the_past_is_gone_on_from() {
    for shards in SHARDS {
        let server = start(shards);
        let places: Vec<_> = (1..=5).map(|n| publish(&server, "kept.a", &n.to_string())).collect();
        let url = format!("ws://{}", server.addr);
        let subscribed = |since: &str, count: &str| {
            run(&["subscribe", "kept.a", "--url", &url, "--since", since, "--count", count, "--timeout", "10s"])
        };
        let since = places[2].replace(' ', ":");
        assert_eq!(subscribed(&since, "2"), (Some(0), "4\n5\n".into(), String::new()));
        assert_eq!(subscribed("0:0", "5").1, "1\n2\n3\n4\n5\n");
        publish(&server, "t", "1");
        let lost = run(&["subscribe", "t", "--url", &url, "--since", "0:0", "--timeout", "300ms"]);
        assert!(lost.0 == Some(0) && lost.2.contains("t: nothing of the past is kept"), "{lost:?}");
        let mut reader = server.ws("/raw/t");
        publish(&server, "t", "1");
        reader.expect_text("1");
        let lost = run(&["subscribe", "t", "--url", &url, "--since", "0:0", "--timeout", "300ms"]);
        let note = "t: messages 1 to 2 are lost: nothing of the past is kept";
        assert!(lost.0 == Some(0) && lost.2.contains(note), "{lost:?}");
    }
}

#[test]
fn time_and_numbers_end_it() {
    let server = start(1);
    let url = format!("ws://{}", server.addr);
    let (code, out, err) = run(&["subscribe", "t", "--url", &url, "--timeout", "100ms"]);
    assert_eq!((code, &*out, &*err), (Some(0), "", ""));
    let (code, _, err) = run(&["subscribe", "t", "--url", &url, "--timeout", "100ms", "--count", "1"]);
    assert!(code == Some(1) && err.contains("time was over"), "{err}");
    let (code, _, err) = run(&["subscribe", "t", "", "--url", &url]);
    assert!(code == Some(1) && err.contains("bad_topic"), "{err}");
    let (code, _, err) = run(&["subscribe", "t", "--url", &format!("ws://{}", server.admin)]);
    assert!(code == Some(3) && err.contains("no WebSocket"), "{err}");
}

#[test]
fn only_where_topics_are_subscribed_to_is_anything_sent() {
    let server = start(1);
    let mut reader = server.ws("/raw/t");
    for path in ["/raw/t", "/raw", "/raw/t?room=x", "/sse", "/publish", "/backend?key=x", "/health"] {
        let (code, out, err) = run(&["subscribe", "t", "--url", &format!("ws://{}{path}", server.addr)]);
        let wanted = format!("ws://{}/?room=", server.addr);
        assert!(code == Some(2) && out.is_empty() && err.contains(&wanted), "{path}: {code:?} {err}");
    }
    publish(&server, "t", "1");
    reader.expect_text("1");
    let (code, _, err) = run(&["subscribe", "t", "--url", &server.addr.to_string(), "--timeout", "100ms"]);
    assert_eq!((code, &*err), (Some(0), ""), "the scheme may be left out");
}

/// Sends a word to whoever connects, if it is given one.
struct Greets(&'static str);

impl Handler for Greets {
    fn open(&mut self, conn: &mut Connection<'_>) {
        if !self.0.is_empty() {
            conn.send(self.0);
        }
    }

    fn message(&mut self, _: &mut Connection<'_>, _: Message<'_>) {}
}

#[test]
fn nothing_is_sent_before_the_welcome() {
    let server = Server::new(config(1)).route("/dumb", || Greets("")).route("/other", || Greets("hello"));
    let server = TestServer::serve(server);
    for (path, said) in [("/dumb", "no welcome has come within"), ("/other", "no welcome; is --url right?")] {
        let (code, out, err) = run(&["subscribe", "t", "--url", &format!("ws://{}{path}", server.addr)]);
        assert!(code == Some(3) && out.is_empty() && err.contains(said), "{path}: {code:?} {err}");
    }
    assert_eq!(server.metric("messages_received_total"), 0);
}

#[test]
fn the_options_of_one_command_lead_to_the_others() {
    for (args, right) in
        [(["publish", "t", "1", "--url", "ws://x"], "--admin"), (["subscribe", "t", "u", "--admin", "x"], "--url")]
    {
        let (code, _, err) = run(&args);
        assert!(code == Some(2) && err.contains("unexpected argument") && err.contains(right), "{err}");
    }
}

#[test]
fn signals_end_it_and_whoever_does_not_read_too() {
    let server = start(1);
    let mut subscriber = Subscriber::start(&server, &["t"], 2);
    publish(&server, "t", "1");
    subscriber.line();
    let status = Command::new("kill").args(["-INT", &subscriber.child.id().to_string()]).status();
    assert!(status.expect("there is kill(1)").success());
    assert_eq!(subscriber.end().0, None, "it died of it");
    server.wait_idle();
    let mut subscriber = Subscriber::start(&server, &["t"], 2);
    let devnull = std::fs::File::open("/dev/null").expect("it is there");
    subscriber.out = BufReader::new(std::os::fd::OwnedFd::from(devnull).into());
    publish(&server, "t", "1");
    assert_eq!(subscriber.end(), (Some(0), String::new()));
}

#[test]
fn a_connection_that_breaks_is_made_anew_where_it_was() {
    let server = start(2);
    let mut subscriber = Subscriber::start(&server, &["kept.a", "--count", "3"], 2);
    publish(&server, "kept.a", "1");
    assert_eq!(subscriber.line(), "1");
    let rooms = scrape_rooms(&server);
    let client = rooms["members"][0].as_str().expect("it is in a room of its own").to_owned();
    let disconnected = api(&server, "/disconnect", &format!(r#"{{"clientId":"{client}","code":1000}}"#));
    assert!(disconnected.starts_with("HTTP/1.0 200") || disconnected.starts_with("HTTP/1.1 200"), "{disconnected}");
    publish(&server, "kept.a", "2");
    publish(&server, "kept.a", "3");
    assert_eq!([subscriber.line(), subscriber.line()], ["2", "3"]);
    let (code, err) = subscriber.end();
    assert!(code == Some(0) && err.contains("closed with 1000") && err.lines().count() == 1, "{err}");
    drop(server);

    // A server that is started again has forgotten all.
    let first = start(2);
    let mut subscriber = Subscriber::start(&first, &["kept.a", "--count", "2"], 2);
    publish(&first, "kept.a", "1");
    assert_eq!(subscriber.line(), "1");
    let mut again = config(2);
    again.listen = first.addr;
    drop(first);
    let second = TestServer::start(again);
    second.wait_subscriptions(2);
    publish(&second, "kept.a", "2");
    assert_eq!(subscriber.line(), "2");
    let (code, err) = subscriber.end();
    assert!(code == Some(0) && err.contains("begun it anew"), "{err}");
}

fn api(server: &TestServer, path: &str, body: &str) -> String {
    let mut client = common::Client::connect(server.admin.parse().expect("an address"));
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    client.send(request.as_bytes());
    let response = client.response();
    response.head + &response.body
}

/// Who is in the one room that there is.
fn scrape_rooms(server: &TestServer) -> serde_json::Value {
    let ask = |target: &str| {
        let mut client = common::Client::connect(server.admin.parse().expect("an address"));
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        serde_json::from_str::<serde_json::Value>(&client.response().body).expect("JSON")
    };
    let rooms = ask("/rooms?prefix=uproar-subscribe-");
    ask(&format!("/presence?room={}", rooms["rooms"][0]["room"].as_str().expect("a room")))
}
