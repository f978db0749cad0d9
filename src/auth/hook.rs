//! An application that is asked over HTTP whether a client may do what it is about to do.
//!
//! A shard leaves a question in a bounded queue, and gets the outcome as mail. Threads of their own ask, one request each at a
//! time: as many threads as requests may be under way. Whatever is no answer is no permission.

pub mod answer;
pub mod breaker;
pub mod question;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::agent::agent;
use crate::config::{Secret, public_url};
use crate::counters::Process;
use crate::ring::sys;
use crate::ring::token::ConnId;

pub use answer::{Answer, Contradiction};
use breaker::{Breaker, Permit, State};
pub use question::{Event, Question};

/// Questions that may wait for each that may be under way.
const WAITING_PER_REQUEST: usize = 16;
/// Bytes of an answer.
const MAX_ANSWER: u64 = 64 * 1024;
/// Bytes of a thread's stack: there are many, and they do not recurse.
const STACK: usize = 512 * 1024;
/// When to try again after there were too many questions.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Where the application is, and how it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Its address.
    pub url: String,
    /// What it knows this server by.
    pub secret: Option<Secret>,
    /// Time for an answer, and the longest that a question waits to be asked.
    pub timeout: Duration,
    /// Requests that may be under way.
    pub concurrency: usize,
}

/// Why a client may not do what it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The application says so, with 401 or 403.
    Refused(u16),
    /// The application did not say: this is why, and when it may be worth another try.
    Undecided(Cause, Duration),
}

/// Why the application did not say anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It cannot be reached, or says what is no answer.
    Failed,
    /// It says that the client is another user than its token does.
    Contradiction,
    /// It took too long.
    Timeout,
    /// It was not asked: it has failed too often.
    Open,
    /// It was not asked: there are too many questions.
    Busy,
}

/// What came of a question.
#[derive(Debug)]
pub struct Outcome {
    /// Whose it was.
    pub conn: ConnId,
    /// What the application says.
    pub result: Result<Answer, Refusal>,
}

/// A question that waits to be asked.
#[derive(Debug)]
pub struct Waiting {
    /// The shard that asks.
    pub shard: u16,
    /// Of which connection.
    pub conn: ConnId,
    /// What.
    pub question: Question,
    since: Instant,
}

/// What a shard gives questions to.
#[derive(Clone)]
pub struct Hook(flume::Sender<Waiting>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    /// A hook that nobody asks the application for yet, and the questions that it is given, of which so many may wait.
    pub fn new(most: usize) -> (Hook, flume::Receiver<Waiting>) {
        let (questions, waiting) = flume::bounded(most);
        (Hook(questions), waiting)
    }

    /// Starts the threads that ask. `done` is called on one of them, with the shard that asked, once for each question.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(
        options: Options,
        process: Arc<Process>,
        done: impl Fn(u16, Outcome) + Send + Sync + 'static,
    ) -> io::Result<Hook> {
        let (hook, waiting) = Hook::new(options.concurrency * WAITING_PER_REQUEST);
        let concurrency = options.concurrency;
        let asker = Arc::new(Asker::new(options, process));
        let done = Arc::new(done);
        for _ in 0..concurrency {
            let (asker, waiting, done) = (asker.clone(), waiting.clone(), done.clone());
            let body = move || {
                sys::yield_to_shards();
                for Waiting { shard, conn, question, since } in waiting {
                    done(shard, Outcome { conn, result: asker.ask(&question, since) });
                }
            };
            thread::Builder::new().name("hook".into()).stack_size(STACK).spawn(body)?;
        }
        Ok(hook)
    }

    /// Has a question asked; `false` if too many wait already.
    pub fn ask(&self, shard: u16, conn: ConnId, question: Question) -> bool {
        self.0.try_send(Waiting { shard, conn, question, since: Instant::now() }).is_ok()
    }
}

/// Why a request brought no answer; in words whose subject is the application.
struct Fault {
    cause: Cause,
    words: String,
}

/// What the threads share.
struct Asker {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
    timeout: Duration,
    breaker: Mutex<Breaker>,
    process: Arc<Process>,
}

impl Asker {
    fn new(options: Options, process: Arc<Process>) -> Asker {
        let Options { url, secret, timeout, concurrency } = options;
        let agent = agent(timeout, concurrency);
        let authorization = secret.map(|secret| format!("Bearer {}", String::from_utf8_lossy(secret.bytes())));
        Asker { agent, url, authorization, timeout, breaker: Mutex::default(), process }
    }

    fn ask(&self, question: &Question, since: Instant) -> Result<Answer, Refusal> {
        let now = Instant::now();
        // Nobody is to wait for longer than twice the time-out; and whoever had to has, as a rule, gone.
        if now.saturating_duration_since(since) > self.timeout {
            return Err(Refusal::Undecided(Cause::Busy, BUSY_PAUSE));
        }
        let permit = self.permit(now).map_err(|pause| Refusal::Undecided(Cause::Open, pause))?;
        let request = AssertUnwindSafe(|| self.request(question));
        let panicked = |_| Err(Fault { cause: Cause::Failed, words: "could not be asked".into() });
        let result = catch_unwind(request).unwrap_or_else(panicked);
        self.note(permit, result.as_ref().err());
        result.unwrap_or_else(|fault| Err(Refusal::Undecided(fault.cause, BUSY_PAUSE)))
    }

    /// The application's word.
    fn request(&self, question: &Question) -> Result<Result<Answer, Refusal>, Fault> {
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.send(&question.text()[..]).map_err(fault)?;
        let status = response.status().as_u16();
        // Read to its end in any case, the connection is of further use.
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        match status {
            200..300 => {
                let answer = Answer::parse(&body.map_err(fault)?);
                answer.map(Ok).map_err(|words| Fault { cause: Cause::Failed, words })
            }
            401 | 403 => Ok(Err(Refusal::Refused(status))),
            _ => Err(Fault { cause: Cause::Failed, words: format!("answers with {status}") }),
        }
    }

    fn permit(&self, now: Instant) -> Result<Permit, Duration> {
        let mut breaker = self.breaker();
        let permit = breaker.permit(now);
        self.process.hook_breaker.set(breaker.state().number());
        permit
    }

    fn note(&self, permit: Permit, fault: Option<&Fault>) {
        let now = Instant::now();
        let mut breaker = self.breaker();
        let before = breaker.state();
        breaker.note(permit, fault.is_none(), now);
        let after = breaker.state();
        self.process.hook_breaker.set(after.number());
        drop(breaker);
        let words = fault.map_or("", |fault| &fault.words);
        match (before, after) {
            (State::Closed, State::Closed) if fault.is_some() => {
                tracing::warn!(auth_hook = public_url(&self.url), why = words, "the application was asked in vain");
            }
            (State::Closed | State::HalfOpen, State::Open { until }) => {
                let seconds = until.saturating_duration_since(now).as_secs();
                let outcome =
                    "the application was asked in vain: for a while, all that it would be asked about is refused";
                tracing::warn!(auth_hook = public_url(&self.url), why = words, seconds, "{outcome}");
            }
            (State::HalfOpen, State::Closed) => {
                tracing::info!(auth_hook = public_url(&self.url), "the application answers again")
            }
            _ => {}
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault(error: ureq::Error) -> Fault {
    let cause = if matches!(error, ureq::Error::Timeout(_)) { Cause::Timeout } else { Cause::Failed };
    Fault { cause, words: format!("does not answer: {error}") }
}
