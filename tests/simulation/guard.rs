//! Who decides what clients may do: what each of them is to be told, in answers that come late and in any order.

use std::collections::BTreeMap;
use std::time::Duration;

use uproar::auth::gate::{Purpose, Question as Token};
use uproar::auth::hook::{Answer, Cause, Event, Question, Refusal};
use uproar::auth::{Allowed, Denied, Judged, Pass as Leave, Said};
use uproar::config::{HookEvents, Patterns};

use super::plan::Plan;
use crate::common::rng::Rng;

/// Who is asked, and how late answers are.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Clients need tokens.
    pub gate: bool,
    /// The application is asked, about these.
    pub hook: Option<HookEvents>,
    /// Percent of the steps in which something is answered.
    pub pace: usize,
    /// Questions that are answered only when all comes to rest, of a thousand.
    pub held: usize,
}

impl Rule {
    pub fn new(calm: bool, rng: &mut Rng) -> Rule {
        let (gate, hook) = rng.pick(&[(true, false), (false, true), (true, true)]);
        let events =
            HookEvents { connect: !gate || rng.percent(50), subscribe: rng.percent(60), publish: rng.percent(60) };
        let held = if calm { 0 } else { rng.pick(&[0, 30, 100]) };
        Rule { gate, hook: hook.then_some(events), pace: rng.pick(&[5, 15, 50]), held }
    }

    fn asks(&self, what: impl Fn(HookEvents) -> bool) -> bool {
        self.hook.is_some_and(what)
    }

    /// Whether the application is asked about whoever wants to come in.
    fn asks_at_door(&self) -> bool {
        self.asks(|events| events.connect || events.subscribe)
    }
}

/// What the application says of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    Yes,
    No,
    /// Nothing.
    None,
}

/// What a client may do with a topic.
#[derive(Clone, Copy, Debug)]
struct Right {
    /// By its token, or by what the application has said when it came.
    granted: bool,
    word: Word,
}

const FULL: Right = Right { granted: true, word: Word::Yes };

/// All that is decided of a client.
pub struct Pass {
    /// The status that its request is answered with otherwise.
    pub door: Result<(), u16>,
    /// When it is over, in milliseconds.
    pub expires: Option<u64>,
    /// It was over when it was to be answered.
    pub dead: bool,
    /// It says who the client is.
    named: bool,
    /// By topic: to subscribe, and to publish. If there are none, all is allowed.
    rights: Vec<[Right; 2]>,
}

impl Pass {
    /// Of one who may do everything.
    pub fn full(named: bool) -> Pass {
        Pass { door: Ok(()), expires: None, dead: false, named, rights: Vec::new() }
    }

    /// Of one who may not.
    pub fn some(plan: &Plan, rule: Rule, now_ms: u64, rng: &mut Rng) -> Pass {
        let mut statuses = vec![401];
        if rule.asks_at_door() {
            statuses.extend([403, 503]);
        }
        let refused = !plan.calm && rng.percent(20);
        let expires = (!plan.calm && rng.percent(40)).then(|| now_ms + rng.between(100, 6_000) as u64);
        let mut right = |asks| {
            let word =
                if asks { rng.pick(&[Word::Yes, Word::Yes, Word::Yes, Word::No, Word::None]) } else { Word::Yes };
            Right { granted: rng.percent(60), word }
        };
        let (subscribe, publish) = (rule.asks(|events| events.subscribe), rule.asks(|events| events.publish));
        let rights = (0..plan.topics).map(|_| [right(subscribe), right(publish)]).collect();
        let door = if refused { Err(rng.pick(&statuses)) } else { Ok(()) };
        Pass { door, expires, dead: false, named: true, rights }
    }

    fn right(&self, topic: usize, which: usize) -> Right {
        self.rights.get(topic).map_or(FULL, |rights| rights[which])
    }

    pub fn may_subscribe(&self, topic: usize) -> bool {
        self.right(topic, 0).granted
    }

    pub fn subscribes(&self, topic: usize) -> Word {
        self.right(topic, 0).word
    }

    /// What comes of a publication.
    pub fn publishes(&self, topic: usize) -> Word {
        let Right { granted, word } = self.right(topic, 1);
        if granted { word } else { Word::No }
    }

    fn user(&self, id: usize) -> Option<Box<str>> {
        self.named.then(|| user_of(id))
    }

    /// The topics that it may have, as patterns; nothing where it may have all.
    fn allowed(&self, names: &[String]) -> Allowed {
        let some = |which| {
            let names = self.rights.iter().zip(names).filter(|(rights, _)| rights[which as usize].granted);
            (!self.rights.is_empty()).then(|| Patterns(names.map(|(_, name)| name.as_str().into()).collect()))
        };
        Allowed { subscribe: some(0), publish: some(1), ..Allowed::default() }
    }
}

