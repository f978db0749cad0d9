//! Connections: too many, too fast, from one address; and those that are gone before they are there.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::arena::Arena;
use super::common::client::handshake;
use super::common::{Client, wait_until};
use super::crowd::{End, connect, ends, for_a_while, push};

const SECOND: Duration = Duration::from_secs(1);
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";

/// Where attackers come from, that the healthy are not.
const ELSEWHERE: &str = "127.0.0.2";

fn from_elsewhere(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| Client::connect_from(ELSEWHERE, addr).stream).collect()
}

/// How many are told what refuses them, and how many are closed without a word; each asks for something.
fn turned_away(streams: &mut [TcpStream], status: u16) -> (usize, usize) {
    streams.iter_mut().for_each(|stream| _ = push(stream, HEALTH));
    let ends = ends(streams);
    let count = |wanted| ends.iter().find(|(end, _)| *end == wanted).map_or(0, |(_, count)| *count);
    (count(End::Status(status)), count(End::Silent))
}

/// Of those who are turned away at one time, each shard tells 64 why. So many are told at least.
const TOLD: usize = 64;

#[test]
fn more_connections_of_one_address_than_it_may_have() {
    let args = ["--address-connections=100"];
    let (after, (told, closed)) = Arena::start(&args).attack("1000 connections of one address", |server| {
        let before = server.metric("connections");
        let _held = from_elsewhere(server.addr, 100);
        wait_until("they are in", || server.metric("connections") == before + 100);
        turned_away(&mut from_elsewhere(server.addr, 900), 429)
    });
    assert!(told >= TOLD && told + closed == 900, "{told} were told, {closed} closed");
    assert_eq!(after.rose("connections_refused_total reason=\"address_connections\""), 900);
}

#[test]
fn connections_of_one_address_that_come_too_fast() {
    let args = ["--address-connect-rate=20 burst=100", "--keep-alive-timeout=200ms"];
    let (after, (told, closed, seconds)) =
        Arena::start(&args).attack("1000 connections of one address at once", |server| {
            let begin = std::time::Instant::now();
            let mut all = from_elsewhere(server.addr, 1000);
            let seconds = begin.elapsed().as_secs() as usize + 1;
            let (told, closed) = turned_away(&mut all, 429);
            (told, closed, seconds)
        });
    // Those who are let in are answered, and closed when they ask for nothing more.
    assert!(told >= TOLD && (900 - 20 * seconds..=900).contains(&(told + closed)), "{told}, {closed} in {seconds} s");
    assert_eq!(after.rose("connections_refused_total reason=\"address_rate\""), (told + closed) as u64);
}

#[test]
fn more_connections_than_there_is_room_for() {
    let (after, (told, closed)) =
        Arena::start(&["--max-connections=200"]).attack("600 connections, room for 200", |server| {
            // 21 are the healthy ones'.
            let _held: Vec<TcpStream> = (0..179).map(|_| server.ws("/raw/t").stream).collect();
            turned_away(&mut connect(server.addr, 421), 503)
        });
    assert!(told >= TOLD && told + closed == 421, "{told} were told, {closed} closed");
    assert_eq!(after.rose("connections_refused_total reason=\"full\""), 421);
}

#[test]
fn connections_that_are_reset_at_once() {
    let (after, made) = Arena::start(&[]).attack("connect and reset, all that goes", |server| {
        let mut made = 0;
        for_a_while(SECOND * 3 / 2, Duration::ZERO, |_| {
            for _ in 0..10 {
                Client::connect(server.addr).reset();
                made += 1;
            }
        });
        made
    });
    assert!(made > 500, "{made} are no storm");
    after.rises("connections_accepted_total", made / 2);
}

#[test]
fn handshakes_that_are_cut_anywhere() {
    let (after, made) = Arena::start(&[]).attack("handshakes cut anywhere and reset, all that goes", |server| {
        let head = handshake("/?room=cut", "");
        let mut made = 0;
        for_a_while(SECOND * 3 / 2, Duration::ZERO, |round| {
            for n in 0..10 {
                let mut client = Client::connect(server.addr);
                client.send_anyway(&head.as_bytes()[..(round * 31 + n * 17) % (head.len() + 1)]);
                client.reset();
                made += 1;
            }
        });
        made
    });
    assert!(made > 500, "{made} are no storm");
    after.rises("connections_accepted_total", made / 2);
}

#[test]
fn joins_and_leaves_in_one_room() {
    let (after, made) = Arena::start(&[]).attack("coming to one room and going, all that goes", |server| {
        let mut watchers: Vec<Client> = (0..10).map(|_| Client::ws(server.addr, "/?room=door")).collect();
        let mut made = 0;
        for_a_while(SECOND * 3 / 2, Duration::ZERO, |_| {
            Client::ws(server.addr, "/?room=door").reset();
            made += 1;
        });
        watchers.iter_mut().for_each(|client| client.close(1000));
        made
    });
    assert!(made > 100, "{made} are no crowd");
    // Beyond presence_rate they are told together.
    assert!(after.rose("presence_notices_total") < 2 * made);
}
