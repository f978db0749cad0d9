// What proxies say of whom they speak for: PROXY headers, and lists of addresses in fields of a request.

use std::net::IpAddr;

use uproar::conn::proxy::{MAX_HEADER_BYTES, parse};
use uproar::http::forwarded::client;
use uproar::http::request;

/// Reads `bytes` as a PROXY header, whole and in every prefix, and as the value of `X-Forwarded-For` and of `Forwarded`; panics
/// where a property does not hold.
pub fn proxy(bytes: &[u8]) {
    let whole = parse(bytes);
    let settled = (0..bytes.len()).find(|&len| parse(&bytes[..len]) != Ok(None)).unwrap_or(bytes.len());
    for len in settled..bytes.len() {
        assert_eq!(parse(&bytes[..len]), whole, "at {len}");
    }
    match whole {
        Ok(Some(header)) => assert!((8..=MAX_HEADER_BYTES).contains(&header.len) && header.len <= bytes.len()),
        Ok(None) => assert!(bytes.len() < MAX_HEADER_BYTES),
        Err(_) => {}
    }
    for (name, address) in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")] {
        listed(name, bytes, address);
    }
}

/// A list that a client wrote, alone and with what a proxy appends.
fn listed(name: &str, list: &[u8], address: &str) {
    let is_trusted = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[0] == 10);
    let with = |value: &[u8]| [b"GET / HTTP/1.1\r\nHost: a\r\n", name.as_bytes(), b": ", value, b"\r\n\r\n"].concat();
    let head = with(list);
    if let Ok(Some(request)) = request::parse(&head, usize::MAX) {
        let _ = client(&request, is_trusted);
        if request.headers().len() == 2 && request.head_len == head.len() {
            let appended = with(&[list, b", ", address.as_bytes()].concat());
            let request = request::parse(&appended, usize::MAX).expect("as good as before").expect("and as whole");
            assert_eq!(client(&request, is_trusted), Ok(Some(IpAddr::from([192, 0, 2, 1]))));
        }
    }
}
