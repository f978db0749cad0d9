//! A connection of a shard: its slot, its outbox, its table.
