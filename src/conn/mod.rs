//! A connection of a shard: its slot, its outbox, its table.

pub mod outbox;
pub mod table;
