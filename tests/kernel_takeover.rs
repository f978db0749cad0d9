//! How a shard gives a TLS connection to the kernel, and what it does with it then: against a kernel that is a fake and opens
//! nothing. What is sent and received after that is plain here.

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::client::{CLOSE, TEXT, close_payload, frame, handshake};
use common::tls::{certificate, trusting};
use common::{PATIENCE, config};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ProtocolVersion, SupportedProtocolVersion};
use tempfile::TempDir;
use uproar::Routes;
use uproar::limits::READ_BUFFER_BYTES;
use uproar::ring::WakeFd;
use uproar::ring::ktls::{ALERT, HANDSHAKE, KernelTls, Record};
use uproar::ring::op::{Arrivals, Completion, Op};
use uproar::ring::token::{ConnId, Kind, Token};
use uproar::shard::accept::Door;
use uproar::shard::mail::Mail;
use uproar::shard::mailbox::mailbox;
use uproar::shard::settings::Settings;
use uproar::shard::shared::Shared;
use uproar::shard::{Aides, Parts, Shard};
use uproar::time::Tick;
use uproar::tls::{Handshakes, certificates};

const CONN: ConnId = ConnId { index: 3, generation: 0 };
const EAGAIN: i32 = 11;
const EIO: i32 = 5;
const ENOENT: i32 = 2;
const ENOMEM: i32 = 12;
const ENOTCONN: i32 = 107;
const EOPNOTSUPP: i32 = 95;

/// What a client has sent, once the kernel opens it.
enum Opened {
    Data(Vec<u8>),
    Record(u8, Vec<u8>),
}

/// The socket of one connection, and the kernel behind it.
#[derive(Default)]
struct Kernel {
    attach: i32,
    install: i32,
    /// Bytes that it still takes; `None`: any number.
    room: Option<usize>,
    /// Sealed, on its way to the server.
    up: Vec<u8>,
    opened: VecDeque<Opened>,
    /// Sealed by a session, on its way to the client.
    down: Vec<u8>,
    /// What the kernel was to seal.
    plain: Vec<u8>,
    records: Vec<Record>,
    /// Keys as they came, and whether they are of what comes.
    keys: Vec<(bool, Vec<u8>)>,
    /// The server has read whole records, and so many of the application's.
    read: Vec<u8>,
    has_all_keys: bool,
    shut: bool,
    closed: bool,
    awaited: bool,
    buffer: Vec<u8>,
    kind: Option<u8>,
}

impl Arrivals for Kernel {
    fn buffer(&mut self, _: u16, len: usize) -> &mut [u8] {
        &mut self.buffer[..len]
    }

    fn peer(&self, _: u16) -> IpAddr {
        IpAddr::from([127, 0, 0, 1])
    }

    fn record_kind(&self, _: u16) -> Option<u8> {
        self.kind
    }
}

impl Kernel {
    /// Carries out the operations of an enter.
    fn enter(&mut self, shard: &mut Shard) -> Vec<Completion> {
        let ops = std::mem::take(&mut shard.core.ops);
        let sends =
            ops.iter().filter(|op| matches!(op, Op::Send { .. } | Op::SendSealed { .. } | Op::SendRecord { .. }));
        let installs = ops.iter().filter(|op| matches!(op, Op::InstallTls { .. })).count();
        let (sends, receives) = (sends.count(), ops.iter().filter(|op| matches!(op, Op::Receive { .. })).count());
        assert!(sends <= 1 && (installs == 0 || sends + receives == 0), "one at a time: {ops:?}");
        ops.into_iter().filter_map(|op| self.carry_out(op, shard)).collect()
    }

