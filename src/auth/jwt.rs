//! JSON Web Tokens (RFC 7519), and the keys that they are checked with.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::grant::{Allowed, Pass, Said};
use crate::config::{Patterns, Secret};
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
    /// What it says is not what it should be.
    #[error("its claims are not what they should be")]
    Claims,
    /// It is a topic's and was brought for something else, or the other way round, or another topic's.
    #[error("for something else")]
    Purpose,
    /// What checks tokens has failed.
    #[error("it could not be checked")]
    Unchecked,
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
}

/// What is read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<u64>,
    /// Looked at by the library, which passes over one that is no number.
    #[serde(default, deserialize_with = "present", rename = "nbf")]
    _nbf: Option<u64>,
    #[serde(default)]
    uproar: Written,
}

/// The claim `uproar` as it is written: of a topic's token, the topic; of any other, lists.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    rooms: Option<Patterns>,
    subscribe: Option<Patterns>,
    publish: Option<Patterns>,
    presence: Option<Patterns>,
    history: Option<Patterns>,
    #[serde(default, deserialize_with = "present")]
    topic: Option<String>,
}

/// What is there is a value: `null` is none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Keys {
    /// Keys of the configuration.
    ///
    /// # Errors
    /// A file cannot be read or has no public key of RSA, P-256 or Ed25519; in words that name it.
    pub fn new(
        secrets: &[Secret],
        files: &[String],
        expected: (Option<String>, Option<String>),
    ) -> Result<Keys, String> {
        let secrets = secrets.iter().map(|secret| Key {
            id: None,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.bytes()),
        });
        let mut own: Vec<Key> = secrets.collect();
        for file in files {
            own.push(public_key(Path::new(file))?);
        }
        let (issuer, audience) = expected;
        Ok(Keys { own, fetched: Vec::new(), issuer, audience })
    }

    /// The same with the keys of a set (RFC 7517) in place of those of an earlier one. Keys of other kinds are passed over.
    ///
    /// # Errors
    /// The text is no set of keys, or has none that is of use.
    pub fn with_set(&self, text: &[u8]) -> Result<Keys, &'static str> {
        let set: Set = serde_json::from_slice(text).map_err(|_| "is no set of keys (RFC 7517)")?;
        let known = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let fetched: Vec<Key> = known.filter_map(|jwk| key_of(&jwk)).take(MAX_KEYS).collect();
        if fetched.is_empty() {
            return Err("has no public key for RS256, ES256 or EdDSA");
        }
        let own = self.own.clone();
        let (issuer, audience) = (self.issuer.clone(), self.audience.clone());
        Ok(Keys { own, fetched, issuer, audience })
    }

    /// The same with the keys of the set that others have.
    pub fn with_set_of(self, others: &Keys) -> Keys {
        Keys { fetched: others.fetched.clone(), ..self }
    }

    /// Whether there are none: then no token is accepted.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.fetched.is_empty()
    }

    /// What a client's own token says.
    ///
    /// # Errors
    /// It is not accepted; a topic's token is none.
    pub fn session(&self, token: &str) -> Result<Said, Denied> {
        let Claimed { user, expires, uproar } = self.claims(token)?;
        let Written { rooms, subscribe, publish, presence, history, topic } = uproar;
        let allowed = Allowed { rooms, subscribe, publish, presence, history };
        match topic {
            Some(_) => Err(Denied::Purpose),
            None if !allowed.is_bounded() => Err(Denied::Claims),
            None => Ok(Said { user, expires, allowed }),
        }
    }

    /// What a topic's token says.
    ///
    /// # Errors
    /// It is not accepted, or not this topic's; a client's own token is none, whatever it allows: whoever makes those knows of no
    /// single topic, and whoever makes these says nothing of all the others.
    pub fn pass(&self, token: &str, topic: &str) -> Result<Pass, Denied> {
        let Claimed { user, expires, uproar } = self.claims(token)?;
        match uproar {
            Written {
                rooms: None,
                subscribe: None,
                publish: None,
                presence: None,
                history: None,
                topic: Some(named),
            } => {
                let is_theirs = Patterns(vec![named]).includes(topic);
                is_theirs.then_some(Pass { user, expires }).ok_or(Denied::Purpose)
            }
            Written { topic: Some(_), .. } => Err(Denied::Claims),
            Written { topic: None, .. } => Err(Denied::Purpose),
        }
    }

    /// What a token says that one of the keys has made, at its time.
    fn claims(&self, token: &str) -> Result<Claimed, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Invalid)?;
        if has_extensions(token) {
            return Err(Denied::Invalid);
        }
        // The algorithm is the key's: a token cannot choose how it is checked.
        let of_kind = || self.own.iter().chain(&self.fetched).filter(|key| key.algorithm == header.alg);
        let fits = |key: &&Key| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
        let mut outcome = if of_kind().next().is_some() { Denied::UnknownKey } else { Denied::Invalid };
        for key in of_kind().filter(fits) {
            match decode::<Claims>(token, &key.key, &self.validation(header.alg)) {
                Ok(data) => return Claimed::try_from(data.claims),
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
}

/// What a token says, as far as it is the same of all.
struct Claimed {
    user: Option<Box<str>>,
    expires: Option<u64>,
    uproar: Written,
}

impl TryFrom<Claims> for Claimed {
    type Error = Denied;

    fn try_from(claims: Claims) -> Result<Claimed, Denied> {
        let user = claims.sub.filter(|user| !user.is_empty());
        if user.as_deref().is_some_and(|user| !is_topic_name(user)) {
            return Err(Denied::Claims);
        }
        let expires = claims.exp.map(|seconds| seconds.saturating_mul(1000));
        Ok(Claimed { user: user.map(Into::into), expires, uproar: claims.uproar })
    }
}

/// Whether a token's header names what whoever accepts it must understand (`crit`, RFC 7515 section 4.1.11): none of that is
/// understood here. One that cannot be read has no good signature either.
fn has_extensions(token: &str) -> bool {
    let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Map<String, Value>>(&header).ok());
    header.is_none_or(|header| header.contains_key("crit"))
}

