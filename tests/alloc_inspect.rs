//! The load generator's path of a message, from its stamp to the judgement, takes nothing from the heap once warm, so that
//! what is measured is the server.

mod counting;

use counting::allocations;
use uproar::bench::message::{Found, Payloads, Stamp};
use uproar::bench::options::Fill;
use uproar::bench::report::Faults;
use uproar::bench::tracker::Tracker;
use uproar::hub::frame::MessageKind;
use uproar::ws::client::frame::client_frame;
use uproar::ws::client::reader::{Event, Reader, Tools};
use uproar::ws::frame::{Opcode, encode_header};

const BURST: u64 = 32;
const TEXT: Opcode = Opcode::Data(MessageKind::Text);

#[test]
fn a_message_is_written_framed_read_found_and_tracked_without_the_heap() {
    let payloads = Payloads::new(200, Fill::Ticks, 1).expect("a size");
    let (mut payload, mut sent, mut received) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reader, mut tools) = (Reader::default(), Tools::default());
    let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
    let mut round = |first: u64| {
        sent.clear();
        received.clear();
        for seq in first..first + BURST {
            payload.clear();
            payloads.write(Stamp { topic: 0, seq, due: seq }, &mut payload);
            client_frame(MessageKind::Text, &payload, &mut sent);
            received.extend_from_slice(encode_header(TEXT, false, payload.len() as u64).as_slice());
            received.extend_from_slice(&payload);
        }
        let mut on = |event: Event<'_>| {
            if let Event::Message(message) = event
                && let Found::Ours(stamp) = payloads.find(message)
            {
                tracker.take(stamp.seq, &mut faults);
            }
        };
        reader.feed(&received, false, &mut tools, &mut on).expect("in order");
    };
    assert_ne!(allocations(|| round(0)), 0, "the allocator counts");
    assert_eq!(allocations(|| (1..100).for_each(|i| round(i * BURST))), 0);
    assert!(tracker.received() == 100 * BURST && faults.none());
}
