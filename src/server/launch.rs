//! Listeners, mailboxes, and the shards' threads.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::listeners::Doors;
use super::{BackendFactory, Factory};
use crate::config::Config;
use crate::error::StartError;
use crate::handler::Routes;
use crate::limits::SPARE_SLOTS;
use crate::ring::{Features, Ring, Setup, WakeFd, sys};
use crate::shard::accept::Door;
use crate::shard::mailbox::{self, Mailbox, Postbox};
use crate::shard::settings::Settings;
use crate::shard::shared::Shared;
use crate::shard::{Aides, Parts, Shard, worker};

/// What the shards are made from.
pub(super) struct Launch<'a> {
    pub config: &'a Config,
    pub settings: Settings,
    pub routes: &'a [(String, Factory)],
    pub backend: Option<BackendFactory>,
    pub dialects: bool,
    /// Descriptors that the process may have: the bound of a ring's table.
    pub nofile: u64,
    pub shared: Arc<Shared>,
    pub postboxes: Vec<Postbox>,
    pub aides: Aides,
}

/// The shards' threads.
pub(super) struct Threads {
    pub handles: Vec<JoinHandle<()>>,
    /// Which shard has ended, and whether by a panic.
    pub ends: flume::Receiver<(u16, bool)>,
}

/// What a thread reports before it serves.
type Ready = Result<Features, StartError>;

impl Launch<'_> {
    /// Starts the threads. None accepts before all are able to.
    pub fn shards(
        &self,
        doors: Vec<Doors>,
        mailboxes: Vec<(Arc<WakeFd>, Mailbox)>,
    ) -> Result<(Threads, Features), StartError> {
        let cpus = sys::allowed_cpus().map_err(failed("cannot read which cores may be used"))?;
        let (ready, readiness) = flume::unbounded::<Ready>();
        let (ended, ends) = flume::unbounded();
        let (mut handles, mut starts) = (Vec::new(), Vec::new());
        for (id, (doors, (wake, mailbox))) in (0..).zip(doors.into_iter().zip(mailboxes)) {
            let (go, start) = flume::bounded(1);
            let cpu = (self.config.pin && !cpus.is_empty()).then(|| cpus[usize::from(id) % cpus.len()]);
            let (doors, listeners) = doors.into_iter().unzip();
            let setup = Setup { slots: self.slots(), listeners, wake };
            let seed = self.seed(id, doors, mailbox);
            let (ready, ended) = (ready.clone(), ended.clone());
            let body = move || {
                let _end = EndNotice { ended, id };
                pin(id, cpu);
                seed.grow(setup, &ready, &start);
            };
            let thread = thread::Builder::new().name(format!("shard-{id}")).spawn(body);
            handles.push(thread.map_err(failed("cannot start a shard's thread"))?);
            starts.push(go);
        }
        let mut features = None;
        for outcome in readiness.iter().take(handles.len()) {
            features = Some(outcome?);
        }
        let features = features.ok_or(StartError::ShardFailed(0))?;
        let max_connections = self.max_connections(features.slots);
        if max_connections == 0 {
            let nofile = self.nofile;
            return Err(StartError::Kernel(format!(
                "RLIMIT_NOFILE is {nofile}: too few for any connection; raise it (ulimit -n, LimitNOFILE=)"
            )));
        }
        self.shared.set_max_connections(max_connections);
        for go in starts {
            let _ = go.send(());
        }
        Ok((Threads { handles, ends }, features))
    }

    /// Slots of a shard's table. Which shard a connection comes to is the kernel's choice, so each could have them all.
    fn slots(&self) -> u32 {
        let wanted = self.config.max_connections.map_or(u32::MAX, |most| most.saturating_add(SPARE_SLOTS));
        wanted.min(u32::try_from(self.nofile).unwrap_or(u32::MAX))
    }

    /// Connections that tables of so many slots have room for.
    pub fn capacity(&self, slots: u32) -> u64 {
        u64::from(slots.saturating_sub(SPARE_SLOTS)) * u64::from(self.config.shards)
    }

    fn max_connections(&self, slots: u32) -> u64 {
        let possible = self.capacity(slots);
        self.config.max_connections.map_or(possible, |most| u64::from(most).min(possible))
    }

    fn seed(&self, id: u16, doors: Vec<Door>, mailbox: Mailbox) -> Seed {
        Seed {
            id,
            doors,
            aides: self.aides.clone(),
            settings: self.settings.clone(),
            shared: self.shared.clone(),
            mailbox,
            postboxes: self.postboxes.clone(),
            routes: self.routes.to_vec(),
            backend: self.backend.clone(),
            dialects: self.dialects,
        }
    }
}

/// What becomes a shard on its own thread, where its handlers and its ring have to be made.
struct Seed {
    id: u16,
    doors: Vec<Door>,
    aides: Aides,
    settings: Settings,
    shared: Arc<Shared>,
    mailbox: Mailbox,
    postboxes: Vec<Postbox>,
    routes: Vec<(String, Factory)>,
    backend: Option<BackendFactory>,
    dialects: bool,
}

impl Seed {
    /// The life of a shard's thread.
    ///
    /// # Panics
    /// If the kernel takes no more operations.
    fn grow(self, setup: Setup, ready: &flume::Sender<Ready>, start: &flume::Receiver<()>) {
        let ring = Ring::new(setup).map_err(|error| StartError::Kernel(error.to_string()));
        let (features, ring) = match ring {
            Ok(ring) => (Ok(*ring.features()), Some(ring)),
            Err(error) => (Err(error), None),
        };
        let _ = ready.send(features);
        let (Some(ring), Ok(())) = (ring, start.recv()) else { return };
        let id = self.id;
        if let Err(error) = worker::run(self.shard(ring.slots()), ring) {
            panic!("the ring of shard {id} takes no more operations: {error}");
        }
    }

    fn shard(self, slots: u32) -> Shard {
        let routes = self.routes.into_iter().map(|(path, factory)| (path, factory())).collect();
        Shard::new(Parts {
            id: self.id,
            doors: self.doors,
            aides: self.aides,
            slots,
            settings: self.settings,
            shared: self.shared,
            mailbox: self.mailbox,
            postboxes: self.postboxes,
            routes: Routes::new(routes, self.dialects).with_backend(self.backend.map(|factory| factory())),
            seed: random(),
        })
    }
}

fn pin(id: u16, cpu: Option<usize>) {
    if let Some(Err(error)) = cpu.map(sys::pin_to) {
        tracing::warn!(shard = id, %error, "the shard is not pinned to a core");
    }
}

/// A number that differs from start to start.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Says what was being done when the system failed.
pub(super) fn failed(doing: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Io { doing, source }
}

/// Tells that a shard's thread is over, and whether by a panic.
struct EndNotice {
    ended: flume::Sender<(u16, bool)>,
    id: u16,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        let _ = self.ended.send((self.id, thread::panicking()));
    }
}

/// A postbox and a mailbox for each shard.
#[expect(clippy::type_complexity, reason = "the two ends of the same queues")]
pub(super) fn mailboxes(shards: u32) -> Result<(Vec<Postbox>, Vec<(Arc<WakeFd>, Mailbox)>), StartError> {
    let pairs = (0..shards).map(|_| {
        let wake = Arc::new(WakeFd::new().map_err(failed("cannot make an eventfd"))?);
        let (postbox, mailbox) = mailbox::mailbox(wake.clone());
        Ok((postbox, (wake, mailbox)))
    });
    pairs.collect::<Result<Vec<_>, _>>().map(|pairs| pairs.into_iter().unzip())
}
