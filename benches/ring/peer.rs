//! What the peers do: read, ask and wait for the answer, ask at a fixed rate, or write as fast as they can.
#![allow(unsafe_code)]

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, squeue, types};

use crate::sys::{self, Epoll, SEND_FLAGS};
use crate::uring::{SERVERS, Uring, Wait};

/// Bytes of a message that is echoed.
pub const MESSAGE: usize = 64;
/// Bytes of a write of a stream.
pub const WRITE: usize = 64 << 10;
/// Of the messages that are sent at a fixed rate, one of so many warms up and has no latency taken.
const WARM_UP: u64 = 10;

/// What the peers are asked to do once.
#[derive(Clone, Copy)]
pub enum Task {
    /// Take so many bytes off every socket.
    Discard { bytes: usize },
    /// Exchange so many messages, of which each connection has one under way at a time (closed loop).
    Ask { messages: u64 },
    /// Send so many messages, one each interval, and take the time from when each was due (open loop).
    AskAtRate { messages: u64, interval: Duration },
    /// Write so many times [`WRITE`] bytes to the first connection.
    Stream { writes: u64 },
}

/// Of messages sent at a fixed rate, until their echo was read; ascending.
pub type Latencies = Vec<Duration>;

/// Does it.
pub fn perform(task: Task, clients: &[TcpStream]) -> io::Result<Latencies> {
    match task {
        Task::Discard { bytes } => clients.iter().try_for_each(|client| sys::discard(client.as_raw_fd(), bytes))?,
        Task::Ask { messages } => ask(clients, messages)?,
        Task::AskAtRate { messages, interval } => return ask_at_rate(clients, messages, interval),
        Task::Stream { writes } => stream(&clients[0], writes)?,
    }
    Ok(Latencies::new())
}

fn stream(mut client: &TcpStream, writes: u64) -> io::Result<()> {
    let bytes = vec![7; WRITE];
    (0..writes).try_for_each(|_| client.write_all(&bytes))
}

/// As cheap as can be, so that it is not the peers whom the echo waits for: multishot polls, and for each answer a
/// receive that throws it away and the next message, in one submission.
fn ask(clients: &[TcpStream], messages: u64) -> io::Result<()> {
    static BYTES: [u8; MESSAGE] = [7; MESSAGE];
    let mut ring = Uring::with_files(SERVERS, clients.iter().map(AsRawFd::as_raw_fd))?;
    let skip = |entry: squeue::Entry| entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(u64::MAX);
    let send =
        |slot| skip(opcode::Send::new(types::Fixed(slot), BYTES.as_ptr(), MESSAGE as u32).flags(SEND_FLAGS).build());
    let discard = |slot| {
        let receive = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), MESSAGE as u32);
        skip(receive.flags(libc::MSG_DONTWAIT | libc::MSG_TRUNC).build())
    };
    let watch = |slot: u32| {
        let poll = opcode::PollAdd::new(types::Fixed(slot), libc::POLLIN as u32).multi(true);
        poll.build().user_data(slot.into())
    };
    let (mut sent, mut answered) = (0, 0);
    for slot in 0..clients.len() as u32 {
        // SAFETY: a poll has no memory; what is sent is static.
        unsafe { ring.push(&watch(slot)) }?;
    }
    for slot in 0..(clients.len() as u64).min(messages) {
        // SAFETY: what is sent is static.
        unsafe { ring.push(&send(slot as u32)) }?;
        sent += 1;
    }
    let mut completions = Vec::new();
    while answered < messages {
        ring.turn(Wait::One)?;
        ring.drain(&mut completions);
        for completion in &completions {
            let slot = check(completion)?;
            answered += 1;
            // SAFETY: with MSG_TRUNC, nothing is written.
            unsafe { ring.push(&discard(slot)) }?;
            if sent < messages {
                // SAFETY: what is sent is static.
                unsafe { ring.push(&send(slot)) }?;
                sent += 1;
            }
        }
    }
    ring.settle()
}

/// The slot that is readable; the only completions that are not errors are the polls'.
fn check(completion: &cqueue::Entry) -> io::Result<u32> {
    match (u32::try_from(completion.user_data()), completion.result()) {
        (Ok(slot), result) if result >= 0 && cqueue::more(completion.flags()) => Ok(slot),
        (slot, result) => Err(io::Error::other(format!("a peer's operation on {slot:?} gave {result}"))),
    }
}

/// Spins: the latencies should have none of our own sleep in them.
fn ask_at_rate(clients: &[TcpStream], messages: u64, interval: Duration) -> io::Result<Latencies> {
    let epoll = Epoll::new()?;
    for (name, client) in clients.iter().enumerate() {
        epoll.add(client.as_raw_fd(), name as u32)?;
    }
    let mut latencies = Vec::with_capacity(messages as usize);
    let mut readable = Vec::new();
    let mut buffer = [0; 64 * MESSAGE];
    let start = Instant::now();
    let due = |number: u64| interval.mul_f64(number as f64);
    let (mut sent, mut answered) = (0, 0);
    while answered < messages {
        if sent < messages && start.elapsed() >= due(sent) {
            let mut message = [0; MESSAGE];
            message[..8].copy_from_slice(&sent.to_ne_bytes());
            sys::send(clients[sent as usize % clients.len()].as_raw_fd(), &message)?;
            sent += 1;
        }
        readable.clear();
        epoll.wait(&mut readable, false)?;
        for &name in &readable {
            let count = sys::receive(clients[name as usize].as_raw_fd(), &mut buffer)?;
            let now = start.elapsed();
            for message in buffer[..count].chunks_exact(MESSAGE) {
                let number = u64::from_ne_bytes(message[..8].try_into().expect("eight bytes"));
                answered += 1;
                if number >= messages / WARM_UP {
                    latencies.push(now.saturating_sub(due(number)));
                }
            }
        }
    }
    latencies.sort_unstable();
    Ok(latencies)
}