/// A set of keys (RFC 7517 section 5), each of which may be of a kind that is not known.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
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

/// A key of a set, if it is of a kind that is of use, and for signatures.
fn key_of(jwk: &Jwk) -> Option<Key> {
    let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let verifies = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    if !is_for_signatures || !verifies {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a-secret-of-more-than-32-characters";

    fn keys() -> Keys {
        Keys::new(&[Secret::new(SECRET)], &[], (None, None)).expect("a key")
    }

    /// A token of this header and these claims, as they are written.
    fn written(header: &str, claims: &str) -> String {
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed");
        format!("{message}.{signature}")
    }

    fn token(claims: &Value) -> String {
        let header = serde_json::to_string(&Header::default()).expect("a header");
        written(&header, &claims.to_string())
    }

    #[test]
    fn a_topics_token_is_for_that_and_a_clients_own_is_not() {
        let keys = keys();
        let pass = |claims: &Value, topic: &str| keys.pass(&token(claims), topic);
        let session = |claims: &Value| keys.session(&token(claims));
        let vip = json!({"sub": "ann", "exp": 9_999_999_999_u64, "uproar": {"topic": "vip"}});
        assert_eq!(pass(&vip, "vip"), Ok(Pass { user: Some("ann".into()), expires: Some(9_999_999_999_000) }));
        assert_eq!(pass(&vip, "vip.2"), Err(Denied::Purpose));
        assert_eq!(session(&vip), Err(Denied::Purpose));
        let all_of_vip = json!({"uproar": {"topic": "vip.*"}});
        assert_eq!(pass(&all_of_vip, "vip.2"), Ok(Pass { user: None, expires: None }));
        for own in [json!({}), json!({"uproar": {}}), json!({"uproar": {"subscribe": ["vip"]}})] {
            assert_eq!(pass(&own, "vip"), Err(Denied::Purpose), "{own}");
            assert!(session(&own).is_ok(), "{own}");
        }
        for both in [
            json!({"uproar": {"topic": "vip", "subscribe": ["vip"]}}),
            json!({"uproar": {"topic": "vip", "publish": []}}),
            json!({"uproar": {"topic": null}}),
            json!({"uproar": {"topic": ["vip"]}}),
            json!({"uproar": {"topics": "vip"}}),
        ] {
            assert_eq!(pass(&both, "vip"), Err(Denied::Claims), "{both}");
            assert!(session(&both).is_err(), "{both}");
        }
    }

    #[test]
    fn a_time_that_is_none_is_no_time() {
        for name in ["exp", "nbf"] {
            for bad in ["null", "\"1\"", "true", "[1]", "-1", "1.5", "1e40", "{}"] {
                let claims = format!(r#"{{"{name}":{bad}}}"#);
                assert!(keys().session(&written(r#"{"alg":"HS256"}"#, &claims)).is_err(), "{claims}");
            }
        }
        assert_eq!(keys().session(&token(&json!({"nbf": 9_999_999_999_u64}))), Err(Denied::Expired));
        assert!(keys().session(&token(&json!({"nbf": 1, "exp": 9_999_999_999_u64}))).is_ok());
    }

    #[test]
    fn what_must_be_understood_and_is_not_refuses() {
        for (header, is_good) in [
            (r#"{"alg":"HS256"}"#, true),
            (r#"{"alg":"HS256","b64":true}"#, true),
            (r#"{"alg":"HS256","crit":["b64"],"b64":true}"#, false),
            (r#"{"alg":"HS256","crit":[]}"#, false),
            (r#"{"alg":"HS256","crit":null}"#, false),
            (r#"{"alg":"HS256","cr\u0069t":["exp"]}"#, false),
        ] {
            let outcome = keys().session(&written(header, "{}"));
            assert_eq!(outcome.err(), (!is_good).then_some(Denied::Invalid), "{header}");
        }
    }

    #[test]
    fn keys_of_a_set_are_taken_that_are_for_signatures() {
        // RFC 8037, appendix A.2.
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        for (more, is_taken) in [
            (json!({}), true),
            (json!({"use": "sig"}), true),
            (json!({"use": "enc"}), false),
            (json!({"use": "tls"}), false),
            (json!({"key_ops": ["verify"]}), true),
            (json!({"key_ops": ["sign", "verify"]}), true),
            (json!({"key_ops": ["sign"]}), false),
            (json!({"key_ops": []}), false),
            (json!({"use": "sig", "key_ops": ["encrypt"]}), false),
            (json!({"alg": "EdDSA"}), true),
            (json!({"alg": "ES256"}), false),
        ] {
            let mut key = key.clone();
            more.as_object().expect("an object").iter().for_each(|(name, value)| key[name] = value.clone());
            let set = json!({"keys": [{"kty": "of another time"}, 7, key]}).to_string();
            assert_eq!(keys().with_set(set.as_bytes()).is_ok(), is_taken, "{more}");
        }
    }
}
