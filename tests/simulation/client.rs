//! A client: does as its persona does, and checks every byte that it gets.

use std::collections::{BTreeMap, VecDeque};

use flate2::{Decompress, FlushDecompress};
use serde_json::{Value, json};

use uproar::time::Tick;

use super::drain::Drain;
use super::net::Socket;
use super::oracle::{Form, Message, Oracle, View};
use super::plan::Plan;
use super::script::{Persona, violation};
use super::tally::Tally;
use super::trace::note;
use super::wire::{self, ACCEPT, BINARY, CLOSE, Frame, PING, PONG, Reader, Response, TEXT};
use crate::common::rng::Rng;

mod away;
mod backend;
mod follow;
mod guest;
mod receive;
mod send;
mod speak;
mod stream;

pub use away::Away;
pub use backend::Desk;
pub use follow::Trails;
pub use guest::Guest;
pub use send::Letters;
pub use stream::{Place, Stream};

/// What a client acts on.
pub struct Scene<'a> {
    pub net: &'a mut [Socket],
    pub rng: &'a mut Rng,
    pub oracle: &'a mut Oracle,
    pub plan: &'a Plan,
    pub tally: &'a mut Tally,
    pub now: Tick,
    /// Of the first server.
    pub drain: Option<&'a mut Drain>,
    /// Clients do things, not only what they have begun.
    pub active: bool,
    /// They may publish.
    pub publishing: bool,
    /// A shutdown has begun.
    pub stopping: bool,
    /// The time of a shutdown is over.
    pub cut_off: bool,
}

/// What a `json` client waits to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Subscribe(Vec<usize>),
    /// Each with how many the client had published there itself.
    Unsubscribe(Vec<(usize, usize)>),
    Ping,
    Nonsense,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// HTTP.
    Asking,
    /// WebSocket.
    Open,
    /// The last response or close frame has come.
    Ending,
    Gone,
}

/// What a client is connected to.
#[derive(Clone, Copy)]
pub struct Home {
    pub server: usize,
    pub shard: usize,
}

pub struct Client {
    id: usize,
    pub home: Home,
    /// Its first connection, if it has come back.
    pub author: usize,
    pub socket: usize,
    pub persona: Persona,
    state: State,
    outgoing: VecDeque<u8>,
    reader: Reader,
    /// Statuses of the responses to come.
    expected: VecDeque<u16>,
    views: BTreeMap<usize, View>,
    /// Of one that follows, or reads a stream.
    pub trails: Trails,
    /// Of one that reads a stream.
    pub stream: Stream,
    /// Of a sender.
    pub letters: Letters,
    /// Of a backend.
    pub desk: Desk,
    /// Of one that may not do everything.
    guest: Guest,
    pub away: Away,
    /// The last that was seen of a topic and publisher, in whatever subscription.
    ever: BTreeMap<(usize, usize), usize>,
    /// The welcome has come.
    welcomed: bool,
    asked: VecDeque<Asked>,
    /// Payloads of pings to be answered.
    pings: VecDeque<Vec<u8>>,
    pinged: u32,
    /// The code that it has closed with: `Some(None)` for none.
    closing: Option<Option<u16>>,
    /// The code that its violation is answered with.
    violation: Option<u16>,
    violent: bool,
    /// It answers neither pings nor close frames.
    mute: bool,
    reads: bool,
    /// It has not read at some time.
    stalled: bool,
    /// Drops that it was told of.
    told: usize,
    /// Messages seen and missed in subscriptions that have ended.
    past: (usize, usize),
}

impl Client {
    /// On the socket of its number.
    pub fn new(id: usize, home: Home, persona: Persona, plan: &Plan, oracle: &Oracle, rng: &mut Rng) -> Client {
        let opening = persona.opening(oracle, rng);
        note(|| format!("c{id} is {persona:?}"));
        Client {
            id,
            home,
            author: id,
            socket: id,
            persona,
            state: State::Asking,
            outgoing: opening.bytes.into_bytes().into(),
            reader: Reader::default(),
            expected: opening.expected.into(),
            views: BTreeMap::new(),
            trails: Trails::default(),
            stream: Stream::default(),
            letters: Letters::default(),
            desk: Desk::default(),
            guest: Guest::default(),
            away: Away::default(),
            ever: BTreeMap::new(),
            welcomed: false,
            asked: VecDeque::new(),
            pings: VecDeque::new(),
            pinged: 0,
            closing: None,
            violation: None,
            violent: rng.percent(plan.rude),
            mute: rng.percent(plan.rude),
            reads: true,
            stalled: false,
            told: 0,
            past: (0, 0),
        }
    }

    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether it has what it asked for, and neither side has ended that.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether all that it does has its effect at the server.
    pub fn is_well(&self, net: &[Socket]) -> bool {
        let socket = &net[self.socket];
        let open = self.state == State::Open && self.closing.is_none() && self.violation.is_none();
        open && !socket.client_fin && !socket.faulted
    }

