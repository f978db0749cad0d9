//! What a server works with that a reload may replace, made of a configuration before anything is done with it: files are read,
//! and what can be wrong with them is found out.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

use super::memory::allowed;
use crate::auth::jwks::fetch_set;
use crate::auth::{Gate, Hook, Keys, hook};
use crate::config::{Config, ConfigError};
use crate::shard::Aides;
use crate::shard::handle::Shards;
use crate::shard::mail::Mail;
use crate::shard::settings::Settings;
use crate::tls::{Handshakes, certificates};

/// All of it.
pub struct Prepared {
    /// For the shards.
    pub settings: Arc<Settings>,
    /// The certificates, where there is a TLS listener.
    certificates: Option<Arc<ServerConfig>>,
    /// The keys that tokens are checked with, where some are wanted.
    keys: Option<Keys>,
}

impl Prepared {
    /// Of a valid configuration.
    ///
    /// # Errors
    /// Every problem that there is: types of messages that cannot be, files that cannot be read or are not what they should be.
    pub fn new(config: &Config) -> Result<Prepared, ConfigError> {
        let settings = Settings::try_from(config).map(|settings| Arc::new(within_memory(settings, config)));
        let certificates = certificates_of(config);
        let keys = keys_of(config);
        match (settings, certificates, keys) {
            (Ok(settings), Ok(certificates), Ok(keys)) => Ok(Prepared { settings, certificates, keys }),
            (settings, certificates, keys) => {
                let errors = [settings.err(), certificates.err(), keys.err()];
                Err(ConfigError::all(errors.into_iter().flatten()))
            }
        }
    }

    /// Starts the threads that do for shards what would take these too long.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self, config: &Config, shards: &Shards) -> io::Result<Aides> {
        let handshakes = self.certificates.map(|tls| shake_hands(config, tls, shards)).transpose()?;
        let gate = self.keys.map(|keys| guard(config, keys, shards)).transpose()?;
        let hook = ask_application(config, shards)?;
        Ok(Aides { handshakes, gate, hook, kernel_tls: None })
    }

    /// What is to take the place of those that are there, which were made of the configuration `running`. Nothing is changed yet.
    ///
    /// # Errors
    /// A set of keys is to be fetched from elsewhere, and cannot be; or there is no thread to be had.
    pub fn replace(self, running: (&Config, &Aides), config: &Config, shards: &Shards) -> Result<Next, ConfigError> {
        let (before, aides) = running;
        let source = |config: &Config| (config.jwks_url.clone(), config.jwks_refresh);
        let is_same_source = source(before) == source(config);
        let (gate, renewed) = match (self.keys, &aides.gate) {
            (None, _) => (None, None),
            (Some(keys), Some(gate)) if is_same_source => (Some(gate.clone()), Some(keys)),
            (Some(keys), gate) => {
                let known = gate.as_ref().filter(|_| before.jwks_url == config.jwks_url);
                let keys = match (known, &config.jwks_url) {
                    (Some(gate), _) => keys.with_set_of(&gate.keys()),
                    (None, Some(address)) => {
                        fetch_set(&keys, address).map_err(|why| ConfigError::new(format!("jwks_url: {why}")))?
                    }
                    (None, None) => keys,
                };
                let gate = guard(config, keys, shards);
                let no_thread = |error| ConfigError::new(format!("cannot start a thread for tokens: {error}"));
                (Some(gate.map_err(no_thread)?), None)
            }
        };
        let is_same_hook = hook_options(before) == hook_options(config);
        let hook = if is_same_hook { Ok(aides.hook.clone()) } else { ask_application(config, shards) };
        let no_thread = |error| ConfigError::new(format!("cannot start the threads for auth_hook: {error}"));
        let aides = Aides { gate, hook: hook.map_err(no_thread)?, ..aides.clone() };
        Ok(Next { settings: self.settings, certificates: self.certificates, keys: renewed, aides })
    }
}

