//! The floors: the least that any server of this kind must do. It takes the same handshakes and publications as the
//! servers that it is compared with, and answers a publication with a bare loop of sends: `peer-floor ring` with ring
//! SENDs in submissions of 256, `peer-floor send` with one `send(2)` for each subscriber. What came in one read is sent
//! as one buffer.
//!
//! It is no server: subscribers are neither read from nor ever left, and one that does not read stops it. A client of
//! `/raw/{topic}` is a subscriber, or with `?self=false` a publisher. Environment: `PORT`.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, opcode, squeue, types};
use uproar::ring::sys;
use uproar::ws::frame::{Expect, Header, Opcode, encode_header};
use uproar::{http::request, ws::handshake, ws::mask};

/// Sends of one submission.
const BATCH: u32 = 256;
/// Events of one wait, and bytes of one read: more than a burst of the benchmark.
const EVENTS: usize = 1024;
const READ: usize = 1 << 20;
const MAX_HEAD: usize = 4 << 10;
const ACCEPT_BACKLOG: i32 = 4096;
/// Never block, never be cut short silently, never raise SIGPIPE.
const RING_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// The listener's event; the others' are indices of publishers.
const LISTENER: u64 = u64::MAX;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let slots = u32::try_from(sys::raise_nofile()?)?;
    let ring = match std::env::args().nth(1).as_deref() {
        Some("ring") => {
            let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(BATCH)?;
            ring.submitter().register_files_sparse(slots)?;
            Some(ring)
        }
        Some("send") => None,
        _ => return Err("which floor: ring or send?".into()),
    };
    Floor::listen(port, ring)?.serve()
}

struct Floor {
    listener: TcpListener,
    epoll: Epoll,
    /// Absent: `send(2)`.
    ring: Option<IoUring>,
    /// Of each topic. The kernel's table of registered files has them by their descriptors' numbers.
    topics: HashMap<String, Vec<TcpStream>>,
    publishers: Vec<Publisher>,
}

impl Floor {
    fn listen(port: u16, ring: Option<IoUring>) -> Result<Floor> {
        let listener = sys::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ACCEPT_BACKLOG, false)?;
        let epoll = Epoll::new()?;
        epoll.add(listener.as_raw_fd(), LISTENER)?;
        Ok(Floor { listener, epoll, ring, topics: HashMap::new(), publishers: Vec::new() })
    }

    fn serve(mut self) -> Result<()> {
        let mut buffer = vec![0; READ];
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        loop {
            let ready = self.epoll.wait(&mut events)?;
            for &index in ready.iter().filter(|&&index| index != LISTENER) {
                let publisher = &mut self.publishers[index as usize];
                if !publisher.read(&mut buffer)? {
                    self.epoll.remove(publisher.stream.as_raw_fd())?;
                }
            }
            for &index in ready.iter().filter(|&&index| index != LISTENER) {
                let publisher = &self.publishers[index as usize];
                let subscribers = self.topics.get(&publisher.topic).map_or(&[][..], Vec::as_slice);
                match &mut self.ring {
                    Some(ring) => queue_sends(ring, subscribers, &publisher.frames)?,
                    None => send_each(subscribers, &publisher.frames)?,
                }
            }
            // Everything that was queued refers to frames that live until the next turn.
            self.ring.as_mut().map_or(Ok(()), submit)?;
            if ready.contains(&LISTENER) {
                self.accept()?;
            }
        }
    }

    /// Accepts one and shakes hands. A client that leaves at once, as one that only looks whether there is a server, is
    /// no error.
    fn accept(&mut self) -> Result<()> {
        let (mut stream, _) = self.listener.accept()?;
        let mut head = Vec::new();
        let (topic, publishes, answer) = loop {
            let mut part = [0; MAX_HEAD];
            match stream.read(&mut part) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(read) => head.extend(&part[..read]),
            }
            let Some(request) = request::parse(&head, MAX_HEAD).map_err(|_| "a head that is none")? else { continue };
            let agreed = handshake::check("GET", request.minor_version, request.headers(), &[]);
            let mut answer = Vec::new();
            agreed.map_err(|_| "no WebSocket handshake")?.write_response(None, &mut answer);
            break (request.path.to_owned(), request.query == "self=false", answer);
        };
        if publishes {
            self.epoll.add(stream.as_raw_fd(), self.publishers.len() as u64)?;
        } else if let Some(ring) = &self.ring {
            let fd = stream.as_raw_fd();
            ring.submitter().register_files_update(fd as u32, &[fd])?;
        }
        stream.write_all(&answer)?;
        match publishes {
            true => self.publishers.push(Publisher { stream, topic, unread: Vec::new(), frames: Vec::new() }),
            false => self.topics.entry(topic).or_default().push(stream),
        }
        Ok(())
    }
}

