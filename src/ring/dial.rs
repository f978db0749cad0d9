//! Sockets that connect: the client's side, for the load generator.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::sys::check;

/// A connection to be made.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// To where.
    pub to: SocketAddr,
    /// From which of this machine's addresses; `None`: the kernel's choice.
    pub from: Option<IpAddr>,
    /// Bytes of the receive buffer (`SO_RCVBUF`, which the kernel doubles); `None`: as large as the kernel sees fit.
    pub receive_buffer: Option<usize>,
}

/// Begins to connect, without waiting. That it failed shows in the first send. A connection made so is reset when closed,
/// so that it leaves no `TIME_WAIT` behind.
///
/// # Errors
/// Those of `socket`, `bind` and `connect`; `EADDRNOTAVAIL` if the source address has no port left.
pub fn dial(dial: &Dial) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(dial.to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(bytes) = dial.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(from) = dial.from {
        choose_port_late(&socket)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&dial.to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        connected => connected.map(|()| socket),
    }
}

/// Leaves the choice of the port to `connect`, which knows the peer: a port is then taken for this peer only (ip(7)).
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the kernel reads an integer of the length given.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) })
}
