//! On the real kernel, over loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::dial::Dial;
use super::token::{ConnId, Token};
use super::*;
use crate::hub::frame::{LogId, Span};
use crate::limits::{READ_BUFFER_BYTES, READ_BUFFERS};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(10);

/// One accept; every connection that is accepted asks for the next.
const ACCEPTING: [Op; 1] = [Op::Accept { seat: 0 }];

/// A ring with a listener, and what a shard keeps beside it.
struct Rig {
    ring: Ring,
    addr: SocketAddr,
    wake: Arc<WakeFd>,
    frames: Frames,
    ops: Vec<Op>,
    out: Vec<Completion>,
}

impl Rig {
    fn new(slots: u32, sizes: Sizes) -> Rig {
        let listener = sys::listen((Ipv4Addr::LOCALHOST, 0).into(), 1024, true).unwrap();
        let addr = listener.local_addr().unwrap();
        let wake = Arc::new(WakeFd::new().unwrap());
        let ring = Ring::with_sizes(Setup { slots, listeners: vec![listener], wake: wake.clone() }, sizes).unwrap();
        Rig { ring, addr, wake, frames: Frames::new(), ops: Vec::new(), out: Vec::new() }
    }

    /// A rig that accepts.
    fn accepting(slots: u32) -> Rig {
        let mut rig = Rig::new(slots, SIZES);
        rig.now(&ACCEPTING);
        rig
    }

    /// Submits, does not wait, drains: the completions of that one enter.
    fn now(&mut self, ops: &[Op]) -> Vec<Completion> {
        self.ops.extend_from_slice(ops);
        self.ring.enter(&mut self.ops, &self.frames, Wait::None).unwrap();
        assert!(self.ops.is_empty());
        self.ring.drain(&mut self.out);
        mem::take(&mut self.out)
    }

    /// Enters until there is a completion of the kind, and returns the first; forgets the others.
    fn await_kind(&mut self, kind: Kind) -> Completion {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.ring.enter(&mut self.ops, &self.frames, Wait::AtMost(SECOND.as_nanos() as u64)).unwrap();
            self.ring.drain(&mut self.out);
            if let Some(found) = mem::take(&mut self.out).into_iter().find(|c| c.token.kind == kind) {
                return found;
            }
        }
        panic!("no {kind:?} within {PATIENCE:?}");
    }

    /// Connects a client and accepts it.
    fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let accepted = self.await_kind(Kind::Accept);
        assert_eq!(self.ring.peer(accepted.token.conn.index as u16), client.local_addr().unwrap().ip());
        self.ops.push(Op::Accept { seat: accepted.token.conn.index as u16 });
        (client, conn(accepted.result))
    }

    fn span(&mut self, bytes: &[u8]) -> Span {
        let chunk = self.frames.alloc(bytes.len(), LogId::NONE);
        self.frames.append(chunk, &[bytes])
    }
}

fn conn(result: i32) -> ConnId {
    ConnId { index: u32::try_from(result).expect("a slot"), generation: 7 }
}

#[test]
fn what_a_client_sends_is_received_and_sent_back() {
    let mut rig = Rig::accepting(16);
    let (mut client, conn) = rig.connect();
    rig.now(&[Op::Watch(conn)]);
    for text in [&b"hello"[..], b"again"] {
        client.write_all(text).unwrap();
        let readable = rig.await_kind(Kind::Readable);
        assert_eq!((readable.token.conn, readable.more), (conn, true));
        let received = rig.now(&[Op::Receive { conn, buffer: 3 }]);
        let token = Token::new(Kind::Receive, conn);
        assert_eq!(received, [Completion { token, result: 5, more: false, buffer: 3 }]);
        assert_eq!(rig.ring.buffer(3, 5), text);

        let span = rig.span(text);
        assert_eq!(rig.now(&[Op::Send { conn, span }]), [], "a send that succeeds posts nothing");
        let mut echoed = [0; 5];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, text);
    }
}

/// Accepts a connection whose client does not read, and sends until the socket takes no more.
/// Returns the completions of each enter with two sends.
fn stall(rig: &mut Rig) -> (TcpStream, ConnId, Vec<Completion>, usize) {
    let (client, conn) = rig.connect();
    let span = rig.span(&vec![b'x'; 1 << 20]);
    let mut taken = 0;
    loop {
        let answer = rig.now(&[Op::Send { conn, span }]);
        match answer[..] {
            [] => taken += 1 << 20,
            _ => {
                taken += usize::try_from(answer[0].result).unwrap_or(0);
                return (client, conn, answer, taken);
            }
        }
        assert!(taken < 1 << 30, "the socket takes everything");
    }
}

