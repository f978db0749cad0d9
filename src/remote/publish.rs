//! `uproar publish`.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::builder::UnknownArgumentValueParser;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::admin::{AdminOptions, Problem, judge};
use super::{Error, end};
use crate::limits::MAX_MESSAGE_BYTES;

/// What it does.
pub const LONG_ABOUT: &str = "Publish a message to a topic of a server that runs

It is published over the server's admin listener, so from where that may be reached. Printed is where in the topic the \
message is: EPOCH OFFSET. When it is printed, the message is ordered, and every subscriber gets it that reads.";

/// Where it is published.
const PATH: &str = "/batch";

const AFTER_HELP: &str = "\
Examples:
  uproar publish prices.AAPL 189.1
  uproar publish prices.AAPL '{\"bid\":189.1}' --id tick-1
  date | uproar publish notices --text -
  uproar publish prices.AAPL 189.1 --admin unix:/run/uproar/admin.sock

Exit codes:
  0  published                2  bad usage
  1  the server refused it    3  there is no server there, or it did not answer";

/// Its arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// The topic, 1 to 256 bytes
    topic: String,
    /// JSON, which subscribers receive as it is spelled; - reads it from standard input, to its end
    #[arg(allow_negative_numbers = true)]
    data: String,
    /// DATA is any text, and subscribers receive that
    #[arg(long)]
    text: bool,
    /// The same again under this id, to the same topic within the server's ack_window, is not published again
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    admin: AdminOptions,
    /// The option of `uproar subscribe`: whoever gives it is told which is meant.
    #[arg(long = "url", hide = true, value_parser = UnknownArgumentValueParser::suggest_arg("--admin"))]
    _url: Option<String>,
}

/// What is posted: to `/batch`, which no listener has but the admin's. What is posted to `/publish` of another is published
/// too, by other rules.
#[derive(Serialize)]
struct Batch<'a> {
    messages: [Request<'a>; 1],
}

/// The message.
#[derive(Serialize)]
struct Request<'a> {
    topic: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// What became of it.
#[derive(Deserialize)]
struct Results {
    results: [Outcome; 1],
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Outcome {
    Placed(Place),
    Refused(Problem),
}

#[derive(Deserialize)]
struct Place {
    epoch: String,
    offset: u64,
}

/// Publishes, and prints where the message is. Exit codes: see its help.
pub fn run(options: &Options) -> ExitCode {
    end("publish", publish(options))
}

fn publish(options: &Options) -> Result<(), Error> {
    let admin = options.admin.admin()?;
    let data = match options.data.as_str() {
        "-" => read_all(io::stdin().lock())?,
        data => data.to_owned(),
    };
    let body = body(options, data)?;
    let answer = admin.post(PATH, &body).map_err(|error| options.admin.no_server(&error))?;
    let place = placed(judge(&answer, &options.admin.url)?)?;
    // It is published, whether or not anybody reads where.
    let _ = writeln!(io::stdout(), "{} {}", place.epoch, place.offset);
    Ok(())
}

fn read_all(input: impl Read) -> Result<String, Error> {
    let mut text = String::new();
    let read = input.take(MAX_MESSAGE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Error::Usage(format!("cannot read standard input: {error}")))?;
    if text.len() as u64 > MAX_MESSAGE_BYTES {
        return Err(Error::Usage(format!("standard input has more than {MAX_MESSAGE_BYTES} bytes")));
    }
    Ok(text)
}

fn body(options: &Options, data: String) -> Result<Vec<u8>, Error> {
    let not_json = |error: serde_json::Error| {
        Error::Usage(format!("DATA is not JSON: {error}; a string has quotes of its own, and --text takes any text"))
    };
    let data = match options.text {
        true => serde_json::value::to_raw_value(&data),
        false => serde_json::from_str::<Box<RawValue>>(&data),
    };
    let (topic, id) = (options.topic.as_str(), options.id.as_deref());
    let encoding = options.text.then_some("text");
    let request = Request { topic, data: &data.map_err(not_json)?, encoding, id };
    serde_json::to_vec(&Batch { messages: [request] }).map_err(not_json)
}

/// Where it is, if it was published.
fn placed(Results { results: [outcome] }: Results) -> Result<Place, Error> {
    match outcome {
        Outcome::Placed(place) => Ok(place),
        Outcome::Refused(Problem { code, message }) => Err(Error::Refused(format!("{message} ({code})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::http::Response;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn posted(args: &[&str]) -> Result<String, Error> {
        let options = Line::parse_from([&["publish"], args].concat()).options;
        let data = options.data.clone();
        body(&options, data).map(|body| String::from_utf8(body).expect("text"))
    }

    #[test]
    fn data_is_posted_as_it_is_spelled() {
        assert_eq!(
            posted(&["t", "{ \"a\":1.0 }"]).as_deref(),
            Ok(r#"{"messages":[{"topic":"t","data":{ "a":1.0 }}]}"#)
        );
        assert_eq!(posted(&["t", "-5"]).as_deref(), Ok(r#"{"messages":[{"topic":"t","data":-5}]}"#));
        let text = r#"{"messages":[{"topic":"t","data":"say \"x\"","encoding":"text","id":"7"}]}"#;
        assert_eq!(posted(&["t", "--text", "say \"x\"", "--id", "7"]).as_deref(), Ok(text));
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for data in ["", "hello", "{", "1,\"id\":2", "1 2"] {
            let error = posted(&["t", data]).expect_err("it is no JSON");
            assert!(error.to_string().contains("--text") && error.exit_code() == 2, "{data}: {error}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let placed = |results: &str| placed(serde_json::from_str(results).expect("results")).map(|place| place.offset);
        assert_eq!(placed(r#"{"results":[{"topic":"t","epoch":"0a","offset":7}]}"#), Ok(7));
        let refused = r#"{"results":[{"topic":"","code":"bad_topic","message":"no"}]}"#;
        assert_eq!(placed(refused), Err(Error::Refused("no (bad_topic)".into())));
        let other = Response { status: 200, body: br#"{"topic":"t","epoch":"0a","offset":7}"#.to_vec() };
        assert!(matches!(judge::<Results>(&other, "x"), Err(Error::NoServer(_))), "the public listener's");
    }

    #[test]
    fn standard_input_is_text() {
        assert_eq!(read_all(&b"a\n"[..]).as_deref(), Ok("a\n"));
        assert!(matches!(read_all(&b"\xff"[..]), Err(Error::Usage(_))));
    }
}
