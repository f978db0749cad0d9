//! The end of a shard: goodbye to all.

use std::time::Duration;

use crate::conn::Phase;
use crate::error::CloseReason;
use crate::time::Tick;

use super::Core;
use super::drain::Drain;

/// Connections that one turn of a shutdown says goodbye to.
pub(super) const GOODBYES_PER_TURN: usize = 256;

/// What a shard is doing with its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// Accepting and serving.
    Serving,
    /// Sending clients away one after the other, and newcomers elsewhere.
    Draining(Drain),
    /// Saying goodbye: the next slot to look at, when patience ends, and whether a drain came before.
    Stopping { next: u32, until: Tick, drained: bool },
    /// All connections are gone.
    Stopped,
}

impl Core {
    /// Begins to stop: no more connections, goodbye to all, and an end within `within`. Whoever is still there after a drain is
    /// told what those before him were told, otherwise 1001.
    pub(super) fn stop(&mut self, within: Duration, drained: bool) {
        let until = self.now.after(within);
        if self.accepts() {
            self.stop_accepting();
            self.life = Life::Stopping { next: 0, until, drained };
        }
    }

    /// Whether connections are accepted, if only to be told to go elsewhere.
    pub(super) fn accepts(&self) -> bool {
        matches!(self.life, Life::Serving | Life::Draining(_))
    }

    /// Goes on stopping; at the end, whatever is left is cut off.
    pub(super) fn keep_stopping(&mut self) {
        let Life::Stopping { mut next, until, drained } = self.life else { return };
        let in_time = until.is_after(self.now);
        for _ in 0..GOODBYES_PER_TURN {
            let Some(index) = self.conns.next_occupied(next) else {
                next = u32::MAX;
                break;
            };
            next = index + 1;
            let Some((id, conn)) = self.conns.by_index(index) else { continue };
            match conn.phase {
                _ if !in_time => self.terminate(id, CloseReason::Shutdown),
                Phase::Open if drained => self.send_away(id),
                Phase::Open => self.close(id, 1001, "server shutdown", CloseReason::Shutdown),
                Phase::Head if conn.outbox.is_empty() => self.terminate(id, CloseReason::Shutdown),
                Phase::Head => self.flush_and_close(id, CloseReason::Shutdown),
                Phase::Closing | Phase::Flushing | Phase::Lingering => {}
            }
        }
        if !in_time && next == u32::MAX {
            next = 0;
        }
        self.life = if self.conns.is_empty() { Life::Stopped } else { Life::Stopping { next, until, drained } };
    }

    /// Whether goodbyes are left to say that could have been said in this turn.
    pub(super) fn has_goodbyes(&self) -> bool {
        match self.life {
            Life::Stopping { next, .. } => next != u32::MAX,
            Life::Draining(drain) => drain.is_behind(),
            Life::Serving | Life::Stopped => false,
        }
    }

    /// When the shard is to look after its own end again.
    pub(super) fn next_of_life(&self) -> Option<Tick> {
        match self.life {
            Life::Draining(drain) => drain.wakes_at(self.now),
            Life::Stopping { until, .. } => Some(until),
            Life::Serving | Life::Stopped => None,
        }
    }
}
