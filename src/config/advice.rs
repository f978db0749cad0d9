//! What is allowed, and hardly meant.

use super::load::Resolved;
use super::secret::Secret;
use super::url::{is_open_to_others, public_url};
use super::{Config, Patterns, cores};

/// Characters of a secret that tokens are signed with by HS256: as many as its hash has bytes.
const SIGNING_CHARS: usize = 32;

impl Config {
    /// What an operator should know of this configuration, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let never = |(rule, earlier): (&super::HistoryRule, &super::HistoryRule)| {
            let (pattern, earlier) = (&rule.pattern, &earlier.pattern);
            format!("history: the rule of {pattern:?} never counts: {earlier:?}, before it, names all its topics")
        };
        let open = self.exposed().into_iter().filter(|_| self.insecure_open && !self.authenticates());
        let open = open.map(|(name, address)| {
            format!("insecure_open: whoever reaches {name} ({address}) may come in, without saying who he is")
        });
        let cookie = self.auth_cookie.is_some() && self.allowed_origins == Patterns::all();
        let cookie = cookie.then(|| {
            "auth_cookie: a browser sends it along for whatever page it shows, so that any page may act for who is \
             logged in: set allowed_origins to your own"
                .into()
        });
        let all = self.history.shadowed().map(never).chain(open).chain(cookie).chain(self.asked_in_the_open());
        all.chain(self.short_secret()).collect()
    }
}

impl Config {
    /// Warns of a secret that whoever has one token can guess at leisure.
    fn short_secret(&self) -> Option<String> {
        let chars = self.jwt_secret.iter().map(Secret::len).min().filter(|&len| len < SIGNING_CHARS)?;
        Some(format!(
            "jwt_secret: it has {chars} characters: HS256 wants {SIGNING_CHARS} at least (RFC 7518 section 3.2), at random"
        ))
    }

    /// Warns of what decides who may come in, and comes over a network that others may write to.
    fn asked_in_the_open(&self) -> impl Iterator<Item = String> {
        let keys = "whoever is on the way can put keys of his own in place of these, and make himself any token";
        let hook = "whoever is on the way reads what clients prove themselves by, and can answer himself";
        let asked = [("jwks_url", &self.jwks_url, keys), ("auth_hook", &self.auth_hook, hook)];
        let open = asked.into_iter().filter_map(|(name, url, risk)| Some((name, url.as_deref()?, risk)));
        let open = open.filter(|(_, url, _)| is_open_to_others(url));
        open.map(|(name, url, risk)| {
            let url = public_url(url);
            format!("{name}: {url} is another machine, and not https: {risk}")
        })
    }
}

impl Resolved {
    /// [`Config::warnings`], and what else whoever has set these values should know.
    pub fn warnings(&self) -> Vec<String> {
        let config = &self.config;
        let mut warnings = config.warnings();
        if config.shards > cores() {
            warnings.push(format!(
                "shards: {} are more than the {} cores that this process may use",
                config.shards,
                cores()
            ));
        }
        if config.backlog < config.max_message && (self.is_set("backlog") || self.is_set("max_message")) {
            warnings.push(
                "backlog: it is below max_message: a message that is larger than it waits all the same, but alone"
                    .into(),
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, load};

    fn warnings(file: &str) -> Vec<String> {
        load(&Inputs { file: Some(("x".into(), file.into())), ..Inputs::default() }).unwrap().warnings()
    }

    #[test]
    fn what_is_hardly_meant_is_said() {
        assert_eq!(warnings(""), [""; 0], "nothing is wrong with the defaults");
        for (file, word) in [
            ("history = '*; a'", "\"a\" never counts: \"*\""),
            ("shards = 256", "256 are more than"),
            ("backlog = '1KiB'", "below max_message"),
            ("listen = '0.0.0.0:1'\ninsecure_open = true", "listen (0.0.0.0:1)"),
            ("jwks_url = 'http://issuer/jwks.json'", "jwks_url: http://issuer/jwks.json is another machine"),
            ("auth_hook = 'http://10.0.0.1/hook'", "can answer himself"),
            ("auth_cookie = 'session'", "any page may act"),
            ("jwks_url = 'http://issuer/?key=a'", "jwks_url: http://issuer/?… is"),
            ("jwt_secret = '0123456789abcdef0123456789abcde'", "it has 31 characters"),
        ] {
            let warnings = warnings(file);
            assert!(warnings.len() == 1 && warnings[0].contains(word), "{warnings:?}");
        }
        assert_eq!(warnings("backlog = '1KiB'\nmax_message = '1KiB'"), [""; 0]);
        assert_eq!(warnings("auth_cookie = 'session'\nallowed_origins = 'https://example.org'"), [""; 0]);
        assert_eq!(warnings("jwt_secret = '0123456789abcdef0123456789abcdef'"), [""; 0]);
        assert_eq!(warnings("auth_hook = 'http://localhost/hook'\njwks_url = 'https://issuer/'"), [""; 0]);
    }
}
