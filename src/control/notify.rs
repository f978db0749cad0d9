//! What a supervisor is told: that the server is ready, how it is, that it ends, and that it lives (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Drain, Settings};
use crate::counters::Counters;
use crate::ring::sys;
use crate::shard::handle::Shards;
use crate::shard::mailbox::Postbox;
use crate::shard::shared::Standing;

/// How often it is looked how the server is.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two lines about a server that serves.
const QUIET_LOOKS: u32 = 10;
/// Looks in the time of the watchdog: one that comes while a shard is busy is not the last.
const LOOKS_A_WATCHDOG: u32 = 4;
/// What a supervisor has to wait for beyond the end of the last connection.
const MARGIN: Duration = Duration::from_secs(5);
/// Time that a supervisor has to take a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// A way to the supervisor; to nobody, if there is none.
#[derive(Clone, Default)]
pub struct Notifier(Option<Arc<Supervisor>>);

struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// To the datagram socket of this address, a path, or `@` and a name; `watchdog` is the time within which it wants to hear
    /// that the server lives.
    ///
    /// # Errors
    /// It is no such address.
    pub fn new(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Notifier> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("expected a path, or @ and a name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Notifier(Some(Arc::new(Supervisor { socket, address, watchdog }))))
    }

    /// The server takes connections.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reads the configuration again, or whatever `work` does, and lets the supervisor wait until that is done.
    pub fn reload<T>(&self, work: impl FnOnce() -> T) -> T {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic().as_micros()));
        let done = work();
        self.tell("READY=1");
        done
    }

    fn tell(&self, text: &str) {
        let Some(Supervisor { socket, address, .. }) = self.0.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::warn!("the supervisor (NOTIFY_SOCKET) cannot be told: {error}");
        }
    }

    /// Tells how the server is for as long as the runtime runs.
    pub async fn watch(self, shards: Shards, settings: watch::Receiver<Arc<Settings>>) {
        let Some(supervisor) = &self.0 else { return };
        let pause = supervisor.watchdog.map_or(LOOK, |time| LOOK.min(time / LOOKS_A_WATCHDOG));
        let mut life = Life { seen: turns(&shards) };
        let mut told = Standing::Serving;
        for look in 1_u32.. {
            tokio::time::sleep(pause).await;
            let standing = shards.shared().standing();
            let mut lines = Vec::new();
            if standing != told {
                told = standing;
                lines.push(format!(
                    "STOPPING=1\nEXTEND_TIMEOUT_USEC={}",
                    time_to_end(standing, settings.borrow().drain).as_micros()
                ));
            }
            if standing != Standing::Serving || look.is_multiple_of(QUIET_LOOKS) {
                lines.push(format!("STATUS={}", status(standing, shards.shared().connections())));
            }
            if supervisor.watchdog.is_some() && life.shown(turns(&shards)) {
                lines.push("WATCHDOG=1".into());
            }
            if !lines.is_empty() {
                self.tell(&lines.join("\n"));
            }
            if supervisor.watchdog.is_some() {
                // A shard that has nothing to do sleeps, and shows life when it is woken.
                shards.postboxes().iter().for_each(|postbox| _ = postbox.wake());
            }
        }
    }
}

/// How long the server takes to end at most, from the beginning of a standing.
fn time_to_end(standing: Standing, drain: Drain) -> Duration {
    let Drain { delay, time, grace } = drain;
    match standing {
        Standing::Draining => delay + time + grace + MARGIN,
        Standing::Serving | Standing::Stopping => grace + MARGIN,
    }
}

/// What `systemctl status` shows.
fn status(standing: Standing, connections: u64) -> String {
    let does = match standing {
        Standing::Serving => "serving",
        Standing::Draining => "draining",
        Standing::Stopping => "stopping",
    };
    format!("{does}, {connections} connections")
}

