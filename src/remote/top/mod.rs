//! `uproar top`: a server that runs, as it runs.
//!
//! | to find | look in |
//! |---|---|
//! | asking the server | `feed` |
//! | its answers, and what follows from two of them | `facts` |
//! | what keys and news make of what is shown | `state` |
//! | what is shown, as text | `grid` |
//! | the same on a screen | `view` |

mod facts;
mod feed;
mod grid;
#[cfg(test)]
mod samples;
mod state;
mod view;
mod words;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use crate::remote::admin::AdminOptions;
use crate::remote::{Error, end, time};
use feed::{Feed, Server};
use state::{Orders, State, Wish};

/// What it does.
pub const LONG_ABOUT: &str = "Show a server that runs, as it runs: shards, topics, slow connections

Keys: q ends, p or the space bar holds what is shown. b, a and r put those connections first that have the largest backlog, that are \
behind for the longest, or that have the most messages; m and s the topics with the most messages, or the most subscribers.

OUT are deliveries: a message to a thousand subscribers is a thousand. 99% of those since the last look took no longer than that, from \
when their message was read to when it was given to the kernel; TURN is the shard's loop. A connection is BEHIND while something waits that its \
socket does not take. Rates of topics and connections are there from the second look on.";

const AFTER_HELP: &str = "\
Examples:
  uproar top
  uproar top --interval 5s --admin unix:/run/uproar/admin.sock
  uproar top --once                                        one look, as text

Exit codes:
  0  ended in order        2  bad usage
  1  the server refused    3  there is no server there, or it did
     it                       not answer as one";

/// The shortest time between two looks.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is looked whether there is news, while no key is pressed.
const TICK: Duration = Duration::from_millis(50);

/// Its arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// Look so often, 250ms or more
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    interval: Duration,
    /// Look twice, --interval apart, print what was seen as text, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

fn interval(text: &str) -> Result<Duration, String> {
    match time(text)? {
        interval if interval < LEAST_INTERVAL => Err("250ms is the shortest".to_owned()),
        interval => Ok(interval),
    }
}

/// Shows it. Exit codes: see its help.
pub fn run(options: Options) -> ExitCode {
    end("top", top(options))
}

fn top(options: Options) -> Result<(), Error> {
    if !options.once && !io::stdout().is_terminal() {
        return Err(Error::Usage("standard output is no terminal; --once prints what is seen as text".to_owned()));
    }
    let server = Server::new(options.admin)?;
    let mut state = State::new(server.place(), words::time(options.interval));
    // What is wrong from the beginning is said as other commands say it.
    state.hear(Ok(Box::new(server.look(Orders::default())?)));
    if options.once {
        return once(&server, state, options.interval);
    }
    let feed = Feed::start(server, options.interval)?;
    let failed = |error: io::Error| Error::Refused(format!("the terminal: {error}"));
    let told = told_to_end().map_err(failed)?;
    // From here on a panic, too, puts the terminal back.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let outcome = live(&mut terminal, &feed, &mut state, &told);
    ratatui::restore();
    outcome.map_err(failed)
}

fn once(server: &Server, mut state: State, interval: Duration) -> Result<(), Error> {
    thread::sleep(interval);
    state.hear(Ok(Box::new(server.look(Orders::default())?)));
    // Whether or not anybody reads it.
    let _ = io::stdout().write_all(grid::print(&state).as_bytes());
    Ok(())
}

/// Has something in it when somebody has the process end (`SIGTERM`, `SIGHUP`): the terminal is put back first.
fn told_to_end() -> io::Result<flume::Receiver<()>> {
    let (tell, told) = flume::bounded(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut hang_up) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        let _ = tell.send(());
    };
    thread::spawn(move || runtime.block_on(wait));
    Ok(told)
}

fn live(terminal: &mut DefaultTerminal, feed: &Feed, state: &mut State, told: &flume::Receiver<()>) -> io::Result<()> {
    let mut is_new = true;
    while told.is_empty() {
        if is_new {
            terminal.draw(|frame| view::draw(frame, state))?;
        }
        is_new = false;
        if event::poll(TICK)? {
            is_new = true;
            match event::read()? {
                Event::Key(key) => match state.key(character(key)) {
                    Wish::Quit => return Ok(()),
                    Wish::Ask(orders) => feed.ask(orders),
                    Wish::Nothing => {}
                },
                // The next drawing finds the new size.
                Event::Resize(..) => {}
                _ => is_new = false,
            }
        }
        for news in feed.news.try_iter() {
            state.hear(news);
            is_new = true;
        }
    }
    Ok(())
}

/// What a key writes; of those that end programs, `q`.
fn character(key: KeyEvent) -> char {
    match key.code {
        _ if key.kind == KeyEventKind::Release => '\0',
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => 'q',
        KeyCode::Esc => 'q',
        KeyCode::Char(c) => c.to_ascii_lowercase(),
        _ => '\0',
    }
}
