//! The `json` dialect: one object a text message.
//!
//! | client sends | server answers |
//! |---|---|
//! | `{"type":"subscribe","topics":["a","b"]}`, also `"topic":"a"` and `"symbols":[…]` | `{"type":"subscribed","topics":[{"topic":"a","ok":true},…]}` |
//! | `{"type":"unsubscribe",…}` | `{"type":"unsubscribed","topics":[…]}` |
//! | `{"type":"publish","topic":"a","data":…}` | nothing; subscribers of `a` receive the text of `data` verbatim |
//! | `{"type":"ping"}` | `{"type":"pong"}` |
//! | anything else | `{"type":"error","message":…,"code":…}` |

use std::borrow::Cow;
use std::fmt::Write as _;

use simd_json::prelude::*;
use simd_json::tape;

use super::{Command, Commands, Event};
use crate::hub::frame::MessageKind;
use crate::limits::MAX_TOPIC_BYTES;

/// Topics that one message may name: its answer names them all again.
const MAX_TOPICS_PER_COMMAND: usize = 1024;

/// The commands of a message. Parsing writes into `scratch`, so that `data` can be lent from `payload` untouched.
pub fn message<'a>(kind: MessageKind, payload: &'a [u8], scratch: &mut Vec<u8>) -> Commands<'a> {
    Commands::from_iter([match kind {
        MessageKind::Text => text(payload, scratch),
        MessageKind::Binary => error("not_supported", "Binary messages are not supported here"),
    }])
}

fn text<'a>(payload: &'a [u8], scratch: &mut Vec<u8>) -> Command<'a> {
    // JSON has no such bytes anywhere, but the parser takes a NUL for the end of a number, whatever comes after it.
    if payload.iter().any(|&byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) {
        return invalid();
    }
    scratch.clear();
    scratch.extend_from_slice(payload);
    // A tape, not a tree and not serde: both recurse, and a client may nest as deep as its message is long.
    let Ok(tape) = simd_json::to_tape(scratch) else { return invalid() };
    let Some(object) = tape.as_value().as_object() else { return invalid() };
    let Some(kind) = object.get("type").and_then(|kind| kind.into_string()) else { return invalid() };
    match kind {
        "subscribe" => with_topics(&object, Command::Subscribe),
        "unsubscribe" => with_topics(&object, Command::Unsubscribe),
        "publish" => publish(&object, payload),
        "ping" => Command::Reply(Cow::Borrowed(r#"{"type":"pong"}"#)),
        unknown => error("unknown_type", &format!("Unknown type: {}", shortened(unknown, 64))),
    }
}

fn invalid<'a>() -> Command<'a> {
    error("invalid_json", "Invalid JSON: expected an object with a string \"type\"")
}

fn with_topics<'a>(object: &tape::Object<'_, '_>, command: fn(Vec<Cow<'a, str>>) -> Command<'a>) -> Command<'a> {
    let lists = ["topics", "symbols"].into_iter().filter_map(|key| object.get(key)?.as_array());
    let all = object.get("topic").into_iter().chain(lists.flat_map(|list| list.iter().collect::<Vec<_>>()));
    let topics: Option<Vec<_>> = all.map(|topic| Some(Cow::Owned(topic.into_string()?.to_owned()))).collect();
    match topics {
        Some(topics) if topics.len() > MAX_TOPICS_PER_COMMAND => {
            error("too_many_topics", "At most 1024 topics in one message")
        }
        Some(topics) if !topics.is_empty() => command(topics),
        _ => error("no_topic", "Expected \"topic\" or \"topics\", of strings"),
    }
}

fn publish<'a>(object: &tape::Object<'_, '_>, payload: &'a [u8]) -> Command<'a> {
    let Some(topic) = object.get("topic").and_then(|topic| topic.into_string()) else {
        return error("no_topic", "Expected \"topic\", a string");
    };
    if object.get("data").is_none() {
        return error("no_data", "Expected \"data\"");
    }
    let Some(data) = member(payload, b"data") else { return invalid() };
    Command::Publish { topic: Cow::Owned(topic.to_owned()), kind: MessageKind::Text, payload: data }
}