/// A client that publishes.
struct Publisher {
    stream: TcpStream,
    topic: String,
    /// What came and is no whole frame yet.
    unread: Vec<u8>,
    /// The whole frames of the last read, as a server sends them, one behind the other.
    frames: Vec<u8>,
}

impl Publisher {
    /// Reads once, and turns a client's frames into a server's; what is no data is left out. `false`: it has gone.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool> {
        self.frames.clear();
        match self.stream.read(buffer) {
            Ok(0) | Err(_) => return Ok(false),
            Ok(read) => self.unread.extend(&buffer[..read]),
        }
        let mut start = 0;
        while let Some((header, key, payload)) = split_frame(&mut self.unread[start..])? {
            if let Opcode::Data(kind) = header.opcode {
                mask::apply(payload, key, 0);
                self.frames.extend(encode_header(Opcode::Data(kind), false, header.len).as_slice());
                self.frames.extend_from_slice(payload);
            }
            start += header.size + header.len as usize;
        }
        self.unread.drain(..start);
        Ok(true)
    }
}

/// A frame, and its payload, still masked.
type Frame<'b> = (Header, [u8; 4], &'b mut [u8]);

/// The first frame, if it is whole.
fn split_frame(bytes: &mut [u8]) -> Result<Option<Frame<'_>>> {
    let parsed = Header::parse(bytes, Expect { continuation: false, deflate: false });
    let Some(header) = parsed.map_err(|_| "a frame that is none")? else { return Ok(None) };
    let (Some(key), end) = (header.key(bytes), header.size + header.len as usize) else { return Ok(None) };
    Ok(bytes.get_mut(header.size..end).map(|payload| (header, key, payload)))
}

/// Queues a send to each subscriber. `frames` must live until the next [`submit`] has returned.
fn queue_sends(ring: &mut IoUring, subscribers: &[TcpStream], frames: &[u8]) -> Result<()> {
    if frames.is_empty() {
        return Ok(());
    }
    for stream in subscribers {
        let fd = stream.as_raw_fd() as u32;
        let entry = opcode::Send::new(types::Fixed(fd), frames.as_ptr(), u32::try_from(frames.len())?)
            .flags(RING_FLAGS)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(u64::from(fd) << 32 | frames.len() as u64);
        if ring.submission().is_full() {
            submit(ring)?;
        }
        // SAFETY: with MSG_DONTWAIT the kernel is done with `frames` when the submission returns, and until then they
        // are neither freed nor changed: they are a publisher's, which is read from only after that.
        unsafe { ring.submission().push(&entry) }?;
    }
    Ok(())
}

/// Submits what was queued. A send that failed or fell short is the only one to be reported, and the end.
fn submit(ring: &mut IoUring) -> Result<()> {
    ring.submit()?;
    match ring.completion().next() {
        Some(failed) => {
            let (fd, bytes, result) = (failed.user_data() >> 32, failed.user_data() as u32, failed.result());
            Err(format!("a send of {bytes} bytes to descriptor {fd} gave {result}").into())
        }
        None => Ok(()),
    }
}

/// Sends to one after the other; blocks where one is slow to read.
fn send_each(subscribers: &[TcpStream], frames: &[u8]) -> Result<()> {
    for mut stream in subscribers.iter().filter(|_| !frames.is_empty()) {
        // One send(2) with MSG_NOSIGNAL.
        stream.write_all(frames)?;
    }
    Ok(())
}

/// Waits for many descriptors (epoll(7), level-triggered).
struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and is nobody else's.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn add(&self, fd: RawFd, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, data)
    }

    fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0)
    }

    fn control(&self, operation: i32, fd: RawFd, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: data };
        // SAFETY: reads the local event.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The data of those that are ready.
    fn wait(&self, events: &mut [libc::epoll_event]) -> io::Result<Vec<u64>> {
        // SAFETY: writes at most as many events as the exclusive slice has.
        let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, -1) };
        let ready = usize::try_from(ready).map_err(|_| io::Error::last_os_error())?;
        Ok(events[..ready].iter().map(|event| event.u64).collect())
    }
}
