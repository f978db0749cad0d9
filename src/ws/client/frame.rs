//! Frames as a client sends them (RFC 6455 section 5.2): final and masked.

use crate::hub::frame::MessageKind;
use crate::limits::MAX_CONTROL_PAYLOAD;
use crate::ws::frame::{Control, Opcode, encode_header};
use crate::ws::mask;

/// Masks everything. It should be one that nobody can guess, for each frame (RFC 6455 section 5.3), but that protects
/// proxies from scripts in browsers, of which none is here; this makes the same work for the server, and less for us.
const KEY: [u8; 4] = [0x5a, 0xc3, 0x96, 0x2d];
/// Of the second byte: a masking key follows the length.
const MASKED: u8 = 0x80;

/// Appends the one frame of a message.
pub fn client_frame(kind: MessageKind, payload: &[u8], out: &mut Vec<u8>) {
    append(Opcode::Data(kind), payload, out);
}

/// Appends a control frame. A payload of more than 125 bytes is cut.
pub fn client_control(control: Control, payload: &[u8], out: &mut Vec<u8>) {
    append(Opcode::Control(control), &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)], out);
}

fn append(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let header = out.len();
    out.extend_from_slice(encode_header(opcode, false, payload.len() as u64).as_slice());
    out[header + 1] |= MASKED;
    out.extend_from_slice(&KEY);
    let masked = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[masked..], KEY, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::deflate::{Arena, Inflater};
    use crate::ws::message::{Compression, Decoder, Event, Settings};

    /// Decodes as the server does, and hands out the events.
    fn decode(mut bytes: &mut [u8], mut on: impl FnMut(Event<'_>)) {
        let settings = Settings { max_message: 1 << 20, max_skipped: 0, compression: Compression::Off };
        let (mut partial, mut inflater, mut arena) = (None, Inflater::new(), Arena::default());
        let mut decoder = Decoder::new(settings, &mut partial, &mut inflater, &mut arena);
        while let Some(event) = decoder.next(&mut bytes).expect("in order") {
            on(event);
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn the_server_reads_what_was_sent() {
        for len in [0, 1, 32, 125, 126, 65_535, 65_536, 100_000] {
            let sent: Vec<u8> = (0..len).map(|i| b'a' + (i % 23) as u8).collect();
            for kind in [MessageKind::Text, MessageKind::Binary] {
                let mut bytes = Vec::new();
                client_frame(kind, &sent, &mut bytes);
                client_frame(kind, &sent, &mut bytes);
                assert_ne!(bytes.last(), sent.last().or(Some(&0)), "it is masked");
                let mut count = 0;
                decode(&mut bytes, |event| {
                    let Event::Message { kind: got, payload, .. } = event else { panic!("{event:?}") };
                    assert!(got == kind && payload == sent);
                    count += 1;
                });
                assert_eq!(count, 2);
            }
        }
    }

    #[test]
    fn control_frames_are_cut_to_what_may_be() {
        let mut bytes = Vec::new();
        client_control(Control::Pong, &[7; 200], &mut bytes);
        client_control(Control::Ping, b"", &mut bytes);
        client_control(Control::Close, &1000u16.to_be_bytes(), &mut bytes);
        let mut seen = Vec::new();
        decode(&mut bytes, |event| seen.push(format!("{event:?}")));
        let pong = Event::Pong(&[7; 125]);
        let close = Event::Close { code: Some(1000), reason: "" };
        assert_eq!(seen, [pong, Event::Ping(b""), close].map(|event| format!("{event:?}")));
    }
}
