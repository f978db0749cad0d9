//! Publishing: through the home shard, which orders, to the shards that have subscribers, which encode and deliver.

use bytes::Bytes;

use crate::dialect::{Position, json, sse};
use crate::error::CloseReason;
use crate::hub::frame::{Class, LogId, MessageKind};
use crate::hub::{Published, TopicHandle};
use crate::limits::{MAX_MESSAGE_BYTES, MAX_REPLY_CHUNK, is_topic_name};
use crate::ring::token::ConnId;
use crate::time::Moment;
use crate::ws::deflate::{Arena, Deflater};
use crate::ws::frame::{self, HeaderBytes, Opcode};

use super::Core;
use super::mail::{Answer, Mail, Message, Origin, Receipt, TopicRef};

/// Queued payload above which publishers are not read from, per shard and per mailbox.
const CONGESTED_BYTES: usize = 8 << 20;
/// Compression level of messages of up to [`SMALL_BYTES`], and of larger ones. The shard's other traffic waits for it: a
/// mebibyte takes some 2.5 ms at level 1, and 12 at level 6. What all subscribers are sent is worth some microseconds.
const LEVELS: [u8; 2] = [6, 1];
const SMALL_BYTES: usize = 16 * 1024;

/// Encodes messages for classes; keeps what compression needs between messages.
pub(super) struct Encoder {
    /// By level, and by window bits, 9 to 15; made when first needed.
    deflaters: [[Option<Box<Deflater>>; 7]; LEVELS.len()],
    arena: Arena,
    /// Payloads under this many bytes are not compressed.
    min: usize,
    /// About what they take.
    deflater_bytes: usize,
    /// Compressions so far.
    pub(super) runs: u64,
    /// Bytes compressed in this turn.
    pub(super) bytes: usize,
}

impl Encoder {
    pub(super) fn new(min: usize) -> Encoder {
        Encoder { deflaters: Default::default(), arena: Arena::default(), min, deflater_bytes: 0, runs: 0, bytes: 0 }
    }

    /// From now on, payloads under so many bytes are not compressed.
    pub(super) fn set_min(&mut self, min: usize) {
        self.min = min;
    }

    /// The header and body of a message's frame for a class.
    pub(super) fn encode<'a>(
        &'a mut self,
        class: Class,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> (HeaderBytes, &'a [u8]) {
        let opcode = Opcode::Data(kind);
        let Some(bits) = class.window_bits().filter(|_| payload.len() >= self.min) else {
            return (frame::encode_header(opcode, false, payload.len() as u64), payload);
        };
        let level = usize::from(payload.len() > SMALL_BYTES);
        let deflater = self.deflaters[level][usize::from(bits) - 9].get_or_insert_with(|| {
            self.deflater_bytes += Deflater::bytes(bits);
            Box::new(Deflater::new(bits, LEVELS[level]))
        });
        let deflated = deflater.compress(payload, &mut self.arena);
        self.runs += 1;
        self.bytes += payload.len();
        (frame::encode_header(opcode, true, deflated.len() as u64), deflated)
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.deflater_bytes + self.arena.capacity()
    }

    /// Gives back scratch space that one large message made grow.
    pub(super) fn trim(&mut self) {
        self.arena.trim();
    }
}

/// A message that is published, and what goes with it.
pub(crate) struct Publication<'a> {
    /// Text or binary.
    pub kind: MessageKind,
    /// What subscribers receive.
    pub payload: &'a [u8],
    /// A connection of this shard that is not to get it.
    pub exclude: Option<ConnId>,
    /// The acknowledgement that is wanted.
    pub receipt: Option<Box<Receipt>>,
}

impl<'a> Publication<'a> {
    /// For all, without an acknowledgement.
    pub fn new(kind: MessageKind, payload: &'a [u8]) -> Publication<'a> {
        Publication { kind, payload, exclude: None, receipt: None }
    }

    /// For all but one.
    pub fn but(self, exclude: Option<ConnId>) -> Publication<'a> {
        Publication { exclude, ..self }
    }
}

/// A message, and since when it is here.
#[derive(Clone, Copy)]
struct Content<'a> {
    kind: MessageKind,
    payload: &'a [u8],
    received: Moment,
}

impl Content<'_> {
    fn of(message: &Message) -> Content<'_> {
        Content { kind: message.kind, payload: &message.payload, received: message.received }
    }
}

