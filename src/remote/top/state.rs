//! What is shown, and what keys and news make of it. Nothing here knows the terminal, the network or the clock.

use std::collections::VecDeque;

use super::facts::{Look, Overview, Rates};
use super::words::Plain;

/// Seconds of the trail that are kept, at one look a second.
const TRAIL: usize = 240;

/// Which connections come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnOrder {
    /// Those that have the most to be sent.
    Backlog,
    /// Those for whom something has waited the longest.
    Age,
    /// Those with the most messages.
    Rate,
}

/// Which topics come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicOrder {
    /// Those with the most subscribers.
    Subscribers,
    /// Those that are published to the most.
    Rate,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orders {
    /// Of the connections.
    pub connections: ConnOrder,
    /// Of the topics.
    pub topics: TopicOrder,
}

impl Default for Orders {
    fn default() -> Orders {
        Orders { connections: ConnOrder::Backlog, topics: TopicOrder::Rate }
    }
}

impl ConnOrder {
    /// As the HTTP API has it.
    pub fn name(self) -> &'static str {
        match self {
            ConnOrder::Backlog => "backlog",
            ConnOrder::Age => "age",
            ConnOrder::Rate => "rate",
        }
    }
}

impl TopicOrder {
    /// As the HTTP API has it.
    pub fn name(self) -> &'static str {
        match self {
            TopicOrder::Subscribers => "subscribers",
            TopicOrder::Rate => "rate",
        }
    }
}

/// What the server answered, or in words why it did not.
pub type News = Result<Box<Look>, String>;

/// What a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Nothing that is not done.
    Nothing,
    /// To ask in another order.
    Ask(Orders),
    /// To end.
    Quit,
}

/// What is shown.
pub struct State {
    /// Where the server is.
    pub place: Plain,
    /// How often it is asked, in words.
    pub interval: String,
    /// What was seen last.
    pub look: Option<Box<Look>>,
    /// What each shard does, once two looks tell.
    pub rates: Option<Vec<Rates>>,
    /// Deliveries a second, the newest last.
    pub trail: VecDeque<u64>,
    /// Why the server has not answered the last time.
    pub trouble: Option<Plain>,
    /// What is asked for.
    pub orders: Orders,
    /// Whether what is shown stands still.
    pub is_paused: bool,
    /// What rates are counted from.
    base: Option<Overview>,
}

impl State {
    /// Of a server that has not been asked yet.
    pub fn new(place: &str, interval: String) -> State {
        State {
            place: Plain::new(place),
            interval,
            look: None,
            rates: None,
            trail: VecDeque::new(),
            trouble: None,
            orders: Orders::default(),
            is_paused: false,
            base: None,
        }
    }

    /// Takes in an answer, or that there was none.
    pub fn hear(&mut self, news: News) {
        let look = match news {
            Ok(look) => look,
            Err(why) => return self.trouble = Some(Plain::new(&why)),
        };
        self.trouble = None;
        let rates = self.base.as_ref().map(|base| look.overview.rates_since(base));
        match rates {
            Some(Some(rates)) => {
                self.trail.push_back(Rates::sum(&rates).delivered.round() as u64);
                self.trail.drain(..self.trail.len().saturating_sub(TRAIL));
                self.base = Some(look.overview.clone());
                if !self.is_paused {
                    self.rates = Some(rates);
                }
            }
            // Of another process, or the first of all.
            _ if self.base.as_ref().is_none_or(|base| look.overview.uptime < base.uptime) => {
                self.base = Some(look.overview.clone());
                self.rates = None;
            }
            // So soon after the last one that its rates still hold.
            _ => {}
        }
        if !self.is_paused {
            self.look = Some(look);
        }
    }

    /// Takes in a key, by the character that it writes.
    pub fn key(&mut self, key: char) -> Wish {
        let before = self.orders;
        match key {
            'q' => return Wish::Quit,
            ' ' | 'p' => self.is_paused = !self.is_paused,
            'b' => self.orders.connections = ConnOrder::Backlog,
            'a' => self.orders.connections = ConnOrder::Age,
            'r' => self.orders.connections = ConnOrder::Rate,
            's' => self.orders.topics = TopicOrder::Subscribers,
            'm' => self.orders.topics = TopicOrder::Rate,
            _ => {}
        }
        if self.orders == before { Wish::Nothing } else { Wish::Ask(self.orders) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::look;
    use super::*;

    fn state() -> State {
        State::new("http://127.0.0.1:8081", "1s".to_owned())
    }

    fn delivered(state: &State) -> Option<f64> {
        state.rates.as_ref().map(|rates| Rates::sum(rates).delivered)
    }

    #[test]
    fn two_looks_make_rates_and_a_restart_ends_them() {
        let mut state = state();
        state.hear(Ok(Box::new(look(1, 10.0))));
        assert_eq!(delivered(&state), None);
        let mut second = look(1, 11.0);
        second.overview.shards[0].delivered += 500;
        state.hear(Ok(Box::new(second.clone())));
        assert_eq!((delivered(&state), &state.trail), (Some(500.0), &VecDeque::from([500])));
        second.overview.timestamp += 10;
        state.hear(Ok(Box::new(second)));
        assert_eq!(delivered(&state), Some(500.0), "too soon for others");
        let mut restarted = look(1, 13.0);
        restarted.overview.uptime = 0.5;
        state.hear(Ok(Box::new(restarted)));
        assert_eq!(delivered(&state), None);
    }

    #[test]
    fn what_was_seen_last_stays_when_the_server_is_gone() {
        let mut state = state();
        state.hear(Ok(Box::new(look(1, 10.0))));
        state.hear(Err("refused\u{1b}".to_owned()));
        assert!(state.look.is_some() && state.trouble.as_ref().is_some_and(|why| why.as_str() == "refused\\u{1b}"));
        state.hear(Ok(Box::new(look(1, 11.0))));
        assert_eq!(state.trouble, None);
    }

    #[test]
    fn a_pause_keeps_what_is_shown_and_goes_on_counting() {
        let mut state = state();
        state.hear(Ok(Box::new(look(1, 10.0))));
        assert_eq!(state.key('p'), Wish::Nothing);
        state.hear(Ok(Box::new(look(1, 11.0))));
        let shown = state.look.as_ref().map(|look| look.overview.timestamp);
        assert_eq!((shown, state.trail.len(), state.rates.is_none()), (Some(10_000), 1, true));
        state.key(' ');
        state.hear(Ok(Box::new(look(1, 12.0))));
        assert_eq!(state.look.as_ref().map(|look| look.overview.timestamp), Some(12_000));
        (0..300).for_each(|n| state.hear(Ok(Box::new(look(1, 13.0 + f64::from(n))))));
        assert_eq!(state.trail.len(), TRAIL);
    }

    #[test]
    fn keys_choose_what_comes_first() {
        let mut state = state();
        assert_eq!(
            (state.key('b'), state.key('x')),
            (Wish::Nothing, Wish::Nothing),
            "it is so already; no key of ours"
        );
        let orders = Orders { connections: ConnOrder::Age, topics: TopicOrder::Rate };
        assert_eq!(state.key('a'), Wish::Ask(orders));
        assert_eq!(state.key('s'), Wish::Ask(Orders { topics: TopicOrder::Subscribers, ..orders }));
        assert_eq!(state.key('q'), Wish::Quit);
    }
}
