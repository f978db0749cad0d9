//! New certificates, without dropping a connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Reloader;
use crate::tls::Pair;

/// How often it is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(10);

/// Reads the certificates again when their files have changed. Files that cannot be used change nothing: they may be half written.
pub async fn watch(reloader: Arc<Reloader>) {
    let mut known = fingerprint(&reloader.settings().pairs);
    // Where there is no TLS listener now, there is none until a restart.
    while !known.is_empty() {
        tokio::time::sleep(LOOK).await;
        let seen = fingerprint(&reloader.settings().pairs);
        if seen != known {
            known = seen;
            let reloader = reloader.clone();
            let _ = tokio::task::spawn_blocking(move || renew(&reloader)).await;
        }
    }
}

fn renew(reloader: &Reloader) {
    match reloader.renew_certificates() {
        Some(Ok(())) => tracing::info!("the TLS certificates were read again; new connections get them"),
        Some(Err(why)) => tracing::error!(%why, "the TLS certificates stay as they were"),
        None => {}
    }
}

/// When the files were written last, and how long they are: they have changed if this has.
fn fingerprint(pairs: &[Pair]) -> Vec<Option<(SystemTime, u64)>> {
    let files = pairs.iter().flat_map(|(certificate, key)| [certificate, key]);
    files
        .map(|file| std::fs::metadata(file).ok().and_then(|facts| Some((facts.modified().ok()?, facts.len()))))
        .collect()
}
