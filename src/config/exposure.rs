//! Who can reach the listeners, and whether that is safe.

use std::net::SocketAddr;

use super::{AdminListen, Config, ConfigError};

/// What lets a listener be reached by strangers all the same.
const ANYWAY: &str = "set insecure_open (--insecure-open, UPROAR_INSECURE_OPEN=true)";

impl Config {
    /// Whether all clients of the public listeners have to say who they are: they need tokens, and nobody is let in without; or
    /// the application is asked about all of them.
    pub fn authenticates(&self) -> bool {
        self.wants_tokens() && !self.anonymous || self.auth_hook.is_some() && self.auth_hook_events.connect
    }

    /// Refuses public listeners that strangers can reach while nothing authenticates clients, unless `insecure_open` says that
    /// this is meant. For servers of the built-in dialects: an embedder's handlers look for themselves who connects.
    ///
    /// # Errors
    /// One problem for each such listener: why it is refused, and what to do.
    pub fn refuse_strangers(&self) -> Result<(), ConfigError> {
        let open = if self.authenticates() || self.insecure_open { Vec::new() } else { self.exposed() };
        ConfigError::unless_empty(open.into_iter().map(|(name, address)| unauthenticated(name, address)).collect())
    }

    /// What is wrong with an admin listener that strangers can reach: without a key they may do everything there.
    pub(super) fn admin_problem(&self) -> Option<String> {
        match self.admin_listen {
            AdminListen::Tcp(address) if !is_loopback(address) && self.admin_key.is_empty() && !self.insecure_open => {
                Some(format!(
                    "admin_listen ({address}) can be reached from other machines, and there is no admin_key: whoever reaches it \
                     could publish everything and send everybody away. Set admin_key (UPROAR_ADMIN_KEY, or in the file); or \
                     listen on 127.0.0.1 or unix:/path; or, where the network lets in only whom you trust, {ANYWAY}"
                ))
            }
            _ => None,
        }
    }

    /// The public listeners that others than this machine can reach.
    pub(super) fn exposed(&self) -> Vec<(&'static str, SocketAddr)> {
        let listeners = [("listen", Some(self.listen)), ("tls_listen", self.tls_listen)];
        let listeners = listeners.into_iter().filter_map(|(name, address)| Some((name, address?)));
        listeners.filter(|(_, address)| !is_loopback(*address)).collect()
    }
}

fn unauthenticated(name: &str, address: SocketAddr) -> String {
    format!(
        "{name} ({address}) can be reached from other machines, and not all clients are authenticated: whoever reaches it could \
         read and publish. Configure tokens (jwks_url, jwt_public_key or jwt_secret, without anonymous) or an auth_hook that is asked about connect; or listen on 127.0.0.1, \
         behind a proxy that authenticates; or, where everybody who can reach it may come in, {ANYWAY}"
    )
}

/// Whether only this machine can connect there.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(listen: &str, tls: Option<&str>) -> Config {
        let parse = |address: &str| address.parse().expect("an address");
        Config { listen: parse(listen), tls_listen: tls.map(parse), ..Config::default() }
    }

    #[test]
    fn strangers_are_refused_unless_they_are_wanted() {
        for (listen, tls, refused) in [
            ("127.0.0.1:8080", None, &[][..]),
            ("127.8.0.1:8080", Some("[::1]:443"), &[]),
            ("[::ffff:127.0.0.1]:80", None, &[]),
            ("0.0.0.0:80", None, &["listen"]),
            ("[::]:80", None, &["listen"]),
            ("192.0.2.1:80", Some("[2001:db8::1]:443"), &["listen", "tls_listen"]),
            ("127.0.0.1:80", Some("0.0.0.0:443"), &["tls_listen"]),
        ] {
            let mut config = listening(listen, tls);
            let problems = config.refuse_strangers().err().map_or(Vec::new(), |error| error.problems().to_vec());
            assert_eq!(problems.len(), refused.len(), "{listen} {tls:?}: {problems:?}");
            for (problem, name) in problems.iter().zip(refused) {
                assert!(problem.starts_with(&format!("{name} (")) && problem.contains("--insecure-open"), "{problem}");
            }
            config.jwks_url = Some("https://issuer.example.org/jwks.json".into());
            assert_eq!(config.refuse_strangers(), Ok(()), "{listen}: whoever connects says who he is");
            config.anonymous = true;
            assert_eq!(config.refuse_strangers().is_err(), !refused.is_empty(), "{listen}: not all do");
            config.auth_hook = Some("https://app.example.org/hook".into());
            assert_eq!(config.refuse_strangers(), Ok(()), "{listen}: the application is asked about all");
            config.auth_hook_events = crate::config::HookEvents { connect: false, publish: true, ..Default::default() };
            assert_eq!(config.refuse_strangers().is_err(), !refused.is_empty(), "{listen}: not about all");
            config.insecure_open = true;
            assert_eq!(config.refuse_strangers(), Ok(()), "{listen}");
        }
    }

    #[test]
    fn strangers_need_a_key_at_the_admin_listener() {
        let key = || vec![crate::config::Secret::new("0123456789abcdef")];
        for (listen, keys, insecure_open, good) in [
            (AdminListen::Off, Vec::new(), false, true),
            (AdminListen::Unix("/run/uproar".into()), Vec::new(), false, true),
            (AdminListen::Tcp(([127, 0, 0, 1], 8081).into()), Vec::new(), false, true),
            (AdminListen::Tcp(([0, 0, 0, 0], 8081).into()), Vec::new(), false, false),
            (AdminListen::Tcp(([0, 0, 0, 0], 8081).into()), Vec::new(), true, true),
            (AdminListen::Tcp(([0, 0, 0, 0], 8081).into()), key(), false, true),
        ] {
            let config = Config { admin_listen: listen, admin_key: keys, insecure_open, ..Config::default() };
            let result = config.validate();
            assert_eq!(result.is_ok(), good, "{config:?}");
            assert!(good || result.is_err_and(|error| error.to_string().contains("UPROAR_ADMIN_KEY")));
        }
    }
}