#[test]
fn a_short_send_posts_its_count_and_a_full_socket_eagain_in_the_same_enter() {
    let mut rig = Rig::accepting(16);
    let (mut client, conn, short, taken) = stall(&mut rig);
    let [short] = short[..] else { panic!("{short:?}") };
    assert_eq!(short.token, Token::new(Kind::Send, conn));
    assert!((1..1 << 20).contains(&short.result), "{short:?}");

    let span = rig.span(b"more");
    let full = rig.now(&[Op::Send { conn, span }, Op::AwaitWritable(conn)]);
    let token = Token::new(Kind::Send, conn);
    assert_eq!(full, [Completion { token, result: -libc::EAGAIN, more: false, buffer: 0 }]);

    let mut bytes = vec![0; taken];
    client.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == b'x'));
    let writable = rig.await_kind(Kind::Writable);
    assert_eq!((writable.token.conn, writable.more), (conn, false));
    assert_eq!(rig.now(&[Op::Send { conn, span }]), []);
    client.read_exact(&mut bytes[..4]).unwrap();
    assert_eq!(&bytes[..4], b"more", "nothing of the refused send went out");
}

#[test]
fn a_receive_posts_in_the_same_enter_whatever_there_is() {
    let mut rig = Rig::accepting(16);
    let (mut client, conn) = rig.connect();
    let receive = Op::Receive { conn, buffer: READ_BUFFERS - 1 };
    let answer =
        |result| Completion { token: Token::new(Kind::Receive, conn), result, more: false, buffer: READ_BUFFERS - 1 };
    assert_eq!(rig.now(&[receive]), [answer(-libc::EAGAIN)]);

    client.write_all(&vec![1; 2 * READ_BUFFER_BYTES]).unwrap();
    let mut left = 2 * READ_BUFFER_BYTES;
    while left > 0 {
        let [completion] = rig.now(&[receive])[..] else { panic!("a receive posts once") };
        if completion.result == -libc::EAGAIN {
            std::thread::yield_now();
        } else {
            assert_eq!(completion, answer(completion.result));
            left -= usize::try_from(completion.result).unwrap();
        }
    }

    drop(client);
    rig.ops.push(Op::Watch(conn));
    rig.await_kind(Kind::Readable);
    assert_eq!(rig.now(&[receive]), [answer(0)], "the end of the stream");
}

#[test]
fn a_batch_larger_than_the_submission_queue_is_submitted_whole_and_in_order() {
    let mut rig = Rig::new(16, Sizes { submissions: 8, completions: 4096 });
    rig.now(&ACCEPTING);
    let (mut client, conn) = rig.connect();
    let spans: Vec<_> = (0..1000u32).map(|i| rig.span(&i.to_be_bytes())).collect();
    let sends: Vec<_> = spans.into_iter().map(|span| Op::Send { conn, span }).collect();
    assert_eq!(rig.now(&sends), []);
    let mut bytes = vec![0; 4000];
    client.read_exact(&mut bytes).unwrap();
    assert!(bytes.chunks_exact(4).zip(0u32..).all(|(chunk, i)| chunk == i.to_be_bytes()));
}

#[test]
fn one_enter_delivers_more_than_the_kernels_twenty() {
    let mut rig = Rig::accepting(256);
    let clients: Vec<_> = (0..200).map(|_| rig.connect()).collect();
    rig.now(&clients.iter().map(|&(_, conn)| Op::Watch(conn)).collect::<Vec<_>>());
    for (client, _) in &clients {
        (&*client).write_all(b"x").unwrap();
    }
    let readable = rig.now(&[]);
    assert_eq!(readable.len(), clients.len());
    assert_eq!(rig.ring.stats().overflows, 0);
}

#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    let mut rig = Rig::new(256, Sizes { submissions: 8, completions: 16 });
    rig.now(&ACCEPTING);
    let clients: Vec<_> = (0..200).map(|_| rig.connect()).collect();
    rig.now(&clients.iter().map(|&(_, conn)| Op::Watch(conn)).collect::<Vec<_>>());
    for (client, _) in &clients {
        (&*client).write_all(b"x").unwrap();
    }
    // 200 polls and 200 receives complete, and the queue holds 16.
    let receives: Vec<_> = clients.iter().map(|&(_, conn)| Op::Receive { conn, buffer: 0 }).collect();
    let answers = rig.now(&receives);
    for &(_, conn) in &clients {
        for kind in [Kind::Readable, Kind::Receive] {
            let mut of_kind = answers.iter().filter(|c| c.token == Token::new(kind, conn));
            assert!(of_kind.next().is_some_and(|c| c.result > 0), "{kind:?} of {conn:?}");
        }
    }
    assert!(rig.ring.stats().overflows > 0);
}

