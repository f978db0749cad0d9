//! What probes are told: whether the process runs, whether it takes newcomers, how it is.

use super::Core;
use super::inbound::Next;
use super::shared::{Shared, Standing};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::route::Probe;
use crate::ring::token::ConnId;

/// Seconds after which it is worth to look again whether newcomers are taken.
pub const LOOK_AGAIN: u32 = 1;

/// Whether the process runs: it does.
pub const LIVE: &str = "{\"status\":\"live\"}\n";

/// How the server is: what it does, and for how many.
pub fn health(shared: &Shared) -> String {
    let status = match shared.standing() {
        Standing::Serving => "ok",
        Standing::Draining => "draining",
        Standing::Stopping => "stopping",
    };
    format!("{{\"status\":\"{status}\",\"connections\":{}}}\n", shared.connections())
}

/// Whether newcomers are taken, or for which reason they are not.
pub fn readiness(unready: Option<&str>) -> String {
    match unready {
        None => "{\"status\":\"ready\"}\n".into(),
        Some(reason) => format!("{{\"status\":\"unready\",\"reason\":\"{reason}\"}}\n"),
    }
}

impl Core {
    /// Answers a probe of the public listener.
    pub(super) fn answer_probe(&mut self, id: ConnId, request: &Request<'_>, probe: Probe) -> Next {
        let response = match (probe, self.shared.unready()) {
            (Probe::Live, _) => Response::json(LIVE.into()),
            (Probe::Health, _) => Response::json(health(&self.shared)),
            (Probe::Ready, None) => Response::json(readiness(None)),
            (Probe::Ready, unready) => Response { status: 503, ..Response::json(readiness(unready)) }
                .header("Retry-After", LOOK_AGAIN.to_string()),
        };
        self.answer(id, request, &response)
    }
}
