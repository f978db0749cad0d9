//! What is made of a server's messages: lines to be printed, notes of what was missed, and where to go on.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Where one is in a topic.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Place {
    /// The topic's incarnation.
    pub epoch: String,
    /// The newest message that came; 0 if none did.
    pub offset: u64,
}

/// The topics that are followed.
#[derive(Debug)]
pub struct Follow {
    /// Each topic, and where one is in it, once that is known.
    topics: BTreeMap<String, Option<Place>>,
    /// Each topic's newest message when it was subscribed to.
    newest: BTreeMap<String, u64>,
    /// Whether the past was asked for, and not answered yet.
    past: bool,
    /// Lines are whole envelopes.
    envelope: bool,
    /// Messages that are still wanted; `None`: all.
    left: Option<u64>,
}

/// What a message came to.
#[derive(PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing to be shown.
    Quiet,
    /// A line for standard output, and maybe a note before it.
    Line(Vec<u8>, Option<String>),
    /// Something for people.
    Note(String),
    /// The server will not have it: there is no use in going on.
    Refused(String),
}

#[derive(Serialize)]
struct Subscribe<'a> {
    r#type: &'static str,
    topics: Vec<&'a str>,
    recover: bool,
    since: BTreeMap<&'a str, &'a Place>,
}

/// A message of the server's, as far as it is read.
#[derive(Deserialize)]
struct Incoming<'a> {
    r#type: String,
    topic: Option<String>,
    epoch: Option<String>,
    offset: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    message: Option<String>,
    topics: Option<Vec<Subscribed>>,
}

/// Also `null` is data.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Subscribed {
    topic: String,
    ok: bool,
    epoch: Option<String>,
    offset: Option<u64>,
    error: Option<String>,
}

impl Follow {
    /// Follows topics; `since` is where to begin in all of them, if not with what is new.
    pub fn new(topics: &[String], since: Option<Place>, envelope: bool, count: Option<u64>) -> Follow {
        let past = since.is_some();
        let topics = topics.iter().map(|topic| (topic.clone(), since.clone())).collect();
        Follow { topics, newest: BTreeMap::new(), past, envelope, left: count }
    }

    /// Whether all that was wanted has come.
    pub fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether a number of messages is wanted.
    pub fn is_counting(&self) -> bool {
        self.left.is_some()
    }

    /// The text that subscribes, or goes on where it was.
    pub fn subscription(&self) -> String {
        let topics = self.topics.keys().map(String::as_str).collect();
        let since = self.topics.iter().filter_map(|(topic, place)| Some((topic.as_str(), place.as_ref()?))).collect();
        let subscribe = Subscribe { r#type: "subscribe", topics, recover: true, since };
        // Of strings and numbers.
        serde_json::to_string(&subscribe).unwrap_or_default()
    }

    /// Takes a message. What is none of a topic's is passed over: others can make it look like anything.
    pub fn take(&mut self, text: &[u8]) -> Step {
        let Ok(incoming) = serde_json::from_slice::<Incoming<'_>>(text) else { return Step::Quiet };
        match incoming.r#type.as_str() {
            "subscribed" => self.subscribed(incoming.topics.unwrap_or_default()),
            "message" => self.message(&incoming, text),
            "gap" => self.gap(&incoming),
            "error" => Step::Refused(incoming.message.unwrap_or_else(|| "an error without a word".to_owned())),
            _ => Step::Quiet,
        }
    }

    fn subscribed(&mut self, topics: Vec<Subscribed>) -> Step {
        let mut notes = Vec::new();
        let past = std::mem::take(&mut self.past);
        for Subscribed { topic, ok, epoch, offset, error } in topics {
            if !ok {
                return Step::Refused(format!("{topic}: {}", error.unwrap_or_default()));
            }
            let (Some(place), Some(epoch), Some(offset)) = (self.topics.get_mut(&topic), epoch, offset) else {
                continue;
            };
            if past && offset == 0 {
                notes.push(format!("{topic}: nothing of the past is kept"));
            }
            self.newest.insert(topic.clone(), offset);
            match place {
                Some(known) if known.epoch == epoch => {}
                Some(known) => {
                    if known.offset > 0 {
                        notes.push(format!("{topic}: the server has begun it anew; what was missed before is unknown"));
                    }
                    *known = Place { epoch, offset: 0 };
                }
                None => *place = Some(Place { epoch, offset }),
            }
        }
        if notes.is_empty() { Step::Quiet } else { Step::Note(notes.join("\n")) }
    }

