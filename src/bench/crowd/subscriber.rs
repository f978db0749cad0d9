//! A crowd's subscribers, and the times of their messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;

use crate::bench::crew::Gauges;
use crate::bench::judge::Delivery;
use crate::bench::timeline::{Timeline, distribution};
use crate::ring::token::ConnId;

/// One who is sent messages.
#[derive(Debug)]
pub struct Subscriber {
    pub id: ConnId,
    /// Index of its topic within the thread.
    pub topic: usize,
    /// It never reads, and is not judged.
    pub stalled: bool,
    /// Its messages are timed.
    pub timed: bool,
    /// Messages that came, repeated ones too, since bytes are compared.
    pub messages: u64,
}

impl Subscriber {
    /// One to whom nothing has come yet.
    pub fn new(id: ConnId, topic: usize, stalled: bool) -> Subscriber {
        Subscriber { id, topic, stalled, timed: false, messages: 0 }
    }
}

/// From due to delivered, of those that are timed.
pub struct Times {
    pub latency: Histogram<u64>,
    /// The same, over time.
    pub timeline: Timeline,
    gauges: Arc<Gauges>,
}

impl Times {
    /// None yet.
    pub fn new(gauges: Arc<Gauges>) -> Times {
        Times { latency: distribution(), timeline: Timeline::default(), gauges }
    }

    /// Takes the time of a message.
    pub fn take(&mut self, delivery: &Delivery) {
        let latency = delivery.latency();
        self.latency.saturating_record(latency);
        // A stamp is no secret: no instant is kept that is still to come.
        self.timeline.record(delivery.stamp.due.min(delivery.at), latency);
        self.gauges.latency.store(latency, Ordering::Relaxed);
    }
}
