//! Messages and requests that are not there in whole, or wait for somebody's word: how long they may take, how much of them a shard
//! keeps, and whom that costs his connection.
//!
//! Whoever adds to what is kept pays nothing for the bound: it is looked at after each batch of reads, and only beyond it is it
//! found out who holds how much.

use std::cmp::Reverse;

use crate::conn::{Phase, Session};
use crate::error::CloseReason;
use crate::http::response::{Framing, Response};
use crate::ring::token::ConnId;
use crate::time::Tick;
use crate::ws::message::Partial;

use super::Core;
use super::inbound::kept;

/// What a connection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Holding {
    id: ConnId,
    bytes: usize,
    /// When the oldest of it came.
    since: Tick,
}

impl Core {
    /// Bytes that a connection holds of what is incomplete or waits, and when that began; `None` if there is nothing.
    fn holding(&self, id: ConnId) -> Option<(usize, Tick)> {
        let conn = self.conns.get(id)?;
        let message = conn.partial.as_ref().map(|pending| (pending.heap_bytes(), pending.since));
        let request = match &conn.session {
            Session::Head(Some(unparsed)) | Session::Asked(unparsed) => Some((unparsed.body_bytes(), unparsed.since)),
            _ => None,
        };
        let queue = self.admissions.get(id).filter(|_| conn.flags.asking()).and_then(|admission| {
            let queue = admission.queue.as_ref()?;
            Some((queue.bytes(), Some(queue.since)))
        });
        let parts = [message, request, queue].into_iter().flatten().filter(|&(bytes, _)| bytes > 0);
        parts
            .map(|(bytes, since)| (bytes, since.unwrap_or(self.now)))
            .reduce(|(bytes, since), (more, other)| (bytes + more, if since.is_after(other) { other } else { since }))
    }

    /// The bytes of [`Core::holding`].
    pub(super) fn held_bytes(&self, id: ConnId) -> usize {
        self.holding(id).map_or(0, |(bytes, _)| bytes)
    }

    /// Everybody who holds something.
    fn holdings(&self) -> Vec<Holding> {
        let indices = std::iter::successors(self.conns.next_occupied(0), |&index| self.conns.next_occupied(index + 1));
        let ids = indices.filter_map(|index| self.conns.id(index));
        ids.filter_map(|id| self.holding(id).map(|(bytes, since)| Holding { id, bytes, since })).collect()
    }

    /// Closes connections until what is incomplete is within the bound.
    pub(super) fn bound_incomplete(&mut self) {
        let most = self.settings.incomplete_bytes;
        if self.partial_bytes <= most {
            return;
        }
        // Somewhat less than the bound, so that whoever adds to it does not have everybody looked at each time.
        let excess = self.partial_bytes - (most - most / 16);
        for id in hogs(self.holdings(), excess, self.now) {
            self.evict(id, "too many incomplete messages", CloseReason::Incomplete);
        }
    }

    /// Ends a connection for what it holds, and lets go of that at once.
    pub(super) fn evict(&mut self, id: ConnId, why: &str, reason: CloseReason) {
        self.let_go(id);
        match self.conns.get(id).map(|conn| conn.phase) {
            Some(Phase::Head) => {
                self.counters.http_errors.add(1);
                let response = Response::unavailable(1, "There are too many incomplete requests.");
                self.respond(id, &response, Framing::CLOSE, reason);
            }
            // No more is decoded: a close handshake would need that.
            Some(Phase::Open | Phase::Closing) => self.fail(id, 1013, why, reason),
            Some(Phase::Flushing | Phase::Lingering) | None => {}
        }
    }

    /// Drops what a connection holds. What it sends then is read, and no more than that.
    fn let_go(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        self.overdue.cancel(id.index);
        let mut bytes = kept(&conn.partial.take());
        if let Session::Head(Some(unparsed)) | Session::Asked(unparsed) = &conn.session {
            bytes += unparsed.body_bytes();
            conn.session = Session::Head(None);
        }
        if conn.flags.asking() {
            let queue = self.admissions.get_mut(id).and_then(|admission| admission.queue.take());
            bytes += queue.map_or(0, |queue| queue.bytes());
            conn.flags.set_asking(false);
        }
        self.partial_bytes -= bytes;
        self.want_read(id);
    }

