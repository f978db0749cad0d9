//! What is for one client, for all connections of a user, or for the other members of a room; and answers on their way back.
//!
//! A `clientId` leads to a shard by itself, where a claim says if the client is elsewhere by now. A user is a topic that its
//! connections are subscribed to, under a name that no client can say; so its home shard knows whether there are any. A room
//! is known at its home shard.

use crate::conn::Conn;
use crate::dialect::{Receipt, json};
use crate::error::CloseReason;
use crate::hub::TopicHandle;
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

use super::mail::{Act, Addressed, Answer, Asker, Mail, Origin, Return, Stage};
use super::shared::Shared;
use super::{Core, NOWHERE};

/// The topic of a user's connections.
pub(super) fn user_topic(user: &str) -> String {
    format!("\0user:{user}")
}

/// The shard that a name leads to; of a `clientId` that was not made here, it may be none.
pub(super) fn way(shared: &Shared, receiver: &str, stage: Stage) -> u16 {
    match json::parse_client_id(receiver) {
        Some(client) => shared.identity().whereabouts(client).0,
        None if stage == Stage::NoUser => shared.home(receiver),
        None => shared.home(&user_topic(receiver)),
    }
}

/// Where an addressed message went, by which it is known when it comes again: not the topic of that name.
fn mailing(receiver: &str) -> String {
    format!("\0to:{receiver}")
}

impl Core {
    /// Sends a client's message to whom it is for.
    pub(super) fn address(&mut self, id: ConnId, receiver: &str, object: Vec<u8>, receipt: Option<Receipt<'_>>) {
        let Some(client) = self.client_of(id) else { return };
        let object = json::signed(object, client, None);
        let asker = self.asker(id, Some(client), receipt);
        let to_room = self.permissions(id).rooms.includes(receiver) || self.is_member(id, receiver);
        let act = Act::Send(object.into());
        self.pass_on(Addressed { receiver: receiver.into(), to_room, stage: Stage::Sent, act, asker });
    }

    /// A connection of this shard that wants something; `client`: by which name it is known again.
    pub(super) fn asker(&self, id: ConnId, client: Option<u64>, receipt: Option<Receipt<'_>>) -> Asker {
        let (ack, name) = receipt.map_or((false, None), |receipt| (receipt.ack, Some(receipt.id.into())));
        Asker { to: Return::Conn(Origin { shard: self.id, conn: id }), client, id: name, ack }
    }

    /// Hands it to the shard that knows the receiver.
    pub(super) fn pass_on(&mut self, addressed: Addressed) {
        let shard = way(&self.shared, &addressed.receiver, addressed.stage);
        if shard == self.id {
            self.addressed(addressed);
        } else if usize::from(shard) < self.postboxes.len() {
            self.post(shard, Mail::Address(Box::new(addressed)));
        } else {
            self.no_receiver(addressed);
        }
    }

    /// Something for a client whose name leads here, or for a user or a room that is at home here.
    pub(super) fn addressed(&mut self, addressed: Addressed) {
        if addressed.stage == Stage::Failed {
            return self.no_receiver(addressed);
        }
        let client = json::parse_client_id(&addressed.receiver);
        if client.is_none() && addressed.stage == Stage::Sent && !self.is_user(&addressed.receiver) {
            return match addressed.to_room {
                true => self.pass_on(Addressed { stage: Stage::NoUser, ..addressed }),
                false => self.no_receiver(addressed),
            };
        }
        if self.was_done(&addressed.asker, &addressed.receiver) {
            self.counters.repeated.add(1);
            return self.done(&addressed.asker);
        }
        match client.map(|client| self.whereabouts(client)) {
            Some(Some(at)) if at.shard == self.id => self.act(at.conn, addressed),
            Some(Some(at)) => self.post(at.shard, Mail::Act { to: at.conn, what: Box::new(addressed) }),
            Some(None) => self.no_receiver(addressed),
            None => self.tell_many(addressed),
        }
    }

    /// Does to a client of this shard what is wanted.
    pub(super) fn act(&mut self, to: ConnId, what: Addressed) {
        let done = match &what.act {
            Act::Send(payload) => self.send(to, MessageKind::Text, payload),
            Act::Close { code, reason } => {
                let is_open = self.conns.get(to).is_some_and(Conn::is_open);
                self.close(to, *code, reason, CloseReason::Application);
                is_open
            }
            Act::Join(_) | Act::Leave(_) | Act::Identify(_) => return self.change_membership(to, what),
        };
        if done { self.done(&what.asker) } else { self.pass_on(Addressed { stage: Stage::Failed, ..what }) }
    }

