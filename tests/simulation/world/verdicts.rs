//! Verdicts: tokens are checked and the application is asked, late, in any order, and with what comes of it still under way when
//! the client is gone and another has its slot.

use uproar::auth::hook::{Outcome, Waiting};
use uproar::auth::{Gate, Hook, Keys, Verdict, gate};

use super::*;

/// Questions that may wait for the application.
const QUESTIONS: usize = 1 << 20;

/// Who does for a server what shards do not do themselves; and what is asked there.
pub(super) struct Post {
    pub aides: Aides,
    tokens: gate::Asked,
    questions: flume::Receiver<Waiting>,
}

/// What is to be answered.
enum Asked {
    Token(gate::Question),
    Question(Waiting),
}

/// What waits for an answer of a server, and whether it waits until all comes to rest.
pub(super) struct Pending {
    server: usize,
    asked: Asked,
    held: bool,
}

impl Pending {
    /// The server, the shard, and the slot there.
    fn slot(&self) -> (usize, u16, u32) {
        let (shard, conn) = match &self.asked {
            Asked::Token(asked) => (asked.shard, asked.conn),
            Asked::Question(asked) => (asked.shard, asked.conn),
        };
        (self.server, shard, conn.index)
    }
}

impl Post {
    pub fn new(plan: &Plan) -> Post {
        let keys = Keys::new(&[], &[], (None, None)).expect("no keys");
        let (gate, tokens) = Gate::new(keys);
        let (hook, questions) = Hook::new(QUESTIONS);
        let has_gate = plan.guard.is_some_and(|rule| rule.gate);
        let has_hook = plan.guard.is_some_and(|rule| rule.hook.is_some());
        let aides = Aides { gate: has_gate.then_some(gate), hook: has_hook.then_some(hook), ..Aides::default() };
        Post { aides, tokens, questions }
    }
}

impl World {
    /// Takes note of what was asked.
    fn hear(&mut self) {
        let held = self.plan.guard.map_or(0, |rule| rule.held);
        for (server, post) in self.posts.iter().enumerate() {
            let tokens = std::iter::from_fn(|| post.tokens.try_next()).map(Asked::Token);
            for asked in tokens.chain(post.questions.try_iter().map(Asked::Question)) {
                self.pending.push(Pending { server, asked, held: self.rng.permille(held) });
            }
        }
    }

    /// Answers one of what was asked, at times.
    pub(super) fn judge_some(&mut self, pace: usize) {
        if !self.rng.percent(pace) {
            return;
        }
        self.hear();
        let open: Vec<_> = (0..self.pending.len()).filter(|&at| !self.pending[at].held).collect();
        if !open.is_empty() {
            let at = open[self.rng.below(open.len())];
            // What was held for one who had the slot before: now it would hurt.
            let slot = self.pending[at].slot();
            let older = self.pending.iter().position(|other| other.held && other.slot() == slot);
            self.judge(older.unwrap_or(at));
        }
    }

    /// Answers everything; says whether there was something.
    pub(super) fn judge_all(&mut self) -> bool {
        if self.plan.guard.is_none() {
            return false;
        }
        self.hear();
        let busy = !self.pending.is_empty();
        while !self.pending.is_empty() {
            let at = self.rng.below(self.pending.len());
            self.judge(at);
        }
        busy
    }

    fn judge(&mut self, at: usize) {
        let Pending { server, asked, .. } = self.pending.swap_remove(at);
        let (guard, names, now_ms) = (&mut self.oracle.guard, &self.oracle.names, u64::from(self.now.0) * 10);
        self.tally.verdicts += 1;
        let (shard, conn, mail) = match asked {
            Asked::Token(asked) => {
                let judged = guard.check(&asked, names, now_ms);
                let gate::Question { shard, conn, token, .. } = asked;
                note(|| format!("of {conn:?} {token}: {judged:?}"));
                (shard, conn, Mail::Verdict(Box::new(Verdict { conn, judged })))
            }
            Asked::Question(Waiting { shard, conn, question, .. }) => {
                let result = guard.decide(&question, names, now_ms);
                note(|| format!("of {conn:?} {question:?}: {result:?}"));
                (shard, conn, Mail::Decided(Box::new(Outcome { conn, result })))
            }
        };
        let shard = usize::from(shard);
        let node = match server + 1 == self.posts.len() {
            true => Some(self.old + shard),
            false => Some(shard).filter(|&shard| shard < self.old),
        };
        let Some(node) = node.map(|node| &self.nodes[node]) else { return };
        self.tally.misdirected += usize::from(node.kernel.is_anothers(conn));
        node.postbox.post(mail);
        node.postbox.wake();
    }
}
