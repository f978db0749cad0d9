//! A ring that is none: it executes a shard's operations as the kernel does, on sockets that are none, and is as late
//! and as moody as the kernel may be. What a shard must never do, it refuses with a panic.

use std::net::{IpAddr, Ipv4Addr};

use uproar::hub::frame::{Frames, Span};
use uproar::limits::{READ_BUFFER_BYTES, READ_BUFFERS};
use uproar::ring::op::{Arrivals, Completion, Op};
use uproar::ring::token::{ConnId, Kind, Token};

use super::net::{POLLERR, POLLIN, Socket};
use super::plan::Faults;
use super::trace::note;
use crate::common::rng::Rng;

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EPIPE: i32 = 32;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ENOTCONN: i32 = 107;
const ECANCELED: i32 = 125;

/// What is in a slot.
struct Tenant {
    socket: usize,
    /// The shard's name for it, once it was used.
    conn: Option<ConnId>,
    watched: bool,
    awaited: bool,
    shutting: bool,
    fin_sent: bool,
}

/// The kernel's side of one shard's ring.
pub struct Kernel {
    shard: u16,
    slots: Vec<Option<Tenant>>,
    /// Where the search for a free slot begins: a slot that was closed is the next to be given out.
    hint: usize,
    /// Seats whose accept is armed.
    seats: Vec<u16>,
    /// Connections that nobody has accepted.
    backlog: Vec<usize>,
    /// What the last enter's sends and receives posted: delivered before anything else may be submitted.
    inline: Vec<Completion>,
    /// Ends of what was cancelled.
    late: Vec<Completion>,
    buffers: Vec<Vec<u8>>,
    /// Buffers whose receive has not been handled.
    lent: Vec<bool>,
    faults: Faults,
}

impl Arrivals for Kernel {
    fn buffer(&mut self, index: u16, len: usize) -> &mut [u8] {
        &mut self.buffers[usize::from(index)][..len]
    }

    fn peer(&self, _: u16) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

fn completion(kind: Kind, conn: ConnId, result: i32, more: bool) -> Completion {
    Completion { token: Token::new(kind, conn), result, more, buffer: 0 }
}

impl Kernel {
    pub fn new(shard: u16, slots: u32, faults: Faults) -> Kernel {
        Kernel {
            shard,
            slots: (0..slots).map(|_| None).collect(),
            hint: 0,
            seats: Vec::new(),
            backlog: Vec::new(),
            inline: Vec::new(),
            late: Vec::new(),
            buffers: vec![Vec::new(); usize::from(READ_BUFFERS)],
            lent: vec![false; usize::from(READ_BUFFERS)],
            faults,
        }
    }

    /// From here on, no more moods.
    pub fn behave(&mut self) {
        self.faults = Faults::NONE;
    }

    pub fn connect(&mut self, socket: usize) {
        self.backlog.push(socket);
    }

