//! Requests, counted by endpoint and class of status; and connections that were refused.

use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;

use super::ENDPOINTS;
use crate::control::access::Caller;
use crate::counters::Cell;

/// The classes that are answered with.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The counts. They are written by the control thread only.
#[derive(Default)]
pub struct Tally {
    requests: [[Cell; CLASSES.len()]; ENDPOINTS.len()],
    refused: Cell,
    turned_away: Cell,
    last_turned_away: Mutex<Option<Caller>>,
}

impl Tally {
    /// Counts a request of an endpoint, by its place in [`ENDPOINTS`].
    pub fn count(&self, endpoint: usize, status: StatusCode) {
        let class = match status.as_u16() {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        if let Some(cells) = self.requests.get(endpoint) {
            cells[class].add(1);
        }
    }

    /// Counts a connection of the admin listener that was one too many.
    pub fn refuse(&self) {
        self.refused.add(1);
    }

    /// How many were.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Counts a request that was refused for its key, or for want of one.
    pub fn turn_away(&self, caller: Caller) {
        self.turned_away.add(1);
        *self.last_turned_away.lock().unwrap_or_else(PoisonError::into_inner) = Some(caller);
    }

    /// How many were.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.get()
    }

    /// Where the last of them came from.
    pub fn last_turned_away(&self) -> Option<Caller> {
        *self.last_turned_away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Path, class of status, and number of requests.
    pub fn samples(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let of = |(endpoint, cells): (usize, &[Cell; CLASSES.len()])| {
            let counts = [0, 1, 2].map(|class| (ENDPOINTS[endpoint].path, CLASSES[class], cells[class].get()));
            counts.into_iter()
        };
        self.requests.iter().enumerate().flat_map(of)
    }
}
