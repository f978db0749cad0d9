//! Events of one kind that are too many: of one place in the code, on one thread, so many a second become lines; of the others,
//! it is told how many there were.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::TARGET;
use super::queue::Queue;

/// Events of a kind that become lines, in each [`WINDOW`].
pub const MOST: u32 = 10;
/// What that is for.
const WINDOW: Duration = Duration::from_secs(1);

thread_local! {
    /// What is known of the kinds of events of this thread, by the log and the place in the code.
    static KINDS: RefCell<HashMap<(usize, Identifier), Kind>> = RefCell::default();
}

/// A kind of events, as its thread knows it.
struct Kind {
    began: Instant,
    /// Lines since.
    lines: u32,
    account: Arc<Account>,
}

/// How many events of a kind became no lines.
pub struct Account {
    level: Level,
    message: String,
    thread: String,
    count: AtomicU64,
    /// Somebody will tell.
    is_noted: AtomicBool,
}

impl Account {
    fn new(event: &Event<'_>) -> Account {
        let mut message = Message(String::new());
        event.record(&mut message);
        Account {
            level: *event.metadata().level(),
            message: message.0,
            thread: thread::current().name().unwrap_or("unnamed").to_owned(),
            count: AtomicU64::new(0),
            is_noted: AtomicBool::new(false),
        }
    }

    /// Tells how many there were since the last time.
    pub fn tell(&self) {
        // In this order: what is counted from now on is noted anew.
        self.is_noted.store(false, Ordering::SeqCst);
        let repeated = self.count.swap(0, Ordering::SeqCst);
        let (thread, message) = (&self.thread, &self.message);
        macro_rules! tell {
            ($level:expr) => {
                tracing::event!(target: TARGET, $level, repeated, thread, "{message}: {repeated} more like it")
            };
        }
        match self.level {
            _ if repeated == 0 => {}
            Level::ERROR => tell!(Level::ERROR),
            Level::WARN => tell!(Level::WARN),
            Level::INFO => tell!(Level::INFO),
            _ => tell!(Level::DEBUG),
        }
    }
}

/// The layer that lets an event through, or counts it.
pub struct Repeats {
    queue: Queue,
    /// Tells logs apart.
    id: usize,
}

impl Repeats {
    /// Before a log with this queue.
    pub fn new(queue: Queue) -> Repeats {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Repeats { queue, id: NEXT.fetch_add(1, Ordering::Relaxed) as usize }
    }

    fn count(&self, account: &Arc<Account>) {
        self.queue.count_repeated();
        account.count.fetch_add(1, Ordering::SeqCst);
        if !account.is_noted.swap(true, Ordering::SeqCst) && !self.queue.tell_later(account.clone()) {
            account.is_noted.store(false, Ordering::SeqCst);
        }
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() == TARGET {
            return true;
        }
        KINDS.with_borrow_mut(|kinds| {
            let now = Instant::now();
            let begin = || Kind { began: now, lines: 0, account: Arc::new(Account::new(event)) };
            let kind = kinds.entry((self.id, metadata.callsite())).or_insert_with(begin);
            if now - kind.began >= WINDOW {
                (kind.began, kind.lines) = (now, 0);
            }
            let is_line = kind.lines < MOST;
            if is_line {
                kind.lines += 1;
            } else {
                self.count(&kind.account);
            }
            is_line
        })
    }
}

/// Finds the message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
