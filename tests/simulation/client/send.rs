//! A client that wants to be sure: what it says has an id, is said again until it is acknowledged, and over connections.

use super::*;
use crate::simulation::ledger::Deed;
use crate::simulation::script::after_pages;

/// What may wait for an acknowledgement at a time.
const WINDOW: usize = 30;
/// Rooms that senders connect to.
const ROOMS: usize = 2;

/// What is said under an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Letter {
    Publication { topic: usize, seq: usize },
    Prompt(usize),
}

impl Letter {
    /// The id, as JSON. The same ones are used in every topic, and for prompts.
    fn id(self) -> String {
        match self {
            Letter::Publication { seq, .. } if seq % 2 == 0 => format!("\"{}\"", seq / 2),
            Letter::Publication { seq, .. } => format!("{}", seq / 2),
            Letter::Prompt(number) => format!("{number}"),
        }
    }

    /// What an `ack` or an error is about.
    fn of(answer: &Value, oracle: &Oracle) -> Letter {
        let id = &answer["id"];
        let Some(name) = answer["topic"].as_str() else {
            return Letter::Prompt(id.as_u64().expect("the id of a prompt") as usize);
        };
        let topic = oracle.names.iter().position(|topic| topic == name).expect("a topic of ours");
        let seq = match id.as_str() {
            Some(digits) => 2 * digits.parse::<usize>().expect("digits"),
            None => 2 * id.as_u64().expect("an integer") as usize + 1,
        };
        Letter::Publication { topic, seq }
    }
}

/// How far a client has come in what a backend does to it.
#[derive(Clone, Copy)]
struct Heard {
    /// The next deed; `None`: it has come back, and it is not known yet which was the first for this connection.
    next: Option<usize>,
    joined: bool,
}

/// Who a sender is, and what it has said, on this connection and those before.
#[derive(Default)]
pub struct Letters {
    /// `clientId` and token.
    name: Option<(String, String)>,
    room: usize,
    /// Not acknowledged, as first said.
    open: Vec<Letter>,
    done: Vec<Letter>,
    /// Prompts so far.
    prompts: usize,
    /// A connection of its that was never welcomed may yet be taken for the newest.
    contested: bool,
    /// Another connection has its name now.
    pub superseded: bool,
    /// It was somebody before this connection.
    returns: bool,
    /// A name that it must not be given: it could not prove it.
    denied: Option<String>,
    /// What is to be answered on this connection, and how often.
    asked: BTreeMap<Letter, usize>,
    /// Prompts of this connection that want no answer, but for an error.
    unasked: usize,
    heard: BTreeMap<usize, Heard>,
}

impl Letters {
    fn waiting(&self) -> usize {
        self.asked.values().sum::<usize>() + self.unasked
    }
}

impl Client {
    /// What it leaves to the connection that goes on; none if it was nobody yet, or has done so.
    pub fn hand_on(&mut self) -> Option<(usize, Letters)> {
        let letters = &mut self.letters;
        if letters.name.is_none() || std::mem::replace(&mut letters.superseded, true) {
            return None;
        }
        let heritage = Letters {
            name: letters.name.clone(),
            room: letters.room,
            open: std::mem::take(&mut letters.open),
            done: std::mem::take(&mut letters.done),
            prompts: letters.prompts,
            contested: letters.contested || !self.welcomed,
            returns: true,
            ..Letters::default()
        };
        Some((self.author, heritage))
    }

