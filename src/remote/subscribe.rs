//! `uproar subscribe`.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::UnknownArgumentValueParser;
use serde::Deserialize;

use super::address::{Address, WS};
use super::follow::{Follow, Place, Step};
use super::link::{Got, Link, TOKEN, Terms, random};
use super::{Error, end, secret, time};
use crate::http::route::{Route, route};
use crate::tls::trust::{Trust, client_config};

/// What it does.
pub const LONG_ABOUT: &str = "Print the messages of topics, as they are published

Each message is a line of JSON: what was published, if that is JSON; a string of it, if it is another text; a string of \
base64, if it is binary. Line breaks between the parts of a JSON text are printed as spaces.

A connection that breaks is made anew, and goes on where it was, as far as the topic's history reaches. What was lost is said \
on standard error. It goes on until it is interrupted, unless --count or --timeout ends it.";

const AFTER_HELP: &str = "\
Examples:
  uproar subscribe prices.AAPL prices.MSFT
  uproar subscribe prices.AAPL --count 1 --timeout 10s
  uproar subscribe chat.general --since 0:0              first what is kept, all of it
  uproar subscribe prices.AAPL --envelope | jq .offset
  UPROAR_TOKEN=$(cat token) uproar subscribe prices.AAPL --url wss://prices.example.org

Exit codes:
  0  ended in order                         2  bad usage
  1  the server refused it, or the time     3  there is no server there, or it did not
     was over before all of --count came       answer";

/// Time for the welcome to come, which the server sends first of all.
const WELCOME: Duration = Duration::from_secs(5);
/// Without a word from the server for so long, it is asked; and after as long again, it is taken for gone.
const SILENCE: Duration = Duration::from_secs(30);
/// Between attempts to connect anew: at first, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// The close code of a client that did what it may not (RFC 6455 section 7.4.1): coming back would not help.
const POLICY: u16 = 1008;

/// Its arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// Topics, at most 1024
    #[arg(required = true, num_args = 1..=1024, value_name = "TOPIC")]
    topics: Vec<String>,
    /// The server: ws://host:port or wss://host:port. With a path or query, those of a room; without, it is in a room of its own
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// Begin behind this place of the one topic; 0:0 is the beginning of what is kept
    #[arg(long, value_name = "EPOCH:OFFSET", value_parser = place)]
    since: Option<Place>,
    /// Print each message with its topic, epoch and offset
    #[arg(long)]
    envelope: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// Read the token to come in with from this file; without it, UPROAR_TOKEN has it if one is needed
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificates to trust, in PEM, where the URL is wss://; without it, those of public authorities
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The option of `uproar publish`: whoever gives it is told which is meant.
    #[arg(long = "admin", hide = true, value_parser = UnknownArgumentValueParser::suggest_arg("--url"))]
    _admin: Option<String>,
}

/// Why a connection is not listened to any more.
enum Ended {
    /// All is done.
    Done,
    /// The time is over.
    TimeOut,
    /// The connection is lost: in words, why.
    Lost(String),
}

/// Prints messages until it is to end. Exit codes: see its help.
pub fn run(options: &Options) -> ExitCode {
    end("subscribe", subscribe(options))
}

fn place(text: &str) -> Result<Place, String> {
    let parsed = text.rsplit_once(':').and_then(|(epoch, offset)| Some((epoch, offset.parse().ok()?)));
    match parsed {
        Some((epoch, offset)) => Ok(Place { epoch: epoch.to_owned(), offset }),
        None => Err("expected EPOCH:OFFSET, as uproar publish prints them".to_owned()),
    }
}

