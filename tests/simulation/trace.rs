//! What happened, kept only when a seed is run to be looked at.

use std::cell::RefCell;

thread_local! {
    static EVENTS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Begins to keep events.
pub fn start() {
    EVENTS.set(Some(Vec::new()));
}

/// Ends it, and returns them.
pub fn stop() -> Vec<String> {
    EVENTS.take().unwrap_or_default()
}

/// Keeps an event, if events are kept.
pub fn note(event: impl FnOnce() -> String) {
    EVENTS.with_borrow_mut(|events| {
        if let Some(events) = events {
            events.push(event());
        }
    });
}
