//! What the `json` dialect makes of clients' messages, and what it tells them, case by case: `vectors/json.txt`.

use std::borrow::Cow;

use serde_json::Value;
use uproar::MessageKind;
use uproar::dialect::json::{self, Types};
use uproar::dialect::{Command, Event, Failure, Position, Receipt, Refusal, Since};

const SENDER: u64 = 0xc81e_728d_9d4c_2f63;
const NOW: u64 = 1_790_000_000_000;

/// What is put in, and what is to come out.
struct Pair {
    line: usize,
    is_message: bool,
    input: &'static str,
    output: &'static str,
}

fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut lines = (1..).zip(include_str!("vectors/json.txt").lines());
    while let Some((line, text)) = lines.next() {
        let (is_message, answer) = match text.get(..2) {
            Some("> ") => (true, "= "),
            Some("! ") => (false, "< "),
            Some("= " | "< ") => panic!("line {line} answers nothing"),
            _ => continue,
        };
        let output = lines.next().and_then(|(_, next)| next.strip_prefix(answer));
        let output = output.unwrap_or_else(|| panic!("line {line} has no answer"));
        pairs.push(Pair { line, is_message, input: &text[2..], output });
    }
    pairs
}

#[test]
fn every_message_is_taken_for_what_it_says() {
    let types = Types::new(&["chat", "playerMove"], &["prompt"]).expect("types of its own");
    let pairs: Vec<_> = pairs().into_iter().filter(|pair| pair.is_message).collect();
    assert!(pairs.len() >= 75, "{} were read", pairs.len());
    for pair in pairs {
        let commands = json::message(MessageKind::Text, pair.input.as_bytes(), &types, &mut Vec::new());
        let found: Vec<_> = commands.into_iter().map(rendered).collect();
        assert_eq!(found, [pair.output], "line {}", pair.line);
    }
}

#[test]
fn every_event_is_told_as_it_says() {
    let pairs: Vec<_> = pairs().into_iter().filter(|pair| !pair.is_message).collect();
    assert!(pairs.len() >= 25, "{} were read", pairs.len());
    for pair in pairs {
        let told = told(pair.input);
        assert_eq!(told, pair.output, "line {}", pair.line);
        assert!(serde_json::from_str::<Value>(&told).is_ok(), "line {}", pair.line);
    }
}

/// A command in the words of the vectors.
fn rendered(command: Command<'_>) -> String {
    match command {
        Command::Refresh { token, id } => {
            let id = id.map(|id| format!(" id {id}")).unwrap_or_default();
            format!("refresh {:?}{id}", token.0)
        }
        Command::Subscribe { topics, recover, tokens } => {
            let topics: String = topics.iter().map(|(topic, since)| format!(" {topic:?}{}", place(*since))).collect();
            let tokens: String = tokens.iter().map(|(topic, token)| format!(" {topic:?} by {:?}", token.0)).collect();
            format!("subscribe{}{topics}{tokens}", if recover { " recover" } else { "" })
        }
        Command::Unsubscribe(topics) => {
            format!("unsubscribe{}", topics.iter().map(|topic| format!(" {topic:?}")).collect::<String>())
        }
        Command::Publish { topic, kind, payload, receipt } => {
            assert_eq!(kind, MessageKind::Text);
            format!("publish {topic:?} {}{}", text(payload.to_vec()), wanted(receipt))
        }
        Command::Relay { object, receipt } => {
            format!("relay {}{}", text(json::signed(object, SENDER, Some(NOW))), wanted(receipt))
        }
        Command::HandOver { object, receipt } => {
            format!("hand over {}{}", text(json::placed(object, SENDER, "r", Some("ann"), NOW)), wanted(receipt))
        }
        Command::Address { receiver, object, receipt } => {
            format!("address {receiver:?} {}{}", text(json::signed(object, SENDER, None)), wanted(receipt))
        }
        Command::Presence { room } => format!("presence{}", room.map(|room| format!(" {room:?}")).unwrap_or_default()),
        Command::Ping => "ping".into(),
        Command::Error(text) => text,
        other => panic!("{other:?}"),
    }
}

fn place(since: Option<Since>) -> String {
    match since {
        None => String::new(),
        Some(Since { epoch: None, offset }) => format!(" since another/{offset}"),
        Some(Since { epoch: Some(epoch), offset }) => format!(" since {epoch:08x}/{offset}"),
    }
}

fn wanted(receipt: Option<Receipt<'_>>) -> String {
    receipt.map(|receipt| format!(" id {}{}", receipt.id, if receipt.ack { " ack" } else { "" })).unwrap_or_default()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// What is known of an event.
struct Known(Value);

impl Known {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }

    fn count(&self) -> usize {
        self.number("count") as usize
    }

    fn client(&self) -> u64 {
        json::parse_client_id(self.text("client")).expect("a client's id")
    }

    fn clients(&self, name: &str) -> Option<Vec<u64>> {
        let clients = self.0[name].as_array()?.iter();
        Some(clients.map(|client| json::parse_client_id(client.as_str()?)).collect::<Option<_>>().expect("ids"))
    }

    fn epoch(&self) -> u32 {
        u32::from_str_radix(self.text("epoch"), 16).expect("an epoch")
    }

    fn position(&self) -> Position {
        Position { epoch: self.epoch(), offset: self.number("offset") }
    }

    fn id(&self) -> Option<&str> {
        self.0["id"].as_str()
    }
}

