//! The thread that checks tokens, and the one that fetches the keys for it.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::grant::Grant;
use super::jwt::{Denied, Keys};
use crate::counters::Process;
use crate::ring::sys;
use crate::ring::token::ConnId;

/// Tokens that may wait to be checked. Whoever comes beyond that is turned away.
const WAITING: usize = 4096;
/// Bytes of a set of keys.
const MAX_SET: u64 = 1 << 20;
/// How long fetching may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two fetches, however many tokens name a key that is not known; or `refresh`, if that is less.
const FETCH_PAUSE: Duration = Duration::from_secs(10);

/// What a token is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To be let in.
    Connect,
    /// To stay.
    Refresh,
    /// To subscribe to a topic.
    Subscribe(Box<str>),
}

/// A token to be checked. Not to be printed.
pub struct Question {
    /// The shard that asks.
    pub shard: u16,
    /// Whose token it is.
    pub conn: ConnId,
    /// What it is for.
    pub purpose: Purpose,
    /// The token.
    pub token: Box<str>,
}

/// What came of a token.
#[derive(Debug)]
pub struct Verdict {
    /// Whose.
    pub conn: ConnId,
    /// What it was for.
    pub purpose: Purpose,
    /// What it grants.
    pub outcome: Result<Grant, Denied>,
}

/// What a shard gives tokens to.
#[derive(Clone)]
pub struct Gate {
    questions: flume::Sender<Question>,
    keys: Arc<Mutex<Arc<Keys>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// A gate that nobody stands at yet, and the tokens that it is given.
    pub fn new(keys: Keys) -> (Gate, flume::Receiver<Question>) {
        let (questions, asked) = flume::bounded(WAITING);
        (Gate { questions, keys: Arc::new(Mutex::new(Arc::new(keys))) }, asked)
    }

    /// Starts the thread that checks tokens, and, with an address of a set of keys, the one that fetches that: at once, every
    /// `refresh`, and when a token names a key that is not known. `done` is called on the former, with the shard that asked.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        keys: Keys,
        set: Option<(String, Duration)>,
        process: Arc<Process>,
        done: impl Fn(u16, Verdict) + Send + 'static,
    ) -> io::Result<Gate> {
        let (gate, asked) = Gate::new(keys);
        let (unknown, wanted) = flume::bounded(1);
        let keys = gate.keys.clone();
        let body = move || {
            sys::yield_to_shards();
            for Question { shard, conn, purpose, token } in asked {
                let outcome = current(&keys).check(&token);
                if outcome == Err(Denied::UnknownKey) {
                    let _ = unknown.try_send(());
                }
                done(shard, Verdict { conn, purpose, outcome });
            }
        };
        thread::Builder::new().name("auth".into()).spawn(body)?;
        if let Some((address, refresh)) = set {
            let keys = gate.keys.clone();
            let body = move || keep_fetching(&address, refresh, &wanted, &keys, &process);
            thread::Builder::new().name("jwks".into()).spawn(body)?;
        }
        Ok(gate)
    }

    /// From now on, tokens are checked with these keys, and with those of the set that was fetched last.
    pub fn renew(&self, keys: Keys) {
        let mut known = lock(&self.keys);
        *known = Arc::new(keys.with_set_of(&known));
    }

    /// The keys that tokens are checked with.
    pub fn keys(&self) -> Arc<Keys> {
        current(&self.keys)
    }

    /// Has a token checked; `false` if too many wait already.
    pub fn ask(&self, shard: u16, conn: ConnId, purpose: Purpose, token: &str) -> bool {
        self.questions.try_send(Question { shard, conn, purpose, token: token.into() }).is_ok()
    }
}

fn lock(keys: &Mutex<Arc<Keys>>) -> MutexGuard<'_, Arc<Keys>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current(keys: &Mutex<Arc<Keys>>) -> Arc<Keys> {
    lock(keys).clone()
}

/// Fetches a set of keys (RFC 7517) and adds it to others. It takes as long as that takes, up to ten seconds.
///
/// # Errors
/// It cannot be fetched, or is of no use; in words that name the address.
pub fn fetch_set(keys: &Keys, address: &str) -> Result<Keys, String> {
    let fetched = fetch(address).and_then(|text| keys.with_set(&text).map_err(Into::into));
    fetched.map_err(|why| format!("{address} {why}"))
}

/// Fetches the set of keys for ever, or until nobody asks any more.
fn keep_fetching(
    address: &str,
    refresh: Duration,
    wanted: &flume::Receiver<()>,
    keys: &Mutex<Arc<Keys>>,
    process: &Process,
) {
    loop {
        let began = Instant::now();
        match fetch(address).and_then(|text| add_set(keys, &text).map_err(Into::into)) {
            Ok(()) => {
                process.jwks_ok.add(1);
                process.jwks_fetched_at.set(seconds_since_1970());
            }
            Err(why) => {
                process.jwks_failed.add(1);
                tracing::warn!(jwks_url = address, %why, "the set of keys stays as it was");
            }
        }
        match wanted.recv_timeout(refresh) {
            Ok(()) => thread::sleep(FETCH_PAUSE.min(refresh).saturating_sub(began.elapsed())),
            Err(flume::RecvTimeoutError::Timeout) => {}
            Err(flume::RecvTimeoutError::Disconnected) => return,
        }
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

fn fetch(address: &str) -> Result<Vec<u8>, String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(FETCH_TIMEOUT)).build().new_agent();
    let response = agent.get(address).call().map_err(|error| format!("cannot be fetched: {error}"))?;
    let mut text = Vec::new();
    let mut body = response.into_body().into_reader().take(MAX_SET);
    body.read_to_end(&mut text).map_err(|error| format!("cannot be fetched: {error}"))?;
    Ok(text)
}
