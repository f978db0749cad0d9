//! Draining: clients are sent away one after the other, evenly over a time, so that they do not come back all at once.
//!
//! Meanwhile the shard serves those who are still there, and answers newcomers with 503. No shard ends before all have sent
//! everybody away: it may be the home of topics whose subscribers are elsewhere. Backends are sent away at the very end, since
//! others still need them.

use std::time::Duration;

use crate::conn::{Conn, Session};
use crate::dialect::{Event, sse};
use crate::error::CloseReason;
use crate::http::request::{Method, Request};
use crate::http::response::{Framing, Response};
use crate::ring::token::ConnId;
use crate::time::Tick;

use super::Core;
use super::inbound::Next;
use super::mail::Mail;
use super::stop::{GOODBYES_PER_TURN, Life};

/// Milliseconds over which those who are sent away are spread when they come back.
const SPREAD_MS: u64 = 2_000;
/// Milliseconds after which a stream comes back at the earliest: a browser keeps to it from then on, also if nobody is there.
const LEAST_RETRY_MS: u64 = 1_000;
/// Seconds after which a newcomer may try again at the latest.
const LAST_RETRY: u64 = 4;

/// A drain, as a shard sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Drain {
    /// When it begins to send clients away.
    begin: Tick,
    /// How long that takes.
    time: Duration,
    /// How long the last ones may take to go.
    grace: Duration,
    /// The next slot to look at.
    next: u32,
    /// Connections that were there at the beginning; nothing before it.
    all: Option<usize>,
    /// Those of them that were looked at.
    seen: usize,
    /// More are due than one turn looks at.
    behind: bool,
    /// All were looked at. Other shards may not be as far.
    done: bool,
}

impl Drain {
    /// How many are to have been looked at by now, if `left` have not been. The first at once, the others evenly.
    fn due(&self, now: Tick, left: usize) -> usize {
        let (all, passed) = (self.seen + left, now.since(self.begin));
        if passed >= self.time {
            return usize::MAX;
        }
        (all as u128 * passed.as_nanos() / self.time.as_nanos()) as usize + 1
    }

    /// When there is something to be done for it.
    pub(super) fn wakes_at(&self, now: Tick) -> Option<Tick> {
        match (self.begin.is_after(now), self.done) {
            (true, _) => Some(self.begin),
            (false, false) => Some(now.after(Tick::LENGTH)),
            (false, true) => None,
        }
    }

    /// Whether the turn to come has some to send away already.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }
}

impl Core {
    /// Begins to drain, after `delay`; the shard ends no more than `grace` after all shards have sent everybody away.
    pub(super) fn drain(&mut self, delay: Duration, time: Duration, grace: Duration) {
        if self.life == Life::Serving {
            let begin = self.now.after(delay);
            let nothing = Drain { begin, time, grace, next: 0, all: None, seen: 0, behind: false, done: false };
            self.life = Life::Draining(nothing);
        }
    }

    /// Goes on with it.
    pub(super) fn keep_draining(&mut self) {
        let Life::Draining(mut drain) = self.life else { return };
        if drain.done || drain.begin.is_after(self.now) {
            return;
        }
        if drain.time.is_zero() {
            return self.stop(drain.grace, false);
        }
        // Those who go by themselves are not waited for.
        let left = drain.all.get_or_insert(self.conns.len()).saturating_sub(drain.seen).min(self.conns.len());
        let due = drain.due(self.now, left);
        for _ in 0..GOODBYES_PER_TURN {
            let index = self.conns.next_occupied(drain.next);
            drain.done = index.is_none();
            let Some(index) = index.filter(|_| drain.seen < due) else { break };
            drain.next = index + 1;
            // Requests are answered, by 503; and whoever is between two of them is not open.
            let Some(id) = self.conns.id(index).filter(|&id| self.conns.get(id).is_some_and(Conn::is_open)) else {
                continue;
            };
            drain.seen += 1;
            if !self.conns.get(id).is_some_and(Conn::is_backend) {
                self.send_away(id);
            }
        }
        drain.behind = !drain.done && drain.seen < due;
        self.life = Life::Draining(drain);
        if drain.done && self.shared.has_drained() {
            self.end_all(drain.grace);
        }
    }

    /// The last shard has sent everybody away: all may end.
    fn end_all(&mut self, grace: Duration) {
        let within_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        for shard in 0..self.postboxes.len() {
            self.post(shard as u16, Mail::Shutdown { within_ms, drained: true });
        }
    }

    /// Closes an open connection, so that its client comes back: to another server, or to the one that takes this one's place.
    pub(super) fn send_away(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.is_open()) else { return };
        let (is_json, is_stream) = (matches!(conn.session, Session::Json { .. }), conn.class.is_events());
        let after = self.random() % (SPREAD_MS + 1);
        if is_json {
            self.tell(id, Event::Reconnect { after });
        } else if is_stream {
            self.push_reply(id, &[sse::retry(LEAST_RETRY_MS + after).as_bytes()]);
        }
        self.close(id, 1012, "service restart", CloseReason::Drain);
    }

    /// Whether newcomers are to go elsewhere.
    pub(super) fn turns_away(&self) -> bool {
        match self.life {
            Life::Draining(drain) => !drain.begin.is_after(self.now),
            // In the turn that reads that all shards are done, requests come before the goodbyes.
            Life::Stopping { drained, .. } => drained,
            Life::Serving | Life::Stopped => false,
        }
    }

    /// Answers a newcomer's request.
    pub(super) fn send_elsewhere(&mut self, id: ConnId, request: &Request<'_>) -> Next {
        self.counters.refused_draining.add(1);
        let after = 1 + self.random() % LAST_RETRY;
        let response = Response::unavailable(after as u32, "The server is about to end: come back in a moment.");
        self.refuse(id, &response, Framing { head_only: request.method == Method::Head, keep_alive: false });
        Next::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(time_ms: u64, seen: usize) -> Drain {
        let time = Duration::from_millis(time_ms);
        Drain { begin: Tick(100), time, grace: time, next: 0, all: None, seen, behind: false, done: false }
    }

    #[test]
    fn the_first_is_due_at_once_and_the_others_evenly() {
        for (tick, seen, left, due) in [
            (100, 0, 1, 1),
            (100, 0, 1000, 1),
            (101, 1, 999, 11),
            (150, 0, 1000, 501),
            (199, 990, 10, 991),
            (200, 990, 10, usize::MAX),
            (100, 0, 0, 1),
            // Half of them have gone by themselves.
            (150, 250, 250, 251),
        ] {
            assert_eq!(drain(1000, seen).due(Tick(tick), left), due, "{tick} {seen} {left}");
        }
    }

    #[test]
    fn it_is_looked_at_when_it_begins_and_then_in_every_tick_until_it_is_done() {
        let drain = drain(1000, 0);
        assert_eq!(drain.wakes_at(Tick(50)), Some(Tick(100)));
        assert_eq!(drain.wakes_at(Tick(100)), Some(Tick(101)));
        assert_eq!(Drain { done: true, ..drain }.wakes_at(Tick(101)), None);
    }
}
