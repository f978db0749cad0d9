//! Batches: what was published to one topic and class since its last fan-out began, and who must not get which part.

use super::frame::{Class, Frames, Span};
use super::subscribers::Entry;
use crate::time::Moment;

/// A subscriber that is not to get bytes `start..end` of a batch, counted from its first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Skip {
    sub: u32,
    start: u64,
    end: u64,
}

/// Where a batch is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Unused.
    Spare,
    /// Published to in this turn: on the hub's dirty list.
    Dirty,
    /// To be fanned out when the batch before it is through. Still published to.
    Waiting,
    /// Being fanned out: among the hub's jobs. Complete, skips sorted.
    Active,
}

/// Spans in the order of publication, each with one reference of the batch's own.
pub(super) struct Batch {
    /// Topic and class; `None` once nobody is left to get it.
    pub owner: Option<(u32, Class)>,
    pub stage: Stage,
    spans: Vec<Span>,
    /// In the order of publication until the batch is activated, by subscriber then. Those of one subscriber start in
    /// ascending order either way, but for its joining, which skips all there is and so makes those before it moot.
    skips: Vec<Skip>,
    bytes: u64,
    /// When the oldest of its messages was received.
    received: Moment,
}

impl Batch {
    const fn new() -> Batch {
        Batch {
            owner: None,
            stage: Stage::Spare,
            spans: Vec::new(),
            skips: Vec::new(),
            bytes: 0,
            received: Moment::UNKNOWN,
        }
    }

    pub fn received(&self) -> Moment {
        self.received
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends that serving one subscriber takes.
    pub fn deliveries(&self) -> usize {
        self.spans.len()
    }

    /// The batch's references, one for each item.
    pub fn chunks(&self) -> impl Iterator<Item = u32> {
        self.spans.iter().map(|span| span.chunk)
    }

    /// Hands the batch to each of `receivers`, in order, with a reference for each span that it is handed. Returns how many were
    /// handed something.
    pub fn deliver(
        &self,
        receivers: &[Entry],
        frames: &mut Frames,
        out: &mut impl FnMut(&mut Frames, u32, Span),
    ) -> u64 {
        if !self.skips.is_empty() {
            return receivers.iter().map(|entry| u64::from(self.deliver_to(entry.sub, frames, out))).sum();
        }
        for span in &self.spans {
            frames.retain(span.chunk, receivers.len() as u32);
        }
        for entry in receivers {
            for &span in &self.spans {
                out(frames, entry.sub, span);
            }
        }
        receivers.len() as u64
    }

    /// Hands one subscriber what it does not skip of the batch, active or not; whether that is anything.
    pub fn deliver_to(&self, sub: u32, frames: &mut Frames, out: &mut impl FnMut(&mut Frames, u32, Span)) -> bool {
        let mut any = false;
        let from = match self.stage {
            Stage::Active => self.skips.partition_point(|skip| skip.sub < sub),
            _ => self.skips.iter().rposition(|skip| skip.sub == sub && skip.start == 0).unwrap_or(0),
        };
        let same = |skip: &&Skip| skip.sub == sub;
        let emit = |span: Span| {
            frames.retain(span.chunk, 1);
            out(frames, sub, span);
            any = true;
        };
        match self.stage {
            Stage::Active => kept(&self.spans, self.skips[from..].iter().take_while(same), emit),
            _ => kept(&self.spans, self.skips[from..].iter().filter(same), emit),
        }
        any
    }
}

/// Emits what is left of `spans` without `skips`, which start in ascending order and may overlap.
fn kept<'a>(spans: &[Span], skips: impl Iterator<Item = &'a Skip>, mut emit: impl FnMut(Span)) {
    let mut skips = skips.peekable();
    let mut end = 0;
    for &span in spans {
        let (start, mut at) = (end, end);
        end += u64::from(span.len());
        while at < end {
            while skips.next_if(|skip| skip.end <= at).is_some() {}
            let (skipped_from, skipped_to) = skips.peek().map_or((end, end), |skip| (skip.start, skip.end));
            if skipped_from <= at {
                at = skipped_to.min(end);
                continue;
            }
            let until = skipped_from.min(end);
            let offset = |position: u64| span.start + (position - start) as u32;
            emit(Span { chunk: span.chunk, start: offset(at), end: offset(until) });
            at = until;
        }
    }
}

/// The batches of a hub. Those that are unused keep their memory for the next topic's turn.
#[derive(Default)]
pub(super) struct Batches {
    slab: Vec<Batch>,
    spare: Vec<u32>,
    bytes: u64,
}

impl Batches {
    /// Spans or skips that a spare batch keeps memory for.
    const KEPT: usize = 1024;

    pub fn get(&self, id: u32) -> &Batch {
        &self.slab[id as usize]
    }

    /// Bytes of all batches.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An empty dirty batch.
    pub fn open(&mut self, topic: u32, class: Class, received: Moment) -> u32 {
        let id = self.spare.pop().unwrap_or_else(|| {
            self.slab.push(Batch::new());
            self.slab.len() as u32 - 1
        });
        let batch = &mut self.slab[id as usize];
        (batch.owner, batch.stage, batch.received) = (Some((topic, class)), Stage::Dirty, received);
        id
    }

    /// Appends a span, and counts a reference if it does not go on where the last one ends.
    pub fn push(&mut self, id: u32, frames: &mut Frames, span: Span, received: Moment) {
        let batch = &mut self.slab[id as usize];
        batch.received = batch.received.min(received);
        match batch.spans.last_mut() {
            Some(last) if last.touches(span) => last.end = span.end,
            _ => {
                frames.retain(span.chunk, 1);
                batch.spans.push(span);
            }
        }
        batch.bytes += u64::from(span.len());
        self.bytes += u64::from(span.len());
    }