    /// Whether it is subscribed to all that it wants.
    pub fn has_joined(&self) -> bool {
        let joined = match self.persona {
            Persona::Sender | Persona::Backend => self.welcomed,
            Persona::Guest => self.welcomed && self.is_settled(),
            _ => !self.views.is_empty() || self.trails.are_begun(),
        };
        self.state == State::Open && self.asked.is_empty() && joined
    }

    // What it does.

    /// Sends, reads, acts; says whether anything came of it.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.is_gone() {
            return false;
        }
        if scene.net[self.socket].server_reset && (!scene.active || scene.rng.percent(50)) {
            self.was_reset(scene);
            return true;
        }
        let wrote = self.write(scene);
        let read = self.read(scene);
        if scene.active && !self.is_gone() {
            self.act(scene);
        }
        wrote || read
    }

    /// The server has closed with bytes unread, or before bytes came. Whoever broke the protocol must be let to read why.
    fn was_reset(&mut self, scene: &mut Scene<'_>) {
        let unheard = self.state == State::Open && self.violation.is_some() && !scene.net[self.socket].client_fin;
        assert!(
            !unheard || self.is_cut(scene) || self.may_be_ended(scene) || self.may_be_sent_away(scene),
            "client {} was reset before it could read its close frame",
            self.id
        );
        scene.tally.resets += 1;
        self.state = State::Gone;
    }

    /// Whether the server may end it for reasons of its own.
    fn may_be_ended(&self, scene: &Scene<'_>) -> bool {
        let settings = &scene.plan.settings;
        let dismissed = scene.stopping || self.may_be_dismissed(scene);
        dismissed || settings.ping_interval.is_some() || settings.max_lifetime.is_some()
    }

    /// Whether it need not get the server's last words.
    fn is_cut(&self, scene: &Scene<'_>) -> bool {
        let socket = &scene.net[self.socket];
        socket.tight || socket.faulted || self.stalled || scene.cut_off || self.may_be_cut_off(scene)
    }

    fn write(&mut self, scene: &mut Scene<'_>) -> bool {
        let socket = &mut scene.net[self.socket];
        if socket.client_fin || self.outgoing.is_empty() {
            return false;
        }
        let most = if scene.active { scene.rng.piece(self.outgoing.len()) } else { self.outgoing.len() };
        let n = socket.send(&mut self.outgoing, most);
        note(|| format!("c{} sends {n}", self.id));
        n > 0
    }

    fn read(&mut self, scene: &mut Scene<'_>) -> bool {
        self.reads |= !scene.active;
        if !self.reads {
            return false;
        }
        let socket = &mut scene.net[self.socket];
        let n = if scene.active { scene.rng.piece(socket.down.len()) } else { socket.down.len() };
        self.reader.push(socket.down.drain(..n));
        let at_end = socket.is_at_end();
        if n > 0 {
            note(|| format!("c{} reads {n}", self.id));
        }
        while !self.is_gone() && self.take(scene) {}
        if at_end && !self.is_gone() {
            self.ended(scene);
        }
        n > 0 || at_end
    }

    /// Takes one response or frame of what has arrived.
    fn take(&mut self, scene: &mut Scene<'_>) -> bool {
        match self.state {
            State::Asking => self.reader.response().map(|response| self.answered(&response, scene)).is_some(),
            State::Open if self.persona == Persona::Reader => {
                self.reader.block().map(|block| self.read_block(&block, scene)).is_some()
            }
            State::Open => self.reader.frame().map(|frame| self.got(frame, scene)).is_some(),
            State::Ending => {
                assert!(self.reader.is_empty(), "client {}: bytes after the last words", self.id);
                false
            }
            State::Gone => false,
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        let (calm, rng) = (scene.plan.calm, &mut *scene.rng);
        if rng.percent(if self.reads { 2 } else { 10 }) {
            self.reads = !self.reads;
            self.stalled |= !self.reads;
        }
        // What it is to get right is what comes after.
        let restless = matches!(self.persona, Persona::Reader | Persona::Sender | Persona::Backend);
        if !calm && rng.permille(if restless { 10 } else { 3 }) {
            return self.vanish(scene);
        }
        if self.state != State::Open
            || self.persona == Persona::Reader
            || self.closing.is_some()
            || self.violation.is_some()
            || self.outgoing.len() > 9_000
        {
            return;
        }
        match rng.below(1000) {
            0..250 if scene.publishing => self.publish(scene),
            250..280 if self.reads || !calm => self.ping(scene),
            280..340 if self.persona == Persona::Json && !calm => self.ask(scene),
            280..340 if self.persona == Persona::Guest && !calm => self.visit(scene),
            280..300 if self.persona == Persona::Follower && !calm => self.ask_again(scene),
            340..345 if !calm => self.close(scene),
            345..360 if self.violent => self.violate(scene),
            _ => {}
        }
    }

    /// Goes without a word, or sends no more.
    fn vanish(&mut self, scene: &mut Scene<'_>) {
        let reset = scene.rng.percent(60);
        note(|| format!("c{} {}", self.id, if reset { "resets" } else { "finishes" }));
        let socket = &mut scene.net[self.socket];
        if reset {
            socket.reset();
            self.state = State::Gone;
        } else {
            socket.finish();
        }
    }

    /// Leaves for good, one way or another.
    pub fn leave(&mut self, scene: &mut Scene<'_>) {
        match self.state {
            State::Open if self.may_close() && scene.rng.percent(70) => self.close(scene),
            State::Gone => {}
            _ if scene.rng.percent(50) => self.vanish(scene),
            _ => {}
        }
    }

    /// Whether it may begin a close handshake.
    fn may_close(&self) -> bool {
        self.closing.is_none() && self.violation.is_none() && self.persona != Persona::Reader
    }

    /// Leaves at once.
    pub fn reset(&mut self, net: &mut [Socket]) {
        if !self.is_gone() {
            net[self.socket].reset();
            self.state = State::Gone;
        }
    }

    fn say(&mut self, bytes: Vec<u8>) {
        self.outgoing.extend(bytes);
    }

    /// A data message, with pings between its fragments.
    fn say_message(&mut self, opcode: u8, payload: &[u8], rng: &mut Rng) {
        let pings = &mut self.pings;
        let bytes = wire::message(opcode, payload, rng, || pings.push_back(Vec::new()));
        self.say(bytes);
    }

    fn close(&mut self, scene: &mut Scene<'_>) {
        let code = scene.rng.pick(&[None, Some(1000), Some(1001), Some(3000), Some(4999)]);
        note(|| format!("c{} closes {code:?}", self.id));
        self.say_close(code, scene.rng);
        self.closing = Some(code);
    }

    fn say_close(&mut self, code: Option<u16>, rng: &mut Rng) {
        let payload = code.map(u16::to_be_bytes);
        self.say(wire::control(CLOSE, payload.as_ref().map_or(&[], |code| code), rng));
    }

    /// Breaks the protocol, and goes on talking for a while.
    fn violate(&mut self, scene: &mut Scene<'_>) {
        let (bytes, code) = violation(scene.rng);
        note(|| format!("c{} earns {code}", self.id));
        self.say(bytes);
        self.violation = Some(code);
        let more = vec![b'?'; scene.rng.pick(&[0, 10, 5_000])];
        self.say(more);
    }

    // What it gets.

    /// Nothing is under way any more: whatever it was owed must be here.
    pub fn check_rest(&mut self, oracle: &mut Oracle, plan: &Plan, is_done: impl Fn(usize) -> bool) {
        let lossy = plan.drops();
        assert!(self.reader.is_empty(), "client {} holds half a frame", self.id);
        assert!(self.outgoing.is_empty(), "client {} could not send {} bytes", self.id, self.outgoing.len());
        assert_eq!(self.pings.len(), 0, "client {} lacks pongs", self.id);
        assert_eq!(self.asked, [], "client {} lacks answers", self.id);
        self.views.values_mut().for_each(|view| view.finish(&*oracle, &is_done, lossy));
        self.check_trails(oracle, lossy, plan.calm);
        self.check_letters(oracle, is_done);
        self.check_desk();
        self.check_guest();
    }

    /// Whether what a backend was sent may be lost.
    pub fn may_have_lost(&self, is_well: bool) -> bool {
        self.persona == Persona::Backend && !is_well && !self.desk.orderly
    }

    /// Whether there is something between it and the server that no time need pass for.
    pub fn is_owed_an_end(&self, net: &[Socket]) -> bool {
        let over = self.closing.is_some() || self.violation.is_some() || net[self.socket].client_fin;
        !self.is_gone() && over && !self.mute
    }

    /// Messages seen, messages missed, and the misses that it was told of.
    pub fn account(&self) -> (usize, usize, Option<usize>) {
        let (seen, missed) =
            self.views.values().fold(self.past, |(seen, missed), view| (seen + view.received, missed + view.missed));
        let (seen, missed) = (seen + self.trails.received, missed + self.trails.missed);
        let is_told = matches!(
            self.persona,
            Persona::Json | Persona::Follower | Persona::Reader | Persona::Sender | Persona::Guest
        );
        (seen, missed, is_told.then_some(self.told))
    }
}
