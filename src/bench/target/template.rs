//! Texts with `{topic}`, `{n}` and `{payload}` in them.

use std::io::Write as _;

use crate::bench::{Result, Usage};

/// What stands for something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// A topic's name.
    Topic,
    /// The number of the connection.
    N,
    /// The message.
    Payload,
}

impl Word {
    fn name(self) -> &'static str {
        match self {
            Word::Topic => "{topic}",
            Word::N => "{n}",
            Word::Payload => "{payload}",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Word(Word),
}

/// A text with words to be replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Parses the value of an option that knows these words. Letters in braces are a word; other braces are text.
    ///
    /// # Errors
    /// There is a word that the option does not know.
    pub fn parse(option: &str, text: &str, known: &[Word]) -> Result<Template> {
        let mut pieces = Vec::new();
        let (mut from, mut at) = (0, 0);
        while let Some((start, name)) = next_word(text, at) {
            let Some(word) = known.iter().copied().find(|word| word.name() == name) else {
                let known: Vec<_> = known.iter().map(|word| word.name()).collect();
                return Usage::error(format!("{option} has {name}, but knows only {}", known.join(" and ")));
            };
            if from < start {
                pieces.push(Piece::Text(text[from..start].to_owned()));
            }
            pieces.push(Piece::Word(word));
            from = start + name.len();
            at = from;
        }
        if from < text.len() {
            pieces.push(Piece::Text(text[from..].to_owned()));
        }
        Ok(Template { pieces })
    }

    /// Whether the word is in it.
    pub fn has(&self, word: Word) -> bool {
        self.pieces.contains(&Piece::Word(word))
    }

    /// Appends the text with its words replaced.
    pub fn fill(&self, topic: u32, n: u32, payload: &[u8], out: &mut Vec<u8>) {
        for piece in &self.pieces {
            // Writing to memory does not fail.
            let _ = match piece {
                Piece::Text(text) => out.write_all(text.as_bytes()),
                Piece::Word(Word::Topic) => write!(out, "t{topic}"),
                Piece::Word(Word::N) => write!(out, "{n}"),
                Piece::Word(Word::Payload) => out.write_all(payload),
            };
        }
    }
}

/// The first `{letters}` at or after `at`, and where it begins.
fn next_word(text: &str, at: usize) -> Option<(usize, &str)> {
    text[at..].match_indices('{').find_map(|(start, _)| {
        let start = at + start;
        let letters = text[start + 1..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let end = start + 1 + letters;
        (letters > 0 && text[end..].starts_with('}')).then(|| (start, &text[start..=end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Word; 3] = [Word::Topic, Word::N, Word::Payload];

    fn filled(text: &str) -> String {
        let mut out = Vec::new();
        Template::parse("--x", text, &ALL).expect("a template").fill(7, 42, b"PAY", &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn words_are_replaced_and_other_braces_stay() {
        for (text, expected) in [
            ("", ""),
            ("{topic}", "t7"),
            ("a{n}b{n}", "a42b42"),
            (r#"{"type":"subscribe","topics":["{topic}"]}"#, r#"{"type":"subscribe","topics":["t7"]}"#),
            (r#"{"data":{payload}}"#, r#"{"data":PAY}"#),
            ("{{topic}}", "{t7}"),
            ("{}{ topic}{to pic}{topic", "{}{ topic}{to pic}{topic"),
            ("é{n}€", "é42€"),
            ("{a1}{a_b}{\"a\":{}}", "{a1}{a_b}{\"a\":{}}"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = |text| Template::parse("--url", text, &[Word::Topic, Word::N]).unwrap_err().to_string();
        assert_eq!(error("ws://h/{topic}/{user}"), "--url has {user}, but knows only {topic} and {n}");
        assert_eq!(error("{payload}"), "--url has {payload}, but knows only {topic} and {n}");
        assert_eq!(error("{Topic}"), "--url has {Topic}, but knows only {topic} and {n}");
    }

    #[test]
    fn a_template_knows_its_words() {
        let template = Template::parse("--x", "{topic}{{n}", &ALL).unwrap();
        assert_eq!(ALL.map(|word| template.has(word)), [true, true, false]);
    }

    proptest! {
        #[test]
        fn agrees_with_replacing_one_word_after_the_other(
            pieces in proptest::collection::vec("\\{topic\\}|\\{n\\}|\\{payload\\}|[{}\" a-c0-9é]{0,3}", 0..12),
        ) {
            let text = pieces.concat();
            let Ok(template) = Template::parse("--x", &text, &ALL) else { return Ok(()) };
            let mut out = Vec::new();
            template.fill(7, 42, b"PAY", &mut out);
            let naive = text.replace("{topic}", "t7").replace("{n}", "42").replace("{payload}", "PAY");
            prop_assert_eq!(String::from_utf8(out).unwrap(), naive);
        }
    }
}
