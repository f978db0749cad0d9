//! What an application is asked.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What a client is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// To come in, and to have at once what its address names.
    Connect,
    /// To subscribe to topics.
    Subscribe,
    /// To publish to a topic.
    Publish,
}

/// Whether a client may do something. What is not known is left out.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// What.
    pub event: Event,
    /// The client's name, if it is one of the `json` dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The user that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The room that it is to be in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<Box<str>>,
    /// The topics that it is about.
    pub topics: Vec<Box<str>>,
    /// Where the client comes from: an IPv4 address, or the first 64 bits of an IPv6 address.
    pub address: String,
    /// Of a request: its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// Of a request: its token, where the server checks none itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Of a request: the header fields that are passed on, names in lower case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl fmt::Debug for Question {
    /// Without what the client proves itself by: its token, and the values of its header fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { event, client_id, user, room, topics, address, path, token: _, headers } = self;
        let mut shown = f.debug_struct("Question");
        shown.field("event", event).field("client_id", client_id).field("user", user).field("room", room);
        shown.field("topics", topics).field("address", address).field("path", path);
        shown.field("headers", &headers.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Question {
    /// Its text, an object of JSON.
    pub fn text(&self) -> Vec<u8> {
        // There is nothing in it that has no text.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let bare = Question {
            event: Event::Publish,
            client_id: None,
            user: None,
            room: None,
            topics: vec!["a\"b".into()],
            address: "192.0.2.1".into(),
            path: None,
            token: None,
            headers: BTreeMap::new(),
        };
        let text = String::from_utf8(bare.text()).expect("text");
        assert_eq!(text, r#"{"event":"publish","topics":["a\"b"],"address":"192.0.2.1"}"#);
        let whole = Question {
            event: Event::Connect,
            client_id: Some("c81e728d9d4c2f63".into()),
            user: Some("ann".into()),
            room: Some("lobby".into()),
            topics: Vec::new(),
            path: Some("/lobby".into()),
            token: Some("t".into()),
            headers: [("cookie".to_owned(), "a=b".to_owned())].into(),
            ..bare
        };
        let shown = format!("{whole:?}");
        assert!(shown.contains("lobby") && shown.contains("cookie") && !shown.contains("a=b"), "{shown}");
        assert!(!shown.contains("\"t\""), "{shown}");
        let text = String::from_utf8(whole.text()).expect("text");
        assert_eq!(
            text,
            r#"{"event":"connect","clientId":"c81e728d9d4c2f63","user":"ann","room":"lobby","topics":[],"#.to_owned()
                + r#""address":"192.0.2.1","path":"/lobby","token":"t","headers":{"cookie":"a=b"}}"#
        );
    }
}
