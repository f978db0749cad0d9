//! The control thread: everything that is not a client connection, on a `tokio-uring` runtime.

mod access;
mod admin;
mod api;
mod memory;
mod metrics;
mod serve;
mod signals;
mod tls;
pub mod warnings;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use access::Access;
pub use admin::Admin;
use api::Api;
use signals::Signals;
pub use tls::TlsReload;

use crate::config::Config;
use crate::error::StartError;
use crate::shard::handle::Shards;
use crate::shard::mail::Mail;
use crate::shard::shared::Standing;

/// What the control thread needs.
pub struct Setup {
    /// The admin listener.
    pub admin: Admin,
    /// All of them.
    pub shards: Shards,
    /// Whether to stop on `SIGTERM` and `SIGINT`.
    pub signals: bool,
    /// Resident bytes of the process that new connections must not make it pass.
    pub max_memory: Option<u64>,
    /// What is asked of requests to it.
    pub access: Access,
    /// Bytes that a message may have.
    pub max_message: u32,
    /// Where there is a TLS listener.
    pub tls: Option<TlsReload>,
    /// How a drain goes.
    pub drain: Drain,
}

/// How a drain goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drain {
    /// Time until it begins.
    pub delay: Duration,
    /// Time over which clients are sent away.
    pub time: Duration,
    /// Time for the last ones to go; and of a stop without a drain, for all.
    pub grace: Duration,
}

impl From<&Config> for Drain {
    fn from(config: &Config) -> Drain {
        Drain { delay: config.drain_delay, time: config.drain_time, grace: config.shutdown_timeout }
    }
}

/// The control thread, running.
pub struct Handle {
    stop: flume::Sender<()>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Ends the thread.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Starts the control thread.
///
/// # Errors
/// The thread cannot be made, or its ring cannot.
pub fn start(setup: Setup) -> Result<Handle, StartError> {
    let (stop, stopped) = flume::bounded(1);
    let (ready, runs) = flume::bounded(1);
    let body = move || {
        tokio_uring::start(async move {
            // Before anybody hears that the server is there: from then on a signal is to find it prepared.
            let signals = setup.signals.then(Signals::listen).flatten();
            let _ = ready.send(());
            run(setup, signals, stopped).await;
        });
    };
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(body)
        .map_err(|source| StartError::Io { doing: "cannot start the control thread", source })?;
    // The runtime panics if it cannot have a ring.
    runs.recv().map_err(|_| StartError::Kernel("the control thread cannot set up io_uring".into()))?;
    Ok(Handle { stop, thread })
}

async fn run(setup: Setup, signals: Option<Signals>, stopped: flume::Receiver<()>) {
    let Setup { admin, access, shards, max_memory, max_message, tls, drain, .. } = setup;
    if let Some(max) = max_memory {
        tokio_uring::spawn(memory::watch(shards.clone(), max));
    }
    let is_signalled = signals.is_some();
    if let Some(signals) = signals {
        tokio_uring::spawn(signals::stop_on_signal(signals, shards.clone(), drain));
    }
    if let Some(tls) = tls {
        tokio_uring::spawn(tls.watch(is_signalled));
    }
    tokio_uring::spawn(warnings::watch(shards.clone()));
    let api = Api::new(shards, max_message, admin.is_tcp(), access, drain);
    tokio_uring::spawn(admin.serve(Arc::new(api)));
    let _ = stopped.recv_async().await;
}

/// Tells all shards to stop.
pub fn shutdown(shards: &Shards, within: Duration) {
    shards.shared().advance(Standing::Stopping);
    tell(shards, || Mail::Shutdown { within_ms: millis(within), drained: false });
}

/// Tells all shards to drain, which ends them. Readiness turns before anything else; a second time changes nothing.
pub fn drain(shards: &Shards, drain: Drain) {
    shards.shared().advance(Standing::Draining);
    let [delay_ms, time_ms, grace_ms] = [drain.delay, drain.time, drain.grace].map(millis);
    tell(shards, || Mail::Drain { delay_ms, time_ms, grace_ms });
}

fn tell(shards: &Shards, mail: impl Fn() -> Mail) {
    for postbox in shards.postboxes() {
        postbox.post(mail());
        postbox.wake();
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
