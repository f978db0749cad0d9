//! One core's state: connections, topic tables, timers, and the turn that drives them.
//!
//! A shard never talks to the kernel. It is told of completions, is given the time, and leaves what it wants in
//! [`Core::ops`]; the [`worker`] hands that to the ring. So the whole of it runs in a test, on a seeded clock, with
//! faults, as `tests/simulation.rs` does.

/// Logs what happens to a connection: which it is, of which shard, and where it comes from. There is no other way for a shard to
/// log: messages are constant, and what is the client's is in fields.
macro_rules! log_conn {
    ($core:expr, $id:expr, $($what:tt)+) => {
        tracing::debug!(
            shard = $core.id,
            conn = format_args!("{:#x}", $core.public_id($id)),
            peer = %$core.peer($id),
            $($what)+
        )
    };
}

pub mod accept;
mod address;
mod admit;
mod ask;
mod backend;
mod clients;
mod command;
mod completion;
pub mod configure;
mod drain;
mod events;
mod flush;
pub mod handle;
mod handover;
mod heartbeat;
mod hook;
mod hook_message;
mod hook_request;
pub mod identity;
mod inbound;
mod incomplete;
mod introduce;
mod kernel_tls;
mod lifecycle;
mod limit;
pub mod mail;
pub mod mailbox;
mod measure;
mod membership;
mod newcomer;
mod pass;
mod peak;
mod posted;
pub mod probe;
mod publish;
mod recover;
mod room;
mod secure;
pub mod settings;
pub mod shared;
mod shed;
mod stop;
mod subscribe;
pub mod survey;
mod turn;
mod upgrade;
mod window;
pub mod worker;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::auth::{Gate, Hook};
use crate::conn::meter::Meters;
use crate::conn::peer::{Peer, Peers};
use crate::conn::table::Table;
use crate::conn::{Conn, HandlerSession, Phase, Session};
use crate::counters::{Counters, Part};
use crate::dialect::Position;
use crate::error::CloseReason;
use crate::handler::Routes;
use crate::hub::Hub;
use crate::hub::frame::{Frames, Span};
use crate::hub::log::Log;
use crate::hub::presence::Room;
use crate::limits::{MAX_REMEMBERED_TOPICS, READ_BUFFERS, SPARE_SLOTS};
use crate::ring::ktls::KernelTls;
use crate::ring::op::Op;
use crate::ring::sys;
use crate::ring::token::ConnId;
use crate::time::{Moment, Tick, Wheel};
use crate::tls::Handshakes;

use accept::{Door, Seats};
use admit::Admissions;
use configure::Update;
use handover::Backend;
use inbound::Codec;
use introduce::Introductions;
use mail::Origin;
use mailbox::{Mailbox, Postbox};
use peak::Peak;
use publish::Encoder;
pub(crate) use publish::Publication;
use secure::SecureTable;
use settings::Settings;
use shared::Shared;
use stop::Life;
use survey::Watch;
use window::Window;

/// No index of a topic: of a `json` connection that is in no room, and of one that has not joined its topic yet.
const NO_TOPIC: u32 = u32::MAX;

/// Of a message that is ordered, but in no topic.
const NOWHERE: Position = Position { epoch: 0, offset: 0 };

/// What a handler is told once the shard's own state is in order again.
pub(crate) enum Notice {
    /// A connection that was blocked takes bytes again.
    Drained(ConnId),
    /// A handler's connection has joined or left a topic.
    Subscription { id: ConnId, topic: Box<str>, subscribers: usize },
    /// A `json` client's connection has ended.
    Parted { client: u64 },
    /// A handler's connection has ended.
    Closed { id: ConnId, session: Box<HandlerSession>, code: u16, reason: CloseReason },
}

