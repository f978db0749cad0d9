//! Start and stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ConfigError, LogFormat, ReloadReport, Source, TlsKernel};
use crate::control::{self, Admin, Base, Notifier, Prepared, Reloader};
use crate::error::StartError;
use crate::handler::{Backend, Handler};
use crate::log;
use crate::ring::ktls::{self, KernelTls, Lacking};
use crate::ring::{Features, inherit, sys};
use crate::shard::handle::Shards;
use crate::shard::settings::Settings;
use crate::shard::shared::Shared;

mod activation;
mod launch;
mod listeners;
mod publisher;

use activation::Sockets;
use launch::{Launch, Threads, failed};
use listeners::Addresses;
pub use publisher::{PublishError, Publisher};

type Factory = Arc<dyn Fn() -> Box<dyn Handler> + Send + Sync>;
type BackendFactory = Arc<dyn Fn() -> Box<dyn Backend> + Send + Sync>;

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
    backend: Option<BackendFactory>,
    dialects: bool,
    /// Where its configuration comes from, if that can be read again.
    source: Option<Source>,
}

impl Server {
    /// A server that serves nothing yet but `/health`, `/live` and `/ready`.
    pub fn new(config: Config) -> Server {
        Server { config, routes: Vec::new(), backend: None, dialects: false, source: None }
    }

    /// Serves WebSockets of a path with a handler that the factory makes, one for each shard. A path that ends in `*`
    /// stands for all that begin like it; of several that fit, the first added is taken.
    ///
    /// Who may come in is the handler's to say, which sees the request: tokens, `auth_hook` and `allowed_origins` are the dialects'.
    pub fn route<H: Handler>(mut self, path: &str, factory: impl Fn() -> H + Send + Sync + 'static) -> Server {
        self.routes.push((path.to_owned(), Arc::new(move || Box::new(factory()))));
        self
    }

    /// Serves the built-in dialects on all other paths: `raw` below `/raw/`, `json` elsewhere; and at `/` the playground,
    /// if the configuration says so.
    pub fn dialects(mut self) -> Server {
        self.dialects = true;
        self
    }

