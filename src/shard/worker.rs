//! The thread of a shard: ring, shard and clock.

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ring::op::{Completion, Wait};
use crate::ring::{Ring, sys};
use crate::time::{Moment, Tick};

use super::Shard;
use super::turn::WaitFor;

/// Reads of one connection, and so of one turn's buffers, before what they brought is sent: a burst of more than a buffer
/// goes out in larger sends then, each of which costs less than two of half its size.
const READ_ROUNDS: usize = 4;

/// Where the moments of all shards begin: what one has received, another may send.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Runs a shard on its ring until it has stopped.
///
/// # Errors
/// What the kernel says when it takes no more submissions at all, which ends the shard.
pub fn run(mut shard: Shard, mut ring: Ring) -> io::Result<()> {
    shard.core.counters().thread.set(sys::thread_id().into());
    // In this order: the first shard makes it.
    let epoch = *EPOCH;
    let start = Instant::now();
    let offset = start.duration_since(epoch);
    let moment = |since: Duration| Moment((offset + since).as_nanos() as u64 + 1);
    let mut now = Tick::at(start.elapsed());
    let mut ended = moment(start.elapsed());
    let mut completions = Vec::new();
    while !shard.is_stopped() {
        let wait = wait(&shard, now);
        let entered = ring.enter(&mut shard.core.ops, &shard.core.frames, wait);
        shard.mailbox().awake();
        entered?;
        let since = start.elapsed();
        now = Tick::at(since);
        shard.set_now(now, unix_ms());
        shard.turn_begins(moment(since), ended, wait != Wait::None);
        collect(&mut shard, &mut ring, &mut completions);
        for _ in 0..READ_ROUNDS {
            if !shard.receive() {
                break;
            }
            ring.enter(&mut shard.core.ops, &shard.core.frames, Wait::None)?;
            collect(&mut shard, &mut ring, &mut completions);
        }
        shard.turn();
        ended = moment(start.elapsed());
        shard.turn_ends(ended, ring.stats());
    }
    // The closes of the last connections.
    ring.enter(&mut shard.core.ops, &shard.core.frames, Wait::None)
}

/// Milliseconds since 1970, as the machine has it.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn collect(shard: &mut Shard, ring: &mut Ring, completions: &mut Vec<Completion>) {
    ring.drain(completions);
    shard.complete(completions, ring);
    completions.clear();
}

/// How long to wait; not at all if mail has come since the turn.
fn wait(shard: &Shard, now: Tick) -> Wait {
    match shard.wait() {
        WaitFor::Nothing => Wait::None,
        wait if shard.mailbox().sleep() => wait.at(now),
        _ => Wait::None,
    }
}
