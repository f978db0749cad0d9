//! Frames on their way out: bytes that many outboxes refer to and none copies.
//!
//! A frame lies in a chunk, a chunk in the shard's [`Frames`], and an outbox holds [`Span`]s: plain numbers, whose
//! references are counted by hand so that a fan-out can count a thousand of them at once. A chunk is append-only
//! while anybody refers to it; when nobody does, it goes back to a pool, warm and without a call to the allocator.

use crate::limits::MAX_SHARED_CHUNK;

/// Text or binary, as the WebSocket opcodes have it (RFC 6455 section 5.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// How the messages of a subscription are to be encoded; all subscribers of a topic in one class are sent the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Class(u8);

impl Class {
    /// WebSocket frames of the payload as it is.
    pub const PLAIN: Class = Class(0);
    /// Blocks of Server-Sent Events, each payload in an envelope.
    pub const EVENTS: Class = Class(Class::EVENT | Class::ENVELOPE);
    /// The bits beside the window's.
    const ENVELOPE: u8 = 1 << 7;
    const EVENT: u8 = 1 << 6;
    const MEMBER: u8 = 1 << 5;

    /// WebSocket frames, deflated with a window of `2^bits` bytes, 9 to 15 (RFC 7692).
    pub fn deflate(bits: u8) -> Class {
        assert!((9..=15).contains(&bits));
        Class(bits)
    }

    /// The same, but with each payload in an envelope that says where in its topic it is.
    pub fn in_envelope(self) -> Class {
        Class(self.0 | Class::ENVELOPE)
    }

    /// The same, of a member of the room that the topic is: who gets what is said beside the topic, too.
    pub fn of_member(self) -> Class {
        Class(self.0 | Class::MEMBER)
    }

    /// Whether it is a member's.
    pub fn is_member(self) -> bool {
        self.0 & Class::MEMBER != 0
    }

    /// Whether payloads come in an envelope.
    pub fn has_envelope(self) -> bool {
        self.0 & Class::ENVELOPE != 0
    }

    /// Whether messages are Server-Sent Events instead of WebSocket frames.
    pub fn is_events(self) -> bool {
        self.0 & Class::EVENT != 0
    }

    /// The deflate window's bits, if the class is deflated.
    pub fn window_bits(self) -> Option<u8> {
        let bits = self.0 & !(Class::ENVELOPE | Class::EVENT | Class::MEMBER);
        (bits != 0).then_some(bits)
    }

    /// The class as a number, to be packed with others.
    pub(super) fn to_bits(self) -> u8 {
        self.0
    }

    /// The class of a number that [`Class::to_bits`] gave.
    pub(super) fn from_bits(bits: u8) -> Class {
        Class(bits)
    }
}

/// Bytes `start..end` of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which chunk.
    pub chunk: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether `next` goes on where this ends, so that both are one span.
    pub fn touches(self, next: Span) -> bool {
        self.chunk == next.chunk && self.end == next.start
    }
}

/// The log (a topic's, mostly) whose frames a chunk holds. Frames of [`LogId::NONE`] are replies and control frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogId(pub u32);

impl LogId {
    /// No topic: frames that are addressed to one connection.
    pub const NONE: LogId = LogId(u32::MAX);
}

struct Chunk {
    bytes: Vec<u8>,
    refs: u32,
    log: LogId,
}

/// Sizes that are pooled. Larger frames get a chunk of their very size, which goes back to the allocator.
const POOLED: [usize; 6] = [256, 1024, 4 * 1024, 16 * 1024, 64 * 1024, MAX_SHARED_CHUNK];
/// Bytes kept for each pooled size.
const POOL_BYTES: usize = 1 << 20;

/// The chunks of a shard.
pub struct Frames {
    chunks: Vec<Chunk>,
    /// Unused entries of `chunks`, without a buffer.
    vacant: Vec<u32>,
    /// Unused entries of `chunks` that keep a buffer of `POOLED[i]` bytes.
    pool: [Vec<u32>; POOLED.len()],
    live_bytes: usize,
    pooled_bytes: usize,
    /// Bytes that outboxes have still to send; they keep it themselves.
    queued_bytes: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// No chunks yet.
    pub fn new() -> Frames {
        Frames {
            chunks: Vec::new(),
            vacant: Vec::new(),
            pool: Default::default(),
            live_bytes: 0,
            pooled_bytes: 0,
            queued_bytes: 0,
        }
    }

