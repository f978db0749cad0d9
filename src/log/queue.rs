//! Lines on their way to standard error, and the thread that writes them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::dispatcher::{Dispatch, WeakDispatch, with_default};
use tracing_subscriber::fmt::MakeWriter;

use super::TARGET;
use super::repeats::Account;

/// Lines that may wait.
const WAITING: usize = 4096;
/// Time after which it is told how many events of a kind there were besides.
const PAUSE: Duration = Duration::from_secs(1);
/// How long [`Queue::flush`] waits.
const FLUSH: Duration = Duration::from_secs(1);

thread_local! {
    /// Whether this is the thread that writes: it may wait, so its own lines do not go through the queue.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

enum Entry {
    Line(String),
    /// Events are counted there that became no lines.
    Counted(Arc<Account>),
    /// Everything before it is to be written; then it is dropped.
    Flush(flume::Sender<()>),
    /// What the thread has to say becomes lines there.
    Through(WeakDispatch),
}

/// What has become of lines.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Lines written, or about to be.
    pub lines: u64,
    /// Events that were one of too many of their kind: only their number was told.
    pub repeated: u64,
    /// Lines lost, because there were too many to be written, or they could not be.
    pub lost: u64,
}

#[derive(Default)]
struct Tally {
    lines: AtomicU64,
    repeated: AtomicU64,
    lost: AtomicU64,
}

/// The queue.
#[derive(Clone)]
pub struct Queue {
    entries: flume::Sender<Entry>,
    tally: Arc<Tally>,
}

impl Queue {
    /// Starts the thread, which writes to `out`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Queue> {
        let (entries, received) = flume::bounded(WAITING);
        let tally = Arc::new(Tally::default());
        let queue = Queue { entries, tally: tally.clone() };
        let body = move || {
            WRITES.set(true);
            let through = Dispatch::none().downgrade();
            Writer { out, tally, counted: VecDeque::new(), told: 0, through }.run(&received);
        };
        thread::Builder::new().name("log".into()).spawn(body)?;
        Ok(queue)
    }

    /// Has what the queue itself has to say go the way of all events, which ends here.
    pub fn speak_through(&self, events: &Dispatch) {
        let _ = self.entries.send(Entry::Through(events.downgrade()));
    }

    /// What gives it lines, escaped.
    pub fn writer(&self, escape: fn(&str) -> String) -> Lines {
        Lines { queue: self.clone(), escape }
    }

    /// Has it told, a second from now, how many events of a kind there were besides; `false` if there is no room.
    pub fn tell_later(&self, account: Arc<Account>) -> bool {
        self.entries.try_send(Entry::Counted(account)).is_ok()
    }

    /// An event did not become a line.
    pub fn count_repeated(&self) {
        self.tally.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything so far is written, and no longer than a second.
    pub fn flush(&self) {
        let (done, wait) = flume::bounded(1);
        let until = Instant::now() + FLUSH;
        if self.entries.send_deadline(Entry::Flush(done), until).is_ok() {
            let _ = wait.recv_deadline(until);
        }
    }

    /// What has become of the lines so far.
    pub fn counts(&self) -> Counts {
        let [lines, repeated, lost] =
            [&self.tally.lines, &self.tally.repeated, &self.tally.lost].map(|count| count.load(Ordering::Relaxed));
        Counts { lines: lines.saturating_sub(lost), repeated, lost }
    }

    fn push(&self, line: String) {
        self.tally.lines.fetch_add(1, Ordering::Relaxed);
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the formatting layer writes to: a line at a time.
#[derive(Clone)]
pub struct Lines {
    queue: Queue,
    escape: fn(&str) -> String,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let escaped = (self.escape)(&String::from_utf8_lossy(line));
        if WRITES.get() {
            self.queue.tally.lines.fetch_add(1, Ordering::Relaxed);
            OWN.with_borrow_mut(|own| own.push_str(&escaped));
        } else {
            self.queue.push(escaped);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// Lines of the thread that writes, until it writes them.
    static OWN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The thread.
struct Writer<W> {
    out: W,
    tally: Arc<Tally>,
    /// What is to be told how often, and when.
    counted: VecDeque<(Instant, Arc<Account>)>,
    /// Lines lost that were told of.
    told: u64,
    through: WeakDispatch,
}

impl<W: Write> Writer<W> {
    fn run(mut self, entries: &flume::Receiver<Entry>) {
        loop {
            let entry = match self.counted.front() {
                Some((due, _)) => entries.recv_deadline(*due),
                None => entries.recv().map_err(|_| flume::RecvTimeoutError::Disconnected),
            };
            match entry {
                Ok(Entry::Line(line)) => self.write(&line, 1),
                Ok(Entry::Counted(account)) => self.counted.push_back((Instant::now() + PAUSE, account)),
                Ok(Entry::Flush(_done)) => self.tell(None),
                Ok(Entry::Through(events)) => self.through = events,
                Err(flume::RecvTimeoutError::Timeout) => {}
                Err(flume::RecvTimeoutError::Disconnected) => return self.tell(None),
            }
            self.tell(Some(Instant::now()));
        }
    }

    /// Tells what is to be told by then, or all of it; and of lines that were lost.
    fn tell(&mut self, by: Option<Instant>) {
        let Some(events) = self.through.upgrade() else { return };
        with_default(&events, || self.speak(by));
        let own = OWN.take();
        if !own.is_empty() {
            self.write(&own, own.matches('\n').count() as u64);
        }
    }

    fn speak(&mut self, by: Option<Instant>) {
        while self.counted.front().is_some_and(|(due, _)| by.is_none_or(|by| *due <= by)) {
            self.counted.pop_front().into_iter().for_each(|(_, account)| account.tell());
        }
        let lost = self.tally.lost.load(Ordering::Relaxed);
        if lost > self.told {
            let count = lost - self.told;
            tracing::warn!(target: TARGET, lost = count, "lines of the log were lost: they came faster than they were read");
            self.told = lost;
        }
    }

    fn write(&mut self, text: &str, lines: u64) {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        if written.is_err() {
            self.tally.lost.fetch_add(lines, Ordering::Relaxed);
            // Of these, nobody can be told here.
            self.told += lines;
        }
    }
}
