//! A client that may not do everything. It knows what it may: it is to get that, and nothing else, in the order in which it asks.

use std::collections::BTreeSet;

use super::*;
use crate::simulation::guard::{Pass, Word, user_of};

/// What it sends where it may not: nobody must ever see that.
const FORBIDDEN: &str = "\"forbidden\"";

/// What it waits to be told, one after the other.
#[derive(PartialEq, Eq, Debug)]
enum Reply {
    /// By topic.
    Subscribed(BTreeMap<usize, Word>),
    /// Each with how many the client had published there itself.
    Unsubscribed(Vec<(usize, usize)>),
    /// Of the message of this id.
    Refused(usize, Word),
    Pong,
}

/// What a guest is at.
#[derive(Default)]
pub struct Guest {
    due: VecDeque<Reply>,
    /// Topics whose tokens are being checked, and what will come of it; those are answered at any time.
    wishes: BTreeMap<usize, (bool, Word)>,
    /// Topics that tokens of their own have allowed.
    by_token: BTreeSet<usize>,
    /// It has asked to stay: until then, if it may.
    renewal: Option<Option<u64>>,
    /// When its time is over, in milliseconds.
    expires: Option<u64>,
    ids: usize,
    acks: BTreeMap<usize, Message>,
}

impl Client {
    /// Asks as somebody who is known.
    pub fn bring_pass(&mut self, plan: &Plan, now: Tick, oracle: &mut Oracle, rng: &mut Rng) {
        let Some(rule) = plan.guard else { return };
        let pass = match self.persona {
            Persona::Guest => Pass::some(plan, rule, ms(now), rng),
            Persona::Sender => Pass::full(false),
            Persona::Raw { .. } | Persona::Json | Persona::Follower | Persona::Reader => Pass::full(true),
            _ => return,
        };
        let end = self.outgoing.len() - 2;
        self.outgoing.truncate(end);
        self.outgoing.extend(format!("Authorization: Bearer pass/{}\r\n\r\n", self.id).into_bytes());
        if let (Err(status), Some(last)) = (pass.door, self.expected.back_mut()) {
            *last = status;
        }
        self.guest.expires = pass.expires;
        oracle.guard.passes.insert(self.id, pass);
    }

    /// Whether its pass may be over.
    pub(super) fn has_expired(&self, now: Tick) -> bool {
        self.guest.expires.is_some_and(|end| end <= ms(now))
    }

    /// Whether it is still there, though its time was over long ago.
    pub fn has_outstayed(&self, now: Tick) -> bool {
        self.is_open() && self.has_expired(now)
    }

    /// It is let in: it may be.
    pub(super) fn check_pass(&self, oracle: &Oracle) {
        let may = oracle.guard.passes.get(&self.id).is_none_or(|pass| pass.door.is_ok() && !pass.dead);
        assert!(may, "client {} is let in", self.id);
    }

    /// The welcome says who it is, and for how long.
    pub(super) fn check_name(&self, event: &Value, scene: &Scene<'_>) {
        if self.persona != Persona::Sender && scene.oracle.guard.passes.contains_key(&self.id) {
            assert_eq!(event["user"], *user_of(self.id), "client {}: {event}", self.id);
            assert_eq!(event["expires"].as_u64(), self.guest.expires, "client {}: {event}", self.id);
        }
    }

    // What it does.

    /// Asks for something.
    pub(super) fn visit(&mut self, scene: &mut Scene<'_>) {
        let topics = some_topics(scene);
        match scene.rng.below(10) {
            0..5 => self.wish(topics, scene),
            5..7 => {
                let topics = topics.into_iter().filter(|topic| !self.guest.wishes.contains_key(topic));
                let topics: Vec<_> = topics.map(|topic| (topic, scene.oracle.count(self.id, topic))).collect();
                if !topics.is_empty() {
                    // So ends the leave that a topic's token is.
                    topics.iter().for_each(|(topic, _)| _ = self.guest.by_token.remove(topic));
                    let names: Vec<_> = topics.iter().map(|(topic, _)| &scene.oracle.names[*topic]).collect();
                    self.say_json(&json!({"type": "unsubscribe", "topics": names}), scene.rng);
                    self.guest.due.push_back(Reply::Unsubscribed(topics));
                }
            }
            7 => {
                self.say_json(&json!({"type": "ping"}), scene.rng);
                self.guest.due.push_back(Reply::Pong);
            }
            _ if scene.plan.guard.is_some_and(|rule| rule.gate) && self.guest.renewal.is_none() => self.renew(scene),
            _ => {}
        }
    }

