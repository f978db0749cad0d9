//! `SIGTERM` drains the server, `SIGINT` stops it in good order at once; a second signal ends the process. `SIGHUP` reloads.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Reloader;
use super::reload::in_background;
use crate::shard::handle::Shards;

/// Exit status of a process that a second signal has ended, as a shell reports one that died of it: 128 and its number.
const DIED_OF: i32 = 128;

/// The signals that a server knows, listened to.
pub struct Signals {
    /// Those that end it.
    pub stop: Stop,
    /// The one that has it reload.
    pub hang_up: Signal,
}

/// The signals that end a server.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on, they do not kill the process.
    pub fn listen() -> Option<Signals> {
        let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        if let [Ok(terminate), Ok(interrupt), Ok(hang_up)] = signals {
            return Some(Signals { stop: Stop { terminate, interrupt }, hang_up });
        }
        tracing::error!("signals cannot be handled: the server can only be killed");
        None
    }
}

impl Stop {
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Has the server reload at every signal. What is wrong with the configuration is in the log.
pub async fn reload_on_signal(mut hang_up: Signal, reloader: Arc<Reloader>) {
    while hang_up.recv().await.is_some() {
        let _ = in_background(&reloader, "SIGHUP").await;
    }
}

/// Waits for a signal, has the shards end, and waits for another.
pub async fn stop_on_signal(mut signals: Stop, shards: Shards, reloader: Arc<Reloader>) {
    let first = signals.next().await;
    let drain = reloader.settings().drain;
    if first == SignalKind::terminate() {
        super::drain(&shards, drain, "SIGTERM");
    } else {
        tracing::info!(why = "SIGINT", grace = ?drain.grace, "closing all connections");
        super::shutdown(&shards, drain.grace);
    }
    tracing::info!("a second signal exits at once");
    let kind = signals.next().await;
    tracing::warn!("a second signal: exiting at once");
    crate::log::flush();
    std::process::exit(DIED_OF + kind.as_raw_value());
}
