//! What it costs to wait for connections that say nothing.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Duration;

use io_uring::{opcode, types};

use crate::crowd::Crowd;
use crate::lab::{Lab, Variant};
use crate::received::{self, Multishot};
use crate::sys::{self, Caches, Epoll};
use crate::uring::{SERVERS, Uring, Wait};

const CONNECTIONS: usize = 5000;
/// A receive that waits first has no need for buffers before there are bytes.
const MULTISHOT: Multishot = Multishot { poll_first: true, bundle: false, buffers: (0, 0) };
/// What was freed before is given back some time later.
const SETTLE: Duration = Duration::from_millis(60);

/// A way to wait for a connection.
#[derive(Clone, Copy)]
enum Way {
    Poll { multishot: bool },
    Single,
    Multishot,
    Epoll,
}

const WAYS: [(&str, Way); 5] = [
    ("multishot poll", Way::Poll { multishot: true }),
    ("one-shot poll", Way::Poll { multishot: false }),
    ("single-shot RECV", Way::Single),
    ("multishot RECV", Way::Multishot),
    ("epoll", Way::Epoll),
];

/// Decides on what idle connections wait: `Op::Watch`. Multishot receives need 6.0.
pub fn idle(lab: &mut Lab) -> io::Result<()> {
    if let Err(error) = sys::caches() {
        lab.note(&format!("\nidle: left out, /proc/slabinfo cannot be read ({error}): only root may"));
        return Ok(());
    }
    let crowd = Crowd::connect(CONNECTIONS, lab.cpus)?;
    let variants = WAYS.iter().enumerate().map(|(place, &(name, way))| {
        let crowd = &crowd;
        Variant::new(name, move || Ok(vec![bytes(&objects(crowd, way)?) as f64])).base(place == 0)
    });
    lab.compare(&format!("an idle connection, of {CONNECTIONS}"), &["kernel B"], variants.collect())?;
    for (name, way) in WAYS {
        let of = |(cache, (count, bytes))| format!("{count} × {cache} of {bytes} B");
        let list: Vec<String> = objects(&crowd, way)?.into_iter().map(of).collect();
        lab.note(&format!("  {name}: {}", list.join(", ")));
    }
    Ok(())
}

/// For each cache: objects a connection, and bytes of one.
type Objects = BTreeMap<String, (i64, i64)>;

fn bytes(objects: &Objects) -> i64 {
    objects.values().map(|(count, bytes)| count * bytes).sum()
}

/// What the kernel has more of once all connections are waited for.
fn objects(crowd: &Crowd, way: Way) -> io::Result<Objects> {
    let mut memory = [0; 64];
    let mut ring = Uring::with_files(SERVERS, crowd.files())?;
    let epoll = Epoll::new()?;
    thread::sleep(SETTLE);
    let before = sys::caches()?;
    for (slot, file) in (0..).zip(crowd.files()) {
        let fixed = types::Fixed(slot);
        let entry = match way {
            Way::Poll { multishot } => opcode::PollAdd::new(fixed, libc::POLLIN as u32).multi(multishot).build(),
            Way::Single => opcode::Recv::new(fixed, memory.as_mut_ptr(), memory.len() as u32).build(),
            Way::Multishot => received::receive(slot, MULTISHOT),
            Way::Epoll => {
                epoll.add(file, slot)?;
                continue;
            }
        };
        // SAFETY: the memory is dropped after the ring. That all receives share it is no harm: nobody sends.
        unsafe { ring.push(&entry) }?;
    }
    ring.turn(Wait::No)?;
    let after = sys::caches()?;
    Ok(difference(&before, &after))
}

/// Whole objects for each connection: what else the machine does meanwhile is less than that.
fn difference(before: &Caches, after: &Caches) -> Objects {
    let of = |(cache, &(used, bytes)): (&String, &(i64, i64))| {
        let more = used - before.get(cache).map_or(0, |before| before.0);
        let each = (more as f64 / CONNECTIONS as f64).round() as i64;
        (each > 0).then(|| (cache.clone(), (each, bytes)))
    };
    after.iter().filter_map(of).collect()
}