    fn carry_out(&mut self, op: Op, shard: &Shard) -> Option<Completion> {
        let bytes = |span| shard.core.frames.bytes(span);
        let (kind, result, buffer) = match op {
            Op::Receive { buffer, .. } => (Kind::Receive, self.receive(), buffer),
            Op::ReceiveRecord { buffer, .. } => (Kind::ReceiveRecord, self.receive_record(), buffer),
            Op::Send { span, .. } => {
                assert!(!self.has_all_keys, "the kernel seals, and is not told");
                self.down.extend_from_slice(bytes(span));
                return None;
            }
            Op::SendSealed { span, .. } => {
                assert!(self.has_all_keys && !self.shut && !self.awaited);
                let taken = self.room.map_or(usize::MAX, |room| room).min(bytes(span).len());
                self.plain.extend_from_slice(&bytes(span)[..taken]);
                self.room = self.room.map(|room| room - taken);
                (Kind::Send, if taken == 0 { -EAGAIN } else { taken as i32 }, 0)
            }
            Op::SendRecord { record, .. } => {
                assert!(self.has_all_keys && !self.shut && !self.awaited);
                let fits = self.room.is_none_or(|room| room > 0);
                if fits {
                    self.records.push(record);
                }
                (Kind::Send, if fits { 2 } else { -EAGAIN }, 0)
            }
            Op::AttachTls(_) => (Kind::TlsAttached, self.attach, 0),
            Op::InstallTls { keys, receive, .. } => {
                self.keys.push((receive, bytes(keys).to_vec()));
                self.has_all_keys |= self.keys.len() >= 2;
                (Kind::TlsInstalled, self.install, 0)
            }
            Op::AwaitWritable(_) => {
                self.awaited = true;
                return None;
            }
            Op::Shutdown(_) => {
                self.shut = true;
                (Kind::Shutdown, 0, 0)
            }
            Op::Close(_) => {
                self.closed = true;
                return None;
            }
            Op::Accept { .. } | Op::CancelAccept { .. } | Op::Watch(_) | Op::Unwatch(_) => return None,
            Op::CancelWritable(_) | Op::Discard { .. } => return None,
        };
        Some(Completion { token: Token::new(kind, CONN), result, more: false, buffer })
    }

    fn receive(&mut self) -> i32 {
        assert!(self.keys.is_empty() || self.has_all_keys, "nothing is read while keys are on their way");
        if !self.has_all_keys {
            let count = self.up.len().min(READ_BUFFER_BYTES);
            self.buffer = self.up.drain(..count).collect();
            self.read.extend_from_slice(&self.buffer);
            return if count == 0 { -EAGAIN } else { count as i32 };
        }
        match self.opened.front() {
            None => -EAGAIN,
            Some(Opened::Record(..)) => -EIO,
            Some(Opened::Data(_)) => self.receive_record(),
        }
    }

    fn receive_record(&mut self) -> i32 {
        (self.kind, self.buffer) = match self.opened.pop_front() {
            Some(Opened::Record(kind, bytes)) => (Some(kind), bytes),
            Some(Opened::Data(bytes)) => (Some(23), bytes),
            None => return -EAGAIN,
        };
        self.buffer.len() as i32
    }

    /// Records of the application's that the server has read; it must not have read half of one.
    fn records_read(&self) -> u64 {
        let (mut rest, mut count) = (&self.read[..], 0);
        while !rest.is_empty() {
            let len = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            assert!(rest.len() >= len, "half a record is in the session");
            count += u64::from(rest[0] == 23);
            rest = &rest[len..];
        }
        count
    }
}

struct Fixture {
    shard: Shard,
    shared: Arc<Shared>,
    kernel: Kernel,
    client: ClientConnection,
    version: &'static SupportedProtocolVersion,
    _dir: TempDir,
}

impl Fixture {
    fn new(version: &'static SupportedProtocolVersion, can: KernelTls, kernel: Kernel) -> Fixture {
        let dir = TempDir::new().expect("a directory");
        let certificate = certificate(dir.path(), "c", &["localhost"]);
        let tls = certificates::configure(&[(certificate.certificate.clone(), certificate.key.clone())]).expect("good");
        let (postbox, mailbox) = mailbox(Arc::new(WakeFd::new().expect("an eventfd")));
        let done = postbox.clone();
        let handshakes =
            Handshakes::start(1, Arc::new(tls), move |_, shaken| done.post(Mail::Shaken(Box::new(shaken))));
        let shared = Arc::new(Shared::new(1));
        shared.set_max_connections(100);
        let shard = Shard::new(Parts {
            id: 0,
            doors: vec![Door::Tls],
            aides: Aides {
                handshakes: Some(handshakes.expect("a thread")),
                gate: None,
                hook: None,
                kernel_tls: Some(can),
            },
            slots: 64,
            settings: Settings::try_from(&config(1)).expect("valid"),
            shared: shared.clone(),
            mailbox,
            postboxes: vec![postbox],
            routes: Routes::new(Vec::new(), true),
            seed: 1,
        });
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(trusting(&[&certificate], &[version]), name).expect("a session");
        let mut it = Fixture { shard, shared, kernel, client, version, _dir: dir };
        let token = Token::new(Kind::Accept, Token::seat(0));
        it.complete(&[Completion { token, result: CONN.index as i32, more: true, buffer: 0 }]);
        it
    }

