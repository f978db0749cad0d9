use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A server's frame with a payload of `len` bytes.
fn encode(opcode: u8, len: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match len {
        0..=125 => frame.push(len as u8),
        126..=0xffff => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.resize(frame.len() + len, fill);
    frame
}

/// An event of a stream, or a server's frame, whichever `log` has: each has one kind.
fn message(log: usize, opcode: u8, len: usize, fill: u8) -> Vec<u8> {
    match log {
        EVENTS => {
            let mut block = Vec::new();
            let data: String = (0..len).map(|i| if i % 7 == 6 { '\n' } else { char::from(b'a' + fill % 26) }).collect();
            sse::push_event(&mut block, "message", data.as_bytes());
            block
        }
        _ => encode(opcode, len, fill),
    }
}

/// Logs that append to a tail chunk while it has room, as the hub does.
struct Shard {
    frames: Frames,
    tails: Vec<Option<u32>>,
}

impl Shard {
    fn new() -> Shard {
        Shard { frames: Frames::new(), tails: vec![None; 8] }
    }

    /// Appends a frame to log `log` (the last one of the tails is [`LogId::NONE`]) and queues it.
    fn push(&mut self, outbox: &mut Outbox, log: usize, frame: &[u8]) {
        let tail = self.tails[log].filter(|&tail| self.frames.room(tail) >= frame.len());
        let chunk = tail.unwrap_or_else(|| {
            self.tails[log].take().into_iter().for_each(|old| self.frames.release(old, 1));
            let id = if log == NONE { LogId::NONE } else { LogId(log as u32) };
            self.frames.alloc(frame.len().max(1024), id)
        });
        self.tails[log] = Some(chunk);
        let span = self.frames.append(chunk, &[frame]);
        self.frames.retain(chunk, 1);
        outbox.push(&mut self.frames, span);
    }

    /// Lets go of the tail, so that the log's next frame does not touch its last.
    fn interrupt(&mut self, log: usize) {
        self.tails[log].take().into_iter().for_each(|old| self.frames.release(old, 1));
    }

    /// Everything was given back.
    fn end(mut self, mut outbox: Outbox) {
        outbox.clear(&mut self.frames);
        outbox.invariants(&self.frames);
        (0..self.tails.len()).for_each(|log| self.interrupt(log));
        assert_eq!(self.frames.live_bytes(), 0);
        self.frames.invariants();
    }

    fn wire(&self, outbox: &Outbox) -> Vec<u8> {
        outbox.spans().flat_map(|span| self.frames.bytes(span).to_vec()).collect()
    }
}

const NONE: usize = 7;
/// A log of Server-Sent Events.
const EVENTS: usize = 3;

/// An outbox with frames of 8 bytes, filled 0, 1, 2, …, of the given logs.
fn filled(logs: &[usize]) -> (Shard, Outbox) {
    let (mut shard, mut outbox) = (Shard::new(), Outbox::new());
    for (i, &log) in logs.iter().enumerate() {
        shard.push(&mut outbox, log, &encode(2, 6, i as u8));
    }
    (shard, outbox)
}

#[test]
fn spans_of_one_topic_stay_inline() {
    let (mut shard, mut outbox) = filled(&[0; 100]);
    assert!(outbox.rest.is_none());
    assert_eq!((outbox.len_bytes(), outbox.message_count(&shard.frames)), (800, 100));
    assert_eq!(outbox.front().unwrap().len(), 800);
    outbox.consume(&mut shard.frames, 800);
    assert!(outbox.is_empty() && outbox.front().is_none());
    shard.end(outbox);
}

#[test]
fn the_heap_block_goes_with_the_second_span() {
    let (mut shard, mut outbox) = filled(&[0, 1, 0]);
    assert!(outbox.rest.is_some());
    outbox.consume(&mut shard.frames, 16);
    assert!(outbox.rest.is_none());
    shard.end(outbox);
}

#[test]
fn a_frame_sent_in_part_is_a_span_of_its_own_and_still_sent_with_the_next() {
    let (mut shard, mut outbox) = filled(&[0; 4]);
    outbox.consume(&mut shard.frames, 8);
    assert!(!outbox.is_begun(), "a boundary");
    outbox.consume(&mut shard.frames, 3);
    assert!(outbox.is_begun());
    assert_eq!(outbox.spans().map(Span::len).collect::<Vec<_>>(), [5, 16]);
    assert_eq!(outbox.front().unwrap().len(), 21);
    outbox.consume(&mut shard.frames, 6);
    assert_eq!(outbox.spans().map(Span::len).collect::<Vec<_>>(), [7, 8]);
    shard.end(outbox);
}

#[test]
fn gather_copies_up_to_the_limit() {
    let (mut shard, outbox) = filled(&[0, 1, 2, NONE]);
    let stage = shard.frames.alloc(30, LogId::NONE);
    let staged = outbox.gather(&mut shard.frames, stage, 20);
    assert_eq!(shard.frames.bytes(staged), &shard.wire(&outbox)[..20]);
    let staged = outbox.gather(&mut shard.frames, stage, u32::MAX);
    assert_eq!(shard.frames.bytes(staged), shard.wire(&outbox));
    shard.frames.release(stage, 1);
    shard.end(outbox);
}

#[test]
fn events_are_dropped_whole_as_frames_are() {
    for (policy, kept) in [
        (BacklogPolicy::DropOldest, vec![0, 3]),
        (BacklogPolicy::DropNewest, vec![0, 1]),
        (BacklogPolicy::Latest, vec![0, 3]),
    ] {
        let (mut shard, mut outbox) = (Shard::new(), Outbox::new());
        let blocks: Vec<_> = (0..4).map(|i| message(EVENTS, 0, 20, i)).collect();
        blocks.iter().for_each(|block| shard.push(&mut outbox, EVENTS, block));
        outbox.consume(&mut shard.frames, 5);
        let bound = 2 * blocks[0].len() as u32 - 5;
        assert_eq!(outbox.enforce(&mut shard.frames, bound, policy), Verdict::Dropped { count: 2 });
        outbox.invariants(&shard.frames);
        let left: Vec<u8> = kept.iter().flat_map(|&i: &usize| blocks[i].clone()).collect();
        assert_eq!(shard.wire(&outbox), left[5..]);
        shard.end(outbox);
    }
}

#[test]
fn clear_unsent_keeps_what_was_begun() {
    let (mut shard, mut outbox) = filled(&[0, 0, 1, NONE, 1]);
    outbox.consume(&mut shard.frames, 3);
    assert_eq!(outbox.clear_unsent(&mut shard.frames), 3);
    outbox.invariants(&shard.frames);
    assert_eq!((outbox.len_bytes(), outbox.spans().count()), (5, 1));
    assert_eq!(outbox.clear(&mut shard.frames), 1, "the one that was begun");
    shard.end(outbox);

    let (mut shard, mut outbox) = filled(&[0, 0, NONE]);
    assert_eq!(outbox.clear_unsent(&mut shard.frames), 2);
    assert!(outbox.is_empty());
    shard.end(outbox);
}

#[test]
fn close_admits_one_oversized_message_and_what_is_addressed() {
    let (mut shard, mut outbox) = filled(&[0]);
    let close =
        |shard: &mut Shard, outbox: &mut Outbox, bound| outbox.enforce(&mut shard.frames, bound, BacklogPolicy::Close);
    assert_eq!(close(&mut shard, &mut outbox, 4), Verdict::Kept);
    shard.push(&mut outbox, NONE, &[0x8a, 0]);
    assert_eq!(close(&mut shard, &mut outbox, 4), Verdict::Kept);
    outbox.consume(&mut shard.frames, 1);
    assert_eq!(close(&mut shard, &mut outbox, 4), Verdict::Kept);
    let begun = outbox.len_bytes() - 2;
    shard.push(&mut outbox, 0, &encode(2, 0, 0));
    assert_eq!(close(&mut shard, &mut outbox, begun + 2), Verdict::Kept, "two messages within the bound, and a pong");
    assert_eq!(close(&mut shard, &mut outbox, begun + 1), Verdict::Close);
    assert_eq!(outbox.len_bytes(), begun + 4, "nothing was dropped");
    shard.end(outbox);
}

#[test]
fn what_is_addressed_closes_and_drops_nothing() {
    for policy in [BacklogPolicy::Close, BacklogPolicy::DropOldest, BacklogPolicy::DropNewest, BacklogPolicy::Latest] {
        let (mut shard, mut outbox) = filled(&[0]);
        for _ in 0..3 {
            shard.interrupt(NONE);
            shard.push(&mut outbox, NONE, &encode(1, 6, 0));
        }
        assert_eq!(outbox.enforce(&mut shard.frames, 1, policy), Verdict::Kept);
        shard.end(outbox);
    }
}

fn trimmed(logs: &[usize], sent: u32, bound: u32, policy: BacklogPolicy) -> (Verdict, Vec<u8>) {
    let (mut shard, mut outbox) = filled(logs);
    outbox.consume(&mut shard.frames, sent);
    let verdict = outbox.enforce(&mut shard.frames, bound, policy);
    outbox.invariants(&shard.frames);
    let pad = sent as usize % 8;
    let wire = [vec![0; pad], shard.wire(&outbox)].concat();
    shard.end(outbox);
    (verdict, wire.chunks(8).map(|frame| frame[7]).collect())
}

#[test]
fn drop_oldest_spares_the_begun_the_addressed_and_the_newest() {
    let drop = |logs: &[usize], sent, bound| trimmed(logs, sent, bound, BacklogPolicy::DropOldest);
    assert_eq!(drop(&[0, 0, 0, 1], 0, 17), (Verdict::Dropped { count: 2 }, vec![2, 3]));
    assert_eq!(drop(&[0, 0, 0, 1], 1, 16), (Verdict::Dropped { count: 2 }, vec![0, 3]));
    assert_eq!(drop(&[0, NONE, 0, NONE], 0, 16), (Verdict::Dropped { count: 1 }, vec![1, 2, 3]));
    assert_eq!(drop(&[0, 0, 0], 0, 0), (Verdict::Dropped { count: 2 }, vec![2]));
    assert_eq!(drop(&[0, 0, 0], 8, 16), (Verdict::Kept, vec![1, 2]));
}

#[test]
fn drop_newest_spares_the_begun_the_addressed_and_the_oldest() {
    let drop = |logs: &[usize], sent, bound| trimmed(logs, sent, bound, BacklogPolicy::DropNewest);
    assert_eq!(drop(&[1, 0, 0, 0], 0, 17), (Verdict::Dropped { count: 2 }, vec![0, 1]));
    assert_eq!(drop(&[0, 0, 0, NONE], 1, 15), (Verdict::Dropped { count: 2 }, vec![0, 3]));
    assert_eq!(drop(&[NONE, 0, NONE, 0], 0, 0), (Verdict::Dropped { count: 1 }, vec![0, 1, 2]));
    assert_eq!(drop(&[0, 0, 0], 0, 0), (Verdict::Dropped { count: 2 }, vec![0]));
}

#[test]
fn latest_keeps_the_newest_of_each_topic_in_its_place() {
    let drop = |logs: &[usize], sent, bound| trimmed(logs, sent, bound, BacklogPolicy::Latest);
    assert_eq!(drop(&[0, 1, 0, NONE, 2, 1], 0, 40), (Verdict::Dropped { count: 2 }, vec![2, 3, 4, 5]));
    assert_eq!(drop(&[0, 1, 0, NONE, 2, 1], 0, 16), (Verdict::Dropped { count: 4 }, vec![3, 5]));
    assert_eq!(drop(&[0, 0, 0], 4, 19), (Verdict::Dropped { count: 1 }, vec![0, 2]));
    assert_eq!(drop(&[0, 0, 0], 0, 24), (Verdict::Kept, vec![0, 1, 2]));
}

#[test]
fn latest_of_thousands_of_topics_frees_a_quarter_so_that_few_messages_cost_a_walk() {
    let (mut frames, mut outbox) = (Frames::new(), Outbox::new());
    let mut walks = 0;
    for topic in 0..4000 {
        let chunk = frames.alloc(8, LogId(topic));
        let span = frames.append(chunk, &[&encode(2, 6, 0)]);
        outbox.push(&mut frames, span);
        if let Verdict::Dropped { count } = outbox.enforce(&mut frames, 8000, BacklogPolicy::Latest) {
            assert_eq!((count, outbox.len_bytes()), (251, 6000));
            walks += 1;
        }
    }
    assert_eq!(walks, 3000 / 251 + 1);
    outbox.clear(&mut frames);
    assert_eq!(frames.live_bytes(), 0);
}

#[test]
fn a_backlog_beyond_what_is_counted_is_still_right() {
    let mut frames = Frames::new();
    let mut outbox = Outbox::new();
    let chunk = frames.alloc(16, LogId::NONE);
    let half = Span { chunk, start: 0, end: 1 << 30 };
    frames.retain(chunk, 2);
    (0..3).for_each(|_| outbox.push(&mut frames, half));
    assert_eq!(outbox.len_bytes(), SATURATED);
    outbox.consume(&mut frames, 1 << 30);
    assert_eq!(outbox.len_bytes(), SATURATED);
    outbox.consume(&mut frames, 1);
    assert_eq!(outbox.len_bytes(), SATURATED);
    outbox.consume(&mut frames, 1 << 30);
    assert_eq!(outbox.len_bytes(), (1 << 30) - 1);
    outbox.clear(&mut frames);
    assert_eq!(frames.live_bytes(), 0);
}

/// A message as the model has it.
#[derive(Clone, Debug)]
struct Message {
    log: usize,
    bytes: Vec<u8>,
}

/// The outbox without spans: whole messages, and how much of the first was sent.
#[derive(Default)]
struct Model {
    queue: VecDeque<Message>,
    sent: usize,
}

impl Model {
    fn len(&self) -> usize {
        self.queue.iter().map(|message| message.bytes.len()).sum::<usize>() - self.sent
    }

    fn wire(&self) -> Vec<u8> {
        self.queue.iter().flat_map(|message| message.bytes.clone()).skip(self.sent).collect()
    }

    fn consume(&mut self, n: usize) {
        self.sent += n;
        while self.queue.front().is_some_and(|front| front.bytes.len() <= self.sent) {
            self.sent -= self.queue.pop_front().unwrap().bytes.len();
        }
    }

    /// Places of the messages that may be dropped at all.
    fn droppable(&self) -> Vec<usize> {
        let begun = usize::from(self.sent > 0);
        (begun..self.queue.len()).filter(|&i| self.queue[i].log != NONE).collect()
    }

    fn conflate(&mut self) -> u32 {
        let droppable = self.droppable();
        let stale = |&&i: &&usize| droppable.iter().any(|&j| j > i && self.queue[j].log == self.queue[i].log);
        let gone: Vec<_> = droppable.iter().filter(stale).copied().collect();
        gone.iter().rev().for_each(|&i| drop(self.queue.remove(i)));
        gone.len() as u32
    }

    fn trim(&mut self, bound: usize, policy: BacklogPolicy) -> u32 {
        let mut count = 0;
        if self.len() > bound && policy == BacklogPolicy::Latest {
            count += self.conflate();
        }
        while self.len() > bound {
            let droppable = self.droppable();
            let begun = self.sent > 0 && self.queue[0].log != NONE;
            let victim = match policy {
                BacklogPolicy::Close => None,
                BacklogPolicy::DropNewest => droppable.last().filter(|_| begun || droppable.len() > 1),
                _ => droppable.first().filter(|_| droppable.len() > 1),
            };
            let Some(&victim) = victim else { break };
            self.queue.remove(victim);
            count += 1;
        }
        count
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { log: usize, len: usize, interrupt: bool },
    Send { percent: usize },
    Enforce { bound: usize, policy: BacklogPolicy },
    ClearUnsent,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![8 => 0usize..60, 2 => 100usize..400, 1 => Just(66_000)];
    let policy = prop_oneof![
        Just(BacklogPolicy::Close),
        Just(BacklogPolicy::DropOldest),
        Just(BacklogPolicy::DropNewest),
        Just(BacklogPolicy::Latest)
    ];
    prop_oneof![
        20 => (prop_oneof![0usize..4, Just(NONE)], len, prop::bool::weighted(0.2))
            .prop_map(|(log, len, interrupt)| Step::Push { log, len, interrupt }),
        6 => (0usize..=100).prop_map(|percent| Step::Send { percent }),
        4 => (0usize..1500, policy).prop_map(|(bound, policy)| Step::Enforce { bound, policy }),
        1 => Just(Step::ClearUnsent),
    ]
}

/// An opaque span is one piece only if it was queued and sent as one; the model knows no spans, so it is told how
/// many opaque bytes follow the begun ones in their span.
fn clear_unsent(shard: &mut Shard, outbox: &mut Outbox, model: &mut Model) {
    let kept = if outbox.is_begun() { outbox.spans().next().map_or(0, Span::len) } else { 0 };
    let expected = model.droppable().len() as u32;
    assert_eq!(outbox.clear_unsent(&mut shard.frames), expected);
    assert_eq!(outbox.len_bytes(), kept);
    let mut left = model.sent + kept as usize;
    model.queue.retain(|message| {
        let keep = left > 0;
        assert!(left == 0 || left >= message.bytes.len(), "frames are kept whole");
        left = left.saturating_sub(message.bytes.len());
        keep
    });
    if kept == 0 {
        model.sent = 0;
        model.queue.clear();
    }
}

fn check_verdict(verdict: Verdict, count: u32, outbox: &Outbox, shard: &Shard, bound: usize, policy: BacklogPolicy) {
    let log = |span: &Span| shard.frames.log(span.chunk) != LogId::NONE;
    let bytes: usize = outbox.spans().filter(log).map(|span| span.len() as usize).sum();
    let more_than_one = outbox.message_count(&shard.frames) > 1;
    match verdict {
        Verdict::Dropped { count: dropped } => assert_eq!((count, dropped > 0), (dropped, true)),
        Verdict::Kept => {
            assert_eq!(count, 0);
            assert!(outbox.len_bytes() as usize <= bound || bytes <= bound || !more_than_one);
        }
        Verdict::Close => {
            assert_eq!((count, policy), (0, BacklogPolicy::Close));
            assert!(bytes > bound && outbox.message_count(&shard.frames) > 0);
        }
    }
}

proptest! {
    #[test]
    fn an_outbox_is_a_queue_of_messages(steps in prop::collection::vec(step(), 1..80)) {
        let (mut shard, mut outbox, mut model) = (Shard::new(), Outbox::new(), Model::default());
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { log, len, interrupt } => {
                    let opcode = if log == NONE { 0xa } else { 1 + (i % 2) as u8 };
                    let bytes = message(log, opcode, len, i as u8);
                    if interrupt {
                        shard.interrupt(log);
                    }
                    shard.push(&mut outbox, log, &bytes);
                    model.queue.push_back(Message { log, bytes });
                }
                Step::Send { percent } => {
                    let n = model.len() * percent / 100;
                    outbox.consume(&mut shard.frames, n as u32);
                    model.consume(n);
                }
                Step::Enforce { bound, policy } => {
                    let verdict = outbox.enforce(&mut shard.frames, bound as u32, policy);
                    let count = model.trim(bound, policy);
                    check_verdict(verdict, count, &outbox, &shard, bound, policy);
                }
                Step::ClearUnsent => clear_unsent(&mut shard, &mut outbox, &mut model),
            }
            outbox.invariants(&shard.frames);
            shard.frames.invariants();
            prop_assert_eq!(outbox.len_bytes() as usize, model.len());
            prop_assert_eq!(shard.wire(&outbox), model.wire());
            prop_assert_eq!(outbox.message_count(&shard.frames) as usize, model.droppable().len());
            let stage = shard.frames.alloc(100, LogId::NONE);
            let staged = outbox.gather(&mut shard.frames, stage, 90);
            prop_assert_eq!(shard.frames.bytes(staged), &model.wire()[..model.len().min(90)]);
            shard.frames.release(stage, 1);
        }
        shard.end(outbox);
    }
}
