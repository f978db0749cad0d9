//! Who is let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::application::Reply;
use super::common::SHARDS;
use super::common::client::speak_early;
use super::*;

#[test]
fn who_the_application_lets_in_is_who_it_says() {
    for shards in SHARDS {
        let expires = now() + 60_000;
        let application = Application::start(move |_| Reply::ok(json!({"user": "ann", "expires": expires})));
        let server = asking(&application, CONNECT, shards, |config| {
            config.auth_hook_secret = Some(uproar::config::Secret::new("0123456789abcdef"));
        });
        let fields = "Cookie: session=s; a=b\r\nUser-Agent: test\r\nX-Other: 1\r\n";
        let mut client = knock(server.addr, "/lobby?access_token=opaque", fields).expect("it is let in");
        let welcome = next(&mut client);
        assert_eq!((&welcome["user"], welcome["expires"].as_u64()), (&json!("ann"), Some(expires)));
        let expected = json!({
            "event": "connect", "clientId": welcome["clientId"], "room": "lobby", "topics": ["lobby"],
            "address": "127.0.0.1", "path": "/lobby", "token": "opaque",
            "headers": {"cookie": "session=s; a=b", "user-agent": "test"},
            "authorization": "Bearer 0123456789abcdef",
        });
        assert_eq!(application.asked(), [expected]);
        assert_eq!(ask(&mut client, &subscribe(&["a"]))["topics"][0]["ok"], true);
        assert_eq!(application.asked().len(), 1, "it is asked about who comes alone");
        assert_eq!((words(&server, "ok"), server.metric("auth_hook_waiting")), (1, 0));
    }
}

