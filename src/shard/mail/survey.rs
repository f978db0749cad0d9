//! What is asked of a shard by those who watch it, and what it says.

use std::time::Duration;

use crate::conn::peer::Peer;

/// Which connections come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnOrder {
    /// Those that have the most bytes still to be sent.
    Backlog,
    /// Those that something has waited for the longest.
    Age,
    /// Those that send and are sent the most messages.
    Rate,
}

/// Which topics come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicOrder {
    /// Those with the most subscribers.
    Subscribers,
    /// Those that are published to the most.
    Rate,
}

/// What is known of a connection.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnFacts {
    /// The number that the log names it by, too.
    pub number: u64,
    /// Where it comes from.
    pub peer: Peer,
    /// What it speaks.
    pub kind: &'static str,
    /// The client's name, of the `json` dialect.
    pub client: Option<u64>,
    /// The user that it is a connection of.
    pub user: Option<Box<str>>,
    /// How many topics it is subscribed to.
    pub topics: usize,
    /// Bytes that are still to be sent to it.
    pub backlog: u32,
    /// How long something has waited for it without a break.
    pub behind: Duration,
    /// Milliseconds since 1970 at which it came.
    pub since_ms: u64,
    /// How many messages it sends a second, and how many it is sent; not known at the first look.
    pub rates: Option<(f64, f64)>,
}

/// What a shard knows of a topic.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct TopicFacts {
    /// Subscribers on this shard.
    pub subscribers: usize,
    /// How many messages are published to it a second: said by its home shard, and not at the first look.
    pub rate: Option<f64>,
}