    fn complete(&mut self, completions: &[Completion]) {
        self.shard.set_now(Tick(0), 0);
        self.shard.complete(completions, &mut self.kernel);
    }

    /// An iteration of the worker's loop.
    fn turn(&mut self) {
        let mut done = self.kernel.enter(&mut self.shard);
        if !self.kernel.up.is_empty() || !self.kernel.opened.is_empty() {
            done.push(Completion { token: Token::new(Kind::Readable, CONN), result: 1, more: true, buffer: 0 });
        }
        if self.kernel.awaited && self.kernel.room != Some(0) {
            self.kernel.awaited = false;
            done.push(Completion { token: Token::new(Kind::Writable, CONN), result: 4, more: false, buffer: 0 });
        }
        self.complete(&done);
        for _ in 0..4 {
            if !self.shard.receive() {
                break;
            }
            let done = self.kernel.enter(&mut self.shard);
            self.complete(&done);
        }
        self.shard.turn();
        self.shard.core.invariants();
    }

    /// Lets bytes pass between the client's session and the server's.
    fn pass(&mut self) {
        let mut down = &self.kernel.down[..];
        while !down.is_empty() {
            self.client.read_tls(&mut down).expect("bytes");
            self.client.process_new_packets().expect("records");
        }
        self.kernel.down.clear();
        while self.client.wants_write() {
            self.client.write_tls(&mut self.kernel.up).expect("a vector takes it");
        }
        self.turn();
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Fixture) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < end, "in vain: {what}");
            self.pass();
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads what the client's session has opened.
    fn heard(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let _ = self.client.reader().read_to_end(&mut heard);
        heard
    }

    /// Opens a WebSocket.
    fn upgraded(mut self) -> Fixture {
        self.client.writer().write_all(handshake("/raw/t", "").as_bytes()).expect("room");
        self.until("the answer", |it| it.heard().starts_with(b"HTTP/1.1 101 "));
        self
    }

    /// Opens a WebSocket, which goes over to the kernel.
    fn given(version: &'static SupportedProtocolVersion, can: KernelTls) -> Fixture {
        let mut it = Fixture::new(version, can, Kernel::default()).upgraded();
        it.until("the kernel's", |it| it.shared.counters(0).tls_kernel_ok.get() == 1);
        it
    }

    fn turns(&mut self) {
        (0..6).for_each(|_| self.turn());
    }

    fn text(&mut self, text: &[u8]) {
        self.kernel.opened.push_back(Opened::Data(frame(TEXT, text)));
        self.turns();
    }
}

/// A text message as a server sends it.
fn sent(text: &[u8]) -> Vec<u8> {
    assert!((126..65_536).contains(&text.len()));
    [&[0x81, 126][..], &(text.len() as u16).to_be_bytes(), text].concat()
}

#[test]
fn after_its_first_answer_a_connection_is_the_kernels() {
    for version in [&TLS12, &TLS13] {
        let mut it = Fixture::given(version, KernelTls::everything());
        let directions: Vec<bool> = it.kernel.keys.iter().map(|(receive, _)| *receive).collect();
        assert_eq!(directions, [false, true]);
        // Nothing that was read is unaccounted for: the next record that comes is the one that the kernel expects.
        let (_, keys) = &it.kernel.keys[1];
        let sequence = u64::from_be_bytes(keys[keys.len() - 8..].try_into().expect("eight bytes"));
        // In TLS 1.2 the end of the handshake is of type 22 and counted; in 1.3 it is of type 23 and not.
        let expected = if it.version.version == ProtocolVersion::TLSv1_2 {
            it.kernel.records_read() + 1
        } else {
            it.kernel.records_read() - 1
        };
        assert_eq!(sequence, expected);
        let text = [b'x'; 300];
        it.text(&text);
        assert_eq!(it.kernel.plain, sent(&text));
        assert_eq!(it.shared.counters(0).tls_kernel_connections.get(), 1);
    }
}