#[test]
fn every_way_in_is_asked_about() {
    let application = Application::kind();
    let server = asking(&application, CONNECT, 3, |_| {});
    assert_eq!(status(server.addr, "/raw/a%20b"), 101);
    assert_eq!(request(server.addr, "POST /publish", r#"{"topic":"t","data":1}"#).status, 200);
    let mut stream = Client::connect(server.addr);
    stream.send(b"GET /sse?topic=b&topic=a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(stream.head().starts_with("HTTP/1.1 200"));
    let topics: Vec<_> = application.asked().iter().map(|question| question["topics"].clone()).collect();
    assert_eq!(topics, [json!(["a b"]), json!([]), json!(["a", "b"])]);
    // What is not for clients is not.
    assert_eq!(request(server.addr, "GET /health", "").status, 200);
    assert_eq!(request(server.addr, "OPTIONS /publish", "").status, 200);
    // Nor is what cannot be.
    assert_eq!(status(server.addr, "/?room=%00"), 400);
    assert_eq!(application.asked().len(), 3);
}

#[test]
fn who_is_refused_is_refused_with_the_same_status() {
    let application =
        Application::start(|question| Reply::status(if question["path"] == "/raw/a" { 401 } else { 403 }));
    let server = asking(&application, CONNECT, 1, |_| {});
    let refused = knock(server.addr, "/raw/a", "").err().expect("it is refused");
    assert_eq!((refused.status, refused.field("WWW-Authenticate")), (401, Some("Bearer")));
    assert_eq!(status(server.addr, "/raw/b"), 403);
    let posted = request(server.addr, "POST /publish", r#"{"topic":"t","data":1}"#);
    assert_eq!((posted.status, posted.field("Access-Control-Allow-Origin")), (403, Some("*")));
    assert_eq!(words(&server, "refused"), 3);
    server.wait_idle();
}

#[test]
fn whatever_is_no_answer_is_no_permission() {
    let elsewhere = Application::kind();
    let application = Application::kind();
    let server = asking(&application, CONNECT, 1, |_| {});
    let text = |body: &str| Reply { body: body.into(), ..Reply::status(200) };
    let mut failed = 0;
    for reply in [
        Reply::status(500),
        Reply::status(404),
        Reply { location: Some(elsewhere.url.clone()), ..Reply::status(307) },
        text("<html>welcome</html>"),
        text("[]"),
        text("{\"user\":\"ann\"} and more"),
        text("{\"user\":\"\"}"),
        text("{\"publsh\":[]}"),
        text(&json!({"user": "a".repeat(70_000)}).to_string()),
    ] {
        application.decide(move |_| reply.clone());
        let refused = knock(server.addr, "/", "").err().expect("it is refused");
        assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
        failed += 1;
        assert_eq!(words(&server, "failed"), failed);
        // An answer between them, so that it is asked again; one without words allows.
        application.decide(|_| Reply::status(204));
        assert_eq!(status(server.addr, "/"), 101);
    }
    assert_eq!(elsewhere.asked().len(), 0, "what clients prove themselves by goes nowhere else");
}

#[test]
fn an_answer_that_comes_too_late_is_none() {
    let application = Application::start(|_| Reply::ok(json!({})).after(2000));
    let server = asking(&application, CONNECT, 1, |config| config.auth_hook_timeout = Duration::from_millis(100));
    assert_eq!(status(server.addr, "/"), 503);
    assert_eq!((words(&server, "timeout"), words(&server, "failed")), (1, 0));
}

#[test]
fn what_comes_behind_the_handshake_waits_with_it() {
    let application = Application::start(|_| Reply::ok(json!({})).after(20));
    let server = asking(&application, CONNECT, 3, |_| {});
    (0..20).for_each(|n| speak_early(server.addr, "", &format!("early {n}")));
    server.wait_idle();
}

#[test]
fn the_lists_of_an_answer_hold_for_the_connection() {
    let lists = json!({"rooms": ["lobby"], "subscribe": ["a*"], "publish": [], "presence": [], "history": []});
    let application = Application::start(move |_| Reply::ok(lists.clone()));
    let server = asking(&application, CONNECT, 1, |_| {});
    assert_eq!((status(server.addr, "/raw/a"), status(server.addr, "/raw/b")), (101, 403));
    assert_eq!(status(server.addr, "/?room=other"), 403);
    let (mut client, _) = enter(server.addr, "/lobby");
    let answer = ask(&mut client, &subscribe(&["abc", "b"]));
    assert_eq!((&answer["topics"][0]["ok"], &answer["topics"][1]["error"]), (&json!(true), &json!("not_allowed")));
    assert_eq!(ask(&mut client, &publish("abc", 1))["code"], "not_allowed");
    assert_eq!(ask(&mut client, &json!({"type": "presence"}))["code"], "not_allowed");
}

#[test]
fn a_connection_ends_when_the_application_says() {
    let expires = Arc::new(AtomicU64::new(0));
    let said = expires.clone();
    let application = Application::start(move |_| {
        said.store(now() + 1000, Ordering::Relaxed);
        Reply::ok(json!({"expires": said.load(Ordering::Relaxed)}))
    });
    let server = asking(&application, CONNECT, 1, |_| {});
    let (mut client, _) = enter(server.addr, "/");
    let begin = std::time::Instant::now();
    assert_eq!(client.close_code(), 1008);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(now() >= expires.load(Ordering::Relaxed), "not before");
    client.close(1008);
    wait_until("it is counted", || server.metric("connections_closed_total reason=\"expired\"") == 1);
    application.decide(|_| Reply::ok(json!({"expires": now() - 1})));
    assert_eq!(status(server.addr, "/"), 401, "it is over before it begins");
}

#[test]
fn so_many_are_asked_about_at_a_time_and_so_many_wait() {
    let application = Application::start(|_| Reply::ok(json!({})).after(50));
    let server = asking(&application, CONNECT, 3, |config| config.auth_hook_concurrency = 2);
    let mut clients: Vec<_> = (0..60).map(|_| Client::connect(server.addr)).collect();
    for client in &mut clients {
        client.send(handshake("/raw/t", "").as_bytes());
    }
    let heads: Vec<_> = clients.iter_mut().map(Client::head).collect();
    let let_in = heads.iter().filter(|head| head.starts_with("HTTP/1.1 101")).count();
    let busy = heads.iter().filter(|head| head.starts_with("HTTP/1.1 503") && head.contains("Retry-After: 1")).count();
    assert_eq!(let_in + busy, 60);
    // 2 are under way and 32 wait; some more as places become free.
    assert!((32..60).contains(&let_in), "{let_in}");
    assert_eq!(application.most(), 2);
    assert_eq!((words(&server, "ok"), words(&server, "busy")), (let_in as u64, busy as u64));
}

#[test]
fn those_that_are_asked_about_topics_alone_are_so_at_the_door_too() {
    let application = Application::start(|question| match question["topics"][0].as_str() {
        Some("secret") => Reply::status(403),
        Some("half") => Reply::ok(json!({"subscribe": ["other"]})),
        _ => Reply::ok(json!({"user": "ann"})),
    });
    let server = asking(&application, SUBSCRIBE, 1, |_| {});
    for (path, expected) in
        [("/raw/a", 101), ("/raw/secret", 403), ("/secret", 403), ("/raw/half", 403), ("/half", 403)]
    {
        assert_eq!(status(server.addr, path), expected, "{path}");
    }
    let (_client, welcome) = enter(server.addr, "/lobby");
    assert_eq!(welcome["user"], "ann");
    assert!(application.asked().iter().all(|question| question["event"] == "subscribe"));
    let asked = application.asked().len();
    assert_eq!(request(server.addr, "POST /publish", r#"{"topic":"t","data":1}"#).status, 200);
    assert_eq!(application.asked().len(), asked, "a publication subscribes to nothing");
}

/// A proxy sends the requests of many over one connection.
#[test]
fn what_one_request_was_granted_is_not_for_the_next() {
    let application = Application::start(|question| match question["token"].as_str() {
        Some("ann") => Reply::ok(json!({"user": "ann", "subscribe": ["a"]})).after(20),
        _ => Reply::status(403),
    });
    let both = HookEvents { connect: false, subscribe: true, publish: true };
    let server = asking(&application, both, 1, |config| config.auth_hook_concurrency = 1);
    let head = |path: &str, fields: &str| format!("{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let post = |token: &str| {
        let body = r#"{"topic":"t","data":1}"#;
        head("POST /publish", &format!("{token}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()))
            + body
    };
    let ann = "Authorization: Bearer ann\r\n";
    for request in [post(""), handshake("/raw/a", ""), head("GET /sse?topic=a", "")] {
        let mut connection = Client::connect(server.addr);
        connection.send(head("GET /sse?topic=secret", ann).as_bytes());
        assert_eq!(connection.response().status, 403, "it is not among her topics, and the connection is kept");
        connection.send(request.as_bytes());
        assert_eq!(connection.response().status, 403, "{request}");
    }
    // Refused for another reason than what the application says.
    let mut others: Vec<_> = (0..30).map(|_| Client::connect(server.addr)).collect();
    others.iter_mut().for_each(|other| other.send(handshake("/raw/a", ann).as_bytes()));
    let mut connection = Client::connect(server.addr);
    connection.send(post(ann).as_bytes());
    assert_eq!(connection.response().status, 503, "there are too many questions");
    others.iter_mut().for_each(|other| drop(other.head()));
    connection.send(post("").as_bytes());
    assert_eq!(connection.response().status, 403);
}

#[test]
fn whoever_goes_while_the_application_thinks_leaves_nothing_behind() {
    let application = Application::start(|_| Reply::ok(json!({})).after(200));
    let server = asking(&application, CONNECT, 3, |_| {});
    for _ in 0..10 {
        let mut client = Client::connect(server.addr);
        client.send(handshake("/raw/t", "").as_bytes());
        client.reset();
    }
    wait_until("all is answered", || application.asked().len() == 10 && server.metric("auth_hook_waiting") == 0);
    server.wait_idle();
    wait_until("nothing is kept", || server.metric("memory_bytes part=\"partial_messages\"") == 0);
}
