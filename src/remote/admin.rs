//! The admin listener of a server that runs: where it is, and the key that opens it.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::address::Address;
use super::http::{Request, Response, exchange};
use super::secret;

/// Time for the server to say something, which itself waits for its shards.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Where the key is, if no file has it: where the server itself looks for its own.
const VARIABLE: &str = "UPROAR_ADMIN_KEY";

/// How a command is told of it.
#[derive(clap::Args, Debug)]
pub struct AdminOptions {
    /// The server's admin listener: http://host:port or unix:/path
    #[arg(
        long = "admin",
        value_name = "URL",
        env = "UPROAR_ADMIN",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8081"
    )]
    pub url: String,
    /// Read the server's admin_key from this file; without it, UPROAR_ADMIN_KEY has it if it is needed
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
}

impl AdminOptions {
    /// The listener that they mean.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn admin(&self) -> Result<Admin, Error> {
        // A server that changes its key takes the old and the new one for a while.
        let first = |keys: String| keys.split(',').next().unwrap_or_default().trim().to_owned();
        let key = secret::find(("--admin-key-file", self.admin_key_file.as_deref()), VARIABLE, first)?;
        Ok(Admin { place: Place::parse(&self.url)?, key })
    }

    /// There is no server, or it cannot be spoken with.
    pub fn no_server(&self, error: &io::Error) -> Error {
        let url = &self.url;
        let hint = "is the server running, and its admin listener there? --admin or UPROAR_ADMIN says where to ask";
        Error::NoServer(format!("no answer from {url}: {error}; {hint}"))
    }
}

/// The listener.
pub struct Admin {
    place: Place,
    key: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// At a URL.
    Tcp(Address),
    /// At a socket in the file system.
    Unix(PathBuf),
}

impl Admin {
    /// Posts JSON.
    pub fn post(&self, path: &str, body: &[u8]) -> io::Result<Response> {
        self.ask(&format!("POST {path}"), Some(body))
    }

    /// Gets what is there.
    pub fn get(&self, path: &str) -> io::Result<Response> {
        self.ask(&format!("GET {path}"), None)
    }

    fn ask(&self, line: &str, body: Option<&[u8]>) -> io::Result<Response> {
        let request = |host| Request { host, line, key: self.key.as_deref(), body };
        match &self.place {
            Place::Tcp(address) => {
                let stream = address.connect()?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                exchange(stream, request(&address.authority))
            }
            Place::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                exchange(stream, request("localhost"))
            }
        }
    }
}

impl Place {
    /// `http://host:port`, or `unix:/path`.
    fn parse(text: &str) -> Result<Place, Error> {
        let wrong =
            || Error::Usage(format!("--admin (UPROAR_ADMIN) {text:?}: expected http://host:port or unix:/path"));
        match text.strip_prefix("unix:") {
            Some("") => Err(wrong()),
            Some(path) => Ok(Place::Unix(path.into())),
            None => {
                let address = Address::parse("--admin", &[("http", 80)], text).map_err(|_| wrong())?;
                if address.target == "/" { Ok(Place::Tcp(address)) } else { Err(wrong()) }
            }
        }
    }
}

/// What the server says of something that it refuses.
#[derive(Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What the server at `url` answers, if it does what it was asked for.
///
/// # Errors
/// It refuses, or this is no server of ours.
pub fn judge<T: DeserializeOwned>(answer: &Response, url: &str) -> Result<T, Error> {
    let other = |what: &str| {
        let hint =
            "--admin, or UPROAR_ADMIN, names what the server's admin_listen is, by default http://127.0.0.1:8081";
        Error::NoServer(format!("{url} is no admin listener of uproar: it answers {what}; {hint}"))
    };
    if (200..300).contains(&answer.status) {
        return serde_json::from_slice(&answer.body).map_err(|_| other("something else"));
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Problem { code, message }) if answer.status == 401 => {
            Err(Error::Refused(format!("{message}; it is taken from {VARIABLE}, or --admin-key-file ({code})")))
        }
        Ok(Problem { code, message }) => Err(Error::Refused(format!("{message} ({code})"))),
        Err(_) => Err(other(&answer.status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_url_or_a_path() {
        assert_eq!(Place::parse("unix:/run/x"), Ok(Place::Unix("/run/x".into())));
        assert!(matches!(Place::parse("http://[::1]:8081/"), Ok(Place::Tcp(_))));
        assert!(matches!(Place::parse("127.0.0.1:8081"), Ok(Place::Tcp(_))));
        for text in ["", "unix:", "/run/x", "https://x", "http://x/y", "ws://x"] {
            assert!(matches!(Place::parse(text), Err(Error::Usage(_))), "{text}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let judged = |status, body: &str| judge::<u64>(&Response { status, body: body.into() }, "x");
        assert_eq!((judged(200, "7"), judged(202, "7")), (Ok(7), Ok(7)));
        let refused = r#"{"code":"bad_topic","message":"no"}"#;
        assert_eq!(judged(400, refused), Err(Error::Refused("no (bad_topic)".into())));
        let keyless = judged(401, r#"{"code":"unauthorized","message":"a key"}"#);
        assert!(keyless.is_err_and(|error| error.to_string().contains(VARIABLE)));
        assert!(matches!(judged(200, "hello"), Err(Error::NoServer(_))));
        assert!(matches!(judged(502, "<html>"), Err(Error::NoServer(_))));
    }
}
