//! The certificates that the server proves itself with: which files, for which names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is agreed to by ALPN (RFC 7301): there is no HTTP/2 here.
const PROTOCOL: &[u8] = b"http/1.1";

/// The files of a certificate chain, the server's own first, and of its key: PKCS#8, PKCS#1 or SEC1, without a passphrase. Both
/// in PEM.
pub type Pair = (PathBuf, PathBuf);

/// Why certificates cannot be used; in words that name the file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// The certificates, by the names that they are for. The first is for clients that name none of them, or nothing.
#[derive(Debug)]
struct Names {
    first: Arc<CertifiedKey>,
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Names {
    /// The certificate for a name: the one that has it, or the one that has its place in `*.example.org` (RFC 6125 section 6.4.3).
    fn of(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.by_name.get(&*format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&*name).or_else(wildcard).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or(&self.first, |name| self.of(name)).clone())
    }
}

/// The configuration of sessions with these certificates: TLS 1.2 and 1.3, tickets, HTTP/1.1.
///
/// # Errors
/// A file cannot be read, is not what it should be, or a key is not its certificate's.
pub fn configure(pairs: &[Pair]) -> Result<ServerConfig, Unusable> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut names: Option<Names> = None;
    for pair in pairs {
        let key = Arc::new(load(pair, &provider)?);
        let of = dns_names(&key);
        let names = names.get_or_insert_with(|| Names { first: key.clone(), by_name: HashMap::new() });
        for name in of {
            names.by_name.entry(name).or_insert_with(|| key.clone());
        }
    }
    let names = names.ok_or_else(|| Unusable("there is no certificate".into()))?;
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13, &version::TLS12]);
    let builder = builder.map_err(|error| Unusable(error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // For kernel TLS: nothing takes them out of the process.
    config.enable_secret_extraction = true;
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| Unusable(error.to_string()))?;
    Ok(config)
}

fn load(pair: &Pair, provider: &CryptoProvider) -> Result<CertifiedKey, Unusable> {
    let (certificate, key) = pair;
    let bad = |file: &Path, why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", file.display()));
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain: Vec<CertificateDer<'static>> = chain.map_err(|error| bad(certificate, &error))?;
    if chain.is_empty() {
        return Err(bad(certificate, &"there is no certificate in it"));
    }
    // What is wrong with it would else be taken for the key's fault.
    EndEntityCert::try_from(&chain[0]).map_err(|error| bad(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| bad(key, &error))
}

/// When the first of the certificates expires (RFC 5280 section 4.1.2.5), in seconds since 1970: those that clients are shown, and
/// those of whoever issued them. `None` if none of them can be read.
pub fn first_expiry(pairs: &[Pair]) -> Option<u64> {
    let chains = pairs.iter().filter_map(|(file, _)| CertificateDer::pem_file_iter(file).ok());
    chains.flatten().filter_map(|certificate| not_after(&certificate.ok()?)).min()
}

fn not_after(der: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// The names that a certificate is for, in lower case.
fn dns_names(key: &CertifiedKey) -> Vec<Box<str>> {
    let end_entity = key.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok());
    end_entity.iter().flat_map(|cert| cert.valid_dns_names().map(|name| name.to_ascii_lowercase().into())).collect()
}
