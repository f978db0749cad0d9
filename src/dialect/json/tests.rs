//! The dialect against `serde_json`, on texts that are spelled in all the ways that JSON allows.

mod spelling;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value};

use super::{Types, client_id_text, envelope, event, instruction, message, parse_client_id, signed};
use crate::dialect::{Command, Deed, Event, Instruction, Position, Receipt, Refusal, Since};
use crate::hub::frame::MessageKind;
use crate::limits::is_topic_name;
use spelling::{Speller, characters, json, mutated};

const CLIENT: u64 = 0xc81e_728d_9d4c_2f63;
const CLIENT_TEXT: &str = "c81e728d9d4c2f63";
/// Names that mean something in any message.
const READ: [&str; 10] = ["type", "id", "ack", "topic", "topics", "symbols", "recover", "since", "data", "receiver"];

/// Names that mean something in a backend's message.
const NAMED: [&str; 3] = ["clientId", "room", "user"];

fn one(text: &[u8]) -> Command<'_> {
    let mut commands = message(MessageKind::Text, text, &Types::default(), &mut Vec::new());
    assert_eq!(commands.len(), 1);
    commands.remove(0)
}

fn parsed(text: impl AsRef<[u8]>) -> Value {
    let text = text.as_ref();
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

fn code(command: &Command<'_>) -> Option<String> {
    let Command::Error(text) = command else { return None };
    assert_eq!(parsed(text)["type"], "error");
    parsed(text)["code"].as_str().map(str::to_owned)
}

/// Asserts that what the server would pass on or answer is JSON.
fn assert_is_json(command: Command<'_>) {
    let text = match command {
        Command::Relay { object, .. } => signed(object, CLIENT, Some(1)),
        Command::Address { object, .. } => signed(object, CLIENT, None),
        Command::Publish { payload, .. } => payload.to_vec(),
        Command::Error(text) => text.into_bytes(),
        _ => return,
    };
    parsed(text);
}

#[test]
fn a_million_brackets_do_not_pass_the_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let (deep, shut) = (open.repeat(200_000), close.repeat(200_000));
        for (text, is_good) in [
            (format!("{{\"type\":\"chat\",\"x\":{deep}1{shut}}}"), true),
            (format!("{{\"type\":\"publish\",\"topic\":\"t\",\"data\":{deep}1{shut}}}"), true),
            (format!("{{\"id\":1,\"data\":{{\"x\":{deep}1{shut},\"type\":\"ping\"}}}}"), true),
            (format!("{{\"topics\":{deep}1{shut},\"type\":\"subscribe\"}}"), false),
            (format!("{{\"since\":{deep}1{shut},\"topic\":\"a\",\"type\":\"subscribe\"}}"), false),
            (format!("{{\"id\":{deep}1{shut},\"type\":\"ping\"}}"), false),
            (format!("{{\"id\":1,\"data\":{deep}1{shut}}}"), false),
            (format!("{{\"type\":\"ping\",\"x\":{deep}"), false),
            (deep.clone(), false),
        ] {
            assert_eq!(code(&one(text.as_bytes())).is_none(), is_good);
        }
        let mut out = Vec::new();
        let deep = format!("{deep}1{shut}");
        envelope(&mut out, "t", Position { epoch: 1, offset: 1 }, MessageKind::Text, deep.as_bytes(), false);
        assert!(out.ends_with(format!("\"data\":{deep}}}").as_bytes()), "what is deep is JSON too");
    }
}

#[test]
fn many_members_take_linear_time() {
    let topics: Vec<String> = (0..1024).map(|i| format!("\"t{i}\"")).collect();
    let since: Vec<String> = (0..100_000).map(|i| format!("\"t{i}\":{{\"epoch\":\"x\",\"offset\":{i}}}")).collect();
    let (topics, since) = (topics.join(","), since.join(","));
    let text = format!("{{\"type\":\"subscribe\",\"topics\":[{topics}],\"since\":{{{since}}}}}");
    let Command::Subscribe { topics, .. } = one(text.as_bytes()) else { panic!("not a subscription") };
    let last = ("t1023".into(), Some(Since { epoch: None, offset: 1023 }));
    assert_eq!((topics.len(), topics.last()), (1024, Some(&last)));

    let text = format!("{{{}\"type\":\"chat\"}}", "\"from\":1,\"fr\\u006fm\":2,\"timestamp\":3,".repeat(100_000));
    assert_eq!(one(text.as_bytes()), Command::Relay { object: b"{\"type\":\"chat\"".to_vec(), receipt: None });
}