    /// Keeps from `sub` what was pushed since the batch had `start` bytes.
    pub fn skip(&mut self, id: u32, sub: u32, start: u64) {
        let batch = &mut self.slab[id as usize];
        let end = batch.bytes;
        match batch.skips.last_mut() {
            _ if start == end => {}
            Some(last) if last.sub == sub && start <= last.end => (last.start, last.end) = (start.min(last.start), end),
            _ => batch.skips.push(Skip { sub, start, end }),
        }
    }

    pub fn wait(&mut self, id: u32) {
        self.slab[id as usize].stage = Stage::Waiting;
    }

    pub fn activate(&mut self, id: u32) {
        let batch = &mut self.slab[id as usize];
        batch.stage = Stage::Active;
        batch.skips.sort_unstable_by_key(|skip| (skip.sub, skip.start));
    }

    /// Nobody is left to get the batch: it is empty from here on, and recycled when the list it is on comes to it.
    pub fn disown(&mut self, id: u32, frames: &mut Frames) {
        self.clear(id, frames);
        if self.slab[id as usize].stage == Stage::Waiting {
            self.recycle(id, frames);
        }
    }

    /// Gives back the batch's references and the batch.
    pub fn recycle(&mut self, id: u32, frames: &mut Frames) {
        self.clear(id, frames);
        self.slab[id as usize].stage = Stage::Spare;
        self.spare.push(id);
    }

    fn clear(&mut self, id: u32, frames: &mut Frames) {
        let batch = &mut self.slab[id as usize];
        self.bytes -= batch.bytes;
        (batch.owner, batch.bytes) = (None, 0);
        batch.spans.drain(..).for_each(|span| frames.release(span.chunk, 1));
        batch.skips.clear();
        batch.spans.shrink_to(Self::KEPT);
        batch.skips.shrink_to(Self::KEPT);
    }

    /// Every batch with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Batch)> {
        self.slab.iter().enumerate().map(|(id, batch)| (id as u32, batch))
    }

    pub fn invariants(&self) {
        assert_eq!(self.bytes, self.slab.iter().map(|batch| batch.bytes).sum::<u64>());
        let spare = self.slab.iter().filter(|batch| batch.stage == Stage::Spare).count();
        assert_eq!(spare, self.spare.len());
        assert!(self.spare.iter().all(|&id| self.get(id).stage == Stage::Spare));
        for batch in &self.slab {
            assert_eq!(batch.bytes, batch.spans.iter().map(|span| u64::from(span.len())).sum::<u64>());
            assert!(batch.skips.iter().all(|skip| skip.start < skip.end && skip.end <= batch.bytes));
            assert!(batch.owner.is_some() || batch.spans.is_empty());
            if batch.stage == Stage::Active {
                assert!(batch.skips.is_sorted_by_key(|skip| (skip.sub, skip.start)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::frame::LogId;
    use proptest::prelude::*;

    proptest! {
        /// Subtraction of spans agrees with subtraction of bytes.
        #[test]
        fn kept_is_the_complement_of_the_skips(
            lengths in prop::collection::vec(1u32..9, 0..6),
            mut skips in prop::collection::vec((0u64..50, 1u64..9), 0..6),
        ) {
            skips.sort_unstable();
            let skips: Vec<_> = skips.iter().map(|&(start, len)| Skip { sub: 0, start, end: start + len }).collect();
            let spans: Vec<_> =
                lengths.iter().enumerate().map(|(i, &len)| Span { chunk: i as u32, start: 100, end: 100 + len }).collect();
            let bytes = |span: Span| (span.start..span.end).map(move |at| (span.chunk, at));
            let all = spans.iter().copied().flat_map(bytes).zip(0..);
            let expected: Vec<_> = all
                .filter(|(_, at)| !skips.iter().any(|skip| (skip.start..skip.end).contains(at)))
                .map(|(byte, _)| byte)
                .collect();
            let mut got = Vec::new();
            kept(&spans, skips.iter(), |span| got.push(span));
            prop_assert!(got.iter().all(|span| span.start < span.end));
            prop_assert_eq!(got.into_iter().flat_map(bytes).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn contiguous_spans_and_skips_merge() {
        let (mut frames, mut batches) = (Frames::new(), Batches::default());
        let chunk = frames.alloc(100, LogId(0));
        let id = batches.open(0, Class::PLAIN, Moment(9));
        for received in [5, 4, 6].map(Moment) {
            let before = batches.get(id).bytes();
            let span = frames.append(chunk, &[b"abcd"]);
            batches.push(id, &mut frames, span, received);
            batches.skip(id, 7, before);
        }
        batches.skip(id, 7, 12);
        let batch = batches.get(id);
        assert_eq!((batch.deliveries(), batch.bytes(), frames.refs(chunk)), (1, 12, 2));
        assert_eq!(batch.received(), Moment(4), "the oldest counts for all");
        assert_eq!(batch.skips, [Skip { sub: 7, start: 0, end: 12 }]);
        batches.invariants();
        batches.recycle(id, &mut frames);
        frames.release(chunk, 1);
        assert_eq!((batches.bytes(), frames.live_bytes()), (0, 0));
        assert_eq!(batches.open(1, Class::PLAIN, Moment(9)), id);
        batches.invariants();
    }
}