    /// A chunk with room for `bytes`, empty, with one reference, the caller's.
    pub fn alloc(&mut self, bytes: usize, log: LogId) -> u32 {
        let class = POOLED.iter().position(|&size| bytes <= size);
        let id = match class.and_then(|i| self.pool[i].pop()) {
            Some(id) => {
                self.pooled_bytes -= self.chunks[id as usize].bytes.capacity();
                id
            }
            None => {
                let capacity = class.map_or(bytes, |i| POOLED[i]);
                let bytes = Vec::with_capacity(capacity);
                match self.vacant.pop() {
                    Some(id) => {
                        self.chunks[id as usize].bytes = bytes;
                        id
                    }
                    None => {
                        self.chunks.push(Chunk { bytes, refs: 0, log });
                        u32::try_from(self.chunks.len() - 1).expect("fewer than 2³² chunks")
                    }
                }
            }
        };
        let chunk = &mut self.chunks[id as usize];
        debug_assert!(chunk.refs == 0 && chunk.bytes.is_empty());
        chunk.refs = 1;
        chunk.log = log;
        self.live_bytes += chunk.bytes.capacity();
        id
    }

    /// Bytes that [`Frames::append`] can still put into a chunk.
    pub fn room(&self, chunk: u32) -> usize {
        let bytes = &self.chunks[chunk as usize].bytes;
        bytes.capacity() - bytes.len()
    }

    /// Bytes that a chunk can hold in all.
    pub fn capacity(&self, chunk: u32) -> usize {
        self.chunks[chunk as usize].bytes.capacity()
    }

    /// Appends the concatenation of `parts`, for which there must be [`Frames::room`]. Counts no reference.
    pub fn append(&mut self, chunk: u32, parts: &[&[u8]]) -> Span {
        let bytes = &mut self.chunks[chunk as usize].bytes;
        let start = bytes.len();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert!(total <= bytes.capacity() - start, "a chunk never moves: spans of it may be on their way out");
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Span { chunk, start: start as u32, end: bytes.len() as u32 }
    }

    /// Appends a copy of a span to another chunk, in which there must be [`Frames::room`]. Counts no reference.
    ///
    /// # Panics
    /// If the span is of that very chunk.
    pub fn copy(&mut self, span: Span, to: u32) -> Span {
        let [from, to_chunk] = self.chunks.get_disjoint_mut([span.chunk as usize, to as usize]).expect("two chunks");
        let start = to_chunk.bytes.len();
        assert!(span.len() as usize <= to_chunk.bytes.capacity() - start, "a chunk never moves");
        to_chunk.bytes.extend_from_slice(&from.bytes[span.start as usize..span.end as usize]);
        Span { chunk: to, start: start as u32, end: to_chunk.bytes.len() as u32 }
    }

    /// Empties a chunk that the caller alone refers to, to be filled again; `false` if others refer to it too.
    pub fn rewind(&mut self, chunk: u32) -> bool {
        let chunk = &mut self.chunks[chunk as usize];
        let sole = chunk.refs == 1;
        if sole {
            chunk.bytes.clear();
        }
        sole
    }

    /// Counts `n` more references to a chunk.
    #[inline]
    pub fn retain(&mut self, chunk: u32, n: u32) {
        let refs = &mut self.chunks[chunk as usize].refs;
        debug_assert!(*refs > 0, "a chunk that nobody refers to is not there any more");
        *refs += n;
    }

    /// Gives back `n` references; with the last, the chunk is gone.
    #[inline]
    pub fn release(&mut self, chunk: u32, n: u32) {
        let refs = &mut self.chunks[chunk as usize].refs;
        assert!(*refs >= n, "released more often than retained");
        *refs -= n;
        if *refs == 0 {
            self.recycle(chunk);
        }
    }

    fn recycle(&mut self, id: u32) {
        let chunk = &mut self.chunks[id as usize];
        let capacity = chunk.bytes.capacity();
        chunk.bytes.clear();
        self.live_bytes -= capacity;
        match POOLED.iter().position(|&size| size == capacity) {
            Some(i) if (self.pool[i].len() + 1) * capacity <= POOL_BYTES => {
                self.pooled_bytes += capacity;
                self.pool[i].push(id);
            }
            _ => {
                chunk.bytes = Vec::new();
                self.vacant.push(id);
            }
        }
    }

    /// Gives back the buffers of all chunks that nobody refers to.
    pub fn drop_pool(&mut self) {
        self.pooled_bytes = 0;
        for id in self.pool.iter_mut().flat_map(|ids| ids.drain(..)) {
            self.chunks[id as usize].bytes = Vec::new();
            self.vacant.push(id);
        }
    }

    /// Overwrites a span with zeros: it held a secret, and chunks are used again.
    pub fn erase(&mut self, span: Span) {
        let bytes = &mut self.chunks[span.chunk as usize].bytes[span.start as usize..span.end as usize];
        bytes.fill(0);
        std::hint::black_box(bytes);
    }

