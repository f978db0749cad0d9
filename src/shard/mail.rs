//! What shards and other threads tell a shard.

mod addressed;
mod answer;
mod recover;
mod survey;

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::Verdict;
use crate::auth::hook::Outcome;
use crate::dialect::Since;
use crate::hub::TopicHandle;
use crate::hub::frame::MessageKind;
use crate::limits::MAX_CONNECTIONS_PER_SHARD;
use crate::ring::token::ConnId;
use crate::time::Moment;
use crate::tls::Shaken;

use super::configure::Update;
use super::handover::{Backend, HandedOver};
pub use addressed::{Act, Addressed, Asker, Stage};
pub use answer::{Answer, TopicList};
pub use recover::{Past, Recover, Recovered, Wanted};
pub use survey::{ConnFacts, ConnOrder, TopicFacts, TopicOrder};

/// A publication on its way between shards: the one copy that all of them read.
#[derive(Clone, Debug)]
pub struct Message {
    /// Text or binary.
    pub kind: MessageKind,
    /// The payload.
    pub payload: Bytes,
    /// When a shard began the turn in which it took it up; not known of what another thread publishes.
    pub received: Moment,
}

/// A connection anywhere in the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Its shard.
    pub shard: u16,
    /// Which one there.
    pub conn: ConnId,
}

/// Bits of a slot's number, and of a shard's, in the number of a connection.
const SLOT_BITS: u32 = MAX_CONNECTIONS_PER_SHARD.ilog2();
const SHARD_BITS: u32 = u16::BITS;
const _: () = assert!(SLOT_BITS + SHARD_BITS + ConnId::GENERATION_BITS <= u64::BITS);

impl Origin {
    /// The number by which a connection is known outside: in the log, to handlers and to those who watch.
    pub fn number(self) -> u64 {
        let place = u64::from(self.conn.generation) << SHARD_BITS | u64::from(self.shard);
        place << SLOT_BITS | u64::from(self.conn.index)
    }

    /// The connection of a number; of one that is no connection's, anything.
    pub fn numbered(number: u64) -> Origin {
        let index = number as u32 & (MAX_CONNECTIONS_PER_SHARD - 1);
        let shard = (number >> SLOT_BITS) as u16;
        let generation = (number >> (SLOT_BITS + SHARD_BITS)) as u32;
        Origin { shard, conn: ConnId { index, generation } }
    }
}

/// A topic as the sender of a mail knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicRef {
    /// By the handle that its home shard has given out.
    Handle(TopicHandle),
    /// By name: the sender is not subscribed, or the home shard has not answered yet.
    Name(Box<str>),
}

/// Where an answer goes.
#[derive(Clone, Debug)]
pub enum Return {
    /// To a connection.
    Conn(Origin),
    /// To a thread that is no shard. What it does not take is dropped.
    Caller(flume::Sender<Answer>),
}

impl Return {
    /// The connection, if it is one.
    pub fn origin(&self) -> Option<Origin> {
        match self {
            Return::Conn(origin) => Some(*origin),
            Return::Caller(_) => None,
        }
    }
}

/// Who is to be told that a message is ordered, and under which name.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The sender.
    pub to: Return,
    /// The sender's name, by which what it sends again is known. Of a backend, and where a caller gives no `id`, nothing is.
    pub client: Option<u64>,
    /// The message's `id`, as JSON text; empty if it has none.
    pub id: Box<str>,
    /// Whether the sender is told where in the topic the message is.
    pub place: bool,
    /// Whether the sender is told of nothing but a refusal: what it sends again is then not known.
    pub quiet: bool,
}

/// What happens in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoomEvent {
    /// A client has come.
    Join,
    /// A client has gone.
    Leave,
}

/// News of a room, for its home shard.
#[derive(Debug)]
pub struct RoomMail {
    /// The room's name.
    pub room: Box<str>,
    /// The client.
    pub client: u64,
    /// The client's connection.
    pub from: Origin,
    /// What happened.
    pub what: RoomEvent,
}

/// A question, for the shard that knows.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub question: Question,
    /// Who asks.
    pub to: Return,
}

