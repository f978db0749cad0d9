//! Messages that are for one client, or for the other members of one room.

use bytes::Bytes;

use crate::conn::Session;
use crate::dialect::{Receipt, json};
use crate::error::CloseReason;
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

use super::Core;
use super::mail::{Addressed, Answer, Mail, Origin};

/// The close code of a connection whose client has connected anew.
const REPLACED: u16 = 4001;

impl Core {
    /// The name of the client of a `json` connection.
    pub(super) fn client_of(&self, id: ConnId) -> Option<u64> {
        match &self.conns.get(id)?.session {
            Session::Json { more, .. } => Some(self.client_named(id, more.as_ref().and_then(|more| more.claimed))),
            _ => None,
        }
    }

    /// The same of a connection that has claimed a name, or not.
    pub(super) fn client_named(&self, id: ConnId, claimed: Option<u64>) -> u64 {
        claimed.unwrap_or_else(|| self.shared.identity().client(self.id, id))
    }

    /// Sends a client's message to whom it is for.
    pub(super) fn address(&mut self, id: ConnId, receiver: &str, object: Vec<u8>, receipt: Option<Receipt<'_>>) {
        let Some(sender) = self.client_of(id) else { return };
        let object = json::signed(object, sender, None);
        let (ack, name) = receipt.map_or((false, None), |receipt| (receipt.ack, Some(receipt.id.into())));
        let addressed = Addressed {
            receiver: receiver.into(),
            payload: object.into(),
            sender,
            from: Origin { shard: self.id, conn: id },
            id: name,
            ack,
        };
        let shard = match json::parse_client_id(receiver) {
            Some(client) => self.shared.identity().whereabouts(client).0,
            None => self.shared.home(receiver),
        };
        self.pass_on(shard, addressed);
    }

    fn pass_on(&mut self, shard: u16, addressed: Addressed) {
        if shard == self.id {
            self.addressed(addressed);
        } else if usize::from(shard) < self.postboxes.len() {
            self.post(shard, Mail::Address(Box::new(addressed)));
        } else {
            self.no_receiver(addressed);
        }
    }

    /// A message for a client whose name leads here, or for a room that is at home here.
    pub(super) fn addressed(&mut self, addressed: Addressed) {
        if let Some(id) = addressed.id.as_deref().filter(|_| addressed.ack)
            && self.window.find(self.now, addressed.sender, &addressed.receiver, id).is_some()
        {
            self.counters.repeated.add(1);
            return self.acknowledge_addressed(&addressed);
        }
        let delivered = match json::parse_client_id(&addressed.receiver) {
            Some(client) => match self.whereabouts(client) {
                Some(at) if at.shard == self.id => self.send(at.conn, MessageKind::Text, &addressed.payload),
                Some(at) => {
                    let payload = addressed.payload.clone();
                    self.post(at.shard, Mail::Send { to: at.conn, payload });
                    true
                }
                None => false,
            },
            None => self.tell_room(&addressed),
        };
        if !delivered {
            return self.no_receiver(addressed);
        }
        self.counters.addressed.add(1);
        if let Some(id) = addressed.id.as_deref().filter(|_| addressed.ack) {
            self.window.note(self.now, addressed.sender, &addressed.receiver, id, super::NOWHERE);
            self.acknowledge_addressed(&addressed);
        }
    }

    fn tell_room(&mut self, addressed: &Addressed) -> bool {
        let topic = self.rooms.contains_key(&*addressed.receiver).then(|| self.hub.find(&addressed.receiver)).flatten();
        topic.is_some_and(|topic| {
            self.publish_here(topic, MessageKind::Text, &addressed.payload, Some(addressed.from), None);
            true
        })
    }

    fn acknowledge_addressed(&mut self, addressed: &Addressed) {
        if let Some(id) = addressed.id.clone() {
            self.inform(addressed.from, Answer::Ack { id, place: None });
        }
    }

    fn no_receiver(&mut self, addressed: Addressed) {
        self.counters.undeliverable.add(1);
        let Addressed { receiver, id, from, .. } = addressed;
        self.inform(from, Answer::NoReceiver { receiver, id });
    }

    /// Where the connection of a client is whose name leads here.
    fn whereabouts(&self, client: u64) -> Option<Origin> {
        // A claim first: the connection that had the name may not have ended yet.
        self.claims.get(&client).copied().or_else(|| {
            let (shard, conn) = self.shared.identity().whereabouts(client);
            let original = shard == self.id && self.client_of(conn) == Some(client);
            original.then_some(Origin { shard, conn })
        })
    }

    /// Tells the shard that a client's name leads to where the client is now, or that this connection is gone.
    pub(super) fn post_claim(&mut self, client: u64, by: Origin, gone: bool) {
        let (shard, _) = self.shared.identity().whereabouts(client);
        if shard == self.id {
            self.claim(client, by, gone);
        } else if usize::from(shard) < self.postboxes.len() {
            self.post(shard, Mail::Claim { client, by, gone });
        }
    }

    /// A client whose name leads here has connected anew, or that connection has ended. The older one is closed.
    pub(super) fn claim(&mut self, client: u64, by: Origin, gone: bool) {
        if gone {
            if self.claims.get(&client) == Some(&by) {
                self.claims.remove(&client);
            }
            return;
        }
        match self.whereabouts(client) {
            Some(old) if old.shard == self.id => self.replaced(old.conn),
            Some(old) => self.post(old.shard, Mail::Replaced { conn: old.conn }),
            None => {}
        }
        self.claims.insert(client, by);
    }

    /// The client of a connection has connected anew.
    pub(super) fn replaced(&mut self, id: ConnId) {
        self.close(id, REPLACED, "replaced", CloseReason::Replaced);
    }

    /// Sends bytes that another shard has for a client of this one.
    pub(super) fn send_mailed(&mut self, to: ConnId, payload: &Bytes) {
        self.send(to, MessageKind::Text, payload);
    }

    /// Tells a client, wherever its connection is.
    pub(super) fn inform(&mut self, to: Origin, answer: Answer) {
        if to.shard == self.id {
            self.tell(to.conn, answer.event());
        } else {
            self.post(to.shard, Mail::Answer { to: to.conn, answer: Box::new(answer) });
        }
    }
}