/// How often each shard's loop has turned; of one that has ended in good order, nothing is expected.
fn turns(shards: &Shards) -> Vec<Option<u64>> {
    let turns = |(counters, postbox): (&Arc<Counters>, &Postbox)| {
        (!postbox.is_closed()).then(|| counters.turn_time.snapshot().count())
    };
    shards.shared().all_counters().iter().zip(shards.postboxes()).map(turns).collect()
}

/// Which shards live: those whose loop turns.
struct Life {
    /// How often they had turned when all had last shown life.
    seen: Vec<Option<u64>>,
}

impl Life {
    /// Whether all have shown life since the last time that they had.
    fn shown(&mut self, turns: Vec<Option<u64>>) -> bool {
        let all = turns.iter().zip(&self.seen).all(|(now, then)| now.is_none() || now != then);
        if all {
            self.seen = turns;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRAIN: Drain =
        Drain { delay: Duration::from_secs(1), time: Duration::from_secs(10), grace: Duration::from_secs(5) };

    fn heard(work: impl FnOnce(&Notifier)) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).expect("a socket");
        supervisor.set_nonblocking(true).expect("it is ours");
        work(&Notifier::new(path.as_os_str(), None).expect("a path"));
        let mut buffer = [0; 1024];
        let next = || supervisor.recv(&mut buffer).ok().map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_reload_is_told_before_and_after() {
        let before = sys::monotonic().as_micros();
        let told = heard(|notifier| {
            notifier.ready("serving");
            assert_eq!(notifier.reload(|| 7), 7);
        });
        assert_eq!((told.len(), &*told[0], &*told[2]), (3, "READY=1\nSTATUS=serving", "READY=1"), "{told:?}");
        let at = told[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|at| at.parse::<u128>().ok());
        assert!(at.is_some_and(|at| (before..=sys::monotonic().as_micros()).contains(&at)), "{told:?}");
    }

    #[test]
    fn an_abstract_name_is_an_address_and_others_are_none() {
        let name = format!("uproar-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let supervisor = UnixDatagram::bind_addr(&address).expect("a socket");
        Notifier::new(OsStr::new(&format!("@{name}")), None).expect("a name").ready("x");
        let mut buffer = [0; 64];
        assert_eq!(supervisor.recv(&mut buffer).expect("a line"), "READY=1\nSTATUS=x".len());
        for address in ["", "relative", "vsock:2:1"] {
            assert!(Notifier::new(OsStr::new(address), None).is_err(), "{address:?}");
        }
        Notifier::default().ready("nobody hears it");
        Notifier::new(OsStr::new("/nowhere/at/all"), None).expect("a path").ready("nobody hears it");
    }

    #[test]
    fn the_time_to_end_covers_the_whole_drain() {
        assert_eq!(time_to_end(Standing::Draining, DRAIN), Duration::from_secs(21));
        assert_eq!(time_to_end(Standing::Stopping, DRAIN), Duration::from_secs(10));
    }

    proptest! {
        /// Against the rule as it is said: since the last time that this was true, each shard that runs has turned.
        #[test]
        fn life_is_shown_by_all_or_by_none(
            looks in prop::collection::vec(prop::collection::vec((0..2_u64, prop::bool::weighted(0.1)), 3), 1..40)
        ) {
            let mut life = Life { seen: vec![Some(0); 3] };
            let (mut turns, mut ended, mut moved) = ([0; 3], [false; 3], [false; 3]);
            for look in looks {
                for (shard, (more, ends)) in look.into_iter().enumerate() {
                    ended[shard] |= ends;
                    turns[shard] += more;
                    moved[shard] |= more > 0;
                }
                let expected = (0..3).all(|shard| moved[shard] || ended[shard]);
                let now = (0..3).map(|shard| (!ended[shard]).then_some(turns[shard])).collect();
                prop_assert_eq!(life.shown(now), expected);
                if expected {
                    moved = [false; 3];
                }
            }
        }
    }
}