    /// The bytes of a span.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.chunks[span.chunk as usize].bytes[span.start as usize..span.end as usize]
    }

    /// Whose frames a chunk holds.
    #[inline]
    pub fn log(&self, chunk: u32) -> LogId {
        self.chunks[chunk as usize].log
    }

    /// References to a chunk.
    pub fn refs(&self, chunk: u32) -> u32 {
        self.chunks[chunk as usize].refs
    }

    /// Bytes of all chunks that are referred to, as allocated.
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Bytes of the buffers of chunks that nobody refers to.
    pub fn pooled_bytes(&self) -> usize {
        self.pooled_bytes
    }

    /// Bytes that outboxes have still to send, each counted once for each outbox that it is in.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// An outbox has so many bytes more to send.
    #[inline]
    pub fn queue(&mut self, bytes: u64) {
        self.queued_bytes += bytes;
    }

    /// An outbox has so many bytes less to send.
    #[inline]
    pub fn unqueue(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.queued_bytes, "more was taken out of outboxes than was put in");
        self.queued_bytes -= bytes;
    }

    /// Panics unless every chunk is either referred to, pooled or vacant, and the counts agree. For tests.
    pub fn invariants(&self) {
        let live: Vec<_> = self.chunks.iter().filter(|chunk| chunk.refs > 0).collect();
        let pooled: usize = self.pool.iter().map(Vec::len).sum();
        let kept = self.pool.iter().flatten().map(|&id| self.chunks[id as usize].bytes.capacity());
        assert_eq!(kept.sum::<usize>(), self.pooled_bytes);
        assert_eq!(live.len() + pooled + self.vacant.len(), self.chunks.len());
        assert_eq!(live.iter().map(|chunk| chunk.bytes.capacity()).sum::<usize>(), self.live_bytes);
        for (ids, size) in self.pool.iter().zip(POOLED) {
            for &id in ids {
                let chunk = &self.chunks[id as usize];
                assert!(chunk.refs == 0 && chunk.bytes.is_empty() && chunk.bytes.capacity() == size);
            }
        }
        for &id in &self.vacant {
            assert!(self.chunks[id as usize].refs == 0 && self.chunks[id as usize].bytes.capacity() == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_leaves_the_window_alone() {
        for (class, bits) in [(Class::PLAIN, None), (Class::deflate(9), Some(9)), (Class::deflate(15), Some(15))] {
            let wrapped = class.in_envelope();
            assert_eq!((class.has_envelope(), class.window_bits()), (false, bits));
            assert_eq!((wrapped.has_envelope(), wrapped.window_bits()), (true, bits));
            assert_eq!((wrapped.in_envelope(), Class::from_bits(wrapped.to_bits())), (wrapped, wrapped));
            assert_ne!(wrapped, class);
            assert!(!class.is_events() && !wrapped.is_events());
        }
        let events = Class::EVENTS;
        assert!(events.is_events() && events.has_envelope() && events.window_bits().is_none());
        assert_eq!((events.in_envelope(), Class::from_bits(events.to_bits())), (events, events));
    }

    #[test]
    fn a_chunk_lives_as_long_as_its_last_reference() {
        let mut frames = Frames::new();
        let chunk = frames.alloc(10, LogId(1));
        let a = frames.append(chunk, &[b"ab", b"c"]);
        let b = frames.append(chunk, &[b"de"]);
        assert!(a.touches(b) && !b.touches(a));
        assert_eq!((frames.bytes(a), frames.bytes(b)), (&b"abc"[..], &b"de"[..]));
        frames.retain(chunk, 2);
        frames.release(chunk, 1);
        assert!(!frames.rewind(chunk));
        frames.invariants();
        frames.release(chunk, 2);
        assert_eq!(frames.live_bytes(), 0);
        frames.invariants();
        assert_eq!(frames.alloc(200, LogId(2)), chunk, "the pool is last in, first out");
    }

    #[test]
    fn large_chunks_are_exact_and_not_kept() {
        let mut frames = Frames::new();
        let large = MAX_SHARED_CHUNK + 1;
        let chunk = frames.alloc(large, LogId::NONE);
        assert_eq!(frames.room(chunk), large);
        frames.release(chunk, 1);
        assert_eq!(frames.capacity(chunk), 0);
        frames.invariants();
    }

    #[test]
    fn a_dropped_pool_leaves_vacant_chunks() {
        let mut frames = Frames::new();
        let (kept, gone) = (frames.alloc(10, LogId::NONE), frames.alloc(1000, LogId::NONE));
        frames.release(gone, 1);
        frames.drop_pool();
        frames.invariants();
        assert_eq!((frames.capacity(kept), frames.capacity(gone)), (256, 0));
        assert_eq!(frames.alloc(2000, LogId::NONE), gone);
        frames.invariants();
    }

    #[test]
    #[should_panic(expected = "a chunk never moves")]
    fn appending_beyond_the_room_is_refused() {
        let mut frames = Frames::new();
        let chunk = frames.alloc(256, LogId::NONE);
        frames.append(chunk, &[&[0; 257]]);
    }
}
