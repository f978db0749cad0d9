//! Where a server is.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use http::Uri;

use super::Error;

/// The schemes of WebSockets (RFC 6455 section 3).
pub const WS: [(&str, u16); 2] = [("ws", 80), ("wss", 443)];
/// Time for a connection to be made.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A URL, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Host and port as the URL has them.
    pub authority: String,
    host: String,
    port: u16,
    /// Path and query; `/` if there is none.
    pub target: String,
    /// Whether it is spoken to over TLS: `wss` or `https`.
    pub is_secure: bool,
}

impl Address {
    /// Of a URL of one of these schemes, each with the port that goes without saying; the first may be left out.
    ///
    /// # Errors
    /// [`Error::Usage`]; `option` is where the URL was given.
    pub fn parse(option: &str, schemes: &[(&str, u16)], url: &str) -> Result<Address, Error> {
        let forms: Vec<_> = schemes.iter().map(|(scheme, _)| format!("{scheme}://host:port")).collect();
        let wrong = || Error::Usage(format!("{option} {url}: expected {}", forms.join(" or ")));
        let first = schemes.first().map_or("", |(scheme, _)| scheme);
        let whole = if url.contains("://") { url.to_owned() } else { format!("{first}://{url}") };
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let scheme = schemes.iter().find(|(scheme, _)| uri.scheme_str() == Some(scheme));
        let &(scheme, usual) = scheme.ok_or_else(wrong)?;
        let authority = uri.authority().ok_or_else(wrong)?;
        // What follows the host, if anything does.
        let port = authority.as_str().strip_prefix(authority.host()).ok_or_else(wrong)?.strip_prefix(':');
        let port = port.map_or(Ok(usual), str::parse).map_err(|_| wrong())?;
        if authority.host().is_empty() {
            return Err(wrong());
        }
        Ok(Address {
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            is_secure: matches!(scheme, "wss" | "https"),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }

    /// What the target has before its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The host, without the brackets of an address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A connection to the first of the host's addresses that takes one.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut failed = io::Error::other("the host has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parsed = |scheme, url| match scheme {
            "ws" => Address::parse("--url", &WS, url),
            _ => Address::parse("--admin", &[("http", 80)], url),
        };
        let address = parsed("ws", "ws://[::1]:9000/chat?room=a%20b").expect("a URL");
        assert_eq!((&*address.host, address.port), ("::1", 9000));
        assert_eq!((&*address.authority, &*address.target), ("[::1]:9000", "/chat?room=a%20b"));
        let address = parsed("http", "http://localhost").expect("a URL");
        assert_eq!((&*address.host, address.port, &*address.target), ("localhost", 80, "/"));
        let address = parsed("ws", "127.0.0.1:8080").expect("a URL");
        assert_eq!((&*address.host, address.port, &*address.target), ("127.0.0.1", 8080, "/"));
        assert!(!address.is_secure);
        let address = parsed("ws", "wss://example.org/chat").expect("a URL");
        assert!((address.port, address.is_secure, address.host()) == (443, true, "example.org"));
        let address = parsed("ws", "localhost/chat?room=a").expect("a URL");
        assert_eq!((address.port, address.path(), &*address.target), (80, "/chat", "/chat?room=a"));
        for url in ["", "/raw", "http://localhost", "wsss://localhost", "ws://", "ws://a@b", "ws://a:99999", "a:b:c"] {
            let error = parsed("ws", url).expect_err("no URL of a WebSocket");
            assert_eq!(error, Error::Usage(format!("--url {url}: expected ws://host:port or wss://host:port")));
        }
    }
}
