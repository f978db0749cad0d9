//! What a seed stands for: how many shards, which settings, which faults, and how it ends.

use std::time::Duration;

use uproar::Config;
use uproar::config::{BacklogPolicy, Secret, parse_history};
use uproar::limits::SPARE_SLOTS;
use uproar::shard::settings::Settings;

use super::drain::Timetable;
use super::guard::Rule;
use crate::common::rng::Rng;

/// How often the kernel misbehaves within what it may do.
#[derive(Clone, Copy)]
pub struct Faults {
    /// Percent of what could be delivered that is delivered in an enter.
    pub pace: usize,
    /// Percent of the shutdowns under way that are done in an enter.
    pub shutdowns: usize,
    /// Events made up, of a thousand.
    pub spurious: usize,
    /// Multishots that end by themselves, of a thousand.
    pub ends: usize,
    /// Errors made up, of a thousand.
    pub errors: usize,
    /// Sends that are taken in part or not at all for no reason, of a thousand.
    pub short_sends: usize,
}

impl Faults {
    pub const NONE: Faults = Faults { pace: 100, shutdowns: 100, spurious: 0, ends: 0, errors: 0, short_sends: 0 };
}

pub struct Plan {
    pub shards: u16,
    pub slots: u32,
    pub settings: Settings,
    pub faults: Faults,
    pub topics: usize,
    pub clients: usize,
    pub steps: usize,
    /// Nobody leaves or misbehaves, and publishing begins when all have joined: so that every message is accounted for.
    pub calm: bool,
    /// It ends with a shutdown, not with the clients' leaving.
    pub shutdown: bool,
    /// The shutdown comes while all are at it.
    pub abrupt: bool,
    /// The server is drained, and another takes its place.
    pub drain: Option<Timetable>,
    /// Not everybody may do everything.
    pub guard: Option<Rule>,
    /// Percent of clients that misbehave.
    pub rude: usize,
    /// There may be backends.
    pub backends: bool,
    /// Largest payload, but for a few.
    pub payload: usize,
}

/// What backends prove themselves with.
pub const BACKEND_KEY: &str = "correct-horse-battery";
/// Ticks within which a shutdown must be over.
pub const SHUTDOWN_TICKS: u32 = 60;

impl Plan {
    /// What came to a plan later is drawn from `later`, so that a seed goes on standing for what it did.
    pub fn new(rng: &mut Rng, later: &mut Rng) -> Plan {
        let calm = rng.percent(25);
        let clients = rng.between(2, 24);
        let full = !calm && rng.percent(10);
        let mut plan = Plan {
            shards: rng.between(1, 4) as u16,
            slots: SPARE_SLOTS + if full { clients as u32 / 3 + 1 } else { 64 },
            settings: settings(rng, calm),
            faults: faults(rng, calm),
            topics: rng.between(1, 5),
            clients,
            steps: rng.between(2_000, 20_000),
            calm,
            shutdown: rng.percent(40),
            abrupt: !calm && rng.percent(50),
            rude: if calm { 0 } else { rng.pick(&[0, 10, 30]) },
            backends: rng.percent(80),
            drain: None,
            guard: None,
            payload: rng.pick(&[10, 200, 2_000]),
        };
        plan.drain = (!calm && later.percent(30)).then(|| timetable(plan.steps, later));
        plan.guard = later.percent(35).then(|| Rule::new(calm, later));
        plan.settings.hook_events = plan.guard.and_then(|rule| rule.hook).unwrap_or_default();
        plan
    }

    pub fn drops(&self) -> bool {
        self.settings.backlog_policy != BacklogPolicy::Close
    }
}

impl Plan {
    /// Other settings, with which no client has to expect anything else.
    pub fn other_settings(&self, rng: &mut Rng) -> Settings {
        let millis = |rng: &mut Rng, low, high| Duration::from_millis(rng.between(low, high) as u64);
        let mut settings = self.settings.clone();
        settings.history = parse_history(rng.pick(&HISTORIES)).expect("rules");
        settings.history_bytes = rng.pick(&[10_000, 1 << 20]);
        settings.backlog = rng.pick(&[3_000, 10_000, 100_000]);
        settings.deflate_min = rng.pick(&[0, 64, 1_000]);
        settings.topic_memory = settings.topic_memory.min(millis(rng, 1, 100));
        settings.head_timeout = millis(rng, 200, 2_000);
        settings.keep_alive_timeout = millis(rng, 200, 2_000);
        settings.close_timeout = millis(rng, 200, 1_000);
        settings.sse_heartbeat = millis(rng, 200, 2_000);
        if settings.ping_interval.is_some() {
            settings.ping_interval = Some(millis(rng, 300, 2_000));
            settings.ping_timeout = millis(rng, 100, 300);
        }
        if self.drops() {
            settings.backlog_policy = rng.pick(&DROPPY);
        }
        settings
    }
}

