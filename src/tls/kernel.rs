//! From a session to keys that the kernel seals and opens records with, and what a client's records that are no data mean then.

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};

use super::session::Broken;
use crate::ring::ktls::{ALERT, Cipher, CryptoInfo, HANDSHAKE, Version};

/// What of a session goes on when the kernel has its keys.
pub struct Keys {
    /// What is sent is sealed with these.
    pub send: CryptoInfo,
    /// What comes is opened with these.
    pub receive: CryptoInfo,
    /// Records that may be sent before they are used up (RFC 8446 section 5.5).
    pub records: u64,
    /// Where keys follow on these (TLS 1.3).
    pub next: Option<NextKeys>,
}

/// Where the keys of a session come from that follow on those before.
pub struct NextKeys {
    session: KernelConnection<ServerConnectionData>,
    cipher: Cipher,
}

impl NextKeys {
    /// The next keys to seal with.
    ///
    /// # Errors
    /// There are none.
    pub fn send(&mut self) -> Result<CryptoInfo, Broken> {
        let next = self.session.update_tx_secret()?;
        crypto_info(Version::Tls13, self.cipher, next, NonceStart::Same)
    }

    /// The next keys to open with.
    ///
    /// # Errors
    /// There are none.
    pub fn receive(&mut self) -> Result<CryptoInfo, Broken> {
        let next = self.session.update_rx_secret()?;
        crypto_info(Version::Tls13, self.cipher, next, NonceStart::Same)
    }

    /// Records that may be sent with each.
    pub fn records(&self) -> u64 {
        confidentiality_limit(self.session.negotiated_cipher_suite())
    }
}

/// The version and cipher of a session whose handshake is done, as the kernel names them.
pub(super) fn suite(conn: &UnbufferedServerConnection) -> Option<(Version, Cipher)> {
    let version = match conn.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Version::Tls12,
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        _ => return None,
    };
    use rustls::CipherSuite as S;
    let cipher = match conn.negotiated_cipher_suite()?.suite() {
        S::TLS13_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
        S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
        S::TLS13_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
        S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 | S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
        S::TLS13_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
        S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
        S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
        _ => return None,
    };
    Some((version, cipher))
}

/// The keys of a session whose handshake is done, and of which nothing is left to be sent. `keeps_next`: keys can be replaced.
pub(super) fn keys(conn: UnbufferedServerConnection, keeps_next: bool) -> Result<Keys, Broken> {
    let (version, cipher) = suite(&conn).ok_or(rustls::Error::HandshakeNotComplete)?;
    let (secrets, session) = conn.dangerous_into_kernel_connection()?;
    let limit = confidentiality_limit(session.negotiated_cipher_suite());
    let records = limit.saturating_sub(secrets.tx.0);
    let next = keeps_next && version == Version::Tls13;
    Ok(Keys {
        send: crypto_info(version, cipher, secrets.tx, NonceStart::Unused)?,
        receive: crypto_info(version, cipher, secrets.rx, NonceStart::Same)?,
        records,
        next: next.then_some(NextKeys { session, cipher }),
    })
}

/// Where the nonces begin that the kernel counts up by itself: with AES-GCM of TLS 1.2, which sends them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NonceStart {
    /// Where they began.
    Same,
    /// Among those that the session cannot have used.
    Unused,
}

fn crypto_info(
    version: Version,
    cipher: Cipher,
    secrets: (u64, ConnectionTrafficSecrets),
    start: NonceStart,
) -> Result<CryptoInfo, Broken> {
    let (sequence, secrets) = secrets;
    use ConnectionTrafficSecrets as Of;
    let (Of::Aes128Gcm { key, iv } | Of::Aes256Gcm { key, iv } | Of::Chacha20Poly1305 { key, iv }) = secrets else {
        return Err(rustls::Error::General("keys of an unknown cipher".into()).into());
    };
    let mut nonce = [0; 12];
    nonce.copy_from_slice(iv.as_ref());
    if version == Version::Tls12 && cipher != Cipher::ChaCha20Poly1305 && start == NonceStart::Unused {
        apart(&mut nonce);
    }
    let info = CryptoInfo::new(version, cipher, key.as_ref(), nonce, sequence);
    info.ok_or_else(|| rustls::Error::General("a key of another length than its cipher's".into()).into())
}

/// Moves the explicit nonce (RFC 5288 section 3) to where the session has sent none. Its nonces are the first one with the record's
/// number added by exclusive or, which is below 2³²; the kernel's are counted up from here. To begin at the same one would use some
/// of them twice, which gives the key away.
fn apart(nonce: &mut [u8; 12]) {
    nonce[4] ^= 0x80;
}

fn confidentiality_limit(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
    }
}

/// What a client's record that is no data means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Nothing that has to be acted upon.
    Nothing,
    /// The client sends no more (`close_notify`).
    End,
    /// The client is gone, and has said why.
    Failure,
    /// What follows is sealed with the client's next keys.
    KeyUpdate {
        /// It wants the server to take its next ones too.
        answer: bool,
    },
    /// It has no place here.
    Unexpected,
}

/// Reads a record that is no data, of a session whose handshake is done (RFC 8446 sections 4.6.3 and 6).
pub fn meaning(kind: u8, content: &[u8]) -> Meaning {
    const WARNING: u8 = 1;
    const CLOSE_NOTIFY: u8 = 0;
    const USER_CANCELED: u8 = 90;
    const NO_RENEGOTIATION: u8 = 100;
    match (kind, content) {
        (ALERT, [_, CLOSE_NOTIFY]) => Meaning::End,
        (ALERT, [WARNING, USER_CANCELED | NO_RENEGOTIATION]) => Meaning::Nothing,
        (ALERT, [_, _]) => Meaning::Failure,
        // A change of keys ends its record: nothing else is in it.
        (HANDSHAKE, [24, 0, 0, 1, asked @ (0 | 1)]) => Meaning::KeyUpdate { answer: *asked == 1 },
        _ => Meaning::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_mean_what_the_standard_says() {
        for (kind, content, expected) in [
            (ALERT, &[1, 0][..], Meaning::End),
            (ALERT, &[2, 0], Meaning::End),
            (ALERT, &[1, 90], Meaning::Nothing),
            (ALERT, &[1, 100], Meaning::Nothing),
            (ALERT, &[2, 20], Meaning::Failure),
            (ALERT, &[2], Meaning::Unexpected),
            (HANDSHAKE, &[24, 0, 0, 1, 0], Meaning::KeyUpdate { answer: false }),
            (HANDSHAKE, &[24, 0, 0, 1, 1], Meaning::KeyUpdate { answer: true }),
            (HANDSHAKE, &[24, 0, 0, 1, 2], Meaning::Unexpected),
            (HANDSHAKE, &[24, 0, 0, 1, 0, 24], Meaning::Unexpected),
            (HANDSHAKE, &[1, 0, 0, 0], Meaning::Unexpected),
            (20, &[1], Meaning::Unexpected),
            (HANDSHAKE, &[], Meaning::Unexpected),
        ] {
            assert_eq!(meaning(kind, content), expected, "{kind} {content:?}");
        }
    }

    proptest::proptest! {
        /// No nonce that the kernel counts to is one that a session has used, each with up to 2³² records.
        #[test]
        fn nonces_are_used_once(first: u64, used in 0u64..1 << 32, counted in 0u64..1 << 32) {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&first.to_be_bytes());
            apart(&mut nonce);
            let start = u64::from_be_bytes(nonce[4..].try_into().unwrap());
            proptest::prop_assert_ne!(start.wrapping_add(counted), first ^ used);
        }
    }
}
