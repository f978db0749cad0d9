//! Addresses that the server itself asks: of a set of keys, of a hook.

use std::net::IpAddr;

use http::Uri;

use super::value::Grammar;

/// Bytes of an address.
const MAX_URL_BYTES: usize = 2048;

/// An address of HTTP.
pub(super) struct Url;

impl Grammar for Url {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, &'static str> {
        if text.len() > MAX_URL_BYTES {
            return Err("has more than 2048 bytes");
        }
        let uri: Uri = text.parse().map_err(|_| "is no address")?;
        let host = uri.host().unwrap_or_default();
        match uri.scheme_str() {
            Some("http" | "https") if host.is_empty() => Err("has no host"),
            // It would be shown with the address, and is sent in no header.
            Some("http" | "https") if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
                Err("has a name or a password in it")
            }
            Some("http" | "https") => Ok(text.into()),
            _ => Err("begins with neither http:// nor https://"),
        }
    }

    fn show(&self, value: &String) -> String {
        public_url(value)
    }

    /// Of one with an `@`, hardly anything: somewhere before that, or behind it, there is a password.
    fn quote(&self, text: &str) -> String {
        match text.split_once("://") {
            _ if !text.contains('@') => format!("{:?}", public_url(text)),
            Some((scheme @ ("http" | "https"), _)) => format!("\"{scheme}://…@…\""),
            _ => "\"…@…\"".into(),
        }
    }

    fn range(&self) -> String {
        "http://… or https://…".into()
    }

    fn form(&self) -> (&'static str, &'static str) {
        ("URL", "")
    }
}

/// An address as it may be shown: without its query, in which there may be a key.
pub(crate) fn public_url(url: &str) -> String {
    match url.split_once('?') {
        Some((address, _)) => format!("{address}?…"),
        None => url.into(),
    }
}

/// Whether what is sent to an address, and comes from it, can be read and changed on its way: it is not encrypted, and leaves
/// this machine.
pub(super) fn is_open_to_others(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    uri.scheme_str() == Some("http") && !is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_http_and_has_a_host_and_no_password() {
        for (text, problem) in [
            ("http://127.0.0.1:9000/hook?a=b", None),
            ("https://auth.example.org", None),
            ("HTTP://host/", None),
            ("http://[::1]:8000/", None),
            ("ftp://host/", Some("neither")),
            ("/hook", Some("neither")),
            ("host:80", Some("neither")),
            ("http://", Some("no address")),
            ("http://:80/", Some("")),
            ("http://user:secret@host/", Some("password")),
            ("http://ho st/", Some("no address")),
            ("", Some("no address")),
        ] {
            let parsed = Url.parse(text);
            assert_eq!(parsed.is_ok(), problem.is_none(), "{text}: {parsed:?}");
            assert!(parsed.is_ok() || parsed.is_err_and(|why| why.contains(problem.unwrap_or_default())), "{text}");
        }
        assert!(Url.parse(&format!("http://host/{}", "a".repeat(MAX_URL_BYTES))).is_err());
    }

    #[test]
    fn what_may_be_a_key_is_not_shown() {
        for (url, shown) in [
            ("https://issuer/jwks.json", "https://issuer/jwks.json"),
            ("https://issuer/jwks.json?key=abc", "https://issuer/jwks.json?…"),
            ("https://issuer?", "https://issuer?…"),
        ] {
            assert_eq!(Url.show(&url.into()), shown);
        }
        for (text, quoted) in [
            ("ftp://host/", "\"ftp://host/\""),
            ("ftp://host/?key=abc", "\"ftp://host/?…\""),
            ("http://user:abc@host/", "\"http://…@…\""),
            ("https://user:a?b@c/d@host/", "\"https://…@…\""),
            ("user:abc@host/", "\"…@…\""),
        ] {
            assert_eq!(Url.quote(text), quoted);
        }
    }

    #[test]
    fn what_leaves_the_machine_in_the_open_is_known() {
        for (url, open) in [
            ("http://10.0.0.1/", true),
            ("http://auth.internal:80/hook", true),
            ("http://localhost.example.org/", true),
            ("http://[2001:db8::1]/", true),
            ("https://auth.internal/", false),
            ("http://127.0.0.1:9000/", false),
            ("http://127.1.2.3/", false),
            ("http://[::1]/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://LOCALHOST:1/", false),
        ] {
            assert_eq!(is_open_to_others(url), open, "{url}");
        }
    }
}