/// Rules of what is kept.
const HISTORIES: [&str; 4] =
    ["off", "topic/* count=5 age=1s", "topic/* count=50 age=10s bytes=64KiB", "topic/1 count=1000 age=3s"];
/// Policies that close nobody.
const DROPPY: [BacklogPolicy; 3] = [BacklogPolicy::DropOldest, BacklogPolicy::DropNewest, BacklogPolicy::Latest];

fn faults(rng: &mut Rng, calm: bool) -> Faults {
    Faults {
        pace: rng.pick(&[20, 60, 100]),
        shutdowns: rng.pick(&[5, 30, 70]),
        spurious: rng.pick(&[0, 0, 5, 50]),
        ends: rng.pick(&[0, 20]),
        errors: if calm { 0 } else { rng.pick(&[0, 0, 3]) },
        short_sends: rng.pick(&[0, 10, 100]),
    }
}

fn timetable(steps: usize, rng: &mut Rng) -> Timetable {
    Timetable {
        at: rng.between(steps / 10, steps * 3 / 4),
        delay: rng.pick(&[0, 10, 50]),
        time: rng.pick(&[0, 20, 20, 100, 100, 200, 200]),
        grace: rng.pick(&[10, 60]),
    }
}

fn settings(rng: &mut Rng, calm: bool) -> Settings {
    let millis = |rng: &mut Rng, low, high| Duration::from_millis(rng.between(low, high) as u64);
    let mut settings = Settings::try_from(&Config::default()).expect("valid");
    settings.max_head = 1024;
    settings.max_message = 100_000;
    settings.backlog = rng.pick(&[3_000, 10_000, 100_000]);
    settings.max_topics = rng.between(3, 5) as u32;
    settings.deflate_min = rng.pick(&[0, 64]);
    settings.ping_interval = None;
    settings.max_lifetime = None;
    // What is dropped is counted: notices would be among it.
    settings.presence.notices = false;
    settings.max_errors = 1_000_000;
    settings.backend_key = vec![Secret::new(BACKEND_KEY)];
    settings.history = parse_history(rng.pick(&HISTORIES)).expect("rules");
    if rng.percent(30) {
        // The room of all: whoever comes is held until its home shard has said what is kept of it, which is nothing.
        settings.history.0.extend(parse_history("game count=1 last_value").expect("a rule").0);
    }
    settings.topic_memory = rng.pick(&[Duration::from_millis(20), Duration::from_secs(120)]);
    settings.history_bytes = rng.pick(&[10_000, 1 << 20]);
    settings.backlog_policy = rng.pick(&DROPPY);
    if calm {
        // Room for the pongs and answers of a client that does not read.
        settings.backlog = settings.backlog.max(10_000);
        let forever = Duration::from_secs(3600);
        settings.head_timeout = forever;
        settings.message_timeout = None;
        settings.keep_alive_timeout = forever;
        settings.close_timeout = forever;
        settings.sse_heartbeat = forever;
        settings.max_topics = 10;
        return settings;
    }
    if rng.percent(60) {
        settings.backlog_policy = BacklogPolicy::Close;
    }
    settings.head_timeout = millis(rng, 200, 2_000);
    settings.keep_alive_timeout = millis(rng, 200, 2_000);
    settings.close_timeout = millis(rng, 200, 1_000);
    settings.sse_heartbeat = millis(rng, 200, 2_000);
    if rng.percent(50) {
        settings.ping_interval = Some(millis(rng, 300, 2_000));
        settings.ping_timeout = millis(rng, 100, 300);
    }
    if rng.percent(30) {
        settings.max_lifetime = Some(millis(rng, 500, 4_000));
        settings.lifetime_jitter = rng.between(0, 50) as u32;
    }
    settings
}
