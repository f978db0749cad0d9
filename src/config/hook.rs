//! What an application's hook is asked about.

use super::value::Grammar;

/// What clients do that a hook is asked about first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HookEvents {
    /// Coming in.
    pub connect: bool,
    /// Subscribing to topics.
    pub subscribe: bool,
    /// Publishing to topics.
    pub publish: bool,
}

impl HookEvents {
    /// Coming in alone.
    pub const CONNECT: HookEvents = HookEvents { connect: true, subscribe: false, publish: false };

    fn named(&mut self) -> [(&'static str, &mut bool); 3] {
        [("connect", &mut self.connect), ("subscribe", &mut self.subscribe), ("publish", &mut self.publish)]
    }
}

/// The names of events with commas between, at least one.
pub(super) struct Events;

impl Grammar for Events {
    type Value = HookEvents;

    fn parse(&self, text: &str) -> Result<HookEvents, &'static str> {
        let mut events = HookEvents::default();
        for word in text.split(',').map(str::trim) {
            let mut named = events.named().into_iter();
            let (_, event) = named.find(|(name, _)| *name == word).ok_or("has a word that is no event")?;
            *event = true;
        }
        Ok(events)
    }

    fn show(&self, value: &HookEvents) -> String {
        let mut value = *value;
        let named = value.named().into_iter().filter_map(|(name, is_in)| is_in.then_some(name));
        named.collect::<Vec<_>>().join(",")
    }

    fn range(&self) -> String {
        "connect, subscribe, publish, with commas between".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("EVENTS", "")
    }
}
