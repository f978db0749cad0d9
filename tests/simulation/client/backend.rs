//! A backend: it has what clients say to it, and does what it likes to them.

use super::*;
use crate::simulation::ledger::Deed;
use crate::simulation::plan::BACKEND_KEY;

/// Parts of the longest story.
const PARTS: usize = 5;

/// What a backend waits to be told.
#[derive(Debug)]
enum Wish {
    Publication(Message),
    /// Something was sent to this client.
    Told,
    /// One of what it does to this client is to make it a member of its room.
    Join(String, usize),
    Identify(String),
}

/// What a backend is at.
#[derive(Default)]
pub struct Desk {
    /// Its room, by the topic's number.
    side: usize,
    /// Clients that it has heard of.
    clients: Vec<String>,
    /// Whom it tells a story, and the parts that are left.
    stories: Vec<(String, usize)>,
    /// The last that it heard, by who said it.
    heard: BTreeMap<usize, usize>,
    ids: usize,
    asked: BTreeMap<usize, Wish>,
    /// Wishes without an id: what is heard of them is an error at most.
    unasked: usize,
    /// It has closed, and read all that came before the server did.
    pub orderly: bool,
}

impl Client {
    /// Asks to be a backend, and has a room of its own.
    pub fn ask_for_desk(&mut self, oracle: &mut Oracle, rng: &mut Rng) {
        oracle.ledger.backends.0 += 1;
        oracle.names.push(format!("side/{}", self.id));
        self.desk.side = oracle.names.len() - 1;
        let presence = if rng.percent(30) { "presence=true&" } else { "" };
        let head = match rng.percent(50) {
            true => wire::upgrade(&format!("/backend?{presence}key={BACKEND_KEY}"), ""),
            false => {
                wire::upgrade(&format!("/backend?{presence}"), &format!("Authorization: Bearer {BACKEND_KEY}\r\n"))
            }
        };
        self.outgoing = head.into_bytes().into();
        self.expected = [101].into();
    }

    // What it does.

    pub(super) fn serve(&mut self, scene: &mut Scene<'_>) {
        if !self.welcomed {
            return;
        }
        let rng = &mut *scene.rng;
        // Mostly, those are still there.
        let recent = &self.desk.clients[self.desk.clients.len().saturating_sub(3)..];
        let someone = (!recent.is_empty()).then(|| recent[rng.below(recent.len())].clone());
        match (rng.below(100), someone) {
            (0..15, _) => self.publish_as_backend(scene),
            (_, None) => {}
            (15..65, _) => self.tell_story(scene),
            (65..90, Some(client)) if !scene.plan.calm => self.move_client(client, scene),
            (90..95, Some(client)) if scene.oracle.ledger.may_identify(&client) => self.identify(client, scene),
            (95..98, Some(client)) if !scene.plan.calm => self.show_out(client, scene),
            _ => {}
        }
    }

