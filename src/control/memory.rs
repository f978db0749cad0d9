//! The bound on the process's memory: near it, the shards refuse new connections.

use std::time::Duration;

use crate::ring::sys;
use crate::shard::handle::Shards;
use crate::shard::mail::Mail;
use crate::shard::mailbox::Postbox;

/// How often resident memory is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches resident memory for as long as the runtime runs. Refusing begins at nine tenths of `max`, which leaves room
/// for what comes between two looks, and ends at eight tenths. Meanwhile the shards give back what they keep for later,
/// or a backlog that is long gone could keep newcomers out.
pub async fn watch(shards: Shards, max: u64) {
    let shared = shards.shared();
    let (refuse, accept) = (max / 10 * 9, max / 10 * 8);
    loop {
        let bytes = match sys::resident_bytes() {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!("memory cannot be read, so max_memory has no effect: {error}"),
        };
        if bytes >= refuse && !shared.memory_pressure() {
            tracing::warn!("{} MiB resident of {} MiB allowed: new connections are refused", bytes >> 20, max >> 20);
            shared.set_memory_pressure(true);
        } else if bytes < accept && shared.memory_pressure() {
            tracing::info!("{} MiB resident: new connections are accepted again", bytes >> 20);
            shared.set_memory_pressure(false);
        }
        if shared.memory_pressure() {
            shards.postboxes().iter().for_each(trim);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn trim(postbox: &Postbox) {
    postbox.post(Mail::Trim);
    postbox.wake();
}
