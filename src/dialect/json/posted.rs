//! Publications that come by HTTP.

use std::borrow::Cow;

use simd_json::tape::Value;

use super::fields::{Fields, parse};
use super::problem::{BAD_TOPIC, INVALID, Problem};
use super::request::{id_text, publish};
use super::text::shortened;
use super::types::Types;
use crate::dialect::Command;
use crate::limits::is_topic_name;

/// Characters of an unknown field that its error quotes.
const MAX_NAME_CHARS: usize = 64;

/// What a request's body asks to publish.
#[derive(PartialEq, Eq, Debug)]
pub struct Posted<'a> {
    /// Topic name.
    pub topic: Cow<'a, str>,
    /// What subscribers of the topic receive: JSON text, as it was sent.
    pub data: &'a [u8],
    /// The message's `id` as JSON text, if it has one.
    pub id: Option<Cow<'a, str>>,
}

/// Reads `{"topic","data","id"?}`, by the rules for a `publish` of the dialect. Parsing writes into `scratch`, so that parts
/// of `body` can be lent untouched.
///
/// # Errors
/// What is wrong with it.
pub fn posted<'a>(body: &'a [u8], types: &Types, scratch: &mut Vec<u8>) -> Result<Posted<'a>, Problem> {
    scratch.clear();
    simdutf8::basic::from_utf8(body).map_err(|_| INVALID)?;
    let tape = parse(body, scratch).ok_or(INVALID)?;
    let fields = Fields::of(body, tape.as_value())?;
    if let Some(name) = unknown(tape.as_value()) {
        let message =
            format!("Unknown field: {}; a publication has topic, data and id", shortened(name, MAX_NAME_CHARS));
        return Err(Problem::told("invalid_json", message));
    }
    let id = fields.id.map(id_text).transpose()?;
    match publish(&fields, None, types)? {
        Command::Publish { topic, payload, .. } if is_topic_name(&topic) => Ok(Posted { topic, data: payload, id }),
        _ => Err(BAD_TOPIC),
    }
}

/// The first field that a publication does not have. Whoever sends it means something by it, which would not be done.
fn unknown<'t>(body: Value<'t, 't>) -> Option<&'t str> {
    body.as_object()?.iter().map(|(name, _)| name).find(|name| !["topic", "data", "id"].contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_publication_or_says_what_it_is_not() {
        let long = format!(r#"{{"topic":"{}","data":1}}"#, "x".repeat(257));
        for (body, expected) in [
            (r#"{"topic":"a","data": {"b":1} }"#, Ok((r#"{"b":1}"#, None))),
            (r#"{"id":7,"data":"\u0061","topic":"\u0061"}"#, Ok((r#""\u0061""#, Some("7")))),
            (r#"{"topic":"a","data":null,"id":"\u006d"}"#, Ok(("null", Some(r#""m""#)))),
            (r#"{"topic":"a","data":"AA==","encoding":"base64"}"#, Err((400, "invalid_json"))),
            (r#"{"topic":"a"}"#, Err((400, "no_data"))),
            (r#"{"topic":7,"data":1}"#, Err((400, "no_topic"))),
            (r#"{"data":1}"#, Err((400, "no_topic"))),
            (r#"{"topic":"","data":1}"#, Err((400, "bad_topic"))),
            (r#"{"topic":"\u0000user:a","data":1}"#, Err((400, "bad_topic"))),
            (&long, Err((400, "bad_topic"))),
            (r#"{"topic":"a","data":1,"id":""}"#, Err((400, "bad_id"))),
            (r#"{"topic":"a","data":1,"topic":"b"}"#, Err((400, "invalid_json"))),
            (r#"{"topic":"a","data":01}"#, Err((400, "invalid_json"))),
            (r#"[{"topic":"a","data":1}]"#, Err((400, "invalid_json"))),
            ("", Err((400, "invalid_json"))),
            (r#"{"topic":"a","data":{"type":"gap"}}"#, Err((403, "not_allowed"))),
        ] {
            let mut scratch = Vec::new();
            let posted = posted(body.as_bytes(), &Types::default(), &mut scratch);
            match (posted, expected) {
                (Ok(posted), Ok((data, id))) => {
                    assert_eq!((&*posted.topic, posted.data, posted.id.as_deref()), ("a", data.as_bytes(), id));
                }
                (Err(problem), Err((status, code))) => {
                    assert_eq!(problem.status(), status, "{body}");
                    assert!(problem.body().starts_with(&format!("{{\"code\":\"{code}\",\"message\":\"")), "{body}");
                }
                (posted, _) => panic!("{body}: {posted:?}"),
            }
        }
        assert!(posted(b"{\"topic\":\"a\",\"data\":\"\xff\"}", &Types::default(), &mut Vec::new()).is_err());
    }
}