    /// The members that ask for an answer to a wish: always, if it must be known whether it was done.
    fn sign(&mut self, wish: Wish, always: bool, rng: &mut Rng) -> String {
        if !always && rng.percent(50) {
            self.desk.unasked += 1;
            return String::new();
        }
        self.desk.ids += 1;
        self.desk.asked.insert(self.desk.ids, wish);
        format!(r#","id":{},"ack":true"#, self.desk.ids)
    }

    fn say_text(&mut self, text: &str, rng: &mut Rng) {
        note(|| format!("c{} says {}", self.id, &text[..text.len().min(120)]));
        self.say_message(TEXT, text.as_bytes(), rng);
    }

    /// Publishes to a topic, or to its room.
    fn publish_as_backend(&mut self, scene: &mut Scene<'_>) {
        let to_room = !scene.plan.calm && scene.rng.percent(70);
        let topic = if to_room { self.desk.side } else { scene.rng.below(scene.plan.topics) };
        let form = if to_room && scene.rng.percent(50) { Form::State } else { Form::Data };
        let padding = scene.rng.below(scene.plan.payload);
        let payload = scene.oracle.publish(self.id, topic, form, padding);
        let message = Message { publisher: self.id, topic, seq: scene.oracle.count(self.id, topic) };
        let (name, data) = (scene.oracle.names[topic].clone(), String::from_utf8_lossy(&payload));
        scene.tally.published += 1;
        let text = match (form, data.strip_prefix('{')) {
            (Form::State, Some(rest)) => format!(r#"{{"room":"{name}",{rest}"#),
            _ => {
                let sign = self.sign(Wish::Publication(message), true, scene.rng);
                format!(r#"{{"type":"publish","topic":"{name}","data":{data}{sign}}}"#)
            }
        };
        self.say_text(&text, scene.rng);
    }

    /// Goes on with one of its stories.
    fn tell_story(&mut self, scene: &mut Scene<'_>) {
        if self.desk.stories.is_empty() {
            return;
        }
        let at = scene.rng.below(self.desk.stories.len());
        let (client, left) = self.desk.stories[at].clone();
        match left {
            0 => drop(self.desk.stories.swap_remove(at)),
            _ => self.desk.stories[at].1 -= 1,
        }
        let kind = if left == 0 { "complete" } else { "stream" };
        let padding = "x".repeat(scene.rng.below(50));
        let deeds = scene.oracle.ledger.deeds(self.id, &client);
        let body = format!(r#""type":"{kind}","by":{},"deed":{},"content":"{padding}""#, self.id, deeds.all.len());
        // The `id` stays in it.
        let sign = self.sign(Wish::Told, false, scene.rng);
        let id = sign.strip_suffix(r#","ack":true"#).unwrap_or_default();
        let (text, sent) = match scene.rng.percent(70) {
            true => (format!(r#"{{{body}{sign},"clientId":"{client}"}}"#), format!("{{{body}{id}}}")),
            false => {
                let sent = format!("{{{body}}}");
                (format!(r#"{{"type":"send","receiver":"{client}","data":{sent}{sign}}}"#), sent)
            }
        };
        deeds.all.push(Deed::Text(sent));
        self.say_text(&text, scene.rng);
    }

    /// Makes a client a member of its room, or ends that.
    fn move_client(&mut self, client: String, scene: &mut Scene<'_>) {
        let deeds = scene.oracle.ledger.deeds(self.id, &client);
        let at = deeds.all.len();
        deeds.joined_at = None;
        let (kind, deed) = if scene.rng.percent(60) { ("join", Deed::Join) } else { ("leave", Deed::Leave) };
        let wish = if deed == Deed::Join { Wish::Join(client.clone(), at) } else { Wish::Told };
        deeds.all.push(deed);
        let (sign, room) = (self.sign(wish, false, scene.rng), &scene.oracle.names[self.desk.side]);
        let text = format!(r#"{{"type":"{kind}","clientId":"{client}","room":"{room}"{sign}}}"#);
        self.say_text(&text, scene.rng);
    }

    fn identify(&mut self, client: String, scene: &mut Scene<'_>) {
        let user = scene.rng.percent(70).then(|| format!("user/{}/{}", self.id, self.desk.ids));
        let name = user.as_ref().map_or("null".to_owned(), |user| format!("\"{user}\""));
        scene.oracle.ledger.identify(&client, user);
        let sign = self.sign(Wish::Identify(client.clone()), true, scene.rng);
        let text = format!(r#"{{"type":"identify","clientId":"{client}","user":{name}{sign}}}"#);
        self.say_text(&text, scene.rng);
    }

    /// Has a client's connection closed.
    fn show_out(&mut self, client: String, scene: &mut Scene<'_>) {
        let code = scene.rng.pick(&[1000, 3001, 4100]);
        scene.oracle.ledger.deeds(self.id, &client).all.push(Deed::Close(code));
        let sign = self.sign(Wish::Told, false, scene.rng);
        let text = format!(r#"{{"type":"close","clientId":"{client}","code":{code},"reason":"enough"{sign}}}"#);
        self.say_text(&text, scene.rng);
    }

    // What it is told.

    pub(super) fn backend_told(&mut self, event: &Value, text: &[u8], scene: &mut Scene<'_>) {
        let kind = event["type"].as_str().expect("a type");
        assert!(self.welcomed || kind == "connected", "the welcome comes first");
        match kind {
            "connected" => {
                assert!(event["backend"] == true && !self.welcomed, "{event}");
                self.welcomed = true;
                scene.oracle.ledger.backends.1 += 1;
            }
            "prompt" | "playerAction" => self.prompted(event, text, scene),
            "ack" => self.granted(event, scene),
            "error" => self.denied(event, scene),
            "client_joined" | "client_left" => {
                let room = event["room"].as_str().expect("a room");
                assert!(room == "game" || room.starts_with("hall/") || room.starts_with("side/"), "{event}");
                scene.tally.introduced += 1;
            }
            _ => panic!("client {}: {event}", self.id),
        }
    }

    fn prompted(&mut self, event: &Value, text: &[u8], scene: &mut Scene<'_>) {
        let said = event["said"].as_u64().expect("a number") as usize;
        let text = std::str::from_utf8(text).expect("text");
        let prompt = scene.oracle.ledger.receive(self.id, said, text, scene.plan.calm);
        let speaker = prompt.speaker;
        let last = self.desk.heard.insert(speaker, said);
        assert!(last < Some(said), "client {}: {said} of {speaker} after {last:?}", self.id);
        scene.tally.handed_over += 1;
        let client = scene.oracle.ledger.name(speaker).to_owned();
        self.desk.clients.retain(|other| *other != client);
        self.desk.clients.push(client.clone());
        self.desk.stories.push((client, scene.rng.below(PARTS)));
    }

    /// Something is done that it wished.
    fn granted(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let id = event["id"].as_u64().expect("a number") as usize;
        let wish = self.desk.asked.remove(&id).unwrap_or_else(|| panic!("client {}: not asked: {event}", self.id));
        assert_eq!(event["topic"].is_string(), matches!(wish, Wish::Publication(_)), "{event}");
        match wish {
            Wish::Publication(message) => {
                let epoch = event["epoch"].as_str().expect("an epoch").to_owned();
                let offset = event["offset"].as_u64().expect("an offset");
                assert_eq!(event["topic"], scene.oracle.names[message.topic]);
                scene.oracle.place(message, epoch, offset);
            }
            Wish::Told => {}
            Wish::Join(client, at) => {
                let published = scene.oracle.count(self.id, self.desk.side);
                let deeds = scene.oracle.ledger.deeds(self.id, &client);
                if deeds.is_last_of_room(at) {
                    deeds.joined_at = Some(published);
                }
            }
            Wish::Identify(client) => {
                scene.oracle.ledger.identified(&client, true);
                scene.tally.identified += 1;
            }
        }
    }

    /// Whom it meant is not there.
    fn denied(&mut self, event: &Value, scene: &mut Scene<'_>) {
        assert_eq!(event["code"], "no_receiver", "client {}: {event}", self.id);
        assert!(!scene.plan.calm, "everybody is there: {event}");
        scene.tally.no_receiver += 1;
        let Some(id) = event["id"].as_u64() else {
            self.desk.unasked = self.desk.unasked.checked_sub(1).expect("something that can fail");
            return;
        };
        match self.desk.asked.remove(&(id as usize)) {
            Some(Wish::Identify(client)) => scene.oracle.ledger.identified(&client, false),
            Some(Wish::Told | Wish::Join(..)) => {}
            wish => panic!("client {}: {wish:?} is answered {event}", self.id),
        }
    }

    /// Nothing is under way any more.
    pub(super) fn check_desk(&self) {
        assert!(self.desk.asked.is_empty(), "client {} lacks answers: {:?}", self.id, self.desk.asked);
    }
}
