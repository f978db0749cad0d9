//! The set of keys (RFC 7517) at an address, and the thread that fetches it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::agent::agent;
use super::gate::lock;
use super::jwt::Keys;
use crate::config::public_url;
use crate::counters::Process;

/// Bytes of a set of keys.
const MAX_SET: u64 = 1 << 20;
/// How long fetching may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two fetches, however many tokens name a key that is not known; or `refresh`, if that is less.
const PAUSE: Duration = Duration::from_secs(10);

/// Fetches a set of keys and adds it to others. It takes as long as that takes, up to ten seconds.
///
/// # Errors
/// It cannot be fetched, or is of no use; in words that name the address.
pub fn fetch_set(keys: &Keys, address: &str) -> Result<Keys, String> {
    let fetched = surviving(address, || Ok(keys.with_set(&get(address)?)?));
    fetched.map_err(|why| format!("{} {why}", public_url(address)))
}

/// Starts the thread that fetches the set at `address` for `keys`: at once, every `refresh`, and when something comes by `wanted`.
/// It ends when nothing can come any more.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start(
    (address, refresh): (String, Duration),
    wanted: flume::Receiver<()>,
    keys: Arc<Mutex<Arc<Keys>>>,
    process: Arc<Process>,
) -> io::Result<()> {
    let body = move || keep_fetching(&address, refresh, &wanted, &keys, &process);
    thread::Builder::new().name("jwks".into()).spawn(body).map(drop)
}

fn keep_fetching(
    address: &str,
    refresh: Duration,
    wanted: &flume::Receiver<()>,
    keys: &Mutex<Arc<Keys>>,
    process: &Process,
) {
    let mut failures = 0;
    process.keys_awaited.set(lock(keys).is_empty().into());
    loop {
        let began = Instant::now();
        match surviving(address, || Ok(add_set(keys, &get(address)?)?)) {
            Ok(()) => {
                process.jwks_ok.add(1);
                process.jwks_fetched_at.set(seconds_since_1970());
                process.keys_awaited.set(0);
                failures = 0;
            }
            Err(why) => {
                process.jwks_failed.add(1);
                failures += 1;
                let news = match process.jwks_fetched_at.get() {
                    0 => "the set of keys was never fetched: no token that is made with one of them is accepted yet",
                    _ => "the set of keys stays as it was",
                };
                tracing::warn!(jwks_url = public_url(address), %why, "{news}");
            }
        }
        match wanted.recv_timeout(until_next(failures, refresh)) {
            Ok(()) => thread::sleep(PAUSE.min(refresh).saturating_sub(began.elapsed())),
            Err(flume::RecvTimeoutError::Timeout) => {}
            // Others are used, or none.
            Err(flume::RecvTimeoutError::Disconnected) => return process.keys_awaited.set(0),
        }
    }
}

/// How long to wait after so many fetches in vain, one after the other: a second, then twice as long each time, up to `refresh`.
fn until_next(failures: u32, refresh: Duration) -> Duration {
    match failures {
        0 => refresh,
        _ => Duration::from_secs(1 << (failures - 1).min(16)).min(refresh),
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Adds a set to the keys that there are by then: others may have been given since it was asked for.
fn add_set(keys: &Mutex<Arc<Keys>>, text: &[u8]) -> Result<(), &'static str> {
    let mut keys = lock(keys);
    *keys = Arc::new(keys.with_set(text)?);
    Ok(())
}

/// What comes of fetching. The thread outlives a panic of what does it, or reads keys. No error says more of the address than may
/// be shown.
fn surviving<T>(address: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let panicked = |_| Err("cannot be fetched, or read".into());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked).map_err(|why| why.replace(address, "the address"))
}

fn get(address: &str) -> Result<Vec<u8>, String> {
    let failed = |error: ureq::Error| format!("cannot be fetched: {error}");
    let mut response = agent(TIMEOUT, 1).get(address).call().map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("cannot be fetched: it answers with {}", response.status().as_u16()));
    }
    response.body_mut().with_config().limit(MAX_SET).read_to_vec().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_no_error_has_the_address() {
        let address = "http://127.0.0.1:1/jwks.json?key=of-the-issuer";
        let panicked = surviving::<()>(address, || panic!("of a library"));
        assert_eq!(panicked, Err("cannot be fetched, or read".into()));
        assert_eq!(surviving::<()>(address, || Err(format!("{address}: no"))), Err("the address: no".into()));
        let keys = Keys::new(&[], &[], (None, None)).expect("no key is wrong");
        let why = fetch_set(&keys, address).err().expect("nobody listens there");
        assert!(why.starts_with("http://127.0.0.1:1/jwks.json?… ") && !why.contains("of-the-issuer"), "{why}");
    }

    #[test]
    fn what_failed_is_tried_again_soon_and_then_less_often() {
        let refresh = Duration::from_secs(300);
        let waits = [0, 1, 2, 5, 9, 10, u32::MAX].map(|failures| until_next(failures, refresh).as_secs());
        assert_eq!(waits, [300, 1, 2, 16, 256, 300, 300]);
        assert_eq!(until_next(3, Duration::from_secs(1)), Duration::from_secs(1));
    }
}
