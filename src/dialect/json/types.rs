//! The types of messages that are an application's own, and where they go.

use std::collections::BTreeMap;

/// What is relayed unless the configuration says otherwise.
const CHAT: &str = "chat";
/// What clients send to the server.
const CLIENT_TYPES: [&str; 7] = ["heartbeat", "ping", "presence", "publish", "refresh", "subscribe", "unsubscribe"];
/// What clients send to one receiver.
const ADDRESSED_TYPES: [&str; 4] = ["file", "image", "system", "text"];
/// What the server says: a client that said it would speak in the server's name.
const SERVER_TYPES: [&str; 13] = [
    "ack",
    "connected",
    "error",
    "gap",
    "message",
    "pong",
    "presence",
    "reconnect",
    "refreshed",
    "subscribed",
    "unsubscribed",
    "user_joined",
    "user_left",
];

/// Whether messages of that type are the server's to send.
pub(super) fn is_servers(name: &str) -> bool {
    SERVER_TYPES.contains(&name)
}

/// Whether messages of that type go to one receiver.
pub(super) fn is_addressed(name: &str) -> bool {
    ADDRESSED_TYPES.contains(&name)
}

/// Where messages of an application's own type go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// To the sender's room.
    Room,
    /// To a backend.
    Backend,
}

/// A type that cannot be an application's own in that way.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadType {
    /// The protocol has a meaning for it.
    #[error("{0:?} is a type of the protocol's own")]
    Taken(String),
    /// It is to go to two places.
    #[error("{0:?} cannot be both relayed and handed over")]
    Both(String),
}

/// The types that are an application's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Types(BTreeMap<Box<str>, Destination>);

impl Default for Types {
    /// `chat` alone, to the room.
    fn default() -> Types {
        Types(BTreeMap::from([(CHAT.into(), Destination::Room)]))
    }
}

impl Types {
    /// The types of `relay` go to the room, those of `handover` to a backend; `chat` to a backend if it is in both, since
    /// `relay` has it by default.
    ///
    /// # Errors
    /// The first of them that cannot.
    pub fn new<S: AsRef<str>>(relay: &[S], handover: &[S]) -> Result<Types, BadType> {
        let mut types = Types(BTreeMap::new());
        let is_handed_over = |name: &str| name == CHAT && handover.iter().any(|other| other.as_ref() == name);
        let relay = relay.iter().filter(|name| !is_handed_over(name.as_ref())).map(|name| (name, Destination::Room));
        for (name, destination) in relay.chain(handover.iter().map(|name| (name, Destination::Backend))) {
            let name = name.as_ref();
            if CLIENT_TYPES.contains(&name) || is_addressed(name) || is_servers(name) {
                return Err(BadType::Taken(name.to_owned()));
            }
            let earlier = types.0.insert(name.into(), destination);
            if earlier.is_some_and(|earlier| earlier != destination) {
                return Err(BadType::Both(name.to_owned()));
            }
        }
        Ok(types)
    }

    /// Whether the server says in messages of that type who they are from.
    pub(super) fn is_signed(&self, name: &str) -> bool {
        is_addressed(name) || self.destination(name) == Some(Destination::Room)
    }

    /// Where messages of that type go, if it is an application's own.
    pub fn destination(&self, name: &str) -> Option<Destination> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_goes_where_it_is_told_to_and_the_protocols_own_types_nowhere() {
        let types = Types::new(&["playerMove", "chat"], &["prompt"]).expect("all can be");
        for (name, destination) in [
            ("chat", Some(Destination::Room)),
            ("playerMove", Some(Destination::Room)),
            ("playermove", None),
            ("prompt", Some(Destination::Backend)),
        ] {
            assert_eq!(types.destination(name), destination, "{name}");
        }
        assert_eq!(Types::new(&["chat"], &[]), Ok(Types::default()));
        let chat = |relay: &[&str], handover: &[&str]| {
            let types = Types::new(relay, handover).expect("all can be");
            (types.destination("chat"), types.is_signed("chat"))
        };
        assert_eq!(chat(&[], &[]), (None, false));
        assert_eq!(chat(&["chat"], &["prompt", "chat"]), (Some(Destination::Backend), false));
        assert_eq!(chat(&["chat", "a"], &["prompt"]), (Some(Destination::Room), true));
        for own in ["publish", "text", "error", "user_left"] {
            assert_eq!(Types::new(&["playerMove", own], &[]), Err(BadType::Taken(own.into())));
            assert_eq!(Types::new(&[], &[own]), Err(BadType::Taken(own.into())));
        }
        assert_eq!(Types::new(&["a"], &["a"]), Err(BadType::Both("a".into())));
    }
}
