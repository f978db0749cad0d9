//! The types whose messages go to the sender's room.

use std::collections::BTreeSet;

/// What clients send to the server, or to one receiver.
const CLIENT_TYPES: [&str; 10] =
    ["file", "heartbeat", "image", "ping", "presence", "publish", "subscribe", "system", "text", "unsubscribe"];
/// What only the server says: a client that sent it would speak in the server's name.
const SERVER_TYPES: [&str; 10] =
    ["ack", "connected", "error", "gap", "message", "pong", "subscribed", "unsubscribed", "user_joined", "user_left"];

/// A type that the protocol gives a meaning of its own.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("messages of type {0:?} cannot be relayed: the protocol has a meaning for it")]
pub struct NotRelayable(pub String);

/// The types whose messages go to the sender's room: `chat`, and those that the configuration adds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relayed(BTreeSet<Box<str>>);

impl Default for Relayed {
    /// `chat` alone.
    fn default() -> Relayed {
        Relayed(BTreeSet::from(["chat".into()]))
    }
}

impl Relayed {
    /// `chat` and these types.
    ///
    /// # Errors
    /// The first of them that is the protocol's own.
    pub fn with<S: AsRef<str>>(types: impl IntoIterator<Item = S>) -> Result<Relayed, NotRelayable> {
        let mut relayed = Relayed::default();
        for name in types {
            let name = name.as_ref();
            if CLIENT_TYPES.contains(&name) || SERVER_TYPES.contains(&name) {
                return Err(NotRelayable(name.to_owned()));
            }
            relayed.0.insert(name.into());
        }
        Ok(relayed)
    }

    /// Whether messages of that type are relayed.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_is_always_relayed_and_the_protocols_own_types_never() {
        let relayed = Relayed::with(["playerMove", "chat"]).expect("both can be");
        assert!(relayed.contains("chat") && relayed.contains("playerMove") && !relayed.contains("playermove"));
        assert_eq!(Relayed::with(["chat"; 0]), Ok(Relayed::default()));
        for own in ["publish", "text", "error", "user_left"] {
            assert_eq!(Relayed::with(["playerMove", own]), Err(NotRelayable(own.into())));
        }
    }
}
