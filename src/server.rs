//! Start and stop: listeners, shards, the control thread, and the handle that publishes from any thread.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::control::{self, Admin};
use crate::error::StartError;
use crate::handler::{Handler, Message, Routes};
use crate::hub::frame::MessageKind;
use crate::limits::MAX_TOPIC_BYTES;
use crate::ring::{Features, Ring, Setup, WakeFd, sys};
use crate::shard::mailbox::{self, Mail, Mailbox, Postbox, TopicRef};
use crate::shard::settings::{SPARE_SLOTS, Settings};
use crate::shard::shared::Shared;
use crate::shard::{Parts, Shard, worker};

type Factory = Arc<dyn Fn() -> Box<dyn Handler> + Send + Sync>;

/// Payload bytes that may wait in a shard's mailbox before [`Publisher::publish`] says that it is busy.
const PUBLISHER_BOUND: usize = 16 << 20;

/// A server to be started: a configuration, and what is served on which path.
///
/// ```no_run
/// use uproar::{Config, Connection, Handler, Message, Server};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
///         conn.send(message);
///     }
/// }
///
/// # fn main() -> Result<(), uproar::StartError> {
/// Server::new(Config::default()).route("/echo", || Echo).run()
/// # }
/// ```
pub struct Server {
    config: Config,
    routes: Vec<(String, Factory)>,
    dialects: bool,
}

impl Server {
    /// A server that serves nothing yet but `/health` and, if the configuration says so, the playground.
    pub fn new(config: Config) -> Server {
        Server { config, routes: Vec::new(), dialects: false }
    }

    /// Serves WebSockets of a path with a handler that the factory makes, one for each shard. A path that ends in `*`
    /// stands for all that begin like it; of several that fit, the first added is taken.
    pub fn route<H: Handler>(mut self, path: &str, factory: impl Fn() -> H + Send + Sync + 'static) -> Server {
        self.routes.push((path.to_owned(), Arc::new(move || Box::new(factory()))));
        self
    }

    /// Serves the built-in dialects on all other paths: `raw` below `/raw/`, `json` elsewhere.
    pub fn dialects(mut self) -> Server {
        self.dialects = true;
        self
    }

    /// Starts, and returns once connections are accepted.
    ///
    /// # Errors
    /// The configuration is not valid, an address cannot be bound, or the kernel is not able; see [`StartError`].
    pub fn start(self) -> Result<Running, StartError> {
        self.launch(false)
    }

    /// Starts and serves until `SIGTERM` or `SIGINT` stops it in good order; a second one ends the process at once.
    ///
    /// # Errors
    /// As [`Server::start`]; or a shard has failed.
    pub fn run(self) -> Result<(), StartError> {
        self.launch(true)?.join()
    }

    pub(crate) fn launch(self, signals: bool) -> Result<Running, StartError> {
        self.config.validate()?;
        let nofile = sys::raise_nofile().map_err(io("cannot read RLIMIT_NOFILE"))?;
        let shards = self.config.shards as usize;
        let listeners = listeners(self.config.listen, shards, self.config.accept_backlog)?;
        let address = listeners[0].local_addr().map_err(io("cannot read the listener's address"))?;
        let admin = Admin::bind(&self.config.admin_listen)?;
        let admin_address = admin.address();
        let shared = Arc::new(Shared::new(shards as u16));
        let (postboxes, mailboxes) = mailboxes(shards)?;
        let launch = Launch { nofile, server: self, shared: shared.clone(), postboxes: postboxes.clone() };
        let (threads, features) = launch.shards(listeners, mailboxes)?;
        let control = control::start(control::Setup {
            admin,
            shared: shared.clone(),
            postboxes: postboxes.clone(),
            signals,
            max_memory: launch.server.config.max_memory,
            shutdown_timeout: launch.server.config.shutdown_timeout,
        })?;
        let publisher = Publisher { shared, postboxes };
        Ok(Running {
            address,
            admin_address,
            publisher,
            threads,
            control,
            features,
            nofile,
            config: launch.server.config,
        })
    }
}

/// What shards are made from.
struct Launch {
    nofile: u64,
    server: Server,
    shared: Arc<Shared>,
    postboxes: Vec<Postbox>,
}

type Woken = (Arc<WakeFd>, Mailbox);

