//! Who may ask what of the admin listener.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api::{Api, UNAUTHORIZED};
use super::page;
use crate::auth::token::bearer;
use crate::config::{Config, Secret};

/// What anybody may ask: probes have no key, and learn little.
const OPEN: [&str; 3] = ["/health", "/live", "/ready"];

/// Where a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// From this machine, or over the Unix socket.
    Here,
    /// From anywhere else: where.
    Elsewhere(IpAddr),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Here => f.write_str("this machine"),
            Caller::Elsewhere(address) => address.fmt(f),
        }
    }
}

/// Why a request is let in, or that it is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It brings the key.
    Keyed,
    /// It needs none.
    Trusted,
    /// It brings a wrong one, or none where one is needed.
    Refused,
}

/// What is asked of requests.
#[derive(Clone, Default)]
pub struct Access {
    keys: Vec<Secret>,
    /// Without a key, everybody is let in.
    insecure_open: bool,
}

impl From<&Config> for Access {
    fn from(config: &Config) -> Access {
        Access { keys: config.admin_key.clone(), insecure_open: config.insecure_open }
    }
}

impl Access {
    /// Whether a request may be made. The work is the same for a wrong key and for none.
    fn judge(&self, caller: Caller, headers: &HeaderMap) -> Verdict {
        let mut presented = headers.get_all(AUTHORIZATION).iter();
        let (first, second) = (presented.next(), presented.next());
        let token = first.filter(|_| second.is_none()).and_then(|value| bearer(value.as_bytes())).unwrap_or_default();
        let is_right = self.keys.iter().fold(false, |is_right, key| is_right | key.is(token));
        match (is_right, first, caller) {
            (true, _, _) => Verdict::Keyed,
            (false, None, Caller::Here) => Verdict::Trusted,
            (false, None, Caller::Elsewhere(_)) if self.insecure_open && self.keys.is_empty() => Verdict::Trusted,
            _ => Verdict::Refused,
        }
    }
}

/// Whether anybody may ask for it. The page is the same for all, and a browser that opens it has no key yet.
fn is_open(path: &str, headers: &HeaderMap) -> bool {
    OPEN.contains(&path) || page::PARTS.contains(&path) || path == "/" && page::is_wanted(headers)
}

/// Lets a request in, and notes why; or refuses it, whatever it asks for but probes and the page, and counts that.
pub async fn admit(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    if is_open(request.uri().path(), request.headers()) {
        return next.run(request).await;
    }
    // Whoever does not say where a request comes from is no friend.
    let caller = request.extensions().get::<Caller>().copied();
    let caller = caller.unwrap_or(Caller::Elsewhere(Ipv4Addr::UNSPECIFIED.into()));
    match api.settings().access.judge(caller, request.headers()) {
        Verdict::Refused => {
            api.tally().turn_away(caller);
            UNAUTHORIZED.into_response()
        }
        verdict => {
            request.extensions_mut().insert(verdict);
            next.run(request).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";
    const NEXT: &str = "fedcba9876543210";

    fn access(keys: &[&str], insecure_open: bool) -> Access {
        Access { keys: keys.iter().map(|key| Secret::new(*key)).collect(), insecure_open }
    }

    fn judged(access: &Access, caller: Caller, fields: &[&str]) -> Verdict {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, field.parse().expect("a value"));
        }
        access.judge(caller, &headers)
    }

    #[test]
    fn a_key_is_wanted_of_strangers_and_a_wrong_one_is_wrong_for_all() {
        use Verdict::*;
        let (near, far) = (Caller::Here, Caller::Elsewhere([192, 0, 2, 7].into()));
        let [keyed, none, open] = [access(&[KEY, NEXT], false), access(&[], false), access(&[], true)];
        let [right, rotated] = [KEY, NEXT].map(|key| format!("Bearer {key}"));
        let lower = format!("bearer  {KEY}");
        for (access, fields, here, elsewhere) in [
            (&keyed, &[][..], Trusted, Refused),
            (&keyed, &[&*right], Keyed, Keyed),
            (&keyed, &[&*rotated], Keyed, Keyed),
            (&keyed, &[&*lower], Keyed, Keyed),
            (&keyed, &[&*right, &*right], Refused, Refused),
            (&keyed, &["Bearer 0123456789abcdeg"], Refused, Refused),
            (&keyed, &["Bearer 0123456789abcdef0"], Refused, Refused),
            (&keyed, &["Bearer 0123456789abcdef,fedcba9876543210"], Refused, Refused),
            (&keyed, &["Bearer "], Refused, Refused),
            (&keyed, &["Basic 0123456789abcdef"], Refused, Refused),
            (&keyed, &[KEY], Refused, Refused),
            (&none, &[], Trusted, Refused),
            (&none, &[&*right], Refused, Refused),
            (&none, &["Bearer "], Refused, Refused),
            (&open, &[], Trusted, Trusted),
            (&open, &[&*right], Refused, Refused),
        ] {
            assert_eq!(judged(access, near, fields), here, "{fields:?}");
            assert_eq!(judged(access, far, fields), elsewhere, "{fields:?}");
        }
        let both = Access { insecure_open: true, ..keyed };
        assert_eq!(judged(&both, far, &[]), Refused, "where there is a key, it is wanted");
    }
}