/// What takes the place of what is there.
pub struct Next {
    /// For the shards.
    pub settings: Arc<Settings>,
    /// For the shards, too.
    pub aides: Aides,
    certificates: Option<Arc<ServerConfig>>,
    /// For the thread that checks tokens, where that goes on.
    keys: Option<Keys>,
}

impl Next {
    /// From now on, handshakes and tokens are for these.
    pub fn hand_out(&mut self) {
        if let Some((handshakes, certificates)) = self.aides.handshakes.as_ref().zip(self.certificates.take()) {
            handshakes.reconfigure(certificates);
        }
        if let Some((gate, keys)) = self.aides.gate.as_ref().zip(self.keys.take()) {
            gate.renew(keys);
        }
    }
}

/// What depends on how much memory this machine lets the process have.
fn within_memory(settings: Settings, config: &Config) -> Settings {
    Settings { incomplete_bytes: config.incomplete_bytes(allowed(config.max_memory)) as usize, ..settings }
}

/// The certificates, where there is a TLS listener.
fn certificates_of(config: &Config) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
    if config.tls_listen.is_none() {
        return Ok(None);
    }
    let configured = certificates::configure(&config.tls_pairs());
    let named = |why| ConfigError::new(format!("tls_certificate, tls_key: {why}"));
    configured.map(|tls| Some(Arc::new(tls))).map_err(named)
}

/// The keys that tokens are checked with; `None` where no token is wanted.
fn keys_of(config: &Config) -> Result<Option<Keys>, ConfigError> {
    if !config.wants_tokens() {
        return Ok(None);
    }
    let expected = (config.jwt_issuer.clone(), config.jwt_audience.clone());
    let keys = Keys::new(&config.jwt_secret, &config.jwt_public_key, expected);
    keys.map(Some).map_err(|why| ConfigError::new(format!("jwt_public_key: {why}")))
}

/// The threads that shake hands: as many as shards, for in a storm of reconnects they have more to do.
fn shake_hands(config: &Config, tls: Arc<ServerConfig>, shards: &Shards) -> io::Result<Handshakes> {
    let postboxes = shards.postboxes().to_vec();
    let done = move |shard: u16, shaken| {
        if let Some(postbox) = postboxes.get(usize::from(shard)) {
            postbox.post(Mail::Shaken(Box::new(shaken)));
            postbox.wake();
        }
    };
    Handshakes::start(config.shards as usize, tls, done)
}

/// The threads that check tokens.
fn guard(config: &Config, keys: Keys, shards: &Shards) -> io::Result<Gate> {
    let postboxes = shards.postboxes().to_vec();
    let done = move |shard: u16, verdict| {
        if let Some(postbox) = postboxes.get(usize::from(shard)) {
            postbox.post(Mail::Verdict(Box::new(verdict)));
            postbox.wake();
        }
    };
    let set = config.jwks_url.clone().map(|address| (address, config.jwks_refresh));
    Gate::start(keys, set, shards.shared().process().clone(), done)
}

/// The threads that ask the application; `None` where it is not asked.
fn ask_application(config: &Config, shards: &Shards) -> io::Result<Option<Hook>> {
    let Some(options) = hook_options(config) else { return Ok(None) };
    let postboxes = shards.postboxes().to_vec();
    let done = move |shard: u16, outcome| {
        if let Some(postbox) = postboxes.get(usize::from(shard)) {
            postbox.post(Mail::Decided(Box::new(outcome)));
            postbox.wake();
        }
    };
    Hook::start(options, shards.shared().process().clone(), done).map(Some)
}

/// How it is asked.
fn hook_options(config: &Config) -> Option<hook::Options> {
    Some(hook::Options {
        url: config.auth_hook.clone()?,
        secret: config.auth_hook_secret.clone(),
        timeout: config.auth_hook_timeout,
        concurrency: config.auth_hook_concurrency as usize,
    })
}
