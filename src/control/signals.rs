//! `SIGTERM` and `SIGINT`: the first stops the server in good order, the second at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::shard::handle::Shards;

/// Exit status of a process that a second signal has ended, as a shell reports one that died of it: 128 and its number.
const DIED_OF: i32 = 128;

/// Waits for a signal, stops the shards, and waits for another.
pub async fn stop_on_signal(shards: Shards, within: Duration) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::error!("signals cannot be handled: the server can only be killed");
    };
    let (name, _) = next(&mut terminate, &mut interrupt).await;
    tracing::info!("{name}: closing all connections, for at most {within:?}; a second signal exits at once");
    super::shutdown(&shards, within);
    let (name, number) = next(&mut terminate, &mut interrupt).await;
    tracing::warn!("{name} again: exiting at once");
    std::process::exit(DIED_OF + number);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
    }
}
