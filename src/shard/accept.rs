//! New connections.

use std::time::Duration;

use crate::conn::Conn;
use crate::error::CloseReason;
use crate::http::response::{Framing, Response};
use crate::limits::SPARE_SLOTS;
use crate::ring::op::{Completion, Op};
use crate::ring::sys;

use super::Core;
use super::stop::Life;

/// How long accepting pauses when there is no descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Asks for connections.
    pub(super) fn start_accepting(&mut self) {
        self.accept_again = None;
        self.ops.push(Op::Accept);
    }

    /// A completion of the multishot accept.
    pub(super) fn accept_completed(&mut self, completion: Completion) {
        if completion.result >= 0 {
            self.accepted(completion.result as u32);
        }
        if completion.more || self.life != Life::Serving {
            return;
        }
        match -completion.result {
            sys::ECANCELED => {}
            // The multishot has ended by itself, or a client was gone before it was accepted.
            error if error <= 0 || error == sys::ECONNABORTED => {
                self.counters.rearmed.add(1);
                self.ops.push(Op::Accept);
            }
            // No descriptor, no memory, or something that trying again at once will not cure.
            _ => {
                self.counters.accept_paused.add(1);
                self.accept_again = Some(self.now.after(ACCEPT_PAUSE));
            }
        }
    }

    fn accepted(&mut self, slot: u32) {
        self.counters.accepted.add(1);
        let id = self.conns.insert(slot, Conn::new());
        self.counters.connections.add(1);
        self.meters.start(slot, self.now);
        self.ops.push(Op::Watch(id));
        self.wheel.set(slot, self.now.after(self.settings.head_timeout));
        if self.life != Life::Serving {
            return self.terminate(id, CloseReason::Shutdown);
        }
        let full = self.conns.len() > self.capacity || self.shared.connections() > self.shared.max_connections();
        let refused = if full {
            &self.counters.refused_full
        } else if self.shared.memory_pressure() {
            &self.counters.refused_memory
        } else {
            return;
        };
        refused.add(1);
        if self.refusals >= SPARE_SLOTS {
            return self.terminate(id, CloseReason::Refused);
        }
        self.refusals += 1;
        let response = Response::unavailable(1, "The server has as many connections as it may have.");
        self.respond(id, &response, Framing::CLOSE, CloseReason::Refused);
    }
}
