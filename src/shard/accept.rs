//! New connections.

use std::net::IpAddr;
use std::time::Duration;

use crate::conn::Conn;
use crate::conn::peer::Peer;
use crate::error::CloseReason;
use crate::http::response::{Framing, Response};
use crate::limits::{ACCEPTS, SPARE_SLOTS};
use crate::ring::op::{Completion, Op};
use crate::ring::sys;

use super::Core;

/// How long accepting pauses when there is no descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// HTTP.
    Plain,
    /// HTTP over TLS.
    Tls,
}

/// The accepts of a shard's listeners, by seat: which of them are under way.
pub(super) struct Seats {
    doors: Vec<Door>,
    armed: Vec<bool>,
}

impl Seats {
    pub(super) fn new(doors: Vec<Door>) -> Seats {
        let armed = vec![false; doors.len() * usize::from(ACCEPTS)];
        Seats { doors, armed }
    }

    fn door(&self, seat: u16) -> Door {
        self.doors.get(usize::from(seat / ACCEPTS)).copied().unwrap_or(Door::Plain)
    }
}

impl Core {
    /// Asks for connections, in every seat.
    pub(super) fn start_accepting(&mut self) {
        self.accept_again = None;
        for seat in 0..self.seats.armed.len() {
            self.accept(seat as u16);
        }
    }

    /// Asks for no more connections. Some may come all the same.
    pub(super) fn stop_accepting(&mut self) {
        self.accept_again = None;
        let armed = (0..).zip(&self.seats.armed).filter(|(_, armed)| **armed);
        self.ops.extend(armed.map(|(seat, _)| Op::CancelAccept { seat }));
    }

    fn accept(&mut self, seat: u16) {
        if let Some(armed) = self.seats.armed.get_mut(usize::from(seat)).filter(|armed| !**armed) {
            *armed = true;
            self.ops.push(Op::Accept { seat });
        }
    }

    /// An accept is over; `peer`: who has come, if somebody has.
    pub(super) fn accept_completed(&mut self, completion: Completion, peer: IpAddr) {
        let seat = completion.token.conn.index as u16;
        if let Some(armed) = self.seats.armed.get_mut(usize::from(seat)) {
            *armed = false;
        }
        match -completion.result {
            ..=0 => self.accepted(completion.result as u32, self.seats.door(seat), peer.into()),
            // The client was gone before it was accepted.
            sys::ECONNABORTED | sys::ECANCELED => {}
            // No descriptor, no memory, or something that trying again at once will not cure.
            _ if self.accept_again.is_none() && self.accepts() => {
                self.counters.accept_paused.add(1);
                self.accept_again = Some(self.now.after(ACCEPT_PAUSE));
            }
            _ => {}
        }
        if self.accept_again.is_none() && self.accepts() {
            self.accept(seat);
        }
    }

    fn accepted(&mut self, slot: u32, door: Door, peer: Peer) {
        self.counters.accepted.add(1);
        let id = self.conns.insert(slot, Conn::new());
        self.counters.connections.add(1);
        if door == Door::Tls {
            self.start_tls(id);
        }
        self.meters.start(slot, self.now);
        self.peers.set(slot, peer);
        self.ops.push(Op::Watch(id));
        self.wheel.set(slot, self.now.after(self.settings.head_timeout));
        if !self.accepts() {
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
        // What is sent to a TLS client costs a handshake first.
        if self.refusals >= SPARE_SLOTS || door == Door::Tls {
            return self.terminate(id, CloseReason::Refused);
        }
        self.refusals += 1;
        let response = Response::unavailable(1, "The server has as many connections as it may have.");
        self.respond(id, &response, Framing::CLOSE, CloseReason::Refused);
    }
}