impl Core {
    /// Publishes to a topic by name; `false` if that cannot be one, or the message is too large.
    pub(crate) fn publish(&mut self, topic: &str, publication: Publication<'_>) -> bool {
        if publication.payload.len() as u64 > MAX_MESSAGE_BYTES || !is_topic_name(topic) {
            return false;
        }
        let home = self.shared.home(topic);
        if home != self.id {
            let topic = match self.hub.find(topic).and_then(|local| self.hub.home(local)) {
                Some(handle) => TopicRef::Handle(handle),
                None => TopicRef::Name(topic.into()),
            };
            self.publish_remote(home, topic, publication);
        } else if let Some(local) = self.hub.find(topic) {
            self.publish_home(local, publication);
        } else if let Some(local) = self.topic_worth_making(topic, publication.receipt.as_deref()) {
            self.publish_home(local, publication);
            self.unpin(local);
        } else {
            self.hub.order_unheard(topic);
            self.counters.published.add(1);
        }
        true
    }

    /// Publishes to a topic that the publisher is subscribed to.
    pub(crate) fn publish_joined(&mut self, topic: u32, publication: Publication<'_>) {
        let home = self.shared.home(self.hub.name(topic));
        if home == self.id {
            return self.publish_home(topic, publication);
        }
        let topic = match self.hub.home(topic) {
            Some(handle) => TopicRef::Handle(handle),
            None => TopicRef::Name(self.hub.name(topic).into()),
        };
        self.publish_remote(home, topic, publication);
    }

    fn publish_remote(&mut self, home: u16, topic: TopicRef, publication: Publication<'_>) {
        let Publication { kind, payload, exclude, receipt } = publication;
        let message = Message { kind, payload: Bytes::copy_from_slice(payload), received: self.begun };
        let exclude = exclude.map(|conn| Origin { shard: self.id, conn });
        self.post(home, Mail::Publish { topic, message, exclude, receipt });
    }

    fn publish_home(&mut self, topic: u32, publication: Publication<'_>) {
        let Publication { kind, payload, exclude, receipt } = publication;
        let but = exclude.map(|conn| Origin { shard: self.id, conn });
        self.publish_here(topic, kind, payload, but, receipt.as_deref());
    }

    /// Publishes to a topic that is ordered here, to all but one connection of any shard. Nothing is copied unless somebody
    /// elsewhere or later wants it.
    fn publish_here(
        &mut self,
        topic: u32,
        kind: MessageKind,
        payload: &[u8],
        but: Option<Origin>,
        receipt: Option<&Receipt>,
    ) {
        let Some(position) = self.order(topic, receipt) else { return };
        let keeps = self.keeps(topic);
        if keeps || !self.hub.interested(topic).is_empty() {
            let message = Message { kind, payload: Bytes::copy_from_slice(payload), received: self.begun };
            self.remember(topic, position, &message, keeps);
            self.spread(topic, Some(position), &message, but);
        } else {
            let exclude = self.here(but);
            self.distribute(topic, Some(position), Content { kind, payload, received: self.begun }, exclude);
        }
    }

    /// A publication from another shard, at the home shard.
    pub(super) fn publish_mailed(
        &mut self,
        topic: TopicRef,
        message: Message,
        exclude: Option<Origin>,
        receipt: Option<Box<Receipt>>,
    ) {
        let (local, made) = match topic {
            TopicRef::Handle(handle) => (self.hub.resolve(handle), false),
            TopicRef::Name(name) => match self.hub.find(&name) {
                Some(local) => (Some(local), false),
                None => {
                    let made = self.topic_worth_making(&name, receipt.as_deref());
                    if made.is_none() {
                        self.hub.order_unheard(&name);
                    }
                    (made, true)
                }
            },
        };
        let Some(local) = local else { return self.counters.published.add(1) };
        if let Some(position) = self.order(local, receipt.as_deref()) {
            let message = Message { received: message.received.or(self.begun), ..message };
            let keeps = self.keeps(local);
            self.remember(local, position, &message, keeps);
            self.spread(local, Some(position), &message, exclude);
        }
        if made {
            self.unpin(local);
        }
    }

    /// A topic that nobody uses, made and pinned, if what is published to it has to be ordered all the same: because it is
    /// kept, or because the publisher is to be told where it is.
    fn topic_worth_making(&mut self, name: &str, receipt: Option<&Receipt>) -> Option<u32> {
        let is_told = receipt.is_some_and(|receipt| !receipt.quiet);
        (is_told || self.settings.history.of(name).is_some()).then(|| {
            let local = self.hub.intern(name);
            self.hub.pin(local);
            local
        })
    }

