//! `SIGTERM` and `SIGINT`: the first stops the server in good order, the second at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::shard::mailbox::Postbox;

/// Exit status of a process that was ended by a second signal, as a shell would report it for `SIGINT`.
const INTERRUPTED: i32 = 130;

/// Waits for a signal, stops the shards, and waits for another.
pub async fn stop_on_signal(postboxes: Vec<Postbox>, within: Duration) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::error!("signals cannot be handled: the server can only be killed");
    };
    let name = next(&mut terminate, &mut interrupt).await;
    tracing::info!("{name}: closing all connections, for at most {within:?}; a second signal exits at once");
    super::shutdown(&postboxes, within);
    let name = next(&mut terminate, &mut interrupt).await;
    tracing::warn!("{name} again: exiting at once");
    std::process::exit(INTERRUPTED);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
