//! What clients and backends have said to each other, and who is who among them.

use std::collections::{BTreeMap, BTreeSet};

/// A message that a client has said to whichever backend has its room.
pub struct Prompt {
    /// The client, by its first connection.
    pub author: usize,
    /// Which of its prompts: it is said again under the same number.
    pub number: usize,
    /// The connection.
    pub speaker: usize,
    /// As it was sent.
    pub text: String,
    /// Of the users that the client may be, the first that it may still have been.
    user: usize,
}

/// What a backend does to a client: all of it comes in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Sends it this, as it arrives.
    Text(String),
    /// Makes it a member of the backend's room.
    Join,
    Leave,
    Close(u16),
}

/// All that one backend does to one client.
#[derive(Default)]
pub struct Deeds {
    pub all: Vec<Deed>,
    /// What the backend had published to its room when its last `join` was acknowledged.
    pub joined_at: Option<usize>,
}

impl Deeds {
    /// The next from `from` on that has an effect on a client which is in the backend's room, or is not.
    pub fn effective(&self, from: usize, joined: bool) -> Option<(usize, &Deed)> {
        let has_effect = |deed: &Deed| match deed {
            Deed::Join => !joined,
            Deed::Leave => joined,
            Deed::Text(_) | Deed::Close(_) => true,
        };
        self.all.iter().enumerate().skip(from).find(|(_, deed)| has_effect(deed))
    }

    /// Whether this was the last that had to do with the room.
    pub fn is_last_of_room(&self, at: usize) -> bool {
        !self.all[at + 1..].iter().any(|deed| matches!(deed, Deed::Join | Deed::Leave))
    }
}

/// The users that a client was, or may have been, in the order in which it was asked for.
#[derive(Default)]
struct Users {
    asked: Vec<Option<String>>,
    /// One of them, for certain: it is this one, or one that was asked for later.
    certain: usize,
    /// What was asked for last is not answered; and whether the answer will say who the client is.
    open: Option<bool>,
    /// A connection anew is under way: nobody knows which of the two is meant.
    unsettled: bool,
    /// Nobody was asked for since that began.
    fresh: bool,
}

#[derive(Default)]
pub struct Ledger {
    /// Backends that have tried to connect, and those that were welcomed.
    pub backends: (usize, usize),
    /// `clientId` and room of each connection.
    names: BTreeMap<usize, (String, String)>,
    /// The newest connection of each `clientId`.
    newest: BTreeMap<String, usize>,
    said: Vec<Prompt>,
    /// Prompts that a backend has had, by author and number.
    received: BTreeSet<(usize, usize)>,
    acknowledged: BTreeSet<(usize, usize)>,
    /// By backend and `clientId`.
    deeds: BTreeMap<(usize, String), Deeds>,
    users: BTreeMap<String, Users>,
    /// Who had the messages of a room.
    served: BTreeMap<String, usize>,
}

impl Ledger {
    // Clients.

    /// A client is about to come back.
    pub fn comes_back(&mut self, client: &str) {
        let users = self.users.entry(client.to_owned()).or_default();
        users.fresh = users.open.is_none();
        users.unsettled = true;
        users.asked.push(None);
    }

    pub fn welcomed(&mut self, connection: usize, client: &str, room: &str) {
        self.names.insert(connection, (client.to_owned(), room.to_owned()));
        let users = self.users.entry(client.to_owned()).or_default();
        if users.asked.is_empty() {
            users.asked.push(None);
        } else if users.fresh {
            users.certain = users.asked.len() - 1;
        }
        users.unsettled = false;
    }

    /// Takes note of a prompt; `write` makes its text of the number that it is known by.
    pub fn say(&mut self, author: usize, number: usize, speaker: usize, write: impl FnOnce(usize) -> String) -> String {
        let text = write(self.said.len());
        let user = self.users.get(&self.names[&speaker].0).map_or(0, |users| users.certain);
        self.said.push(Prompt { author, number, speaker, text: text.clone(), user });
        text
    }

    pub fn acknowledge(&mut self, author: usize, number: usize) {
        assert!(self.backends.0 > 0, "there is no backend that could have it");
        self.acknowledged.insert((author, number));
    }

    /// Whatever was acknowledged is where it should be, as nothing of what backends were sent was lost.
    pub fn check_received(&self) {
        let lost = self.acknowledged.difference(&self.received).next();
        assert_eq!(lost, None, "acknowledged, and no backend has it");
    }

    // Backends.

    /// A backend has had a prompt: the right one, as it was sent, and for the first time.
    pub fn receive(&mut self, backend: usize, said: usize, text: &str, calm: bool) -> &Prompt {
        let prompt = &self.said[said];
        let (client, room) = &self.names[&prompt.speaker];
        let whole = prompt.text.strip_suffix('}').expect("an object");
        let users = &self.users[client].asked[prompt.user..];
        let (text, timestamp) = text.rsplit_once(r#","timestamp":"#).expect("the time");
        assert!(timestamp.trim_end_matches('}').parse::<u64>().is_ok(), "{timestamp:?}");
        let is_right = users.iter().any(|user| {
            let user = user.as_ref().map_or(String::new(), |user| format!(r#","user":"{user}""#));
            text == format!(r#"{whole},"clientId":"{client}","room":"{room}"{user}"#)
        });
        assert!(is_right, "not {:?} of {client} in {room}, one of {users:?}: {text:?}", prompt.text);
        assert!(self.received.insert((prompt.author, prompt.number)), "it was here before: {text:?}");
        let served = *self.served.entry(room.clone()).or_insert(backend);
        assert!(!calm || served == backend, "room {room} has two backends: {served}, {backend}");
        prompt
    }

    /// A connection has a `clientId` for certain, and no older one may.
    pub fn takes_over(&mut self, connection: usize) {
        self.newest.insert(self.names[&connection].0.clone(), connection);
    }

    /// Whether another connection should have taken over.
    pub fn is_replaced(&self, connection: usize) -> bool {
        self.newest.get(&self.names[&connection].0).is_some_and(|newest| *newest != connection)
    }

    pub fn name(&self, connection: usize) -> &str {
        &self.names[&connection].0
    }

    pub fn deeds(&mut self, backend: usize, client: &str) -> &mut Deeds {
        self.deeds.entry((backend, client.to_owned())).or_default()
    }

    /// All backends that have done something to a client.
    pub fn doers(&self, client: &str) -> Vec<usize> {
        self.deeds.keys().filter(|(_, other)| other == client).map(|(backend, _)| *backend).collect()
    }

    /// Whether a client may be made another user: not before the last time is over.
    pub fn may_identify(&self, client: &str) -> bool {
        self.users.get(client).is_some_and(|users| users.open.is_none())
    }

    pub fn identify(&mut self, client: &str, user: Option<String>) {
        let users = self.users.get_mut(client).expect("it was welcomed");
        users.asked.push(user);
        users.fresh = false;
        users.open = Some(!users.unsettled);
    }

    /// What came of that.
    pub fn identified(&mut self, client: &str, done: bool) {
        let users = self.users.get_mut(client).expect("it was welcomed");
        let settled = users.open.take().expect("it was asked for");
        if done && settled && !users.unsettled {
            users.certain = users.asked.len() - 1;
        }
    }
}
