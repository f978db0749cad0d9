//! The control thread: everything that is not a client connection, on a `tokio-uring` runtime.

mod admin;
mod api;
mod memory;
mod metrics;
mod serve;
mod signals;
mod tls;
pub mod warnings;

use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use admin::Admin;
pub use tls::TlsReload;

use crate::error::StartError;
use crate::shard::handle::Shards;
use crate::shard::mail::Mail;

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
    /// Bytes that a message may have.
    pub max_message: u32,
    /// Where there is a TLS listener.
    pub tls: Option<TlsReload>,
    /// How long a stop by signal may take.
    pub shutdown_timeout: Duration,
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
            let _ = ready.send(());
            run(setup, stopped).await;
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

async fn run(setup: Setup, stopped: flume::Receiver<()>) {
    let Setup { admin, shards, signals, max_memory, max_message, tls, shutdown_timeout } = setup;
    if let Some(max) = max_memory {
        tokio_uring::spawn(memory::watch(shards.clone(), max));
    }
    if signals {
        tokio_uring::spawn(signals::stop_on_signal(shards.clone(), shutdown_timeout));
    }
    if let Some(tls) = tls {
        tokio_uring::spawn(tls.watch(signals));
    }
    tokio_uring::spawn(warnings::watch(shards.clone()));
    tokio_uring::spawn(admin.serve(shards, max_message));
    let _ = stopped.recv_async().await;
}

/// Tells all shards to stop.
pub fn shutdown(shards: &Shards, within: Duration) {
    let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    for postbox in shards.postboxes() {
        postbox.post(Mail::Shutdown { within_ms });
        postbox.wake();
    }
}