/// Everything of a shard but its handlers and its decoder, which work on it.
pub struct Core {
    /// What the shard wants of the kernel.
    pub ops: Vec<Op>,
    /// The frames that [`Op::Send`] refers to.
    pub frames: Frames,
    conns: Table<Conn>,
    hub: Hub,
    wheel: Wheel,
    /// When to look whether tokens of topics are over, by connection.
    pass_ends: Wheel,
    now: Tick,
    /// When the turn began; not known where nothing is measured, in tests.
    begun: Moment,
    /// Milliseconds since 1970.
    unix_ms: u64,
    /// Connections that have something to read.
    readable: VecDeque<ConnId>,
    /// What was read and is still to be decoded, because a turn had inflated and compressed as much as it may.
    undecoded: VecDeque<(ConnId, Vec<u8>)>,
    /// Bytes of incomplete messages that connections keep.
    partial_bytes: usize,
    /// When an incomplete message has taken too long, by the slot of its connection.
    overdue: Wheel,
    /// Bytes inflated in this turn.
    inflated_bytes: usize,
    /// The most that was held since memory was last given back.
    peak: Peak,
    /// Read buffers that no receive is using.
    buffers: Vec<u16>,
    /// Connections that have something to be sent.
    dirty: Vec<u32>,
    /// The sends of the enter under way.
    sent: Vec<flush::Sent>,
    /// The next enter must not wait: something follows from a send of this turn.
    attention: bool,
    /// Some connection has much to be sent and takes it: nothing is read until it has caught up.
    behind: bool,
    /// A fan-out goes on in the next turn.
    fanning_out: bool,
    /// The chunk that small spans are gathered in, this turn.
    stage: Option<u32>,
    /// Frames that are addressed to one connection.
    replies: Log,
    /// Connections that are not read from while the shard is congested.
    paused: Vec<ConnId>,
    scratch: Scratch,
    notices: Vec<Notice>,
    encoder: Encoder,
    /// The rooms that are at home here, by name.
    rooms: HashMap<Box<str>, Room>,
    /// Rooms whose notices are put together, and when they are told.
    crowded: VecDeque<(Tick, Box<str>)>,
    /// Clients whose name leads here and whose connection is another one, by name.
    claims: HashMap<u64, Origin>,
    /// The backends of all shards whose connections are open.
    backends: Vec<Backend>,
    /// What backends of this shard are sent, by the index of their connection: so nobody else's messages lie between.
    backend_logs: HashMap<u32, Log>,
    /// The backends of the rooms that are at home here, by name; maybe ones that have gone since.
    served: HashMap<Box<str>, Origin>,
    introductions: Introductions,
    /// Whether an embedder's backend is to know which clients have gone.
    has_backend: bool,
    window: Window,
    /// How fast each connection sends.
    meters: Meters,
    /// Where each connection comes from.
    peers: Peers,
    watch: Watch,
    seats: Seats,
    /// The TLS of connections that have it.
    secure: SecureTable,
    /// What each connection was granted.
    admissions: Admissions,
    /// Who does for them what would take a shard too long.
    aides: Aides,
    mailbox: Mailbox,
    postboxes: Vec<Postbox>,
    id: u16,
    settings: Settings,
    /// What it works with from the next turn on.
    update: Option<Box<Update>>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    life: Life,
    /// When to ask for connections again, after there was no descriptor for one.
    accept_again: Option<Tick>,
    /// Connections that the table takes before they are told 503.
    capacity: usize,
    seed: u64,
}

/// One shard.
pub struct Shard {
    /// The state that handlers and the worker share.
    pub core: Core,
    routes: Routes,
    codec: Codec,
}

/// Threads that do for shards what would take these too long, and the kernel, where it does.
#[derive(Clone, Default, Debug)]
pub struct Aides {
    /// Where there is a TLS listener: handshakes.
    pub handshakes: Option<Handshakes>,
    /// Where clients need tokens: whether they are good.
    pub gate: Option<Gate>,
    /// Where there is a TLS listener, and the kernel has it: sealing and opening what is sent over TLS.
    pub kernel_tls: Option<KernelTls>,
    /// Where the application decides what clients may do: asks it.
    pub hook: Option<Hook>,
}

/// What a shard is made of.
pub struct Parts {
    /// Its index among the shards.
    pub id: u16,
    /// The listeners of its ring.
    pub doors: Vec<Door>,
    /// What does for it what would take it too long.
    pub aides: Aides,
    /// Slots of its connection table.
    pub slots: u32,
    /// The configuration.
    pub settings: Settings,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// Everyone's postboxes, its own too.
    pub postboxes: Vec<Postbox>,
    /// An embedder's handlers.
    pub routes: Routes,
    /// Seed of what is random: lifetimes' jitter.
    pub seed: u64,
}

