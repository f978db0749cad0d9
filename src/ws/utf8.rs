//! UTF-8 of a text message that arrives in pieces (RFC 6455 section 8.1).

use simdutf8::compat;

/// The bytes so far begin no UTF-8 text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid UTF-8")]
pub struct InvalidUtf8;

/// Validates a text piece by piece, and fails with the first byte after which no text is possible.
#[derive(Clone, Copy, Default, Debug)]
pub struct Validator {
    /// The code point that the pieces so far end in the middle of.
    partial: [u8; 3],
    len: u8,
}

impl Validator {
    /// Takes the next piece.
    ///
    /// # Errors
    /// All pieces so far, joined, are not the beginning of any UTF-8 text. The validator is of no further use then.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let rest = self.complete(piece)?;
        match compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                let tail = &rest[error.valid_up_to()..];
                self.partial[..tail.len()].copy_from_slice(tail);
                self.len = tail.len() as u8;
                Ok(())
            }
        }
    }

    /// Ends the text.
    ///
    /// # Errors
    /// It ends in the middle of a code point.
    pub fn finish(self) -> Result<(), InvalidUtf8> {
        if self.len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Completes the code point that earlier pieces began, and returns what follows it in `piece`.
    fn complete<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        let began = usize::from(self.len);
        if began == 0 {
            return Ok(piece);
        }
        let mut point = [0; 4];
        point[..began].copy_from_slice(&self.partial[..began]);
        for (i, &byte) in piece.iter().enumerate() {
            let end = began + i + 1;
            point[end - 1] = byte;
            match std::str::from_utf8(&point[..end]) {
                Ok(_) => {
                    self.len = 0;
                    return Ok(&piece[i + 1..]);
                }
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                // Still a beginning, so `end` is at most 3.
                Err(_) => {
                    self.partial[end - 1] = byte;
                    self.len = end as u8;
                }
            }
        }
        Ok(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many bytes a validator takes, one at a time, before it fails.
    fn fails_at(bytes: &[u8]) -> Option<usize> {
        let mut validator = Validator::default();
        bytes.iter().position(|byte| validator.push(std::slice::from_ref(byte)).is_err())
    }

    fn validate<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), InvalidUtf8> {
        let mut validator = Validator::default();
        for piece in pieces {
            validator.push(piece)?;
        }
        validator.finish()
    }

    /// Whether any text begins with `prefix`, found out the naive way: by trying continuations.
    fn extendable(prefix: &[u8]) -> bool {
        let boundaries = [0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf];
        let mut tried = vec![prefix.to_vec()];
        for _ in 0..4 {
            if tried.iter().any(|bytes| std::str::from_utf8(bytes).is_ok()) {
                return true;
            }
            tried = tried.iter().flat_map(|t| boundaries.map(|b| [t, &[b][..]].concat())).collect();
        }
        false
    }

    #[test]
    fn fails_as_soon_as_no_text_is_possible() {
        for (bytes, at) in [
            (&b"\xc0\xaf"[..], 0),
            (b"\xe0\x80\xaf", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xf0\x8f", 1),
            (b"ok\xf0\x9f\x98\xc0", 5),
            (b"\x80", 0),
            (b"\xf5", 0),
        ] {
            assert_eq!(fails_at(bytes), Some(at), "{bytes:x?}");
        }
    }

    #[test]
    fn all_three_byte_strings_of_boundary_bytes_fail_when_the_naive_search_says() {
        let bytes = [
            0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef,
            0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        for a in bytes {
            for b in bytes {
                for c in bytes {
                    let text = [a, b, c];
                    let naive = (1..=3).find(|&end| !extendable(&text[..end])).map(|end| end - 1);
                    assert_eq!(fails_at(&text), naive, "{text:x?}");
                }
            }
        }
    }

    /// Mostly text, with now and then a byte that spoils it.
    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        let spoilt = (any::<String>(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
            let mut bytes = text.into_bytes();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
        prop_oneof![any::<String>().prop_map(String::into_bytes), spoilt]
    }

    proptest! {
        #[test]
        fn agrees_with_std_for_any_split(bytes in nearly_text(), sizes in proptest::collection::vec(0usize..7, 0..40)) {
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for size in sizes {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(validate(pieces).is_ok(), std::str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn fails_at_the_byte_that_std_names(bytes in nearly_text()) {
            let expected = std::str::from_utf8(&bytes).err().filter(|e| e.error_len().is_some()).map(|e| e.valid_up_to());
            let at = fails_at(&bytes);
            prop_assert_eq!(at.is_some(), expected.is_some());
            if let (Some(at), Some(valid)) = (at, expected) {
                prop_assert!(extendable(&bytes[valid..at]) && !extendable(&bytes[valid..=at]));
            }
        }
    }
}