/// What can be asked.
#[derive(Debug)]
pub enum Question {
    /// Who is in a room. For its home shard.
    Presence(Box<str>),
    /// What is kept of a topic. For its home shard.
    History {
        /// Which topic.
        topic: Box<str>,
        /// Everything after this; `None`: all that is kept.
        since: Option<Since>,
        /// So many of it: the oldest if `since` is there, so that one can go on from the last, otherwise the newest.
        limit: usize,
    },
    /// The rooms that are at home on the shard.
    Rooms,
    /// The topics that have subscribers on the shard.
    Topics {
        /// Their names begin so.
        prefix: Box<str>,
        /// Their names come behind this.
        after: Box<str>,
        /// So many at most, the first by name.
        limit: usize,
    },
    /// The first connections of the shard in an order.
    Connections {
        /// Which.
        order: ConnOrder,
        /// So many at most, of [`MOST`](super::survey::MOST).
        limit: usize,
    },
    /// The first topics in an order, of those that the shard knows.
    BusyTopics {
        /// Which.
        order: TopicOrder,
        /// So many at most, of [`MOST`](super::survey::MOST).
        limit: usize,
    },
    /// What the shard knows of topics.
    TopicFacts(Arc<[Box<str>]>),
}

/// What is given up for want of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shed {
    /// The older half of the histories.
    pub histories: bool,
    /// Connections, the largest backlogs first, until those come to so many bytes.
    pub backlogs: u64,
}

/// One mail.
#[derive(Debug)]
pub enum Mail {
    /// To the home shard: order this message and send it on.
    Publish {
        /// Which topic.
        topic: TopicRef,
        /// What.
        message: Message,
        /// A subscriber that is not to get it.
        exclude: Option<Origin>,
        /// The acknowledgement that is wanted.
        receipt: Option<Box<Receipt>>,
    },
    /// From the home shard: deliver this message to the local subscribers.
    Deliver {
        /// The receiving shard's handle.
        topic: TopicHandle,
        /// The message's place in the topic; 0 of a notice, which has none.
        offset: u64,
        /// What.
        message: Message,
        /// A subscriber of the receiving shard that is not to get it.
        exclude: Option<ConnId>,
    },
    /// To the home shard: the sender has its first subscriber.
    Interest {
        /// The topic's name.
        name: Box<str>,
        /// The sender.
        shard: u16,
        /// The sender's handle, for deliveries.
        topic: TopicHandle,
    },
    /// From the home shard: from now on, deliveries come.
    Confirm {
        /// The receiving shard's handle.
        topic: TopicHandle,
        /// The home shard's handle.
        home: TopicHandle,
        /// The topic's incarnation.
        epoch: u32,
    },
    /// To the home shard: the sender's last subscriber has gone.
    Disinterest {
        /// Which topic.
        topic: TopicRef,
        /// The sender.
        shard: u16,
        /// The sender's handle that is no more.
        local: TopicHandle,
    },
    /// To the home shard: the same, and what somebody has missed is asked for.
    Recover(Box<Recover>),
    /// From the home shard: what was missed; from now on, deliveries come.
    Recovered(Box<Recovered>),
    /// To the home shard of a room: somebody has come or gone.
    Room(Box<RoomMail>),
    /// To the shard that knows.
    Ask(Box<Ask>),
    /// To the shard that a client's name leads to, or to a user's or a room's home shard: something for that one.
    Address(Box<Addressed>),
    /// Something to be done to a client of the receiving shard.
    Act {
        /// The client's connection.
        to: ConnId,
        /// What.
        what: Box<Addressed>,
    },
    /// Something to be done to all clients of the receiving shard that are subscribed to a topic, a user's.
    ActAll {
        /// The receiving shard's handle.
        topic: TopicHandle,
        /// What.
        act: Box<Act>,
    },
    /// An answer that is to come behind what the sender has posted before: to be passed on.
    Inform(Box<(Return, Answer)>),
    /// A client's message that a backend is to have.
    HandOver(Box<HandedOver>),
    /// A backend has connected, or that connection is no longer open.
    Backend {
        /// Which.
        backend: Backend,
        /// Whether it is gone.
        gone: bool,
    },
    /// To a backend's shard: the sender is to know when the backend has read most of what it was sent.
    WhenRead {
        /// The backend's connection.
        backend: ConnId,
        /// The sender.
        shard: u16,
    },
    /// It has.
    HasRead {
        /// The backend.
        backend: Origin,
    },
    /// To the shard that a client's name leads to: the client has connected anew, or that connection is gone.
    Claim {
        /// The client.
        client: u64,
        /// Its connection.
        by: Origin,
        /// Whether it is gone.
        gone: bool,
    },
    /// The client of this connection has connected anew.
    Replaced {
        /// The connection.
        conn: ConnId,
    },
    /// What came of something that a client of the receiving shard did.
    Answer {
        /// The client's connection.
        to: ConnId,
        /// What.
        answer: Box<Answer>,
    },
    /// From a thread that shakes hands: a step is done.
    Shaken(Box<Shaken>),
    /// From the thread that checks tokens.
    Verdict(Box<Verdict>),
    /// From a thread that asks the application.
    Decided(Box<Outcome>),
    /// Memory is short: give back what is kept for later.
    Trim,
    /// Another shard has freed what may be of this one's heap.
    Freed,
    /// The same, and more is given up.
    Shed(Shed),
    /// From the next turn on, the shard works with these.
    Configure(Box<Update>),
    /// Send everybody away evenly over a time. All times are in milliseconds.
    Drain {
        /// Until it begins.
        delay_ms: u32,
        /// That it takes.
        time_ms: u32,
        /// For the last ones to go.
        grace_ms: u32,
    },
    /// Stop accepting, say goodbye to all, end within so many milliseconds.
    Shutdown {
        /// Bound on the time it takes.
        within_ms: u32,
        /// Everybody was sent away already: whoever is left is a straggler.
        drained: bool,
    },
}