fn subscribe(options: &Options) -> Result<(), Error> {
    if options.since.is_some() && options.topics.len() > 1 {
        return Err(Error::Usage("--since is a place in one topic, and there are more".to_owned()));
    }
    let mut address = Address::parse("--url", &WS, &options.url)?;
    if route(address.path(), true) != Route::Json {
        let (url, path, authority) = (&options.url, address.path(), &address.authority);
        return Err(Error::Usage(format!(
            "--url {url}: {path} is no room; expected the server's address, ws://{authority}, or a room's, as \
             ws://{authority}/?room=general. The topics are arguments of their own"
        )));
    }
    if address.target == "/" {
        // Whoever connects is a member of a room: nobody else is in this one.
        address.target = format!("/?room=uproar-subscribe-{:016x}", random());
    }
    let until = options.timeout.and_then(|time| Instant::now().checked_add(time));
    let mut follow = Follow::new(&options.topics, options.since.clone(), options.envelope, options.count);
    let terms = terms(options, address)?;
    let mut link = connect(&terms)?;
    loop {
        match listen(&mut link, &mut follow, until)? {
            Ended::Done => return Ok(()),
            Ended::TimeOut => return time_is_over(&follow),
            Ended::Lost(why) => eprintln!("uproar subscribe: {why}; connecting anew"),
        }
        link = match connect_anew(&terms, until)? {
            Some(link) => link,
            None => return time_is_over(&follow),
        };
    }
}

/// How it comes in.
fn terms(options: &Options, address: Address) -> Result<Terms, Error> {
    let token = secret::find(("--token-file", options.token_file.as_deref()), TOKEN, |token| token)?;
    let tls = client_config(options.ca.as_deref().map_or(Trust::Public, Trust::File));
    Ok(Terms { address, tls: tls.map_err(|why| Error::Usage(format!("--ca {why}")))?, token })
}

fn time_is_over(follow: &Follow) -> Result<(), Error> {
    match follow.is_counting() {
        true => Err(Error::Refused("the time was over before as many messages came".to_owned())),
        false => Ok(()),
    }
}

/// What is left of the time, which may be unlimited; at most `most`. `None`: nothing.
fn left(until: Option<Instant>, most: Duration) -> Option<Duration> {
    let Some(until) = until else { return Some(most) };
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left.min(most))
}

/// Connects, and waits for the welcome. Who sends none speaks no `json`: what is sent there could be somebody's message.
fn connect(terms: &Terms) -> Result<Link, Error> {
    let mut link = Link::open(terms)?;
    let other = |what: String| {
        let Address { authority, target, .. } = &terms.address;
        Error::NoServer(format!("{authority} has no rooms and topics at {target}: {what}; is --url right?"))
    };
    let until = Instant::now().checked_add(WELCOME);
    while let Some(within) = left(until, WELCOME) {
        let got = link.receive(within).map_err(|error| other(format!("no welcome has come, but {error}")))?;
        let mut got = got.unwrap_or_default().into_iter();
        match got.next() {
            Some(Got::Message(text)) if is_welcome(&text) => {
                link.put_back(got.collect());
                return Ok(link);
            }
            Some(Got::Message(_)) => return Err(other("what came first is no welcome".to_owned())),
            Some(Got::Close(Some(POLICY))) => return Err(refused()),
            Some(Got::Close(_)) => return Err(other("it has closed without a welcome".to_owned())),
            None => {}
        }
    }
    Err(other(format!("no welcome has come within {} s", WELCOME.as_secs())))
}

