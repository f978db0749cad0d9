//! What a completion is about: the kind of operation and the connection, packed into `user_data`.

/// A connection of one shard: its slot in the ring's registered-file table, and which of the slot's tenants it is.
///
/// The generation tells a completion that arrives after its connection closed from one of the slot's next tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    /// Registered-file slot, below [`crate::limits::MAX_CONNECTIONS_PER_SHARD`].
    pub index: u32,
    /// Tenant of the slot, modulo 2²⁴.
    pub generation: u32,
}

impl ConnId {
    /// Bits of a generation that fit `user_data`.
    pub const GENERATION_BITS: u32 = 24;
    /// The generations' modulus minus one.
    pub const GENERATION_MASK: u32 = (1 << Self::GENERATION_BITS) - 1;
}

/// The kind of operation that a completion answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A connection was accepted; the result is its slot, and the token's slot is the accept's seat.
    Accept,
    /// The mailbox has mail.
    Wake,
    /// The socket has bytes, or was hung up; the result is the poll mask.
    Readable,
    /// The socket takes bytes again; the result is the poll mask.
    Writable,
    /// Bytes were read into the receive's buffer; the result is their count.
    Receive,
    /// A send fell short or failed (one that succeeds posts nothing); the result is the count or the error.
    Send,
    /// The sending side was shut down.
    Shutdown,
    /// The slot was closed.
    Close,
    /// A poll or the accept was cancelled.
    Cancel,
    /// Bytes were thrown away; the result is their count.
    Discard,
    /// The kernel can be given keys, or not.
    TlsAttached,
    /// The kernel has taken keys, or not.
    TlsInstalled,
    /// A record was read into the receive's buffer; the result is the count of its bytes.
    ReceiveRecord,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::Accept,
        Kind::Wake,
        Kind::Readable,
        Kind::Writable,
        Kind::Receive,
        Kind::Send,
        Kind::Shutdown,
        Kind::Close,
        Kind::Cancel,
        Kind::Discard,
        Kind::TlsAttached,
        Kind::TlsInstalled,
        Kind::ReceiveRecord,
    ];
}

/// `user_data` of an operation: kind in the top byte, generation in the next three, slot in the low four.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What was asked.
    pub kind: Kind,
    /// For whom; [`Token::RING`] where no connection is concerned.
    pub conn: ConnId,
}

impl Token {
    /// The connection of operations that concern the ring itself.
    pub const RING: ConnId = ConnId { index: u32::MAX, generation: 0 };

    /// The connection of an accept: its seat.
    pub fn seat(seat: u16) -> ConnId {
        ConnId { index: seat.into(), generation: 0 }
    }

    /// A token for an operation on a connection.
    pub fn new(kind: Kind, conn: ConnId) -> Token {
        debug_assert!(conn.generation <= ConnId::GENERATION_MASK);
        Token { kind, conn }
    }

    /// Packs the token.
    pub fn to_bits(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.conn.generation) << 32 | u64::from(self.conn.index)
    }

    /// Unpacks what [`Token::to_bits`] packed; `None` for bits that it never makes.
    pub fn from_bits(bits: u64) -> Option<Token> {
        let kind = *Kind::ALL.get((bits >> 56) as usize)?;
        let generation = (bits >> 32) as u32 & ConnId::GENERATION_MASK;
        Some(Token { kind, conn: ConnId { index: bits as u32, generation } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_round_trip() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i, "ALL is in the order of the discriminants");
            for conn in [Token::RING, ConnId { index: 7, generation: ConnId::GENERATION_MASK }] {
                let token = Token::new(kind, conn);
                assert_eq!(Token::from_bits(token.to_bits()), Some(token));
            }
        }
        assert_eq!(Token::from_bits(u64::MAX), None);
    }
}
