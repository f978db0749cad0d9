//! What happened in a run, to see that something did.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Defines the counts, their sum, and the list of all.
macro_rules! tally {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counts of what happened.
        #[derive(Clone, PartialEq, Eq, Default, Debug)]
        pub struct Tally {
            $($(#[doc = $doc])* pub $name: usize,)*
            /// Connections that were closed, by code.
            pub closes: BTreeMap<u16, usize>,
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Tally) {
                $(self.$name += other.$name;)*
                other.closes.into_iter().for_each(|(code, n)| *self.closes.entry(code).or_default() += n);
            }
        }

        impl Tally {
            fn counts(&self) -> Vec<(&'static str, usize)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

tally! {
    runs,
    calm,
    opened,
    published,
    delivered,
    dropped,
    accounted,
    inflated,
    pings,
    pongs,
    pages,
    refused,
    resets,
    turns,
    /// Times that all shards were given other settings.
    reloads,
    /// Servers that were drained.
    drains,
    /// Clients that these have sent away.
    sent_away,
    /// Newcomers that they have told to go elsewhere.
    turned_away,
    /// Clients that have come back to the next server.
    returned,
    /// Tokens that were checked, and questions that the application has answered.
    verdicts,
    /// Those that came when the connection's slot was another's.
    misdirected,
    /// Tokens that were good, but for their time, when they were to be checked.
    outdated,
    /// What was asked for and not allowed.
    forbidden,
    /// Tokens that have taken the place of others.
    renewed,
    /// Subscriptions that began in the past.
    resumed,
    /// Those whose topic had been forgotten.
    forgotten,
    /// Gaps that were told.
    gaps,
    /// Event streams that were begun.
    streams,
    /// Those that went on from an id.
    continued,
    /// Heartbeats of event streams.
    comments,
    acknowledged,
    /// Connections under a name that the client had before.
    claims,
    /// Messages that backends had.
    handed_over,
    /// Those for which there was no backend.
    no_backend,
    /// Those whose id was on its way already.
    busy,
    /// Messages of backends to clients.
    streamed,
    /// Wishes of backends that concerned nobody.
    no_receiver,
    /// Times that a backend has made a client a member of its room, or ended that.
    memberships,
    /// Clients that were made users.
    identified,
    /// Comings and goings that backends were told of.
    introduced,
}

impl Tally {
    /// Panics if the runs were so quiet that they say nothing.
    pub fn assert_eventful(&self) {
        for (name, count) in self.counts() {
            assert!(count > 0, "nothing {name}: {self:?}");
        }
        for code in [1000, 1001, 1002, 1005, 1007, 1008, 1009, 1012, 1013, 3000, 4001, 4100] {
            assert!(self.closes.contains_key(&code), "nobody was closed with {code}");
        }
    }
}
