//! The thread that checks tokens.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::grant::{Pass, Said};
use super::jwks;
use super::jwt::{Denied, Keys};
use crate::counters::Process;
use crate::ring::sys;
use crate::ring::token::ConnId;

/// Tokens of newcomers that may wait to be checked, and as many of connections that are open. Whoever comes beyond that is
/// turned away.
const WAITING: usize = 4096;

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

/// What came of a token, by what it was for.
#[derive(Debug)]
pub enum Judged {
    /// To be let in.
    Connect(Result<Said, Denied>),
    /// To stay.
    Refresh(Result<Said, Denied>),
    /// To subscribe to this topic.
    Subscribe(Box<str>, Result<Pass, Denied>),
}

impl Judged {
    /// Why it was not accepted.
    pub fn denied(&self) -> Option<Denied> {
        match self {
            Judged::Connect(outcome) | Judged::Refresh(outcome) => outcome.as_ref().err().copied(),
            Judged::Subscribe(_, outcome) => outcome.as_ref().err().copied(),
        }
    }
}

/// What came of a token.
#[derive(Debug)]
pub struct Verdict {
    /// Whose.
    pub conn: ConnId,
    /// What it says, if it is accepted.
    pub judged: Judged,
}

/// The tokens that a gate is given: those first of who wants to come in. Waits for the next, until there can be none.
pub struct Asked {
    newcomers: flume::Receiver<Question>,
    others: flume::Receiver<Question>,
    tickets: flume::Receiver<()>,
}

impl Asked {
    /// One that is there.
    pub fn try_next(&self) -> Option<Question> {
        self.tickets.try_recv().ok().and_then(|()| self.first())
    }

    fn first(&self) -> Option<Question> {
        self.newcomers.try_recv().or_else(|_| self.others.try_recv()).ok()
    }
}

impl Iterator for Asked {
    type Item = Question;

    fn next(&mut self) -> Option<Question> {
        self.tickets.recv().ok().and_then(|()| self.first())
    }
}

/// What a shard gives tokens to.
#[derive(Clone)]
pub struct Gate {
    newcomers: flume::Sender<Question>,
    /// Of connections that are open: they have time.
    others: flume::Sender<Question>,
    /// One for each question, given behind it: so whoever has one finds a question.
    tickets: flume::Sender<()>,
    keys: Arc<Mutex<Arc<Keys>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// A gate that nobody stands at yet, and the tokens that it is given.
    pub fn new(keys: Keys) -> (Gate, Asked) {
        let ((newcomers, first), (others, then)) = (flume::bounded(WAITING), flume::bounded(WAITING));
        let (tickets, given) = flume::unbounded();
        let gate = Gate { newcomers, others, tickets, keys: Arc::new(Mutex::new(Arc::new(keys))) };
        (gate, Asked { newcomers: first, others: then, tickets: given })
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
                let judged = judge(&current(&keys), purpose, &token);
                if judged.denied() == Some(Denied::UnknownKey) {
                    let _ = unknown.try_send(());
                }
                done(shard, Verdict { conn, judged });
            }
        };
        thread::Builder::new().name("auth".into()).spawn(body)?;
        if let Some(set) = set {
            jwks::start(set, wanted, gate.keys.clone(), process)?;
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
        let queue = if purpose == Purpose::Connect { &self.newcomers } else { &self.others };
        let question = Question { shard, conn, purpose, token: token.into() };
        queue.try_send(question).is_ok() && self.tickets.send(()).is_ok()
    }
}

pub(super) fn lock(keys: &Mutex<Arc<Keys>>) -> MutexGuard<'_, Arc<Keys>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current(keys: &Mutex<Arc<Keys>>) -> Arc<Keys> {
    lock(keys).clone()
}

fn judge(keys: &Keys, purpose: Purpose, token: &str) -> Judged {
    match purpose {
        Purpose::Connect => Judged::Connect(surviving(|| keys.session(token))),
        Purpose::Refresh => Judged::Refresh(surviving(|| keys.session(token))),
        Purpose::Subscribe(topic) => {
            let outcome = surviving(|| keys.pass(token, &topic));
            Judged::Subscribe(topic, outcome)
        }
    }
}

/// What comes of checking a token. The thread outlives a panic of what checks: such a token is not accepted.
fn surviving<T>(check: impl FnOnce() -> Result<T, Denied>) -> Result<T, Denied> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| {
        tracing::error!("a token could not be checked: what checks it has panicked");
        Err(Denied::Unchecked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a-secret-of-more-than-32-characters";

    fn keys() -> Keys {
        let secret = crate::config::Secret::new(KEY);
        Keys::new(&[secret], &[], (None, None)).expect("a key")
    }

    #[test]
    fn a_panic_is_a_refusal() {
        assert_eq!(surviving::<()>(|| panic!("of a library")), Err(Denied::Unchecked));
        assert_eq!(surviving(|| Ok(7)), Ok(7));
    }

    /// Whatever the order in which they ask: newcomers, then the others, each in their order, and nobody is forgotten.
    #[test]
    fn newcomers_go_first() {
        let (begin, begun) = flume::bounded::<()>(0);
        let (verdicts, judged) = flume::unbounded();
        let done = move |_, verdict: Verdict| {
            let _ = verdicts.send(verdict);
            // The first verdict is held back until all others have asked.
            let _ = begun.recv();
        };
        let gate = Gate::start(keys(), None, Arc::default(), done).expect("a thread");
        let conn = |index| ConnId { index, generation: 0 };
        assert!(gate.ask(0, conn(0), Purpose::Refresh, "x"));
        assert_eq!(judged.recv().expect("a verdict").conn, conn(0));
        assert!(gate.ask(0, conn(1), Purpose::Refresh, "x"));
        assert!(gate.ask(0, conn(2), Purpose::Connect, "x"));
        assert!(gate.ask(0, conn(3), Purpose::Subscribe("t".into()), "x"));
        assert!(gate.ask(0, conn(4), Purpose::Connect, "x"));
        drop(begin);
        let order: Vec<_> = judged.iter().take(4).map(|verdict| verdict.conn.index).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        drop(gate);
        assert!(judged.recv().is_err(), "the thread ends with the last that asks");
    }

    #[test]
    fn who_fills_the_queue_of_the_open_keeps_no_newcomer_out() {
        let (begin, begun) = flume::bounded::<()>(0);
        let done = move |_, _| {
            let _ = begun.recv();
        };
        let gate = Gate::start(keys(), None, Arc::default(), done).expect("a thread");
        let conn = ConnId { index: 0, generation: 0 };
        let asked = (0..2 * WAITING).filter(|_| gate.ask(0, conn, Purpose::Refresh, "x")).count();
        assert!((WAITING..=WAITING + 1).contains(&asked), "{asked}");
        assert!(gate.ask(0, conn, Purpose::Connect, "x"));
        drop(begin);
    }
}
