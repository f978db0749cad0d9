//! Requests of the server's own, to addresses of its configuration.

use std::time::Duration;

use ureq::config::RedirectAuthHeaders;

/// How long a connection is kept that is not used: less than servers commonly do, so that none is used just as it is closed.
const IDLE: Duration = Duration::from_secs(3);

/// What makes requests, of which each may take `timeout`, and keeps so many connections for the next ones.
///
/// What is sent goes to the configured address and nowhere else, and what is believed comes from there: redirects are not
/// followed, and proxies of the environment are not used. An answer of any status is an answer.
pub fn agent(timeout: Duration, connections: usize) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::Never)
        .proxy(None)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .max_idle_age(IDLE)
        .user_agent(concat!("uproar/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}