    /// Asks for a WebSocket, under the name that it had if there was one, which its server believes or cannot know.
    pub fn write_as(&mut self, heritage: Option<(usize, Letters)>, known: bool, oracle: &mut Oracle, rng: &mut Rng) {
        self.letters.room = rng.below(ROOMS);
        let mut claim = String::new();
        if let Some((author, letters)) = heritage {
            let (client, mut token) = letters.name.clone().expect("it has a name");
            if !known {
                self.letters.denied = Some(client.clone());
            } else if rng.percent(90) {
                oracle.ledger.comes_back(&client);
                (self.author, self.letters) = (author, letters);
            } else {
                // It proves nothing, so it is somebody new, and what it had to say is forgotten.
                self.letters.denied = Some(client.clone());
                token = token.chars().rev().collect();
            }
            claim = format!("&clientId={client}&token={token}");
        }
        let path = format!("/ws?room=hall/{}{claim}", self.letters.room);
        let extra = if rng.percent(25) { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let opening = after_pages(rng, wire::upgrade(&path, extra), 101);
        (self.outgoing, self.expected) = (opening.bytes.into_bytes().into(), opening.expected.into());
    }

    // What it says.

    pub(super) fn correspond(&mut self, scene: &mut Scene<'_>) {
        if !self.welcomed || self.letters.superseded || self.letters.waiting() >= WINDOW {
            return;
        }
        let letters = &mut self.letters;
        match scene.rng.below(10) {
            0..5 => {
                let (topic, padding) = (scene.rng.below(scene.plan.topics), scene.rng.below(scene.plan.payload));
                scene.oracle.publish(self.author, topic, Form::Data, padding);
                scene.tally.published += 1;
                let letter = Letter::Publication { topic, seq: scene.oracle.count(self.author, topic) };
                letters.open.push(letter);
                self.write_letter(letter, scene);
            }
            5..7 => {
                letters.prompts += 1;
                let letter = Letter::Prompt(letters.prompts);
                letters.open.push(letter);
                self.write_letter(letter, scene);
            }
            7 => {
                letters.prompts += 1;
                letters.unasked += 1;
                let number = letters.prompts;
                self.prompt(number, None, scene);
            }
            _ => {
                let from = if scene.rng.percent(50) { &letters.open } else { &letters.done };
                if !from.is_empty() {
                    let letter = from[scene.rng.below(from.len())];
                    self.write_letter(letter, scene);
                }
            }
        }
    }

    fn write_letter(&mut self, letter: Letter, scene: &mut Scene<'_>) {
        *self.letters.asked.entry(letter).or_default() += 1;
        let id = letter.id();
        let Letter::Publication { topic, seq } = letter else {
            let Letter::Prompt(number) = letter else { return };
            return self.prompt(number, Some(&id), scene);
        };
        let message = Message { publisher: self.author, topic, seq };
        let data = scene.oracle.payload(message).expect("it was published");
        let (name, data) = (&scene.oracle.names[topic], String::from_utf8_lossy(&data));
        let text = match scene.rng.percent(80) {
            true => format!(r#"{{"type":"publish","id":{id},"ack":true,"topic":"{name}","data":{data}}}"#),
            false => format!(r#"{{"id":{id},"data":{{"type":"publish","topic":"{name}","data":{data}}}}}"#),
        };
        note(|| format!("c{} writes {message:?}", self.id));
        self.say_message(TEXT, text.as_bytes(), scene.rng);
    }

    /// Says something to the backend of its room.
    fn prompt(&mut self, number: usize, id: Option<&str>, scene: &mut Scene<'_>) {
        let kind = scene.rng.pick(&["prompt", "playerAction"]);
        let padding = "x".repeat(scene.rng.below(scene.plan.payload));
        let ack = id.map_or(String::new(), |id| format!(r#","id":{id},"ack":true"#));
        let write = |said| format!(r#"{{"type":"{kind}","said":{said}{ack},"text":"{padding}"}}"#);
        let text = scene.oracle.ledger.say(self.author, number, self.id, write);
        note(|| format!("c{} prompts {}", self.id, &text[..text.len().min(60)]));
        self.say_message(TEXT, text.as_bytes(), scene.rng);
    }

    // What it is told.

    pub(super) fn sender_told(&mut self, event: &Value, text: &[u8], scene: &mut Scene<'_>) {
        let kind = event["type"].as_str().expect("a type");
        assert!(self.welcomed || kind == "connected", "the welcome comes first");
        match kind {
            "connected" => self.greeted(event, scene),
            "ack" => self.acknowledged(event, scene),
            "error" => self.refused(event, scene),
            "gap" => self.told += event["dropped"].as_u64().expect("a count") as usize,
            "subscribed" | "unsubscribed" => {
                let room = event["topics"][0]["topic"].as_str().expect("a room");
                let backend = room.strip_prefix("side/").and_then(|id| id.parse().ok()).expect("a backend's room");
                assert_eq!(event["topics"][0]["ok"], true);
                self.moved(backend, kind == "subscribed", scene);
            }
            "state" => self.saw(false, text, scene),
            _ => self.hears(event, text, scene),
        }
    }

    /// The welcome. What was not acknowledged before is said again, in the same order.
    fn greeted(&mut self, event: &Value, scene: &mut Scene<'_>) {
        assert!(!std::mem::replace(&mut self.welcomed, true), "welcomed twice");
        let word = |name: &str| event[name].as_str().expect("a string").to_owned();
        let (client, token) = (word("clientId"), word("token"));
        let letters = &mut self.letters;
        assert_eq!(word("room"), format!("hall/{}", letters.room));
        if letters.returns {
            assert_eq!(letters.name, Some((client.clone(), token.clone())), "client {} is taken for another", self.id);
            scene.tally.claims += 1;
        }
        assert_ne!(letters.denied.as_ref(), Some(&client), "client {} has proved nothing", self.id);
        scene.oracle.ledger.welcomed(self.id, &client, &word("room"));
        letters.name = Some((client, token));
        if !letters.contested {
            scene.oracle.ledger.takes_over(self.id);
        }
        for letter in letters.open.clone() {
            self.write_letter(letter, scene);
        }
    }

    /// One of what it waits for is answered; which.
    fn answered_letter(&mut self, event: &Value, scene: &Scene<'_>) -> Letter {
        let letter = Letter::of(event, scene.oracle);
        let left =
            self.letters.asked.get_mut(&letter).unwrap_or_else(|| panic!("client {}: not asked: {event}", self.id));
        *left -= 1;
        if *left == 0 {
            self.letters.asked.remove(&letter);
        }
        letter
    }

    fn acknowledged(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let letter = self.answered_letter(event, scene);
        match letter {
            Letter::Publication { topic, seq } => {
                let epoch = event["epoch"].as_str().expect("an epoch").to_owned();
                let offset = event["offset"].as_u64().expect("an offset");
                scene.oracle.place(Message { publisher: self.author, topic, seq }, epoch, offset);
            }
            Letter::Prompt(number) => scene.oracle.ledger.acknowledge(self.author, number),
        }
        scene.tally.acknowledged += 1;
        if let Some(at) = self.letters.open.iter().position(|open| *open == letter) {
            self.letters.open.remove(at);
            self.letters.done.push(letter);
        }
    }

    /// A prompt did not reach a backend.
    fn refused(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let mut again = true;
        if event["id"].is_null() {
            self.letters.unasked = self.letters.unasked.checked_sub(1).expect("something that can fail");
        } else {
            let letter = self.answered_letter(event, scene);
            assert!(matches!(letter, Letter::Prompt(_)), "{event}");
            again = self.letters.returns || self.letters.asked.contains_key(&letter);
        }
        match event["code"].as_str() {
            Some("no_backend") => {
                let there = scene.plan.calm && scene.oracle.ledger.backends.1 > 0;
                assert!(!there, "there is a backend all the time");
                scene.tally.no_backend += 1;
            }
            // Another of the same id is under way, and will be answered after this one.
            Some("busy") => {
                assert!(!event["id"].is_null() && again, "client {}: {event}", self.id);
                scene.tally.busy += 1;
            }
            _ => panic!("client {}: {event}", self.id),
        }
    }

    fn heard(&mut self, backend: usize) -> Heard {
        let next = (!self.letters.returns).then_some(0);
        *self.letters.heard.entry(backend).or_insert(Heard { next, joined: false })
    }

    /// A backend has made it a member of the backend's room, or has ended that.
    fn moved(&mut self, backend: usize, joined: bool, scene: &mut Scene<'_>) {
        let heard = self.heard(backend);
        let client = scene.oracle.ledger.name(self.id).to_owned();
        let deeds = scene.oracle.ledger.deeds(backend, &client);
        assert_ne!(heard.joined, joined, "client {}: backend {backend} has changed nothing", self.id);
        let next = heard.next.map(|next| {
            let due = deeds.effective(next, heard.joined);
            let wanted = if joined { Deed::Join } else { Deed::Leave };
            assert!(
                due.is_some_and(|(_, deed)| *deed == wanted),
                "client {}: {wanted:?} where {due:?} is due",
                self.id
            );
            due.map_or(next, |(at, _)| at + 1)
        });
        let joined_at = deeds.joined_at;
        self.letters.heard.insert(backend, Heard { next, joined });
        let room = format!("side/{backend}");
        let topic = scene.oracle.names.iter().position(|name| *name == room).expect("a room");
        scene.tally.memberships += 1;
        match joined {
            true => {
                let view = View::new(scene.oracle, self.id, topic, true);
                self.views.insert(topic, view.not_after(backend, joined_at));
            }
            false => {
                let view = self.views.remove(&topic).expect("it was in the room");
                self.past.0 += view.received;
                self.past.1 += view.missed;
            }
        }
    }

    /// A backend has sent it something.
    fn hears(&mut self, event: &Value, text: &[u8], scene: &mut Scene<'_>) {
        let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("of no backend: {event}")) as usize;
        let (backend, at) = (number("by"), number("deed"));
        let heard = self.heard(backend);
        let client = scene.oracle.ledger.name(self.id).to_owned();
        let deeds = scene.oracle.ledger.deeds(backend, &client);
        let due = deeds.effective(heard.next.unwrap_or(at), heard.joined);
        let right =
            due.is_some_and(|(due, deed)| due == at && matches!(deed, Deed::Text(sent) if sent.as_bytes() == text));
        assert!(right, "client {} of {client}: {due:?} of {backend} is due: {event}", self.id);
        self.letters.heard.insert(backend, Heard { next: Some(at + 1), ..heard });
        scene.tally.streamed += 1;
    }

    /// Whether a backend has wanted it closed with this code.
    pub(super) fn is_shown_out(&mut self, code: u16, oracle: &mut Oracle) -> bool {
        if !matches!(self.persona, Persona::Sender) || !self.welcomed {
            return false;
        }
        let client = oracle.ledger.name(self.id).to_owned();
        oracle.ledger.doers(&client).into_iter().any(|backend| {
            let heard = self.heard(backend);
            let deeds = oracle.ledger.deeds(backend, &client);
            match heard.next {
                Some(next) => deeds.effective(next, heard.joined).is_some_and(|(_, deed)| *deed == Deed::Close(code)),
                None => deeds.all.contains(&Deed::Close(code)),
            }
        })
    }

    /// Whether it may be told that it has connected anew.
    pub(super) fn may_be_replaced(&self) -> bool {
        self.letters.superseded || self.letters.contested
    }

    /// Nothing is under way any more.
    pub(super) fn check_letters(&mut self, oracle: &mut Oracle, is_done: impl Fn(usize) -> bool) {
        if !self.welcomed || self.persona != Persona::Sender {
            return;
        }
        assert!(self.letters.asked.is_empty(), "client {} lacks answers: {:?}", self.id, self.letters.asked);
        let unordered = self.letters.open.iter().find(|letter| matches!(letter, Letter::Publication { .. }));
        assert_eq!(unordered, None, "client {} was not acknowledged", self.id);
        let is_replaced = oracle.ledger.is_replaced(self.id);
        assert!(!is_replaced || self.letters.contested, "client {} has connected anew, and is still here", self.id);
        if self.may_be_replaced() {
            return;
        }
        let client = oracle.ledger.name(self.id).to_owned();
        for backend in oracle.ledger.doers(&client).into_iter().filter(|&backend| is_done(backend)) {
            let heard = self.heard(backend);
            let left = heard.next.and_then(|next| oracle.ledger.deeds(backend, &client).effective(next, heard.joined));
            assert_eq!(left, None, "client {}: backend {backend} has done more", self.id);
        }
    }
}
