//! A server that is drained, while another takes its place.

use uproar::time::Tick;

/// How a drain goes, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    /// The step of the run in which it is asked for.
    pub at: usize,
    pub delay: u32,
    /// Over which clients are sent away.
    pub time: u32,
    /// For the last ones to go.
    pub grace: u32,
}

/// How far a drain is, as far as it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Clients are sent away, or will be.
    Sending,
    /// All were sent away.
    Parting,
    /// The server has ended.
    Over,
}

/// A drain that was asked for.
pub struct Drain {
    pub table: Timetable,
    /// The first tick in which somebody may be sent away.
    pub begin: Tick,
    pub stage: Stage,
    /// When the next stage begins.
    pub until: Tick,
    /// By shard: the connections that it has had, and those of them that were sent away.
    pub came: Vec<usize>,
    sent: Vec<usize>,
}

impl Drain {
    /// One that all shards have been told of by now.
    pub fn new(table: Timetable, now: Tick, came: Vec<usize>) -> Drain {
        let begin = Tick(now.0 + table.delay);
        let until = Tick(begin.0 + table.time);
        let sent = vec![0; came.len()];
        Drain { table, begin, stage: Stage::Sending, until, came, sent }
    }

    /// Whether clients may have been sent away by now.
    pub fn has_begun(&self, now: Tick) -> bool {
        !self.begin.is_after(now)
    }

    /// Whether the last ones may have been cut off by now: where nobody is left, the end begins at once.
    pub fn cuts_off(&self, now: Tick) -> bool {
        !Tick(self.begin.0 + self.table.grace).is_after(now)
    }

    /// Whether clients are sent away one after the other; otherwise all at once, and without a word on when to come back.
    pub fn is_gradual(&self) -> bool {
        self.table.time > 0
    }

    /// A backend knows that it was sent away: so must have been everybody else.
    pub fn ends(&mut self, now: Tick) {
        if self.stage == Stage::Sending {
            self.until = now;
        }
    }

    /// A client of a shard knows that it was sent away: no more of them may be by now than an even pace has it.
    pub fn sends(&mut self, shard: usize, now: Tick) {
        assert!(self.has_begun(now), "somebody is sent away at {now:?}, before {:?}", self.begin);
        self.sent[shard] += 1;
        let passed = (now.0 - self.begin.0).min(self.table.time) as usize;
        let due = self.came[shard] * passed / self.table.time as usize + 1;
        let (sent, came) = (self.sent[shard], self.came[shard]);
        assert!(sent <= due, "{sent} of {came} were sent away by {now:?}, {passed} ticks after the first");
    }
}
