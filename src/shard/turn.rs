//! One turn, after the completions and the mail: timers, fan-outs, sends; and how long the next enter may wait.

use std::time::Duration;

use crate::handler;
use crate::hub::frame::Frames;
use crate::limits::{DEADLINES_PER_TURN, DELIVERIES_PER_TURN};
use crate::ring::op::Wait;
use crate::time::{Tick, Wheel};

use super::mail::Mail;
use super::stop::Life;
use super::{Core, Shard};

/// Mail of one reading; the rest waits for the next, after the connections had theirs.
const MAIL_AT_ONCE: usize = 512;
/// Connections of one turn whose passes are looked at.
const PASS_ENDS_PER_TURN: usize = 64;
/// Topics of one turn whose old messages are dropped.
const HISTORIES_PER_TURN: usize = 64;
/// How soon to look again whether other shards' mailboxes have room.
const CONGESTION_POLL: Duration = Duration::from_millis(10);
/// How long the sends of a turn may go without being accounted for when nothing else happens: a send that succeeds
/// wakes nobody, while counters miss it, and its frames are kept.
const SETTLE_AFTER: Duration = Duration::from_millis(50);

impl Shard {
    /// Does everything that is not the handling of completions, and leaves the operations for the next enter.
    pub fn turn(&mut self) {
        self.core.fire_deadlines();
        self.core.bound_incomplete();
        handler::notify(&mut self.core, &mut self.routes);
        self.core.fan_out();
        self.core.keep_draining();
        self.core.keep_stopping();
        self.core.keep_surveying();
        self.core.resume_paused();
        self.core.give_all_to_kernel();
        // Whatever ends a connection is behind us: what follows is only for connections that are there.
        self.core.flush();
        self.core.end_turn();
        self.core.send_wakes();
        self.count_up();
    }

    /// Sets the time of the turn that begins; `unix_ms`: milliseconds since 1970.
    pub fn set_now(&mut self, now: Tick, unix_ms: u64) {
        (self.core.now, self.core.unix_ms) = (now, unix_ms);
        self.core.hub.set_now(now);
        self.core.take_up_settings();
    }

    /// How long the enter may wait for completions.
    pub fn wait(&self) -> WaitFor {
        self.core.wait()
    }

    /// Whether everything is over, and handlers know of it.
    pub fn is_stopped(&self) -> bool {
        self.core.life == Life::Stopped && self.core.notices.is_empty()
    }

    /// What the worker must do before it waits, and after.
    pub fn mailbox(&self) -> &super::mailbox::Mailbox {
        &self.core.mailbox
    }
}

/// What the next enter waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitFor {
    /// Nothing: there is work.
    Nothing,
    /// A completion, but no longer than until then.
    Until(Tick),
    /// A completion.
    Ever,
}

impl WaitFor {
    /// As the ring wants it, in the tick that is going on. It may wait a tick too long, never too short to get on.
    pub fn at(self, now: Tick) -> Wait {
        match self {
            WaitFor::Nothing => Wait::None,
            WaitFor::Until(tick) => match tick.since(now) {
                Duration::ZERO => Wait::None,
                pause => Wait::AtMost(pause.as_nanos() as u64),
            },
            WaitFor::Ever => Wait::Forever,
        }
    }
}

impl Core {
    /// Takes in what other shards have posted.
    pub(super) fn read_mail(&mut self) {
        for _ in 0..if self.behind { 0 } else { MAIL_AT_ONCE } {
            let Some(mail) = self.mailbox.take() else { break };
            self.counters.mail.add(1);
            match mail {
                Mail::Publish { topic, message, exclude, receipt } => {
                    self.publish_mailed(topic, message, exclude, receipt)
                }
                Mail::Deliver { topic, offset, message, exclude } => {
                    self.deliver_mailed(topic, offset, message, exclude)
                }
                Mail::Interest { name, shard, topic } => self.interest(&name, shard, topic),
                Mail::Confirm { topic, home, epoch } => self.confirmed(topic, home, epoch),
                Mail::Recover(mail) => self.recover_for(*mail),
                Mail::Recovered(mail) => self.recovered(*mail),
                Mail::Room(mail) => self.room(*mail),
                Mail::Ask(mail) => self.asked(*mail),
                Mail::Address(mail) => self.addressed(*mail),
                Mail::Act { to, what } => self.act(to, *what),
                Mail::ActAll { topic, act } => self.act_on_all(topic, &act),
                Mail::Inform(mail) => self.inform_further(*mail),
                Mail::HandOver(mail) => self.handed_over(*mail),
                Mail::Backend { backend, gone } => self.backend_news(backend, gone),
                Mail::WhenRead { backend, shard } => self.when_read(backend, shard),
                Mail::HasRead { backend } => self.has_read(backend),
                Mail::Claim { client, by, gone } => self.claim(client, by, gone),
                Mail::Replaced { conn } => self.replaced(conn),
                Mail::Answer { to, answer } => self.tell_answer(to, &answer),
                Mail::Disinterest { topic, shard, local } => self.disinterest(topic, shard, local),
                Mail::Shaken(mail) => self.shaken(*mail),
                Mail::Verdict(mail) => self.judged(*mail),
                Mail::Decided(mail) => self.decided(*mail),
                Mail::Trim => self.trim(),
                Mail::Freed => self.peak.freed_elsewhere(),
                Mail::Configure(update) => self.update = Some(update),
                Mail::Shed(what) => self.shed(what),
                Mail::Drain { delay_ms, time_ms, grace_ms } => {
                    let [delay, time, grace] = [delay_ms, time_ms, grace_ms].map(|ms| Duration::from_millis(ms.into()));
                    self.drain(delay, time, grace);
                }
                Mail::Shutdown { within_ms, drained } => self.stop(Duration::from_millis(within_ms.into()), drained),
            }
        }
    }

