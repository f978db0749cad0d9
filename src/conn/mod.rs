//! A connection of a shard: its slot, its outbox, its table.

pub mod meter;
pub mod outbox;
pub mod peer;
pub mod proxy;
pub mod table;
pub mod traffic;

use std::any::Any;
use std::rc::Rc;

use crate::dialect::sse::Cursors;
use crate::error::CloseReason;
use crate::hub::frame::Class;
use crate::time::Tick;
use crate::ws::message::Partial;
use outbox::Outbox;

/// Where a connection is in its life. Each phase has one deadline of its own in the timing wheel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// HTTP: waiting for a head, or for the next one.
    Head,
    /// WebSocket, open.
    Open,
    /// WebSocket: our close frame is on its way, the peer's has not come. What it sends is decoded, not acted upon.
    Closing,
    /// Nothing more is acted upon; when the outbox is empty, the connection ends.
    Flushing,
    /// FIN is sent; what the peer still sends is read and thrown away, so that it does not reset our last words.
    Lingering,
}

/// What the connection's client speaks, with the state that takes.
#[derive(Debug)]
pub enum Session {
    /// HTTP so far, with what has come of an incomplete request.
    Head(Option<Box<Unparsed>>),
    /// HTTP: a request waits until its token is checked, or the application has said something; with what came behind it.
    Asked(Box<Unparsed>),
    /// HTTP: a message was posted, and is to be answered when it is ordered.
    Posted {
        /// Whether another request may follow.
        keep_alive: bool,
    },
    /// The `raw` dialect: the topic, and whether the client gets its own messages.
    Raw {
        /// Local topic index.
        topic: u32,
        /// `?self=false` is `false`.
        own: bool,
    },
    /// The `json` dialect.
    Json {
        /// Local topic index of its room, to which it is subscribed or waits to be; none of a topic if it is in no room.
        room: u32,
        /// What most of them never need.
        more: Option<Box<JsonMore>>,
    },
    /// A stream of Server-Sent Events.
    Events(Box<EventStream>),
    /// A backend.
    Backend {
        /// Whether it is told who comes and goes.
        presence: bool,
    },
    /// An embedder's handler.
    Handler(Box<HandlerSession>),
    /// An embedder's handler, which has its session while it is called.
    Called,
}

impl Session {
    /// Whether it is a WebSocket's.
    pub fn is_websocket(&self) -> bool {
        !matches!(self, Session::Head(_) | Session::Asked(_) | Session::Posted { .. } | Session::Events(_))
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Session::Head(_) | Session::Asked(_) | Session::Posted { .. } => "http",
            Session::Raw { .. } => "raw",
            Session::Json { .. } => "json",
            Session::Events(_) => "events",
            Session::Backend { .. } => "backend",
            Session::Handler(_) | Session::Called => "handler",
        }
    }

    /// The topics that it waits for the past of, in the order in which it asked.
    pub fn awaited(&self) -> &[Awaited] {
        match self {
            Session::Json { more: Some(more), .. } => &more.awaited,
            Session::Events(stream) => &stream.awaited,
            _ => &[],
        }
    }

    /// The same, to be changed; `None` where nothing is awaited, or there is no [room](Session::make_room) for it.
    pub fn awaited_mut(&mut self) -> Option<&mut Vec<Awaited>> {
        match self {
            Session::Json { more, .. } => Some(&mut more.as_mut()?.awaited),
            Session::Events(stream) => Some(&mut stream.awaited),
            _ => None,
        }
    }

    /// The messages that were dropped and that it has not been told of, where clients are told and there is room for it.
    pub fn dropped(&mut self) -> Option<&mut u32> {
        match self {
            Session::Json { more, .. } => Some(&mut more.as_mut()?.dropped),
            Session::Events(stream) => Some(&mut stream.dropped),
            _ => None,
        }
    }

    /// Sees to it that there is room to note what is awaited or was dropped.
    pub fn make_room(&mut self) {
        if let Session::Json { more, .. } = self {
            more.get_or_insert_default();
        }
    }
}

