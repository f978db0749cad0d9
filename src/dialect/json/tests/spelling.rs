//! JSON in all its spellings, and nearly JSON.

use proptest::prelude::*;
use serde_json::Value;

/// Strings of any characters, control characters too.
pub fn characters() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..10).prop_map(|chars| chars.into_iter().collect())
}

/// Any value, a few levels deep.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Not all of them: serde_json reads some a bit off what it has written.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 64.0)),
        characters().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(characters(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Spells at random: white space wherever it may be, and escapes in strings.
pub struct Speller(u64);

impl Speller {
    pub fn new(seed: u64) -> Speller {
        Speller(seed)
    }

    /// One of `count`: of a linear congruential generator, the high bits.
    fn pick(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }

    pub fn space(&mut self) -> String {
        (0..[0, 0, 0, 1, 3][self.pick(5)]).map(|_| [' ', '\t', '\n', '\r'][self.pick(4)]).collect()
    }

    /// A member of an object with the white space around it.
    pub fn member(&mut self, name: &str, value: &Value) -> String {
        let (before, name, between) = (self.space(), self.string(name), self.space());
        let (behind, value, after) = (self.space(), self.text(value), self.space());
        format!("{before}{name}{between}:{behind}{value}{after}")
    }

    /// A value, without white space around it.
    pub fn text(&mut self, value: &Value) -> String {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) if items.is_empty() => format!("[{}]", self.space()),
            Value::Array(items) => {
                let items: Vec<_> =
                    items.iter().map(|item| format!("{}{}{}", self.space(), self.text(item), self.space())).collect();
                format!("[{}]", items.join(","))
            }
            Value::Object(members) if members.is_empty() => format!("{{{}}}", self.space()),
            Value::Object(members) => {
                let members: Vec<_> = members.iter().map(|(name, value)| self.member(name, value)).collect();
                format!("{{{}}}", members.join(","))
            }
            scalar => scalar.to_string(),
        }
    }

    fn string(&mut self, text: &str) -> String {
        let mut out = String::from("\"");
        for c in text.chars() {
            let short = match c {
                '"' | '\\' | '/' => Some(c),
                '\u{8}' => Some('b'),
                '\u{c}' => Some('f'),
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                _ => None,
            };
            match (self.pick(4), short) {
                (0, Some(short)) => out.extend(['\\', short]),
                (1..4, _) if c >= ' ' && c != '"' && c != '\\' => out.push(c),
                _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| match self.pick(2) {
                    0 => out.push_str(&format!("\\u{unit:04x}")),
                    _ => out.push_str(&format!("\\u{unit:04X}")),
                }),
            }
        }
        out.push('"');
        out
    }
}

/// Texts that are a byte or two off.
pub mod mutated {
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// Bytes that mean something somewhere in JSON. No `e`: of exponents beyond all reason, parsers think differently.
    const BYTES: &[u8] = b"\"\\{}[]:,-+.u0123456789abdftn/ \t\n\r\x00\x0c\x1f\x7f\x80";

    /// What happens to a text.
    #[derive(Clone, Debug)]
    pub enum Change {
        Replace(Index, u8),
        Insert(Index, u8),
        Remove(Index),
        /// Digits, so many that a parser takes another way.
        Lengthen(Index),
    }

    pub fn change() -> impl Strategy<Value = Change> {
        let byte = || prop::sample::select(BYTES);
        prop_oneof![
            (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Replace(at, byte)),
            (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
            any::<Index>().prop_map(Change::Remove),
            any::<Index>().prop_map(Change::Lengthen),
        ]
    }

    impl Change {
        pub fn apply(self, text: &mut Vec<u8>) {
            match self {
                Change::Insert(at, byte) => text.insert(at.index(text.len() + 1), byte),
                _ if text.is_empty() => {}
                Change::Replace(at, byte) => *at.get_mut(text) = byte,
                Change::Remove(at) => drop(text.remove(at.index(text.len()))),
                Change::Lengthen(at) => {
                    let at = at.index(text.len());
                    // Behind a digit, if there is one from there on.
                    let at = text[at..].iter().position(u8::is_ascii_digit).map_or(at, |digit| at + digit);
                    text.splice(at..at, *b"1234567890123456789");
                }
            }
        }
    }
}
