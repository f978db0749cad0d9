//! Masking of client frames (RFC 6455 section 5.3).

/// XORs `bytes` in place with `key`, where `bytes` begins `offset` bytes into the frame's payload.
///
/// Masking and unmasking are the same operation. It runs at the speed of memory: the loop over words is one that the
/// compiler turns into vector instructions.
#[inline]
pub fn apply(bytes: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset % 4);
    let mask = u32::from_ne_bytes(key);
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(key) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &mut [u8], key: [u8; 4], offset: usize) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[(offset + i) % 4];
        }
    }

    #[test]
    fn the_example_of_rfc_6455_section_5_7() {
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut bytes, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&bytes, b"Hello");
    }

    #[test]
    fn every_alignment_short_length_and_offset_agrees_with_the_naive_loop() {
        let source: Vec<u8> = (0..200u8).collect();
        let key = [0x01, 0x80, 0xfe, 0x5a];
        for start in 0..32 {
            for len in 0..=101 {
                for offset in 0..5 {
                    let (mut fast, mut slow) = (source.clone(), source.clone());
                    apply(&mut fast[start..start + len], key, offset);
                    naive(&mut slow[start..start + len], key, offset);
                    assert_eq!(fast, slow, "start {start} len {len} offset {offset}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_of_a_payload_is_masked_as_the_whole(
            payload in proptest::collection::vec(any::<u8>(), 0..2000),
            key: [u8; 4],
            at in any::<proptest::sample::Index>(),
        ) {
            let at = at.index(payload.len() + 1);
            let (mut whole, mut parts) = (payload.clone(), payload);
            naive(&mut whole, key, 0);
            let (head, tail) = parts.split_at_mut(at);
            apply(head, key, 0);
            apply(tail, key, at);
            prop_assert_eq!(whole, parts);
        }
    }
}
