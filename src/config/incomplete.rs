//! How much of what is incomplete a shard may keep.

use super::Config;

/// Bytes of incomplete messages that the connections of a shard may keep in all, however much memory there is.
const MAX_INCOMPLETE: u64 = 256 << 20;

impl Config {
    /// Bytes of incomplete messages that the connections of a shard may keep in all, where the process may have so much memory; beyond
    /// that, those of them are closed that hold much and have for the longest. A quarter of memory, so that what comes between two
    /// looks at that cannot fill it; but at least two of the largest messages, or none would ever be complete.
    pub fn incomplete_bytes(&self, memory: Option<u64>) -> u64 {
        let quarter = memory.map_or(MAX_INCOMPLETE, |bytes| bytes / 4 / u64::from(self.shards.max(1)));
        quarter.min(MAX_INCOMPLETE).max(2 * u64::from(self.max_message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_messages_take_a_quarter_of_memory_or_less() {
        const MIB: u64 = 1 << 20;
        for (memory, shards, max_message, bytes) in [
            (None, 2, MIB, 256 * MIB),
            (Some(16 << 30), 2, MIB, 256 * MIB),
            (Some(128 * MIB), 2, MIB, 16 * MIB),
            (Some(128 * MIB), 1, MIB, 32 * MIB),
            (Some(64 * MIB), 64, MIB, 2 * MIB),
            (None, 1, 256 * MIB, 512 * MIB),
        ] {
            let config = Config { shards, max_message: max_message as u32, ..Config::default() };
            assert_eq!(config.incomplete_bytes(memory), bytes, "{memory:?} {shards}");
        }
    }
}
