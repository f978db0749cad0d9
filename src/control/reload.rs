//! Another configuration for a server that runs: all of it that can be taken up, at once; or, if anything is wrong with it, nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flume::RecvTimeoutError;
use tokio::sync::watch;

use super::Notifier;
use super::prepare::{Next, Prepared};
use super::{Settings, tell, warnings};
use crate::config::{Config, ConfigError, ReloadReport, Source};
use crate::counters::Cell;
use crate::log;
use crate::shard::Aides;
use crate::shard::configure::Update;
use crate::shard::handle::Shards;
use crate::shard::mail::Mail;
use crate::tls::{Unusable, certificates};

/// How long it is waited for the shards to get to it.
const TAKE_UP: Duration = Duration::from_secs(5);

/// What a server works with, and how that is replaced.
pub struct Reloader {
    /// Whoever has this reloads, and nobody else.
    state: Mutex<State>,
    settings: watch::Sender<Arc<Settings>>,
    shards: Shards,
    base: Base,
    tally: Tally,
}

/// What a server was started with, and keeps.
#[derive(Default)]
pub struct Base {
    /// Where its configuration comes from, if that can be read again.
    pub source: Option<Source>,
    /// The listeners that are not the configuration's.
    pub inherited: Inherited,
    /// Whether strangers could do something there, so that a configuration that lets them in is refused.
    pub refuses_strangers: bool,
    /// Connections that its tables have room for.
    pub capacity: u64,
    /// Who is told of reloads.
    pub notifier: Notifier,
}

/// Which listeners a supervisor opened: what a configuration says of those counts for nothing.
#[derive(Clone, Copy, Default)]
pub struct Inherited {
    /// That of `listen`.
    pub plain: bool,
    /// That of `tls_listen`.
    pub tls: bool,
    /// That of `admin_listen`.
    pub admin: bool,
}

impl Inherited {
    /// A configuration as it is with the listeners that there are.
    fn keep(self, wanted: &mut Config, running: &Config) {
        if self.plain {
            wanted.listen = running.listen;
        }
        if self.tls {
            wanted.tls_listen = running.tls_listen;
        }
        if self.admin {
            wanted.admin_listen = running.admin_listen.clone();
        }
    }
}

/// What is in force.
struct State {
    config: Config,
    aides: Aides,
}

impl State {
    /// Notes when the first of the certificates in use expires.
    fn note_expiry(&self, shards: &Shards) {
        let pairs = self.aides.handshakes.as_ref().map_or_else(Vec::new, |_| self.config.tls_pairs());
        let expiry = certificates::first_expiry(&pairs).unwrap_or(0);
        shards.shared().process().certificate_expiry.set(expiry);
        warnings::of_expiry(expiry, now()).into_iter().for_each(|warning| tracing::warn!("{warning}"));
    }
}

/// How often it was tried, and when it last went well. Written by whoever reloads.
#[derive(Default)]
pub struct Tally {
    /// Reloads.
    pub done: Cell,
    /// Reloads that changed nothing, as something was wrong.
    pub refused: Cell,
    /// Seconds since 1970 at which the configuration in force was taken up.
    pub at: Cell,
}

impl Reloader {
    /// Of a server that was started with this.
    pub fn new(config: Config, aides: Aides, shards: Shards, base: Base) -> Reloader {
        let settings = watch::Sender::new(Arc::new(Settings::from(&config)));
        let tally = Tally::default();
        tally.at.set(now());
        let state = State { config, aides };
        state.note_expiry(&shards);
        Reloader { state: Mutex::new(state), settings, shards, base, tally }
    }