/// Space that is used again and again, and empty between two uses.
#[derive(Default)]
struct Scratch {
    deliveries: Vec<(u32, Span)>,
    /// Slots whose deadline is over.
    expired: Vec<u32>,
    /// A message in its envelope.
    envelope: Vec<u8>,
    /// Blocks of an event stream.
    block: Vec<u8>,
    /// Shards that were posted mail in this turn.
    posted: Vec<u16>,
}

impl Shard {
    /// A shard without connections that wants to accept.
    pub fn new(parts: Parts) -> Shard {
        let (mut core, routes) = Core::new(parts);
        core.start_accepting();
        Shard { core, routes, codec: Codec::new() }
    }
}

/// A hub that remembers as much as it may.
fn hub(parts: &Parts) -> Hub {
    let mut hub = Hub::new(parts.slots, parts.seed);
    hub.set_history_bound(parts.settings.history_bytes);
    hub.set_memory(MAX_REMEMBERED_TOPICS, parts.settings.topic_memory);
    hub
}

impl Core {
    fn new(parts: Parts) -> (Core, Routes) {
        let core = Core {
            ops: Vec::new(),
            frames: Frames::new(),
            conns: Table::with_capacity(parts.slots),
            hub: hub(&parts),
            wheel: Wheel::new(parts.slots),
            pass_ends: Wheel::new(0),
            now: Tick(0),
            begun: Moment::UNKNOWN,
            unix_ms: 0,
            readable: VecDeque::new(),
            undecoded: VecDeque::new(),
            partial_bytes: 0,
            overdue: Wheel::new(parts.slots),
            inflated_bytes: 0,
            peak: Peak::default(),
            buffers: (0..READ_BUFFERS).collect(),
            dirty: Vec::new(),
            sent: Vec::new(),
            attention: false,
            behind: false,
            fanning_out: false,
            stage: None,
            replies: Log::default(),
            paused: Vec::new(),
            scratch: Scratch::default(),
            notices: Vec::new(),
            encoder: Encoder::new(parts.settings.deflate_min),
            rooms: HashMap::new(),
            crowded: VecDeque::new(),
            claims: HashMap::new(),
            backends: Vec::new(),
            backend_logs: HashMap::new(),
            served: HashMap::new(),
            introductions: Introductions::default(),
            has_backend: parts.routes.has_backend(),
            window: Window::new(parts.settings.ack_window),
            meters: Meters::new(parts.settings.message_rate, parts.settings.byte_rate),
            peers: Peers::default(),
            watch: Watch::new(parts.slots),
            seats: Seats::new(parts.doors),
            secure: SecureTable::default(),
            admissions: Admissions::default(),
            aides: parts.aides,
            mailbox: parts.mailbox,
            postboxes: parts.postboxes,
            id: parts.id,
            settings: parts.settings,
            update: None,
            counters: parts.shared.counters(parts.id).clone(),
            shared: parts.shared,
            life: Life::Serving,
            accept_again: None,
            capacity: parts.slots.saturating_sub(SPARE_SLOTS).max(1) as usize,
            seed: parts.seed,
        };
        (core, parts.routes)
    }

    /// A number that no one outside can guess cheaply enough to matter (SplitMix64).
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Gives back memory that is kept for later.
    fn trim(&mut self) {
        self.frames.drop_pool();
        sys::give_back_memory();
    }