#[test]
fn accepting_into_a_full_table_fails_and_works_again_after_a_close() {
    let mut rig = Rig::accepting(4);
    let mut clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let _refused = TcpStream::connect(rig.addr).unwrap();
    let full = rig.await_kind(Kind::Accept);
    assert_eq!((full.result, full.more), (-libc::ENFILE, false));

    let (_client, closed) = clients.pop().unwrap();
    assert_eq!(rig.now(&[Op::Close(closed), Op::Accept { seat: 0 }]), []);
    let (_client, conn) = rig.connect();
    assert_eq!(conn.index, closed.index);
}

#[test]
fn cancelled_accepts_and_polls_end_and_a_close_sends_fin() {
    let mut rig = Rig::accepting(4);
    let (mut client, conn) = rig.connect();
    rig.now(&[Op::Watch(conn)]);
    let cancelled =
        |kind, conn| Completion { token: Token::new(kind, conn), result: -libc::ECANCELED, more: false, buffer: 0 };
    assert_eq!(rig.now(&[Op::CancelAccept { seat: 0 }]), [cancelled(Kind::Accept, Token::seat(0))]);
    let ended = rig.now(&[Op::Unwatch(conn), Op::CancelWritable(conn), Op::Close(conn)]);
    assert!(ended.contains(&cancelled(Kind::Readable, conn)));
    let not_armed = Completion { result: -libc::ENOENT, ..cancelled(Kind::Cancel, conn) };
    assert!(ended.contains(&not_armed) && ended.len() == 2, "{ended:?}");
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);

    let closed_twice = rig.now(&[Op::Close(conn)]);
    assert_eq!(closed_twice, [Completion { result: -libc::EBADF, ..cancelled(Kind::Close, conn) }]);
}

/// The peer's FIN has reached the poll, whose work the ring has not run yet.
#[test]
fn a_poll_that_has_just_been_triggered_is_ended_too() {
    let mut rig = Rig::accepting(16);
    for _ in 0..100 {
        let (mut client, conn) = rig.connect();
        rig.now(&[Op::Watch(conn)]);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        rig.now(&[Op::Unwatch(conn), Op::Close(conn)]);
        assert_eq!(client.read(&mut [0; 1]).expect("FIN, as nothing holds the socket open"), 0);
    }
}

#[test]
fn a_socket_that_connects_is_adopted_and_leaves_the_descriptor_table() {
    let server = sys::listen((Ipv4Addr::LOCALHOST, 0).into(), 8, false).unwrap();
    let mut rig = Rig::new(4, SIZES);
    let from = Some(Ipv4Addr::new(127, 0, 9, 9).into());
    let socket = dial::dial(&Dial { to: server.local_addr().unwrap(), from, receive_buffer: Some(4096) }).unwrap();
    let descriptor = socket.as_raw_fd();
    rig.ring.adopt(3, socket).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/self/fd/{descriptor}")).exists());

    let (mut accepted, peer) = server.accept().unwrap();
    assert_eq!(Some(peer.ip()), from);
    rig.ops.push(Op::AwaitWritable(conn(3)));
    rig.await_kind(Kind::Writable);
    let span = rig.span(b"hello");
    rig.now(&[Op::Send { conn: conn(3), span }]);
    let mut text = [0; 5];
    accepted.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    rig.now(&[Op::Close(conn(3))]);
    let reset = accepted.read(&mut text).unwrap_err();
    assert_eq!(reset.raw_os_error(), Some(libc::ECONNRESET), "it leaves no TIME_WAIT");
}

#[test]
fn discarding_takes_bytes_and_counts_them() {
    let mut rig = Rig::accepting(4);
    let (mut client, conn) = rig.connect();
    let discard = Op::Discard { conn, bytes: 1000 };
    assert_eq!(rig.now(&[discard])[0].result, -libc::EAGAIN);
    client.write_all(&[7; 1500]).unwrap();
    rig.ops.push(Op::Watch(conn));
    rig.await_kind(Kind::Readable);
    let results: Vec<_> = (0..3).map(|_| rig.now(&[discard])[0].result).collect();
    assert_eq!(results, [1000, 500, -libc::EAGAIN]);
    drop(client);
    rig.await_kind(Kind::Readable);
    assert_eq!(rig.now(&[discard])[0].result, 0);
}