/// What a client is told of the event.
fn told(line: &str) -> String {
    let (kind, known) = line.split_once(' ').expect("what is known of it");
    let known = Known(serde_json::from_str(known).expect("JSON"));
    json::event(match kind {
        "message" => return enveloped(&known),
        "subscribed" => return subscribed(&known.0),
        "unsubscribed" => return unsubscribed(&known.0),
        "tokens-expired" => {
            let name = |topic: &Value| topic.as_str().expect("a topic").into();
            let topics: Vec<Box<str>> = known.0["topics"].as_array().expect("a list").iter().map(name).collect();
            return json::event(Event::TokensExpired(&topics));
        }
        "connected" => {
            let (room, token) = (known.text("room"), known.text("token"));
            let (user, expires) = (known.0["user"].as_str(), known.0["expires"].as_u64());
            Event::Connected { client: known.client(), room, token, user, expires, now: known.number("now") }
        }
        "refreshed" => Event::Refreshed { expires: known.0["expires"].as_u64() },
        "bad token" => Event::BadToken,
        "joined" => Event::Joined { room: known.text("room"), client: known.client(), count: known.count() },
        "left" => Event::Left { room: known.text("room"), client: known.client(), count: known.count() },
        "moved" => {
            let (joined, left) = (known.clients("joined").expect("a list"), known.clients("left").expect("a list"));
            let (room, count) = (known.text("room"), known.count());
            return json::event(Event::Moved { room, joined: &joined, left: &left, count });
        }
        "presence" => {
            let (room, count, members) = (known.text("room"), known.count(), known.clients("members"));
            return json::event(Event::Presence { room, count, members: members.as_deref() });
        }
        "ack" => {
            let place = known.0.get("topic").is_some().then(|| (known.text("topic"), known.position()));
            Event::Ack { id: known.text("id"), place }
        }
        "bad_topic" => Event::BadTopic { id: known.id() },
        "no_receiver" => Event::NoReceiver { receiver: known.text("receiver"), id: known.id() },
        "too_large" => Event::TooLarge { most: known.number("most") as u32 },
        "failed" => Event::Failed { why: failure(known.text("why")), id: known.id() },
        "ready" => Event::Ready { now: known.number("now") },
        "came" => Event::Came { client: known.client(), room: known.text("room") },
        "went" => Event::Went { client: known.client(), room: known.text("room") },
        "dropped" => Event::Dropped(known.number("count") as u32),
        "gap" => {
            let lost = known.0.get("from").is_some().then(|| (known.number("from"), known.number("to")));
            let reset = known.0.get("reset").is_some();
            Event::Gap { topic: known.text("topic"), epoch: known.epoch(), reset, lost }
        }
        "pong" => Event::Pong { now: known.number("now") },
        other => panic!("{other} is no event"),
    })
}

fn failure(code: &str) -> Failure {
    let all = [Failure::NoBackend, Failure::Busy, Failure::NoRoom, Failure::TooManyRooms];
    all.into_iter().find(|why| why.code() == code).expect("a failure's code")
}

fn enveloped(known: &Known) -> String {
    let (kind, payload) = match known.0["binary"].as_array() {
        Some(bytes) => (MessageKind::Binary, bytes.iter().map(|byte| byte.as_u64().expect("a byte") as u8).collect()),
        None => (MessageKind::Text, known.text("text").as_bytes().to_vec()),
    };
    let mut out = Vec::new();
    let snapshot = known.0["snapshot"] == true;
    json::envelope(&mut out, known.text("topic"), known.position(), kind, &payload, snapshot);
    text(out)
}

/// Of `["TOPIC"]`, `["TOPIC", "EPOCH", OFFSET]` and `["TOPIC", "ERROR"]`.
fn subscribed(topics: &Value) -> String {
    let one = |topic: &Value| {
        let result = match (topic[1].as_str(), topic[2].as_u64()) {
            (None, _) => Ok(None),
            (Some(epoch), Some(offset)) => {
                Ok(Some(Position { epoch: u32::from_str_radix(epoch, 16).expect("an epoch"), offset }))
            }
            (Some(code), None) => Err([Refusal::BadName, Refusal::TooMany]
                .into_iter()
                .find(|refusal| refusal.code() == code)
                .expect("a refusal's code")),
        };
        (Cow::Owned(topic[0].as_str().expect("a topic").to_owned()), result)
    };
    json::event(Event::Subscribed(&topics.as_array().expect("a list").iter().map(one).collect::<Vec<_>>()))
}

/// Of `["TOPIC", WAS_JOINED]`.
fn unsubscribed(topics: &Value) -> String {
    let one = |topic: &Value| {
        let name = topic[0].as_str().expect("a topic").to_owned();
        (Cow::Owned(name), topic[1].as_bool().expect("whether it was joined"))
    };
    json::event(Event::Unsubscribed(&topics.as_array().expect("a list").iter().map(one).collect::<Vec<_>>()))
}
