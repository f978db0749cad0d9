//! Publishing: through the home shard, which orders, to the shards that have subscribers, which encode and deliver.

use bytes::Bytes;

use crate::hub::TopicHandle;
use crate::hub::frame::{Class, LogId, MessageKind};
use crate::limits::{MAX_MESSAGE_BYTES, MAX_REPLY_CHUNK, is_topic_name};
use crate::ring::token::ConnId;
use crate::ws::deflate::{Arena, Deflater};
use crate::ws::frame::{self, HeaderBytes, Opcode};

use super::Core;
use super::mailbox::{Mail, Message, Origin, TopicRef};

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
    /// Compressions so far.
    pub(super) runs: u64,
    /// Bytes compressed in this turn.
    pub(super) bytes: usize,
}

impl Encoder {
    pub(super) fn new(min: usize) -> Encoder {
        Encoder { deflaters: Default::default(), arena: Arena::default(), min, runs: 0, bytes: 0 }
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
        let deflater = self.deflaters[level][usize::from(bits) - 9]
            .get_or_insert_with(|| Box::new(Deflater::new(bits, LEVELS[level])));
        let deflated = deflater.compress(payload, &mut self.arena);
        self.runs += 1;
        self.bytes += payload.len();
        (frame::encode_header(opcode, true, deflated.len() as u64), deflated)
    }

    /// Gives back scratch space that one large message made grow.
    pub(super) fn trim(&mut self) {
        self.arena.trim();
    }
}

impl Core {
    /// Publishes to a topic by name; `false` if that cannot be one, or the message is too large. `own`: the publisher, if
    /// it is subscribed, gets it too.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        kind: MessageKind,
        payload: &[u8],
        from: Option<ConnId>,
        own: bool,
    ) -> bool {
        if payload.len() as u64 > MAX_MESSAGE_BYTES || !is_topic_name(topic) {
            return false;
        }
        let home = self.shared.home(topic);
        if home != self.id {
            let topic = match self.hub.find(topic).and_then(|local| self.hub.home(local)) {
                Some(handle) => TopicRef::Handle(handle),
                None => TopicRef::Name(topic.into()),
            };
            self.publish_remote(home, topic, kind, payload, from.filter(|_| !own));
        } else if let Some(local) = self.hub.find(topic) {
            self.publish_home(local, kind, payload, from.filter(|_| !own));
        } else {
            self.counters.published.add(1);
        }
        true
    }

    /// Publishes to a topic that the publisher is subscribed to.
    pub(crate) fn publish_joined(&mut self, topic: u32, kind: MessageKind, payload: &[u8], from: ConnId, own: bool) {
        let exclude = (!own).then_some(from);
        let home = self.shared.home(self.hub.name(topic));
        if home == self.id {
            return self.publish_home(topic, kind, payload, exclude);
        }
        let topic = match self.hub.home(topic) {
            Some(handle) => TopicRef::Handle(handle),
            None => TopicRef::Name(self.hub.name(topic).into()),
        };
        self.publish_remote(home, topic, kind, payload, exclude);
    }

    fn publish_remote(
        &mut self,
        home: u16,
        topic: TopicRef,
        kind: MessageKind,
        payload: &[u8],
        exclude: Option<ConnId>,
    ) {
        let message = Message { kind, payload: Bytes::copy_from_slice(payload) };
        let exclude = exclude.map(|conn| Origin { shard: self.id, conn });
        self.post(home, Mail::Publish { topic, message, exclude });
    }

    /// This is the home shard, and the publisher is here too: nothing is copied unless other shards are interested.
    fn publish_home(&mut self, topic: u32, kind: MessageKind, payload: &[u8], exclude: Option<ConnId>) {
        let offset = self.order(topic);
        if !self.hub.interested(topic).is_empty() {
            let message = Message { kind, payload: Bytes::copy_from_slice(payload) };
            let origin = exclude.map(|conn| Origin { shard: self.id, conn });
            self.send_to_interested(topic, offset, &message, origin);
        }
        self.distribute(topic, kind, payload, exclude);
    }

    /// A publication from another shard, at the home shard.
    pub(super) fn publish_mailed(&mut self, topic: TopicRef, message: Message, exclude: Option<Origin>) {
        let local = match topic {
            TopicRef::Handle(handle) => self.hub.resolve(handle),
            TopicRef::Name(name) => self.hub.find(&name),
        };
        let Some(local) = local else { return self.counters.published.add(1) };
        let offset = self.order(local);
        self.send_to_interested(local, offset, &message, exclude);
        // Who is to be excluded is on another shard: what is published here is not mailed.
        self.distribute(local, message.kind, &message.payload, None);
    }

    fn order(&mut self, topic: u32) -> u64 {
        self.counters.published.add(1);
        self.hub.order(topic)
    }

    fn send_to_interested(&mut self, topic: u32, offset: u64, message: &Message, exclude: Option<Origin>) {
        for i in 0..self.hub.interested(topic).len() {
            let (shard, remote) = self.hub.interested(topic)[i];
            let exclude = exclude.filter(|origin| origin.shard == shard).map(|origin| origin.conn);
            self.post(shard, Mail::Deliver { topic: remote, offset, message: message.clone(), exclude });
        }
    }

    /// A publication that the home shard has ordered.
    pub(super) fn deliver_mailed(&mut self, topic: TopicHandle, message: Message, exclude: Option<ConnId>) {
        if let Some(local) = self.hub.resolve(topic) {
            self.distribute(local, message.kind, &message.payload, exclude);
        }
    }

    /// Encodes for each class of local subscribers, once; the fan-out follows at the end of the turn.
    fn distribute(&mut self, topic: u32, kind: MessageKind, payload: &[u8], exclude: Option<ConnId>) {
        let exclude = exclude.filter(|&id| self.conns.get(id).is_some()).map(|id| id.index);
        let encoder = &mut self.encoder;
        self.hub.publish(topic, &mut self.frames, exclude, |class, append| {
            let (header, body) = encoder.encode(class, kind, payload);
            append(&[header.as_slice(), body]);
        });
        self.encoder.trim();
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
        let fits = payload.len() as u64 <= MAX_MESSAGE_BYTES;
        let Some(conn) = self.conns.get_mut(id).filter(|conn| fits && conn.is_open()) else { return false };
        // A socket that takes bytes is only behind by our own pace: one send a turn.
        let slack = if conn.flags.blocked() || conn.held > 0 { SLACK } else { OPEN_SLACK };
        let bound = u64::from(self.settings.backlog) + u64::from(self.settings.max_message) + slack;
        if !conn.outbox.is_empty() && u64::from(conn.outbox.len_bytes()) + payload.len() as u64 > bound {
            self.close_overrun(id);
            return false;
        }
        let class = conn.class;
        let (header, body) = self.encoder.encode(class, kind, payload);
        let span = self.replies.append(&mut self.frames, LogId::NONE, MAX_REPLY_CHUNK, &[header.as_slice(), body]);
        self.frames.retain(span.chunk, 1);
        conn.outbox.push(&mut self.frames, span);
        self.encoder.trim();
        self.mark_dirty(id.index);
        true
    }

    /// Posts mail to a shard, to be woken at the end of the turn.
    pub(super) fn post(&mut self, shard: u16, mail: Mail) {
        if !self.posted.contains(&shard) {
            self.posted.push(shard);
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

/// What one read buffer full of messages may be answered with on top of a full backlog before its sender is throttled.
const SLACK: u64 = 128 * 1024;
/// The same while the socket takes what it is sent.
const OPEN_SLACK: u64 = 4 << 20;