    /// Slots in use.
    pub fn tenants(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether a connection's slot is another's by now.
    pub fn is_anothers(&self, conn: ConnId) -> bool {
        let tenant = self.slots[conn.index as usize].as_ref();
        tenant.and_then(|tenant| tenant.conn).is_some_and(|other| other != conn)
    }

    /// Connections that nobody has accepted.
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Closes what nobody will accept any more.
    pub fn refuse_backlog(&mut self, net: &mut [Socket]) {
        self.backlog.drain(..).for_each(|socket| net[socket].close());
    }

    // Submission.

    /// Takes the operations of an enter, in order.
    pub fn submit(&mut self, ops: &mut Vec<Op>, frames: &Frames, net: &mut [Socket], rng: &mut Rng) {
        assert!(self.inline.is_empty(), "an enter's completions are handled before the next enter");
        let mut senders = Vec::new();
        for op in ops.drain(..) {
            note(|| format!("s{} {op:?}", self.shard));
            match op {
                Op::Accept { seat } => {
                    assert!(!self.seats.contains(&seat), "two accepts in seat {seat}");
                    self.seats.push(seat);
                }
                Op::CancelAccept { seat } => self.cancel_accept(seat),
                Op::Watch(conn) => self.watch(conn, net),
                Op::Unwatch(conn) => self.end_poll(Kind::Readable, conn, net, rng),
                Op::AwaitWritable(conn) => {
                    let tenant = self.tenant(conn);
                    assert!(!std::mem::replace(&mut tenant.awaited, true), "{conn:?} is awaited already");
                }
                Op::CancelWritable(conn) => self.end_poll(Kind::Writable, conn, net, rng),
                Op::Receive { conn, buffer } => self.receive(conn, buffer, net),
                Op::Send { conn, span } => {
                    assert!(!senders.contains(&conn.index), "two sends of {conn:?} in one enter");
                    senders.push(conn.index);
                    self.send(conn, span, frames, net, rng);
                }
                Op::Shutdown(conn) => {
                    let tenant = self.tenant(conn);
                    assert!(!tenant.shutting && !tenant.fin_sent, "{conn:?} is shut down twice");
                    (tenant.shutting, tenant.fin_sent) = (true, true);
                }
                Op::Close(conn) => self.close(conn, net),
                Op::Discard { .. } => panic!("a shard reads what it is sent"),
                Op::AttachTls(_) | Op::InstallTls { .. } => panic!("nothing here is TLS"),
                Op::SendSealed { .. } | Op::SendRecord { .. } | Op::ReceiveRecord { .. } => {
                    panic!("nothing here is TLS")
                }
            }
        }
    }

    /// Who is in the slot, which must be the one that the shard means.
    fn tenant(&mut self, conn: ConnId) -> &mut Tenant {
        let tenant = self.slots[conn.index as usize].as_mut().expect("the slot is in use");
        assert_eq!(*tenant.conn.get_or_insert(conn), conn, "an operation on a former tenant");
        tenant
    }

    fn cancel_accept(&mut self, seat: u16) {
        match self.seats.iter().position(|armed| *armed == seat) {
            Some(at) => {
                self.seats.remove(at);
                self.late.push(completion(Kind::Accept, Token::seat(seat), -ECANCELED, false));
            }
            None => self.inline.push(completion(Kind::Cancel, Token::seat(seat), -ENOENT, false)),
        }
    }

    fn watch(&mut self, conn: ConnId, net: &mut [Socket]) {
        let tenant = self.tenant(conn);
        assert!(!std::mem::replace(&mut tenant.watched, true), "{conn:?} is watched already");
        let socket = &mut net[tenant.socket];
        socket.edge = socket.poll_mask() != 0;
    }

    /// Ends a poll. An event that was under way comes first, under the name of the one who was polled.
    fn end_poll(&mut self, kind: Kind, conn: ConnId, net: &mut [Socket], rng: &mut Rng) {
        let tenant = self.tenant(conn);
        let socket = &net[tenant.socket];
        let (armed, mask) = match kind {
            Kind::Readable => (std::mem::take(&mut tenant.watched), socket.poll_mask() * i32::from(socket.edge)),
            _ => (std::mem::take(&mut tenant.awaited), 0),
        };
        if !armed {
            return self.inline.push(completion(Kind::Cancel, conn, -ENOENT, false));
        }
        if mask != 0 && rng.percent(50) {
            self.late.push(completion(kind, conn, mask, true));
        }
        self.late.push(completion(kind, conn, -ECANCELED, false));
    }

    fn receive(&mut self, conn: ConnId, buffer: u16, net: &mut [Socket]) {
        let socket = self.tenant(conn).socket;
        let socket = &mut net[socket];
        let n = socket.up.len().min(READ_BUFFER_BYTES);
        let result = if n > 0 {
            n as i32
        } else if socket.client_reset && !std::mem::replace(&mut socket.told, true) {
            -ECONNRESET
        } else if socket.client_reset || socket.client_fin {
            0
        } else {
            -EAGAIN
        };
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!std::mem::replace(lent, true), "a read buffer is used twice");
        self.buffers[usize::from(buffer)] = socket.up.drain(..n).collect();
        self.inline.push(Completion { buffer, ..completion(Kind::Receive, conn, result, false) });
    }

    fn send(&mut self, conn: ConnId, span: Span, frames: &Frames, net: &mut [Socket], rng: &mut Rng) {
        let short = rng.permille(self.faults.short_sends);
        let tenant = self.tenant(conn);
        assert!(!tenant.fin_sent, "{conn:?} is sent to after its FIN");
        assert!(!tenant.awaited, "{conn:?} is sent to while it takes nothing");
        let socket = &mut net[tenant.socket];
        let bytes = frames.bytes(span);
        assert!(!bytes.is_empty(), "nothing is sent to {conn:?}");
        let room = if short { rng.below(socket.room().min(bytes.len()) + 1) } else { socket.room() };
        let result = if socket.client_reset {
            socket.told = true;
            rng.pick(&[-EPIPE, -ECONNRESET])
        } else {
            let taken = bytes.len().min(room);
            socket.down.extend(&bytes[..taken]);
            if taken == bytes.len() {
                return;
            }
            socket.tight = true;
            if taken == 0 { -EAGAIN } else { taken as i32 }
        };
        self.inline.push(completion(Kind::Send, conn, result, false));
    }