    /// Gives the messages of the `json` dialect that the configuration's `handover` names to a backend that the factory
    /// makes, one for each shard. It is only called where [`Server::dialects`] are served.
    ///
    /// ```no_run
    /// use uproar::{Backend, Client, Config, Server};
    ///
    /// struct Echo;
    ///
    /// impl Backend for Echo {
    ///     fn message(&mut self, client: &mut Client<'_>, text: &str) {
    ///         client.send(text);
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), uproar::StartError> {
    /// Server::new(Config::default()).dialects().backend(|| Echo).run()
    /// # }
    /// ```
    pub fn backend<B: Backend>(mut self, factory: impl Fn() -> B + Send + Sync + 'static) -> Server {
        self.backend = Some(Arc::new(move || Box::new(factory())));
        self
    }

    /// Says where the configuration comes from, so that it can be read again while the server runs.
    fn with_source(mut self, source: Source) -> Server {
        self.source = Some(source);
        self
    }

    /// Starts, and returns once connections are accepted.
    ///
    /// # Errors
    /// The configuration is not valid, an address cannot be bound, or the kernel is not able; see [`StartError`].
    pub fn start(self) -> Result<Running, StartError> {
        self.launch(Surroundings::default())
    }

    /// Starts and serves until `SIGTERM` drains it, or `SIGINT` stops it in good order; a second one ends the process at once.
    /// `SIGHUP` reads the files again that the configuration names: certificates and keys.
    ///
    /// # Errors
    /// As [`Server::start`]; or a shard has failed.
    pub fn run(self) -> Result<(), StartError> {
        self.launch(Surroundings { signals: true, ..Surroundings::default() })?.join()
    }

    fn launch(self, surroundings: Surroundings) -> Result<Running, StartError> {
        let Server { mut config, routes, backend, dialects, source } = self;
        let Surroundings { signals, sockets, notifier } = surroundings;
        sockets.tell(&mut config)?;
        config.validate()?;
        if dialects {
            config.refuse_strangers()?;
        }
        control::warnings::of_configuration(&config);
        let nofile = sys::raise_nofile().map_err(failed("cannot read RLIMIT_NOFILE"))?;
        let prepared = Prepared::new(&config)?;
        let inherited = sockets.inherited();
        let (doors, addresses) = listeners::bind(&config, sockets.plain, sockets.tls)?;
        let admin = sockets.admin.map_or_else(|| Admin::bind(&config.admin_listen), Ok)?;
        let admin_address = admin.address();
        let shared = Arc::new(Shared::new(config.shards as u16));
        let (postboxes, mailboxes) = launch::mailboxes(config.shards)?;
        let publisher = Publisher { shards: Shards::new(shared.clone(), postboxes.clone()) };
        let settings = Settings::clone(&prepared.settings);
        let mut aides =
            prepared.start(&config, &publisher.shards).map_err(failed("cannot start a thread for TLS or tokens"))?;
        let wants_kernel_tls = config.tls_listen.is_some() && config.tls_kernel == TlsKernel::Auto;
        let kernel_tls = wants_kernel_tls.then(ktls::probe);
        aides.kernel_tls = kernel_tls.as_ref().and_then(|outcome| outcome.as_ref().ok().copied());
        let launch = Launch {
            config: &config,
            settings,
            routes: &routes,
            backend,
            dialects,
            nofile,
            shared,
            postboxes,
            aides: aides.clone(),
        };
        let (threads, features) = launch.shards(doors, mailboxes)?;
        let base = Base {
            source,
            inherited,
            refuses_strangers: dialects,
            capacity: launch.capacity(features.slots),
            notifier: notifier.clone(),
        };
        let reloader = Arc::new(Reloader::new(config.clone(), aides, publisher.shards.clone(), base));
        let setup =
            control::Setup { admin, shards: publisher.shards.clone(), signals, reloader: reloader.clone(), notifier };
        let control = control::start(setup).inspect_err(|_| control::shutdown(&publisher.shards, Duration::ZERO))?;
        Ok(Running {
            addresses,
            admin_address,
            publisher,
            threads,
            control,
            features,
            kernel_tls,
            nofile,
            config,
            reloader,
        })
    }
}

/// What is around a server: who ends it, who opened its listeners, who wants to hear of it.
#[derive(Default)]
pub struct Surroundings {
    /// Whether signals end it.
    signals: bool,
    sockets: Sockets,
    notifier: Notifier,
}

impl Surroundings {
    /// Of a process that is the server alone: signals, and the supervisor that the environment names (systemd's socket
    /// activation and `Type=notify`), whose variables are taken out of the environment. To be called before other threads run.
    ///
    /// # Errors
    /// The supervisor handed over what is no listener, or its variables contradict each other.
    pub fn of_process() -> Result<Surroundings, StartError> {
        let left = inherit::take().map_err(|error| ConfigError::new(error.to_string()))?;
        let sockets = Sockets::sort(left.descriptors)?;
        let notifier = left.notify.map_or(Ok(Notifier::default()), |address| {
            let named = Notifier::new(&address, left.watchdog);
            named.map_err(|error| ConfigError::new(format!("NOTIFY_SOCKET ({}): {error}", address.display())))
        })?;
        Ok(Surroundings { signals: true, sockets, notifier })
    }
}

/// A server that runs. Dropping it does not stop it.
pub struct Running {
    addresses: Addresses,
    admin_address: Option<String>,
    publisher: Publisher,
    threads: Threads,
    control: control::Handle,
    features: Features,
    kernel_tls: Option<Result<KernelTls, Lacking>>,
    nofile: u64,
    config: Config,
    reloader: Arc<Reloader>,
}

