//! What connections still have to be sent.

use std::collections::HashMap;

use crate::hub::frame::{Frames, LogId, Span};
use crate::ring::op::Op;
use crate::ring::token::ConnId;

/// The outboxes of those that have something to be sent. There are few: publishers, and whoever shakes hands or answers a
/// ping just now.
#[derive(Default)]
pub struct Outboxes {
    waiting: HashMap<ConnId, Outbox>,
    /// Whose next send is submitted with the next enter, and over when that returns.
    ready: Vec<ConnId>,
    sending: Vec<ConnId>,
}

/// A connection's. It is ready, being sent or blocked, or else there is none.
#[derive(Default)]
struct Outbox {
    /// What is being sent, or was in part.
    span: Option<Span>,
    /// What came after that, all of which is sent at once: one send costs about as much as another.
    pending: Vec<u8>,
    /// The socket took less than it was given; a poll tells when it takes more.
    blocked: bool,
}

impl Outboxes {
    /// Adds bytes.
    pub fn push(&mut self, id: ConnId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let outbox = self.waiting.entry(id).or_insert_with(|| {
            self.ready.push(id);
            Outbox::default()
        });
        outbox.pending.extend_from_slice(bytes);
    }

    /// Bytes of a connection that wait.
    pub fn bytes(&self, id: ConnId) -> usize {
        let bytes = |outbox: &Outbox| outbox.span.map_or(0, |span| span.len() as usize) + outbox.pending.len();
        self.waiting.get(&id).map_or(0, bytes)
    }

    /// Asks for one send for each connection that may send.
    pub fn submit(&mut self, frames: &mut Frames, ops: &mut Vec<Op>) {
        for id in self.ready.drain(..) {
            let Some(outbox) = self.waiting.get_mut(&id) else { continue };
            let span = *outbox.span.get_or_insert_with(|| {
                let chunk = frames.alloc(outbox.pending.len(), LogId::NONE);
                let span = frames.append(chunk, &[&outbox.pending]);
                outbox.pending.clear();
                span
            });
            ops.push(Op::Send { conn: id, span });
            self.sending.push(id);
        }
    }

    /// A send took only so many bytes, or none: the rest waits for [`Outboxes::retry`].
    pub fn sent(&mut self, id: ConnId, bytes: u32) {
        if let Some(outbox) = self.waiting.get_mut(&id) {
            outbox.blocked = true;
            if let Some(span) = &mut outbox.span {
                span.start += bytes;
            }
        }
    }

    /// Once the enter has returned and [`Outboxes::sent`] has been told what fell short: all else was sent whole.
    pub fn settle(&mut self, frames: &mut Frames) {
        for id in self.sending.drain(..) {
            let Some(outbox) = self.waiting.get_mut(&id).filter(|outbox| !outbox.blocked) else { continue };
            if let Some(span) = outbox.span.take() {
                frames.release(span.chunk, 1);
            }
            match outbox.pending.is_empty() {
                true => drop(self.waiting.remove(&id)),
                false => self.ready.push(id),
            }
        }
    }

    /// The socket takes bytes again.
    pub fn retry(&mut self, id: ConnId) {
        if let Some(outbox) = self.waiting.get_mut(&id).filter(|outbox| outbox.blocked) {
            outbox.blocked = false;
            self.ready.push(id);
        }
    }

    /// The connection is over.
    pub fn forget(&mut self, id: ConnId, frames: &mut Frames) {
        if let Some(outbox) = self.waiting.remove(&id) {
            self.ready.retain(|&other| other != id);
            self.sending.retain(|&other| other != id);
            outbox.span.into_iter().for_each(|span| frames.release(span.chunk, 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const CONNS: u32 = 3;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 7 }
    }

    /// What a test does, and what its sockets do.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(u32, u8),
        /// An enter, in which each socket takes so many bytes at most.
        Enter([u8; CONNS as usize]),
        Retry(u32),
        Forget(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..CONNS, 0..20u8).prop_map(|(conn, len)| Step::Push(conn, len)),
            4 => any::<[u8; 3]>().prop_map(|taken| Step::Enter(taken.map(|taken| taken % 32))),
            2 => (0..CONNS).prop_map(Step::Retry),
            1 => (0..CONNS).prop_map(Step::Forget),
        ]
    }

