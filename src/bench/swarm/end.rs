//! The end of a thread's connections.

use std::time::Instant;

use crate::ring::op::Wait;
use crate::ring::token::ConnId;

use super::conn::Phase;
use super::{Core, Event, Swarm};

impl Core {
    /// The socket has failed. Of one that was never open, it says where it should have gone.
    pub(super) fn failed(&mut self, id: ConnId, errno: i32, on: &mut dyn FnMut(Event<'_>)) {
        let conn = &self.conns[id.index as usize];
        let error = std::io::Error::from_raw_os_error(errno);
        let why = match conn.phase {
            Phase::Open => error.to_string(),
            _ => format!("{}: {error}", self.target.address(conn.role)),
        };
        self.lost(id, why, on);
    }

    /// The connection is over, and not because we wanted it.
    pub(super) fn lost(&mut self, id: ConnId, why: String, on: &mut dyn FnMut(Event<'_>)) {
        let conn = &self.conns[id.index as usize];
        if conn.is(id) {
            let open = conn.phase == Phase::Open;
            self.close(id);
            on(if open { Event::Closed(id, why) } else { Event::Refused(id, why) });
        }
    }

    /// Gives up those that were not open in time.
    pub(super) fn expire(&mut self, on: &mut dyn FnMut(Event<'_>)) {
        while let Some(&(id, deadline)) = self.hurrying.front() {
            let conn = &self.conns[id.index as usize];
            let pending = conn.is(id) && conn.phase != Phase::Open;
            if pending && Instant::now() < deadline {
                break;
            }
            self.hurrying.pop_front();
            if pending {
                self.lost(id, "no answer in time".into(), on);
            }
        }
    }
}

impl Drop for Swarm {
    /// Closes one connection after the other. A ring that is dropped with its polls armed cancels them all with one call,
    /// which looks at every poll that it has cancelled already each time that it looks for the next: 20,000 take seconds,
    /// and a million, in rings of 20,000, took two minutes (Linux 6.18).
    fn drop(&mut self) {
        for index in 0..self.core.conns.len() {
            let conn = &self.core.conns[index];
            if conn.phase != Phase::Vacant {
                let id = ConnId { index: index as u32, generation: conn.generation };
                self.core.close(id);
            }
        }
        // If the ring has failed, its descriptor takes everything along.
        let _ = self.ring.enter(&mut self.core.ops, &self.core.frames, Wait::None);
    }
}