fn is_welcome(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Welcome {
        r#type: String,
        #[serde(rename = "clientId")]
        _client_id: String,
    }
    serde_json::from_slice::<Welcome>(text).is_ok_and(|message| message.r#type == "connected")
}

fn refused() -> Error {
    Error::Refused("the server has closed with 1008".to_owned())
}

/// `None` if the time is over first.
///
/// # Errors
/// The server will not have it.
fn connect_anew(terms: &Terms, until: Option<Instant>) -> Result<Option<Link>, Error> {
    let [mut wait, most] = BACKOFF;
    loop {
        let Some(nap) = left(until, wait) else { return Ok(None) };
        thread::sleep(nap);
        if left(until, most).is_none() {
            return Ok(None);
        }
        match connect(terms) {
            Ok(link) => return Ok(Some(link)),
            Err(error @ Error::Refused(_)) => return Err(error),
            Err(error) => eprintln!("uproar subscribe: {error}"),
        }
        wait = most.min(wait * 2);
    }
}

/// Subscribes, and prints what comes.
fn listen(link: &mut Link, follow: &mut Follow, until: Option<Instant>) -> Result<Ended, Error> {
    let lost = |error: io::Error| Ok(Ended::Lost(format!("the connection is lost: {error}")));
    if let Err(error) = link.send(&follow.subscription()) {
        return lost(error);
    }
    let mut asked = false;
    loop {
        let Some(within) = left(until, SILENCE) else { return Ok(Ended::TimeOut) };
        let got = match link.receive(within) {
            Ok(Some(got)) => got,
            Ok(None) if within < SILENCE => continue,
            Ok(None) if asked => return Ok(Ended::Lost("the server says nothing any more".to_owned())),
            Ok(None) => {
                asked = true;
                match link.ping() {
                    Ok(()) => continue,
                    Err(error) => return lost(error),
                }
            }
            Err(error) => return lost(error),
        };
        asked = false;
        if let Some(ended) = print(got, follow, &mut io::stdout().lock())? {
            return Ok(ended);
        }
    }
}

/// Prints what came, all of it at once.
fn print(got: Vec<Got>, follow: &mut Follow, out: &mut impl Write) -> Result<Option<Ended>, Error> {
    let (mut lines, mut ended) = (Vec::new(), None);
    for got in got {
        match got {
            Got::Close(Some(POLICY)) => return Err(refused()),
            Got::Close(code) => {
                let code = code.map_or("no code".to_owned(), |code| code.to_string());
                ended = Some(Ended::Lost(format!("the server has closed with {code}")));
            }
            Got::Message(text) => match follow.take(&text) {
                Step::Quiet => {}
                Step::Line(line, note) => {
                    note.into_iter().for_each(|note| eprintln!("uproar subscribe: {note}"));
                    lines.extend(line);
                }
                Step::Note(note) => eprintln!("uproar subscribe: {note}"),
                Step::Refused(why) => return Err(Error::Refused(why)),
            },
        }
        if follow.is_over() {
            ended = Some(Ended::Done);
            break;
        }
    }
    match out.write_all(&lines).and_then(|()| out.flush()) {
        Ok(()) => Ok(ended),
        // Nobody reads any more, as behind `| head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Some(Ended::Done)),
        Err(error) => Err(Error::Usage(format!("cannot write to standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_epoch_and_an_offset() {
        assert_eq!(place("9f86d081:41"), Ok(Place { epoch: "9f86d081".into(), offset: 41 }));
        assert!(place("41").is_err() && place("e:").is_err() && place("e:-1").is_err());
    }

    #[test]
    fn only_the_servers_welcome_is_one() {
        assert!(is_welcome(br#"{"type":"connected","clientId":"c81e728d9d4c2f63","room":"general"}"#));
        for text in ["", "hello", "1", "{}", r#"{"type":"connected"}"#, r#"{"type":"chat","clientId":"a"}"#] {
            assert!(!is_welcome(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn whoever_is_not_read_any_more_is_done() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let message = br#"{"type":"message","topic":"a","epoch":"e","offset":1,"data":1}"#;
        let got = || vec![Got::Message(message.to_vec()), Got::Close(Some(1001))];
        let follow = |count| Follow::new(&["a".into()], None, false, count);
        assert!(matches!(print(got(), &mut follow(None), &mut Gone), Ok(Some(Ended::Done))));
        let mut out = Vec::new();
        assert!(matches!(print(got(), &mut follow(None), &mut out), Ok(Some(Ended::Lost(_)))));
        assert!(matches!(print(got(), &mut follow(Some(1)), &mut out), Ok(Some(Ended::Done))), "before the close");
        assert_eq!(out, b"1\n1\n");
        let refused = vec![Got::Close(Some(POLICY))];
        assert!(matches!(print(refused, &mut follow(None), &mut out), Err(Error::Refused(_))));
    }
}