#[test]
fn a_shutdown_sends_fin_and_receiving_goes_on() {
    let mut rig = Rig::accepting(4);
    let (mut client, conn) = rig.connect();
    let span = rig.span(b"bye");
    rig.ops.extend([Op::Send { conn, span }, Op::Shutdown(conn)]);
    let shut = rig.await_kind(Kind::Shutdown);
    assert_eq!((shut.token.conn, shut.result), (conn, 0));
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
    client.write_all(b"ok").unwrap();
    rig.ops.push(Op::Watch(conn));
    rig.await_kind(Kind::Readable);
    assert_eq!(rig.now(&[Op::Receive { conn, buffer: 0 }])[0].result, 2);
}

#[test]
fn another_thread_wakes_a_ring_that_waits_forever() {
    let mut rig = Rig::new(1, SIZES);
    for _ in 0..3 {
        let wake = rig.wake.clone();
        let waker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            wake.wake();
        });
        rig.ring.enter(&mut rig.ops, &rig.frames, Wait::Forever).unwrap();
        rig.ring.drain(&mut rig.out);
        let woken = mem::take(&mut rig.out);
        assert!(woken.iter().any(|c| c.token.kind == Kind::Wake && c.more), "{woken:?}");
        waker.join().unwrap();
    }
}

#[test]
fn a_wake_that_overflow_ended_is_armed_again() {
    let mut rig = Rig::new(1, Sizes { submissions: 16, completions: 16 });
    rig.now(&[]);
    rig.wake.wake();
    // Sixteen failures fill the queue before the poll's completion gets there.
    let completions = rig.now(&[Op::CancelWritable(conn(0)); 16]);
    assert_eq!(completions.iter().filter(|c| c.result == -libc::ENOENT).count(), 16);
    assert!(completions.iter().any(|c| c.token.kind == Kind::Wake && !c.more), "{completions:?}");
    rig.now(&[]);
    rig.wake.wake();
    assert!(rig.await_kind(Kind::Wake).more);
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let mut rig = Rig::new(1, SIZES);
    rig.now(&[]);
    let start = Instant::now();
    rig.ring.enter(&mut rig.ops, &rig.frames, Wait::AtMost(30_000_000)).unwrap();
    assert!((30..5000).contains(&start.elapsed().as_millis()));
    rig.ring.drain(&mut rig.out);
    assert_eq!(rig.out, []);
}

#[test]
fn a_panic_half_way_leaves_the_ring_unusable() {
    let mut rig = Rig::accepting(4);
    let (_client, conn) = rig.connect();
    rig.ops.push(Op::Receive { conn, buffer: READ_BUFFERS });
    let Rig { ring, ops, frames, .. } = &mut rig;
    let entering = std::panic::AssertUnwindSafe(|| ring.enter(ops, frames, Wait::None));
    assert!(std::panic::catch_unwind(entering).is_err());
    assert!(rig.ring.enter(&mut Vec::new(), &rig.frames, Wait::None).is_err());
}

#[test]
fn dropping_the_ring_closes_its_connections_and_frees_the_port() {
    let mut rig = Rig::accepting(64);
    let mut clients: Vec<_> = (0..32).map(|_| rig.connect()).collect();
    rig.now(&clients.iter().flat_map(|&(_, c)| [Op::Watch(c), Op::AwaitWritable(c)]).collect::<Vec<_>>());
    let addr = rig.addr;
    drop(rig);
    for (client, _) in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

#[test]
fn any_thread_can_ask_what_cpu_time_another_has_used() {
    let own = sys::thread_cpu_time();
    let id = sys::thread_id();
    let asked = std::thread::spawn(move || sys::cpu_time_of(id).expect("it is there")).join().expect("no panic");
    assert!((own..=sys::thread_cpu_time()).contains(&asked), "{own:?} {asked:?}");
    let ended = std::thread::spawn(sys::thread_id).join().expect("no panic");
    assert!(sys::cpu_time_of(ended).is_err() && sys::cpu_time_of(0).is_err() && sys::cpu_time_of(u32::MAX).is_err());
}
