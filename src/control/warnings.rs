//! What an operator should look at and no connection can be told, as lines of the log: counters that rise, and rules without effect.

use std::sync::Arc;
use std::time::Duration;

use super::api::Api;
use super::reload;
use crate::config::Config;
use crate::tls::certificates;

/// How often there is such a line at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says what is allowed in a configuration, and hardly meant.
pub fn of_configuration(config: &Config) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

/// That a certificate of a configuration has expired, if one has.
pub fn of_certificates(config: &Config) -> Option<String> {
    of_expiry(certificates::first_expiry(&config.tls_pairs()).unwrap_or(0), reload::now())
}

/// That a certificate has expired, if the first of them that does has, at this time in seconds since 1970; both are.
pub fn of_expiry(first_expiry: u64, now: u64) -> Option<String> {
    let days = now.checked_sub(first_expiry).filter(|_| first_expiry > 0)? / 86_400;
    Some(format!("tls_certificate: a certificate has expired, {days} days ago: clients will not connect"))
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
    fn certificates_are_good_until_they_expire() {
        assert_eq!((of_expiry(0, 100), of_expiry(100, 99)), (None, None), "there is none; it is good");
        assert!(of_expiry(100, 100 + 3 * 86_400).is_some_and(|warning| warning.contains("3 days ago")));
    }

    #[test]
    fn what_has_risen_is_told_once() {
        let mut rise = Rise(0);
        let told: Vec<_> = [0, 2, 2, 5].into_iter().map(|count| rise.to(count)).collect();
        assert_eq!(told, [None, Some(2), None, Some(3)]);
    }
}
