//! How to receive.

use std::io;
use std::os::fd::RawFd;

use super::CPU;
use super::setup::echo;
use crate::crowd::Crowd;
use crate::lab::{Lab, Variant};
use crate::peer::{MESSAGE, Task, WRITE};
use crate::polled::{self, Polls};
use crate::received::{self, Multishot};
use crate::serve::{self, Served, Work};
use crate::uring::{SERVERS, Uring, needs};

const CONNECTIONS: [usize; 2] = [1000, 16];
const ECHOES: u64 = 24_000;
const WRITES: u64 = 2400;
/// A buffer for each of 1,000 connections.
const SMALL: (u16, usize) = (1024, 2048);

/// A way to receive.
#[derive(Clone, Copy)]
enum Way {
    Poll(Polls),
    Single { poll_first: bool },
    Multishot(Multishot),
    Epoll,
}

type Named = (&'static str, &'static str, Way);

/// Decides how connections that are spoken to are read from: `Op::Watch` and `Op::Receive`, and `READ_BUFFERS`.
///
/// Multishot polls need 5.13, provided-buffer rings 5.19, multishot receives 6.0, bundles 6.10.
pub fn receive(lab: &mut Lab) -> io::Result<()> {
    for connections in CONNECTIONS {
        let crowd = Crowd::connect(connections, lab.cpus)?;
        let messages = lab.scale(ECHOES);
        let sample = |way| {
            needs_bundles(way)?;
            let served = echo(&crowd, messages, |work| serve(&crowd, way, work))?;
            Ok(vec![served.cost(MESSAGE)[0], served.batch(MESSAGE)])
        };
        let title = format!("an echo of {MESSAGE} B, {connections} connections");
        lab.compare(&title, &[CPU, "messages/enter"], variants(&ways(), sample))?;
    }
    let crowd = Crowd::connect(1, lab.cpus)?;
    let writes = lab.scale(WRITES);
    let sample = |way| {
        needs_bundles(way)?;
        crowd.peers().start(Task::Stream { writes })?;
        let served = serve(&crowd, way, Work { bytes: writes * WRITE as u64, echo: false })?;
        crowd.peers().finish()?;
        Ok(vec![served.cost(WRITE)[0], served.batch(1024)])
    };
    lab.compare("64 KiB of a stream, one connection", &[CPU, "KiB/enter"], variants(&ways_for_a_stream(), sample))
}

fn variants<'a>(ways: &[Named], sample: impl Fn(Way) -> io::Result<Vec<f64>> + Copy + 'a) -> Vec<Variant<'a>> {
    let variant = |(place, &(name, since, way)): (usize, &Named)| {
        Variant::new(name, move || sample(way)).since(since).base(place == 0)
    };
    ways.iter().enumerate().map(variant).collect()
}

/// Before the peers begin, who would not end.
fn needs_bundles(way: Way) -> io::Result<()> {
    match way {
        Way::Multishot(Multishot { bundle: true, .. }) => {
            needs(Uring::new(SERVERS)?.raw().params().is_feature_recvsend_bundle())
        }
        _ => Ok(()),
    }
}

fn serve(crowd: &Crowd, way: Way, work: Work) -> io::Result<Served> {
    let ring = || Uring::with_files(SERVERS, crowd.files());
    match way {
        Way::Poll(polls) => polled::serve(ring()?, crowd.size(), polls, work),
        Way::Single { poll_first } => received::serve_single(ring()?, crowd.size(), poll_first, work),
        Way::Multishot(how) => received::serve_multishot(ring()?, crowd.size(), how, work),
        Way::Epoll => serve::by_epoll(&crowd.files().collect::<Vec<RawFd>>(), work),
    }
}

fn ways() -> [Named; 9] {
    let multishot = Multishot { poll_first: false, bundle: false, buffers: SMALL };
    [
        ("multishot poll, then RECV of 32", "", Way::Poll(polled::SERVERS)),
        ("multishot poll, then RECV of 128", "", Way::Poll(Polls { buffers: 128, ..polled::SERVERS })),
        ("one-shot poll, then RECV of 32", "", Way::Poll(Polls { multishot: false, ..polled::SERVERS })),
        ("single-shot RECV", "", Way::Single { poll_first: false }),
        ("single-shot RECV, POLL_FIRST", "", Way::Single { poll_first: true }),
        ("multishot RECV", "", Way::Multishot(multishot)),
        ("multishot RECV, POLL_FIRST", "", Way::Multishot(Multishot { poll_first: true, ..multishot })),
        ("multishot RECV, bundles", "6.10", Way::Multishot(Multishot { bundle: true, ..multishot })),
        ("epoll, recv(2), send(2)", "", Way::Epoll),
    ]
}

fn ways_for_a_stream() -> [Named; 8] {
    let multishot = |bundle, buffers| Way::Multishot(Multishot { poll_first: false, bundle, buffers });
    [
        ("multishot poll, then RECV of 64 KiB", "", Way::Poll(polled::SERVERS)),
        ("multishot RECV, 4 KiB", "", multishot(false, (512, 4 << 10))),
        ("multishot RECV, 16 KiB", "", multishot(false, (128, 16 << 10))),
        ("multishot RECV, 64 KiB", "", multishot(false, (32, 64 << 10))),
        ("bundles of 4 KiB", "6.10", multishot(true, (512, 4 << 10))),
        ("bundles of 16 KiB", "6.10", multishot(true, (128, 16 << 10))),
        ("bundles of 64 KiB", "6.10", multishot(true, (32, 64 << 10))),
        ("epoll, recv(2) of 64 KiB", "", Way::Epoll),
    ]
}
