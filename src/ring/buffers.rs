//! The memory that receives read into.

use crate::limits::{READ_BUFFER_BYTES, READ_BUFFERS};

/// [`READ_BUFFERS`] buffers of [`READ_BUFFER_BYTES`] each.
pub(super) struct Buffers(Box<[u8]>);

impl Buffers {
    /// Allocated zeroed, in one piece: pages that no receive touched are not resident.
    pub(super) fn new() -> Buffers {
        Buffers(vec![0; usize::from(READ_BUFFERS) * READ_BUFFER_BYTES].into_boxed_slice())
    }

    /// One buffer. Panics if there is none of that index.
    pub(super) fn get(&mut self, index: u16) -> &mut [u8] {
        let start = usize::from(index) * READ_BUFFER_BYTES;
        &mut self.0[start..start + READ_BUFFER_BYTES]
    }
}
