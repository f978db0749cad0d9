//! Memory: histories and backlogs that are filled until load is shed. The healthy are the last whom that concerns.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::common::client::{BINARY, FIN, frame, masked_header};
use super::common::{Client, Process};
use super::crowd::end_of;

const MAX: u64 = 128 << 20;

/// Sends until something is counted, for some seconds at most; fast at first, then so slowly that no step is passed over.
fn fill(server: &Process, counter: &str, mut send: impl FnMut(usize)) {
    let begin = Instant::now();
    for round in 0.. {
        send(round);
        let resident = server.resident();
        assert!(resident < MAX + MAX / 4, "{resident} bytes are resident");
        if resident > MAX / 10 * 7 {
            if server.metric(counter) > 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "in vain: {counter}");
    }
}

#[test]
fn histories_without_end() {
    let args = ["--max-memory=128MiB", "--history=flood* count=100000 age=4s bytes=64MiB", "--history-memory=1GiB"];
    let (after, refused) = Arena::start(&args).attack("histories until memory is short", |server| {
        let paths = [0, 1, 2, 3].map(|n| format!("/raw/flood-{n}?self=false"));
        let mut publishers = paths.map(|path| server.ws(&path));
        let message = frame(BINARY, &[7; 48 << 10]);
        let mut refused = 0;
        fill(server, "history_evicted_total reason=\"max_memory\"", |_| {
            publishers.iter_mut().for_each(|publisher| publisher.send(&message));
            if server.resident() > MAX / 10 * 7 {
                let mut newcomer = Client::connect(server.addr);
                newcomer.send_anyway(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                refused += usize::from(newcomer.response().status == 503);
            }
        });
        refused
    });
    assert!(refused > 0, "newcomers are refused first");
    assert_eq!(after.rose("connections_refused_total reason=\"memory\""), refused as u64);
    assert_eq!(after.rose("connections_closed_total reason=\"memory\""), 0);
}

#[test]
fn backlogs_without_end() {
    let args = ["--max-memory=128MiB", "--backlog=256MiB", "--send-buffer=4KiB", "--close-timeout=500ms"];
    let (after, _) = Arena::start(&args).attack("backlogs until memory is short", |server| {
        let paths: Vec<String> = (0..6).map(|n| format!("/raw/flood-{n}")).collect();
        let _stalled: Vec<TcpStream> = paths.iter().map(|path| Client::ws_small(server.addr, path).stream).collect();
        let mut publishers: Vec<TcpStream> =
            paths.iter().map(|path| server.ws(&format!("{path}?self=false")).stream).collect();
        let message = frame(BINARY, &[7; 16 << 10]);
        fill(server, "messages_dropped_total reason=\"memory\"", |_| {
            publishers.iter_mut().for_each(|publisher| publisher.write_all(&message).expect("it is read in the end"));
            publishers[3].write_all(&message.repeat(3)).expect("it is read in the end");
        });
    });
    assert!(after.rose("connections_closed_total reason=\"memory\"") >= 1);
}

/// Incomplete bodies and messages, as many as there may be.
#[test]
fn bodies_that_stop() {
    let args = ["--max-message=16MiB", "--head-timeout=2s"];
    let (after, _) = Arena::start(&args).attack("bodies of 16 MB that stop after 1 MB, 60", |server| {
        let head = "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 16000000\r\n\r\n";
        let part = vec![b' '; 1 << 20];
        let mut clients: Vec<TcpStream> = (0..60).map(|_| Client::connect(server.addr).stream).collect();
        for client in &mut clients {
            client.write_all(head.as_bytes()).and_then(|()| client.write_all(&part)).expect("it is read");
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(server.resident() < 160 << 20, "{} bytes for 60 MB that came", server.resident());
        clients.iter_mut().for_each(|client| _ = end_of(client));
    });
    after.rises("connections_closed_total reason=\"head_timeout\"", 60);
}

/// Faster than anybody looks at the memory of the process: of what is incomplete, no more than a quarter of it is kept.
#[test]
fn messages_that_are_begun_until_memory_is_short() {
    let (after, _) =
        Arena::start(&["--max-memory=128MiB"]).attack("messages of 1 MB that are begun, 180 MB", |server| {
            let mut clients: Vec<Client> = (0..200).map(|_| server.ws("/raw/hogs")).collect();
            let begin = [masked_header(FIN | BINARY, 1 << 20), vec![7; 48 << 10]].concat();
            for client in &mut clients {
                client.send_anyway(&begin);
                (0..7).for_each(|_| client.send_anyway(&[7; 120 << 10]));
                let resident = server.resident();
                assert!(resident < MAX / 10 * 8, "{resident} bytes are resident");
            }
        });
    assert!(after.rose("connections_closed_total reason=\"incomplete\"") >= 100);
    assert_eq!(after.rose("connections_closed_total reason=\"memory\""), 0);
}
