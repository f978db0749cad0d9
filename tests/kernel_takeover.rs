//! How a shard gives a TLS connection to the kernel, and what it does with it then: against a kernel that is a fake and opens
//! nothing. What is sent and received after that is plain here.

mod common;
mod kernel_takeover {
    pub mod kernel;
}

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::client::{CLOSE, TEXT, close_payload, frame, handshake};
use common::tls::{certificate, trusting};
use common::{PATIENCE, config};
use kernel_takeover::kernel::{CONN, ENOENT, ENOMEM, ENOTCONN, EOPNOTSUPP, Kernel, Opened};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ProtocolVersion, SupportedProtocolVersion};
use tempfile::TempDir;
use uproar::Routes;
use uproar::ring::WakeFd;
use uproar::ring::ktls::{ALERT, HANDSHAKE, KernelTls, Record};
use uproar::ring::op::Completion;
use uproar::ring::token::{Kind, Token};
use uproar::shard::accept::Door;
use uproar::shard::mail::Mail;
use uproar::shard::mailbox::mailbox;
use uproar::shard::settings::Settings;
use uproar::shard::shared::Shared;
use uproar::shard::{Aides, Parts, Shard};
use uproar::time::Tick;
use uproar::tls::{Handshakes, certificates};

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
            aides: Aides { handshakes: Some(handshakes.expect("a thread")), kernel_tls: Some(can), ..Aides::default() },
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
        let first = 5 + usize::from(u16::from_be_bytes([sealed[3], sealed[4]]));
        for (before, byte) in sealed.into_iter().enumerate() {
            it.kernel.up.push(byte);
            it.turns();
            // Between two records, the second of which is then the kernel's.
            if before + 1 == first && it.kernel.has_all_keys {
                it.kernel.opened.push_back(Opened::Data(frame(TEXT, b"right behind")));
                break;
            }
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
    assert!(!it.kernel.closed && it.kernel.records.is_empty());
    // Room for what is said, and not for the end.
    it.kernel.room = Some(sent(&[b'x'; 1000]).len() + 4 - 10);
    it.turns();
    assert_eq!(it.kernel.plain.len(), sent(&[b'x'; 1000]).len() + 4);
    assert!(!it.kernel.closed && it.kernel.records.is_empty(), "the end does not fit");
    it.kernel.room = None;
    it.turns();
    assert_eq!((it.kernel.records.as_slice(), it.kernel.closed), (&[Record::CloseNotify][..], true));
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
