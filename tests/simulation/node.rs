//! A shard on its kernel.

use std::sync::Arc;

use uproar::Routes;
use uproar::counters::Part;
use uproar::ring::op::{Completion, Wait};
use uproar::ring::token::{Kind, Token};
use uproar::ring::{Stats, WakeFd};
use uproar::shard::accept::Door;
use uproar::shard::mailbox::{self, Postbox};
use uproar::shard::shared::Shared;
use uproar::shard::{Aides, Parts, Shard};
use uproar::time::{Moment, Tick};

use super::kernel::Kernel;
use super::net::Socket;
use super::plan::{Faults, Plan};
use crate::common::rng::Rng;

/// A shard, its kernel, and where they are in the loop that joins them.
pub struct Node {
    pub shard: Shard,
    pub kernel: Kernel,
    pub postbox: Postbox,
    /// The enter after the last turn has begun.
    entered: bool,
    /// Steps until the thread has the core again.
    pub preempted: usize,
    /// How long the enter under way waits.
    until: Option<Tick>,
    /// It has announced that it sleeps.
    asleep: bool,
    pub stopped: bool,
    /// It knows what time it is; otherwise it is always the same.
    has_clock: bool,
}

impl Node {
    /// The enter that follows a turn, but for its end.
    fn enter(&mut self, now: Tick, net: &mut [Socket], rng: &mut Rng) {
        let wait = self.shard.wait().at(now);
        self.asleep = wait != Wait::None && self.shard.mailbox().sleep();
        self.until = match wait {
            Wait::AtMost(nanos) if self.asleep => Some(Tick(now.0 + (nanos / 10_000_000) as u32)),
            Wait::Forever if self.asleep => None,
            _ => Some(now),
        };
        self.kernel.submit(&mut self.shard.core.ops, &self.shard.core.frames, net, rng);
    }

    /// Begins the next enter; or ends the one under way, if it is time, and does a turn. Between the two there is time
    /// for others: what a receive takes may be younger than the mail that its turn is yet to read.
    pub fn step(&mut self, now: Tick, net: &mut [Socket], rng: &mut Rng, interrupted: bool) -> bool {
        if self.stopped {
            return false;
        }
        if self.preempted > 0 {
            self.preempted -= 1;
            return true;
        }
        if !std::mem::replace(&mut self.entered, true) {
            self.enter(now, net, rng);
            return true;
        }
        let mut completions = self.kernel.collect(net, rng);
        if self.asleep && self.was_woken() {
            completions.push(Completion {
                token: Token::new(Kind::Wake, Token::RING),
                result: 1,
                more: true,
                buffer: 0,
            });
        }
        let over = self.until.is_some_and(|until| !until.is_after(now));
        if completions.is_empty() && !over && !interrupted {
            return false;
        }
        self.shard.mailbox().awake();
        self.shard.set_now(now, if self.has_clock { u64::from(now.0) * 10 } else { 0 });
        let moment = Moment(u64::from(now.0) + 1);
        self.shard.turn_begins(moment, moment, false);
        self.shard.complete(&completions, &mut self.kernel);
        // As the worker does it: what is read may end a connection, and another may come to its slot, before the turn.
        for _ in 0..4 {
            if !self.shard.receive() {
                break;
            }
            self.kernel.submit(&mut self.shard.core.ops, &self.shard.core.frames, net, rng);
            let completions = self.kernel.collect(net, rng);
            self.shard.complete(&completions, &mut self.kernel);
        }
        self.shard.turn();
        self.shard.turn_ends(moment, Stats::default());
        self.shard.core.invariants();
        if self.shard.is_stopped() {
            self.kernel.submit(&mut self.shard.core.ops, &self.shard.core.frames, net, rng);
            self.kernel.refuse_backlog(net);
            self.stopped = true;
        }
        self.entered = false;
        self.preempted = if rng.percent(10) { rng.below(20) } else { 0 };
        true
    }

    /// Whether there is no mail, after a turn.
    pub fn has_read_mail(&self) -> bool {
        let is_empty = !self.entered && self.shard.mailbox().sleep();
        if !self.entered {
            self.shard.mailbox().awake();
        }
        is_empty
    }

    /// Whether somebody has woken it. If it had to be asked, it is put to sleep again: there must be no mail.
    fn was_woken(&self) -> bool {
        let woken = !self.postbox.wake();
        assert!(woken || self.shard.mailbox().sleep(), "mail, but nobody has woken the shard");
        woken
    }
}

/// Nothing is left of anybody.
pub fn check_empty(node: &Node, shared: &Shared) {
    let core = &node.shard.core;
    core.invariants();
    assert_eq!(core.connections(), 0, "connections");
    assert_eq!(node.kernel.tenants(), 0, "slots in use");
    assert_eq!(node.kernel.waiting(), 0, "connections that are not accepted");
    assert!(core.ops.is_empty());
    if !node.stopped {
        assert_eq!(core.frames.live_bytes(), 0, "bytes of frames");
        let all = shared.all_counters();
        let left = |count: fn(&uproar::counters::Counters) -> u64| all.iter().map(|one| count(one)).sum::<u64>();
        assert_eq!(left(|c| c.topics.get()), 0, "topics");
        assert_eq!(left(|c| c.topics_remembered.get()), 0, "places of topics");
        assert_eq!(left(|c| c.subscriptions.get()), 0, "subscriptions");
        assert_eq!(left(|c| c.websockets.get()), 0, "WebSockets");
        assert_eq!(left(|c| c.event_streams.get()), 0, "event streams");
        assert_eq!(left(|c| c.backends.get()), 0, "backends");
        assert_eq!(left(|c| c.rooms.get()), 0, "rooms");
        assert_eq!(core.claims(), 0, "names of clients that are gone");
        assert_eq!(left(|c| c.backlogged.get()), 0, "backlogged connections");
        assert_eq!(left(|c| c.hook_waiting.get()), 0, "questions");
        assert_eq!(left(|c| c.memory(Part::PartialMessages)), 0, "bytes that wait");
    }
}

/// All shards of a plan.
pub fn nodes(plan: &Plan, shared: &Arc<Shared>, aides: &Aides, rng: &mut Rng) -> Vec<Node> {
    let wake = || Arc::new(WakeFd::new().expect("an eventfd"));
    let boxes: Vec<_> = (0..plan.shards).map(|_| mailbox::mailbox(wake())).collect();
    let postboxes: Vec<_> = boxes.iter().map(|(postbox, _)| postbox.clone()).collect();
    let faults: Faults = plan.faults;
    let make = |(id, (postbox, mailbox))| {
        let shard = Shard::new(Parts {
            id: id as u16,
            doors: vec![Door::Plain],
            aides: aides.clone(),
            slots: plan.slots,
            settings: plan.settings.clone(),
            shared: shared.clone(),
            mailbox,
            postboxes: postboxes.clone(),
            routes: Routes::new(Vec::new(), true),
            seed: rng.bits(),
        });
        let kernel = Kernel::new(id as u16, plan.slots, faults);
        Node {
            shard,
            kernel,
            postbox,
            entered: false,
            preempted: 0,
            until: None,
            asleep: false,
            stopped: false,
            has_clock: plan.guard.is_some(),
        }
    };
    boxes.into_iter().enumerate().map(make).collect()
}
