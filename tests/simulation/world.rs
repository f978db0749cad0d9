//! Shards, kernels and clients in one thread, one small step of one of them at a time, in an order that the seed says.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use uproar::Routes;
use uproar::ring::WakeFd;
use uproar::ring::op::{Completion, Wait};
use uproar::ring::token::{Kind, Token};
use uproar::shard::mail::Mail;
use uproar::shard::mailbox::{self, Postbox};
use uproar::shard::shared::Shared;
use uproar::shard::{Parts, Shard};
use uproar::time::Tick;

use super::client::{Client, Scene, Trails};
use super::kernel::Kernel;
use super::net::Socket;
use super::oracle::Oracle;
use super::plan::{Faults, Plan, SHUTDOWN_TICKS};
use super::script::Persona;
use super::trace::note;
use crate::common::rng::Rng;

/// Rounds of everybody after which nothing may be under way.
const PATIENCE: usize = 20_000;
/// Ticks after which no time-out of any plan but a calm one is left.
const LONG: u32 = 2_000;

/// What happened, to see that something did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    pub runs: usize,
    pub calm: usize,
    pub opened: usize,
    pub published: usize,
    pub delivered: usize,
    pub dropped: usize,
    pub accounted: usize,
    pub inflated: usize,
    pub pings: usize,
    pub pongs: usize,
    pub pages: usize,
    pub refused: usize,
    pub resets: usize,
    pub turns: usize,
    /// Subscriptions that began in the past.
    pub resumed: usize,
    /// Those whose topic had been forgotten.
    pub forgotten: usize,
    /// Gaps that were told.
    pub gaps: usize,
    pub closes: BTreeMap<u16, usize>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        let Tally { opened, published, delivered, dropped, accounted, inflated, .. } = other;
        let Tally { pings, pongs, pages, refused, resets, turns, runs, calm, .. } = other;
        let Tally { resumed, forgotten, gaps, .. } = other;
        self.resumed += resumed;
        self.forgotten += forgotten;
        self.gaps += gaps;
        self.runs += runs;
        self.calm += calm;
        self.opened += opened;
        self.published += published;
        self.delivered += delivered;
        self.dropped += dropped;
        self.accounted += accounted;
        self.inflated += inflated;
        self.pings += pings;
        self.pongs += pongs;
        self.pages += pages;
        self.refused += refused;
        self.resets += resets;
        self.turns += turns;
        other.closes.into_iter().for_each(|(code, n)| *self.closes.entry(code).or_default() += n);
    }
}

impl Tally {
    /// Panics if the runs were so quiet that they say nothing.
    pub fn assert_eventful(&self) {
        let counts = [self.opened, self.published, self.delivered, self.dropped, self.accounted, self.inflated];
        let more = [self.pings, self.pongs, self.pages, self.refused, self.resets];
        let recovery = [self.resumed, self.forgotten, self.gaps];
        assert!(counts.into_iter().chain(more).chain(recovery).all(|count| count > 0), "{self:?}");
        for code in [1000, 1001, 1002, 1005, 1007, 1009, 1013, 3000] {
            assert!(self.closes.contains_key(&code), "nobody was closed with {code}");
        }
    }
}

