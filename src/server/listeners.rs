//! The public listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use super::launch::failed;
use crate::config::Config;
use crate::error::StartError;
use crate::ring::sys;
use crate::shard::accept::Door;

/// The listeners of one shard.
pub(super) type Doors = Vec<(Door, TcpListener)>;

/// Where the public listeners are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub plain: SocketAddr,
    pub tls: Option<SocketAddr>,
}

/// How often, and after what time, it is looked again whether an address is free.
const BIND_ATTEMPTS: u32 = 40;
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// The listeners of each shard: those that were handed over, and others of their own.
pub(super) fn bind(
    config: &Config,
    plain: Option<TcpListener>,
    tls: Option<TcpListener>,
) -> Result<(Vec<Doors>, Addresses), StartError> {
    let open = |knob, address, handed: Option<TcpListener>| match handed {
        Some(listener) => share(knob, address, listener, config),
        None => bind_one(knob, address, config),
    };
    let (plain, listeners) = open("listen", config.listen, plain)?;
    let mut doors: Vec<Doors> = listeners.into_iter().map(|listener| vec![(Door::Plain, listener)]).collect();
    let Some(address) = config.tls_listen else { return Ok((doors, Addresses { plain, tls: None })) };
    let (tls, listeners) = open("tls_listen", address, tls)?;
    for (doors, listener) in doors.iter_mut().zip(listeners) {
        doors.push((Door::Tls, listener));
    }
    Ok((doors, Addresses { plain, tls: Some(tls) }))
}

/// A listener that was handed over, for each shard: there is one queue, at whose end all of them wait. (More sockets at the same
/// address would have to be of the same user as that one, which the supervisor's is not.)
fn share(
    knob: &'static str,
    address: SocketAddr,
    listener: TcpListener,
    config: &Config,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let shared = sys::adopt_listener(&listener, config.accept_backlog as i32)
        .and_then(|()| config.send_buffer.map_or(Ok(()), |bytes| sys::set_send_buffer(&listener, bytes as usize)))
        .and_then(|()| (1..config.shards).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>());
    let mut all = shared.map_err(|source| StartError::Bind { knob, address: address.to_string(), source })?;
    all.push(listener);
    Ok((address, all))
}

/// One listener for each shard, on one port, among which the kernel spreads the connections.
fn bind_one(
    knob: &'static str,
    address: SocketAddr,
    config: &Config,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let cannot = |source| StartError::Bind { knob, address: address.to_string(), source };
    let listen = |address: SocketAddr| {
        let listener = sys::listen(address, config.accept_backlog as i32, true).map_err(cannot)?;
        if let Some(bytes) = config.send_buffer {
            sys::set_send_buffer(&listener, bytes as usize).map_err(cannot)?;
        }
        Ok(listener)
    };
    // With SO_REUSEPORT a second server would silently get half of the first one's connections.
    if !becomes_free(address).map_err(cannot)? {
        return Err(cannot(io::ErrorKind::AddrInUse.into()));
    }
    let first = listen(address)?;
    // Port 0 was the kernel's to choose.
    let address = first.local_addr().map_err(failed("cannot read the listener's address"))?;
    let others = (1..config.shards).map(|_| listen(address));
    let all: Result<_, StartError> = std::iter::once(Ok(first)).chain(others).collect();
    Ok((address, all?))
}

/// Whether nobody listens on an address, now or soon: the kernel closes the sockets of a ring some time after the process
/// that had it has ended, and whoever is to take its place may be faster (seen with Linux 6.18, up to some 100 ms).
fn becomes_free(address: SocketAddr) -> io::Result<bool> {
    for _ in 0..BIND_ATTEMPTS {
        if !sys::port_taken(address)? {
            return Ok(true);
        }
        thread::sleep(BIND_PAUSE);
    }
    Ok(false)
}
