//! One thread's connections to the server: they connect, shake hands, send, and are read or counted.
//!
//! A turn is like a shard's: submit what is wanted, wait, look at what has come. Whatever a mode asks for between two turns
//! (sends, discards, closes) is done in the next, in one system call as far as it goes.

mod conn;
mod end;
mod outbox;
mod secure;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hub::frame::Frames;
use crate::limits::{READ_BUFFER_BYTES, READ_BUFFERS};
use crate::ring::dial::{Dial, dial};
use crate::ring::op::{Arrivals, Completion, Op, Wait};
use crate::ring::token::{ConnId, Kind};
use crate::ring::{Ring, Setup, WakeFd, sys};
use crate::ws::client::frame;
use crate::ws::client::reader::{self, Tools};
use crate::ws::frame::Control;

use super::target::{Role, Target};
use super::{Error, Result};
use conn::{Conn, Phase};
use outbox::Outboxes;
use secure::Sessions;

/// The receive buffer of those that never read: the smallest that the kernel allows is about half of it.
const STALLED_RECEIVE_BUFFER: usize = 4096;
/// How often a turn reads as many as there are buffers for. Whoever is sent more and more does not keep a turn from ending.
const READ_ROUNDS: usize = 64;
/// Bytes of a control frame before its payload, as a server sends it (RFC 6455 section 5.2).
const CONTROL_HEADER: usize = 2;
/// Bytes that may wait for a server that does not read, before its pings are left unanswered.
const MAX_UNSENT_PONGS: usize = 64 * 1024;
/// What one operation throws away at most.
const MAX_DISCARD: u64 = 1 << 30;

/// A connection to be made.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// What it is for.
    pub role: Role,
    /// Its topic.
    pub topic: u32,
    /// Its number among all connections of the run.
    pub n: u32,
    /// What becomes of what it is sent.
    pub attention: Attention,
}

/// What becomes of what a connection is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attention {
    /// It is read as it comes: messages are events, pings are answered.
    Watch,
    /// It is read when [`Swarm::read`] says so. Nothing wakes the thread for it.
    Read,
    /// [`Swarm::discard`] throws it away and counts.
    Count,
    /// It is left where it is.
    Ignore,
}

/// What happened in a turn.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection is there, and subscribed as far as the target tells.
    Open(ConnId),
    /// A whole message, and when it was there at the latest, in nanoseconds since the run began: when the system call came
    /// back that read it, so that what is done to messages before this one is not charged to it.
    Message(ConnId, &'a [u8], u64),
    /// A read has come to the end of what was there, or a discard has: the connection's bytes are up to date.
    CaughtUp(ConnId),
    /// It could not be made.
    Refused(ConnId, String),
    /// The server ended it, or broke RFC 6455.
    Closed(ConnId, String),
}

/// One thread's connections.
pub struct Swarm {
    ring: Ring,
    core: Core,
    completions: Vec<Completion>,
}

/// All but the ring, whose buffers are lent out while bytes are looked at.
struct Core {
    target: Arc<Target>,
    start: Instant,
    timeout: Duration,
    ops: Vec<Op>,
    frames: Frames,
    outboxes: Outboxes,
    sessions: Sessions,
    /// What was opened, while it is looked at.
    plain: Vec<u8>,
    conns: Vec<Conn>,
    /// Beginnings of handshakes' answers, by slot: of those that came in pieces.
    heads: HashMap<u32, Vec<u8>>,
    free: Vec<u32>,
    /// Closed with the next enter, free after it.
    closing: Vec<u32>,
    /// Connections that wait to be read, each once, and the buffers that are free for it.
    readable: VecDeque<ConnId>,
    buffers: Vec<u16>,
    /// Those that are not open yet, and until when they have to be.
    hurrying: VecDeque<(ConnId, Instant)>,
    tools: Tools,
    pings: u64,
    /// When the last system call came back, in nanoseconds since the run began.
    entered: u64,
}

impl Swarm {
    /// A thread's ring with room for so many connections; times count from `start`.
    pub fn new(target: Arc<Target>, connections: u32, timeout: Duration, start: Instant) -> Result<Swarm> {
        sys::raise_nofile()?;
        let ring = Ring::new(Setup { slots: connections, listeners: Vec::new(), wake: Arc::new(WakeFd::new()?) })?;
        if ring.slots() < connections {
            let slots = ring.slots();
            return Err(format!(
                "{connections} connections of one thread, but RLIMIT_NOFILE is {slots}: raise it (ulimit -n), or use more \
                 --threads, and as many --topics"
            )
            .into());
        }
        let core = Core {
            target,
            start,
            timeout,
            ops: Vec::new(),
            frames: Frames::new(),
            outboxes: Outboxes::default(),
            sessions: Sessions::default(),
            plain: Vec::new(),
            conns: (0..connections).map(|_| Conn::default()).collect(),
            heads: HashMap::new(),
            free: (0..connections).rev().collect(),
            closing: Vec::new(),
            readable: VecDeque::new(),
            buffers: (0..READ_BUFFERS).collect(),
            hurrying: VecDeque::new(),
            tools: Tools::default(),
            pings: 0,
            entered: 0,
        };
        Ok(Swarm { ring, core, completions: Vec::new() })
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        self.core.start.elapsed().as_nanos() as u64
    }

