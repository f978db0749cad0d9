//! Where a server is.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use http::Uri;

use super::Error;

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
}

impl Address {
    /// Of a URL of this scheme, `ws` or `http`, which may be left out.
    ///
    /// # Errors
    /// [`Error::Usage`]; `option` is where the URL was given.
    pub fn parse(option: &str, scheme: &str, url: &str) -> Result<Address, Error> {
        let wrong = || Error::Usage(format!("{option} {url}: expected {scheme}://host:port"));
        let whole = if url.contains("://") { url.to_owned() } else { format!("{scheme}://{url}") };
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some(scheme)).ok_or_else(wrong)?;
        // What follows the host, if anything does.
        let port = authority.as_str().strip_prefix(authority.host()).ok_or_else(wrong)?.strip_prefix(':');
        let port = port.map_or(Ok(80), str::parse).map_err(|_| wrong())?;
        if authority.host().is_empty() {
            return Err(wrong());
        }
        Ok(Address {
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }

    /// What the target has before its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
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
        let parsed = |scheme, url| Address::parse("--url", scheme, url);
        let address = parsed("ws", "ws://[::1]:9000/chat?room=a%20b").expect("a URL");
        assert_eq!((&*address.host, address.port), ("::1", 9000));
        assert_eq!((&*address.authority, &*address.target), ("[::1]:9000", "/chat?room=a%20b"));
        let address = parsed("http", "http://localhost").expect("a URL");
        assert_eq!((&*address.host, address.port, &*address.target), ("localhost", 80, "/"));
        let address = parsed("ws", "127.0.0.1:8080").expect("a URL");
        assert_eq!((&*address.host, address.port, &*address.target), ("127.0.0.1", 8080, "/"));
        let address = parsed("ws", "localhost/chat?room=a").expect("a URL");
        assert_eq!((address.port, address.path(), &*address.target), (80, "/chat", "/chat?room=a"));
        for url in ["", "/raw", "http://localhost", "wss://localhost", "ws://", "ws://a@b", "ws://a:99999", "a:b:c"] {
            let error = parsed("ws", url).expect_err("no URL of a WebSocket");
            assert_eq!(error, Error::Usage(format!("--url {url}: expected ws://host:port")));
        }
    }
}
