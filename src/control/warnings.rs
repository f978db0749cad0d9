//! What an operator should look at and no connection can be told, as lines of the log: counters that rise, and rules without effect.

use std::sync::Arc;
use std::time::Duration;

use super::api::Api;
use crate::config::Config;

/// How often there is such a line at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says what is allowed in a configuration, and hardly meant.
pub fn of_configuration(config: &Config) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Watches the counters for as long as the runtime runs.
pub async fn watch(api: Arc<Api>) {
    let (mut backends, mut admins) = (Rise(0), Rise(0));
    loop {
        tokio::time::sleep(INTERVAL).await;
        let counters = api.shards().shared().all_counters();
        if let Some(count) = backends.to(counters.iter().map(|counters| counters.handshakes_backend.get()).sum()) {
            tracing::warn!(
                count,
                "connections to /backend were refused: their key is none of backend_key, or that is not set"
            );
        }
        let tally = api.tally();
        if let (Some(count), Some(last)) = (admins.to(tally.turned_away()), tally.last_turned_away()) {
            tracing::warn!(
                count,
                %last,
                "requests to the admin listener were refused, for their key or for want of one"
            );
        }
    }
}

/// A counter as it was.
struct Rise(u64);

impl Rise {
    /// By how much it has risen, if it has.
    fn to(&mut self, count: u64) -> Option<u64> {
        let before = std::mem::replace(&mut self.0, count);
        count.checked_sub(before).filter(|rise| *rise > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_risen_is_told_once() {
        let mut rise = Rise(0);
        let told: Vec<_> = [0, 2, 2, 5].into_iter().map(|count| rise.to(count)).collect();
        assert_eq!(told, [None, Some(2), None, Some(3)]);
    }
}
