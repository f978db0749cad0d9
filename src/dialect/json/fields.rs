//! The members of a message: what they are, and how they were spelled.

use std::borrow::Cow;
use std::ops::Range;

use simd_json::Tape;
use simd_json::prelude::*;
use simd_json::tape::Value;
use smallvec::SmallVec;

use super::problem::{INVALID, Problem};
use super::scan::Members;
use super::signature;

/// What the parser makes of a text, if it takes it for JSON; see [`super::scan`] for what it should not have taken. It
/// writes into a copy, which comes behind what `scratch` holds: so parts of `text` can be lent to whoever needs them.
pub(super) fn parse<'s>(text: &[u8], scratch: &'s mut Vec<u8>) -> Option<Tape<'s>> {
    let start = scratch.len();
    scratch.extend_from_slice(text);
    // A tape, not a tree and not serde: both recurse, and a client may nest as deep as its message is long.
    simd_json::to_tape(scratch.get_mut(start..)?).ok()
}

/// The value of a member.
#[derive(Clone, Copy)]
pub(super) struct Field<'a, 't> {
    /// As it was sent.
    pub text: &'a [u8],
    /// As it was parsed.
    pub value: Value<'t, 't>,
}

impl<'a> Field<'a, '_> {
    /// The string that it is, lent from the text if it is there as it is.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        let string = self.value.into_string()?;
        let quoted = self.text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
        match quoted.and_then(|text| std::str::from_utf8(text).ok()) {
            Some(verbatim) if verbatim == string => Some(Cow::Borrowed(verbatim)),
            _ => Some(Cow::Owned(string.to_owned())),
        }
    }

    /// Whether it is `true`.
    pub(super) fn is_true(self) -> bool {
        self.value.as_bool() == Some(true)
    }
}

/// Members that are, in one kind of message or another, the server's to set or to take out.
const RESERVED: [&str; 6] = ["ack", "clientId", "from", "room", "timestamp", "user"];

/// A member of [`RESERVED`].
struct Reserved {
    /// Where it stands in the object; see [`super::scan::Member::whole`].
    at: Range<usize>,
    name: &'static str,
}

/// The members that the dialect reads, of one object.
#[derive(Default)]
pub(super) struct Fields<'a, 't> {
    /// The object without its closing brace.
    object: &'a [u8],
    /// Members of [`RESERVED`], in order.
    reserved: SmallVec<[Reserved; 2]>,
    pub kind: Option<Field<'a, 't>>,
    pub id: Option<Field<'a, 't>>,
    pub ack: Option<Field<'a, 't>>,
    pub topic: Option<Field<'a, 't>>,
    pub topics: Option<Field<'a, 't>>,
    pub symbols: Option<Field<'a, 't>>,
    pub recover: Option<Field<'a, 't>>,
    pub since: Option<Field<'a, 't>>,
    pub data: Option<Field<'a, 't>>,
    pub token: Option<Field<'a, 't>>,
    pub tokens: Option<Field<'a, 't>>,
    pub receiver: Option<Field<'a, 't>>,
}

impl<'a, 't> Fields<'a, 't> {
    /// Of the object that `text` is, and that `value` was parsed from. An error if it is none; if the parser should not have
    /// let it pass; or if a member that is read is there twice: some readers take the first and others the last, and what
    /// is chat for this server must not be anything else for them.
    pub(super) fn of(text: &'a [u8], value: Value<'t, 't>) -> Result<Fields<'a, 't>, Problem> {
        let object = value.as_object().ok_or(INVALID)?;
        let mut fields = Fields::default();
        let mut members = Members::of(text);
        // The parser knows what a name is, whatever escapes it is written with.
        for (name, value) in object.iter() {
            let member = members.next().ok_or(INVALID)?;
            if let Some(name) = RESERVED.into_iter().find(|&reserved| reserved == name) {
                fields.reserved.push(Reserved { at: member.whole, name });
            }
            if let Some(field) = fields.named(name) {
                let text = members.part(member.value).ok_or(INVALID)?;
                if field.replace(Field { text, value }).is_some() {
                    return Err(Problem::twice(name));
                }
            }
        }
        fields.object = members.passed().ok_or(INVALID)?;
        Ok(fields)
    }

    fn named(&mut self, name: &str) -> Option<&mut Option<Field<'a, 't>>> {
        Some(match name {
            "type" => &mut self.kind,
            "id" => &mut self.id,
            "ack" => &mut self.ack,
            "topic" => &mut self.topic,
            "topics" => &mut self.topics,
            "symbols" => &mut self.symbols,
            "recover" => &mut self.recover,
            "since" => &mut self.since,
            "data" => &mut self.data,
            "token" => &mut self.token,
            "tokens" => &mut self.tokens,
            "receiver" => &mut self.receiver,
            _ => return None,
        })
    }

    /// Whether there are two members of this name, of [`RESERVED`].
    pub(super) fn has_twice(&self, name: &str) -> bool {
        self.reserved.iter().filter(|member| member.name == name).count() > 1
    }

    /// The object without its closing brace, and without the members of these names, of [`RESERVED`].
    pub(super) fn without(&self, names: &[&str]) -> Vec<u8> {
        debug_assert!(names.iter().all(|name| RESERVED.contains(name)));
        let cut = self.reserved.iter().filter(|member| names.contains(&member.name));
        signature::without(self.object, cut.map(|member| member.at.clone()))
    }
}
