//! What shards and the control thread share: counters, limits of the whole process, and the switch for memory.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use crate::admission::Admission;
use crate::counters::{Counters, Process};

use super::identity::Identity;
use super::mail::Origin;

/// What the server does with those who come, and with those who are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Standing {
    /// It takes them.
    Serving,
    /// It sends them away, one after the other.
    Draining,
    /// It says goodbye to all.
    Stopping,
}

/// The state of the process as every shard sees it.
pub struct Shared {
    counters: Vec<Arc<Counters>>,
    memory_pressure: AtomicBool,
    /// A [`Standing`].
    standing: AtomicU8,
    /// Shards that have sent everybody away.
    drained: AtomicUsize,
    max_connections: AtomicU64,
    /// Places topics on shards. Random for each process, so that nobody outside can aim topics at one shard.
    hasher: SeedableRandomState,
    identity: Identity,
    admission: Admission,
    process: Arc<Process>,
}

impl Shared {
    /// For so many shards.
    pub fn new(shards: u16) -> Shared {
        Shared::with_hasher(shards, SeedableRandomState::random(), Identity::random())
    }

    /// As [`Shared::new`], with homes that are the same in every run. For tests.
    pub fn seeded(shards: u16, seed: u64) -> Shared {
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Shared::with_hasher(shards, hasher, Identity::seeded(seed))
    }

    fn with_hasher(shards: u16, hasher: SeedableRandomState, identity: Identity) -> Shared {
        Shared {
            counters: (0..shards).map(|_| Arc::default()).collect(),
            memory_pressure: AtomicBool::new(false),
            standing: AtomicU8::new(Standing::Serving as u8),
            drained: AtomicUsize::new(0),
            max_connections: AtomicU64::new(u64::MAX),
            hasher,
            identity,
            admission: Admission::new(),
            process: Arc::default(),
        }
    }

    /// A shard's counters.
    pub fn counters(&self, shard: u16) -> &Arc<Counters> {
        &self.counters[usize::from(shard)]
    }

    /// The counters of all shards.
    pub fn all_counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// What is counted of the process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Open connections of all shards.
    pub fn connections(&self) -> u64 {
        self.counters.iter().map(|counters| counters.connections.get()).sum()
    }

    /// Connections of the process; those beyond are answered with 503.
    pub fn max_connections(&self) -> u64 {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// Set before anything is accepted, when it is known how many slots the kernel gives, and by a reload.
    pub fn set_max_connections(&self, max: u64) {
        self.max_connections.store(max, Ordering::Relaxed);
    }

    /// The names of clients, and what proves them.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The connections of each address.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The shard that orders a topic.
    pub fn home(&self, topic: &str) -> u16 {
        if self.counters.len() == 1 {
            return 0;
        }
        (self.hasher.hash_one(topic) % self.counters.len() as u64) as u16
    }

    /// How well a backend suits a room: the room's is the one whose number is the greatest (rendezvous hashing), so that
    /// rooms are spread evenly, and are not moved but from one that goes.
    pub fn rank(&self, room: &str, backend: Origin) -> u64 {
        let hash = self.hasher.hash_one((room, backend.shard, backend.conn.index, backend.conn.generation));
        // A hash that is good enough for tables does not make the greatest of several fall evenly: every bit is to depend on
        // every other (the end of MurmurHash3).
        let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }

    /// What the server does.
    pub fn standing(&self) -> Standing {
        const SERVING: u8 = Standing::Serving as u8;
        const DRAINING: u8 = Standing::Draining as u8;
        match self.standing.load(Ordering::Relaxed) {
            SERVING => Standing::Serving,
            DRAINING => Standing::Draining,
            _ => Standing::Stopping,
        }
    }

    /// Notes what the server does from now on. It does not go back.
    pub fn advance(&self, standing: Standing) {
        self.standing.fetch_max(standing as u8, Ordering::Relaxed);
    }

    /// A shard has sent everybody away: whether it is the last one. To be called once by each.
    pub fn has_drained(&self) -> bool {
        self.drained.fetch_add(1, Ordering::Relaxed) + 1 == self.counters.len()
    }

    /// Why newcomers are refused, or should soon go elsewhere; nothing while they are welcome.
    pub fn unready(&self) -> Option<&'static str> {
        match self.standing() {
            Standing::Serving if self.memory_pressure() => Some("memory"),
            Standing::Serving => (self.process().keys_awaited.get() > 0).then_some("keys"),
            Standing::Draining => Some("draining"),
            Standing::Stopping => Some("stopping"),
        }
    }

    /// Whether a newcomer would be one too many.
    pub fn is_full(&self) -> bool {
        self.connections() >= self.max_connections()
    }

    /// Whether new connections are refused for want of memory.
    pub fn memory_pressure(&self) -> bool {
        self.memory_pressure.load(Ordering::Relaxed)
    }

    /// Set by the control thread, which watches the process's memory.
    pub fn set_memory_pressure(&self, on: bool) {
        self.memory_pressure.store(on, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::token::ConnId;
    use proptest::prelude::*;

    fn best(shared: &Shared, room: &str, backends: &[Origin]) -> usize {
        (0..backends.len()).max_by_key(|&i| shared.rank(room, backends[i])).expect("there are some")
    }

    proptest! {
        #[test]
        fn rooms_are_spread_evenly_and_move_only_from_a_backend_that_goes(seed: u64, count in 2_u32..6, gone: usize) {
            const ROOMS: usize = 2000;
            let shared = Shared::seeded(3, seed);
            let place = |i| Origin { shard: (i % 3) as u16, conn: ConnId { index: i, generation: 7 } };
            let backends: Vec<_> = (0..count).map(place).collect();
            let gone = gone % backends.len();
            let others: Vec<_> = backends.iter().copied().filter(|&at| at != backends[gone]).collect();
            let mut rooms = vec![0; backends.len()];
            for room in (0..ROOMS).map(|i| format!("room-{i}")) {
                let chosen = best(&shared, &room, &backends);
                rooms[chosen] += 1;
                if chosen != gone {
                    prop_assert_eq!(others[best(&shared, &room, &others)], backends[chosen]);
                }
            }
            let fair = ROOMS / backends.len();
            prop_assert!(rooms.iter().all(|&rooms| (fair * 7 / 10..=fair * 13 / 10).contains(&rooms)), "{rooms:?}");
        }
    }
}
