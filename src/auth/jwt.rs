//! JSON Web Tokens (RFC 7519), and the keys that they are checked with.

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::grant::{Allowed, Grant, Permissions};
use crate::config::Secret;
use crate::limits::is_topic_name;

/// Seconds that clocks may differ.
const LEEWAY: u64 = 5;
/// Keys of a set that are taken notice of.
const MAX_KEYS: usize = 64;

/// Why a token is not accepted. A client is told no more than whether it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// It is no token, or of another kind, or none of the keys has made it.
    #[error("not a token that one of the keys has made")]
    Invalid,
    /// It names a key that is not known (yet).
    #[error("made with a key that is not known")]
    UnknownKey,
    /// Its time is over, or has not come.
    #[error("not valid at this time")]
    Expired,
    /// It is for somebody else, or from somebody else.
    #[error("for another audience, or from another issuer")]
    Elsewhere,
    /// What it says of permissions is not what it should be.
    #[error("its claims are not what they should be")]
    Claims,
}

/// A key, and what it makes.
#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Everything that tokens are checked with.
pub struct Keys {
    own: Vec<Key>,
    fetched: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
    defaults: Arc<Permissions>,
}

/// What is read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<u64>,
    #[serde(default)]
    uproar: Allowed,
}

impl Keys {
    /// Keys of the configuration.
    ///
    /// # Errors
    /// A file cannot be read or has no public key of RSA, P-256 or Ed25519; in words that name it.
    pub fn new(
        secret: Option<&Secret>,
        files: &[String],
        expected: (Option<String>, Option<String>),
        defaults: Arc<Permissions>,
    ) -> Result<Keys, String> {
        let secret = secret.map(|secret| Key {
            id: None,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.bytes()),
        });
        let mut own: Vec<Key> = secret.into_iter().collect();
        for file in files {
            own.push(public_key(Path::new(file))?);
        }
        let (issuer, audience) = expected;
        Ok(Keys { own, fetched: Vec::new(), issuer, audience, defaults })
    }

    /// The same with the keys of a set (RFC 7517) in place of those of an earlier one. Keys of other kinds are passed over.
    ///
    /// # Errors
    /// The text is no set of keys, or has none that is of use.
    pub fn with_set(&self, text: &[u8]) -> Result<Keys, &'static str> {
        let set: JwkSet = serde_json::from_slice(text).map_err(|_| "is no set of keys (RFC 7517)")?;
        let fetched: Vec<Key> = set.keys.iter().filter_map(key_of).take(MAX_KEYS).collect();
        if fetched.is_empty() {
            return Err("has no public key for RS256, ES256 or EdDSA");
        }
        let own = self.own.clone();
        let (issuer, audience) = (self.issuer.clone(), self.audience.clone());
        Ok(Keys { own, fetched, issuer, audience, defaults: self.defaults.clone() })
    }

    /// The same with the keys of the set that others have.
    pub fn with_set_of(self, others: &Keys) -> Keys {
        Keys { fetched: others.fetched.clone(), ..self }
    }

    /// What a token grants.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn check(&self, token: &str) -> Result<Grant, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Invalid)?;
        // The algorithm is the key's: a token cannot choose how it is checked.
        let of_kind = || self.own.iter().chain(&self.fetched).filter(|key| key.algorithm == header.alg);
        let fits = |key: &&Key| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
        let mut outcome = if of_kind().next().is_some() { Denied::UnknownKey } else { Denied::Invalid };
        for key in of_kind().filter(fits) {
            match decode::<Claims>(token, &key.key, &self.validation(header.alg)) {
                Ok(data) => return self.grant(data.claims),
                Err(error) => outcome = denied(error.kind()),
            }
            if outcome != Denied::Invalid {
                break;
            }
        }
        Err(outcome)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.required_spec_claims.clear();
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".into());
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        validation
    }

    fn grant(&self, claims: Claims) -> Result<Grant, Denied> {
        let user = claims.sub.filter(|user| !user.is_empty());
        if user.as_deref().is_some_and(|user| !is_topic_name(user)) || !claims.uproar.is_bounded() {
            return Err(Denied::Claims);
        }
        let expires = claims.exp.map(|seconds| seconds.saturating_mul(1000));
        Ok(Grant { user: user.map(Into::into), expires, may: claims.uproar.over(&self.defaults) })
    }
}

fn denied(kind: &jsonwebtoken::errors::ErrorKind) -> Denied {
    use jsonwebtoken::errors::ErrorKind::*;
    match kind {
        ExpiredSignature | ImmatureSignature => Denied::Expired,
        InvalidAudience | InvalidIssuer | MissingRequiredClaim(_) => Denied::Elsewhere,
        Json(_) => Denied::Claims,
        _ => Denied::Invalid,
    }
}

/// The public key of a file.
fn public_key(file: &Path) -> Result<Key, String> {
    let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let rsa = DecodingKey::from_rsa_pem(&text).map(|key| (Algorithm::RS256, key));
    let p256 = |_| DecodingKey::from_ec_pem(&text).map(|key| (Algorithm::ES256, key));
    let ed25519 = |_| DecodingKey::from_ed_pem(&text).map(|key| (Algorithm::EdDSA, key));
    let unknown = |_| format!("{}: no public key of RSA, P-256 or Ed25519 in PEM", file.display());
    let (algorithm, key) = rsa.or_else(p256).or_else(ed25519).map_err(unknown)?;
    Ok(Key { id: None, algorithm, key })
}

/// A key of a set, if it is of a kind that is of use.
fn key_of(jwk: &Jwk) -> Option<Key> {
    let algorithm = match (&jwk.common.key_algorithm, &jwk.algorithm) {
        (None | Some(KeyAlgorithm::RS256), AlgorithmParameters::RSA(_)) => Algorithm::RS256,
        (None | Some(KeyAlgorithm::ES256), AlgorithmParameters::EllipticCurve(curve))
            if curve.curve == EllipticCurve::P256 =>
        {
            Algorithm::ES256
        }
        (None | Some(KeyAlgorithm::EdDSA), AlgorithmParameters::OctetKeyPair(_)) => Algorithm::EdDSA,
        _ => return None,
    };
    Some(Key { id: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}
