//! The threads that shake hands.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::ServerConfig;

use super::session::{Progress, Session};
use crate::ring::sys;
use crate::ring::token::ConnId;

/// Handshakes that may wait for a thread. Whoever comes beyond that is turned away: by the time of its turn it would have gone.
const WAITING: usize = 1024;

/// A step of a handshake.
struct Step {
    shard: u16,
    conn: ConnId,
    /// `None`: it begins.
    session: Option<Box<Session>>,
    /// What the client has sent.
    bytes: Vec<u8>,
}

/// A session as it comes back from a step of its handshake.
#[derive(Debug)]
pub struct Shaken {
    /// Whose.
    pub conn: ConnId,
    /// The session; `None` if it is over.
    pub session: Option<Box<Session>>,
    /// What the client is to be sent.
    pub reply: Vec<u8>,
    /// What the client has sent behind its handshake.
    pub plain: Vec<u8>,
    /// How far it has come.
    pub progress: Progress,
}

/// What a shard gives steps to.
#[derive(Clone)]
pub struct Handshakes {
    steps: flume::Sender<Step>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshakes")
    }
}

impl Handshakes {
    /// Starts so many threads. `done` is called on them, with the shard that gave the step.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        threads: usize,
        config: Arc<ServerConfig>,
        done: impl Fn(u16, Shaken) + Clone + Send + 'static,
    ) -> io::Result<Handshakes> {
        let (steps, work) = flume::bounded::<Step>(WAITING);
        let handshakes = Handshakes { steps, config: Arc::new(Mutex::new(config)) };
        for number in 0..threads {
            let (work, config, done) = (work.clone(), handshakes.config.clone(), done.clone());
            let body = move || {
                sys::yield_to_shards();
                for step in work {
                    let (shard, conn) = (step.shard, step.conn);
                    done(shard, surviving(conn, || step.take(&config)));
                }
            };
            thread::Builder::new().name(format!("tls-{number}")).spawn(body)?;
        }
        Ok(handshakes)
    }

    /// Goes on with a handshake, or begins one; `false` if too many wait already.
    pub fn go_on(&self, shard: u16, conn: ConnId, session: Option<Box<Session>>, bytes: &[u8]) -> bool {
        self.steps.try_send(Step { shard, conn, session, bytes: bytes.to_vec() }).is_ok()
    }

    /// Sessions that begin from now on are of this configuration.
    pub fn reconfigure(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

/// What comes of a step. The thread outlives a panic of what takes it: such a session is over.
fn surviving(conn: ConnId, step: impl FnOnce() -> Shaken) -> Shaken {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
        tracing::error!("a step of a TLS handshake could not be taken: what takes it has panicked");
        Shaken { conn, session: None, reply: Vec::new(), plain: Vec::new(), progress: Progress::Ended }
    })
}

impl Step {
    fn take(self, config: &Mutex<Arc<ServerConfig>>) -> Shaken {
        let Step { conn, session, mut bytes, .. } = self;
        let config = || config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let session = session.or_else(|| Session::new(config()).ok().map(Box::new));
        let mut shaken = Shaken { conn, session, reply: Vec::new(), plain: Vec::new(), progress: Progress::Ended };
        let Some(session) = &mut shaken.session else { return shaken };
        match session.receive(&mut bytes, &mut shaken.plain, &mut shaken.reply) {
            Ok(progress) => shaken.progress = progress,
            Err(_) => shaken.session = None,
        }
        shaken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_one_session() {
        let conn = ConnId { index: 7, generation: 1 };
        let shaken = surviving(conn, || panic!("of a library"));
        assert_eq!((shaken.conn, shaken.progress), (conn, Progress::Ended));
        assert!(shaken.session.is_none() && shaken.reply.is_empty() && shaken.plain.is_empty());
    }
}
