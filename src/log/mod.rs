//! The log of the command: events of `tracing`, as lines on standard error, which nobody waits for.
//!
//! ```text
//! event ─▶ level ─▶ repeats: is it one of too many? ─▶ formatted ─▶ queue ─▶ the thread "log" ─▶ standard error
//! ```
//!
//! Whoever logs puts a line into a bounded queue and goes on: also when the thread does not, because nobody reads what it writes.
//! Lines that find no room are counted, and told of when there is some. Of events of one kind, few a second become lines, and the
//! others a number: so nothing that comes from the network fills a disk.
//!
//! An embedder has a log of his own, and none of this.

mod escape;
mod queue;
mod repeats;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::OnceLock;
use std::thread;

use tracing::dispatcher::{Dispatch, set_global_default};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::config::{Config, LogFormat, LogLevel};
pub use queue::Counts;
use queue::Queue;
use repeats::Repeats;

/// What the log itself has to say. It is never one of too many.
const TARGET: &str = "uproar::log";

/// The log of this process, once it is started.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    queue: Queue,
}

/// From now on, events become lines on standard error, panics too. If there is a log already, that goes on.
///
/// # Errors
/// There is no thread to be had.
pub fn start(config: &Config) -> io::Result<()> {
    let queue = Queue::start(io::stderr())?;
    let is_terminal = io::stderr().is_terminal();
    let (level, handle) = reload::Layer::new(filter(config.log));
    let lines = lines(config.log_format, is_terminal, queue.clone());
    let subscriber = tracing_subscriber::registry().with(level).with(Repeats::new(queue.clone())).with(lines);
    let events = Dispatch::new(subscriber);
    queue.speak_through(&events);
    // It fails only if there is a log already, which then is the one that is wanted.
    if set_global_default(events).is_ok() && LOG.set(Log { level: handle, queue }).is_ok() {
        panic::set_hook(Box::new(tell_panic));
    }
    Ok(())
}

/// The layer that makes lines.
fn lines<S>(format: LogFormat, is_terminal: bool, queue: Queue) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    match format {
        LogFormat::Text => {
            // Colours are escapes, so those of others are left to the library then.
            let escape = if is_terminal { escape::all_but_colours } else { escape::all };
            fmt::layer().with_ansi(is_terminal).with_writer(queue.writer(escape)).boxed()
        }
        // A string of JSON has no control characters.
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_ansi(false)
            .with_writer(queue.writer(escape::nothing))
            .boxed(),
    }
}

/// Changes what is logged.
pub fn set_level(level: LogLevel) {
    if let Some(log) = LOG.get() {
        // It fails only where there is no subscriber any more, as none is when the process ends.
        let _ = log.level.modify(|filter| *filter = self::filter(level));
    }
}

/// Waits until what was logged is written, and no longer than a second.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.queue.flush();
    }
}

/// What has become of the lines so far; `None` where the log is not ours.
pub fn counts() -> Option<Counts> {
    LOG.get().map(|log| log.queue.counts())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// A panic is an event like others: the hook of the standard library would wait for whoever reads standard error.
fn tell_panic(info: &panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("it says nothing that is a text");
    let location = info.location().map_or(String::new(), ToString::to_string);
    let name = thread::current().name().unwrap_or("unnamed").to_owned();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread = name, location, backtrace, "panic: {message}");
    if name == "main" {
        flush();
    }
}
