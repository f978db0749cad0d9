//! `GET /topics`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::body::query;
use super::connections::tenths;
use super::history::limit;
use super::problem::{self, Problem};
use super::{Api, done};
use crate::shard::mail::{Answer, Question, TopicFacts, TopicList, TopicOrder};
use crate::shard::survey::MOST;

/// Topics of an answer, unless told.
const DEFAULT_LIMIT: usize = 1000;
/// Topics of an answer.
pub const MAX_LIMIT: usize = 10_000;

/// Which topics are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Which come first.
    #[serde(default)]
    pub sort: Sort,
    /// Those that begin like this.
    #[serde(default)]
    pub prefix: String,
    /// Those that come behind this one by name.
    #[serde(default)]
    pub after: String,
    /// How many.
    pub limit: Option<String>,
}

/// Which topics come first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// The first by name, of those that have subscribers.
    #[default]
    Name,
    /// Those that have the most subscribers.
    Subscribers,
    /// Those that are published to the most, whether or not they have any.
    Rate,
}

/// The first topics in an order.
#[derive(Serialize, PartialEq, Debug)]
pub struct Subscribed {
    topics: Vec<Topic>,
    /// There are more: they come `after` this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Box<str>>,
}

/// A topic.
#[derive(Serialize, PartialEq, Debug)]
pub struct Topic {
    topic: Box<str>,
    subscribers: usize,
    /// How many messages are published to it a second, where that was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
}

/// `GET /topics`.
pub async fn topics(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let Topics { sort, prefix, after, limit: wanted } = query(&uri)?;
    let order = match sort {
        Sort::Name => None,
        Sort::Subscribers => Some(TopicOrder::Subscribers),
        Sort::Rate => Some(TopicOrder::Rate),
    };
    if let Some(order) = order {
        if !prefix.is_empty() || !after.is_empty() {
            return Err(problem::ONE_ORDER);
        }
        return Ok(done(&busiest(&api, order, limit(wanted.as_deref(), MOST, MOST)?).await?));
    }
    let limit = limit(wanted.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let (prefix, after) = (Box::<str>::from(prefix), Box::<str>::from(after));
    let question = || Question::Topics { prefix: prefix.clone(), after: after.clone(), limit };
    let answers = api.ask_all(question).await?.into_iter();
    let lists = answers.filter_map(|answer| if let Answer::Topics(list) = answer { Some(list) } else { None });
    Ok(done(&first(lists.collect(), limit)))
}

/// The first topics in another order. Each shard names those that are the first there; then all say what they know of all of
/// these, as the subscribers of a topic may be on any shard, and its rate is known to its home.
async fn busiest(api: &Api, order: TopicOrder, limit: usize) -> Result<Subscribed, Problem> {
    let named = api.ask_all(|| Question::BusyTopics { order, limit: MOST }).await?.into_iter();
    let names = named.flat_map(|answer| if let Answer::BusyTopics(names) = answer { names } else { Vec::new() });
    let names: Arc<[Box<str>]> = names.collect::<BTreeSet<_>>().into_iter().collect();
    let told = api.ask_all(|| Question::TopicFacts(names.clone())).await?.into_iter();
    let told = told.filter_map(|answer| if let Answer::TopicFacts(facts) = answer { Some(facts) } else { None });
    Ok(Subscribed { topics: merged(&names, told, order, limit), next: None })
}

/// What the shards have told of topics, put together.
fn merged(
    names: &[Box<str>],
    told: impl Iterator<Item = Vec<TopicFacts>>,
    order: TopicOrder,
    limit: usize,
) -> Vec<Topic> {
    let of = |name: &str| Topic { topic: name.into(), subscribers: 0, rate: None };
    let mut topics: Vec<Topic> = names.iter().map(|name| of(name)).collect();
    for facts in told {
        for (topic, facts) in topics.iter_mut().zip(facts) {
            topic.subscribers += facts.subscribers;
            topic.rate = topic.rate.or(facts.rate.map(tenths));
        }
    }
    let rate = |topic: &Topic| topic.rate.unwrap_or_default();
    match order {
        TopicOrder::Subscribers => topics.sort_by_key(|topic| Reverse(topic.subscribers)),
        TopicOrder::Rate => topics.sort_by(|a, b| rate(b).total_cmp(&rate(a))),
    }
    topics.truncate(limit);
    topics
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
    let topics: Vec<_> = known.map(|(topic, subscribers)| Topic { topic, subscribers, rate: None }).collect();
    let goes_on = end.is_some() || topics.len() < all;
    let next = topics.last().filter(|_| goes_on).map(|last| last.topic.clone());
    Subscribed { topics, next }
}

/// Answers with all their fields, by the names of their schemas.
#[cfg(test)]
pub fn samples() -> Vec<(&'static str, serde_json::Value)> {
    let topic = Topic { topic: "t".into(), subscribers: 1, rate: Some(1.0) };
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

    #[test]
    fn what_shards_tell_of_a_topic_is_put_together() {
        let names = ["a", "b", "c"].map(Box::from);
        let facts = |subscribers, rate| TopicFacts { subscribers, rate };
        let told = || {
            let shards = [
                [facts(1, None), facts(2, Some(7.04)), facts(0, None)],
                [facts(9, Some(1.0)), facts(3, None), facts(1, None)],
            ];
            shards.map(Vec::from).into_iter()
        };
        let first = |order, limit| {
            let topics = merged(&names, told(), order, limit).into_iter();
            topics.map(|topic| (topic.topic.into_string(), topic.subscribers, topic.rate)).collect::<Vec<_>>()
        };
        let (a, b, c) = (("a".into(), 10, Some(1.0)), ("b".into(), 5, Some(7.0)), ("c".into(), 1, None));
        assert_eq!(first(TopicOrder::Subscribers, 2), [a.clone(), b.clone()]);
        assert_eq!(first(TopicOrder::Rate, 9), [b, a, c]);
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
