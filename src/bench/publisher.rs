//! From a stamp to the bytes that publish it.

use std::sync::Arc;

use crate::hub::frame::MessageKind;
use crate::ws::client::frame::client_frame;

use super::message::{Payloads, Stamp};
use super::target::Target;

/// Writes publications as the server is to get them: a stamped payload, in the target's template, in a client's frame.
/// Which number a message has, [`super::judge::Judge::next`] tells.
pub struct Publisher {
    target: Arc<Target>,
    payloads: Payloads,
    kind: MessageKind,
    /// Lent to each publication.
    payload: Vec<u8>,
    message: Vec<u8>,
}

impl Publisher {
    /// Of such payloads, for a target.
    pub fn new(target: Arc<Target>, payloads: Payloads) -> Publisher {
        let kind = if target.publishes_text() { MessageKind::Text } else { MessageKind::Binary };
        Publisher { target, payloads, kind, payload: Vec::new(), message: Vec::new() }
    }

    /// Appends the frame of one publication.
    pub fn write(&mut self, stamp: Stamp, out: &mut Vec<u8>) {
        let Publisher { target, payloads, kind, payload, message } = self;
        payload.clear();
        message.clear();
        payloads.write(stamp, payload);
        target.publication(stamp.topic, payload, message);
        client_frame(*kind, message, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::message::Found;
    use crate::bench::options::{Common, Fill};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        common: Common,
    }

    /// The frames of two publications, one after the other.
    fn frames(options: &[&str], payloads: &Payloads) -> [Vec<u8>; 2] {
        let common = Line::parse_from([&["bench"], options].concat()).common;
        let target = Arc::new(Target::new(&common).expect("options in order"));
        let mut publisher = Publisher::new(target, payloads.clone());
        [3, 4].map(|seq| {
            let mut frame = Vec::new();
            publisher.write(Stamp { topic: 7, seq, due: 5 }, &mut frame);
            frame
        })
    }

    /// The payload of a client's frame of less than 126 bytes.
    fn unmasked(frame: &[u8]) -> Vec<u8> {
        assert_eq!(usize::from(frame[1] & 0x7f) + 6, frame.len());
        frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    #[test]
    fn a_publication_is_its_payload_in_the_template_in_a_frame() {
        let payloads = Payloads::new(40, Fill::Ticks, 1).expect("a size in order");
        let (binary, text) = (0x82, 0x81);
        for (options, first, envelope) in [
            (&[][..], binary, ("", "")),
            (&["--text"], text, ("", "")),
            (&["--publish", "{topic}<{payload}>"], text, ("t7<", ">")),
        ] {
            for (seq, frame) in (3..).zip(frames(options, &payloads)) {
                let message = unmasked(&frame);
                assert_eq!((frame[0], message.len()), (first, 40 + envelope.0.len() + envelope.1.len()));
                assert!(message.starts_with(envelope.0.as_bytes()) && message.ends_with(envelope.1.as_bytes()));
                assert_eq!(payloads.find(&message), Found::Ours(Stamp { topic: 7, seq, due: 5 }));
            }
        }
    }
}