impl Mail {
    /// Bytes that count against the queue's bound.
    pub(super) fn weight(&self) -> usize {
        let topic = |topic: &TopicRef| match topic {
            TopicRef::Handle(_) => 0,
            TopicRef::Name(name) => name.len(),
        };
        MAIL_BYTES
            + match self {
                Mail::Publish { topic: name, message, .. } => topic(name) + message.payload.len(),
                Mail::Deliver { message, .. } => message.payload.len(),
                Mail::Interest { name, .. } => name.len(),
                Mail::Disinterest { topic: name, .. } => topic(name),
                Mail::Recover(mail) => mail.name.len(),
                Mail::Recovered(mail) => mail.past.messages.iter().map(|kept| kept.payload.len()).sum(),
                Mail::Room(mail) => mail.room.len(),
                Mail::Ask(_) => 0,
                Mail::Address(what) | Mail::Act { what, .. } => what.receiver.len() + what.act.weight(),
                Mail::ActAll { act, .. } => act.weight(),
                Mail::Answer { answer, .. } => answer.weight(),
                Mail::Inform(inform) => inform.1.weight(),
                Mail::HandOver(what) => what.room.len() + what.payload.len(),
                Mail::Shaken(shaken) => shaken.reply.len() + shaken.plain.len(),
                Mail::Confirm { .. }
                | Mail::Verdict(_)
                | Mail::Decided(_)
                | Mail::Claim { .. }
                | Mail::Backend { .. }
                | Mail::WhenRead { .. }
                | Mail::HasRead { .. }
                | Mail::Replaced { .. }
                | Mail::Trim
                | Mail::Freed
                | Mail::Shed(_)
                | Mail::Configure(_)
                | Mail::Drain { .. }
                | Mail::Shutdown { .. } => 0,
            }
    }
}

/// What a mail takes beside its names and payload.
const MAIL_BYTES: usize = size_of::<Mail>();
const _: () = assert!(MAIL_BYTES <= 96);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_leads_to_its_connection(shard: u16, index in 0..MAX_CONNECTIONS_PER_SHARD, generation in 0..1u32 << 24) {
            let at = Origin { shard, conn: ConnId { index, generation } };
            prop_assert_eq!(Origin::numbered(at.number()), at);
        }
    }
}
