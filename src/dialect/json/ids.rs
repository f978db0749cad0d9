//! How numbers that clients are not to calculate with are spelled: as hexadecimal digits, in a string.

use std::fmt;

/// Offsets stay below what every JSON parser keeps exactly.
pub const MAX_OFFSET: u64 = (1 << 53) - 1;

/// A client's id on the wire: 16 lower-case hexadecimal digits.
pub(super) struct ClientId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A topic's epoch on the wire: 8 lower-case hexadecimal digits.
pub(in crate::dialect) struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A client's id as others see it: 16 lower-case hexadecimal digits.
pub fn client_id_text(client: u64) -> String {
    ClientId(client).to_string()
}

/// The client of that id; `None` for what [`client_id_text`] never writes.
pub fn parse_client_id(text: &str) -> Option<u64> {
    hexadecimal(text, 16)
}

/// A topic's epoch as clients see it: 8 lower-case hexadecimal digits.
pub fn epoch_text(epoch: u32) -> String {
    Epoch(epoch).to_string()
}

/// The epoch that is written so; `None` for what is written of none.
pub fn parse_epoch(text: &str) -> Option<u32> {
    u32::try_from(hexadecimal(text, 8)?).ok()
}

/// Exactly so many digits, in lower case: one spelling for one number.
fn hexadecimal(text: &str, digits: usize) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}