    /// Begins to connect. [`Event::Open`], [`Event::Refused`] or [`Event::Closed`] tells what came of it.
    ///
    /// # Errors
    /// There is no slot left, or this machine has no socket or port left.
    pub fn open(&mut self, spec: Spec) -> Result<ConnId> {
        let core = &mut self.core;
        let index = core.free.pop().ok_or("every slot of this thread is taken")?;
        let receive_buffer = (spec.attention == Attention::Ignore).then_some(STALLED_RECEIVE_BUFFER);
        let to = core.target.address(spec.role);
        let from = core.target.source(spec.n);
        let socket = dial(&Dial { to, from, receive_buffer }).map_err(|error| no_socket(&error, from));
        if let Err(error) = socket.and_then(|socket| Ok(self.ring.adopt(index, socket)?)) {
            core.free.push(index);
            return Err(error);
        }
        let id = core.conns[index as usize].begin(index, spec);
        core.ops.push(Op::AwaitWritable(id));
        core.hurrying.push_back((id, Instant::now() + core.timeout));
        Ok(id)
    }

    /// Sends bytes after all that the connection was given before.
    pub fn send(&mut self, id: ConnId, bytes: &[u8]) {
        if self.core.conns[id.index as usize].is(id) {
            self.core.push(id, bytes);
        }
    }

    /// Reads what is there with the next turn.
    pub fn read(&mut self, id: ConnId) {
        self.core.want_read(id);
    }

    /// Throws away up to so many bytes of what is there, with the next turn. Of TLS all that is there: its records say
    /// nothing of messages until they are opened.
    pub fn discard(&mut self, id: ConnId, bytes: u64) {
        if self.core.sessions.has(id.index) {
            return self.core.want_read(id);
        }
        // Otherwise the bytes could be of a slot's next tenant.
        if self.core.conns[id.index as usize].is(id) {
            self.core.ops.push(Op::Discard { conn: id, bytes: bytes.min(MAX_DISCARD) as u32 });
        }
    }

    /// Changes what becomes of what an open connection is sent.
    pub fn attend(&mut self, id: ConnId, attention: Attention) {
        self.core.attend(id, attention);
    }

    /// What becomes of what a connection is sent.
    pub fn attention(&self, id: ConnId) -> Attention {
        self.core.conns[id.index as usize].attention
    }

    /// Bytes that wait to be sent, as the server does not take them.
    pub fn unsent(&self, id: ConnId) -> usize {
        self.core.outboxes.bytes(id)
    }

    /// Counts from nothing the bytes that an open connection receives.
    pub fn forget_received(&mut self, id: ConnId) {
        self.core.conns[id.index as usize].received = 0;
    }

    /// Bytes that an open connection has received since it was open.
    pub fn received(&self, id: ConnId) -> u64 {
        self.core.conns[id.index as usize].received
    }

    /// Pings that were answered.
    pub fn pings(&self) -> u64 {
        self.core.pings
    }

    /// Ends a connection at once, with a reset. Nothing more is heard of it.
    pub fn close(&mut self, id: ConnId) {
        self.core.close(id);
    }

    /// Submits, waits at most so long for something to happen, and tells what did.
    ///
    /// # Errors
    /// The ring fails.
    pub fn turn(&mut self, wait: Duration, on: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let wait = if self.core.readable.is_empty() { wait } else { Duration::ZERO };
        self.enter(wait, on)?;
        for _ in 0..READ_ROUNDS {
            if self.core.readable.is_empty() {
                break;
            }
            self.core.submit_reads();
            self.enter(Duration::ZERO, on)?;
        }
        self.core.expire(on);
        Ok(())
    }