    /// Sends a message to all connections of a user, or to the members of a room but the sender.
    fn tell_many(&mut self, addressed: Addressed) {
        let payload = match &addressed.act {
            Act::Send(payload) => payload,
            Act::Close { .. } if addressed.stage == Stage::Sent => return self.close_user(addressed),
            _ => return self.no_receiver(addressed),
        };
        let (topic, but) = match addressed.stage {
            Stage::NoUser => {
                let is_room = self.rooms.contains_key(&*addressed.receiver);
                (is_room.then(|| self.hub.find(&addressed.receiver)).flatten(), addressed.asker.to.origin())
            }
            Stage::Sent | Stage::Failed => (self.hub.find(&user_topic(&addressed.receiver)), None),
        };
        let Some(topic) = topic else { return self.no_receiver(addressed) };
        self.notify(topic, payload.clone(), but);
        self.done(&addressed.asker);
    }

    /// Closes all connections of a user that is at home here.
    fn close_user(&mut self, addressed: Addressed) {
        let Some(topic) = self.hub.find(&user_topic(&addressed.receiver)) else { return self.no_receiver(addressed) };
        for (shard, remote) in self.hub.interested(topic).to_vec() {
            self.post(shard, Mail::ActAll { topic: remote, act: Box::new(addressed.act.clone()) });
        }
        let here = self.hub.handle(topic);
        self.act_on_all(here, &addressed.act);
        self.done(&addressed.asker);
    }

    /// Does to the clients of this shard that are subscribed to a user's topic what can be done to them all: close them.
    pub(super) fn act_on_all(&mut self, topic: TopicHandle, act: &Act) {
        let (Some(topic), Act::Close { code, reason }) = (self.hub.resolve(topic), act) else { return };
        let ids: Vec<_> = self.hub.subscribers_of(topic).filter_map(|index| self.conns.id(index)).collect();
        for id in ids {
            self.close(id, *code, reason, CloseReason::Application);
        }
    }

    /// Whether a user that is at home here has a connection.
    fn is_user(&self, user: &str) -> bool {
        let topic = self.hub.find(&user_topic(user));
        topic.is_some_and(|topic| self.hub.subscribers(topic) > 0 || !self.hub.interested(topic).is_empty())
    }

    /// Whether the same was done before. If not, it is known from now on.
    fn was_done(&mut self, asker: &Asker, receiver: &str) -> bool {
        let (Some(client), Some(id), true) = (asker.client, asker.id.as_deref(), asker.ack) else { return false };
        let to = mailing(receiver);
        let known = self.window.find(self.now, client, &to, id).is_some();
        if !known {
            self.window.note(self.now, client, &to, id, NOWHERE);
        }
        known
    }

    fn done(&mut self, asker: &Asker) {
        self.counters.addressed.add(1);
        self.confirm_to(asker);
    }

    /// Acknowledges what has no place in a topic, if that is wanted.
    pub(super) fn confirm_to(&mut self, asker: &Asker) {
        if let Some(id) = asker.id.clone().filter(|_| asker.ack) {
            self.inform(&asker.to, Answer::Ack { id, place: None });
        }
    }

    /// There is nobody; so the same may be sent again.
    fn no_receiver(&mut self, addressed: Addressed) {
        self.counters.undeliverable.add(1);
        let Addressed { receiver, asker, .. } = addressed;
        if let (Some(client), Some(id)) = (asker.client, &asker.id) {
            self.window.forget(client, &mailing(&receiver), id);
        }
        self.inform(&asker.to, Answer::NoReceiver { receiver, id: asker.id });
    }

    /// Tells whoever asked, wherever it is.
    pub(super) fn inform(&mut self, to: &Return, answer: Answer) {
        match to {
            Return::Conn(at) if at.shard == self.id => self.tell_answer(at.conn, &answer),
            Return::Conn(at) => self.post(at.shard, Mail::Answer { to: at.conn, answer: Box::new(answer) }),
            // A caller that does not wait any more, or wanted one answer and has it.
            Return::Caller(caller) => drop(caller.try_send(answer)),
        }
    }
}