    /// Outboxes with sockets, and what was pushed and sent of each.
    #[derive(Default)]
    struct World {
        outboxes: Outboxes,
        frames: Option<Frames>,
        pushed: BTreeMap<u32, Vec<u8>>,
        sent: BTreeMap<u32, Vec<u8>>,
        next: u8,
    }

    impl World {
        fn enter(&mut self, takes: [u8; CONNS as usize]) {
            let frames = self.frames.get_or_insert_with(Frames::new);
            let mut ops = Vec::new();
            self.outboxes.submit(frames, &mut ops);
            let mut seen = Vec::new();
            for op in ops {
                let Op::Send { conn, span } = op else { panic!("{op:?}") };
                assert!(!seen.contains(&conn) && span.len() > 0, "one send of a connection, and of something");
                seen.push(conn);
                let bytes = &frames.bytes(span)[..(span.len() as usize).min(takes[conn.index as usize].into())];
                self.sent.entry(conn.index).or_default().extend_from_slice(bytes);
                if bytes.len() < span.len() as usize {
                    self.outboxes.sent(conn, bytes.len() as u32);
                }
            }
            self.outboxes.settle(frames);
        }

        fn apply(&mut self, step: Step) {
            match step {
                Step::Push(index, len) => {
                    let bytes: Vec<u8> = (0..len).map(|i| self.next.wrapping_add(i)).collect();
                    self.next = self.next.wrapping_add(len);
                    self.pushed.entry(index).or_default().extend_from_slice(&bytes);
                    self.outboxes.push(conn(index), &bytes);
                }
                Step::Enter(takes) => self.enter(takes),
                Step::Retry(index) => self.outboxes.retry(conn(index)),
                Step::Forget(index) => {
                    self.outboxes.forget(conn(index), self.frames.get_or_insert_with(Frames::new));
                    self.pushed.remove(&index);
                    self.sent.remove(&index);
                }
            }
        }

        fn check(&self) {
            for (&index, pushed) in &self.pushed {
                let sent = self.sent.get(&index).cloned().unwrap_or_default();
                assert!(pushed.starts_with(&sent), "in order, nothing twice");
                assert_eq!(self.outboxes.bytes(conn(index)), pushed.len() - sent.len());
            }
        }
    }

    proptest! {
        #[test]
        fn all_bytes_are_sent_once_and_in_order(steps in prop::collection::vec(step(), 0..60)) {
            let mut world = World::default();
            for step in steps {
                world.apply(step);
                world.check();
            }
            while !world.outboxes.waiting.is_empty() {
                (0..CONNS).for_each(|index| world.outboxes.retry(conn(index)));
                world.enter([u8::MAX; CONNS as usize]);
            }
            world.check();
            prop_assert!(world.outboxes.ready.is_empty() && world.outboxes.sending.is_empty());
            prop_assert_eq!(world.frames.map_or(0, |frames| frames.live_bytes()), 0);
        }
    }

    #[test]
    fn what_came_meanwhile_goes_out_in_one_send() {
        let (mut outboxes, mut frames, mut ops) = (Outboxes::default(), Frames::new(), Vec::new());
        [b"a", b"b", b"c"].iter().for_each(|bytes| outboxes.push(conn(1), *bytes));
        outboxes.submit(&mut frames, &mut ops);
        let [Op::Send { span, .. }] = ops[..] else { panic!("{ops:?}") };
        assert_eq!(frames.bytes(span), b"abc");
    }

    #[test]
    fn nothing_is_sent_to_a_socket_that_is_full() {
        let (mut outboxes, mut frames, mut ops) = (Outboxes::default(), Frames::new(), Vec::new());
        outboxes.push(conn(1), b"abcdef");
        outboxes.submit(&mut frames, &mut ops);
        outboxes.sent(conn(1), 2);
        outboxes.settle(&mut frames);
        outboxes.push(conn(1), b"ghi");
        ops.clear();
        outboxes.submit(&mut frames, &mut ops);
        assert!(ops.is_empty() && outboxes.bytes(conn(1)) == 7);
        outboxes.retry(conn(1));
        outboxes.submit(&mut frames, &mut ops);
        let [Op::Send { span, .. }] = ops[..] else { panic!("{ops:?}") };
        assert_eq!(frames.bytes(span), b"cdef", "what was begun is ended first");
    }
}
