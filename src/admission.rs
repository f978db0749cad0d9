//! How many connections each address has, and how fast it makes them: in the whole process, so that the bounds are exact
//! whichever shard a connection comes to.
//!
//! The one place where shards share a lock. It is taken when a connection from an address with a bound comes or goes, and never
//! for what a connection sends or is sent.

use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::bucket::{Bucket, Level};
use crate::conn::peer::Peer;
use crate::time::Tick;

/// Parts of the table, each with a lock of its own.
const STRIPES: usize = 64;
/// Addresses that are counted; connections of others are let in uncounted. An address is in the table while it has a connection or
/// its bucket is not full, so what fills the table is as many connections as `max_connections` allows, or more.
pub const MAX_ADDRESSES: usize = 1 << 20;
/// Addresses of a stripe up to which those of no use are left where they are.
const FEW: usize = 256;

/// What one address may have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: Option<u32>,
    /// New connections.
    pub rate: Option<Bucket>,
}

/// How a connection was let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// Nothing bounds its address.
    Freely,
    /// It is counted, until [`Admission::release`].
    Counted,
    /// It would be counted, were there not too many addresses.
    Untracked,
}

/// What an address has too much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excess {
    /// Connections.
    Connections,
    /// New connections, for now.
    Rate,
}

/// What is known of one address.
#[derive(Clone, Copy, Default)]
struct Account {
    connections: u32,
    level: Level,
}

impl Account {
    /// Whether a new account would be the same.
    fn is_idle(&mut self, limits: Limits, now: Tick) -> bool {
        self.connections == 0 && limits.rate.is_none_or(|bucket| bucket.is_full(&mut self.level, now))
    }
}

/// A part of the table.
struct Stripe {
    accounts: HashMap<Peer, Account, RandomState>,
    /// The size at which those of no use are looked for.
    sweep_at: usize,
}

/// The accounts of all addresses, and that of the whole server.
pub struct Admission {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    /// What is in the bucket of `connect_rate`, once something was taken from it.
    server: Mutex<Option<Level>>,
}

impl Admission {
    /// No connections yet.
    pub fn new() -> Admission {
        let stripe = || Mutex::new(Stripe { accounts: HashMap::default(), sweep_at: FEW });
        Admission {
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            hasher: RandomState::default(),
            server: Mutex::default(),
        }
    }

    /// Lets a connection of an address in, unless that has as many as it may, or makes them too fast.
    ///
    /// # Errors
    /// What it has too much of. A connection that is refused costs its address nothing.
    pub fn admit(&self, peer: Peer, limits: Limits, now: Tick) -> Result<Admitted, Excess> {
        if limits == Limits::default() {
            return Ok(Admitted::Freely);
        }
        let mut stripe = self.stripe(peer);
        let Some(account) = stripe.account(peer, limits, now) else { return Ok(Admitted::Untracked) };
        if limits.connections.is_some_and(|most| account.connections >= most) {
            return Err(Excess::Connections);
        }
        if limits.rate.is_some_and(|bucket| !bucket.take(&mut account.level, now)) {
            return Err(Excess::Rate);
        }
        account.connections += 1;
        Ok(Admitted::Counted)
    }

    /// A connection that was counted has ended, or is another address's.
    pub fn release(&self, peer: Peer, limits: Limits, now: Tick) {
        let mut stripe = self.stripe(peer);
        let Some(account) = stripe.accounts.get_mut(&peer) else { return };
        account.connections = account.connections.saturating_sub(1);
        if account.is_idle(limits, now) {
            stripe.accounts.remove(&peer);
        }
    }

    /// A connection has come to the server, from wherever: how long to wait with the next.
    pub fn count(&self, bucket: Bucket, now: Tick) -> Option<Duration> {
        let mut level = lock(&self.server);
        let level = level.get_or_insert_with(|| bucket.start(now));
        bucket.charge(level, now);
        bucket.wait(level, now)
    }

    /// How long to wait with the next connection.
    pub fn wait(&self, bucket: Bucket, now: Tick) -> Option<Duration> {
        lock(&self.server).as_mut().and_then(|level| bucket.wait(level, now))
    }

    /// Addresses in the table, and their connections.
    pub fn totals(&self) -> (usize, u64) {
        let of = |stripe: MutexGuard<'_, Stripe>| {
            let connections: u64 = stripe.accounts.values().map(|account| u64::from(account.connections)).sum();
            (stripe.accounts.len(), connections)
        };
        self.stripes.iter().map(|stripe| of(lock(stripe))).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    fn stripe(&self, peer: Peer) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[self.hasher.hash_one(peer) as usize % STRIPES])
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new()
    }
}

impl Stripe {
    /// The account of an address, which is made if there is none and room for it.
    fn account(&mut self, peer: Peer, limits: Limits, now: Tick) -> Option<&mut Account> {
        if self.accounts.len() >= self.sweep_at && !self.accounts.contains_key(&peer) {
            self.accounts.retain(|_, account| !account.is_idle(limits, now));
            // As many come before the next sweep as this one has looked at.
            self.sweep_at = (2 * self.accounts.len()).clamp(FEW, MAX_ADDRESSES / STRIPES);
            if self.accounts.len() >= self.sweep_at {
                return None;
            }
            self.accounts.shrink_to(self.sweep_at);
        }
        let level = limits.rate.map_or(Level::default(), |bucket| bucket.start(now));
        Some(self.accounts.entry(peer).or_insert(Account { connections: 0, level }))
    }
}