/// A topic whose past a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awaited {
    /// Local topic index; the topic is pinned.
    pub topic: u32,
    /// What is to be done when it comes.
    pub then: Then,
}

/// What is to be done when a topic's past has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Tell the client that it is subscribed.
    Tell,
    /// Let go of the connection, which was held: it expects to be subscribed.
    Release,
    /// Let go of the connection, and nothing else: it was given up.
    OnlyRelease,
    /// Nothing: it was given up.
    Nothing,
}

/// A request that is not there in whole.
#[derive(Default, Debug)]
pub struct Unparsed {
    /// What has come of it.
    pub bytes: Vec<u8>,
    /// Bytes of the whole request, once its head is there and has announced a body; 0 before.
    pub wanted: usize,
    /// When it was kept first.
    pub since: Option<Tick>,
}

impl Unparsed {
    /// Whether the bytes that have come since `len` were there may have made a difference. A head can only end, and only be
    /// wrong for good, at the end of a line: one that drips in byte by byte is not parsed for each of them.
    pub fn is_worth_parsing(&self, len: usize, max_head: usize) -> bool {
        match self.wanted {
            0 => self.bytes.len() >= max_head || self.bytes.iter().skip(len).any(|&byte| byte == b'\n'),
            wanted => self.bytes.len() >= wanted,
        }
    }

    /// Bytes that are kept beyond what a head may have.
    pub fn body_bytes(&self) -> usize {
        if self.wanted > 0 { self.bytes.len() } else { 0 }
    }
}

/// A stream of Server-Sent Events.
#[derive(Default, Debug)]
pub struct EventStream {
    /// Where it is, up to the last event that it was sent for itself; of a stream of several topics, up to the last one.
    /// Streams that are at the same places share it.
    pub cursors: Rc<Cursors>,
    /// Topics whose past it waits for.
    pub awaited: Vec<Awaited>,
    /// Messages that were dropped and that it has not been told of.
    pub dropped: u32,
    /// When its socket took something last.
    pub sent: Tick,
}

/// What few `json` connections have.
#[derive(Default, Debug)]
pub struct JsonMore {
    /// Messages that were dropped and that it has not been told of.
    pub dropped: u32,
    /// Bad messages in a row.
    pub errors: u32,
    /// The name that it had on an earlier connection.
    pub claimed: Option<u64>,
    /// Topics whose past it waits for.
    pub awaited: Vec<Awaited>,
    /// Local indices of the rooms that it is in besides its own, the longest first. It is subscribed to them, or waits for
    /// their past.
    pub rooms: Vec<u32>,
    /// The user that it is a connection of; it is subscribed to the user's topic.
    pub user: Option<Box<str>>,
}

/// A connection's state for an embedder.
#[derive(Debug)]
pub struct HandlerSession {
    /// Index of the route, and so of the handler.
    pub route: u16,
    /// The embedder's own.
    pub user: Option<Box<dyn Any>>,
}

/// Small facts about a connection, independent of each other and of its phase.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(u32);

macro_rules! flags {
    ($($bit:literal $get:ident $set:ident $help:literal,)*) => {
        impl Flags {
            $(
                #[doc = $help]
                #[inline]
                pub fn $get(self) -> bool {
                    self.0 & (1 << $bit) != 0
                }

                #[doc = concat!("Sets or clears: ", $help)]
                #[inline]
                pub fn $set(&mut self, on: bool) {
                    self.0 = self.0 & !(1 << $bit) | u32::from(on) << $bit;
                }
            )*
        }
    };
}

