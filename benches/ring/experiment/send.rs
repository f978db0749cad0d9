//! How to send.

use std::io;
use std::os::fd::RawFd;

use super::CPU;
use crate::crowd::Crowd;
use crate::fan::{Call, Fan, SERVERS, Way};
use crate::lab::{Lab, Variant};
use crate::uring::{self, Uring};

const SUBSCRIBERS: usize = 1000;
/// Bytes of a message, and rounds of a full sample.
const MESSAGES: [(usize, u64); 2] = [(64, 20), (16 << 10, 6)];
/// Messages that wait for one connection when there are several.
const PIECES: usize = 8;

/// Decides `DELIVERIES_PER_TURN`, the flags of `Op::Send`, whether connections are registered files, and how the
/// messages of one turn are brought together (`hub/log.rs` for one topic's, `Core::gather` for others).
///
/// Ring SEND and `MSG_DONTWAIT` are older than anything else here; skipped completions need 5.17, SEND_ZC 6.0.
pub fn send(lab: &mut Lab) -> io::Result<()> {
    let crowd = Crowd::connect(SUBSCRIBERS, lab.cpus)?;
    for (bytes, rounds) in MESSAGES {
        let title = format!("a delivery of {bytes} B, to {SUBSCRIBERS}");
        let message = vec![7; bytes];
        compare(lab, &crowd, &title, &ways(), &message, (bytes, rounds))?;
    }
    let title = format!("a delivery of {PIECES} × 64 B, to {SUBSCRIBERS}");
    compare(lab, &crowd, &title, &ways_for_pieces(), &[7; PIECES * 64], (64, MESSAGES[0].1))
}

type Named = (String, &'static str, Way);

fn compare(
    lab: &mut Lab,
    crowd: &Crowd,
    title: &str,
    ways: &[Named],
    bytes: &[u8],
    (piece, rounds): (usize, u64),
) -> io::Result<()> {
    let rounds = lab.scale(rounds);
    let slots: Vec<u32> = (0..crowd.size()).collect();
    let files: Vec<RawFd> = crowd.files().collect();
    let (slots, files) = (&slots[..], &files[..]);
    let variants = ways.iter().enumerate().map(|(place, (name, since, way))| {
        let sample = move || {
            let ring = Uring::with_files(uring::SERVERS, files.iter().copied())?;
            let mut fan = Fan::new(ring, *way, bytes, slots, files)?.in_pieces(piece);
            Ok(vec![fan.measure(rounds, crowd.peers())?[0]])
        };
        Variant::new(name, sample).since(since).base(place == 0)
    });
    lab.compare(title, &[CPU], variants.collect())
}

fn ways() -> Vec<Named> {
    let named = |name: &str, since, way| (name.to_owned(), since, way);
    let mut ways = vec![named("SEND, 128 a submission", "", SERVERS)];
    for batch in [1, 8, 32, 256, 512] {
        ways.push(named(&format!("{batch} a submission"), "", Way { batch, ..SERVERS }));
    }
    ways.extend([
        named("without MSG_DONTWAIT", "", Way { never_waits: false, ..SERVERS }),
        named("successes posted", "", Way { skips: false, ..SERVERS }),
        named("plain descriptors", "", Way { fixed: false, ..SERVERS }),
        named("all three", "", Way { never_waits: false, skips: false, fixed: false, ..SERVERS }),
        named("send(2)", "", Way { call: Call::Syscall, ..SERVERS }),
        named("SEND_ZC", "", Way { call: Call::SendZeroCopy, skips: false, ..SERVERS }),
    ]);
    ways
}

fn ways_for_pieces() -> Vec<Named> {
    let calls = [
        ("one range, shared", Call::Send),
        ("a copy for each", Call::SendCopy),
        ("SENDMSG of eight pieces", Call::SendMessage),
        ("eight SENDs", Call::SendEach),
    ];
    calls.map(|(name, call)| (name.to_owned(), "", Way { call, ..SERVERS })).into()
}
