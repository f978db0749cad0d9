//! Without authentication, strangers are kept out unless they are wanted.

use std::process::Stdio;

use uproar::{Config, Connection, Handler, Message, Server, StartError};

use super::common::{Client, Process, TestServer, config};

struct Echo;

impl Handler for Echo {
    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        conn.send(message);
    }
}

fn everywhere() -> Config {
    let mut config = config(1);
    config.listen = ([0, 0, 0, 0], 0).into();
    config
}

#[test]
fn a_listener_for_everybody_is_refused_with_what_to_do() {
    for args in [&["--listen=0.0.0.0:0"][..], &["--listen=[::]:0"], &["--check", "--listen=192.0.2.1:80"]] {
        let output = Process::command(args).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b""[..]), "{args:?}: {said}");
        for part in ["listen (", "not all clients are authenticated", "behind a proxy", "--insecure-open"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
    assert!(matches!(Server::new(everywhere()).dialects().start(), Err(StartError::Config(_))));
}

#[test]
fn a_listener_for_everybody_may_be_meant() {
    let address = ([0, 0, 0, 0], 0).into();
    let server = Process::start_at(address, &["--insecure-open", "--shards=1"]);
    let mut client = Client::ws(([127, 0, 0, 1], server.addr.port()).into(), "/raw/t");
    client.text("open");
    client.expect_text("open");
}

#[test]
fn an_embedders_handlers_look_for_themselves() {
    let server = TestServer::serve(Server::new(everywhere()).route("/echo", || Echo));
    let mut client = Client::ws(([127, 0, 0, 1], server.addr.port()).into(), "/echo");
    client.text("hello");
    client.expect_text("hello");
}