    /// What the control thread works with at the moment.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// The same, and whatever takes its place.
    pub fn watch(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// The counts.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes up the configuration as its sources have it now: the file and those that it names are read again. `why`: what makes
    /// it, for the log. It takes as long as reading does: not for the control thread itself.
    ///
    /// # Errors
    /// Everything that is wrong. Nothing has changed then.
    pub fn reload(&self, why: &str) -> Result<ReloadReport, ConfigError> {
        self.take_up(why, |running| match &self.base.source {
            Some(source) => {
                let mut config = source.read()?.config;
                self.base.inherited.keep(&mut config, running);
                Ok(config)
            }
            None => Ok(running.clone()),
        })
    }

    /// Takes up a configuration; see [`Reloader::reload`].
    pub fn replace(&self, config: Config) -> Result<ReloadReport, ConfigError> {
        self.take_up("the embedder", |_| Ok(config))
    }

    /// Every reload comes through here, one after the other.
    fn take_up(
        &self,
        why: &str,
        wanted: impl FnOnce(&Config) -> Result<Config, ConfigError>,
    ) -> Result<ReloadReport, ConfigError> {
        let mut state = self.lock();
        let outcome = self.base.notifier.reload(|| {
            let (config, mut report, next) = wanted(&state.config).and_then(|wanted| self.prepare(&state, &wanted))?;
            if !self.commit(&mut state, config, next) {
                report.notes.push("not every shard has got to it yet: they have much to do".into());
            }
            Ok(report)
        });
        self.note(why, &outcome);
        outcome
    }

    /// Counts a reload, and says how it went.
    fn note(&self, why: &str, outcome: &Result<ReloadReport, ConfigError>) {
        match outcome {
            Ok(report) => {
                self.tally.done.add(1);
                self.tally.at.set(now());
                let [changed, restart] = [&report.changed, &report.restart].map(|knobs| ReloadReport::line(knobs));
                tracing::info!(why, changed, restart, "the configuration was reloaded");
                report.notes.iter().for_each(|note| tracing::warn!("{note}"));
            }
            Err(error) => {
                self.tally.refused.add(1);
                let problems = error.problems().join("; ");
                tracing::error!(why, problems, "the configuration was not reloaded, and nothing has changed");
            }
        }
    }

    /// Finds out whether a configuration can be taken up.
    fn prepare(&self, state: &State, wanted: &Config) -> Result<(Config, ReloadReport, Next), ConfigError> {
        self.check(wanted)?;
        let (config, mut report) = wanted.onto(&state.config);
        let prepared = match report.restart.is_empty() {
            true => Prepared::new(&config)?,
            false => {
                // It is to be good for the restart, and without it.
                Prepared::new(wanted)?;
                let of_restart = |error: ConfigError| error.map(|problem| format!("without a restart: {problem}"));
                self.check(&config).and_then(|()| Prepared::new(&config)).map_err(of_restart)?
            }
        };
        report.notes = config.warnings();
        let capacity = self.base.capacity;
        if config.max_connections.is_some_and(|most| u64::from(most) > capacity) {
            report.notes.push(format!("max_connections: there is room for {capacity}; for more after a restart"));
        }
        let running = (&state.config, &state.aides);
        let next = prepared.replace(running, &config, &self.shards)?;
        Ok((config, report, next))
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        config.validate()?;
        if self.base.refuses_strangers { config.refuse_strangers() } else { Ok(()) }
    }

    /// Takes up what is prepared. Nothing of it can fail; whether all shards work with it by now.
    fn commit(&self, state: &mut State, config: Config, mut next: Next) -> bool {
        let most = config.max_connections.map_or(u64::MAX, u64::from).min(self.base.capacity);
        self.shards.shared().set_max_connections(most);
        next.hand_out();
        let Next { settings, aides, .. } = next;
        if aides.hook.is_none() {
            self.shards.shared().process().hook_breaker.set(0);
        }
        let (pending, taken) = flume::bounded(0);
        let update = Update { settings, aides: aides.clone(), pending: Some(pending) };
        tell(&self.shards, || Mail::Configure(Box::new(update.clone())));
        drop(update);
        log::set_level(config.log);
        self.settings.send_replace(Arc::new(Settings::from(&config)));
        *state = State { config, aides };
        state.note_expiry(&self.shards);
        taken.recv_timeout(TAKE_UP) != Err(RecvTimeoutError::Timeout)
    }

    /// Reads the certificates again; `None` where there is no TLS.
    ///
    /// # Errors
    /// They cannot be used: those before are, still.
    pub fn renew_certificates(&self) -> Option<Result<(), Unusable>> {
        let state = self.lock();
        let handshakes = state.aides.handshakes.as_ref()?;
        let configured = certificates::configure(&state.config.tls_pairs());
        Some(configured.map(|certificates| {
            handshakes.reconfigure(Arc::new(certificates));
            state.note_expiry(&self.shards);
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reloads on a thread where waiting is no harm; `None` if the runtime has ended by then.
pub async fn in_background(reloader: &Arc<Reloader>, why: &'static str) -> Option<Result<ReloadReport, ConfigError>> {
    let reloader = reloader.clone();
    tokio::task::spawn_blocking(move || reloader.reload(why)).await.ok()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
