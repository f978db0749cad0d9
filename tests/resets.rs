//! Clients that vanish, at every stage of a connection: nothing is left of them.

mod common;

use common::client::{CLOSE, TEXT, close_payload, frame, handshake, masked_header};
use common::{Client, Process, wait_until};

/// Connections of the process; a slot or a count that leaks is missed after a few hundred cycles.
const PLACES: usize = 16;
const CYCLES: usize = 400;

type Stage = fn(&Process) -> Client;

fn connected(server: &Process) -> Client {
    Client::connect(server.addr)
}

fn amid_head(server: &Process) -> Client {
    let mut client = connected(server);
    client.send(&handshake("/raw/gone", "").as_bytes()[..40]);
    client
}

fn before_answer(server: &Process) -> Client {
    let mut client = connected(server);
    client.send(handshake("/raw/gone", "").as_bytes());
    client
}

fn open(server: &Process) -> Client {
    server.ws("/raw/gone")
}

fn amid_header(server: &Process) -> Client {
    let mut client = open(server);
    client.send(&masked_header(TEXT, 1000)[..3]);
    client
}

fn amid_payload(server: &Process) -> Client {
    let mut client = open(server);
    client.send(&frame(TEXT, &[b'x'; 5000])[..3000]);
    client
}

fn with_echo_unread(server: &Process) -> Client {
    let mut client = open(server);
    client.send(&frame(TEXT, &[b'x'; 5000]));
    client
}

fn closing(server: &Process) -> Client {
    let mut client = open(server);
    client.send(&frame(CLOSE, &close_payload(1000, "")));
    client
}

/// The server has sent its close frame and FIN, and reads on to see ours.
fn lingering(server: &Process) -> Client {
    let mut client = open(server);
    client.send(b"\x81\x01x");
    assert_eq!(client.close_code(), 1002);
    client
}

fn refused(server: &Process) -> Client {
    let mut client = connected(server);
    client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client
}

const STAGES: [Stage; 10] = [
    connected,
    amid_head,
    before_answer,
    open,
    amid_header,
    amid_payload,
    with_echo_unread,
    closing,
    lingering,
    refused,
];

fn wait_empty(server: &Process) {
    wait_until("all connections are forgotten", || server.metric("connections") == 0);
    for gauge in [
        "connections kind=\"websocket\"",
        "subscriptions",
        "topics",
        "backlogged_connections",
        "memory_bytes part=\"frames\"",
    ] {
        wait_until(&format!("{gauge} is 0"), || server.metric(gauge) == 0);
    }
}

fn vanish(shards: u32, end: fn(Client)) {
    let server = Process::start(&[&format!("--shards={shards}"), &format!("--max-connections={PLACES}")]);
    open(&server).reset();
    wait_empty(&server);
    let descriptors = server.descriptors();
    let mut accepted = server.metric("connections_accepted_total");
    for stage in STAGES {
        for _ in 0..CYCLES / PLACES {
            (0..PLACES).for_each(|_| end(stage(&server)));
            accepted += PLACES as u64;
            wait_until("all are accepted", || server.metric("connections_accepted_total") == accepted);
            wait_until("their places are free", || server.metric("connections") == 0);
        }
    }
    wait_empty(&server);
    // Those of the admin listener come and go.
    wait_until("no descriptor has leaked", || server.descriptors() <= descriptors);
    assert_eq!(server.metric("connections_refused_total"), 0);
    let mut client = open(&server);
    client.text("as on the first day");
    client.expect_text("as on the first day");
}

#[test]
fn a_reset_at_any_stage_leaves_nothing_behind_1() {
    vanish(1, Client::reset);
}

#[test]
fn a_reset_at_any_stage_leaves_nothing_behind_3() {
    vanish(3, Client::reset);
}

#[test]
fn a_dropped_connection_leaves_nothing_behind() {
    vanish(1, drop);
}

#[test]
fn a_reset_with_a_backlog_leaves_nothing_behind() {
    for shards in ["--shards=1", "--shards=3"] {
        let server = Process::start(&[shards, "--max-connections=16", "--backlog=16MiB"]);
        for end in [Client::reset, drop] {
            for _ in 0..10 {
                let stalled: Vec<_> = (0..4).map(|_| Client::ws_small(server.addr, "/raw/full?self=false")).collect();
                let mut publisher = server.ws("/raw/full?self=false");
                wait_until("all are blocked", || {
                    publisher.send(&frame(TEXT, &[b'x'; 500_000]));
                    server.metric("backlogged_connections") == 4
                });
                stalled.into_iter().for_each(end);
                wait_until("the stalled are gone", || server.metric("connections") == 1);
                end(publisher);
                wait_empty(&server);
            }
        }
        let lost = server.metric("messages_dropped_total reason=\"connection_ended\"");
        assert!(lost >= 2 * 10 * 4, "{lost} messages were not delivered");
    }
}