/// What a token is, whose, and until when.
fn words(token: &str) -> (&str, usize, Option<u64>) {
    let mut words = token.split('/');
    let kind = words.next().expect("a kind");
    let id = words.next().and_then(|id| id.parse().ok()).expect("a token says whose it is");
    (kind, id, words.next().and_then(|end| end.parse().ok()))
}

/// What comes of a topic's token.
fn leave(token: &str) -> Result<Leave, Denied> {
    match words(token) {
        ("pass", id, _) => Ok(Leave { user: Some(user_of(id)), expires: None }),
        ("anothers", ..) => Ok(Leave { user: Some("somebody".into()), expires: None }),
        ("elsewhere", ..) => Err(Denied::Purpose),
        _ => Err(Denied::Invalid),
    }
}

pub fn user_of(id: usize) -> Box<str> {
    format!("user/of/{id}").into()
}

/// The passes of all clients.
pub struct Guard {
    pub passes: BTreeMap<usize, Pass>,
    gate: bool,
}

impl Guard {
    pub fn new(plan: &Plan) -> Guard {
        let gate = plan.guard.is_some_and(|rule| rule.gate);
        Guard { passes: BTreeMap::new(), gate }
    }

    /// What comes of a token: it says what it is, and whose.
    pub fn check(&mut self, asked: &Token, names: &[String], now_ms: u64) -> Judged {
        match &asked.purpose {
            Purpose::Connect => Judged::Connect(self.session(asked, names, now_ms)),
            Purpose::Refresh => Judged::Refresh(self.session(asked, names, now_ms)),
            Purpose::Subscribe(topic) => Judged::Subscribe(topic.clone(), leave(&asked.token)),
        }
    }

    fn session(&mut self, asked: &Token, names: &[String], now_ms: u64) -> Result<Said, Denied> {
        let (kind, id, end) = words(&asked.token);
        let pass = self.passes.get_mut(&id).expect("it was given to somebody");
        let said = |user, expires| Said { user, expires, allowed: pass.allowed(names) };
        match (&asked.purpose, kind) {
            (_, "bad") => Err(Denied::Invalid),
            (Purpose::Connect, "pass") if pass.door == Err(401) => Err(Denied::Invalid),
            (Purpose::Connect, "pass") => {
                let said = said(pass.user(id), pass.expires);
                pass.dead |= pass.expires.is_some_and(|end| end <= now_ms);
                Ok(said)
            }
            (Purpose::Refresh, "pass") => Ok(said(pass.user(id), end)),
            (Purpose::Refresh, "anothers") => Ok(said(Some("somebody".into()), None)),
            other => panic!("no token for that: {other:?}"),
        }
    }

    /// What the application says.
    pub fn decide(&mut self, asked: &Question, names: &[String], now_ms: u64) -> Result<Answer, Refusal> {
        let id = match (&asked.user, &asked.token) {
            (Some(user), _) => user.strip_prefix("user/of/"),
            (None, Some(token)) => token.strip_prefix("pass/"),
            (None, None) if asked.path.is_some() && !self.gate => return Err(Refusal::Refused(401)),
            (None, None) => return Ok(Answer::default()),
        };
        let id = id.and_then(|id| id.parse().ok()).expect("whose it is");
        let pass = self.passes.get_mut(&id).expect("one of ours");
        if asked.path.is_none() {
            return pass.word(asked, names);
        }
        match pass.door {
            Err(503) => Err(Refusal::Undecided(Cause::Timeout, Duration::from_millis(1_001))),
            Err(status) => Err(Refusal::Refused(status)),
            // What the token says is not said again.
            Ok(()) if self.gate => Ok(Answer::default()),
            Ok(()) => {
                pass.dead |= pass.expires.is_some_and(|end| end <= now_ms);
                Ok(Answer { user: pass.user(id), expires: pass.expires, allowed: pass.allowed(names) })
            }
        }
    }
}

impl Pass {
    /// What the application says of what somebody does who is in.
    fn word(&self, asked: &Question, names: &[String]) -> Result<Answer, Refusal> {
        let which = usize::from(asked.event == Event::Publish);
        let number = |topic: &str| names.iter().position(|name| *name == *topic).expect("a topic of ours");
        let words: Vec<Word> = asked.topics.iter().map(|topic| self.right(number(topic), which).word).collect();
        if words.contains(&Word::None) {
            return Err(Refusal::Undecided(Cause::Failed, Duration::from_secs(1)));
        }
        if !words.contains(&Word::Yes) {
            return Err(Refusal::Refused(403));
        }
        let some = asked.topics.iter().zip(&words).filter(|(_, word)| **word == Word::Yes);
        let some = Some(Patterns(some.map(|(topic, _)| topic.to_string()).collect()));
        let allowed = match asked.event {
            Event::Publish => Allowed { publish: some, ..Allowed::default() },
            _ => Allowed { subscribe: some, ..Allowed::default() },
        };
        Ok(Answer { allowed, ..Answer::default() })
    }
}
