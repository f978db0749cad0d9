//! Requests, counted by endpoint and class of status.

use axum::http::StatusCode;

use super::ENDPOINTS;
use crate::counters::Cell;

/// The classes that are answered with.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The counts. They are written by the control thread only.
#[derive(Default)]
pub struct Tally([[Cell; CLASSES.len()]; ENDPOINTS.len()]);

impl Tally {
    /// Counts a request of an endpoint, by its place in [`ENDPOINTS`].
    pub fn count(&self, endpoint: usize, status: StatusCode) {
        let class = match status.as_u16() {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        if let Some(cells) = self.0.get(endpoint) {
            cells[class].add(1);
        }
    }

    /// Path, class of status, and number of requests.
    pub fn samples(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let of = |(endpoint, cells): (usize, &[Cell; CLASSES.len()])| {
            let counts = [0, 1, 2].map(|class| (ENDPOINTS[endpoint].path, CLASSES[class], cells[class].get()));
            counts.into_iter()
        };
        self.0.iter().enumerate().flat_map(of)
    }
}