    fn close(&mut self, conn: ConnId, net: &mut [Socket]) {
        let tenant = self.tenant(conn);
        assert!(!tenant.watched && !tenant.awaited, "{conn:?} is closed while a poll holds it open");
        assert!(!tenant.shutting, "{conn:?} is closed while a shutdown is under way");
        net[tenant.socket].close();
        self.slots[conn.index as usize] = None;
        self.hint = conn.index as usize;
    }

    // Completion.

    /// What an enter delivers: what its operations posted, and some of what has happened meanwhile.
    pub fn collect(&mut self, net: &mut [Socket], rng: &mut Rng) -> Vec<Completion> {
        let mut deferred = Vec::new();
        self.accept(net, rng, &mut deferred);
        for index in 0..self.slots.len() {
            self.happen(index, net, rng, &mut deferred);
        }
        let pace = self.faults.pace;
        self.late.retain(|&late| {
            let held = !rng.percent(pace);
            if !held {
                deferred.push(late);
            }
            held
        });
        let inline = std::mem::take(&mut self.inline);
        inline.iter().filter(|done| done.token.kind == Kind::Receive).for_each(|done| {
            self.lent[usize::from(done.buffer)] = false;
        });
        let all = merge(inline, deferred, rng);
        all.iter().for_each(|done| note(|| format!("s{} {done:?}", self.shard)));
        all
    }

    fn accept(&mut self, net: &mut [Socket], rng: &mut Rng, out: &mut Vec<Completion>) {
        while !self.seats.is_empty() && !self.backlog.is_empty() && rng.percent(self.faults.pace) {
            let seat = self.seats.swap_remove(rng.below(self.seats.len()));
            let socket = self.backlog.remove(0);
            let free = (self.hint..self.slots.len()).chain(0..self.hint).find(|&slot| self.slots[slot].is_none());
            let failed =
                rng.permille(2 * self.faults.errors).then(|| rng.pick(&[EMFILE, ENOMEM, ECONNABORTED, ENFILE]));
            let (Some(slot), None) = (free, failed) else {
                // The connection is lost with the error.
                net[socket].close();
                net[socket].faulted = true;
                return out.push(completion(Kind::Accept, Token::seat(seat), -failed.unwrap_or(ENFILE), false));
            };
            self.slots[slot] =
                Some(Tenant { socket, conn: None, watched: false, awaited: false, shutting: false, fin_sent: false });
            self.hint = slot + 1;
            out.push(completion(Kind::Accept, Token::seat(seat), slot as i32, false));
        }
    }

    /// What happens to one slot.
    fn happen(&mut self, index: usize, net: &mut [Socket], rng: &mut Rng, out: &mut Vec<Completion>) {
        let faults = self.faults;
        let Some(tenant) = &mut self.slots[index] else { return };
        let Some(conn) = tenant.conn else { return };
        let socket = &mut net[tenant.socket];
        if tenant.shutting && rng.percent(faults.shutdowns) {
            tenant.shutting = false;
            socket.server_fin = true;
            let result = if socket.client_reset { -ENOTCONN } else { 0 };
            out.push(completion(Kind::Shutdown, conn, result, false));
        }
        let spurious = rng.permille(faults.spurious);
        if tenant.watched && (socket.edge && rng.percent(faults.pace) || spurious) {
            // An event whose bytes were read meanwhile still comes.
            let mask = socket.poll_mask().max(POLLIN);
            socket.edge = false;
            tenant.watched = !rng.permille(faults.ends);
            out.push(completion(Kind::Readable, conn, mask, tenant.watched));
        }
        if tenant.watched && rng.permille(faults.errors / 3) {
            (socket.faulted, tenant.watched) = (true, false);
            out.push(completion(Kind::Readable, conn, rng.pick(&[-ENOMEM, -ECANCELED]), false));
        }
        if tenant.awaited && (socket.is_writable() && rng.percent(faults.pace) || rng.permille(faults.spurious)) {
            tenant.awaited = false;
            out.push(completion(Kind::Writable, conn, if socket.client_reset { POLLERR } else { 4 }, false));
        }
    }
}

/// One sequence of two, each in its order.
fn merge(a: Vec<Completion>, b: Vec<Completion>, rng: &mut Rng) -> Vec<Completion> {
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    let a_first = rng.pick(&[0, 50, 100]);
    std::iter::from_fn(|| {
        let from_a = b.peek().is_none() || a.peek().is_some() && rng.percent(a_first);
        if from_a { a.next() } else { b.next() }
    })
    .collect()
}
