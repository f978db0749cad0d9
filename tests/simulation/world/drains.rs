//! Drains: a server sends its clients away and ends, and they come back to another.

use uproar::shard::shared::Standing;

use super::*;
use crate::simulation::drain::{Drain, Stage, Timetable};

/// Steps in which a shard must have read its mail.
const READING: usize = 1_000;

impl World {
    /// The server is told to drain, and another one begins.
    pub(super) fn begin_drain(&mut self, table: Timetable) {
        note(|| format!("drain: {table:?}"));
        self.old = self.nodes.len();
        self.shared[0].advance(Standing::Draining);
        self.tell_to_drain(table);
        // All read it now: so it is known when it begins.
        for node in 0..self.old {
            self.nodes[node].preempted = 0;
            let read = (0..READING).any(|_| {
                self.step_node(node, true);
                self.nodes[node].has_read_mail()
            });
            assert!(read, "shard {node} does not read its mail");
        }
        let mut came = vec![0; self.old];
        self.clients.iter().for_each(|client| came[client.home.shard] += 1);
        self.drain = Some(Drain::new(table, self.now, came));
        let shared = Arc::new(Shared::seeded(self.plan.shards, self.rng.bits()));
        let post = Post::new(&self.plan);
        self.nodes.extend(nodes(&self.plan, &shared, &post.aides, &mut self.rng));
        self.posts.push(post);
        self.shared.push(shared);
        self.tally.drains += 1;
    }

    fn tell_to_drain(&self, table: Timetable) {
        let [delay_ms, time_ms, grace_ms] = [table.delay, table.time, table.grace].map(|ticks| 10 * ticks);
        for node in &self.nodes[..self.old] {
            node.postbox.post(Mail::Drain { delay_ms, time_ms, grace_ms });
            node.postbox.wake();
        }
    }

    /// Looks whether a drain has come as far as it should have, and lets those back in who were sent away.
    pub(super) fn keep_draining(&mut self) {
        if let Some(at) = self.returns.iter().position(|(due, _)| !due.is_after(self.now)) {
            let (_, client) = self.returns.swap_remove(at);
            self.come_back(client);
        }
        let Some(drain) = &self.drain else { return };
        if drain.stage == Stage::Over || drain.until.is_after(self.now) {
            return;
        }
        let (stage, grace) = (drain.stage, drain.table.grace);
        self.nodes[..self.old].iter_mut().for_each(|node| node.kernel.behave());
        self.settle_old();
        let next = match stage {
            Stage::Sending => self.check_sent_away(),
            Stage::Parting | Stage::Over => self.check_ended(),
        };
        if let Some(drain) = &mut self.drain {
            (drain.stage, drain.until) = (next, Tick(self.now.0 + grace));
        }
    }

    /// Lets those finish who have to do with the old server, without time passing.
    fn settle_old(&mut self) {
        self.active = false;
        for _ in 0..PATIENCE {
            let mut busy = self.judge_all();
            (0..self.old).for_each(|node| busy |= self.step_node(node, false));
            for client in 0..self.clients.len() {
                busy |= self.clients[client].home.server == 0 && self.step_client(client);
            }
            if !busy {
                self.active = true;
                return;
            }
        }
        panic!("the old server never comes to rest");
    }

    fn check_sent_away(&self) -> Stage {
        let left = self.clients.iter().position(|client| client.home.server == 0 && client.is_open());
        assert_eq!(left, None, "this client was not sent away in time");
        Stage::Parting
    }

    fn check_ended(&mut self) -> Stage {
        for node in self.nodes.drain(..self.old) {
            assert!(node.stopped, "the shard has not stopped in time");
            check_empty(&node, &self.shared[0]);
        }
        self.old = 0;
        let left = self.clients.iter().position(|client| client.home.server == 0 && !client.is_gone());
        assert_eq!(left, None, "this client's server has ended");
        Stage::Over
    }

    /// Whether a drain, and what follows from it, is still to come to its end.
    pub(super) fn is_draining(&self) -> bool {
        let goes_on = self.drain.as_ref().is_some_and(|drain| drain.stage != Stage::Over);
        goes_on || !self.returns.is_empty()
    }

    /// Where somebody connects: few come to a server that ends.
    pub(super) fn door(&mut self) -> usize {
        match self.old {
            0 => self.rng.below(self.nodes.len()),
            old if self.rng.percent(30) => self.rng.below(old),
            old => old + self.rng.below(self.nodes.len() - old),
        }
    }

    pub(super) fn home(&self, node: usize) -> Home {
        match node.checked_sub(self.old) {
            Some(shard) => Home { server: self.shared.len() - 1, shard },
            None => Home { server: 0, shard: node },
        }
    }

    /// A client that was sent away connects anew, to the server that is there now.
    fn come_back(&mut self, client: usize) {
        let node = self.old + self.rng.below(self.nodes.len() - self.old);
        let persona = self.clients[client].persona;
        note(|| format!("c{client} comes back"));
        self.net.push(Socket::new(&mut self.rng));
        self.connect_as(persona, node, Some(client));
        self.tally.returned += 1;
    }
}
