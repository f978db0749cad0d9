//! The floor: the least that any server of this kind must do. It takes the same connections and publications as the
//! servers it is compared with, and answers a publication with a bare loop of sends, whose CPU time alone it reports.
#![allow(unsafe_code)]

use crate::sys;
use io_uring::{IoUring, opcode, squeue, types};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Sends of one submission.
const BATCH: usize = 256;
/// More than any burst of the benchmark.
const READ_BYTES: usize = 1 << 20;
/// Never block, never be cut short silently, never raise SIGPIPE.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// The answer to `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==` (RFC 6455 section 1.3), the only key the load sends.
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// How the floor sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Floor {
    /// Ring SEND to registered files, [`BATCH`] a submission, success not reported.
    Ring,
    /// One `send(2)` each.
    Syscall,
}

/// Serves until its standard input ends. Every byte read from there is answered with a line: nanoseconds of CPU time
/// that sending has taken so far.
pub fn serve(kind: Floor, port: u16, slots: u32) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut stdin = io::stdin();
    let mut sender = Sender::new(kind, slots)?;
    let mut publisher: Option<TcpStream> = None;
    let mut inbox = Inbox::default();
    let mut sending = Duration::ZERO;
    loop {
        let publisher_fd = publisher.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut fds = [stdin.as_raw_fd(), listener.as_raw_fd(), publisher_fd].map(sys::readable);
        sys::poll(&mut fds, None)?;
        let [asked, arriving, publishing] = fds.map(|fd| fd.revents != 0);
        if asked {
            if stdin.read(&mut [0])? == 0 {
                return Ok(());
            }
            println!("{}", sending.as_nanos());
        }
        if arriving {
            match accept(&listener)? {
                Some((stream, Role::Publisher)) => publisher = Some(stream),
                Some((stream, Role::Subscriber)) => sender.add(stream)?,
                None => {}
            }
        }
        if publishing && let Some(stream) = &mut publisher {
            if !inbox.read(stream)? {
                publisher = None;
            }
            let frames = inbox.take_frames();
            if !frames.is_empty() {
                let before = sys::thread_cpu()?;
                sender.send_to_all(&frames)?;
                sending += sys::thread_cpu()? - before;
            }
        }
    }
}

enum Role {
    Publisher,
    Subscriber,
}

/// Accepts and shakes hands; `None` for a client that left at once.
fn accept(listener: &TcpListener) -> io::Result<Option<(TcpStream, Role)>> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut head = [0; 1024];
    let length = stream.read(&mut head)?;
    if length == 0 {
        return Ok(None);
    }
    stream.write_all(ACCEPTED)?;
    let publishes = head[..length].windows(10).any(|part| part == b"self=false");
    Ok(Some((stream, if publishes { Role::Publisher } else { Role::Subscriber })))
}

/// What the publisher sent and was not sent on yet.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes in what has come; `false` when the publisher left.
    fn read(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let start = self.bytes.len();
        self.bytes.resize(start + READ_BYTES, 0);
        let read = match stream.read(&mut self.bytes[start..]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            read => read,
        };
        self.bytes.truncate(start + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// The complete frames as a server sends them, one behind the other.
    fn take_frames(&mut self) -> Vec<u8> {
        let mut frames = Vec::with_capacity(self.bytes.len());
        let mut start = 0;
        while let Some((header, payload)) = split_frame(&self.bytes[start..]) {
            let key_at = start + header;
            let payload_at = key_at + 4;
            frames.extend([self.bytes[start], self.bytes[start + 1] & 0x7f]);
            frames.extend(&self.bytes[start + 2..key_at]);
            let key = &self.bytes[key_at..payload_at];
            let masked = &self.bytes[payload_at..payload_at + payload];
            frames.extend(masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            start = payload_at + payload;
        }
        self.bytes.drain(..start);
        frames
    }
}

/// Bytes of header before the masking key and of payload of the first frame, if it is complete.
fn split_frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, payload) = match (bytes.get(1)? & 0x7f, bytes) {
        (126, [_, _, a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [_, _, length @ ..]) => (10, u64::from_be_bytes(*length.first_chunk()?) as usize),
        (126, _) => return None,
        (short, _) => (2, usize::from(short)),
    };
    (bytes.len() >= header + 4 + payload).then_some((header, payload))
}

/// The subscribers, and the way to send to them.
struct Sender {
    subscribers: Vec<TcpStream>,
    ring: Option<IoUring>,
}

impl Sender {
    fn new(kind: Floor, slots: u32) -> io::Result<Sender> {
        let ring = match kind {
            Floor::Ring => {
                let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(BATCH as u32)?;
                ring.submitter().register_files_sparse(slots)?;
                Some(ring)
            }
            Floor::Syscall => None,
        };
        Ok(Sender { subscribers: Vec::new(), ring })
    }

    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        if let Some(ring) = &self.ring {
            ring.submitter().register_files_update(self.subscribers.len() as u32, &[stream.as_raw_fd()])?;
        }
        self.subscribers.push(stream);
        Ok(())
    }

    fn send_to_all(&mut self, frames: &[u8]) -> io::Result<()> {
        let Some(ring) = &mut self.ring else {
            return self.subscribers.iter().try_for_each(|stream| send(stream, frames));
        };
        let slots = self.subscribers.len();
        (0..slots).step_by(BATCH).try_for_each(|start| send_batch(ring, start..slots.min(start + BATCH), frames))
    }
}

fn send(stream: &TcpStream, frames: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `frames` during the call only.
    let sent = unsafe { libc::send(stream.as_raw_fd(), frames.as_ptr().cast(), frames.len(), SEND_FLAGS) };
    match usize::try_from(sent) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(sent) if sent < frames.len() => Err(io::Error::other("a subscriber's socket is full")),
        Ok(_) => Ok(()),
    }
}

fn send_batch(ring: &mut IoUring, slots: std::ops::Range<usize>, frames: &[u8]) -> io::Result<()> {
    let mut queue = ring.submission();
    for slot in slots {
        let slot = slot as u32;
        let entry = opcode::Send::new(types::Fixed(slot), frames.as_ptr(), frames.len() as u32)
            .flags(SEND_FLAGS)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(u64::from(slot));
        // SAFETY: MSG_DONTWAIT has the send done with `frames` when the submission below returns.
        unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
    }
    drop(queue);
    ring.submit()?;
    match ring.completion().next() {
        Some(failed) => Err(io::Error::other(format!("slot {}: send gave {}", failed.user_data(), failed.result()))),
        None => Ok(()),
    }
}