    fn fire_deadlines(&mut self) {
        self.each_due(|core| &mut core.wheel, DEADLINES_PER_TURN, Core::expired);
        self.each_due(|core| &mut core.overdue, DEADLINES_PER_TURN, Core::message_overdue);
        self.each_due(|core| &mut core.pass_ends, PASS_ENDS_PER_TURN, Core::pass_over);
        self.announce_together();
        self.introduce();
        self.hub.expire_histories(self.now, HISTORIES_PER_TURN);
        if self.accept_again.is_some_and(|at| !at.is_after(self.now)) {
            self.start_accepting();
        }
    }

    /// Does something with each connection whose time a wheel has for over, so many at most.
    fn each_due(&mut self, wheel: impl Fn(&mut Core) -> &mut Wheel, most: usize, act: impl Fn(&mut Core, u32)) {
        let (now, mut due) = (self.now, std::mem::take(&mut self.scratch.expired));
        wheel(self).expire(now, most, &mut due);
        due.drain(..).for_each(|index| act(self, index));
        self.scratch.expired = due;
    }

    fn fan_out(&mut self) {
        let mut deliveries = std::mem::take(&mut self.scratch.deliveries);
        self.hub.start_fanouts(&mut self.frames);
        let mut out = |_: &mut Frames, subscriber, span| deliveries.push((subscriber, span));
        self.fanning_out = self.hub.deliver(&mut self.frames, DELIVERIES_PER_TURN, &mut out);
        self.place(&mut deliveries);
        self.scratch.deliveries = deliveries;
    }

    fn send_wakes(&mut self) {
        for shard in self.scratch.posted.drain(..) {
            if self.postboxes[usize::from(shard)].wake() {
                self.counters.wakes.add(1);
            }
        }
    }

    fn end_turn(&mut self) {
        // By what waits here alone: two shards that each waited for the other's mail would wait for ever.
        if !self.fan_outs_are_behind() {
            self.mailbox.settle();
        }
        self.replies.settle(&mut self.frames);
        self.settle_backends();
        (self.inflated_bytes, self.encoder.bytes) = (0, 0);
        self.trim_after_peak();
    }

    fn wait(&self) -> WaitFor {
        let busy = self.attention
            || self.fanning_out
            || !self.readable.is_empty()
            || !self.dirty.is_empty()
            || !self.notices.is_empty()
            || !self.undecoded.is_empty() && !self.congested()
            || self.has_goodbyes()
            || self.has_introductions()
            || self.update.is_some()
            || self.has_survey();
        if busy {
            return WaitFor::Nothing;
        }
        let congestion = (!self.paused.is_empty() || self.congested()).then(|| self.now.after(CONGESTION_POLL));
        let settle = (!self.sent.is_empty()).then(|| self.now.after(SETTLE_AFTER));
        let crowded = self.crowded.front().map(|(due, _)| *due);
        let expiry = self.hub.next_expiry(self.now);
        let timers = [&self.wheel, &self.overdue, &self.pass_ends].map(|wheel| wheel.next(self.now));
        let others = [self.accept_again, congestion, settle, self.next_of_life(), crowded, expiry, self.peak.due()];
        let earlier = |a: Tick, b: Tick| if a.is_after(b) { b } else { a };
        timers.into_iter().chain(others).flatten().reduce(earlier).map_or(WaitFor::Ever, WaitFor::Until)
    }
}