    /// Subscribes, at times with tokens.
    pub(super) fn wish(&mut self, mut topics: Vec<usize>, scene: &mut Scene<'_>) {
        topics.retain(|topic| !self.guest.wishes.contains_key(topic));
        if topics.is_empty() {
            return;
        }
        let pass = &scene.oracle.guard.passes[&self.id];
        let has_gate = scene.plan.guard.is_some_and(|rule| rule.gate);
        let (mut due, mut asked, mut tokens) = (BTreeMap::new(), BTreeMap::new(), serde_json::Map::new());
        for &topic in &topics {
            if pass.may_subscribe(topic) || self.guest.by_token.contains(&topic) {
                asked.insert(topic, pass.subscribes(topic));
            } else if has_gate && !self.waits_for(topic) && scene.rng.percent(60) {
                let kind = scene.rng.pick(&["pass", "pass", "pass", "anothers", "elsewhere", "bad"]);
                tokens.insert(scene.oracle.names[topic].clone(), format!("{kind}/{}", self.id).into());
                let word = if kind == "pass" { pass.subscribes(topic) } else { Word::No };
                self.guest.wishes.insert(topic, (kind == "pass", word));
            } else {
                due.insert(topic, Word::No);
            }
        }
        // They are one question.
        if asked.values().any(|word| *word == Word::None) {
            asked.values_mut().for_each(|word| *word = Word::None);
        }
        due.extend(asked);
        if !due.is_empty() {
            self.guest.due.push_back(Reply::Subscribed(due));
        }
        let names: Vec<_> = topics.iter().map(|&topic| &scene.oracle.names[topic]).collect();
        let text = json!({"type": "subscribe", "topics": names, "tokens": tokens});
        self.say_json(&text, scene.rng);
    }

    /// Asks to stay for longer.
    fn renew(&mut self, scene: &mut Scene<'_>) {
        let kind = scene.rng.pick(&["pass", "pass", "pass", "anothers", "bad"]);
        let later = self.guest.expires.unwrap_or(0).max(ms(scene.now)) + scene.rng.between(100, 3_000) as u64;
        let token = format!("{kind}/{}/{later}", self.id);
        self.guest.renewal = Some((kind == "pass").then_some(later));
        self.say_json(&json!({"type": "refresh", "token": token}), scene.rng);
    }

