//! `GET /topics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::query;
use super::history::limit;
use super::problem::Problem;
use super::{Api, done};
use crate::shard::mail::{Answer, Question, TopicList};

/// Topics of an answer, unless told.
const DEFAULT_LIMIT: usize = 1000;
/// Topics of an answer.
pub const MAX_LIMIT: usize = 10_000;

/// Which topics are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Those that begin like this.
    #[serde(default)]
    pub prefix: String,
    /// Those that come behind this one by name.
    #[serde(default)]
    pub after: String,
    /// How many.
    pub limit: Option<String>,
}

/// The first topics by name that have subscribers.
#[derive(Serialize, PartialEq, Eq, Debug)]
pub struct Subscribed {
    topics: Vec<Topic>,
    /// There are more: they come `after` this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Box<str>>,
}

/// A topic.
#[derive(Serialize, PartialEq, Eq, Debug)]
pub struct Topic {
    topic: Box<str>,
    subscribers: usize,
}

/// `GET /topics`.
pub async fn topics(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let Topics { prefix, after, limit: wanted } = query(&uri)?;
    let limit = limit(wanted.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let (prefix, after) = (Box::<str>::from(prefix), Box::<str>::from(after));
    let question = || Question::Topics { prefix: prefix.clone(), after: after.clone(), limit };
    let answers = api.ask_all(question).await?.into_iter();
    let lists = answers.filter_map(|answer| if let Answer::Topics(list) = answer { Some(list) } else { None });
    Ok(done(&first(lists.collect(), limit)))
}

/// The first topics by name of what the shards have listed, with the subscribers of all of them.
pub fn first(lists: Vec<TopicList>, limit: usize) -> Subscribed {
    // Of what comes behind the end of a list that goes on, that shard's subscribers are not known.
    let ends = lists.iter().filter(|list| list.goes_on).filter_map(|list| list.topics.last());
    let end = ends.map(|(name, _)| name.clone()).min();
    let mut counts = BTreeMap::new();
    for (name, subscribers) in lists.into_iter().flat_map(|list| list.topics) {
        *counts.entry(name).or_insert(0) += subscribers;
    }
    let all = counts.len();
    let known = |name: &str| end.as_deref().is_none_or(|end| name <= end);
    let known = counts.into_iter().take_while(|(name, _)| known(name)).take(limit);
    let topics: Vec<_> = known.map(|(topic, subscribers)| Topic { topic, subscribers }).collect();
    let goes_on = end.is_some() || topics.len() < all;
    let next = topics.last().filter(|_| goes_on).map(|last| last.topic.clone());
    Subscribed { topics, next }
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    let topic = Topic { topic: "t".into(), subscribers: 1 };
    [
        ("Topic", serde_json::to_value(&topic)),
        ("Topics", serde_json::to_value(Subscribed { topics: vec![topic], next: Some("t".into()) })),
    ]
    .map(|(name, value)| (name, value.expect("JSON")))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(names: &BTreeMap<String, usize>, after: &str, limit: usize) -> TopicList {
        let behind = || names.iter().filter(|(name, _)| name.as_str() > after);
        let topics = behind().take(limit).map(|(name, count)| (name.as_str().into(), *count)).collect();
        TopicList { topics, goes_on: behind().count() > limit }
    }

    proptest! {
        #[test]
        fn page_after_page_tells_all(
            shards in prop::collection::vec(prop::collection::btree_map("[ab]{1,4}", 1..9usize, 0..12), 1..4),
            limit in 1..6usize,
        ) {
            let (mut told, mut after) = (Vec::new(), String::new());
            loop {
                let page = first(shards.iter().map(|names| list(names, &after, limit)).collect(), limit);
                prop_assert!(page.topics.len() <= limit);
                told.extend(page.topics.into_iter().map(|topic| (topic.topic.into_string(), topic.subscribers)));
                match page.next {
                    Some(next) => after = next.into(),
                    None => break,
                }
            }
            let mut all = BTreeMap::new();
            for (name, count) in shards.iter().flatten() {
                *all.entry(name.clone()).or_insert(0) += count;
            }
            prop_assert_eq!(told, all.into_iter().collect::<Vec<_>>());
        }
    }
}
