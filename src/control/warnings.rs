//! What an operator should look at and no connection can be told, as lines of the log: counters that rise, and rules without effect.

use std::time::Duration;

use crate::config::Config;
use crate::shard::handle::Shards;

/// How often there is such a line at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says what is allowed in a configuration, and hardly meant.
pub fn of_configuration(config: &Config) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Watches the counters for as long as the runtime runs.
pub async fn watch(shards: Shards) {
    let mut known = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let counters = shards.shared().all_counters();
        let refused = counters.iter().map(|counters| counters.handshakes_backend.get()).sum::<u64>();
        if refused > known {
            let count = refused - known;
            tracing::warn!(
                count,
                "connections to /backend were refused: their key is not backend_key, or that is not set"
            );
        }
        known = refused;
    }
}