    /// The counters of this shard.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id)
    }

    /// What has happened since the last call; `None` if nothing has.
    pub(crate) fn take_notices(&mut self) -> Option<Vec<Notice>> {
        (!self.notices.is_empty()).then(|| std::mem::take(&mut self.notices))
    }

    /// The messages dropped that a client has not been told of, once what it reads so slowly is within the bound:
    /// to tell it earlier would add to that.
    pub(crate) fn take_dropped(&mut self, id: ConnId) -> Option<u32> {
        let conn = self.conns.get_mut(id).filter(|conn| conn.outbox.len_bytes() <= self.settings.backlog)?;
        conn.session.dropped().filter(|count| **count > 0).map(std::mem::take)
    }

    /// Bytes that a connection has still to be sent.
    pub(crate) fn backlog(&self, id: ConnId) -> u32 {
        self.conns.get(id).map_or(0, |conn| conn.outbox.len_bytes())
    }

    /// Where a connection comes from.
    pub(crate) fn peer(&self, id: ConnId) -> Peer {
        self.peers.get(id.index)
    }

    /// A number for a connection that tells it from those of other shards.
    pub(crate) fn public_id(&self, id: ConnId) -> u64 {
        Origin { shard: self.id, conn: id }.number()
    }

    /// Connections, for tests.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Names of clients that are known to be elsewhere, for tests.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Panics unless the tables agree with each other. For tests, after a turn.
    pub fn invariants(&self) {
        self.frames.invariants();
        self.hub.invariants(&self.frames);
        self.conns.invariants();
        let ids = std::iter::successors(self.conns.next_occupied(0), |&index| self.conns.next_occupied(index + 1));
        let (mut websockets, mut event_streams, mut backlogged, mut secured, mut lagging) = (0, 0, 0, 0, 0);
        let (mut queued, mut incomplete) = (self.secure.wire_bytes(), 0);
        for (id, conn) in ids.filter_map(|index| self.conns.id(index)).filter_map(|id| Some((id, self.conns.get(id)?)))
        {
            conn.outbox.invariants(&self.frames);
            queued += u64::from(conn.outbox.len_bytes());
            incomplete += self.held_bytes(id);
            let flags = conn.flags;
            assert_eq!(flags.dirty(), self.dirty.contains(&id.index));
            assert_eq!(flags.readable(), self.readable.contains(&id));
            assert_eq!(flags.undecoded(), self.undecoded.iter().any(|(undecoded, _)| *undecoded == id));
            assert_eq!(flags.paused(), self.paused.contains(&id));
            assert_eq!(flags.lagging(), self.watch.lagging.contains_key(&id.index));
            assert!(!flags.blocked() || flags.lagging());
            lagging += usize::from(flags.lagging());
            let goes_on = flags.sending() || flags.blocked() || flags.dirty() || conn.held > 0;
            let is_flushed = conn.outbox.is_empty() && !self.secure.has_wire(id.index);
            assert!(is_flushed || goes_on || flags.shaking(), "nothing makes {id:?} send the rest");
            assert!(conn.phase != Phase::Lingering || is_flushed);
            secured += usize::from(flags.tls());
            if let Session::Json { room, more } = &conn.session {
                let rooms =
                    more.iter().flat_map(|more| &more.rooms).chain(Some(room).filter(|room| **room != NO_TOPIC));
                for &room in rooms {
                    assert!(
                        self.hub.is_subscribed(id.index, room) || self.awaits(id, room),
                        "a room that is not joined"
                    );
                }
            }
            websockets += u64::from(conn.session.is_websocket());
            event_streams += u64::from(conn.class.is_events());
            assert_eq!(conn.class.is_events(), matches!(conn.session, Session::Events(_)));
            backlogged += u64::from(flags.blocked());
        }
        assert!(self.served.keys().all(|room| self.rooms.contains_key(room)), "a room that is not has a backend");
        for backend in self.backends.iter().filter(|backend| backend.at.shard == self.id) {
            assert!(self.conns.get(backend.at.conn).is_some_and(|conn| conn.is_open() && conn.is_backend()));
        }
        self.grant_invariants();
        assert_eq!(self.watch.lagging.len(), lagging);
        assert_eq!((self.secure.len(), self.counters.tls_connections.get()), (secured, secured as u64));
        assert_eq!(self.frames.queued_bytes(), queued);
        assert_eq!(self.counters.memory(Part::PartialMessages), self.partial_bytes as u64);
        assert_eq!(self.partial_bytes, incomplete);
        assert_eq!(self.counters.tls_kernel_connections.get(), self.secure.by_kernel.len() as u64);
        assert_eq!(self.counters.connections.get(), self.conns.len() as u64);
        assert_eq!(self.counters.websockets.get(), websockets);
        assert_eq!(self.counters.event_streams.get(), event_streams);
        assert_eq!(self.counters.backlogged.get(), backlogged);
    }

    fn grant_invariants(&self) {
        let has_request = |conn: &Conn| match &conn.session {
            Session::Head(None) => conn.flags.undecoded(),
            Session::Head(Some(unparsed)) => conn.flags.undecoded() || unparsed.wanted > 0,
            _ => true,
        };
        let needs_grant = |conn: &Conn| conn.phase != Phase::Head || has_request(conn);
        let granted = self.admissions.slots().map(|index| self.conns.id(index).and_then(|id| self.conns.get(id)));
        granted.for_each(|conn| assert!(conn.is_some_and(needs_grant), "a grant is a connection's, or a request's"));
    }
}
