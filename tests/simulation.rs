//! Whole shards on a fake kernel with faults, seeded: the same seed is the same run, to the last byte.
//!
//! `UPROAR_SIM_SEEDS=n` runs the first `n` seeds, `UPROAR_SIM_SEED=x` that one alone. A seed that fails is run again
//! with a trace, of which the last `UPROAR_SIM_SHOWN` events are printed.

mod common;
mod simulation {
    pub mod client;
    pub mod drain;
    pub mod guard;
    pub mod kernel;
    pub mod ledger;
    pub mod net;
    pub mod node;
    pub mod oracle;
    pub mod plan;
    pub mod script;
    pub mod tally;
    pub mod trace;
    pub mod wire;
    pub mod world;
}

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::tally::Tally;
use simulation::trace;
use simulation::world;

const SEEDS: u64 = 400;
const THREADS: usize = 2;
/// Events printed of a run that failed, unless it is said how many.
const SHOWN: u64 = 120;

fn env(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// Runs a seed; if it fails, once more with a trace.
fn run(seed: u64) -> Tally {
    catch_unwind(|| world::run(seed)).unwrap_or_else(|panic| {
        trace::start();
        let again = catch_unwind(|| world::run(seed));
        let shown = env("UPROAR_SIM_SHOWN").unwrap_or(SHOWN) as usize;
        for event in trace::stop().iter().rev().take(shown).rev() {
            eprintln!("{event}");
        }
        eprintln!(
            "UPROAR_SIM_SEED={seed} fails{}",
            if again.is_ok() { ", but not again: it is not deterministic" } else { "" }
        );
        panic_any(panic)
    })
}

/// Runs the seeds `0..count` on a few threads.
fn run_all(count: u64) -> Tally {
    let next = AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return Ok(tally);
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(one) => tally += one,
                Err(_) => {
                    next.store(count, Ordering::Relaxed);
                    return Err(seed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().fold(Tally::default(), |mut sum, thread| {
            sum += thread.join().expect("a panic is caught").unwrap_or_else(|seed| panic!("seed {seed} fails"));
            sum
        })
    })
}

#[test]
fn shards_keep_their_promises_whatever_the_kernel_and_the_clients_do() {
    let tally = match env("UPROAR_SIM_SEED") {
        Some(seed) => run(seed),
        None => run_all(env("UPROAR_SIM_SEEDS").unwrap_or(SEEDS)),
    };
    println!("{tally:#?}");
    if env("UPROAR_SIM_SEED").is_none() {
        tally.assert_eventful();
    }
}

#[test]
fn a_seed_is_one_run() {
    let traced = |seed| {
        trace::start();
        let tally = world::run(seed);
        (tally, trace::stop())
    };
    for seed in [3, 4, 6, 7] {
        let ((a, first), (b, second)) = (traced(seed), traced(seed));
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        assert_eq!(differs.map(|at| (&first[at], &second[at])), None);
        assert_eq!((a, first.len()), (b, second.len()));
    }
}
