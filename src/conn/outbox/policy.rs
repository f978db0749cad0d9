//! What happens to a backlog at its bound.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::{count, is_log, messages};
pub use crate::config::BacklogPolicy;
use crate::hub::frame::{Frames, Span};

/// Spans that may be walked for every message.
const SHORT_WALK: usize = 256;

/// What [`super::Outbox::enforce`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing was dropped.
    Kept,
    /// Messages were dropped.
    Dropped {
        /// How many, exactly.
        count: u32,
    },
    /// Nothing was dropped, and the connection must be closed.
    Close,
}

/// What a policy took out of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Dropped {
    pub messages: u32,
    pub bytes: u64,
}

impl Dropped {
    fn add(&mut self, messages: u32, bytes: u32) {
        self.messages += messages;
        self.bytes += u64::from(bytes);
    }
}

/// Drops messages until `len` bytes have come within `bound`, or all that may go, and gives back their references.
/// The first `begun` spans (none or one) are not touched.
pub(super) fn trim(
    frames: &mut Frames,
    spans: &mut VecDeque<Span>,
    begun: usize,
    len: u64,
    bound: u32,
    policy: BacklogPolicy,
) -> Dropped {
    let mut dropped = Dropped::default();
    let excess = len.saturating_sub(u64::from(bound));
    match policy {
        BacklogPolicy::Close => {}
        BacklogPolicy::DropOldest => drop_oldest(frames, spans, begun, excess, &mut dropped),
        BacklogPolicy::DropNewest => drop_newest(frames, spans, begun, excess, &mut dropped),
        BacklogPolicy::Latest => {
            conflate(frames, spans, begun, &mut dropped);
            let slack = if spans.len() > SHORT_WALK { bound / 4 } else { 0 };
            drop_oldest(frames, spans, begun, excess + u64::from(slack), &mut dropped);
        }
    }
    dropped
}

/// Keeps the newest message, whatever its size.
fn drop_oldest(frames: &mut Frames, spans: &mut VecDeque<Span>, begun: usize, excess: u64, dropped: &mut Dropped) {
    let mut newest = spans.iter().rposition(|&span| is_log(frames, span)).unwrap_or(0);
    let mut i = begun;
    while dropped.bytes < excess && i <= newest && i < spans.len() {
        let span = spans[i];
        if !is_log(frames, span) {
            i += 1;
            continue;
        }
        for message in messages(frames, span) {
            if dropped.bytes >= excess || (i == newest && message.end == span.end) {
                break;
            }
            dropped.add(1, message.len());
            spans[i].start = message.end;
        }
        if spans[i].len() > 0 {
            break;
        }
        frames.release(span.chunk, 1);
        spans.remove(i);
        newest -= 1;
    }
}

/// Keeps the oldest message, whatever its size; one that was begun is the oldest.
fn drop_newest(frames: &mut Frames, spans: &mut VecDeque<Span>, begun: usize, excess: u64, dropped: &mut Dropped) {
    let Some(oldest) = spans.iter().position(|&span| is_log(frames, span)) else { return };
    for i in (oldest.max(begun)..spans.len()).rev() {
        let span = spans[i];
        if dropped.bytes >= excess {
            break;
        }
        if !is_log(frames, span) {
            continue;
        }
        let target = u64::from(span.end).saturating_sub(excess - dropped.bytes);
        let mut keep = span.start;
        let mut gone = 0;
        for message in messages(frames, span) {
            if u64::from(message.end) <= target || (i == oldest && message.start == span.start) {
                keep = message.end;
            } else {
                gone += 1;
            }
        }
        dropped.add(gone, span.end - keep);
        spans[i].end = keep;
        if keep == span.start {
            frames.release(span.chunk, 1);
            spans.remove(i);
        }
    }
}

/// Keeps the newest message of each log.
fn conflate(frames: &mut Frames, spans: &mut VecDeque<Span>, begun: usize, dropped: &mut Dropped) {
    let mut seen = HashSet::with_capacity_and_hasher(spans.len(), RandomState::default());
    for span in spans.range_mut(begun..).rev().filter(|span| is_log(frames, **span)) {
        let total = count(frames, *span);
        if seen.insert(frames.log(span.chunk)) {
            let newest = messages(frames, *span).last().map_or(span.end, |message| message.start);
            dropped.add(total - 1, newest - span.start);
            span.start = newest;
        } else {
            dropped.add(total, span.len());
            span.start = span.end;
        }
    }
    spans.retain(|span| {
        if span.len() == 0 {
            frames.release(span.chunk, 1);
        }
        span.len() > 0
    });
}
