//! New connections.

use std::net::IpAddr;
use std::time::Duration;

use crate::conn::Conn;
use crate::error::CloseReason;
use crate::limits::ACCEPTS;
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
    /// Connections that are being told why they are not served.
    pub(super) refusals: u32,
}

impl Seats {
    pub(super) fn new(doors: Vec<Door>) -> Seats {
        let armed = vec![false; doors.len() * usize::from(ACCEPTS)];
        Seats { doors, armed, refusals: 0 }
    }

    fn door(&self, seat: u16) -> Door {
        self.doors.get(usize::from(seat / ACCEPTS)).copied().unwrap_or(Door::Plain)
    }
}

impl Core {
    /// Asks for connections, in every seat; or waits on, if other shards have had what may come.
    pub(super) fn start_accepting(&mut self) {
        let bucket = self.settings.connect_rate;
        let pause = bucket.and_then(|bucket| self.shared.admission().wait(bucket, self.now));
        self.accept_again = pause.map(|pause| self.now.after(pause));
        if pause.is_some() {
            return;
        }
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
            ..=0 => {
                self.accepted(completion.result as u32, self.seats.door(seat), peer);
                self.keep_to_connect_rate();
            }
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

    /// Whether more may come: whoever is too many waits in the listener's queue.
    fn keep_to_connect_rate(&mut self) {
        let Some(bucket) = self.settings.connect_rate else { return };
        let pause = self.shared.admission().count(bucket, self.now);
        if let Some(pause) = pause.filter(|_| self.accept_again.is_none() && self.accepts()) {
            self.counters.accept_waits.add(1);
            self.accept_again = Some(self.now.after(pause));
        }
    }

    /// Notes when the tenant of a slot came.
    fn arrived(&mut self, slot: u32) {
        let index = slot as usize;
        if index >= self.watch.arrivals.len() {
            self.watch.arrivals.resize(index + 1, self.now);
        }
        if let Some(at) = self.watch.arrivals.get_mut(index) {
            *at = self.now;
        }
    }

    fn accepted(&mut self, slot: u32, door: Door, address: IpAddr) {
        self.counters.accepted.add(1);
        let id = self.conns.insert(slot, Conn::new());
        self.counters.connections.add(1);
        self.arrived(slot);
        if door == Door::Tls {
            self.start_tls(id);
        }
        self.ops.push(Op::Watch(id));
        self.wheel.set(slot, self.now.after(self.settings.head_timeout));
        if !self.accepts() {
            return self.terminate(id, CloseReason::Shutdown);
        }
        if let Err(refusal) = self.admit_newcomer(id, address) {
            self.turn_away(id, refusal);
        }
    }
}