    /// The place of the next message; `None` if it was here before, which is acknowledged again, or comes too fast for its topic.
    fn order(&mut self, topic: u32, receipt: Option<&Receipt>) -> Option<Position> {
        if let Some(receipt) = receipt {
            let known = receipt.client.map(|client| {
                let name = self.hub.name(topic);
                self.window.find(self.now, client, name, &receipt.id)
            });
            if let Some(position) = known.flatten() {
                self.counters.repeated.add(1);
                self.acknowledge(topic, receipt, position);
                return None;
            }
        }
        if self.settings.topic_publish_rate.is_some_and(|bucket| !self.hub.admits(topic, bucket, self.now)) {
            self.refuse_too_fast(receipt);
            return None;
        }
        self.counters.published.add(1);
        let offset = self.hub.order(topic);
        let position = Position { epoch: self.hub.position(topic).epoch, offset };
        if let Some(receipt) = receipt {
            if let Some(client) = receipt.client {
                self.window.note(self.now, client, self.hub.name(topic), &receipt.id, position);
            }
            self.acknowledge(topic, receipt, position);
        }
        Some(position)
    }

    fn acknowledge(&mut self, topic: u32, receipt: &Receipt, position: Position) {
        if receipt.quiet {
            return;
        }
        let place = receipt.place.then(|| (self.hub.name(topic).into(), position));
        self.inform(&receipt.to, Answer::Ack { id: receipt.id.clone(), place });
    }

    /// Whether messages of a topic that is ordered here are kept.
    fn keeps(&mut self, topic: u32) -> bool {
        if self.hub.history(topic).is_some() {
            return true;
        }
        let Some(rule) = self.settings.history.of(self.hub.name(topic)) else { return false };
        self.hub.keep(topic, rule.into());
        true
    }

    fn remember(&mut self, topic: u32, position: Position, message: &Message, keeps: bool) {
        if keeps {
            self.hub.remember(topic, self.now, position.offset, message.kind, message.payload.clone());
        }
    }

    /// Sends a text to the members of a room, or the connections of a user, whose topic is ordered here, but to one: beside
    /// what is published in it.
    pub(super) fn notify(&mut self, topic: u32, payload: impl Into<Bytes>, but: Option<Origin>) {
        let message = Message { kind: MessageKind::Text, payload: payload.into(), received: self.begun };
        self.spread(topic, None, &message, but);
    }

    /// Sends what a topic that is ordered here is to carry to all shards that have subscribers, and to those of this one.
    fn spread(&mut self, topic: u32, position: Option<Position>, message: &Message, but: Option<Origin>) {
        self.send_to_interested(topic, position.map_or(0, |position| position.offset), message, but);
        let exclude = self.here(but);
        self.distribute(topic, position, Content::of(message), exclude);
    }

    /// The connection, if it is of this shard.
    fn here(&self, origin: Option<Origin>) -> Option<ConnId> {
        origin.filter(|origin| origin.shard == self.id).map(|origin| origin.conn)
    }

    fn send_to_interested(&mut self, topic: u32, offset: u64, message: &Message, exclude: Option<Origin>) {
        for i in 0..self.hub.interested(topic).len() {
            let (shard, remote) = self.hub.interested(topic)[i];
            let exclude = exclude.filter(|origin| origin.shard == shard).map(|origin| origin.conn);
            self.post(shard, Mail::Deliver { topic: remote, offset, message: message.clone(), exclude });
        }
    }

    /// A publication that the home shard has ordered, or a notice.
    pub(super) fn deliver_mailed(
        &mut self,
        topic: TopicHandle,
        offset: u64,
        message: Message,
        exclude: Option<ConnId>,
    ) {
        if let Some(local) = self.hub.resolve(topic) {
            let position = (offset > 0).then(|| Position { epoch: self.hub.position(local).epoch, offset });
            self.distribute(local, position, Content::of(&message), exclude);
        }
    }

