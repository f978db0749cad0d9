//! The bound on the process's memory: near it, the shards refuse new connections.

use std::sync::Arc;
use std::time::Duration;

use crate::ring::sys;
use crate::shard::shared::Shared;

/// How often resident memory is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches resident memory for as long as the runtime runs. Refusing begins at nine tenths of `max`, which leaves room
/// for what comes between two looks, and ends at eight tenths.
pub async fn watch(shared: Arc<Shared>, max: u64) {
    let (refuse, accept) = (max / 10 * 9, max / 10 * 8);
    loop {
        match sys::resident_bytes() {
            Ok(bytes) if bytes >= refuse && !shared.memory_pressure() => {
                tracing::warn!(
                    "{} MiB resident of {} MiB allowed: new connections are refused",
                    bytes >> 20,
                    max >> 20
                );
                shared.set_memory_pressure(true);
            }
            Ok(bytes) if bytes < accept && shared.memory_pressure() => {
                tracing::info!("{} MiB resident: new connections are accepted again", bytes >> 20);
                shared.set_memory_pressure(false);
            }
            Ok(_) => {}
            Err(error) => return tracing::error!("memory cannot be read, so max_memory has no effect: {error}"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