#[test]
fn a_thousand_topics_are_enough() {
    let named = |count: usize| format!("[{}]", vec!["\"t\""; count].join(","));
    let text = |topics: &str| format!("{{\"type\":\"subscribe\",\"topic\":\"t\",\"topics\":{topics}}}");
    let (most, more) = (text(&named(1023)), text(&named(1024)));
    let Command::Subscribe { topics, .. } = one(most.as_bytes()) else { panic!("not a subscription") };
    assert_eq!(topics.len(), 1024);
    assert_eq!(code(&one(more.as_bytes())).as_deref(), Some("too_many_topics"));
}

#[test]
fn what_is_plain_is_lent() {
    let text = br#"{"type":"publish","id":"i","topic":"t","data":[1]}"#;
    let Command::Publish { topic, payload, receipt: Some(receipt), .. } = one(text) else { panic!("not published") };
    assert!(matches!(topic, Cow::Borrowed("t")) && matches!(receipt.id, Cow::Borrowed("\"i\"")));
    assert!(text.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn nothing_is_no_message() {
    for text in [&b""[..], b" ", b"\0", b"\xff", b"\xef\xbb\xbf{\"type\":\"ping\"}", b"{\"type\":\"ping\",\"x\":1\0}"] {
        assert_eq!(code(&one(text)).as_deref(), Some("invalid_json"), "{text:?}");
    }
}

#[test]
fn binary_goes_to_the_room() {
    let commands = message(MessageKind::Binary, b"\xff{}", &Types::default(), &mut Vec::new());
    assert_eq!(commands[..], [Command::Broadcast { kind: MessageKind::Binary, payload: b"\xff{}" }]);
}

#[test]
fn client_ids_have_one_spelling() {
    assert_eq!(client_id_text(CLIENT), CLIENT_TEXT);
    let others =
        ["", "C81e728d9d4c2f63", "+81e728d9d4c2f63", "81e728d9d4c2f63", "0c81e728d9d4c2f63", "c81e728d9d4c2f6g"];
    for other in others {
        assert_eq!(parse_client_id(other), None, "{other}");
    }
}

/// A message of members in this order, and how each of them was spelled.
fn spelled(members: &[(String, Value)], seed: u64) -> (String, Vec<String>) {
    let mut speller = Speller::new(seed);
    let members: Vec<_> = members.iter().map(|(name, value)| speller.member(name, value)).collect();
    let (before, after) = (speller.space(), speller.space());
    (format!("{before}{{{}}}{after}", members.join(",")), members)
}

/// Members that no message gives a meaning to, and those that are the server's, some of them twice.
fn members() -> impl Strategy<Value = Vec<(String, Value)>> {
    let name = prop_oneof![
        Just("from".to_owned()),
        Just("timestamp".to_owned()),
        Just("From".to_owned()),
        characters().prop_filter("means something", |name| !READ.contains(&&**name) && !NAMED.contains(&&**name)),
    ];
    prop::collection::vec((name, json()), 0..6)
}

/// The members, with the `more` of them put somewhere among them.
fn among(mut members: Vec<(String, Value)>, more: &[(&str, Value)], at: Index) -> Vec<(String, Value)> {
    for (name, value) in more {
        members.insert(at.index(members.len() + 1), ((*name).to_owned(), value.clone()));
    }
    members
}

/// The same with a member more, somewhere, whose value is spelled as `text`, which is returned too.
fn spelled_with(name: &str, text: &str, members: &[(String, Value)], seed: u64, at: Index) -> (String, String) {
    const MARK: u64 = 17_293_822_569_102_704_641;
    let (message, _) = spelled(&among(members.to_vec(), &[(name, MARK.into())], at), seed);
    (message.replacen(&MARK.to_string(), text, 1), text.to_owned())
}

/// What a relayed message is to be: the client's members, as they were spelled, and the server's behind them.
fn expected(members: &[(String, Value)], spelled: &[String], reserved: &[&str]) -> (String, Map<String, Value>) {
    let kept = members.iter().zip(spelled).filter(|((name, _), _)| !reserved.contains(&&**name));
    let (map, text): (Map<_, _>, Vec<&str>) =
        kept.map(|((name, value), text)| ((name.clone(), value.clone()), &**text)).unzip();
    (format!("{{{}", text.join(",")), map)
}

proptest! {
    #[test]
    fn a_relayed_message_is_the_clients_but_for_its_signature(members in members(), at: Index, seed: u64, now: u64) {
        let members = among(members, &[("type", "chat".into())], at);
        let (text, spelled) = spelled(&members, seed);
        let (object, mut map) = expected(&members, &spelled, &["from", "timestamp"]);
        prop_assert_eq!(one(text.as_bytes()), Command::Relay { object: object.clone().into_bytes(), receipt: None });
        let signed = signed(object.into_bytes(), CLIENT, Some(now));
        map.extend([("from".to_owned(), CLIENT_TEXT.into()), ("timestamp".to_owned(), now.into())]);
        prop_assert_eq!(parsed(signed), Value::Object(map));
    }

    #[test]
    fn an_addressed_message_is_whole_but_for_its_sender(
        members in members(), at: Index, seed: u64, to in characters(),
    ) {
        let members = among(members, &[("type", "text".into()), ("receiver", to.clone().into())], at);
        let (text, spelled) = spelled(&members, seed);
        let (object, mut map) = expected(&members, &spelled, &["from"]);
        let address = Command::Address { receiver: to.into(), object: object.clone().into_bytes(), receipt: None };
        prop_assert_eq!(one(text.as_bytes()), address);
        map.insert("from".to_owned(), CLIENT_TEXT.into());
        prop_assert_eq!(parsed(signed(object.into_bytes(), CLIENT, None)), Value::Object(map));
    }

    #[test]
    fn what_a_backend_tells_a_client_is_whole_but_for_whom_it_is(
        members in members(), at: Index, seed: u64, ack: bool, room in prop::option::of(characters()),
    ) {
        let more = [("type", "stream".into()), ("id", 7.into()), ("ack", ack.into()), ("clientId", CLIENT_TEXT.into())];
        let members = among(members, &more, at);
        let members = room.into_iter().fold(members, |members, room| among(members, &[("room", room.into())], at));
        let (text, spelled) = spelled(&members, seed);
        let (object, map) = expected(&members, &spelled, &["clientId", "ack"]);
        let instruction = instruction(MessageKind::Text, text.as_bytes(), &mut Vec::new());
        let (payload, receipt) = (format!("{object}}}").into_bytes(), Some(Receipt { id: "7".into(), ack }));
        prop_assert_eq!(parsed(&payload), Value::Object(map));
        let deed = Deed::Send(payload.into());
        prop_assert_eq!(instruction, Instruction::Act { receiver: CLIENT_TEXT.into(), deed, receipt });
    }

    #[test]
    fn what_a_backend_says_in_a_room_is_whole_but_for_where(
        members in members(), at: Index, seed: u64, room in characters(),
    ) {
        let members = among(members, &[("type", "state".into()), ("room", room.clone().into())], at);
        let (text, spelled) = spelled(&members, seed);
        let (object, map) = expected(&members, &spelled, &["room"]);
        let payload = format!("{object}}}").into_bytes();
        prop_assert_eq!(parsed(&payload), Value::Object(map));
        let instruction = instruction(MessageKind::Text, text.as_bytes(), &mut Vec::new());
        if is_topic_name(&room) {
            let (topic, payload) = (room.into(), payload.into());
            prop_assert_eq!(instruction, Instruction::Publish { topic, payload, place: false, receipt: None });
        } else {
            let Instruction::Error(text) = instruction else { panic!("{room:?} is no room") };
            prop_assert_eq!(&parsed(text)["code"], "bad_topic");
        }
    }

    #[test]
    fn any_backend_is_answered(bytes: Vec<u8>) {
        if let Instruction::Error(text) = instruction(MessageKind::Text, &bytes, &mut Vec::new()) {
            parsed(text);
        }
    }

    #[test]
    fn data_is_published_as_it_was_spelled(
        members in members(), at: Index, seed: u64, topic in characters(), data in json(), ack: bool, id: i64,
    ) {
        let read = [("type", "publish".into()), ("topic", (&*topic).into()), ("ack", ack.into()), ("id", id.into())];
        let (text, data) = spelled_with("data", &Speller::new(seed).text(&data), &among(members, &read, at), seed, at);
        let receipt = Some(Receipt { id: id.to_string().into(), ack });
        let (topic, kind, payload) = (topic.into(), MessageKind::Text, data.as_bytes());
        prop_assert_eq!(one(text.as_bytes()), Command::Publish { topic, kind, payload, receipt });
    }

    #[test]
    fn topics_and_places_are_found(
        topics in prop::collection::vec((characters(), prop::option::of((any::<u32>(), 0..1_u64 << 53))), 1..6),
        seed: u64, recover: bool,
    ) {
        let names: Value = topics.iter().map(|(name, _)| name.clone()).collect();
        let place = |(epoch, offset)| serde_json::json!({"epoch": format!("{epoch:08x}"), "offset": offset});
        let since: Map<_, _> = topics.iter().filter_map(|(name, at)| Some((name.clone(), place((*at)?)))).collect();
        let expected: Vec<_> = topics.iter().map(|(name, _)| {
            let last = topics.iter().rev().find_map(|(other, at)| at.filter(|_| other == name));
            (Cow::from(name.clone()), last.map(|(epoch, offset)| Since { epoch: Some(epoch), offset }))
        }).collect();
        let members = [
            ("topics", names.clone()), ("type", "subscribe".into()), ("since", since.into()),
            ("recover", recover.into()),
        ].map(|(name, value)| (name.to_owned(), value));
        let (text, _) = spelled(&members, seed);
        prop_assert_eq!(one(text.as_bytes()), Command::Subscribe { topics: expected.clone(), recover, tokens: Vec::new() });
        let members = [("symbols".to_owned(), names), ("type".to_owned(), "unsubscribe".into())];
        let (text, _) = spelled(&members, seed);
        let expected = expected.into_iter().map(|(name, _)| name).collect();
        prop_assert_eq!(one(text.as_bytes()), Command::Unsubscribe(expected));
    }

    #[test]
    fn an_envelope_is_its_message_with_an_id(
        inner in members(), outer in members(), at: Index, seed: u64, id in characters(),
    ) {
        let id = format!("i{id}");
        let (inner, _) = spelled(&among(inner, &[("type", "chat".into())], at), seed);
        let outer = among(outer, &[("id", id.clone().into())], at);
        let (text, inner) = spelled_with("data", inner.trim(), &outer, seed, at);
        let Command::Relay { object, receipt: None } = one(inner.as_bytes()) else { panic!("{inner}") };
        let Command::Relay { object: found, receipt: Some(receipt) } = one(text.as_bytes()) else { panic!("{text}") };
        prop_assert_eq!((found, receipt.ack), (object, true));
        prop_assert_eq!(parsed(&*receipt.id), Value::from(&*id));
        let again = format!("{{\"id\":{},\"type\":\"chat\"}}", Speller::new(!seed).text(&id.into()));
        let Command::Relay { receipt: Some(again), .. } = one(again.as_bytes()) else { panic!("{again}") };
        prop_assert_eq!((again.id, again.ack), (receipt.id, false), "one id is one text");
    }

    #[test]
    fn an_id_has_1_to_128_bytes(len in 0..200_usize, c: char, seed: u64) {
        let id: String = std::iter::repeat_n(c, len / c.len_utf8()).collect();
        let is_good = (1..=128).contains(&id.len());
        let text = format!("{{\"type\":\"ping\",\"id\":{}}}", Speller::new(seed).text(&id.into()));
        let code = code(&one(text.as_bytes()));
        prop_assert_eq!(code.as_deref(), (!is_good).then_some("bad_id"));
    }

    #[test]
    fn what_passes_is_json(
        members in members(), more in json(), kind in 0..5_usize, at: Index, seed: u64,
        changes in prop::collection::vec(mutated::change(), 0..4),
    ) {
        let kind = ["chat", "text", "publish", "subscribe", "presence"][kind];
        let more = [("type", kind.into()), ("receiver", "r".into()), ("topic", "t".into()), ("data", more)];
        let mut text = spelled(&among(members, &more, at), seed).0.into_bytes();
        prop_assert_eq!(code(&one(&text)), None);
        changes.into_iter().for_each(|change| change.apply(&mut text));
        let command = one(&text);
        if code(&command).as_deref() != Some("invalid_json") {
            prop_assert!(parsed(&text).is_object());
        }
        assert_is_json(command);
    }

    #[test]
    fn anything_is_answered(bytes: Vec<u8>) {
        assert_is_json(one(&bytes));
    }

    #[test]
    fn an_enveloped_text_is_itself_if_it_is_json(
        value in json(), seed: u64, topic in characters(), epoch: u32, offset: u64, snapshot: bool,
        changes in prop::collection::vec(mutated::change(), 0..3),
    ) {
        let mut speller = Speller::new(seed);
        let mut text = format!("{}{}{}", speller.space(), speller.text(&value), speller.space()).into_bytes();
        changes.into_iter().for_each(|change| change.apply(&mut text));
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut out = b"before".to_vec();
        envelope(&mut out, &topic, Position { epoch, offset }, MessageKind::Text, text.as_bytes(), snapshot);
        let message = parsed(out.strip_prefix(b"before").expect("what was there"));
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                prop_assert_eq!(&message["data"], &value);
                let end = format!("\"data\":{text}}}");
                prop_assert!(out.ends_with(end.as_bytes()));
            }
            Err(_) => prop_assert_eq!(&message["data"], &Value::from(text)),
        }
        prop_assert_eq!((&message["type"], &message["topic"]), (&"message".into(), &topic.into()));
        prop_assert_eq!((&message["epoch"], &message["offset"]), (&format!("{epoch:08x}").into(), &offset.into()));
        prop_assert_eq!((&message["snapshot"], &message["encoding"]), (&snapshot.then_some(true).into(), &Value::Null));
    }

    #[test]
    fn enveloped_bytes_are_base64(bytes: Vec<u8>) {
        let mut out = Vec::new();
        envelope(&mut out, "t", Position { epoch: 0, offset: 1 }, MessageKind::Binary, &bytes, false);
        let message = parsed(out);
        prop_assert_eq!(&message["encoding"], "base64");
        prop_assert_eq!(STANDARD.decode(message["data"].as_str().expect("a string")), Ok(bytes));
    }

    #[test]
    fn every_string_that_is_told_arrives(text in characters(), id in characters(), other in characters()) {
        let id = serde_json::to_string(&id).expect("JSON");
        let place = Position { epoch: 7, offset: 8 };
        let welcome = parsed(event(Event::Connected { client: CLIENT, room: &text, token: &other, user: Some(&text), expires: Some(2), now: 1 }));
        prop_assert_eq!((&welcome["room"], &welcome["token"]), (&Value::from(&*text), &Value::from(&*other)));
        let joined = parsed(event(Event::Subscribed(&[
            (Cow::from(&*text), Ok(Some(place))), (Cow::from(&*other), Err(Refusal::TooMany)),
        ])));
        let topics = joined["topics"].as_array().expect("a list").iter().map(|topic| topic["topic"].as_str());
        prop_assert_eq!(topics.collect::<Vec<_>>(), [Some(&*text), Some(&*other)]);
        let ack = parsed(event(Event::Ack { id: &id, place: Some((&text, place)) }));
        prop_assert_eq!((&ack["topic"], &ack["id"]), (&Value::from(&*text), &parsed(&id)));
        let error = parsed(event(Event::NoReceiver { receiver: &text, id: Some(&id) }));
        prop_assert_eq!((&error["message"], &error["id"]), (&format!("No such receiver: {text}").into(), &parsed(&id)));
        let unknown = format!("{{\"type\":{}}}", serde_json::to_string(&format!("x{text}")).expect("JSON"));
        let Command::Error(error) = one(unknown.as_bytes()) else { panic!("{unknown}") };
        prop_assert_eq!(&parsed(error)["message"], &Value::from(format!("Unknown type: x{text}")));
    }

    #[test]
    fn client_ids_come_back(client: u64) {
        prop_assert_eq!(parse_client_id(&client_id_text(client)), Some(client));
    }
}
