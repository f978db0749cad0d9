//! Limits that hold for clients elsewhere unless something is set, and for everybody if it is.

use super::Rate;
use super::value::Grammar;

/// A limit of what comes from one client or one address.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Limit<T> {
    /// Of clients: the default for those elsewhere; none for those on this machine, which the limit is not meant for. Of the
    /// process: what suits the machine.
    #[default]
    Auto,
    /// None.
    Off,
    /// This one, for everybody.
    At(T),
}

/// What [`Limit::Auto`] stands for, of `address_connections`: offices, schools and whole providers share an address.
pub const AUTO_ADDRESS_CONNECTIONS: u32 = 1_000;
/// The same of `address_connect_rate`: all of an office may come back at once, and a flood brings thousands a second.
pub const AUTO_ADDRESS_CONNECT_RATE: Rate = Rate { per_second: 200, burst: 1_000 };
/// The same of `message_rate`: a game that sends its input 60 times a second has room to spare.
pub const AUTO_MESSAGE_RATE: Rate = Rate { per_second: 1_000, burst: 5_000 };
/// The same of `byte_rate`: a video of 30 Mbit/s, and uploads of some of the largest messages at once.
pub const AUTO_BYTE_RATE: Rate = Rate { per_second: 4 << 20, burst: 32 << 20 };

impl<T> Limit<T> {
    /// The limit for somebody, where `auto` is the default for clients elsewhere.
    pub fn of(self, auto: T, is_loopback: bool) -> Option<T> {
        match self {
            Limit::Auto => (!is_loopback).then_some(auto),
            Limit::Off => None,
            Limit::At(value) => Some(value),
        }
    }
}

/// `auto`, `off` or a value; nothing (`0`) stands for `off`.
pub(super) struct Automatic<G>(pub G);

impl<G: Grammar> Grammar for Automatic<G> {
    type Value = Limit<G::Value>;

    fn parse(&self, text: &str) -> Result<Self::Value, &'static str> {
        match text {
            "auto" => Ok(Limit::Auto),
            "off" | "0" => Ok(Limit::Off),
            text => self.0.parse(text).map(Limit::At),
        }
    }

    fn show(&self, value: &Self::Value) -> String {
        match value {
            Limit::Auto => "auto".into(),
            Limit::Off => "off".into(),
            Limit::At(value) => self.0.show(value),
        }
    }

    fn range(&self) -> String {
        format!("auto, off or {}", self.0.range())
    }

    fn form(&self) -> (&'static str, &'static str) {
        self.0.form()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_for_others_and_what_is_set_for_all() {
        for (limit, elsewhere, here) in
            [(Limit::Auto, Some(7), None), (Limit::Off, None, None), (Limit::At(3), Some(3), Some(3))]
        {
            assert_eq!((limit.of(7, false), limit.of(7, true)), (elsewhere, here), "{limit:?}");
        }
    }
}