/// A shard on its kernel.
struct Node {
    shard: Shard,
    kernel: Kernel,
    postbox: Postbox,
    /// The enter after the last turn has begun.
    entered: bool,
    /// Steps until the thread has the core again.
    preempted: usize,
    /// How long the enter under way waits.
    until: Option<Tick>,
    /// It has announced that it sleeps.
    asleep: bool,
    stopped: bool,
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
    fn step(&mut self, now: Tick, net: &mut [Socket], rng: &mut Rng, interrupted: bool) -> bool {
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
        self.shard.set_now(now, 0);
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

    /// Whether somebody has woken it. If it had to be asked, it is put to sleep again: there must be no mail.
    fn was_woken(&self) -> bool {
        let woken = !self.postbox.wake();
        assert!(woken || self.shard.mailbox().sleep(), "mail, but nobody has woken the shard");
        woken
    }
}

struct World {
    plan: Plan,
    rng: Rng,
    now: Tick,
    shared: Arc<Shared>,
    nodes: Vec<Node>,
    net: Vec<Socket>,
    clients: Vec<Client>,
    oracle: Oracle,
    tally: Tally,
    active: bool,
    stop_by: Option<Tick>,
}

/// Runs a seed to its end; panics if a promise is broken.
pub fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    world.live();
    if !world.plan.abrupt {
        world.rest();
    }
    match world.plan.shutdown {
        true => world.shut_down(),
        false => world.leave(),
    }
    world.oracle.check_order();
    world.tally.turns = world.counted(|counters| counters.turns.get());
    world.tally.dropped = world.dropped();
    world.tally
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        note(|| format!("seed {seed}: {} shards, calm {}, {:?}", plan.shards, plan.calm, plan.settings));
        let shared = Arc::new(Shared::seeded(plan.shards, rng.bits()));
        let oracle = Oracle::new((0..plan.topics).map(|topic| format!("topic/{topic}")).collect());
        let tally = Tally { runs: 1, calm: usize::from(plan.calm), ..Tally::default() };
        World {
            nodes: nodes(&plan, &shared, &mut rng),
            plan,
            rng,
            now: Tick(0),
            shared,
            net: Vec::new(),
            clients: Vec::new(),
            oracle,
            tally,
            active: true,
            stop_by: None,
        }
    }

    // One step.

    fn step_node(&mut self, node: usize, interrupted: bool) -> bool {
        self.nodes[node].step(self.now, &mut self.net, &mut self.rng, interrupted)
    }

    fn step_client(&mut self, client: usize) -> bool {
        let publishing = self.may_publish();
        let (clients, mut scene) = self.scene(publishing);
        clients[client].step(&mut scene)
    }

    /// To account for every message, nobody publishes before everybody has joined.
    fn may_publish(&self) -> bool {
        let all_here = || self.clients.len() == self.plan.clients && self.clients.iter().all(Client::has_joined);
        !self.plan.calm || all_here()
    }

    fn scene(&mut self, publishing: bool) -> (&mut [Client], Scene<'_>) {
        let scene = Scene {
            net: &mut self.net,
            rng: &mut self.rng,
            oracle: &mut self.oracle,
            plan: &self.plan,
            tally: &mut self.tally,
            active: self.active,
            publishing,
            stopping: self.stop_by.is_some(),
            cut_off: self.stop_by.is_some_and(|by| !by.is_after(self.now)),
        };
        (&mut self.clients, scene)
    }

    fn connect(&mut self) {
        let (id, node) = (self.clients.len(), self.rng.below(self.nodes.len()));
        self.net.push(Socket::new(&mut self.rng));
        let mut client = Client::new(id, id, &self.plan, &self.oracle, &mut self.rng);
        if client.persona == Persona::Follower {
            client.trails = self.trails_of_the_gone();
        }
        self.clients.push(client);
        match self.nodes[node].stopped {
            true => self.net[id].close(),
            false => self.nodes[node].kernel.connect(id),
        }
    }

    /// Where a client was that is gone, if there is one that followed topics.
    fn trails_of_the_gone(&mut self) -> Trails {
        let mut gone = self.clients.iter_mut().filter(|client| client.is_gone() && !client.trails.is_empty());
        gone.next().map(|client| client.trails.of_the_gone()).unwrap_or_default()
    }

    fn pass(&mut self, ticks: usize) {
        self.now = Tick(self.now.0 + ticks as u32);
        note(|| format!("--- tick {}", self.now.0));
    }

    /// One step of somebody.
    fn step(&mut self) {
        if self.clients.len() < self.plan.clients && self.rng.percent(10) || !self.plan.calm && self.rng.permille(3) {
            self.connect();
        }
        if !self.plan.calm && self.rng.permille(2) {
            let pressure = self.rng.percent(20);
            self.shared.set_memory_pressure(pressure);
        }
        if self.rng.percent(3) {
            let ticks = self.rng.between(1, 3);
            self.pass(ticks);
        } else if self.rng.permille(2) {
            let ticks = self.rng.between(10, 60);
            self.pass(ticks);
        }
        let who = self.rng.below(2 * self.nodes.len() + self.clients.len());
        match who.checked_sub(2 * self.nodes.len()) {
            Some(client) => self.step_client(client),
            None => {
                let interrupted = self.rng.percent(2);
                self.step_node(who / 2, interrupted)
            }
        };
    }

    /// Lets everybody finish what is under way, without time passing.
    fn settle(&mut self) {
        self.active = false;
        for _ in 0..PATIENCE {
            let mut busy = false;
            (0..self.nodes.len()).for_each(|node| busy |= self.step_node(node, false));
            (0..self.clients.len()).for_each(|client| busy |= self.step_client(client));
            if !busy {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    // A life.

    fn live(&mut self) {
        (0..self.plan.steps).for_each(|_| self.step());
    }

    /// Everything stands still: who is well has all that it was owed.
    fn rest(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.kernel.behave());
        if self.may_publish() {
            let (clients, mut scene) = self.scene(true);
            clients.iter_mut().for_each(|client| client.burst(&mut scene));
        }
        self.settle();
        let well: Vec<_> = self.clients.iter().map(|client| client.is_well(&self.net)).collect();
        for (client, _) in self.clients.iter_mut().zip(&well).filter(|(_, well)| **well) {
            client.check_rest(&self.oracle, &self.plan, |publisher| well[publisher]);
        }
        if self.plan.calm {
            assert!(well.iter().all(|&well| well), "calm, and all are well");
            self.check_accounts();
        }
    }

    /// What was seen and what was dropped is what was published, for all who were there all the time.
    fn check_accounts(&mut self) {
        let mut missed = 0;
        for client in &self.clients {
            let account = client.account();
            missed += account.1;
            assert!(account.2.is_none_or(|told| told == account.1), "missed and told: {account:?}");
        }
        assert_eq!(missed, self.dropped(), "messages missed, and counted as dropped");
        self.tally.accounted += missed;
    }

    fn counted(&self, count: impl Fn(&uproar::counters::Counters) -> u64) -> usize {
        self.shared.all_counters().iter().map(|counters| count(counters) as usize).sum()
    }

    fn dropped(&self) -> usize {
        self.counted(|counters| {
            counters.dropped_oldest.get() + counters.dropped_newest.get() + counters.dropped_latest.get()
        })
    }

    fn leave(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.kernel.behave());
        let (clients, mut scene) = self.scene(false);
        clients.iter_mut().for_each(|client| client.leave(&mut scene));
        self.settle();
        let owed = self.clients.iter().position(|client| client.is_owed_an_end(&self.net));
        assert_eq!(owed, None, "this client's connection waits for nothing but time");
        let start = self.now;
        while self.now.0 < start.0 + LONG {
            let ticks = self.rng.between(1, 100);
            self.pass(ticks);
            self.settle();
        }
        self.clients.iter_mut().for_each(|client| client.reset(&mut self.net));
        self.settle();
        // What nobody uses is known for a while.
        self.pass(1 + self.plan.settings.ack_window.as_millis() as usize / 10);
        self.settle();
        // A closed log is let go of in some later turn.
        for _ in 0..50 {
            (0..self.nodes.len()).for_each(|node| _ = self.step_node(node, true));
        }
        self.settle();
        for node in &self.nodes {
            check_empty(node, &self.shared);
            assert_eq!(node.shard.wait().at(self.now), Wait::Forever, "there is nothing to wait for");
        }
    }

    fn shut_down(&mut self) {
        self.active = self.plan.abrupt;
        let within_ms = SHUTDOWN_TICKS * 10;
        for node in &self.nodes {
            node.postbox.post(Mail::Shutdown { within_ms });
            node.postbox.wake();
        }
        for node in &mut self.nodes {
            node.preempted = 0;
        }
        // Two steps are a turn, which reads its mail: the time begins now.
        (0..2 * self.nodes.len()).for_each(|i| _ = self.step_node(i / 2, true));
        let stop_by = Tick(self.now.0 + SHUTDOWN_TICKS);
        self.stop_by = Some(stop_by);
        while stop_by.is_after(self.now) {
            self.step();
        }
        self.nodes.iter_mut().for_each(|node| node.kernel.behave());
        self.settle();
        for node in &self.nodes {
            assert!(node.stopped, "the shard has not stopped in time");
            check_empty(node, &self.shared);
        }
    }
}

/// Nothing is left of anybody.
fn check_empty(node: &Node, shared: &Shared) {
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
        assert_eq!(left(|c| c.backlogged.get()), 0, "backlogged connections");
    }
}

fn nodes(plan: &Plan, shared: &Arc<Shared>, rng: &mut Rng) -> Vec<Node> {
    let wake = || Arc::new(WakeFd::new().expect("an eventfd"));
    let boxes: Vec<_> = (0..plan.shards).map(|_| mailbox::mailbox(wake())).collect();
    let postboxes: Vec<_> = boxes.iter().map(|(postbox, _)| postbox.clone()).collect();
    let faults: Faults = plan.faults;
    let make = |(id, (postbox, mailbox))| {
        let shard = Shard::new(Parts {
            id: id as u16,
            slots: plan.slots,
            settings: plan.settings.clone(),
            shared: shared.clone(),
            mailbox,
            postboxes: postboxes.clone(),
            routes: Routes::new(Vec::new(), true),
            seed: rng.bits(),
        });
        let kernel = Kernel::new(id as u16, plan.slots, faults);
        Node { shard, kernel, postbox, entered: false, preempted: 0, until: None, asleep: false, stopped: false }
    };
    boxes.into_iter().enumerate().map(make).collect()
}