    fn enter(&mut self, wait: Duration, on: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Swarm { ring, core, completions } = self;
        let wait = match u64::try_from(wait.as_nanos()) {
            Ok(0) => Wait::None,
            nanos => Wait::AtMost(nanos.unwrap_or(u64::MAX)),
        };
        core.outboxes.submit(&mut core.frames, &mut core.ops);
        ring.enter(&mut core.ops, &core.frames, wait)?;
        core.entered = core.start.elapsed().as_nanos() as u64;
        core.free.append(&mut core.closing);
        ring.drain(completions);
        for completion in completions.iter().filter(|c| c.token.kind == Kind::Send) {
            core.send_fell_short(completion, on);
        }
        core.outboxes.settle(&mut core.frames);
        for completion in completions.drain(..) {
            core.complete(completion, ring, on);
        }
        Ok(())
    }
}

fn no_socket(error: &std::io::Error, from: Option<std::net::IpAddr>) -> Error {
    let from = from.map_or("this machine".into(), |from| from.to_string());
    format!("no further connection can be made from {from}: {error}").into()
}

impl Core {
    fn attend(&mut self, id: ConnId, attention: Attention) {
        let conn = &mut self.conns[id.index as usize];
        if !conn.is(id) {
            return;
        }
        match (conn.attention == Attention::Watch, attention == Attention::Watch) {
            (false, true) => self.ops.push(Op::Watch(id)),
            (true, false) => self.ops.push(Op::Unwatch(id)),
            _ => {}
        }
        conn.attention = attention;
    }

