//! A value that nobody but its owner is to see.

use std::fmt;

use super::value::{Grammar, OUT_OF_BOUNDS};

/// A key that proves a peer. It is never printed, nor logged.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Characters that it has at least, so that nobody guesses it.
    pub const MIN_CHARS: usize = 16;
    /// Bytes that it has at most.
    pub const MAX_BYTES: usize = 1024;

    /// A secret; [`Config::validate`](super::Config::validate) checks its length.
    pub fn new(text: impl Into<Box<str>>) -> Secret {
        Secret(text.into())
    }

    /// Its length in bytes, which of one that came from a configuration are characters.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// For those who check signatures with it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether that is what was given. Takes as long whatever is different, or missing, so that it cannot be guessed piece by
    /// piece.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let padded = given.iter().chain(std::iter::repeat(&0));
        let differ = own.iter().zip(padded).fold(0, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
        own.len() == given.len() && differ == 0
    }
}

impl Secret {
    /// The place of the key in a list that was given. Takes as long whichever it is, and whether it is one.
    pub fn position(keys: &[Secret], given: &[u8]) -> Option<usize> {
        let places = keys.iter().enumerate().map(|(place, key)| key.is(given).then_some(place));
        places.fold(None, |found, place| place.or(found))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key of printable characters of ASCII, as a header or a query can carry it.
pub(super) struct Key;

impl Grammar for Key {
    type Value = Secret;

    fn parse(&self, text: &str) -> Result<Secret, &'static str> {
        match text {
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err("has a character that no header can carry"),
            _ if !(Secret::MIN_CHARS..=Secret::MAX_BYTES).contains(&text.len()) => Err(OUT_OF_BOUNDS),
            _ => Ok(Secret::new(text)),
        }
    }

    fn show(&self, value: &Secret) -> String {
        value.0.as_ref().into()
    }

    fn range(&self) -> String {
        format!("{}..{} characters", Secret::MIN_CHARS, Secret::MAX_BYTES)
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("KEY", "of ASCII, without spaces")
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// Any number of keys with commas between: while one replaces another, both are good.
pub(super) struct Keys;

impl Grammar for Keys {
    type Value = Vec<Secret>;

    fn parse(&self, text: &str) -> Result<Vec<Secret>, &'static str> {
        if text == "off" { Ok(Vec::new()) } else { text.split(',').map(|key| Key.parse(key.trim())).collect() }
    }

    fn show(&self, value: &Vec<Secret>) -> String {
        if value.is_empty() {
            return "off".into();
        }
        value.iter().map(|key| Key.show(key)).collect::<Vec<_>>().join(",")
    }

    fn range(&self) -> String {
        format!("off or {} each", Key.range())
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("KEYS", "of ASCII, without spaces; several with commas between")
    }

    fn is_secret(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_itself_and_shows_nothing() {
        let secret = Secret::new("correct horse battery");
        assert!(secret.is(b"correct horse battery"));
        for other in [&b""[..], b"correct horse", b"correct horse batterz", b"correct horse battery "] {
            assert!(!secret.is(other));
        }
        let keys = [secret.clone(), Secret::new("another secret, longer")];
        for (given, place) in [("correct horse battery", Some(0)), ("another secret, longer", Some(1)), ("", None)] {
            assert_eq!(Secret::position(&keys, given.as_bytes()), place, "{given}");
        }
        assert_eq!(Secret::position(&[], b""), None);
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(..) Some(Secret(..))");
    }
}