    /// What a connection that had, or has, an incomplete message keeps of it now.
    pub(super) fn keep_partial(&mut self, id: ConnId, mut partial: Partial) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if matches!(conn.phase, Phase::Flushing | Phase::Lingering) {
            // Nothing is decoded any more.
            partial = None;
        }
        match (&mut partial, self.settings.message_timeout) {
            (None, _) => self.overdue.cancel(id.index),
            (Some(pending), timeout) if pending.since.is_none() => {
                pending.since = Some(self.now);
                match timeout {
                    Some(timeout) => self.overdue.set(id.index, self.now.after(timeout)),
                    None => self.overdue.cancel(id.index),
                }
            }
            _ => {}
        }
        self.partial_bytes += kept(&partial);
        conn.partial = partial;
    }

    /// Closes one whose message has been incomplete for too long.
    pub(super) fn message_overdue(&mut self, index: u32) {
        let now = self.now;
        let Some(timeout) = self.settings.message_timeout else { return };
        let Some((id, conn)) = self.conns.by_index(index).filter(|(_, conn)| conn.is_open()) else { return };
        let Some(since) = conn.partial.as_ref().and_then(|pending| pending.since) else { return };
        // Its end may be among what waits to be read or decoded: that it waits is the shard's doing.
        let flags = conn.flags;
        let unread = flags.readable() || flags.paused() || flags.undecoded() || flags.asking();
        let due = since.after(timeout);
        if due.is_after(now) {
            return self.overdue.set(index, due);
        }
        if unread {
            return self.overdue.set(index, now.after(Tick::LENGTH));
        }
        self.let_go(id);
        self.fail(id, 1008, "message timeout", CloseReason::MessageTimeout);
    }
}

/// Who is to go so that so many bytes are let go of: of those that hold half of the average or more, who has held it the longest.
///
/// They hold more than half of everything together. So whoever holds little is never among them; and whoever sends something large
/// is behind all those that only keep it here.
fn hogs(mut holdings: Vec<Holding>, excess: usize, now: Tick) -> Vec<ConnId> {
    let all: usize = holdings.iter().map(|holding| holding.bytes).sum();
    let large = all / (2 * holdings.len().max(1));
    holdings.retain(|holding| holding.bytes >= large);
    holdings.sort_unstable_by_key(|holding| Reverse((now.since(holding.since), holding.bytes)));
    let mut left = excess;
    let is_wanted = |holding: &Holding| {
        let is_wanted = left > 0;
        left = left.saturating_sub(holding.bytes);
        is_wanted
    };
    holdings.into_iter().take_while(is_wanted).map(|holding| holding.id).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Tick = Tick(5);

    /// Bytes and age in ticks; the slot is the place.
    fn holdings(of: &[(usize, u32)]) -> Vec<Holding> {
        let holding = |(index, &(bytes, age)): (u32, &(usize, u32))| {
            let id = ConnId { index, generation: 0 };
            Holding { id, bytes, since: Tick(NOW.0.wrapping_sub(age)) }
        };
        (0..).zip(of).map(holding).collect()
    }

    fn gone(of: &[(usize, u32)], excess: usize) -> Vec<u32> {
        hogs(holdings(of), excess, NOW).into_iter().map(|id| id.index).collect()
    }

    #[test]
    fn of_those_that_hold_much_the_oldest_go_first() {
        // Somebody who has held little for very long, hogs, and somebody who is about to send something large.
        let all = [(100, 9000), (1000, 20), (1000, 10), (2000, 1), (999, 30)];
        for (excess, who) in [(1, &[4][..]), (999, &[4]), (1000, &[4, 1]), (2000, &[4, 1, 2]), (3000, &[4, 1, 2, 3])] {
            assert_eq!(gone(&all, excess), who, "{excess}");
        }
        assert_eq!(gone(&[(5, 3), (7, 3)], 1), [1], "of the same age, the larger one");
        assert_eq!(gone(&[(5, 0)], 5), [0]);
        assert_eq!(gone(&[], 5), [0u32; 0]);
    }

    proptest! {
        #[test]
        fn whoever_holds_little_stays_and_half_of_everything_can_be_had(
            of in prop::collection::vec((1..10_000usize, 0..1000u32), 1..40),
            percent in 1..50usize,
        ) {
            let all: usize = of.iter().map(|(bytes, _)| bytes).sum();
            let excess = (all * percent / 100).max(1);
            let gone = gone(&of, excess);
            let bytes = |index: &u32| of[*index as usize].0;
            prop_assert!(gone.iter().map(bytes).sum::<usize>() >= excess);
            prop_assert!(gone[..gone.len() - 1].iter().map(bytes).sum::<usize>() < excess, "not one too many");
            prop_assert!(gone.iter().all(|index| bytes(index) >= all / of.len() / 2));
        }
    }
}
