//! The end of a shard: goodbye to all.

use std::time::Duration;

use crate::conn::Phase;
use crate::error::CloseReason;
use crate::time::Tick;

use super::Core;

/// Connections that one turn of a shutdown says goodbye to.
const GOODBYES_PER_TURN: usize = 256;

/// What a shard is doing with its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// Accepting and serving.
    Serving,
    /// Saying goodbye: the next slot to look at, and when patience ends.
    Stopping { next: u32, until: Tick },
    /// All connections are gone.
    Stopped,
}

impl Core {
    /// Begins to stop: no more connections, 1001 to all, and an end within `within`.
    pub(super) fn stop(&mut self, within: Duration) {
        let until = self.now.after(within);
        if self.life == Life::Serving {
            self.stop_accepting();
            self.life = Life::Stopping { next: 0, until };
        }
    }

    /// Goes on stopping; at the end, whatever is left is cut off.
    pub(super) fn keep_stopping(&mut self) {
        let Life::Stopping { mut next, until } = self.life else { return };
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
                Phase::Open => self.close(id, 1001, "server shutdown", CloseReason::Shutdown),
                Phase::Head if conn.outbox.is_empty() => self.terminate(id, CloseReason::Shutdown),
                Phase::Head => self.flush_and_close(id, CloseReason::Shutdown),
                Phase::Closing | Phase::Flushing | Phase::Lingering => {}
            }
        }
        if !in_time && next == u32::MAX {
            next = 0;
        }
        self.life = if self.conns.is_empty() { Life::Stopped } else { Life::Stopping { next, until } };
    }

    /// Whether a stopping shard has goodbyes left to say.
    pub(super) fn has_goodbyes(&self) -> bool {
        matches!(self.life, Life::Stopping { next, .. } if next != u32::MAX)
    }
}
