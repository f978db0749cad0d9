//! The control thread: everything that is not a client connection, on a `tokio-uring` runtime.

mod access;
mod admin;
mod api;
mod memory;
mod metrics;
mod notify;
mod page;
mod prepare;
mod reload;
mod serve;
mod settings;
mod signals;
mod tls;
pub mod warnings;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use access::Access;
pub use admin::Admin;
use api::Api;
pub use memory::allowed as allowed_memory;
pub use notify::Notifier;
pub use prepare::Prepared;
pub use reload::{Base, Inherited, Reloader};
pub use settings::{Drain, Settings};
use signals::Signals;

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
    /// Whether to stop on `SIGTERM` and `SIGINT`, and to reload on `SIGHUP`.
    pub signals: bool,
    /// What is configured, and how that is replaced.
    pub reloader: Arc<Reloader>,
    /// Who is told how the server is.
    pub notifier: Notifier,
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
    let Setup { admin, shards, reloader, notifier, .. } = setup;
    tokio_uring::spawn(memory::watch(shards.clone(), reloader.watch()));
    if let Some(Signals { stop, hang_up }) = signals {
        tokio_uring::spawn(signals::stop_on_signal(stop, shards.clone(), reloader.clone()));
        tokio_uring::spawn(signals::reload_on_signal(hang_up, reloader.clone()));
    }
    tokio_uring::spawn(tls::watch(reloader.clone()));
    tokio_uring::spawn(notifier.watch(shards.clone(), reloader.watch()));
    let api = Arc::new(Api::new(shards, admin.is_tcp(), reloader));
    tokio_uring::spawn(warnings::watch(api.clone()));
    tokio_uring::spawn(admin.serve(api));
    let _ = stopped.recv_async().await;
}

/// Tells all shards to stop.
pub fn shutdown(shards: &Shards, within: Duration) {
    shards.shared().advance(Standing::Stopping);
    tell(shards, || Mail::Shutdown { within_ms: millis(within), drained: false });
}

/// Tells all shards to drain, which ends them. Readiness turns before anything else; a second time changes nothing. The log is told
/// why.
pub fn drain(shards: &Shards, drain: Drain, why: &'static str) {
    let Drain { delay, time, grace } = drain;
    tracing::info!(why, connections = shards.shared().connections(), ?delay, over = ?time, ?grace, "draining");
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
