//! What a connection still has to be sent: spans of the shard's frames, never copies.
//!
//! One topic at full speed appends to one chunk, so its spans merge and stay in the one that lies inline. Only an
//! outbox with more than one span, or with a frame that was sent in part, holds a heap block; it goes when no more
//! than one span is left. That costs a connection with messages of two topics in a turn some 60 ns, a fiftieth of
//! its send, and buys that an idle connection never holds a block.
//!
//! **A frame sent in part** is always a span of its own, the first, flagged `BEGUN`: when a send ends inside a
//! frame, [`Outbox::consume`] walks the frames from the last boundary and splits the span at the end of that frame.
//! So no length needs to be remembered, and a policy sees at once what may not be dropped any more.
//!
//! Spans of a log hold whole WebSocket data frames of the server (RFC 6455 section 5.2) or blocks of Server-Sent Events,
//! one a message, so they can be walked and split; below, a frame is either. Spans of [`LogId::NONE`] are opaque (control frames, replies, HTTP): each counts as one piece,
//! none is ever dropped to meet a bound.

mod policy;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::iter;

pub use policy::{BacklogPolicy, Verdict};

use crate::dialect::sse;
use crate::hub::frame::{Frames, LogId, Span};
use crate::limits::MAX_FRAME_BYTES;
use crate::ws::frame;

/// The first span is the remainder of a frame whose beginning was sent.
const BEGUN: u32 = 1 << 31;
/// Largest backlog that is counted exactly; it then means "so many or more".
const SATURATED: u32 = BEGUN - 1;
const NOTHING: Span = Span { chunk: 0, start: 0, end: 0 };

const _: () = {
    assert!(size_of::<Outbox>() == 24);
    assert!(MAX_FRAME_BYTES < SATURATED as u64, "one message, in whatever envelope, is counted exactly");
};

/// The queue of one connection: 24 bytes, and a heap block only while there is more than one span.
///
/// It owns one reference to the chunk of each of its spans. References are counted by hand: before an outbox is
/// dropped it must be [cleared](Outbox::clear).
pub struct Outbox {
    /// [`NOTHING`] if and only if the outbox is empty.
    first: Span,
    /// Bytes of all spans, up to [`SATURATED`], and the flag [`BEGUN`].
    backlog: u32,
    /// The spans behind the first; never an empty queue.
    #[allow(clippy::box_collection, reason = "a pointer is 8 bytes, a queue 32")]
    rest: Option<Box<VecDeque<Span>>>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// An empty outbox, without a heap block.
    pub const fn new() -> Outbox {
        Outbox { first: NOTHING, backlog: 0, rest: None }
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.backlog == 0
    }

    /// Bytes to send; 2³¹ − 1 also stands for any more than that.
    #[inline]
    pub fn len_bytes(&self) -> u32 {
        self.backlog & !BEGUN
    }

    /// Whether the first span goes on inside a frame (or opaque span) whose beginning was already sent.
    #[inline]
    pub fn is_begun(&self) -> bool {
        self.backlog & BEGUN != 0
    }

