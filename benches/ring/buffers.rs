//! Memory that the kernel receives into: a ring of provided buffers, from which a receive takes the next when it has bytes.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::uring::Uring;

/// The one group of buffers.
pub const GROUP: u16 = 0;
const PAGE: usize = 4096;

/// Buffers of one size, and the ring through which the kernel is given them.
pub struct Provided {
    ring: NonNull<BufRingEntry>,
    layout: Layout,
    memory: Box<[u8]>,
    /// Entries of the ring, and buffers: a power of two.
    count: u16,
    bytes: usize,
    /// Where the kernel takes the next buffer from, as far as completions have told.
    head: u16,
    tail: u16,
}

impl Provided {
    /// Gives `count` buffers of `bytes` each to a ring, which has to be dropped first.
    pub fn new(uring: &Uring, count: u16, bytes: usize) -> io::Result<Provided> {
        assert!(count.is_power_of_two());
        let size = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(size, PAGE).map_err(io::Error::other)?;
        // SAFETY: the size is not zero.
        let ring = unsafe { alloc_zeroed(layout) };
        let ring = NonNull::new(ring.cast()).unwrap_or_else(|| handle_alloc_error(layout));
        let memory = vec![0; usize::from(count) * bytes].into_boxed_slice();
        let mut provided = Provided { ring, layout, memory, count, bytes, head: 0, tail: 0 };
        // SAFETY: the ring's memory is page-aligned, of that many entries, and freed after `uring` was dropped, whose
        // drop ends every receive.
        unsafe { uring.raw().submitter().register_buf_ring_with_flags(ring.as_ptr() as u64, count, GROUP, 0)? };
        (0..count).for_each(|id| provided.put(id));
        provided.publish();
        Ok(provided)
    }

    /// The bytes that a receive wrote, which begin in the given buffer and go on in those given to the kernel after it.
    /// Notes that the kernel has taken these buffers, and appends their indices to `taken`.
    pub fn take<'a>(&'a mut self, first: u16, bytes: usize, taken: &'a mut Vec<u16>) -> impl Iterator<Item = &'a [u8]> {
        let start = taken.len();
        assert_eq!(self.next_id(), first, "buffers are taken in the order in which they were given");
        for _ in 0..bytes.div_ceil(self.bytes) {
            taken.push(self.next_id());
            self.head = self.head.wrapping_add(1);
        }
        let (memory, size) = (&self.memory, self.bytes);
        let pieces = taken[start..].iter().enumerate();
        pieces.map(move |(i, &id)| &memory[usize::from(id) * size..][..size.min(bytes - i * size)])
    }

    /// Gives buffers back to the kernel.
    pub fn give_back(&mut self, taken: &mut Vec<u16>) {
        taken.drain(..).for_each(|id| self.put(id));
        self.publish();
    }

    fn next_id(&self) -> u16 {
        // SAFETY: an entry of the ring, which was written before the kernel was told of it.
        unsafe { self.entry(self.head).as_ref() }.bid()
    }

    fn entry(&self, position: u16) -> NonNull<BufRingEntry> {
        // SAFETY: the index is below the number of entries.
        unsafe { self.ring.add(usize::from(position & (self.count - 1))) }
    }

    fn put(&mut self, id: u16) {
        let address = self.memory[usize::from(id) * self.bytes..].as_mut_ptr() as u64;
        // SAFETY: an entry of the ring that the kernel has not been told of, or has taken.
        let entry = unsafe { self.entry(self.tail).as_mut() };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the first entry's last two bytes are the ring's tail, which the kernel reads atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the ring that it was registered with is gone.
        unsafe { dealloc(self.ring.as_ptr().cast(), self.layout) };
    }
}