impl Launch {
    /// Starts the shards' threads. None accepts before all are able to.
    fn shards(&self, listeners: Vec<TcpListener>, mailboxes: Vec<Woken>) -> Result<(Threads, Features), StartError> {
        let cpus = sys::allowed_cpus().map_err(io("cannot read the cores that may be used"))?;
        let (ready, readiness) = flume::unbounded();
        let (ended, ends) = flume::unbounded();
        let mut handles = Vec::new();
        let mut starts = Vec::new();
        for (i, (listener, (wake, mailbox))) in listeners.into_iter().zip(mailboxes).enumerate() {
            let (go, start) = flume::bounded(1);
            starts.push(go);
            let setup = Setup { slots: self.slots(), listener, wake };
            let cpu = (self.server.config.pin && !cpus.is_empty()).then(|| cpus[i % cpus.len()]);
            let seed = ShardSeed { id: i as u16, settings: self.settings(), launch: self.shareable(), cpu };
            let (ready, ended) = (ready.clone(), ended.clone());
            let body = move || {
                let end = EndNotice { ended, id: seed.id };
                seed.run(setup, mailbox, &ready, &start);
                drop(end);
            };
            handles.push(
                thread::Builder::new()
                    .name(format!("shard-{i}"))
                    .spawn(body)
                    .map_err(io("cannot start a shard's thread"))?,
            );
        }
        drop((ready, ended));
        let mut features = None;
        for outcome in readiness.iter().take(handles.len()) {
            features = Some(outcome?);
        }
        let features = features.ok_or(StartError::ShardFailed(0))?;
        self.shared.set_max_connections(self.max_connections(features.slots));
        for go in starts {
            let _ = go.send(());
        }
        Ok((Threads { handles, ends }, features))
    }

    /// Slots of a shard's table. Which shard a connection comes to is the kernel's choice, so each could have them all.
    fn slots(&self) -> u32 {
        let wanted = self.server.config.max_connections.map_or(u32::MAX, |most| most.saturating_add(SPARE_SLOTS));
        wanted.min(u32::try_from(self.nofile).unwrap_or(u32::MAX))
    }

    fn max_connections(&self, slots: u32) -> u64 {
        let possible = u64::from(slots.saturating_sub(SPARE_SLOTS)) * u64::from(self.server.config.shards);
        self.server.config.max_connections.map_or(possible, |most| u64::from(most).min(possible))
    }

    fn settings(&self) -> Settings {
        Settings::from(&self.server.config)
    }

    fn shareable(&self) -> Shareable {
        Shareable {
            shared: self.shared.clone(),
            postboxes: self.postboxes.clone(),
            routes: self.server.routes.clone(),
            dialects: self.server.dialects,
        }
    }
}

/// What a shard's thread takes along.
struct Shareable {
    shared: Arc<Shared>,
    postboxes: Vec<Postbox>,
    routes: Vec<(String, Factory)>,
    dialects: bool,
}

struct ShardSeed {
    id: u16,
    settings: Settings,
    launch: Shareable,
    cpu: Option<usize>,
}

impl ShardSeed {
    /// The life of a shard's thread. The ring is made here because it belongs to the thread that makes it.
    fn run(
        self,
        setup: Setup,
        mailbox: Mailbox,
        ready: &flume::Sender<Result<Features, StartError>>,
        start: &flume::Receiver<()>,
    ) {
        if let Some(cpu) = self.cpu
            && let Err(error) = sys::pin_to(cpu)
        {
            tracing::warn!("shard {} is not pinned to core {cpu}: {error}", self.id);
        }
        let ring = match Ring::new(setup) {
            Ok(ring) => ring,
            Err(error) => return drop(ready.send(Err(StartError::Kernel(error.to_string())))),
        };
        let slots = ring.slots();
        let _ = ready.send(Ok(ring.features().clone()));
        if start.recv().is_err() {
            return;
        }
        let Shareable { shared, postboxes, routes, dialects } = self.launch;
        let routes = routes.into_iter().map(|(path, factory)| (path, factory())).collect();
        let shard = Shard::new(Parts {
            id: self.id,
            slots,
            settings: self.settings,
            shared,
            mailbox,
            postboxes,
            routes: Routes::new(routes, dialects),
            seed: seed(),
        });
        if let Err(error) = worker::run(shard, ring) {
            tracing::error!("shard {} has failed: {error}", self.id);
            panic!("the ring of shard {} takes no more operations: {error}", self.id);
        }
    }
}

/// Says what was being done when the system failed.
fn io(doing: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::Io { doing, source }
}

/// A number that differs from start to start.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
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