/// The text for the client of what came of its command; `None` where the dialect says nothing.
pub fn event(event: Event<'_>) -> String {
    match event {
        Event::Subscribed(results) => list("subscribed", results.iter(), |out, (topic, result)| {
            topic_result(out, topic, result.err().map(|refusal| refusal.code()));
        }),
        Event::Unsubscribed(results) => list("unsubscribed", results.iter(), |out, (topic, was_joined)| {
            topic_result(out, topic, (!was_joined).then_some("not_subscribed"));
        }),
        Event::BadTopic => error_text("bad_topic", "A topic is 1 to 256 bytes"),
        Event::Dropped(count) => format!(r#"{{"type":"gap","dropped":{count}}}"#),
    }
}

fn list<T>(kind: &str, items: impl Iterator<Item = T>, mut each: impl FnMut(&mut String, T)) -> String {
    let mut out = format!(r#"{{"type":"{kind}","topics":["#);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(&mut out, item);
    }
    out.push_str("]}");
    out
}

fn topic_result(out: &mut String, topic: &str, error: Option<&str>) {
    out.push_str(r#"{"topic":"#);
    push_string(out, shortened(topic, MAX_TOPIC_BYTES));
    match error {
        None => out.push_str(r#","ok":true}"#),
        Some(code) => {
            let _ = write!(out, r#","ok":false,"error":"{code}"}}"#);
        }
    }
}

fn error<'a>(code: &str, message: &str) -> Command<'a> {
    Command::Reply(Cow::Owned(error_text(code, message)))
}

fn error_text(code: &str, message: &str) -> String {
    let mut out = String::from(r#"{"type":"error","message":"#);
    push_string(&mut out, message);
    let _ = write!(out, r#","code":"{code}"}}"#);
    out
}

/// At most so many characters: an answer must not be an echo of any size.
fn shortened(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The text of a member of a JSON object that the parser has found valid. A key written with escapes is not found, nor
/// is a value that the parser should not have let pass: it takes a number for one whatever follows its digits.
fn member<'a>(object: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut at = skip_space(object, 0) + 1;
    loop {
        let name = skip_space(object, at);
        let name_end = skip_value(object, name)?;
        let colon = skip_space(object, name_end);
        let start = skip_space(object, colon + 1);
        let end = skip_value(object, start)?;
        if object.get(name + 1..name_end - 1)? == key {
            return object.get(start..end);
        }
        at = skip_space(object, end);
        if *object.get(at)? != b',' {
            return None;
        }
        at += 1;
    }
}

fn skip_space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len())
}

/// One past the last byte of the value that starts at `from`; `None` if a number or word in it is none.
fn skip_value(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match *text.get(at)? {
            b'"' => at = skip_string(text, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' if depth > 0 => at += 1,
            byte if byte.is_ascii_whitespace() && depth > 0 => at += 1,
            _ => at = skip_scalar(text, at)?,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// One past the last byte of the number or word that starts at `from`.
fn skip_scalar(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let ends = |byte: &u8| matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']') || byte.is_ascii_whitespace();
    let len = rest.iter().position(ends).unwrap_or(rest.len());
    let scalar = &rest[..len];
    (matches!(scalar, b"true" | b"false" | b"null") || is_number(scalar)).then_some(from + len)
}

/// RFC 8259 section 6.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let signless = |text: &[u8]| digits(text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text));
    digits(whole) && (whole == b"0" || whole[0] != b'0') && fraction.is_none_or(digits) && exponent.is_none_or(signless)
}

fn skip_string(text: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::Refusal;
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Command<'_> {
        let mut commands = message(MessageKind::Text, text.as_bytes(), &mut Vec::new());
        assert_eq!(commands.len(), 1);
        commands.remove(0)
    }

    #[test]
    fn topics_come_in_three_spellings() {
        let text = r#"{"type":"subscribe","topic":"a","topics":["b","c\u0041"],"symbols":["d"]}"#;
        let topics = ["a", "b", "cA", "d"].map(Cow::from).to_vec();
        assert_eq!(one(text), Command::Subscribe(topics.clone()));
        assert_eq!(one(&text.replace("subscribe", "unsubscribe")), Command::Unsubscribe(topics));
    }

    #[test]
    fn data_is_published_verbatim() {
        for data in ["1", "\"a\\\"}b\"", "{ \"x\" : [1, {\"data\":2}] }", "null", "[]", "-1.50e3"] {
            for text in [
                format!(r#"{{"type":"publish","topic":"t","data":{data}}}"#),
                format!("\n{{ \"data\" :\t{data} , \"topic\":\"t\",\"type\":\"publish\"}}"),
            ] {
                let Command::Publish { topic, kind, payload } = one(&text) else { panic!("{text}") };
                assert_eq!((&*topic, kind), ("t", MessageKind::Text));
                assert_eq!(std::str::from_utf8(payload), Ok(data));
            }
        }
    }

    #[test]
    fn numbers_are_as_the_rfc_has_them() {
        for good in ["0", "-0", "10", "0.5", "-1.50e3", "1E+9", "2e-07", "123456789012345678901234567890"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "1.2.3", "1e2e3", "0x1", "1a", "--1", "NaN"] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, code) in [
            ("", "invalid_json"),
            ("[1]", "invalid_json"),
            ("{\"type\":1}", "invalid_json"),
            ("{\"type\":\"publish\",\"topic\":\"t\",\"data\":1\0x}", "invalid_json"),
            ("{\"type\":\"publish\",\"topic\":\"t\",\"data\":[51.22222222222224444444ca\\u]}", "invalid_json"),
            ("{\"type\":\"subscribe\"}", "no_topic"),
            ("{\"type\":\"publish\",\"data\":1}", "no_topic"),
            ("{\"type\":\"publish\",\"topic\":\"t\"}", "no_data"),
            ("{\"type\":\"dance\\\"\\n\"}", "unknown_type"),
        ] {
            let Command::Reply(reply) = one(text) else { panic!("{text}") };
            let reply: serde_json::Value = serde_json::from_str(&reply).expect("an error is JSON");
            assert_eq!((&reply["type"], &reply["code"]), (&"error".into(), &code.into()));
        }
    }

    #[test]
    fn a_million_brackets_do_not_pass_the_stack() {
        for open in ["[", "{\"a\":"] {
            let close = if open == "[" { "]" } else { "}" };
            let (deep, shut) = (open.repeat(200_000), close.repeat(200_000));
            for text in [
                format!("{{\"type\":\"ping\",\"x\":{deep}1{shut}}}"),
                format!("{{\"type\":\"ping\",\"x\":{deep}"),
                format!("{{\"topic\":{deep}1{shut},\"type\":\"ping\"}}"),
                format!("{{\"topics\":{deep}1{shut},\"type\":\"ping\"}}"),
                format!("{{\"type\":\"publish\",\"topic\":\"t\",\"data\":{deep}1{shut}}}"),
                deep.clone(),
            ] {
                one(&text);
            }
        }
    }

    #[test]
    fn results_are_json() {
        let results = [(Cow::from("a\"b"), Ok(())), (Cow::from("c"), Err(Refusal::TooMany))];
        let text: serde_json::Value = serde_json::from_str(&event(Event::Subscribed(&results))).unwrap();
        assert_eq!(text["topics"][0]["topic"], "a\"b");
        assert_eq!(text["topics"][1]["error"], "too_many_topics");
        let text: serde_json::Value =
            serde_json::from_str(&event(Event::Unsubscribed(&[(Cow::from("x"), false)]))).unwrap();
        assert_eq!(text["topics"][0]["ok"], false);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-z\"\\\\]*", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_data_is_found(before in json(), data in json(), after in json(), pretty: bool) {
            let object = serde_json::json!({"a": before, "data": data, "z": after});
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let found = member(text.as_bytes(), b"data").unwrap();
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(found).unwrap(), object["data"].clone());
            prop_assert!(member(text.as_bytes(), b"missing").is_none());
        }

        #[test]
        fn anything_is_answered(bytes: Vec<u8>) {
            prop_assert_eq!(message(MessageKind::Text, &bytes, &mut Vec::new()).len(), 1);
        }
    }
}
