//! What the server adds to a message that it passes on: who sent it, and when.

use std::io::Write as _;
use std::ops::Range;

use super::ids::ClientId;
use super::text::Quoted;

/// Bytes that [`signed`] adds at most.
pub(super) const SIGNATURE_BYTES: usize = r#","from":"0123456789abcdef","timestamp":18446744073709551615}"#.len();

/// The message of a relayed object: with its sender, with the time if there is one (milliseconds since 1970), and closed.
pub fn signed(mut object: Vec<u8>, from: u64, timestamp: Option<u64>) -> Vec<u8> {
    let comma = if object.trim_ascii_end() == b"{" { "" } else { "," };
    // Writing to a vector does not fail.
    let _ = write!(object, r#"{comma}"from":"{}""#, ClientId(from));
    if let Some(timestamp) = timestamp {
        let _ = write!(object, r#","timestamp":{timestamp}"#);
    }
    object.push(b'}');
    object
}

/// The message of an object that is handed to a backend: with its sender's name, room and user, with the time, and closed.
pub fn placed(mut object: Vec<u8>, client: u64, room: &str, user: Option<&str>, timestamp: u64) -> Vec<u8> {
    let comma = if object.trim_ascii_end() == b"{" { "" } else { "," };
    // Writing to a vector does not fail.
    let _ = write!(object, r#"{comma}"clientId":"{}","room":{}"#, ClientId(client), Quoted(room));
    if let Some(user) = user {
        let _ = write!(object, r#","user":{}"#, Quoted(user));
    }
    let _ = write!(object, r#","timestamp":{timestamp}}}"#);
    object
}

/// An object, which lacks its closing brace, without the members that stand at `cuts` (in order, each from behind the `{`
/// or `,` before it to the `,` behind it or the object's end). Room is left for [`signed`].
pub(super) fn without(object: &[u8], cuts: impl Iterator<Item = Range<usize>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + SIGNATURE_BYTES);
    let mut rest = 0;
    for cut in cuts {
        out.extend_from_slice(object.get(rest..cut.start).unwrap_or_default());
        // A comma goes with it: the one before it, or where nothing is before it but the `{`, the one behind it.
        let is_first = out.len() == 1;
        if !is_first {
            out.pop();
        }
        rest = cut.end + usize::from(is_first);
    }
    out.extend_from_slice(object.get(rest..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_goes_with_each_member() {
        let cases: [(&[(usize, usize)], &str); 8] = [
            (&[], "{aa,b , cc"),
            (&[(1, 3)], "{b , cc"),
            (&[(4, 6)], "{aa, cc"),
            (&[(7, 10)], "{aa,b "),
            (&[(1, 3), (4, 6)], "{ cc"),
            (&[(4, 6), (7, 10)], "{aa"),
            (&[(1, 3), (7, 10)], "{b "),
            (&[(1, 3), (4, 6), (7, 10)], "{"),
        ];
        for (cuts, expected) in cases {
            let out = without(b"{aa,b , cc", cuts.iter().map(|&(start, end)| start..end));
            assert_eq!(out, expected.as_bytes(), "{cuts:?}");
        }
    }

    #[test]
    fn the_first_member_has_no_comma_before_it() {
        for (object, expected) in [
            ("{", r#"{"from":"00000000000000ff"}"#),
            ("{ \n", "{ \n\"from\":\"00000000000000ff\"}"),
            ("{\"a\":{} ", "{\"a\":{} ,\"from\":\"00000000000000ff\"}"),
        ] {
            assert_eq!(signed(object.into(), 255, None), expected.as_bytes());
        }
    }

    #[test]
    fn a_backend_is_told_who_and_where() {
        for (object, user, expected) in [
            ("{", None, r#"{"clientId":"00000000000000ff","room":"a\"b","timestamp":7}"#),
            (
                r#"{"x":1"#,
                Some("ann"),
                r#"{"x":1,"clientId":"00000000000000ff","room":"a\"b","user":"ann","timestamp":7}"#,
            ),
        ] {
            let placed = placed(object.into(), 255, "a\"b", user, 7);
            assert_eq!(String::from_utf8_lossy(&placed), expected);
        }
    }

    #[test]
    fn there_is_room_for_the_signature() {
        let object = without(b"{\"a\":1", std::iter::empty());
        let (len, capacity) = (object.len(), object.capacity());
        let signed = signed(object, u64::MAX, Some(u64::MAX));
        assert_eq!(signed.len(), len + SIGNATURE_BYTES);
        assert_eq!(signed.capacity(), capacity);
    }
}
