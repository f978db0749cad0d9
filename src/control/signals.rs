//! `SIGTERM` drains the server, `SIGINT` stops it in good order at once; a second signal ends the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Drain;
use crate::shard::handle::Shards;

/// Exit status of a process that a second signal has ended, as a shell reports one that died of it: 128 and its number.
const DIED_OF: i32 = 128;

/// The signals that end a server, listened to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on, they do not kill the process.
    pub fn listen() -> Option<Signals> {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        if let (Ok(terminate), Ok(interrupt)) = signals {
            return Some(Signals { terminate, interrupt });
        }
        tracing::error!("signals cannot be handled: the server can only be killed");
        None
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Waits for a signal, has the shards end, and waits for another.
pub async fn stop_on_signal(mut signals: Signals, shards: Shards, drain: Drain) {
    let Drain { delay, time, grace } = drain;
    if signals.next().await == SignalKind::terminate() {
        tracing::info!("SIGTERM: draining in {delay:?}, over {time:?}, and then for at most {grace:?}");
        super::drain(&shards, drain);
    } else {
        tracing::info!("SIGINT: closing all connections, for at most {grace:?}");
        super::shutdown(&shards, grace);
    }
    tracing::info!("a second signal exits at once");
    let kind = signals.next().await;
    tracing::warn!("a second signal: exiting at once");
    std::process::exit(DIED_OF + kind.as_raw_value());
}
