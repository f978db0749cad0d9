//! Who is who among the clients of the `json` dialect: names that say nothing, and tokens that prove them.
//!
//! A `clientId` is the connection's place in the process (shard, slot, generation) under a keyed permutation of 64 bits, so
//! that a message to it finds its way without a directory, and nobody can tell from it how many connections there are. The
//! permutation is no cipher: what a client may do does not depend on its name being unknown. Its token does, and is a keyed
//! hash.

use std::hash::{BuildHasher, RandomState};

use sha1_smol::Sha1;

use crate::ring::token::ConnId;

/// Bits of a shard's number, of a slot, and of a generation.
const SHARD_BITS: u32 = 16;
const INDEX_BITS: u32 = 20;
const _: () = {
    assert!(SHARD_BITS + INDEX_BITS + ConnId::GENERATION_BITS <= u64::BITS);
    assert!(1 << INDEX_BITS >= crate::limits::MAX_CONNECTIONS_PER_SHARD);
    assert!(crate::limits::MAX_SHARDS <= u16::MAX as usize);
};

/// An odd number multiplies without loss; this is its inverse modulo 2⁶⁴.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = 0xf1de_83e1_9937_733d;
const _: () = assert!(FACTOR.wrapping_mul(INVERSE) == 1);

/// The process's secrets.
pub struct Identity {
    keys: [u64; 3],
    secret: [u8; 32],
}

impl Identity {
    /// Secrets that nobody can guess: the standard library's hasher has its keys from the kernel.
    pub fn random() -> Identity {
        let state = RandomState::new();
        Identity::new(|i| state.hash_one(i))
    }

    /// The same in every run. For tests.
    pub fn seeded(seed: u64) -> Identity {
        Identity::new(|i| (seed ^ i).wrapping_mul(FACTOR))
    }

    fn new(word: impl Fn(u64) -> u64) -> Identity {
        let mut secret = [0; 32];
        for (i, bytes) in secret.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&word(8 + i as u64).to_le_bytes());
        }
        Identity { keys: [word(0), word(1), word(2)], secret }
    }

    /// The name of a connection's client.
    pub fn client(&self, shard: u16, conn: ConnId) -> u64 {
        let place = (u64::from(shard) << INDEX_BITS | u64::from(conn.index)) << ConnId::GENERATION_BITS;
        self.keys.iter().fold(place | u64::from(conn.generation), |x, key| {
            let x = (x ^ key).wrapping_mul(FACTOR);
            x ^ x >> 32
        })
    }

    /// The name under which other threads of the process do what clients do: that of a shard that is none, so no client's.
    pub fn process(&self) -> u64 {
        self.client(u16::MAX, ConnId { index: 0, generation: 0 })
    }

    /// The shard and the connection that a name was made for. Of a name that was not made here, it is anything.
    pub fn whereabouts(&self, client: u64) -> (u16, ConnId) {
        let place = self.keys.iter().rev().fold(client, |x, key| (x ^ x >> 32).wrapping_mul(INVERSE) ^ key);
        let generation = place as u32 & ConnId::GENERATION_MASK;
        let index = (place >> ConnId::GENERATION_BITS) as u32 & ((1 << INDEX_BITS) - 1);
        let shard = (place >> (ConnId::GENERATION_BITS + INDEX_BITS)) as u16;
        (shard, ConnId { index, generation })
    }

    /// What proves a name: 40 hexadecimal digits.
    pub fn token(&self, client: u64) -> String {
        // Hashed twice, as in HMAC: one hash of secret and name could be continued.
        let hash = |data: &[u8]| {
            let mut hash = Sha1::from(self.secret);
            hash.update(data);
            hash.digest()
        };
        hash(&hash(&client.to_be_bytes()).bytes()).to_string()
    }

    /// Whether a token is the name's. Takes as long whatever it is.
    pub fn proves(&self, client: u64, token: &str) -> bool {
        let right = self.token(client);
        let differ = right.bytes().zip(token.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
        right.len() == token.len() && differ == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_proves_one_name_in_one_process() {
        let (a, b) = (Identity::random(), Identity::random());
        let token = a.token(7);
        assert_eq!(token.len(), 40);
        assert!(a.proves(7, &token));
        assert!(!a.proves(8, &token) && !b.proves(7, &token));
        assert!(!a.proves(7, "") && !a.proves(7, &token[1..]) && !a.proves(7, &format!("{token}0")));
    }

    proptest! {
        #[test]
        fn a_name_leads_to_its_connection(seed: u64, shard: u16, index in 0..1u32 << 20, generation in 0..1u32 << 24) {
            let identity = Identity::seeded(seed);
            let conn = ConnId { index, generation };
            prop_assert_eq!(identity.whereabouts(identity.client(shard, conn)), (shard, conn));
        }
    }
}
