//! Subscriptions that go on where the client was: what its home shard kept of a topic, and then the topic as it is.
//!
//! Both are cut at one offset. The home shard answers with what it has and with its position, in one mail; deliveries that
//! it has posted before lie before that mail in the mailbox, those after it behind. So the subscriber joins the topic here
//! when the answer is read, and nothing is missing or doubled. Until then the topic is pinned: the home shard goes on
//! sending, though nobody here may be subscribed yet.

use std::borrow::Cow;

use crate::conn::{Awaited, Session, Then};
use crate::dialect::{Event, Position, Refusal, Since, json, sse};
use crate::hub;
use crate::hub::history::Kept;
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;

use super::mail::{Mail, Origin, Past, Recover, Recovered, Wanted};
use super::{Core, NO_TOPIC};

impl Core {
    /// Begins to subscribe a `json` connection or an event stream, to be told when the home shard has answered. `recover`:
    /// in an envelope.
    pub(super) fn recover(
        &mut self,
        id: ConnId,
        topic: &str,
        since: Option<Since>,
        recover: bool,
    ) -> Result<(), Refusal> {
        if !is_topic_name(topic) {
            return Err(Refusal::BadName);
        }
        let known = self.hub.find(topic);
        let joined = known.is_some_and(|local| self.hub.is_subscribed(id.index, local));
        // Asked for again, it is no topic more; but what is waited for is bounded too.
        let again = joined || known.is_some_and(|local| self.awaits(id, local));
        let awaited = self.conns.get(id).map_or(0, |conn| conn.session.awaited().len());
        let full = if again { awaited >= self.settings.max_topics as usize } else { self.has_all_topics(id) };
        if full {
            return Err(Refusal::TooMany);
        }
        self.ask_for_past(id, topic, Wanted { since, recover }, Then::Tell);
        Ok(())
    }

    /// Subscribes a connection that is being opened to the topic of its path, once the home shard has answered with the
    /// newest message, or what else is wanted; the local topic. If it does not expect to be told, it is held until then.
    pub(super) fn open_with_past(&mut self, id: ConnId, topic: &str, wanted: Wanted) -> u32 {
        let then = if wanted.recover { Then::Tell } else { Then::Release };
        if let Some(conn) = self.conns.get_mut(id).filter(|_| then == Then::Release) {
            conn.held = conn.held.saturating_add(1);
        }
        self.ask_for_past(id, topic, wanted, then)
    }

    fn ask_for_past(&mut self, id: ConnId, topic: &str, wanted: Wanted, then: Then) -> u32 {
        let local = self.hub.intern(topic);
        self.hub.pin(local);
        if !self.await_past(id, Awaited { topic: local, then }) {
            self.unpin(local);
            return local;
        }
        let handle = self.hub.handle(local);
        let home = self.shared.home(topic);
        if home == self.id {
            let past = self.past(local, wanted);
            self.join_awaited(id, local, wanted.recover, past);
        } else {
            let from = Origin { shard: self.id, conn: id };
            self.post(home, Mail::Recover(Box::new(Recover { name: topic.into(), topic: handle, from, wanted })));
        }
        local
    }

    /// At the home shard: what a subscriber of another shard has missed. It is sent what is published from here on.
    pub(super) fn recover_for(&mut self, mail: Recover) {
        let Recover { name, topic, from, wanted } = mail;
        let home = self.hub.add_interest(&name, from.shard, topic);
        let Some(local) = self.hub.resolve(home) else { return };
        let past = self.past(local, wanted);
        let recovered = Recovered { topic, home, to: from.conn, recover: wanted.recover, past };
        self.post(from.shard, Mail::Recovered(Box::new(recovered)));
    }

    /// What there is of a topic that is ordered here, for somebody who was somewhere in it.
    fn past(&mut self, topic: u32, wanted: Wanted) -> Past {
        let hub::Position { epoch, offset } = self.hub.tell_position(topic);
        let now = Position { epoch, offset };
        let Some(since) = wanted.since else {
            let newest = self.hub.history(topic).and_then(|history| history.last_value());
            let messages = newest.cloned().into_iter().collect();
            return Past { now, reset: false, gap: None, messages, snapshot: true };
        };
        // Of another epoch, nothing is known: all of this one was missed. Who names none begins with all that is kept.
        let reset = since.epoch.is_some_and(|known| known != epoch);
        let had = if since.epoch == Some(epoch) { since.offset } else { 0 };
        let replay = self.hub.replay(topic, hub::Position { epoch, offset: had });
        Past { now, reset, gap: replay.gap, messages: replay.messages.cloned().collect(), snapshot: false }
    }

    /// The home shard has answered.
    pub(super) fn recovered(&mut self, mail: Recovered) {
        let Recovered { topic, home, to, recover, past } = mail;
        self.confirmed(topic, home, past.now.epoch);
        if let Some(local) = self.hub.resolve(topic) {
            self.join_awaited(to, local, recover, past);
        }
    }

    /// Subscribes a connection to a topic that it waits for, if it still does, and lets go of the topic.
    fn join_awaited(&mut self, id: ConnId, topic: u32, recover: bool, past: Past) {
        match self.stop_awaiting(id, topic) {
            Some(then @ (Then::Tell | Then::Release)) => self.join_recovered(id, topic, recover, past, then),
            Some(Then::OnlyRelease) => self.release(id),
            Some(Then::Nothing) | None => {}
        }
        self.unpin(topic);
    }

