//! What a shard tells of itself, once a turn: how long things took, what there is, and what its memory is for.
//!
//! The worker reads the clock when an enter has returned and before the next one; nothing here reads it. What is published
//! carries the time at which the turn began that took it up, so a fan-out costs no clock, and one record for all subscribers
//! that were served together.

use crate::counters::Part;
use crate::hub::Served;
use crate::limits::{READ_BUFFER_BYTES, READ_BUFFERS};
use crate::ring::Stats;
use crate::time::Moment;

use super::{Core, Shard};

impl Shard {
    /// An enter has returned. What is read from here to [`Shard::turn_ends`] is taken to have come now. `ended`: when the turn
    /// before had; `waited`: whether the enter might wait.
    pub fn turn_begins(&mut self, now: Moment, ended: Moment, waited: bool) {
        if !waited {
            self.core.counters.enter_time.record(now.since(ended), 1);
        }
        self.core.begun = now;
    }

    /// The turn is over, and the kernel gets its sends next. `stats`: of the ring.
    pub fn turn_ends(&mut self, now: Moment, stats: Stats) {
        let counters = &self.core.counters;
        counters.turn_time.record(now.since(self.core.begun), 1);
        for Served { received, subscribers } in self.core.hub.served() {
            counters.delivery_latency.record(now.since(received), subscribers);
        }
        counters.enters.set(stats.enters);
        counters.submissions.set(stats.submissions);
        counters.completions.set(stats.completions);
        counters.overflows.set(stats.overflows);
    }

    /// Brings the gauges up to date.
    pub(super) fn count_up(&self) {
        let core = &self.core;
        let counters = &core.counters;
        counters.deflated.set(core.encoder.runs);
        counters.topics.set(core.hub.topics() as u64);
        counters.topics_remembered.set(core.hub.remembered_topics() as u64);
        counters.subscriptions.set(core.hub.subscriptions() as u64);
        counters.history_messages.set(core.hub.history_messages() as u64);
        counters.history_bytes.set(core.hub.history_bytes() as u64);
        counters.history_evicted.set(core.hub.evicted_messages());
        counters.rooms.set(core.rooms.len() as u64);
        for part in Part::ALL {
            let bytes = if part == Part::Deflate { self.codec.held_bytes() } else { 0 } + core.weight(part);
            counters.memory[part as usize].set(bytes as u64);
        }
    }
}

impl Core {
    /// Bytes of a part of the shard's memory, from counts that are at hand.
    fn weight(&self, part: Part) -> usize {
        match part {
            Part::Connections => {
                let own = self.conns.touched_bytes() + size_of_val(&*self.watch.arrivals) + self.watch.traffic.bytes();
                let timers = self.wheel.bytes() + self.overdue.bytes() + self.pass_ends.bytes();
                own + timers + self.peers.bytes() + self.meters.bytes()
            }
            Part::Topics => self.hub.table_bytes(),
            Part::Frames => self.frames.live_bytes(),
            Part::Pool => self.frames.pooled_bytes(),
            Part::History => self.hub.history_bytes(),
            Part::PartialMessages => self.partial_bytes,
            Part::Deflate => self.encoder.held_bytes(),
            Part::ReadBuffers => READ_BUFFER_BYTES * usize::from(READ_BUFFERS),
            Part::Tls => self.secure.bytes(),
            Part::Mail => self.mailbox.weight(),
        }
    }
}
