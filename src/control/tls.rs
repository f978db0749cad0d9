//! New certificates, without dropping a connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use crate::counters::Process;
use crate::tls::certificates::{configure, first_expiry};
use crate::tls::{Handshakes, Pair};

/// How often it is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(10);

/// What reads the certificates again.
pub struct TlsReload {
    /// The files.
    pub pairs: Vec<Pair>,
    /// Who is to use them.
    pub handshakes: Handshakes,
    /// Where it is noted when the certificates expire.
    pub process: Arc<Process>,
}

impl TlsReload {
    /// Reads the files again when they have changed, and on `SIGHUP` if `signals` are listened to. Files that cannot be used
    /// change nothing: they may be half written.
    pub async fn watch(self, signals: bool) {
        let mut hang_up = signals.then(|| signal(SignalKind::hangup()).ok()).flatten();
        let mut known = fingerprint(&self.pairs);
        self.note_expiry();
        loop {
            let told = match &mut hang_up {
                Some(signal) => tokio::time::timeout(LOOK, signal.recv()).await.is_ok(),
                None => {
                    tokio::time::sleep(LOOK).await;
                    false
                }
            };
            let seen = fingerprint(&self.pairs);
            if told || seen != known {
                known = seen;
                self.reload();
            }
        }
    }

    fn note_expiry(&self) {
        self.process.certificate_expiry.set(first_expiry(&self.pairs).unwrap_or(0));
    }

    fn reload(&self) {
        match configure(&self.pairs) {
            Ok(config) => {
                self.handshakes.reconfigure(Arc::new(config));
                self.note_expiry();
                tracing::info!("the TLS certificates were read again; new connections get them");
            }
            Err(why) => tracing::error!("the TLS certificates stay as they were: {why}"),
        }
    }
}

/// When the files were written last, and how long they are: they have changed if this has.
fn fingerprint(pairs: &[Pair]) -> Vec<Option<(SystemTime, u64)>> {
    let files = pairs.iter().flat_map(|(certificate, key)| [certificate, key]);
    files
        .map(|file| std::fs::metadata(file).ok().and_then(|facts| Some((facts.modified().ok()?, facts.len()))))
        .collect()
}