    /// Publishes, also where it may not.
    pub(super) fn publish_as_guest(&mut self, scene: &mut Scene<'_>) {
        let topic = scene.rng.below(scene.plan.topics);
        let word = scene.oracle.guard.passes[&self.id].publishes(topic);
        self.guest.ids += 1;
        let id = self.guest.ids;
        let ack = scene.rng.percent(50);
        let data = match word {
            Word::Yes => {
                let padding = scene.rng.below(scene.plan.payload);
                let payload = scene.oracle.publish(self.id, topic, Form::Data, padding);
                let message = Message { publisher: self.id, topic, seq: scene.oracle.count(self.id, topic) };
                scene.tally.published += 1;
                if ack {
                    self.guest.acks.insert(id, message);
                }
                String::from_utf8(payload).expect("text")
            }
            _ => {
                self.guest.due.push_back(Reply::Refused(id, word));
                FORBIDDEN.to_owned()
            }
        };
        let name = &scene.oracle.names[topic];
        let text = format!(r#"{{"type":"publish","topic":"{name}","data":{data},"id":{id},"ack":{ack}}}"#);
        note(|| format!("c{} publishes {} {word:?}", self.id, &text[..text.len().min(80)]));
        self.say_message(TEXT, text.as_bytes(), scene.rng);
    }

    fn say_json(&mut self, text: &Value, rng: &mut Rng) {
        note(|| format!("c{} says {text}", self.id));
        self.say_message(TEXT, text.to_string().as_bytes(), rng);
    }

    // What it is told.

    pub(super) fn guest_told(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let kind = event["type"].as_str().expect("a type");
        assert!(self.welcomed != (kind == "connected"), "the welcome comes first, and once");
        match kind {
            "connected" => {
                self.check_name(event, scene);
                self.welcomed = true;
            }
            "gap" => self.told += event["dropped"].as_u64().expect("a count") as usize,
            "subscribed" => self.is_subscribed(event, scene),
            "unsubscribed" => {
                let Some(Reply::Unsubscribed(topics)) = self.guest.due.pop_front() else { panic!("{event}") };
                self.unsubscribed(&topics, event, scene.plan);
            }
            "pong" => assert_eq!(self.guest.due.pop_front(), Some(Reply::Pong), "client {}", self.id),
            "ack" => self.is_ordered(event, scene),
            "refreshed" => {
                let end = event["expires"].as_u64();
                assert_eq!(self.guest.renewal.take(), Some(end), "client {}: {event}", self.id);
                self.guest.expires = end;
                scene.tally.renewed += 1;
            }
            "error" if event["code"] == "bad_token" => {
                let renewal = self.guest.renewal.take().expect("it has asked for that");
                assert!(renewal.is_none_or(|end| end <= ms(scene.now)), "client {}: {event}", self.id);
            }
            "error" => {
                let word = match event["code"].as_str() {
                    Some("not_allowed") => Word::No,
                    Some("busy") => Word::None,
                    _ => panic!("client {}: {event}", self.id),
                };
                let refused = Reply::Refused(event["id"].as_u64().expect("an id") as usize, word);
                assert_eq!(self.guest.due.pop_front(), Some(refused), "client {}: {event}", self.id);
                scene.tally.forbidden += 1;
            }
            _ => panic!("client {}: {event}", self.id),
        }
    }

    fn is_ordered(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let id = event["id"].as_u64().expect("an id") as usize;
        let message = self.guest.acks.remove(&id).unwrap_or_else(|| panic!("client {}: {event}", self.id));
        let epoch = event["epoch"].as_str().expect("an epoch").to_owned();
        scene.oracle.place(message, epoch, event["offset"].as_u64().expect("an offset"));
    }

    fn is_subscribed(&mut self, event: &Value, scene: &mut Scene<'_>) {
        for result in event["topics"].as_array().expect("a list") {
            let topic = scene.oracle.names.iter().position(|name| result["topic"] == **name).expect("a topic of ours");
            let (has_pass, word) = match self.guest.wishes.remove(&topic) {
                Some(wish) => wish,
                None => (false, self.due_of(topic).unwrap_or_else(|| panic!("client {}: {event}", self.id))),
            };
            let full = !self.views.contains_key(&topic) && self.views.len() >= scene.plan.settings.max_topics as usize;
            let error = match word {
                Word::Yes if full => Some("too_many_topics"),
                Word::Yes => None,
                Word::No => Some("not_allowed"),
                Word::None => Some("busy"),
            };
            assert_eq!(result["error"].as_str(), error, "client {}: {event}", self.id);
            scene.tally.forbidden += usize::from(word != Word::Yes);
            // A topic's token that comes to nothing is of no further use.
            if has_pass && (error.is_none() || self.views.contains_key(&topic)) {
                self.guest.by_token.insert(topic);
            }
            if error.is_none() && !self.views.contains_key(&topic) {
                self.views.insert(topic, View::new(scene.oracle, self.id, topic, true));
            }
        }
    }

    /// Whether an answer about this topic is due, besides those that tokens are checked for.
    fn waits_for(&self, topic: usize) -> bool {
        self.guest.due.iter().any(|reply| matches!(reply, Reply::Subscribed(due) if due.contains_key(&topic)))
    }

    /// What is due of a topic that it has asked for.
    fn due_of(&mut self, topic: usize) -> Option<Word> {
        let Some(Reply::Subscribed(due)) = self.guest.due.front_mut() else { return None };
        let word = due.remove(&topic)?;
        if due.is_empty() {
            self.guest.due.pop_front();
        }
        Some(word)
    }

    /// Nothing is under way any more.
    pub(super) fn check_guest(&self) {
        let Guest { due, wishes, renewal, acks, .. } = &self.guest;
        assert!(due.is_empty() && wishes.is_empty(), "client {} lacks answers: {due:?}, {wishes:?}", self.id);
        assert!(renewal.is_none() && acks.is_empty(), "client {} lacks answers: {renewal:?}, {acks:?}", self.id);
    }

    /// Whether it waits for no answer.
    pub(super) fn is_settled(&self) -> bool {
        self.guest.due.is_empty() && self.guest.wishes.is_empty()
    }
}

pub(super) fn some_topics(scene: &mut Scene<'_>) -> Vec<usize> {
    let mut topics: Vec<_> = (0..scene.rng.between(1, 3)).map(|_| scene.rng.below(scene.plan.topics)).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn ms(now: Tick) -> u64 {
    u64::from(now.0) * 10
}