    fn message(&mut self, incoming: &Incoming<'_>, text: &[u8]) -> Step {
        let Incoming { topic: Some(topic), epoch: Some(epoch), offset: Some(offset), data: Some(data), .. } = incoming
        else {
            return Step::Quiet;
        };
        let Some(place) = self.topics.get_mut(topic) else { return Step::Quiet };
        let expected = place.as_ref().filter(|place| place.epoch == *epoch).map(|place| place.offset + 1);
        let missed = expected.filter(|expected| offset > expected).map(|from| missed(topic, from, offset - 1));
        *place = Some(Place { epoch: epoch.clone(), offset: *offset });
        self.left = self.left.map(|left| left.saturating_sub(1));
        let mut line = if self.envelope { text.to_vec() } else { data.get().as_bytes().to_vec() };
        // In JSON they are white space: within a string they would be escaped.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        Step::Line(line, missed)
    }

    fn gap(&mut self, incoming: &Incoming<'_>) -> Step {
        let Incoming { topic: Some(topic), epoch: Some(epoch), from: Some(from), to: Some(to), .. } = incoming else {
            return Step::Quiet;
        };
        let Some(place) = self.topics.get_mut(topic) else { return Step::Quiet };
        *place = Some(Place { epoch: epoch.clone(), offset: *to });
        let all = self.newest.get(topic) == Some(to);
        Step::Note(missed(topic, *from, *to) + if all { ": nothing of the past is kept" } else { "" })
    }
}