/// What is behind a lock is in order whatever a thread that had it was doing when it panicked: nothing is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Model;
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::config::Rate;

    const NOW: Tick = Tick(u32::MAX);

    fn peer(n: u32) -> Peer {
        IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n)).into()
    }

    fn limits(connections: u32, per_second: u32) -> Limits {
        let rate = Rate { per_second, burst: per_second };
        Limits { connections: Some(connections), rate: Some(Bucket::of_things(rate)) }
    }

    #[test]
    fn an_address_has_so_many_and_makes_them_so_fast() {
        let (admission, limits) = (Admission::new(), limits(2, 3));
        let admit = |n, now| admission.admit(peer(n), limits, now);
        assert_eq!([admit(1, NOW), admit(1, NOW), admit(2, NOW)], [Ok(Admitted::Counted); 3]);
        assert_eq!(admit(1, NOW), Err(Excess::Connections));
        admission.release(peer(1), limits, NOW);
        assert_eq!((admit(1, NOW), admission.totals()), (Ok(Admitted::Counted), (2, 3)));
        admission.release(peer(1), limits, NOW);
        assert_eq!(admit(1, NOW), Err(Excess::Rate));
        assert_eq!(admit(1, Tick(33)), Ok(Admitted::Counted), "a third of a second later");
        (0..2).for_each(|_| admission.release(peer(1), limits, Tick(200)));
        admission.release(peer(2), limits, Tick(200));
        assert_eq!(admission.totals(), (0, 0));
        assert_eq!(admission.admit(peer(3), Limits::default(), NOW), Ok(Admitted::Freely));
        assert_eq!(admission.totals(), (0, 0));
    }

    #[test]
    fn accounts_of_no_use_make_room_and_beyond_the_bound_nobody_is_counted() {
        let (admission, limits) = (Admission::new(), limits(1, 1));
        // More by so many that every stripe is full, whatever the hasher's seed.
        let all = (MAX_ADDRESSES + MAX_ADDRESSES / 16) as u32;
        for n in 0..all {
            admission.admit(peer(n), limits, NOW).expect("each is the first of its address");
            admission.release(peer(n), limits, NOW);
        }
        let (addresses, connections) = admission.totals();
        assert!((MAX_ADDRESSES - STRIPES..=MAX_ADDRESSES).contains(&addresses) && connections == 0, "{addresses}");
        let unknown = (0..u32::MAX).find(|&n| admission.admit(peer(all + n), limits, NOW) == Ok(Admitted::Untracked));
        assert!(unknown.is_some_and(|n| n < 1000));
        // A second later, all buckets are full.
        for n in 0..10_000 {
            assert_eq!(admission.admit(peer(all + 2000 + n), limits, Tick(99)), Ok(Admitted::Counted));
        }
        assert!(admission.totals().0 < 40_000, "{:?}", admission.totals());
    }

    #[test]
    fn the_whole_server_goes_into_debt() {
        let (admission, bucket) = (Admission::new(), Bucket::of_things(Rate { per_second: 10, burst: 10 }));
        assert!((0..9).all(|_| admission.count(bucket, NOW).is_none()));
        assert_eq!(admission.count(bucket, NOW), Some(Duration::from_millis(100)));
        assert_eq!(admission.count(bucket, NOW), Some(Duration::from_millis(200)));
        assert_eq!((admission.wait(bucket, Tick(18)), admission.wait(bucket, Tick(19))), (Some(Tick::LENGTH), None));
    }

    proptest! {
        #[test]
        fn it_counts_as_a_table_without_bounds_would(
            steps in prop::collection::vec((0..6u32, any::<bool>(), 0..30u32), 1..300),
            most in 1..4u32,
            per_second in 1..9u32,
        ) {
            let (admission, limits) = (Admission::new(), limits(most, per_second));
            let mut model: Model<u32, (u32, Level)> = Model::new();
            let mut now = NOW;
            for (n, comes, later) in steps {
                now = Tick(now.0.wrapping_add(later));
                let bucket = limits.rate.unwrap();
                let (count, level) = model.entry(n).or_insert((0, bucket.start(now)));
                if comes {
                    let expected = match *count {
                        count if count == most => Err(Excess::Connections),
                        _ if !bucket.take(level, now) => Err(Excess::Rate),
                        _ => Ok(Admitted::Counted),
                    };
                    *count += u32::from(expected.is_ok());
                    prop_assert_eq!(admission.admit(peer(n), limits, now), expected);
                } else if *count > 0 {
                    *count -= 1;
                    admission.release(peer(n), limits, now);
                }
                let open: u32 = model.values().map(|(count, _)| count).sum();
                prop_assert_eq!(admission.totals().1, u64::from(open));
            }
        }
    }
}
