//! Shards, kernels and clients in one thread, one small step of one of them at a time, in an order that the seed says.

use std::sync::Arc;

use uproar::ring::op::Wait;
use uproar::shard::Aides;
use uproar::shard::configure::Update;
use uproar::shard::mail::Mail;
use uproar::shard::shared::Shared;
use uproar::time::Tick;

use super::client::{Client, Home, Letters, Place, Scene, Trails};
use super::drain::Drain;
use super::guard::Guard;
use super::net::Socket;
use super::node::{Node, check_empty, nodes};
use super::oracle::Oracle;
use super::plan::{Plan, SHUTDOWN_TICKS};
use super::script::Persona;
use super::tally::Tally;
use super::trace::note;
use crate::common::rng::Rng;

mod drains;
mod verdicts;

use verdicts::{Pending, Post};

/// Rounds of everybody after which nothing may be under way.
const PATIENCE: usize = 20_000;
/// Ticks after which no time-out of any plan but a calm one is left.
const LONG: u32 = 2_000;

struct World {
    plan: Plan,
    rng: Rng,
    now: Tick,
    /// Of each server that there was.
    shared: Vec<Arc<Shared>>,
    nodes: Vec<Node>,
    /// The first so many are of a server that is being drained.
    old: usize,
    drain: Option<Drain>,
    /// Who does for each server what shards do not do.
    posts: Vec<Post>,
    /// What they were asked.
    pending: Vec<Pending>,
    /// Clients that were sent away, and when they come back.
    returns: Vec<(Tick, usize)>,
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
    world.tally.turns = world.counted(|counters| counters.turn_time.snapshot().count());
    world.tally.dropped = world.dropped();
    world.tally.outdated = world.oracle.guard.passes.values().filter(|pass| pass.dead).count();
    world.tally
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, &mut Rng::new(!seed));
        note(|| format!("seed {seed}: {} shards, calm {}, {:?}", plan.shards, plan.calm, plan.settings));
        let shared = Arc::new(Shared::seeded(plan.shards, rng.bits()));
        let oracle = Oracle::new((0..plan.topics).map(|topic| format!("topic/{topic}")).collect(), Guard::new(&plan));
        let post = Post::new(&plan);
        let tally = Tally { runs: 1, calm: usize::from(plan.calm), ..Tally::default() };
        World {
            nodes: nodes(&plan, &shared, &post.aides, &mut rng),
            plan,
            rng,
            now: Tick(0),
            shared: vec![shared],
            old: 0,
            drain: None,
            posts: vec![post],
            pending: Vec::new(),
            returns: Vec::new(),
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
        let busy = clients[client].step(&mut scene);
        if let Some(after_ms) = clients[client].take_return(scene.rng) {
            self.returns.push((Tick(self.now.0 + after_ms.div_ceil(10) as u32), client));
        }
        busy
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
            now: self.now,
            drain: self.drain.as_mut(),
            active: self.active,
            publishing,
            stopping: self.stop_by.is_some(),
            cut_off: self.stop_by.is_some_and(|by| !by.is_after(self.now)),
        };
        (&mut self.clients, scene)
    }

    fn connect(&mut self) {
        let node = self.door();
        self.net.push(Socket::new(&mut self.rng));
        let persona = Persona::new(&self.plan, &mut self.rng);
        self.connect_as(persona, node, None);
    }

    /// Connects on the newest socket: as one who goes on where this client was, or, if one like that is gone, where that was.
    fn connect_as(&mut self, persona: Persona, node: usize, before: Option<usize>) {
        let (id, home) = (self.clients.len(), self.home(node));
        let mut client = Client::new(id, home, persona, &self.plan, &self.oracle, &mut self.rng);
        match persona {
            Persona::Follower => client.trails = self.trails_of_the_gone(before),
            Persona::Backend => client.ask_for_desk(&mut self.oracle, &mut self.rng),
            Persona::Sender => {
                let (heritage, known) = self.heritage(home, before);
                client.write_as(heritage, known, &mut self.oracle, &mut self.rng);
            }
            Persona::Reader => {
                let place = self.place_of_the_gone(before);
                client.ask_for_stream(place, &self.plan, &self.oracle, &mut self.rng);
            }
            _ => {}
        }
        client.bring_pass(&self.plan, self.now, &mut self.oracle, &mut self.rng);
        if let Some(drain) = self.drain.as_mut().filter(|_| node < self.old) {
            drain.came[home.shard] += 1;
            client.away.late = drain.has_begun(self.now);
        }
        self.clients.push(client);
        match self.nodes[node].stopped {
            true => self.net[id].close(),
            false => self.nodes[node].kernel.connect(id),
        }
    }

    /// Where a client was that is gone, if there is one that followed topics.
    fn trails_of_the_gone(&mut self, before: Option<usize>) -> Trails {
        if let Some(client) = before {
            return self.clients[client].trails.of_the_gone();
        }
        let mut gone = self.clients.iter_mut().filter(|client| client.is_gone() && !client.trails.is_empty());
        gone.next().map(|client| client.trails.of_the_gone()).unwrap_or_default()
    }

    /// The last id that a reader had which is gone.
    fn place_of_the_gone(&mut self, before: Option<usize>) -> Place {
        if let Some(client) = before {
            return self.clients[client].stream.take_place();
        }
        let mut gone = self.clients.iter_mut().filter(|client| client.is_gone() && client.stream.has_place());
        gone.next().map(|client| client.stream.take_place()).unwrap_or_default()
    }

    /// What a sender leaves to the next: one that is gone, or one that does not know yet that it will be replaced. And whether
    /// this server has given it its name.
    fn heritage(&mut self, home: Home, before: Option<usize>) -> (Option<(usize, Letters)>, bool) {
        let early = before.is_none() && !self.plan.calm && self.rng.percent(30);
        let senders = self.clients.iter_mut().enumerate().filter(|(_, client)| client.persona == Persona::Sender);
        let mut others = senders.filter(|(id, client)| match before {
            Some(before) => *id == before,
            None => early || client.is_gone(),
        });
        let found = others.find_map(|(_, client)| Some((client.hand_on()?, client.home.server == home.server)));
        found.map_or((None, false), |(heritage, known)| (Some(heritage), known))
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
            self.shared.iter().for_each(|shared| shared.set_memory_pressure(pressure));
        }
        if !self.plan.calm && self.rng.permille(2) {
            self.reload();
        }
        if let Some(rule) = self.plan.guard {
            self.judge_some(rule.pace);
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

    /// All shards get other settings, each when it reads its mail.
    fn reload(&mut self) {
        let settings = Arc::new(self.plan.other_settings(&mut self.rng));
        note(|| format!("reload: {settings:?}"));
        for (at, node) in self.nodes.iter().enumerate() {
            let aides = self.posts[self.home(at).server].aides.clone();
            let update = Update { settings: settings.clone(), aides, pending: None };
            node.postbox.post(Mail::Configure(Box::new(update)));
            node.postbox.wake();
        }
        self.tally.reloads += 1;
    }

    /// Lets everybody finish what is under way, without time passing.
    fn settle(&mut self) {
        self.active = false;
        for _ in 0..PATIENCE {
            let mut busy = self.judge_all();
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
        for step in 0..self.plan.steps {
            if let Some(table) = self.plan.drain.filter(|table| table.at == step) {
                self.begin_drain(table);
            }
            self.step();
            self.keep_draining();
        }
        while self.is_draining() && !(self.plan.shutdown && self.plan.abrupt) {
            self.step();
            self.keep_draining();
        }
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
        // Whoever has come back goes on with what he has published.
        let mut done = vec![false; self.clients.len()];
        self.clients.iter().zip(&well).for_each(|(client, well)| done[client.author] = *well);
        for (client, _) in self.clients.iter_mut().zip(&well).filter(|(_, well)| **well) {
            client.check_rest(&mut self.oracle, &self.plan, |author| done[author]);
        }
        if !self.clients.iter().zip(&well).any(|(client, well)| client.may_have_lost(*well)) {
            self.oracle.ledger.check_received();
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
            assert!(
                account.2.is_none_or(|told| told == account.1),
                "missed and told: {account:?}, {:?}",
                client.persona
            );
        }
        assert_eq!(missed, self.dropped(), "messages missed, and counted as dropped");
        self.tally.accounted += missed;
    }

    /// Of the server that was begun last.
    fn newest(&self) -> &Shared {
        self.shared.last().expect("there is a server")
    }

    fn counted(&self, count: impl Fn(&uproar::counters::Counters) -> u64) -> usize {
        let all = self.shared.iter().flat_map(|shared| shared.all_counters());
        all.map(|counters| count(counters) as usize).sum()
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
        let late = self.clients.iter().position(|client| client.has_outstayed(self.now));
        assert_eq!(late, None, "this client's time is over");
        self.clients.iter_mut().for_each(|client| client.reset(&mut self.net));
        self.settle();
        // What nobody uses is known for a while.
        self.pass(1 + self.plan.settings.topic_memory.as_millis() as usize / 10);
        self.settle();
        // A closed log is let go of in some later turn.
        for _ in 0..50 {
            (0..self.nodes.len()).for_each(|node| _ = self.step_node(node, true));
        }
        self.settle();
        for node in &self.nodes {
            check_empty(node, self.newest());
            assert_eq!(node.shard.wait().at(self.now), Wait::Forever, "there is nothing to wait for");
        }
    }

    fn shut_down(&mut self) {
        self.active = self.plan.abrupt;
        let within_ms = SHUTDOWN_TICKS * 10;
        for node in &self.nodes {
            node.postbox.post(Mail::Shutdown { within_ms, drained: false });
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
            check_empty(node, self.newest());
        }
    }
}
