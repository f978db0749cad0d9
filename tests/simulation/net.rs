//! TCP connections: what is on its way in both directions, and how each came to an end.

use std::collections::VecDeque;

use crate::common::rng::Rng;

/// One connection, seen from both ends.
pub struct Socket {
    /// Bytes that the client has sent and the server has not received.
    pub up: VecDeque<u8>,
    /// The most that `up` takes.
    pub up_room: usize,
    /// Bytes that the server has sent and the client has not read.
    pub down: VecDeque<u8>,
    /// The most that `down` takes.
    pub down_room: usize,
    /// The client sends no more.
    pub client_fin: bool,
    /// The client is gone, by reset.
    pub client_reset: bool,
    /// The server sends no more, once `down` is read.
    pub server_fin: bool,
    /// The server has closed.
    pub server_closed: bool,
    /// The client's side has been reset; what is left of `down` may be lost.
    pub server_reset: bool,
    /// Something came since the server's poll last told.
    pub edge: bool,
    /// The server was told of the reset; to a second question the answer is another.
    pub told: bool,
    /// A send was not taken whole: from then on time-outs of the server may end the connection without last words.
    pub tight: bool,
    /// The kernel made up an error.
    pub faulted: bool,
}

impl Socket {
    pub fn new(rng: &mut Rng) -> Socket {
        Socket {
            up: VecDeque::new(),
            up_room: rng.pick(&[300, 5_000, 200_000]),
            down: VecDeque::new(),
            down_room: rng.pick(&[150, 1_000, 4_000, 20_000, 300_000]),
            client_fin: false,
            client_reset: false,
            server_fin: false,
            server_closed: false,
            server_reset: false,
            edge: false,
            told: false,
            tight: false,
            faulted: false,
        }
    }

    /// The client sends; returns how many bytes are under way.
    pub fn send(&mut self, from: &mut VecDeque<u8>, most: usize) -> usize {
        let n = most.min(from.len()).min(self.up_room.saturating_sub(self.up.len()));
        if n == 0 {
            return 0;
        }
        let bytes = from.drain(..n);
        if self.server_closed {
            // Nobody is there: the answer is a reset.
            drop(bytes);
            self.server_reset = true;
        } else {
            self.up.extend(bytes);
            self.edge = true;
        }
        n
    }

    pub fn finish(&mut self) {
        self.client_fin = true;
        self.edge = true;
    }

    pub fn reset(&mut self) {
        self.client_reset = true;
        self.edge = true;
        self.down.clear();
    }

    /// What a poll for reading says.
    pub fn poll_mask(&self) -> i32 {
        let readable = !self.up.is_empty() || self.client_fin || self.client_reset;
        let ended = self.client_fin || self.client_reset;
        let bits = [(readable, POLLIN), (ended, POLLRDHUP), (self.client_reset, POLLERR | POLLHUP)];
        bits.into_iter().filter(|&(on, _)| on).fold(0, |mask, (_, bit)| mask | bit)
    }

    pub fn room(&self) -> usize {
        self.down_room.saturating_sub(self.down.len())
    }

    /// Whether a poll for writing is satisfied: a third is free, as the kernel has it.
    pub fn is_writable(&self) -> bool {
        self.client_reset || self.room() >= self.down_room.div_ceil(3)
    }

    /// The server closes. Bytes that it has not read make that a reset.
    pub fn close(&mut self) {
        self.server_closed = true;
        self.server_fin = true;
        self.server_reset |= !self.up.is_empty();
        self.up.clear();
    }

    /// Whether there is nothing more to come for the client.
    pub fn is_at_end(&self) -> bool {
        self.down.is_empty() && (self.server_fin || self.server_reset)
    }
}

pub const POLLIN: i32 = 1;
pub const POLLERR: i32 = 8;
pub const POLLHUP: i32 = 0x10;
pub const POLLRDHUP: i32 = 0x2000;
