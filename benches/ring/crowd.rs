//! Connections on loopback: one end for the loop that is measured, the other for a thread of peers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use uproar::ring::sys::{listen, pin_to};

use crate::lab::Cpus;
use crate::peer::{self, Latencies, Task};

const BACKLOG: i32 = 16;
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Connected sockets, in the order in which they were accepted, and their peers.
pub struct Crowd {
    servers: Vec<TcpStream>,
    peers: Peers,
}

impl Crowd {
    pub fn connect(size: usize, cpus: Cpus) -> io::Result<Crowd> {
        let mut servers = Vec::with_capacity(size);
        let peers = connect(size, cpus, |server| {
            servers.push(server);
            Ok(())
        })?;
        Ok(Crowd { servers, peers })
    }

    pub fn size(&self) -> u32 {
        self.servers.len() as u32
    }

    /// Our ends.
    pub fn files(&self) -> impl Iterator<Item = RawFd> {
        self.servers.iter().map(AsRawFd::as_raw_fd)
    }

    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}

/// Connects, and hands over the accepted ends one by one.
pub fn connect(size: usize, cpus: Cpus, mut keep: impl FnMut(TcpStream) -> io::Result<()>) -> io::Result<Peers> {
    let listener = listen(ANY_PORT, BACKLOG, false)?;
    let address = listener.local_addr()?;
    let mut clients = Vec::with_capacity(size);
    for _ in 0..size {
        let client = TcpStream::connect(address)?;
        client.set_nodelay(true)?;
        // Closing resets: no port is left in TIME_WAIT for the next crowd to miss.
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        clients.push(client);
        keep(listener.accept()?.0)?;
    }
    Peers::spawn(clients, cpus.peer)
}

/// The thread that has the other ends.
pub struct Peers {
    tasks: SyncSender<Task>,
    results: Receiver<io::Result<Latencies>>,
}

impl Peers {
    fn spawn(clients: Vec<TcpStream>, cpu: usize) -> io::Result<Peers> {
        let (tasks, to_do) = sync_channel(1);
        let (done, results) = sync_channel(1);
        thread::spawn(move || {
            let pinned = pin_to(cpu).map(|()| Latencies::new());
            // Ends with the crowd, whose ends of the channels hang up.
            if done.send(pinned).is_ok() {
                to_do.iter().try_for_each(|task| done.send(peer::perform(task, &clients))).ok();
            }
        });
        let peers = Peers { tasks, results };
        // Not before they are on their own CPU: the loop may not let them go once it spins.
        peers.finish()?;
        Ok(peers)
    }

    /// Lets them begin with something.
    pub fn start(&self, task: Task) -> io::Result<()> {
        self.tasks.send(task).map_err(io::Error::other)
    }

    /// Waits for its end.
    pub fn finish(&self) -> io::Result<Latencies> {
        self.results.recv().map_err(io::Error::other)?
    }

    /// Has each of them take so many bytes off its socket.
    pub fn discard(&self, bytes: usize) -> io::Result<()> {
        self.start(Task::Discard { bytes })?;
        self.finish().map(drop)
    }
}
