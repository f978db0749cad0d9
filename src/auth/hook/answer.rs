//! What an application answers.

use serde::Deserialize;

use crate::auth::grant::{Allowed, Grant};
use crate::config::Patterns;
use crate::limits::is_topic_name;

/// What an application says of a client that may do what it is about to do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Answer {
    /// The user that it is.
    pub user: Option<Box<str>>,
    /// Milliseconds since 1970 from which on it may nothing.
    pub expires: Option<u64>,
    /// What it may do.
    pub allowed: Allowed,
}

/// The answer says that the client is another user than its token does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction;

/// The answer as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    user: Option<String>,
    expires: Option<u64>,
    rooms: Option<Patterns>,
    subscribe: Option<Patterns>,
    publish: Option<Patterns>,
    presence: Option<Patterns>,
    history: Option<Patterns>,
}

impl Answer {
    /// Reads the body of an answer: an object of JSON, or nothing at all, which says as little as an empty one. What it names
    /// that means nothing is refused: a list that is misspelt would forbid nothing.
    ///
    /// # Errors
    /// It is something else; in words whose subject is the application.
    pub fn parse(body: &[u8]) -> Result<Answer, String> {
        match body.trim_ascii_start().first() {
            None => return Ok(Answer::default()),
            Some(b'{') => {}
            // A list would be taken for the members in their order.
            Some(_) => return Err("answers what is no object of JSON".into()),
        }
        let written: Written =
            serde_json::from_slice(body).map_err(|error| format!("answers what is no answer: {error}"))?;
        let Written { user, expires, rooms, subscribe, publish, presence, history } = written;
        if user.as_deref().is_some_and(|user| !is_topic_name(user)) {
            return Err("answers with a user whose name cannot be one".into());
        }
        let allowed = Allowed { rooms, subscribe, publish, presence, history };
        if !allowed.is_bounded() {
            return Err("answers with too many patterns".into());
        }
        Ok(Answer { user: user.map(Into::into), expires, allowed })
    }

    /// What holds for a client of whom `grant` is known: the answer's lists where it has some, and the earlier end.
    ///
    /// # Errors
    /// Both name a user, and not the same.
    pub fn over(&self, grant: Grant) -> Result<Grant, Contradiction> {
        let Grant { user, expires, may } = grant;
        if user.is_some() && self.user.is_some() && user != self.user {
            return Err(Contradiction);
        }
        let expires = [expires, self.expires].into_iter().flatten().min();
        Ok(Grant { user: user.or_else(|| self.user.clone()), expires, may: self.allowed.over(&may) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::Permissions;

    #[test]
    fn an_answer_is_an_object_of_known_members_or_nothing() {
        for text in ["", " \r\n", "{}", "{\"user\":null}"] {
            assert_eq!(Answer::parse(text.as_bytes()), Ok(Answer::default()), "{text}");
        }
        let answer = Answer::parse(br#"{"user":"ann","expires":1790000000000,"publish":[],"subscribe":["a.*"]}"#);
        let allowed = Allowed {
            publish: Some(Patterns(Vec::new())),
            subscribe: Some(Patterns(vec!["a.*".into()])),
            ..Allowed::default()
        };
        assert_eq!(answer, Ok(Answer { user: Some("ann".into()), expires: Some(1_790_000_000_000), allowed }));
        for text in [
            "<html>",
            "[]",
            r#"["ann",1,[],[],[],[],[]]"#,
            "null",
            "true",
            "{} {}",
            "{",
            r#"{"user":7}"#,
            r#"{"user":""}"#,
            "{\"user\":\"\\u0000a\"}",
            r#"{"expires":-1}"#,
            r#"{"expires":"soon"}"#,
            r#"{"subscribe":"*"}"#,
            r#"{"subscrybe":[]}"#,
            r#"{"user":"a","user":"b"}"#,
        ] {
            assert!(Answer::parse(text.as_bytes()).is_err(), "{text}");
        }
        let many = serde_json::json!({ "rooms": vec!["a"; 257] }).to_string();
        assert!(Answer::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn what_it_says_is_laid_over_what_is_known() {
        let all = Patterns::all();
        let may = Permissions {
            rooms: all.clone(),
            subscribe: all.clone(),
            publish: all.clone(),
            presence: all.clone(),
            history: all,
        };
        let known =
            |user: Option<&str>, expires| Grant { user: user.map(Into::into), expires, may: Arc::new(may.clone()) };
        let says = |user: Option<&str>, expires| Answer {
            user: user.map(Into::into),
            expires,
            allowed: Allowed { publish: Some(Patterns(Vec::new())), ..Allowed::default() },
        };
        let grant = says(Some("ann"), Some(7)).over(known(None, None)).expect("no contradiction");
        assert_eq!((grant.user.as_deref(), grant.expires), (Some("ann"), Some(7)));
        assert!(!grant.may.publish.includes("a") && grant.may.subscribe.includes("a"));
        for (theirs, ours, end) in [(Some(5), Some(7), Some(5)), (Some(9), Some(7), Some(7)), (Some(5), None, Some(5))]
        {
            let grant = says(Some("ann"), ours).over(known(Some("ann"), theirs)).expect("no contradiction");
            assert_eq!(grant.expires, end);
        }
        assert_eq!(says(None, None).over(known(Some("ann"), None)).map(|grant| grant.user), Ok(Some("ann".into())));
        assert_eq!(says(Some("bob"), None).over(known(Some("ann"), None)), Err(Contradiction));
    }
}