    /// Encodes for each class of local subscribers, once; the fan-out follows at the end of the turn. What has no place in
    /// the topic is for members alone, and has no envelope.
    fn distribute(&mut self, topic: u32, position: Option<Position>, content: Content<'_>, exclude: Option<ConnId>) {
        let Content { kind, payload, received } = content;
        let exclude = exclude.filter(|&id| self.conns.get(id).is_some()).map(|id| id.index);
        let mut envelope = std::mem::take(&mut self.scratch.envelope);
        if let Some(position) = position.filter(|_| self.hub.classes(topic).any(Class::has_envelope)) {
            json::envelope(&mut envelope, self.hub.name(topic), position, kind, payload, false);
        }
        let mut block = std::mem::take(&mut self.scratch.block);
        if let Some(position) = position.filter(|_| self.hub.classes(topic).any(Class::is_events)) {
            sse::push_message(&mut block, self.hub.name(topic), position, &envelope);
        }
        let whom = |class: Class| position.is_some() || class.is_member();
        let encoder = &mut self.encoder;
        let published = Published { received, exclude };
        self.hub.publish_to(topic, &mut self.frames, published, whom, |class, append| {
            if class.is_events() {
                return append(&[&block]);
            }
            let enveloped = position.is_some() && class.has_envelope();
            let (kind, payload) = if enveloped { (MessageKind::Text, &*envelope) } else { (kind, payload) };
            let (header, body) = encoder.encode(class, kind, payload);
            append(&[header.as_slice(), body]);
        });
        self.encoder.trim();
        for scratch in [&mut envelope, &mut block] {
            scratch.clear();
            scratch.shrink_to(KEPT_SCRATCH);
        }
        (self.scratch.envelope, self.scratch.block) = (envelope, block);
    }

    /// Puts bytes that are for one connection into its outbox.
    pub(super) fn push_reply(&mut self, id: ConnId, parts: &[&[u8]]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let span = self.replies.append(&mut self.frames, LogId::NONE, MAX_REPLY_CHUNK, parts);
        self.frames.retain(span.chunk, 1);
        conn.outbox.push(&mut self.frames, span);
        self.mark_dirty(id.index);
    }

    /// Sends a message to one connection; `false` if the connection is not open. A connection that is sent more than
    /// it reads is closed for its backlog, as a subscriber would be.
    pub(crate) fn send(&mut self, id: ConnId, kind: MessageKind, payload: &[u8]) -> bool {
        let Some(class) = self.conns.get(id).map(|conn| conn.class) else { return false };
        if class.is_events() {
            return self.send_event(id, sse::MESSAGE, false, payload);
        }
        if !self.admits(id, payload.len()) {
            return false;
        }
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let (header, body) = self.encoder.encode(class, kind, payload);
        let span = self.replies.append(&mut self.frames, LogId::NONE, MAX_REPLY_CHUNK, &[header.as_slice(), body]);
        self.frames.retain(span.chunk, 1);
        conn.outbox.push(&mut self.frames, span);
        self.encoder.trim();
        self.mark_dirty(id.index);
        true
    }

    /// Whether a connection is open and may be sent so many bytes more; if it is sent more than it reads, it is closed.
    pub(super) fn admits(&mut self, id: ConnId, bytes: usize) -> bool {
        let fits = bytes as u64 <= MAX_MESSAGE_BYTES;
        let Some(conn) = self.conns.get_mut(id).filter(|conn| fits && conn.is_open()) else { return false };
        // A socket that takes bytes is only behind by our own pace: one send a turn.
        let slack = if conn.flags.blocked() || conn.held > 0 { SLACK } else { OPEN_SLACK };
        let bound = u64::from(self.settings.backlog) + u64::from(self.settings.max_message) + slack;
        if conn.outbox.is_empty() || u64::from(conn.outbox.len_bytes()) + bytes as u64 <= bound {
            return true;
        }
        if conn.class.is_events() {
            // A stream goes on behind what it was sent, so a past of any size is sent in as many streams as it takes.
            self.close(id, 1013, "", CloseReason::Backlog);
        } else {
            self.close_overrun(id);
        }
        false
    }

    /// Posts mail to a shard, to be woken at the end of the turn.
    pub(super) fn post(&mut self, shard: u16, mail: Mail) {
        if !self.scratch.posted.contains(&shard) {
            self.scratch.posted.push(shard);
        }
        self.postboxes[usize::from(shard)].post(mail);
    }

    /// Whether more waits to be put into the outboxes of this shard than may wait.
    pub(super) fn fan_outs_are_behind(&self) -> bool {
        self.hub.queued_bytes() > CONGESTED_BYTES as u64
    }

    /// Whether more is published than goes out: then those who publish are not read from.
    pub(super) fn congested(&self) -> bool {
        self.fan_outs_are_behind() || self.postboxes.iter().any(|postbox| postbox.weight() > CONGESTED_BYTES)
    }
}

/// Bytes of scratch space that are kept from one message to the next.
pub(super) const KEPT_SCRATCH: usize = 64 * 1024;

/// What one read buffer full of messages may be answered with on top of a full backlog before its sender is throttled.
const SLACK: u64 = 128 * 1024;
/// The same while the socket takes what it is sent.
const OPEN_SLACK: u64 = 4 << 20;