    /// The spans in the order in which they are sent.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let first = (!self.is_empty()).then_some(self.first);
        first.into_iter().chain(self.rest.iter().flat_map(|rest| rest.iter().copied()))
    }

    /// What one send can take without a copy: the first span, and the second if it goes on where the first ends.
    #[inline]
    pub fn front(&self) -> Option<Span> {
        if self.is_empty() {
            return None;
        }
        match self.rest.as_ref().and_then(|rest| rest.front()) {
            Some(&second) if self.first.touches(second) => Some(Span { end: second.end, ..self.first }),
            _ => Some(self.first),
        }
    }

    /// Queues a span of whole frames and takes over the caller's reference to its chunk.
    ///
    /// If the span goes on where the last one ends, both become one and the surplus reference is given back.
    #[inline]
    pub fn push(&mut self, frames: &mut Frames, span: Span) {
        frames.queue(span.len().into());
        if span.len() == 0 || self.grow_last(span) {
            frames.release(span.chunk, 1);
        } else if self.is_empty() {
            self.first = span;
        } else {
            self.rest.get_or_insert_default().push_back(span);
        }
        self.set_len(self.len_bytes().saturating_add(span.len()).min(SATURATED));
    }

    /// Lets the last span swallow `next` if they touch. What was begun stays alone: it may not grow.
    #[inline]
    fn grow_last(&mut self, next: Span) -> bool {
        let alone = self.is_empty() || self.is_begun();
        let last = match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => (!alone).then_some(&mut self.first),
        };
        last.filter(|last| last.touches(next)).map(|last| last.end = next.end).is_some()
    }

    /// Takes note that the first `n` bytes were sent: gives back the spans that are done and cuts the next.
    ///
    /// # Panics
    /// If fewer than `n` bytes are queued.
    pub fn consume(&mut self, frames: &mut Frames, n: u32) {
        let mut left = n;
        while left > 0 {
            assert!(self.first != NOTHING, "more was sent than was queued");
            if left < self.first.len() {
                self.cut(frames, left);
                break;
            }
            left -= self.first.len();
            self.pop(frames);
        }
        self.recount(u64::from(n));
        frames.unqueue(n.into());
    }

    /// Gives back the first span, which becomes the next one.
    fn pop(&mut self, frames: &mut Frames) {
        frames.release(self.first.chunk, 1);
        self.backlog &= !BEGUN;
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front()).unwrap_or(NOTHING);
        self.rest = self.rest.take().filter(|rest| !rest.is_empty());
    }

    /// Takes `n` bytes, less than all, off the first span.
    fn cut(&mut self, frames: &mut Frames, n: u32) {
        let at = self.first.start + n;
        if !self.is_begun() {
            let cut = messages(frames, self.first).find(|message| at < message.end).unwrap_or(self.first);
            if cut.start < at {
                self.begin(frames, cut.end);
            }
        }
        self.first.start = at;
    }

    /// Makes the first span, up to `end`, one that was begun, and what follows it in the chunk a span of its own.
    fn begin(&mut self, frames: &mut Frames, end: u32) {
        self.backlog |= BEGUN;
        if end < self.first.end {
            frames.retain(self.first.chunk, 1);
            self.rest.get_or_insert_default().push_front(Span { start: end, ..self.first });
            self.first.end = end;
        }
    }

    /// Copies the beginning of the queue, up to `limit` bytes and as far as there is room, to the end of the chunk
    /// `stage`, so that many small spans go in one send. What is sent of it is [consumed](Outbox::consume) as usual.
    ///
    /// `stage` must not be a chunk of this outbox. The returned span counts no reference.
    pub fn gather(&self, frames: &mut Frames, stage: u32, limit: u32) -> Span {
        let mut room = limit.min(u32::try_from(frames.room(stage)).unwrap_or(u32::MAX));
        let mut staged = frames.append(stage, &[]);
        for span in self.spans() {
            let part = Span { end: span.start + span.len().min(room), ..span };
            if part.len() == 0 {
                break;
            }
            staged.end = frames.copy(part, stage).end;
            room -= part.len();
        }
        staged
    }

    /// Whole messages that are queued, that is, what a policy may drop: neither the one begun nor opaque spans.
    /// Walks the backlog.
    pub fn message_count(&self, frames: &Frames) -> u32 {
        let unsent = self.spans().skip(usize::from(self.is_begun()));
        unsent.filter(|&span| is_log(frames, span)).map(|span| count(frames, span)).sum()
    }

    /// Gives back everything, opaque spans too, but the remainder of what was begun, so that a close frame may
    /// follow. (Of an opaque span that was begun, all of it is kept.) Returns the messages dropped.
    pub fn clear_unsent(&mut self, frames: &mut Frames) -> u32 {
        if !self.is_begun() {
            return self.clear(frames);
        }
        let dropped = self.message_count(frames);
        frames.unqueue(self.exact_len() - u64::from(self.first.len()));
        for span in self.rest.take().into_iter().flat_map(|rest| *rest) {
            frames.release(span.chunk, 1);
        }
        self.backlog = self.first.len() | BEGUN;
        dropped
    }

    /// Gives back everything. Returns the messages that were not sent whole, one that was begun included.
    pub fn clear(&mut self, frames: &mut Frames) -> u32 {
        let begun = self.is_begun() && is_log(frames, self.first);
        let lost = self.message_count(frames) + u32::from(begun);
        frames.unqueue(self.exact_len());
        while self.first != NOTHING {
            self.pop(frames);
        }
        self.backlog = 0;
        lost
    }

    /// Brings the backlog of a connection whose socket takes nothing now within `bound` bytes, below 2³¹ − 1.
    ///
    /// What was begun and what is opaque stays, and so does one message, however large: the newest where the oldest
    /// go, the oldest where the newest go, the only one under [`BacklogPolicy::Close`]. Opaque spans alone never close
    /// a connection: whoever does not read its replies is not read from, which bounds them.
    ///
    /// Constant time within the bound. Beyond it, see [`BacklogPolicy`].
    pub fn enforce(&mut self, frames: &mut Frames, bound: u32, policy: BacklogPolicy) -> Verdict {
        if self.len_bytes() <= bound {
            return Verdict::Kept;
        }
        let count = self.trim(frames, bound, policy);
        if count > 0 {
            Verdict::Dropped { count }
        } else if policy == BacklogPolicy::Close && self.is_overrun(frames, bound) {
            Verdict::Close
        } else {
            Verdict::Kept
        }
    }

    /// Drops what the policy allows until the backlog is within the bound. Returns the messages dropped.
    fn trim(&mut self, frames: &mut Frames, bound: u32, policy: BacklogPolicy) -> u32 {
        if policy == BacklogPolicy::Close {
            return 0;
        }
        let len = self.exact_len();
        let mut spans = self.rest.take().unwrap_or_default();
        spans.push_front(self.first);
        let dropped = policy::trim(frames, &mut spans, usize::from(self.is_begun()), len, bound, policy);
        self.first = spans.pop_front().unwrap_or(NOTHING);
        self.rest = Some(spans).filter(|spans| !spans.is_empty());
        self.recount(dropped.bytes);
        frames.unqueue(dropped.bytes);
        dropped.messages
    }

    /// Whether more than one message waits, and their bytes pass the bound. Walks the spans, and of the messages no more
    /// than two, since it is asked for every delivery while opaque spans alone pass the bound.
    fn is_overrun(&self, frames: &Frames, bound: u32) -> bool {
        let logs = |skip| self.spans().skip(skip).filter(|&span| is_log(frames, span));
        let bytes: u64 = logs(0).map(|span| u64::from(span.len())).sum();
        let begun = self.is_begun() && is_log(frames, self.first);
        let unsent = || logs(usize::from(self.is_begun())).flat_map(|span| messages(frames, span)).take(2).count();
        bytes > u64::from(bound) && usize::from(begun) + unsent() > 1
    }

    fn set_len(&mut self, len: u32) {
        self.backlog = self.backlog & BEGUN | len;
    }

    /// Takes `gone` bytes, which the spans do not hold any more, off the count.
    #[inline]
    fn recount(&mut self, gone: u64) {
        let len = match self.len_bytes() {
            SATURATED => self.exact_len(),
            len => u64::from(len) - gone,
        };
        self.set_len(len.min(u64::from(SATURATED)) as u32);
    }

    fn exact_len(&self) -> u64 {
        match self.len_bytes() {
            SATURATED => self.spans().map(|span| u64::from(span.len())).sum(),
            len => u64::from(len),
        }
    }

    /// Panics unless the count is that of the spans, every chunk is alive, and spans of logs are whole data frames.
    /// For tests.
    pub fn invariants(&self, frames: &Frames) {
        let sum: u64 = self.spans().map(|span| u64::from(span.len())).sum();
        assert_eq!(u64::from(self.len_bytes()), sum.min(u64::from(SATURATED)));
        assert_eq!(self.is_empty(), self.first == NOTHING);
        assert!(!self.is_begun() || !self.is_empty());
        assert!(self.rest.as_ref().is_none_or(|rest| !rest.is_empty() && !self.is_empty()));
        for (i, span) in self.spans().enumerate() {
            assert!(span.len() > 0 && frames.refs(span.chunk) > 0);
            let bytes = frames.bytes(span);
            if is_log(frames, span) && !(i == 0 && self.is_begun()) {
                assert!(messages(frames, span).all(|message| {
                    let frame = frames.bytes(message);
                    first_len(frame) == Some(frame.len()) && (is_event(frame) || frame[0] & 0x0f < 0x8)
                }));
                assert_eq!(messages(frames, span).map(|message| message.len() as usize).sum::<usize>(), bytes.len());
            }
        }
    }
}

