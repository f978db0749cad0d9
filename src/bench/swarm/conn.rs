//! One connection of the load.

use crate::bench::target::Role;
use crate::ring::token::ConnId;
use crate::ws::client::reader::Reader;

use super::{Attention, Spec};

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is none.
    Vacant,
    /// The socket connects.
    Connecting,
    /// The handshake is sent.
    Shaking,
    /// What subscribes is sent, and its answer awaited.
    Subscribing,
    /// Messages are due.
    Open,
}

/// A slot, and who is in it. There may be a million on one machine.
#[derive(Debug)]
pub struct Conn {
    pub generation: u32,
    pub phase: Phase,
    pub role: Role,
    pub attention: Attention,
    pub deflate: bool,
    pub read_wanted: bool,
    /// The server has sent its last byte: what is there is read to the end, as no poll tells of that again.
    pub hung_up: bool,
    pub topic: u32,
    pub n: u32,
    /// Bytes since it was open.
    pub received: u64,
    pub reader: Reader,
}

const _: () = assert!(size_of::<Conn>() <= 40);

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            generation: 0,
            phase: Phase::Vacant,
            role: Role::Subscriber,
            attention: Attention::Ignore,
            deflate: false,
            read_wanted: false,
            hung_up: false,
            topic: 0,
            n: 0,
            received: 0,
            reader: Reader::default(),
        }
    }
}

impl Conn {
    /// Whether the slot's tenant is the one meant.
    pub fn is(&self, id: ConnId) -> bool {
        self.phase != Phase::Vacant && self.generation == id.generation
    }

    /// A new tenant, which has nothing of the one before.
    pub fn begin(&mut self, index: u32, spec: Spec) -> ConnId {
        assert_eq!(self.phase, Phase::Vacant);
        let Spec { role, topic, n, attention } = spec;
        let generation = self.generation;
        *self = Conn { generation, phase: Phase::Connecting, role, attention, topic, n, ..Conn::default() };
        ConnId { index, generation }
    }

    /// The tenant is gone.
    pub fn end(&mut self) {
        self.phase = Phase::Vacant;
        self.generation = (self.generation + 1) & ConnId::GENERATION_MASK;
        self.reader = Reader::default();
    }
}
