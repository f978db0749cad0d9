//! What clients ask to subscribe to, as far as they may.

use std::borrow::Cow;

use crate::auth::hook::Event as Asked;
use crate::dialect::{Credential, Event, Refusal, Since};
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;

use super::Core;
use super::hook_message::Waiting;

/// Topics to subscribe to, and where the client was in them.
type Wishes<'a> = Vec<(Cow<'a, str>, Option<Since>)>;

/// What of a topic's past a client wants that subscribes to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) since: Option<Since>,
    pub(super) recover: bool,
}

impl Core {
    /// Subscribes to topics as far as the client may, and the application says.
    pub(super) fn subscribe_all(
        &mut self,
        id: ConnId,
        topics: Wishes<'_>,
        recover: bool,
        tokens: &[(Cow<'_, str>, Credential<'_>)],
    ) {
        let (mut results, mut asked) = (Vec::new(), Vec::new());
        for (topic, since) in topics {
            let wish = Wish { since: since.filter(|_| recover), recover };
            let token = tokens.iter().find(|(name, _)| *name == topic).map(|(_, token)| &*token.0);
            // One for a topic that an earlier one allows may be for longer.
            let begun = match token.filter(|_| !self.permissions(id).subscribe.includes(&topic)) {
                Some(token) => self.ask_to_subscribe(id, &topic, wish, token).map(|()| false),
                None => match self.may_join(id, &topic, wish) {
                    Ok(()) if self.asks_about(Asked::Subscribe) => {
                        asked.push((topic.as_ref().into(), wish));
                        Ok(false)
                    }
                    allowed => allowed.and_then(|()| self.join(id, &topic, wish)),
                },
            };
            match begun {
                Ok(true) => results.push((topic, Ok(None))),
                // The client is told when somebody else has answered.
                Ok(false) => {}
                Err(refusal) => results.push((topic, Err(refusal))),
            }
        }
        if !results.is_empty() {
            self.tell(id, Event::Subscribed(&results));
        }
        if !asked.is_empty() {
            self.wait_for_word(id, Waiting::Subscribe(asked));
        }
    }

    /// Whether a client may subscribe to a topic, as far as its token goes.
    pub(super) fn may_join(&self, id: ConnId, topic: &str, wish: Wish) -> Result<(), Refusal> {
        if !is_topic_name(topic) {
            return Err(Refusal::BadName);
        }
        if !self.may_subscribe(id, topic) || wish.recover && !self.permissions(id).history.includes(topic) {
            self.counters.not_allowed.add(1);
            log_conn!(self, id, topic, "a subscription was not allowed");
            return Err(Refusal::NotAllowed);
        }
        Ok(())
    }

    /// Subscribes to a topic: whether it is done, or begun.
    pub(super) fn join(&mut self, id: ConnId, topic: &str, wish: Wish) -> Result<bool, Refusal> {
        // Whoever wants to know of the past is told when the home shard has answered.
        match wish.recover || self.has_last_value(topic) {
            true => self.recover(id, topic, wish.since, wish.recover).map(|()| false),
            false => self.subscribe(id, topic).map(|_| true),
        }
    }

    /// Ends subscriptions.
    pub(super) fn unsubscribe_all(&mut self, id: ConnId, topics: Vec<Cow<'_, str>>) {
        let results: Vec<_> = topics
            .into_iter()
            .map(|topic| {
                // A connection stays in its rooms.
                let left = !self.is_member(id, &topic) && self.give_up(id, &topic);
                (topic, left)
            })
            .collect();
        self.tell(id, Event::Unsubscribed(&results));
    }

    /// Ends a subscription, or the wait for one; `false` if there was neither.
    pub(super) fn give_up(&mut self, id: ConnId, topic: &str) -> bool {
        let awaited = self.cancel_waits(id, topic);
        self.drop_pass(id, topic);
        self.unsubscribe(id, topic) || awaited
    }
}