fn listeners(address: SocketAddr, shards: usize, backlog: u32) -> Result<Vec<TcpListener>, StartError> {
    let cannot = |source| StartError::Bind { knob: "listen", address: address.to_string(), source };
    // With SO_REUSEPORT a second server would silently get half of the first one's connections.
    if sys::port_taken(address).map_err(cannot)? {
        return Err(cannot(std::io::ErrorKind::AddrInUse.into()));
    }
    let first = sys::listen(address, backlog as i32, true).map_err(cannot)?;
    let address = first.local_addr().map_err(cannot)?;
    let others = (1..shards).map(|_| sys::listen(address, backlog as i32, true).map_err(cannot));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn mailboxes(shards: usize) -> Result<(Vec<Postbox>, Vec<Woken>), StartError> {
    let mut postboxes = Vec::new();
    let mut mailboxes = Vec::new();
    for _ in 0..shards {
        let wake = Arc::new(WakeFd::new().map_err(io("cannot make an eventfd"))?);
        let (postbox, mailbox) = mailbox::mailbox(wake.clone());
        postboxes.push(postbox);
        mailboxes.push((wake, mailbox));
    }
    Ok((postboxes, mailboxes))
}

struct Threads {
    handles: Vec<JoinHandle<()>>,
    ends: flume::Receiver<(u16, bool)>,
}

/// A server that runs. Dropping it does not stop it.
pub struct Running {
    address: SocketAddr,
    admin_address: Option<String>,
    publisher: Publisher,
    threads: Threads,
    control: control::Handle,
    features: Features,
    nofile: u64,
    config: Config,
}

impl Running {
    /// The public listener's address, with the port that the kernel chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is: `127.0.0.1:8081`, or `unix:/path`; `None` if there is none.
    pub fn admin_address(&self) -> Option<&str> {
        self.admin_address.as_deref()
    }

    /// A handle that publishes from any thread.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// What the kernel offers and the rings use.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Descriptors that the process may have, and so slots of each shard's connection table.
    pub fn nofile(&self) -> u64 {
        self.nofile
    }

    /// Connections that the server takes before it answers 503.
    pub fn max_connections(&self) -> u64 {
        self.publisher.shared.max_connections()
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Begins to stop: no more connections, 1001 to all, and whoever is left after `within` is cut off.
    pub fn shutdown(&self, within: Duration) {
        control::shutdown(&self.publisher.postboxes, within);
    }

    /// Waits until all shards have stopped.
    ///
    /// # Errors
    /// A shard has failed; the others were stopped.
    pub fn join(self) -> Result<(), StartError> {
        let mut failed = None;
        for (id, panicked) in self.threads.ends.iter() {
            if panicked && failed.is_none() {
                failed = Some(id);
                self.shutdown(self.config.shutdown_timeout);
            }
        }
        for handle in self.threads.handles {
            let _ = handle.join();
        }
        self.control.stop();
        failed.map_or(Ok(()), |id| Err(StartError::ShardFailed(id)))
    }
}

/// Publishes to topics from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    postboxes: Vec<Postbox>,
}

/// Why a message was not published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PublishError {
    /// More is waiting to go out than may wait: try again later.
    #[error("the server is busy: try again later")]
    Busy,
    /// The server has stopped.
    #[error("the server has stopped")]
    Stopped,
    /// The topic's name is empty or longer than [`MAX_TOPIC_BYTES`].
    #[error("a topic's name has 1 to 256 bytes")]
    BadTopic,
    /// A text message is not UTF-8.
    #[error("a text message is not UTF-8")]
    BadText,
}

impl Publisher {
    /// Publishes to all subscribers of a topic. The payload of a text message must be UTF-8.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then.
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Message<'m>>) -> Result<(), PublishError> {
        let message = message.into();
        self.publish_bytes(topic, message.kind, Bytes::copy_from_slice(message.payload))
    }

    /// As [`Publisher::publish`], of bytes that need not be copied.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then.
    pub fn publish_bytes(&self, topic: &str, kind: MessageKind, payload: Bytes) -> Result<(), PublishError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES {
            return Err(PublishError::BadTopic);
        }
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(&payload).is_err() {
            return Err(PublishError::BadText);
        }
        let home = &self.postboxes[usize::from(self.shared.home(topic))];
        if home.is_closed() {
            return Err(PublishError::Stopped);
        }
        // Of all shards: the home shard sends on at once what another may be slow to deliver.
        let weight = self.postboxes.iter().map(Postbox::weight).max().unwrap_or(0);
        if weight > 0 && weight + payload.len() > PUBLISHER_BOUND {
            return Err(PublishError::Busy);
        }
        let message = mailbox::Message { kind, payload };
        home.post(Mail::Publish { topic: TopicRef::Name(topic.into()), message, exclude: None });
        home.wake();
        Ok(())
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.shared.connections()
    }
}

/// What the `uproar` command does: serves the dialects, and says on standard output where and with what.
///
/// # Errors
/// As [`Server::run`].
pub fn serve(config: Config) -> Result<(), StartError> {
    let running = Server::new(config).dialects().launch(true)?;
    print!("{}", banner(&running));
    running.join()?;
    println!("uproar has stopped");
    Ok(())
}

/// Where the server is, what it uses, and which limits it found.
fn banner(running: &Running) -> String {
    let config = running.config();
    let page = if config.playground { "" } else { " (the page is off)" };
    let pinned = if config.pin { ", pinned" } else { "" };
    let memory = config.max_memory.map_or("off".into(), |bytes| format!("{} MiB", bytes >> 20));
    format!(
        "uproar {} is listening\n  page     http://{}/{page}\n  raw      ws://{}/raw/{{topic}}\n  admin    {}\n  \
         shards   {}{pinned}\n  kernel   {}\n  limits   {} connections, {} descriptors (RLIMIT_NOFILE), memory {memory}\n",
        env!("CARGO_PKG_VERSION"),
        running.address(),
        running.address(),
        running.admin_address().map_or("off".into(), |address| format!("{address} (/metrics)")),
        config.shards,
        running.features(),
        running.max_connections(),
        running.nofile(),
    )
}
