//! Holds `openapi.json` to the code, and the pure parts to what they say.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Position;
use crate::hub::frame::MessageKind;

fn document() -> Value {
    serde_json::from_str(include_str!("openapi.json")).expect("JSON")
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// The keys of an object, as `/components/schemas/Place/properties` of the document.
fn keys(value: &Value, path: &str) -> BTreeSet<String> {
    let object = value.pointer(path).and_then(Value::as_object).unwrap_or_else(|| panic!("no object at {path}"));
    object.keys().cloned().collect()
}

/// The fields that a type takes: it says so when it is given one that it does not take.
fn fields_of(error: &str) -> BTreeSet<String> {
    let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
    set(expected.split('`').skip(1).step_by(2))
}

fn body_fields<'a, T: serde::Deserialize<'a>>() -> BTreeSet<String> {
    let error = serde_json::from_str::<T>(r#"{"?":1}"#).err().expect("unknown fields are refused");
    fields_of(&error.to_string())
}

fn query_fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let uri = "/?%3F=1".parse().expect("a URI");
    fields_of(&body::query::<T>(&uri).err().expect("unknown fields are refused").message)
}

#[test]
fn every_route_is_documented_and_nothing_else() {
    let document = document();
    let documented: BTreeSet<String> = keys(&document, "/paths")
        .into_iter()
        .flat_map(|path| {
            let methods: Vec<_> = document["paths"][&path].as_object().expect("methods").keys().cloned().collect();
            methods.into_iter().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let there = ENDPOINTS.iter().map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect();
    assert_eq!(documented, there);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_field_of_a_body_is_documented() {
    let document = document();
    for (name, fields) in [
        ("Publish", body_fields::<message::Publish<'_>>()),
        ("Broadcast", body_fields::<publish::Broadcast<'_>>()),
        ("Batch", body_fields::<publish::Batch<'_>>()),
        ("Send", body_fields::<direct::Send<'_>>()),
        ("Disconnect", body_fields::<direct::Disconnect>()),
    ] {
        assert_eq!(keys(&document, &format!("/components/schemas/{name}/properties")), fields, "{name}");
        assert_eq!(document["components"]["schemas"][name]["additionalProperties"], false, "{name}");
    }
}

#[test]
fn every_field_of_a_query_is_documented() {
    let document = document();
    for (path, fields) in [
        ("/history", query_fields::<history::History>()),
        ("/presence", query_fields::<presence::Presence>()),
        ("/rooms", query_fields::<presence::Rooms>()),
        ("/topics", query_fields::<topics::Topics>()),
        ("/connections", query_fields::<connections::Connections>()),
    ] {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().expect("a list");
        assert_eq!(set(parameters.iter().filter_map(|parameter| parameter["name"].as_str())), fields, "{path}");
    }
}

#[test]
fn every_field_of_an_answer_is_documented() {
    let document = document();
    let samples = [
        publish::samples(),
        history::samples(),
        presence::samples(),
        topics::samples(),
        drain::samples(),
        reload::samples(),
        overview::samples(),
        connections::samples(),
    ];
    for (name, sample) in samples.into_iter().flatten() {
        let path = format!("/components/schemas/{name}/properties");
        assert_eq!(keys(&document, &path), keys(&sample, ""), "{name}");
    }
    let told = serde_json::to_value(problem::Told { code: "", message: "" }).expect("JSON");
    assert_eq!(keys(&document, "/components/schemas/Problem/properties"), keys(&told, ""));
    assert_eq!(serde_json::to_value(direct::Done {}).expect("JSON"), json!({}));
}

#[test]
fn bounds_are_documented() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for (bound, at) in [
        (publish::MAX_MESSAGES, &schemas["Batch"]["properties"]["messages"]["maxItems"]),
        (publish::MAX_MESSAGES, &schemas["Broadcast"]["properties"]["topics"]["maxItems"]),
        (history::MAX_LIMIT, &document["paths"]["/history"]["get"]["parameters"][3]["schema"]["maximum"]),
        (presence::MAX_LIMIT, &document["paths"]["/rooms"]["get"]["parameters"][1]["schema"]["maximum"]),
        (topics::MAX_LIMIT, &document["paths"]["/topics"]["get"]["parameters"][3]["schema"]["maximum"]),
        (connections::MAX_LIMIT, &document["paths"]["/connections"]["get"]["parameters"][1]["schema"]["maximum"]),
    ] {
        assert_eq!(at.as_u64(), Some(bound as u64), "{at}");
    }
}

#[test]
fn a_host_is_an_address_or_localhost() {
    let local = |host: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a value"));
        is_local(&headers, None)
    };
    for host in ["localhost", "LocalHost:8081", "127.0.0.1", "10.0.0.1:80", "[::1]", "[fe80::1]:8081"] {
        assert!(local(host), "{host}");
    }
    for host in ["", "example.com", "localhost.example.com:8081", "127.0.0.1.nip.io", "0x7f.1", "127.1", "a@127.0.0.1"]
    {
        assert!(!local(host), "{host}");
    }
    assert!(is_local(&HeaderMap::new(), None), "no browser leaves it out");
    assert!(!is_local(&HeaderMap::new(), Some("example.com")));
    let mut two = HeaderMap::new();
    two.append(HOST, "localhost".parse().expect("a value"));
    two.append(HOST, "example.com".parse().expect("a value"));
    assert!(!is_local(&two, None));
}

#[test]
fn ids_have_one_spelling_and_keys_are_not_ids() {
    let known =
        |id: Value, key| message::known_by((!id.is_null()).then_some(&id), key, 3).map(|known| known.map(String::from));
    assert_eq!(known(json!("k"), Some("x")), Ok(Some(r#""k""#.into())), "the message's own comes first");
    assert_eq!(known(json!(-7), None), Ok(Some("-7".into())));
    assert_eq!(known(json!(u64::MAX), None), Ok(Some(u64::MAX.to_string())));
    assert_eq!(known(Value::Null, Some("k")), Ok(Some("key 3 k".into())));
    assert_eq!(known(Value::Null, None), Ok(None), "known by nothing");
    for id in [json!(""), json!("x".repeat(129)), json!(1.0), json!(1e30), json!([]), json!(true)] {
        assert_eq!(known(id, Some("k")), Err(problem::BAD_ID));
    }
}

#[test]
fn data_is_taken_as_its_encoding_has_it() {
    use message::Encoding::{Base64, Json, Text};
    let taken = |data: &str, encoding| {
        let data: Box<serde_json::value::RawValue> = serde_json::from_str(data).expect("JSON");
        message::message(Some(&data), encoding, 8).map(|message| (message.kind, message.payload.to_vec()))
    };
    let text = |text: &str| Ok((MessageKind::Text, text.as_bytes().to_vec()));
    assert_eq!(taken(" { \"a\":1} ", Json), text("{ \"a\":1}"), "as it is spelled");
    assert_eq!(taken("null", Json), text("null"));
    assert_eq!(taken(r#""\u0041""#, Json), text(r#""\u0041""#));
    assert_eq!(taken(r#""\u0041""#, Text), text("A"));
    assert_eq!(taken(r#""AAE=""#, Base64), Ok((MessageKind::Binary, vec![0, 1])));
    let code = |data: &str, encoding| taken(data, encoding).expect_err("it is refused").code;
    assert_eq!(code("123456789", Json), "too_large");
    for (data, encoding) in [("1", Text), ("1", Base64), (r#""AA""#, Base64), (r#""\ud800""#, Json), ("1e999", Json)] {
        assert_eq!(code(data, encoding), "bad_data", "{data}");
    }
    assert_eq!(message::message(None, Json, 8).err(), Some(problem::NO_DATA));
}

#[test]
fn rooms_are_sorted_filtered_and_counted() {
    let rooms = ["b", "ab", "a", "aa", "c"].map(|name| (name.into(), 1)).to_vec();
    let listed = serde_json::to_value(presence::first(rooms, "a", 2)).expect("JSON");
    let room = |name: &str| json!({"room": name, "userCount": 1});
    assert_eq!(listed, json!({"rooms": [room("a"), room("aa")], "total": 3}));
}

#[test]
fn an_answer_has_a_bound_and_a_message() {
    use crate::hub::history::Kept;
    let kept = |offset, len: usize| {
        let payload = vec![b'1'; len].into();
        Kept { offset, kind: MessageKind::Text, payload, at: crate::time::Tick(0) }
    };
    let all = [kept(1, 4), kept(2, 4), kept(3, 9), kept(4, 4), kept(5, 4)];
    let offsets = |newest, most| {
        let some = history::few_enough(&all, newest, most);
        some.iter().map(|kept| kept.offset).collect::<Vec<_>>()
    };
    assert_eq!((offsets(true, 8), offsets(false, 8)), (vec![4, 5], vec![1, 2]));
    assert_eq!((offsets(true, 16), offsets(false, 17)), (vec![4, 5], vec![1, 2, 3]), "without a hole");
    assert_eq!((offsets(true, 3), offsets(false, 0)), (vec![5], vec![1]), "one comes at least");
    assert_eq!(offsets(true, 25), [1, 2, 3, 4, 5]);
    assert!(history::few_enough(&[], true, 8).is_empty());
}

#[test]
fn requests_are_counted_by_class() {
    let tally = Tally::default();
    for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::GATEWAY_TIMEOUT] {
        tally.count(4, status);
    }
    let counted: Vec<_> = tally.samples().filter(|(_, _, count)| *count > 0).collect();
    assert_eq!(counted, [("/disconnect", "2xx", 1), ("/disconnect", "4xx", 2), ("/disconnect", "5xx", 1)]);
    assert_eq!(tally.samples().count(), 3 * ENDPOINTS.len());
}

#[test]
fn a_place_is_spelled_as_for_clients() {
    let place = serde_json::to_string(&publish::place("a", Position { epoch: 0x1f, offset: 7 })).expect("JSON");
    assert_eq!(place, r#"{"topic":"a","epoch":"0000001f","offset":7}"#);
}

/// What is published of a body.
fn published(body: &str) -> Result<(MessageKind, Vec<u8>), Problem> {
    let asked: message::Publish<'_> = serde_json::from_str(body).expect("a publication");
    message::message(asked.data, asked.encoding, usize::MAX).map(|message| (message.kind, message.payload.to_vec()))
}

proptest! {
    #[test]
    fn whatever_is_published_goes_out_as_it_came(text: String, bytes: Vec<u8>, space in "[ \t\r\n]{0,3}", number: f64) {
        let quoted = Value::from(text.as_str()).to_string();
        let list = format!("[{quoted}{space},{{{quoted}:{space}{}}}]", Value::from(number));
        for value in [&quoted, &list] {
            let json = published(&format!(r#"{{"topic":"t","data":{space}{value}{space}}}"#));
            prop_assert_eq!(json, Ok((MessageKind::Text, value.as_bytes().to_vec())));
        }
        let plain = published(&format!(r#"{{"data":{quoted},"encoding":"text"}}"#));
        prop_assert_eq!(plain, Ok((MessageKind::Text, text.into_bytes())));
        let binary = published(&format!(r#"{{"encoding":"base64","data":"{}"}}"#, STANDARD.encode(&bytes)));
        prop_assert_eq!(binary, Ok((MessageKind::Binary, bytes)));
    }
}