impl Running {
    /// The public listener's address, with the port that the kernel chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.addresses.plain
    }

    /// The TLS listener's address, if there is one.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.addresses.tls
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
        self.publisher.shards.shared().max_connections()
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Begins to stop: no more connections, 1001 to all, and whoever is left after `within` is cut off.
    pub fn shutdown(&self, within: Duration) {
        control::shutdown(&self.publisher.shards, within);
    }

    /// Begins to drain, as `SIGTERM` does: the configuration says after which delay, and over which time, clients are sent away
    /// with 1012. When all are gone, the shards end.
    pub fn drain(&self) {
        control::drain(&self.publisher.shards, self.reloader.settings().drain, "the program");
    }

    /// Takes up another configuration: all of it that can change at run time, at once. What takes a restart stays as it is, and is
    /// reported. When this returns, all shards work with it. `docs/OPERATIONS.md` says what of it concerns connections that are
    /// open. Not for handlers: they would keep their shard from it.
    ///
    /// # Errors
    /// Everything that is wrong with it, or with the files that it names. Nothing has changed then.
    pub fn reload(&self, config: Config) -> Result<ReloadReport, ConfigError> {
        self.reloader.replace(config)
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
                self.shutdown(self.reloader.settings().drain.grace);
            }
        }
        for handle in self.threads.handles {
            let _ = handle.join();
        }
        self.control.stop();
        failed.map_or(Ok(()), |id| Err(StartError::ShardFailed(id)))
    }
}

/// What the `uproar` command does: serves the dialects, and says on standard output, and to the supervisor, where and with what.
/// Reloads read `source` again, which the configuration came from.
///
/// # Errors
/// As [`Server::run`].
pub fn serve(config: Config, source: Source, surroundings: Surroundings) -> Result<(), StartError> {
    let log_is_json = config.log_format == LogFormat::Json;
    log::start(&config).map_err(failed("cannot start the log's thread"))?;
    // Where that fails there are no huge pages.
    let _ = sys::disable_huge_pages();
    let notifier = surroundings.notifier.clone();
    let running = Server::new(config).dialects().with_source(source).launch(surroundings)?;
    say(&banner(&running));
    if log_is_json {
        tell_start(&running);
    }
    notifier.ready(&format!("serving on {}", running.address()));
    running.join()?;
    tracing::info!("stopped: no connection is left");
    log::flush();
    say("uproar has stopped\n");
    Ok(())
}

/// Prints to standard output. A server goes on, and ends in good order, when nobody reads what it prints.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What the banner says, for whoever has programs read the log.
fn tell_start(running: &Running) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = %running.address(),
        tls = running.tls_address().map(tracing::field::display),
        admin = running.admin_address(),
        shards = running.config().shards,
        max_connections = running.max_connections(),
        "listening"
    );
}

/// Who seals what TLS connections are sent.
fn sealed_by(running: &Running) -> String {
    match &running.kernel_tls {
        None => "; kernel TLS is off".into(),
        Some(Ok(kernel)) => format!("; kernel TLS: {kernel}"),
        Some(Err(why)) => format!("; no kernel TLS: {why}"),
    }
}

/// Where the server is, what it uses, and which limits it found.
fn banner(running: &Running) -> String {
    let config = running.config();
    let page = if config.playground { "" } else { " (the page is off)" };
    let pinned = if config.pin { ", pinned" } else { "" };
    let memory =
        control::allowed_memory(config.max_memory).map_or("off".into(), |bytes| format!("{} MiB", bytes >> 20));
    let tls = running.tls_address().map_or(String::new(), |address| {
        format!("  tls      https://{address}/ and wss://{address}/{}\n", sealed_by(running))
    });
    format!(
        "uproar {} is listening\n  page     http://{}/{page}\n  raw      ws://{}/raw/{{topic}}\n  json     ws://{}/\n{tls}  admin    {}\n  \
         shards   {}{pinned}\n  kernel   {}\n  limits   {} connections in all, {} descriptors (RLIMIT_NOFILE), memory {memory}\n",
        env!("CARGO_PKG_VERSION"),
        running.address(),
        running.address(),
        running.address(),
        running.admin_address().map_or("off".into(), |address| format!("{address} (HTTP API, /metrics)")),
        config.shards,
        running.features(),
        running.max_connections(),
        running.nofile(),
    )
}