flags! {
    0 readable set_readable "It waits in the queue of connections to read from.",
    1 dirty set_dirty "It is on the list of connections to send to.",
    2 blocked set_blocked "Its socket takes nothing; a poll for writability is armed.",
    3 sending set_sending "A send of this turn has not been accounted for.",
    4 hung_up set_hung_up "The poll said that the peer has sent its last byte.",
    5 paused set_paused "It is not read from until congestion is over.",
    6 heard set_heard "Something came from the peer since the last ping.",
    7 pinged set_pinged "A ping is out.",
    8 linger set_linger "When flushed, FIN first and read to the end: the peer may still be sending.",
    9 keep_alive set_keep_alive "When the response is sent, the connection waits for another request.",
    10 subscriber set_subscriber "It is, or has been, in the hub.",
    11 undecoded set_undecoded "Bytes that were read from it wait to be decoded; it is not read from meanwhile.",
    12 throttled set_throttled "It is not read from until it reads what it was sent.",
    13 shutting set_shutting "A shutdown is under way on a kernel worker: the slot must not be closed.",
    14 doomed set_doomed "To be terminated when the shutdown is done.",
    15 mortal set_mortal "Its lifetime is bounded.",
    16 looked_at set_looked_at "Its ping is overdue, and it is being read from once more before it is given up.",
    18 tls set_tls "It is a TLS connection.",
    19 shaking set_shaking "A step of its TLS handshake is under way on another thread, or its keys on their way to the kernel; it is not read from meanwhile.",
    21 counted set_counted "It is counted with the address that it comes from.",
    22 proxied set_proxied "It comes from a trusted proxy, and its requests say who is behind that.",
    23 headless set_headless "Its PROXY header has not come.",
    20 asking set_asking "Its token is being checked, or the application asked about it; it is not read from meanwhile.",
    24 lagging set_lagging "It is in the table of those for whom something waits, with when that began.",
    25 kernel_tls set_kernel_tls "The kernel seals what is sent, and opens what comes.",
    17 stamped set_stamped "An event stream of several topics: each of its messages says where it is in all of them.",
}

impl Flags {
    /// Whether it has its TLS from a session of the shard's, which what it sends and is sent goes through.
    #[inline]
    pub fn in_session(self) -> bool {
        self.tls() && !self.kernel_tls()
    }

    /// Whether it is not to be read from for now; whoever clears one of these asks to read.
    #[inline]
    pub fn is_not_read(self) -> bool {
        self.paused() || self.throttled() || self.undecoded() || self.shaking() || self.asking()
    }
}

/// One connection. Its index, generation and deadline are kept by the table and the timing wheel.
pub struct Conn {
    /// What it still has to be sent.
    pub outbox: Outbox,
    /// A message that has come in part.
    pub partial: Partial,
    /// What its client speaks.
    pub session: Session,
    /// When its lifetime is over, if it is bounded.
    pub expires: Tick,
    /// Where it is in its life.
    pub phase: Phase,
    /// How it wants messages encoded.
    pub class: Class,
    /// See [`Flags`].
    pub flags: Flags,
    /// Topics whose home shard has not yet confirmed: until then nothing is sent, so that a client that was told it is
    /// subscribed misses nothing that is published afterwards.
    pub held: u16,
    /// The close code that the peer sent or was sent.
    pub code: u16,
    /// Why it ends, once it does.
    pub reason: CloseReason,
}

/// What the memory budget of an idle connection allows for the slot.
const _: () = assert!(size_of::<Conn>() <= 64);

impl Conn {
    /// A connection that was just accepted.
    pub fn new() -> Conn {
        Conn {
            outbox: Outbox::default(),
            partial: Partial::default(),
            session: Session::Head(None),
            expires: Tick::default(),
            phase: Phase::Head,
            class: Class::PLAIN,
            flags: Flags::default(),
            held: 0,
            code: 1006,
            reason: CloseReason::Lost,
        }
    }

    /// Whether its client has not been told of all messages that were dropped.
    pub fn has_untold_drops(&self) -> bool {
        match &self.session {
            Session::Json { more: Some(more), .. } => more.dropped > 0,
            Session::Events(stream) => stream.dropped > 0,
            _ => false,
        }
    }

    /// Whether it is a backend's.
    #[inline]
    pub fn is_backend(&self) -> bool {
        matches!(self.session, Session::Backend { .. })
    }

    /// Whether frames may still be put into its outbox.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }
}

impl Default for Conn {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_independent() {
        let mut flags = Flags::default();
        flags.set_dirty(true);
        flags.set_linger(true);
        assert!(flags.dirty() && flags.linger() && !flags.blocked() && !flags.readable());
        flags.set_dirty(false);
        assert!(!flags.dirty() && flags.linger());
    }
}