fn missed(topic: &str, from: u64, to: u64) -> String {
    match from == to {
        true => format!("{topic}: message {from} is lost"),
        false => format!("{topic}: messages {from} to {to} are lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: &str, offset: u64) -> Place {
        Place { epoch: epoch.into(), offset }
    }

    fn follow(since: Option<Place>) -> Follow {
        Follow::new(&["b".into(), "a".into(), "b".into()], since, false, None)
    }

    fn message(topic: &str, epoch: &str, offset: u64, data: &str) -> String {
        format!(r#"{{"type":"message","topic":"{topic}","epoch":"{epoch}","offset":{offset},"data":{data}}}"#)
    }

    fn line(text: &str) -> Step {
        Step::Line(format!("{text}\n").into_bytes(), None)
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let mut follow = follow(None);
        assert_eq!(follow.subscription(), r#"{"type":"subscribe","topics":["a","b"],"recover":true,"since":{}}"#);
        let answer = r#"{"type":"subscribed","topics":[{"topic":"a","ok":true,"epoch":"e","offset":4},
            {"topic":"b","ok":true,"epoch":"f","offset":0}]}"#;
        assert_eq!(follow.take(answer.as_bytes()), Step::Quiet);
        assert_eq!(follow.take(message("a", "e", 5, "{\"x\": 1.0}").as_bytes()), line("{\"x\": 1.0}"));
        let since = r#""since":{"a":{"epoch":"e","offset":5},"b":{"epoch":"f","offset":0}}}"#;
        assert!(follow.subscription().ends_with(since), "{}", follow.subscription());
        assert_eq!(follow.take(answer.as_bytes()), Step::Quiet, "the newest is not where we are");
        assert_eq!(follow.take(message("a", "e", 6, "null").as_bytes()), line("null"));
    }

    #[test]
    fn what_is_missed_is_said() {
        let mut follow = follow(Some(place("e", 2)));
        let gap = br#"{"type":"gap","topic":"a","epoch":"e","from":3,"to":4}"#;
        assert_eq!(follow.take(gap), Step::Note("a: messages 3 to 4 are lost".into()));
        assert_eq!(follow.take(message("a", "e", 5, "5").as_bytes()), line("5"));
        let dropped = Some("a: message 6 is lost".into());
        assert_eq!(follow.take(message("a", "e", 7, "7").as_bytes()), Step::Line(b"7\n".to_vec(), dropped));
        let anew = br#"{"type":"subscribed","topics":[{"topic":"a","ok":true,"epoch":"f","offset":9}]}"#;
        assert!(matches!(follow.take(anew), Step::Note(note) if note.contains("anew")));
        assert_eq!(follow.topics["a"], Some(place("f", 0)), "all of the new epoch comes");
        assert_eq!(follow.take(message("a", "f", 1, "1").as_bytes()), line("1"));
    }

    #[test]
    fn all_that_is_kept_begins_in_no_epoch() {
        let mut follow = follow(Some(place("0", 0)));
        let answer = br#"{"type":"subscribed","topics":[{"topic":"a","ok":true,"epoch":"f","offset":9}]}"#;
        assert_eq!(follow.take(answer), Step::Quiet, "nothing was missed by one who had nothing");
    }

    #[test]
    fn a_topic_without_a_past_is_said_to_have_none() {
        let subscribed = |offset| {
            let topic = format!(r#"{{"topic":"a","ok":true,"epoch":"f","offset":{offset}}}"#);
            format!(r#"{{"type":"subscribed","topics":[{topic}]}}"#)
        };
        let gap = |to| format!(r#"{{"type":"gap","topic":"a","epoch":"f","from":1,"to":{to}}}"#);
        let nothing = Step::Note("a: nothing of the past is kept".into());
        let mut unused = follow(Some(place("0", 0)));
        assert_eq!(unused.take(subscribed(0).as_bytes()), nothing);
        assert_eq!(unused.take(subscribed(0).as_bytes()), Step::Quiet, "it is said once");
        let mut forgetful = follow(Some(place("0", 0)));
        assert_eq!(forgetful.take(subscribed(9).as_bytes()), Step::Quiet);
        let lost = Step::Note("a: messages 1 to 9 are lost: nothing of the past is kept".into());
        assert_eq!(forgetful.take(gap(9).as_bytes()), lost);
        let mut keeps_some = follow(Some(place("0", 0)));
        keeps_some.take(subscribed(9).as_bytes());
        assert_eq!(keeps_some.take(gap(5).as_bytes()), Step::Note("a: messages 1 to 5 are lost".into()));
        assert_eq!(follow(None).take(subscribed(0).as_bytes()), Step::Quiet, "nobody asked");
    }

    #[test]
    fn a_line_is_one_line_and_they_are_counted() {
        let mut follow = Follow::new(&["a".into()], None, true, Some(2));
        let text = message("a", "e", 1, "[1,\r\n2]");
        let Step::Line(envelope, None) = follow.take(text.as_bytes()) else { panic!("it is a line") };
        assert_eq!(envelope, format!("{}\n", text.replace("\r\n", "  ")).into_bytes());
        assert!(follow.is_counting() && !follow.is_over());
        follow.take(message("a", "e", 2, "2").as_bytes());
        assert!(follow.is_over());
    }

    #[test]
    fn only_envelopes_of_our_topics_are_messages() {
        let mut follow = follow(None);
        for text in ["", "1", "[]", "{}", r#"{"type":"chat"}"#, r#"{"type":"message","topic":"a","data":1}"#] {
            assert_eq!(follow.take(text.as_bytes()), Step::Quiet, "{text}");
        }
        assert_eq!(follow.take(message("c", "e", 1, "1").as_bytes()), Step::Quiet);
        assert_eq!(follow.take(br#"{"type":"gap","dropped":3}"#), Step::Quiet);
    }

    #[test]
    fn refusals_end_it() {
        let answer = br#"{"type":"subscribed","topics":[{"topic":"a","ok":false,"error":"too_many_topics"}]}"#;
        assert_eq!(follow(None).take(answer), Step::Refused("a: too_many_topics".into()));
        let error = br#"{"type":"error","message":"Bad since","code":"bad_since"}"#;
        assert_eq!(follow(None).take(error), Step::Refused("Bad since".into()));
    }
}
