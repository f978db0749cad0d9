//! Asking the server, on a thread of its own: a server that takes its time does not keep the keys waiting.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::facts::{Connections, Look, Topics};
use super::state::{News, Orders};
use crate::remote::Error;
use crate::remote::admin::{Admin, AdminOptions, judge};

/// Rows of a table that are asked for: more than most screens have lines.
const ROWS: usize = 60;

/// The server, and how it is spoken to.
pub struct Server {
    admin: Admin,
    options: AdminOptions,
}

impl Server {
    /// The one that they mean.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn new(options: AdminOptions) -> Result<Server, Error> {
        Ok(Server { admin: options.admin()?, options })
    }

    /// Where it is.
    pub fn place(&self) -> &str {
        &self.options.url
    }

    /// Asks for all that is shown.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub fn look(&self, orders: Orders) -> Result<Look, Error> {
        let (topics, connections) = (orders.topics.name(), orders.connections.name());
        let Topics { topics } = self.get(&format!("/topics?sort={topics}&limit={ROWS}"))?;
        let Connections { connections } = self.get(&format!("/connections?sort={connections}&limit={ROWS}"))?;
        Ok(Look { overview: self.get("/overview")?, topics, connections })
    }

    fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Error> {
        let answer = self.admin.get(target).map_err(|error| self.options.no_server(&error))?;
        judge(&answer, &self.options.url)
    }
}

/// Looks at a server, again and again. It ends when it is dropped.
pub struct Feed {
    /// What it has seen.
    pub news: Receiver<News>,
    orders: Sender<Orders>,
}

impl Feed {
    /// Begins to look, every so often, at once.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(server: Server, interval: Duration) -> Result<Feed, Error> {
        let ((tell, news), (orders, wanted)) = (mpsc::channel(), mpsc::channel());
        let body = move || follow(&server, interval, &wanted, &tell);
        let thread = thread::Builder::new().name("feed".into()).spawn(body);
        thread.map_err(|error| Error::NoServer(format!("cannot start a thread: {error}")))?;
        Ok(Feed { news, orders })
    }

    /// Looks in that order from now on, and at once.
    pub fn ask(&self, orders: Orders) {
        // If the thread has ended, so has what it would have told.
        let _ = self.orders.send(orders);
    }
}

/// Looks until nobody wants to know any more.
fn follow(server: &Server, interval: Duration, wanted: &Receiver<Orders>, tell: &Sender<News>) {
    let mut orders = Orders::default();
    loop {
        let begun = Instant::now();
        let news = server.look(orders).map(Box::new).map_err(|error| error.to_string());
        if tell.send(news).is_err() {
            return;
        }
        match wanted.recv_timeout(interval.saturating_sub(begun.elapsed())) {
            Ok(new) => orders = wanted.try_iter().last().unwrap_or(new),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