#[test]
fn a_record_in_pieces_is_the_sessions_in_whole() {
    for version in [&TLS12, &TLS13] {
        let mut it = Fixture::new(version, KernelTls::everything(), Kernel::default());
        it.until("the handshake", |it| !it.client.is_handshaking());
        it.client.writer().write_all(handshake("/raw/t", "").as_bytes()).expect("room");
        it.client.writer().write_all(&frame(TEXT, b"right behind")).expect("room");
        let mut sealed = Vec::new();
        while it.client.wants_write() {
            it.client.write_tls(&mut sealed).expect("a vector takes it");
        }
        for byte in sealed {
            it.kernel.up.push(byte);
            it.turns();
            assert!(it.kernel.keys.is_empty() || it.kernel.records_read() > 0);
        }
        let mut heard = Vec::new();
        it.until("the answer, and the message", |it| {
            heard.extend(it.heard());
            let is_there = |bytes: &[u8]| bytes.windows(12).any(|window| window == b"right behind");
            it.kernel.has_all_keys && (is_there(&heard) || is_there(&it.kernel.plain))
        });
        it.kernel.records_read();
    }
}

#[test]
fn a_session_goes_on_if_the_kernel_does_not_attach_its_socket() {
    for error in [ENOENT, EOPNOTSUPP, ENOTCONN, ENOMEM] {
        for version in [&TLS12, &TLS13] {
            let mut it = Fixture::new(version, KernelTls::everything(), Kernel { attach: -error, ..Kernel::default() });
            it = it.upgraded();
            it.until("the refusal", |it| it.shared.counters(0).tls_kernel_refused.get() == 1);
            for n in 0..20 {
                let text = [b'a' + n; 200];
                it.client.writer().write_all(&frame(TEXT, &text)).expect("room");
                let mut heard = Vec::new();
                it.until("the echo", |it| {
                    heard.extend(it.heard());
                    heard == sent(&text)
                });
            }
            assert_eq!(it.shared.counters(0).messages_in.get(), 20);
            assert!(it.kernel.keys.is_empty() && it.kernel.plain.is_empty() && !it.kernel.closed);
            assert_eq!(it.shared.counters(0).tls_kernel_connections.get(), 0);
        }
    }
}

#[test]
fn what_the_kernel_cannot_do_is_not_asked_of_it() {
    let mut it = Fixture::new(&TLS13, KernelTls::default(), Kernel::default()).upgraded();
    it.turns();
    let counters = it.shared.counters(0).clone();
    assert_eq!((counters.tls_kernel_cipher.get(), counters.tls_kernel_refused.get()), (1, 0));
    assert!(it.kernel.keys.is_empty());
}

#[test]
fn a_connection_whose_keys_are_refused_is_over() {
    let kernel = Kernel { install: -ENOMEM, ..Kernel::default() };
    let mut it = Fixture::new(&TLS13, KernelTls::everything(), kernel).upgraded();
    it.until("its end", |it| it.kernel.closed);
    let counters = it.shared.counters(0).clone();
    assert_eq!((counters.tls_kernel_failed.get(), counters.tls_kernel_connections.get()), (1, 0));
}

#[test]
fn a_send_that_falls_short_goes_on_where_it_stopped() {
    let mut it = Fixture::given(&TLS13, KernelTls::everything());
    let texts: Vec<Vec<u8>> = (0..30).map(|n| vec![b'a' + n; 500 + usize::from(n)]).collect();
    it.kernel.room = Some(100);
    for text in &texts {
        it.text(text);
    }
    let all: Vec<u8> = texts.iter().flat_map(|text| sent(text)).collect();
    assert_eq!(it.kernel.plain, all[..100]);
    for room in [0, 1, 7, 400, 401, 5000] {
        it.kernel.room = Some(room);
        it.turns();
    }
    assert_eq!(it.kernel.plain, all[..100 + 1 + 7 + 400 + 401 + 5000]);
    it.kernel.room = None;
    it.turns();
    assert_eq!(it.kernel.plain, all);
}