    /// What a connection was held for has come.
    pub(super) fn release(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.held = conn.held.saturating_sub(1);
        self.mark_dirty(id.index);
    }

    fn join_recovered(&mut self, id: ConnId, topic: u32, recover: bool, past: Past, then: Then) {
        let name = self.hub.name(topic).to_owned();
        // What it is subscribed to, it is until now: so nothing is missed meanwhile, and what is on its way comes first.
        self.unsubscribe(id, &name);
        let Some(class) = self.class_of(id, &name) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_subscriber(true);
        if then == Then::Release {
            self.release(id);
        }
        self.hub.subscribe(id.index, if recover { class.in_envelope() } else { class }, &name);
        let at = |offset| Position { epoch: past.now.epoch, offset };
        // A stream is in another epoch once it was told so: if it is cut off before, it is told when it comes again.
        if !past.reset {
            self.note_place(id, &name, at(past.start()));
        }
        if then == Then::Tell {
            let result = (Cow::Borrowed(&*name), Ok(recover.then_some(past.now)));
            self.tell(id, Event::Subscribed(&[result]));
        }
        let result = match (past.reset, past.gap) {
            (true, _) => &self.counters.resets,
            (false, Some(_)) => &self.counters.gaps,
            (false, None) => &self.counters.recovered,
        };
        result.add(u64::from(!past.snapshot));
        if past.reset || past.gap.is_some() {
            self.note_place(id, &name, at(past.gap.map_or(past.start(), |(_, to)| to)));
            self.tell(id, Event::Gap { topic: &name, epoch: past.now.epoch, reset: past.reset, lost: past.gap });
        }
        self.counters.replayed.add(past.messages.len() as u64);
        for kept in &past.messages {
            self.replay(id, &name, kept, recover.then_some(past.now.epoch), past.snapshot);
        }
    }

    /// Sends a message of the past, in an envelope if there is an epoch.
    fn replay(&mut self, id: ConnId, topic: &str, kept: &Kept, epoch: Option<u32>, snapshot: bool) {
        let Some(epoch) = epoch else {
            self.send(id, kept.kind, &kept.payload);
            return;
        };
        let mut text = Vec::with_capacity(kept.payload.len() + 128);
        let position = Position { epoch, offset: kept.offset };
        json::envelope(&mut text, topic, position, kept.kind, &kept.payload, snapshot);
        self.note_place(id, topic, position);
        self.tell_text(id, true, &text, sse::MESSAGE);
    }

    /// Takes the first of what a connection waits for in a topic, of which the home shard answers in order; what was to be
    /// done then.
    fn stop_awaiting(&mut self, id: ConnId, topic: u32) -> Option<Then> {
        let session = &mut self.conns.get_mut(id)?.session;
        if let Session::Raw { topic: own, .. } = *session {
            // It waits once, when it is opened.
            let waits = [NO_TOPIC, topic].contains(&own) && !self.hub.is_subscribed(id.index, topic);
            return waits.then_some(Then::Release);
        }
        let awaited = session.awaited_mut()?;
        let at = awaited.iter().position(|awaited| awaited.topic == topic)?;
        Some(awaited.remove(at).then)
    }

    /// Gives up whatever a connection waits for in a topic, and tells it so; `false` if it did not.
    pub(super) fn cancel_waits(&mut self, id: ConnId, topic: &str) -> bool {
        let Some(local) = self.hub.find(topic) else { return false };
        let Some(awaited) = self.conns.get_mut(id).and_then(|conn| conn.session.awaited_mut()) else { return false };
        let (mut told, mut untold) = (0, 0);
        for awaited in awaited.iter_mut().filter(|awaited| awaited.topic == local) {
            match awaited.then {
                Then::Tell => (awaited.then, told) = (Then::Nothing, told + 1),
                Then::Release => (awaited.then, untold) = (Then::OnlyRelease, untold + 1),
                Then::OnlyRelease | Then::Nothing => {}
            }
        }
        for _ in 0..told {
            self.tell(id, Event::Subscribed(&[(Cow::Borrowed(topic), Err(Refusal::GivenUp))]));
        }
        told + untold > 0
    }

    /// Whether a connection waits for a topic's past.
    pub(super) fn awaits(&self, id: ConnId, topic: u32) -> bool {
        let awaited = self.conns.get(id).map_or(&[][..], |conn| conn.session.awaited());
        awaited.iter().any(|awaited| awaited.topic == topic && matches!(awaited.then, Then::Tell | Then::Release))
    }

    /// Notes that a connection waits for a topic; `false` if it is none that does.
    fn await_past(&mut self, id: ConnId, awaited: Awaited) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if matches!(conn.session, Session::Raw { .. }) {
            return true;
        }
        conn.session.make_room();
        conn.session.awaited_mut().map(|all| all.push(awaited)).is_some()
    }

    pub(super) fn unpin(&mut self, topic: u32) {
        self.leave_topic(topic, |core| core.hub.unpin(topic));
    }

    /// Whether somebody who subscribes to the topic is to be sent its newest message.
    pub(super) fn has_last_value(&self, topic: &str) -> bool {
        self.settings.history.of(topic).is_some_and(|rule| rule.last_value)
    }
}
