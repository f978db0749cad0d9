//! Appending frames one after the other, so that a burst of them is one span.

use super::frame::{Frames, LogId, Span};

/// Where the next frame of one topic and class goes.
///
/// A log refers to the chunk that it appended to last. When it is the only one to do so, it starts over: the chunk is
/// filled from its beginning again, while it is in the cache. While others refer to it, the chunk is filled up, and
/// the ones after it are larger, because a log whose frames are held is busy or its readers are slow.
/// A log that starts over expects a burst as large as the last ones, and takes a chunk that holds it in one span.
#[derive(Default, Debug)]
pub struct Log {
    /// The chunk appended to last, with a reference of the log's own.
    tail: Option<u32>,
    /// Bytes appended since the log started over, without frames that are too large to share a chunk.
    burst: u32,
    /// What a burst is expected to take: the last one, or half of what was expected of it, if that was more.
    expected: u32,
}

impl Log {
    /// Appends the concatenation of `parts`. Counts no reference: the caller does, before it appends again.
    ///
    /// Frames larger than `max_chunk` bytes get a chunk of their own.
    pub fn append(&mut self, frames: &mut Frames, log: LogId, max_chunk: usize, parts: &[&[u8]]) -> Span {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let chunk = self.chunk_for(frames, log, max_chunk, bytes);
        if bytes <= max_chunk {
            self.burst = self.burst.saturating_add(bytes as u32);
        }
        frames.append(chunk, parts)
    }

    /// Lets go of the tail if nobody else refers to it, so that an idle log holds nothing; `false` if somebody does.
    pub fn settle(&mut self, frames: &mut Frames) -> bool {
        if self.tail.is_some_and(|tail| frames.refs(tail) > 1) {
            return false;
        }
        self.close(frames);
        true
    }

    /// Lets go of the tail, whoever else refers to it.
    pub fn close(&mut self, frames: &mut Frames) {
        if let Some(tail) = self.tail.take() {
            frames.release(tail, 1);
            self.start_over();
        }
    }

    /// The chunk that the log refers to.
    pub fn tail(&self) -> Option<u32> {
        self.tail
    }

    /// The tail, after it was replaced if it is not what the next `bytes` should go to.
    fn chunk_for(&mut self, frames: &mut Frames, log: LogId, max_chunk: usize, bytes: usize) -> u32 {
        let mut held = None;
        if let Some(tail) = self.tail {
            let capacity = frames.capacity(tail);
            let alone = frames.rewind(tail);
            if alone {
                self.start_over();
            } else if capacity <= max_chunk {
                held = Some(capacity);
            }
            let wanted = if alone { bytes.max(self.expected(max_chunk)) } else { bytes };
            if capacity <= max_chunk && frames.room(tail) >= wanted {
                return tail;
            }
            frames.release(tail, 1);
        }
        let shared = held.map_or(self.expected(max_chunk), |capacity| (4 * capacity).min(max_chunk));
        *self.tail.insert(frames.alloc(bytes.max(shared), log))
    }

    fn start_over(&mut self) {
        self.expected = self.burst.max(self.expected / 2);
        self.burst = 0;
    }

    fn expected(&self, max_chunk: usize) -> usize {
        max_chunk.min(self.expected as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = crate::limits::MAX_SHARED_CHUNK;

    struct Fixture {
        frames: Frames,
        log: Log,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { frames: Frames::new(), log: Log::default() }
        }

        fn append(&mut self, bytes: usize) -> Span {
            self.log.append(&mut self.frames, LogId(1), MAX, &[&vec![7; bytes]])
        }

        fn append_held(&mut self, bytes: usize) -> Span {
            let span = self.append(bytes);
            self.frames.retain(span.chunk, 1);
            span
        }
    }

    #[test]
    fn frames_that_nobody_holds_are_overwritten() {
        let mut f = Fixture::new();
        let a = f.append(100);
        assert_eq!(f.append(100), a);
        assert!(f.log.settle(&mut f.frames));
        assert_eq!((f.log.tail(), f.frames.live_bytes()), (None, 0));
    }

    #[test]
    fn frames_that_are_held_touch() {
        let mut f = Fixture::new();
        let (a, b) = (f.append_held(100), f.append_held(100));
        assert!(a.touches(b));
        assert!(!f.log.settle(&mut f.frames));
        assert_eq!(f.log.tail(), Some(a.chunk));
        f.frames.release(a.chunk, 2);
        assert!(f.log.settle(&mut f.frames));
        assert_eq!(f.frames.live_bytes(), 0);
    }

    #[test]
    fn held_chunks_grow_fourfold_up_to_the_largest_shared() {
        let mut f = Fixture::new();
        let mut capacities = Vec::new();
        for _ in 0..8000 {
            let span = f.append_held(66);
            capacities.push(f.frames.capacity(span.chunk));
        }
        capacities.dedup();
        assert_eq!(capacities, [256, 1024, 4096, 16384, 65536, MAX]);
    }

    #[test]
    fn a_burst_like_the_last_is_one_span() {
        let mut f = Fixture::new();
        let spans: Vec<_> = (0..32).map(|_| f.append_held(66)).collect();
        assert!(!spans.windows(2).all(|pair| pair[0].touches(pair[1])));
        spans.iter().for_each(|span| f.frames.release(span.chunk, 1));
        assert!(f.log.settle(&mut f.frames));
        let spans: Vec<_> = (0..32).map(|_| f.append_held(66)).collect();
        assert!(spans.windows(2).all(|pair| pair[0].touches(pair[1])));
        assert_eq!(f.frames.capacity(spans[0].chunk), 4096);
    }

    #[test]
    fn quiet_makes_a_log_take_small_chunks_again() {
        let mut f = Fixture::new();
        (0..32).for_each(|_| _ = f.append_held(66));
        f.log.close(&mut f.frames);
        for _ in 0..8 {
            f.append(66);
            f.log.settle(&mut f.frames);
        }
        let small = f.append(66);
        assert_eq!(f.frames.capacity(small.chunk), 256);
    }

    #[test]
    fn a_large_frame_has_its_own_chunk_and_changes_nothing_for_the_small() {
        let mut f = Fixture::new();
        let large = f.append_held(MAX + 1);
        assert_eq!(f.frames.capacity(large.chunk), MAX + 1);
        let small = f.append_held(66);
        assert_eq!(f.frames.capacity(small.chunk), 256);
        f.frames.release(large.chunk, 1);
        f.frames.release(small.chunk, 1);
        f.append(MAX + 1);
        let small = f.append(66);
        assert_eq!(
            (f.frames.capacity(small.chunk), f.frames.live_bytes()),
            (256, 256),
            "a large chunk is not refilled"
        );
    }
}
