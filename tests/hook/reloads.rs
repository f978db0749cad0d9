//! A hook that comes, changes and goes while the server runs.

use super::application::Reply;
use super::*;

#[test]
fn who_is_in_is_asked_about_by_the_new_rules() {
    let application = Application::start(|_| Reply::status(403));
    let server = TestServer::start(config(3));
    let (mut client, _) = enter(server.addr, "/a");
    assert_eq!(ask_ack(&mut client), "ack");
    let mut config = server.running().config().clone();
    config.auth_hook = Some(application.url.clone());
    config.auth_hook_events = HookEvents { connect: true, publish: true, subscribe: false };
    let report = server.running().reload(config.clone()).expect("it can be taken up");
    assert_eq!(report.changed.len(), 2, "{report:?}");
    assert_eq!(ask(&mut client, &publish("t", 1))["code"], "not_allowed");
    assert_eq!(status(server.addr, "/"), 403);
    // Another application, which is asked in its stead.
    let kind = Application::kind();
    config.auth_hook = Some(kind.url.clone());
    server.running().reload(config.clone()).expect("it can be taken up");
    assert_eq!(ask_ack(&mut client), "ack");
    assert_eq!(status(server.addr, "/"), 101);
    assert_eq!((application.asked().len(), kind.asked().len()), (2, 2));
    config.auth_hook = None;
    server.running().reload(config).expect("it can be taken up");
    assert_eq!(ask_ack(&mut client), "ack");
    assert_eq!(kind.asked().len(), 2, "nobody is asked any more");
}

#[test]
fn a_question_that_is_under_way_is_answered_all_the_same() {
    let application = Application::start(|_| Reply::ok(json!({})).after(300));
    let server = asking(&application, PUBLISH, 1, |_| {});
    let (mut client, _) = enter(server.addr, "/a");
    client.text(&publish("t", 1).to_string());
    client.text(r#"{"type":"ping"}"#);
    wait_until("it is asked", || application.asked().len() == 1);
    let mut config = server.running().config().clone();
    config.auth_hook = None;
    server.running().reload(config).expect("it can be taken up");
    assert_eq!(next(&mut client)["type"], "ack");
    assert_eq!(next(&mut client)["type"], "pong");
}

fn ask_ack(client: &mut Client) -> Value {
    ask(client, &publish("t", 1))["type"].clone()
}
