//! Orders that are arbitrary, and the same in every run.

/// A source of numbers (xorshift).
pub struct Shuffler(u64);

impl Default for Shuffler {
    fn default() -> Shuffler {
        Shuffler(0x9e37_79b9_7f4a_7c15)
    }
}

impl Shuffler {
    /// Brings the items into the next order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            items.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
    }
}