#[test]
fn the_end_is_told_behind_everything_else_and_before_the_fin() {
    let mut it = Fixture::given(&TLS13, KernelTls::everything());
    it.kernel.room = Some(10);
    it.text(&[b'x'; 1000]);
    it.kernel.opened.push_back(Opened::Data(frame(CLOSE, &close_payload(1000, ""))));
    it.turns();
    assert!(!it.kernel.shut && it.kernel.records.is_empty());
    // Room for what is said, and not for the end.
    it.kernel.room = Some(sent(&[b'x'; 1000]).len() + 4 - 10);
    it.turns();
    assert_eq!(it.kernel.plain.len(), sent(&[b'x'; 1000]).len() + 4);
    assert!(!it.kernel.shut && it.kernel.records.is_empty(), "the end does not fit");
    it.kernel.room = None;
    it.turns();
    assert_eq!((it.kernel.records.as_slice(), it.kernel.shut), (&[Record::CloseNotify][..], true));
}

#[test]
fn keys_follow_on_keys() {
    let mut it = Fixture::given(&TLS13, KernelTls::everything());
    let before = it.kernel.keys.clone();
    it.kernel.opened.push_back(Opened::Record(HANDSHAKE, vec![24, 0, 0, 1, 0]));
    it.text(&[b'x'; 200]);
    assert_eq!((it.kernel.keys.len(), it.kernel.keys[2].0), (3, true));
    assert_ne!(it.kernel.keys[2].1, before[1].1);
    assert!(it.kernel.records.is_empty(), "the server keeps its own");
    it.kernel.opened.push_back(Opened::Record(HANDSHAKE, vec![24, 0, 0, 1, 1]));
    it.kernel.room = Some(0);
    it.text(&[b'y'; 200]);
    assert_eq!((it.kernel.keys.len(), it.kernel.records.len()), (4, 0), "its own come after it has said so");
    it.kernel.room = None;
    it.turns();
    assert_eq!(
        (it.kernel.keys.len(), it.kernel.keys[4].0, it.kernel.records.as_slice()),
        (5, false, &[Record::KeyUpdate][..])
    );
    assert_ne!(it.kernel.keys[4].1, before[0].1);
    assert!(it.kernel.keys[2..].iter().all(|(_, keys)| keys.ends_with(&[0; 8])), "records are counted anew");
    assert_eq!(it.kernel.plain, [sent(&[b'x'; 200]), sent(&[b'y'; 200])].concat());
}

#[test]
fn what_cannot_be_dealt_with_ends_in_an_alert() {
    let mut old = KernelTls::everything();
    old.rekeys = false;
    for (can, kind, content, alert) in [
        (old, HANDSHAKE, &[24, 0, 0, 1, 1][..], Record::InternalError),
        (KernelTls::everything(), HANDSHAKE, &[1, 0, 0, 0], Record::UnexpectedMessage),
        (KernelTls::everything(), 20, &[1], Record::UnexpectedMessage),
    ] {
        let mut it = Fixture::given(&TLS13, can);
        it.kernel.opened.push_back(Opened::Record(kind, content.to_vec()));
        it.turns();
        assert_eq!((it.kernel.records.as_slice(), it.kernel.shut), (&[alert][..], true));
        let refused = it.shared.counters(0).tls_key_updates_refused.get();
        assert_eq!(refused, u64::from(alert == Record::InternalError));
    }
    // There is no such thing in TLS 1.2.
    let mut it = Fixture::given(&TLS12, KernelTls::everything());
    it.kernel.opened.push_back(Opened::Record(HANDSHAKE, vec![24, 0, 0, 1, 1]));
    it.turns();
    assert_eq!(it.kernel.records, [Record::InternalError]);
}

#[test]
fn alerts_of_a_client_are_heeded() {
    for (content, goes) in [([1, 0], true), ([2, 20], true), ([1, 90], false)] {
        let mut it = Fixture::given(&TLS13, KernelTls::everything());
        it.kernel.opened.push_back(Opened::Data(frame(TEXT, &[b'z'; 200])));
        it.kernel.opened.push_back(Opened::Record(ALERT, content.to_vec()));
        it.turns();
        assert_eq!(it.shared.counters(0).messages_in.get(), 1, "what came before counts");
        assert_eq!(it.kernel.closed, goes, "{content:?}");
    }
}
