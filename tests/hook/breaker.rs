//! An application that fails again and again is left alone.

use std::time::Instant;

use super::application::Reply;
use super::common::{PATIENCE, scrape};
use super::*;

/// 0 closed, 1 half open, 2 open.
fn state(server: &TestServer) -> u64 {
    let text = scrape(&server.admin);
    let line = text.lines().find_map(|line| line.strip_prefix("uproar_auth_hook_breaker_state ")).expect("the gauge");
    line.parse().expect("a number")
}

#[test]
fn it_opens_for_longer_and_longer_answers_at_once_and_closes_after_a_probe() {
    let application = Application::kind();
    let server = asking(&application, HookEvents { publish: true, ..CONNECT }, 3, |_| {});
    let (mut inside, _) = enter(server.addr, "/alone");
    assert_eq!(state(&server), 0);
    application.decide(|_| Reply::status(500));
    // Five failures open it for 1 s, a probe that fails for 2 s, another for 4 s.
    wait_until("it is asked again and again", || {
        assert_eq!(status(server.addr, "/"), 503);
        application.asked().len() == 8
    });
    let times = application.times();
    let pauses = [times[6] - times[5], times[7] - times[6]];
    assert!(pauses[0] >= Duration::from_secs(1) && pauses[1] >= Duration::from_secs(2), "{pauses:?}");
    assert_eq!(state(&server), 2);
    let open = words(&server, "open");
    let refused = knock(server.addr, "/", "").err().expect("it is refused");
    let pause: u64 = refused.field("Retry-After").and_then(|pause| pause.parse().ok()).expect("a number");
    assert!(refused.status == 503 && (1..=4).contains(&pause), "{}", refused.head);
    assert_eq!(ask(&mut inside, &publish("t", 1))["code"], "busy");
    assert_eq!((application.asked().len(), words(&server, "open")), (8, open + 2));
    application.decide(|_| Reply::ok(json!({})));
    wait_until("it is asked again", || status(server.addr, "/") == 101);
    assert!(application.times()[8] - times[7] >= Duration::from_secs(4));
    assert_eq!(state(&server), 0);
    assert_eq!(ask(&mut inside, &publish("t", 1))["type"], "ack");
}

#[test]
fn an_application_that_is_not_there_is_no_permission_either() {
    let application = Application::kind();
    let url = application.url.clone();
    let server = asking(&application, CONNECT, 1, |_| {});
    assert_eq!(status(server.addr, "/"), 101);
    drop(application);
    let begin = Instant::now();
    while state(&server) != 2 {
        assert_eq!(status(server.addr, "/"), 503);
        assert!(begin.elapsed() < PATIENCE);
    }
    assert_eq!(words(&server, "failed"), 5, "{url}");
}

#[test]
fn refusals_are_answers() {
    let application = Application::start(|_| Reply::status(403));
    let server = asking(&application, CONNECT, 1, |_| {});
    for _ in 0..20 {
        assert_eq!(status(server.addr, "/"), 403);
    }
    assert_eq!((state(&server), words(&server, "refused")), (0, 20));
}