    fn want_read(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index as usize];
        if conn.is(id) && !std::mem::replace(&mut conn.read_wanted, true) {
            self.readable.push_back(id);
        }
    }

    fn submit_reads(&mut self) {
        while let (Some(&conn), Some(&buffer)) = (self.readable.front(), self.buffers.last()) {
            self.readable.pop_front();
            if self.conns[conn.index as usize].is(conn) {
                self.conns[conn.index as usize].read_wanted = false;
                self.buffers.pop();
                self.ops.push(Op::Receive { conn, buffer });
            }
        }
    }

    fn close(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index as usize];
        if conn.is(id) {
            // An armed poll holds the socket open.
            self.ops.extend([Op::Unwatch(id), Op::CancelWritable(id), Op::Close(id)]);
            conn.end();
            self.heads.remove(&id.index);
            self.sessions.end(id.index);
            self.outboxes.forget(id, &mut self.frames);
            self.closing.push(id.index);
        }
    }

    fn complete(&mut self, completion: Completion, ring: &mut Ring, on: &mut dyn FnMut(Event<'_>)) {
        let Completion { token, result, more, buffer } = completion;
        let id = token.conn;
        if token.kind == Kind::Receive {
            self.buffers.push(buffer);
        }
        let Some(conn) = self.conns.get_mut(id.index as usize).filter(|conn| conn.is(id)) else { return };
        match (token.kind, result) {
            (Kind::Writable, _) if conn.phase == Phase::Connecting => self.shake(id, on),
            (Kind::Writable, _) => self.outboxes.retry(id),
            // It was ended, and is armed again already if it is wanted again.
            (Kind::Readable, errno) if -errno == sys::ECANCELED => {}
            (Kind::Readable, events) => {
                conn.hung_up |= events > 0 && events & sys::POLL_HANG_UP != 0;
                if !more && conn.attention == Attention::Watch {
                    self.ops.push(Op::Watch(id));
                }
                self.want_read(id);
            }
            (Kind::Receive | Kind::Discard, 0) => self.lost(id, "the server ended the connection".into(), on),
            (Kind::Receive, 1..) => {
                let bytes = ring.buffer(buffer, result as usize);
                self.arrived(id, bytes, on);
                let conn = &self.conns[id.index as usize];
                if bytes.len() == READ_BUFFER_BYTES || conn.hung_up {
                    self.want_read(id)
                } else {
                    self.caught_up(id, on)
                }
            }
            (Kind::Discard, 1..) => {
                conn.received += result as u64;
                on(Event::CaughtUp(id));
            }
            (Kind::Receive | Kind::Discard, errno) if -errno == sys::EAGAIN => self.caught_up(id, on),
            (Kind::Receive | Kind::Discard, errno) => self.failed(id, -errno, on),
            _ => {}
        }
    }

    fn caught_up(&mut self, id: ConnId, on: &mut dyn FnMut(Event<'_>)) {
        let conn = &self.conns[id.index as usize];
        if conn.is(id) && conn.phase == Phase::Open {
            on(Event::CaughtUp(id));
        }
    }

    fn send_fell_short(&mut self, completion: &Completion, on: &mut dyn FnMut(Event<'_>)) {
        let id = completion.token.conn;
        match u32::try_from(completion.result) {
            Ok(sent) => self.outboxes.sent(id, sent),
            Err(_) if -completion.result == sys::EAGAIN => self.outboxes.sent(id, 0),
            Err(_) => return self.failed(id, -completion.result, on),
        }
        self.ops.push(Op::AwaitWritable(id));
    }

    /// The socket is connected, or has failed, which the send will tell.
    fn shake(&mut self, id: ConnId, on: &mut dyn FnMut(Event<'_>)) {
        let conn = &mut self.conns[id.index as usize];
        conn.phase = Phase::Shaking;
        let mut request = Vec::new();
        self.target.handshake(conn.role, conn.topic, conn.n, &mut request);
        if let Err(why) = self.begin_tls(id) {
            return self.lost(id, why, on);
        }
        self.push(id, &request);
        self.ops.push(Op::Watch(id));
    }

    /// Bytes of the server, whatever they are: of TLS, what was in it.
    fn take(&mut self, id: ConnId, bytes: &mut [u8], on: &mut dyn FnMut(Event<'_>)) {
        let conn = &mut self.conns[id.index as usize];
        if conn.phase != Phase::Shaking {
            conn.received += bytes.len() as u64;
            return self.inspect(id, bytes, on);
        }
        let mut head = self.heads.remove(&id.index).unwrap_or_default();
        head.extend_from_slice(bytes);
        match self.target.accepts(&head) {
            Ok(None) => drop(self.heads.insert(id.index, head)),
            Ok(Some((len, deflate))) => {
                (conn.phase, conn.deflate) = (Phase::Subscribing, deflate);
                conn.received = (head.len() - len) as u64;
                self.subscribe(id, on);
                self.inspect(id, &mut head[len..], on);
            }
            Err(why) => self.lost(id, why, on),
        }
    }

    /// Sends the text that subscribes, if there is one.
    fn subscribe(&mut self, id: ConnId, on: &mut dyn FnMut(Event<'_>)) {
        let conn = &self.conns[id.index as usize];
        let text = (conn.role == Role::Subscriber).then(|| self.target.subscription(conn.topic, conn.n)).flatten();
        if let Some(text) = &text {
            let mut frame = Vec::new();
            frame::client_frame(crate::hub::frame::MessageKind::Text, text.as_bytes(), &mut frame);
            self.push(id, &frame);
        }
        if text.is_none() || !self.target.awaits_subscribed() {
            self.opened(id, on);
        }
    }

    fn opened(&mut self, id: ConnId, on: &mut dyn FnMut(Event<'_>)) {
        let conn = &mut self.conns[id.index as usize];
        conn.phase = Phase::Open;
        // What was sent before belongs to no topic.
        conn.received = 0;
        if conn.attention != Attention::Watch {
            self.ops.push(Op::Unwatch(id));
        }
        on(Event::Open(id));
    }

    /// Takes the frames out of the bytes.
    fn inspect(&mut self, id: ConnId, bytes: &mut [u8], on: &mut dyn FnMut(Event<'_>)) {
        if bytes.is_empty() {
            return;
        }
        let silent = self.is_silent(id);
        let conn = &mut self.conns[id.index as usize];
        let (mut answers, mut subscribed, mut closed) = (Vec::new(), false, None);
        let (target, phase, entered, mut pings, mut control) = (&self.target, conn.phase, self.entered, 0, 0);
        let fed = conn.reader.feed(bytes, conn.deflate, &mut self.tools, &mut |event| match event {
            reader::Event::Message(text) if phase == Phase::Subscribing && !subscribed => {
                subscribed = target.is_subscribed(text);
            }
            reader::Event::Message(_) if silent => {}
            reader::Event::Message(message) => on(Event::Message(id, message, entered)),
            reader::Event::Ping(payload) => {
                pings += 1;
                control += CONTROL_HEADER + payload.len();
                frame::client_control(Control::Pong, payload, &mut answers);
            }
            reader::Event::Pong(payload) => control += CONTROL_HEADER + payload.len(),
            reader::Event::Close(code) => {
                closed = Some(code.map_or("closed without a code".into(), |code| format!("closed with code {code}")));
            }
        });
        self.pings += pings;
        // Others of the topic are pinged at other times, and the bytes of messages are what is compared.
        conn.received = conn.received.saturating_sub(control as u64);
        // Who pings and does not read gets no more pongs than this.
        if !answers.is_empty() && self.outboxes.bytes(id) < MAX_UNSENT_PONGS {
            self.push(id, &answers);
        }
        match (fed, closed) {
            (Err(violation), _) => self.lost(id, format!("the server broke the protocol: {violation}"), on),
            (Ok(()), Some(why)) => self.lost(id, why, on),
            (Ok(()), None) if subscribed => self.opened(id, on),
            (Ok(()), None) => {}
        }
    }
}
