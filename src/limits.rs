//! Hard caps that no configuration may pass, and the relations between them.

/// Connections a shard's tables can index; the kernel caps a ring's registered-file table at 2²⁰ entries.
pub const MAX_CONNECTIONS_PER_SHARD: u32 = 1 << 20;
/// Slots of a shard's table that are kept free, to tell those who come when it is full that it is.
pub const SPARE_SLOTS: u32 = 64;
/// Shards in one process, and so the most that a topic's home shard keeps in its list of those that are interested.
pub const MAX_SHARDS: usize = 256;
/// Bytes of one read buffer, and so of one receive.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Read buffers of a shard, and so the receives of one turn.
pub const READ_BUFFERS: u16 = 32;
/// The largest chunk that frames of one topic share; a larger frame gets a chunk of its own.
pub const MAX_SHARED_CHUNK: usize = 256 * 1024;
/// The largest chunk that replies to different connections share: what one stalled reader of a reply can pin.
pub const MAX_REPLY_CHUNK: usize = 4 * 1024;
/// Deliveries of one turn: a fan-out to more subscribers goes on in the next turn.
pub const DELIVERIES_PER_TURN: usize = 128;
/// Bytes that a turn inflates or compresses for what it has read; what is left is decoded in the next turns. 64 KiB that
/// a client sends may be 64 MiB of messages.
pub const CODEC_BYTES_PER_TURN: usize = 1 << 20;
/// Reads that may wait for that.
pub const MAX_UNDECODED: usize = 128;
/// Deadlines of one turn.
pub const DEADLINES_PER_TURN: usize = 256;
/// Bytes of clients' messages that may wait to be sent to one backend; those beyond are answered `busy`. Of notices and
/// answers, twice as much may wait.
pub const MAX_BACKEND_BACKLOG: u32 = 8 << 20;
/// Rooms that backends may bring one client into.
pub const MAX_ROOMS: usize = 64;
/// Bytes of a topic's name.
pub const MAX_TOPIC_BYTES: usize = 256;
/// Topics that nobody uses whose place a shard knows.
pub const MAX_REMEMBERED_TOPICS: usize = 1 << 16;
/// Topics of one stream of Server-Sent Events: each of its ids says where it is in all of them.
pub const MAX_TOPICS_PER_STREAM: usize = 256;
/// Bytes of a WebSocket message that any configuration may allow; lengths are `u32` inside.
pub const MAX_MESSAGE_BYTES: u64 = 256 << 20;
/// Bytes of the longest frame or event that a message becomes. A control character of it is six bytes in a string of JSON; an
/// end of line is seven in an event stream, with the `data: ` of the line that it begins. A MiB is for what is around it, and
/// for what compressing may add.
pub const MAX_FRAME_BYTES: u64 = 7 * MAX_MESSAGE_BYTES + (1 << 20);
/// Bytes of a control frame's payload (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;
/// Accepts of one listener that are under way at a time: connections that a turn of its ring takes from it at most.
pub const ACCEPTS: u16 = 16;

/// Messages a second that a bound of how fast they come can name.
pub const MAX_MESSAGE_RATE: u32 = 10_000_000;
/// New connections a second that a bound of how fast they come can name.
pub const MAX_CONNECT_RATE: u32 = 1_000_000;
/// Bytes a second that a bound of how fast they come can name.
pub const MAX_BYTE_RATE: u32 = 1 << 29;

/// Header fields of an HTTP head.
pub const MAX_HEADERS: usize = 64;

/// Whether a close frame may carry that code (RFC 6455 section 7.4; 1012 to 1014 are of the IANA registry). 1004 to 1006 and
/// 1015 must not be sent.
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whether an application may close a connection with that code: 1000, or one that is its own (RFC 6455 section 7.4.2).
pub fn is_application_close(code: u16) -> bool {
    matches!(code, 1000 | 3000..=4999)
}

/// Whether a topic may have that name. Those that begin with a NUL are the server's own.
pub fn is_topic_name(name: &str) -> bool {
    (1..=MAX_TOPIC_BYTES).contains(&name.len()) && !name.starts_with('\0')
}

const _: () = {
    assert!(MAX_FRAME_BYTES < 1 << 31, "a span's offsets are u32, and an outbox counts its bytes in 31 bits");
    assert!(MAX_UNDECODED >= READ_BUFFERS as usize);
    assert!(MAX_REPLY_CHUNK <= MAX_SHARED_CHUNK);
    assert!(MAX_CONTROL_PAYLOAD + 2 <= MAX_REPLY_CHUNK);
    assert!(MAX_CONNECTIONS_PER_SHARD.is_power_of_two());
};