/// Whether a message is an event of a stream. A frame that is a whole message begins with the bit FIN, text does not.
#[inline]
fn is_event(message: &[u8]) -> bool {
    message.first().is_some_and(u8::is_ascii)
}

/// Bytes of the first message of a log.
#[inline]
fn first_len(bytes: &[u8]) -> Option<usize> {
    if is_event(bytes) { sse::first_len(bytes) } else { frame::first_len(bytes) }
}

/// Whether a span's frames are messages of a log; all others are opaque.
fn is_log(frames: &Frames, span: Span) -> bool {
    frames.log(span.chunk) != LogId::NONE
}

/// The messages of a span that starts at a frame's first byte; an opaque span is one piece.
pub fn messages(frames: &Frames, span: Span) -> impl Iterator<Item = Span> + '_ {
    let opaque = !is_log(frames, span);
    let mut rest = span;
    iter::from_fn(move || {
        let whole = rest;
        let len = (!opaque).then(|| first_len(frames.bytes(whole))).flatten().unwrap_or(usize::MAX);
        rest.start += len.min(whole.len() as usize) as u32;
        (whole.len() > 0).then_some(Span { end: rest.start, ..whole })
    })
}

/// The messages of a span that starts at a frame's first byte; an opaque span counts as one.
pub fn count(frames: &Frames, span: Span) -> u32 {
    messages(frames, span).count() as u32
}
