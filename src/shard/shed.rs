//! What a shard gives up when the process is short of memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::CloseReason;

use super::Core;
use super::mail::{Mail, Shed};
use super::peak::Freed;

/// Connections that are closed at a time.
const CLOSED_AT_ONCE: usize = 64;
/// Messages of histories that are dropped at a time, which takes some milliseconds.
const DROPPED_AT_ONCE: usize = 50_000;
/// Histories of so few bytes are emptied, not halved.
const FEW_BYTES: usize = 1 << 20;
/// What whoever is closed is told.
const SHORT: &str = "short of memory";
/// Bytes that a topic is taken for.
const TOPIC_BYTES: usize = 512;

impl Core {
    /// Gives up what is asked for, and gives it back to the system.
    pub(super) fn shed(&mut self, what: Shed) {
        if what.histories {
            let bytes = self.hub.history_bytes();
            let kept = if bytes <= FEW_BYTES { 0 } else { bytes / 2 };
            let dropped = self.hub.shrink_histories(kept, DROPPED_AT_ONCE);
            self.counters.history_shed.add(dropped);
        }
        if what.backlogs > 0 {
            self.shed_backlogs(what.backlogs);
        }
        self.trim();
    }

    /// Gives back what a burst has needed.
    pub(super) fn trim_after_peak(&mut self) {
        let topics = self.hub.topics() + self.hub.remembered_topics();
        let held = self.frames.live_bytes() + self.partial_bytes + self.hub.history_bytes() + TOPIC_BYTES * topics;
        let Some(whose) = self.peak.past(held, self.now) else { return };
        self.trim();
        if whose == Freed::Here {
            // Messages of other shards' publishers lie in those shards' heaps, and only they can give them back.
            let own = self.id;
            let others = (0..self.postboxes.len() as u16).filter(|&shard| shard != own);
            others.for_each(|shard| self.post(shard, Mail::Freed));
        }
    }

    /// Closes connections, the one with the largest backlog first, until their backlogs come to so many bytes. What is incomplete of
    /// a message or a request counts as one.
    fn shed_backlogs(&mut self, bytes: u64) {
        let mut largest = BinaryHeap::with_capacity(CLOSED_AT_ONCE + 1);
        let indices = std::iter::successors(self.conns.next_occupied(0), |&index| self.conns.next_occupied(index + 1));
        for id in indices.filter_map(|index| self.conns.id(index)) {
            let backlog = self.conns.get(id).filter(|conn| conn.is_open()).map_or(0, |conn| conn.outbox.len_bytes());
            let backlog = u64::from(backlog) + self.held_bytes(id) as u64;
            if backlog > 0 {
                largest.push(Reverse((backlog, id.index)));
            }
            if largest.len() > CLOSED_AT_ONCE {
                largest.pop();
            }
        }
        let mut left = bytes;
        for Reverse((backlog, index)) in largest.into_sorted_vec() {
            let Some((id, conn)) = self.conns.by_index(index).filter(|_| left > 0) else { break };
            left = left.saturating_sub(backlog);
            if conn.is_open() {
                let dropped = conn.outbox.clear_unsent(&mut self.frames);
                self.counters.dropped_memory.add(dropped.into());
            }
            match self.held_bytes(id) {
                0 => self.close(id, 1013, SHORT, CloseReason::Memory),
                _ => self.evict(id, SHORT, CloseReason::Memory),
            }
        }
    }
}
