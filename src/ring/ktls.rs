//! Kernel TLS: sockets whose records the kernel seals and opens (`Documentation/networking/tls.rst` of Linux).
//!
//! A socket is first *attached* (the `tls` ULP), which changes nothing yet, and is then given the keys of either direction. From
//! then on plain bytes are sent and received. A record that is no data fails a plain receive with `EIO`; it is received, and sent,
//! with its type in a control message.

mod probe;
mod records;

use std::fmt;
use std::hint::black_box;

pub use probe::{Lacking, probe};
pub(super) use records::Records;

/// The name of the ULP.
pub(super) const ULP: &[u8; 3] = b"tls";
/// Bytes of the largest [`CryptoInfo`].
const MAX_INFO: usize = 56;

const _: () = assert!(size_of::<libc::tls12_crypto_info_aes_gcm_256>() == MAX_INFO);
const _: () = assert!(size_of::<libc::tls12_crypto_info_chacha20_poly1305>() == MAX_INFO);
const _: () = assert!(size_of::<libc::tls12_crypto_info_aes_gcm_128>() == MAX_INFO - 16);

/// A version of TLS that the kernel may have keys of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A cipher that the kernel may have keys of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// AES-GCM with a key of 16 bytes.
    Aes128Gcm,
    /// AES-GCM with a key of 32 bytes.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Version {
    pub(super) const ALL: [Version; 2] = [Version::Tls12, Version::Tls13];

    /// `TLS_1_2_VERSION`, `TLS_1_3_VERSION`.
    fn number(self) -> u16 {
        match self {
            Version::Tls12 => 0x0303,
            Version::Tls13 => 0x0304,
        }
    }
}

impl Cipher {
    pub(super) const ALL: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

    fn number(self) -> u16 {
        match self {
            Cipher::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
            Cipher::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
            Cipher::ChaCha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
        }
    }

    /// Bytes of a key.
    pub fn key_len(self) -> usize {
        match self {
            Cipher::Aes128Gcm => 16,
            Cipher::Aes256Gcm | Cipher::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes in front of the nonce that the kernel wants apart from the others.
    fn salt_len(self) -> usize {
        match self {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => 4,
            Cipher::ChaCha20Poly1305 => 0,
        }
    }
}

/// The keys of one direction, as the kernel takes them: a `struct tls12_crypto_info_…` of `<linux/tls.h>`. They are wiped when it is
/// dropped.
pub struct CryptoInfo {
    bytes: [u8; MAX_INFO],
    len: usize,
}

impl CryptoInfo {
    /// Keys that begin with the record of number `sequence`. `nonce` is what that number is added to (by exclusive or); with AES-GCM
    /// of TLS 1.2, its last eight bytes are those of the first record sent, and are counted up.
    ///
    /// `None` if the key has not the length of the cipher's.
    pub fn new(version: Version, cipher: Cipher, key: &[u8], nonce: [u8; 12], sequence: u64) -> Option<CryptoInfo> {
        let (salt, iv) = nonce.split_at(cipher.salt_len());
        let (version, number) = (version.number().to_ne_bytes(), cipher.number().to_ne_bytes());
        let sequence = sequence.to_be_bytes();
        let mut info = CryptoInfo { bytes: [0; MAX_INFO], len: 0 };
        for part in [&version[..], &number, iv, key, salt, &sequence] {
            info.bytes.get_mut(info.len..info.len + part.len())?.copy_from_slice(part);
            info.len += part.len();
        }
        (key.len() == cipher.key_len()).then_some(info)
    }

    /// As the kernel reads it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for CryptoInfo {
    fn drop(&mut self) {
        self.bytes.fill(0);
        black_box(&self.bytes);
    }
}

impl fmt::Debug for CryptoInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CryptoInfo").finish_non_exhaustive()
    }
}

/// A record that is no data, and that a server sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// The alert that says that nothing more is sent.
    CloseNotify,
    /// What follows is sealed with the next keys (TLS 1.3).
    KeyUpdate,
    /// The alert that says that a record came which has no place there. Fatal.
    UnexpectedMessage,
    /// The alert that says that the server cannot go on. Fatal.
    InternalError,
}

/// Type of a record (RFC 8446 section 5.1): an alert.
pub const ALERT: u8 = 21;
/// Type of a record: a message of a handshake.
pub const HANDSHAKE: u8 = 22;
/// Type of a record: data.
pub const DATA: u8 = 23;

impl Record {
    const ALL: [Record; 4] = [Record::CloseNotify, Record::KeyUpdate, Record::UnexpectedMessage, Record::InternalError];

    /// Its type and its content.
    fn content(self) -> (u8, &'static [u8]) {
        match self {
            Record::CloseNotify => (ALERT, &[1, 0]),
            Record::KeyUpdate => (HANDSHAKE, &[24, 0, 0, 1, 0]),
            Record::UnexpectedMessage => (ALERT, &[2, 10]),
            Record::InternalError => (ALERT, &[2, 80]),
        }
    }
}

/// What kernel TLS can do here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KernelTls {
    /// A bit for each version and cipher.
    suites: u8,
    /// Whether keys can be replaced (Linux 6.14).
    pub rekeys: bool,
}

impl KernelTls {
    /// As if the kernel could do everything. For tests.
    pub fn everything() -> KernelTls {
        let mut all = KernelTls { suites: 0, rekeys: true };
        Version::ALL.iter().for_each(|&version| Cipher::ALL.iter().for_each(|&cipher| all.add(version, cipher)));
        all
    }

    /// Whether it has a cipher of a version, both to seal and to open.
    pub fn has(self, version: Version, cipher: Cipher) -> bool {
        self.suites & bit(version, cipher) != 0
    }

    fn add(&mut self, version: Version, cipher: Cipher) {
        self.suites |= bit(version, cipher);
    }
}

fn bit(version: Version, cipher: Cipher) -> u8 {
    1 << (version as u8 * Cipher::ALL.len() as u8 + cipher as u8)
}

impl fmt::Display for KernelTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [("TLS 1.2", Version::Tls12), ("TLS 1.3", Version::Tls13)];
        for (name, version) in names {
            let count = Cipher::ALL.iter().filter(|&&cipher| self.has(version, cipher)).count();
            write!(f, "{name} with {count} of {} ciphers, ", Cipher::ALL.len())?;
        }
        write!(f, "{}key updates", if self.rekeys { "" } else { "without " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of one of the C library's structures.
    fn bytes_of<T>(value: &T) -> &[u8] {
        // SAFETY: the structures of <linux/tls.h> are integers and arrays of bytes without padding.
        unsafe { std::slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
    }

    const NONCE: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    const SEQUENCE: [u8; 8] = [0, 0, 0, 0, 0, 0, 1, 2];

    #[test]
    fn keys_are_laid_out_as_the_structures_of_the_kernel() {
        let info = |version, cipher_type| libc::tls_crypto_info { version, cipher_type };
        let gcm_128 = libc::tls12_crypto_info_aes_gcm_128 {
            info: info(0x0303, 51),
            iv: [5, 6, 7, 8, 9, 10, 11, 12],
            key: [7; 16],
            salt: [1, 2, 3, 4],
            rec_seq: SEQUENCE,
        };
        let gcm_256 = libc::tls12_crypto_info_aes_gcm_256 {
            info: info(0x0304, 52),
            iv: [5, 6, 7, 8, 9, 10, 11, 12],
            key: [8; 32],
            salt: [1, 2, 3, 4],
            rec_seq: SEQUENCE,
        };
        let chacha = libc::tls12_crypto_info_chacha20_poly1305 {
            info: info(0x0304, 54),
            iv: NONCE,
            key: [9; 32],
            salt: [],
            rec_seq: SEQUENCE,
        };
        for (version, cipher, key, expected) in [
            (Version::Tls12, Cipher::Aes128Gcm, &[7; 16][..], bytes_of(&gcm_128)),
            (Version::Tls13, Cipher::Aes256Gcm, &[8; 32], bytes_of(&gcm_256)),
            (Version::Tls13, Cipher::ChaCha20Poly1305, &[9; 32], bytes_of(&chacha)),
        ] {
            let info = CryptoInfo::new(version, cipher, key, NONCE, 0x0102).unwrap();
            assert_eq!(info.as_bytes(), expected);
            for bad in [&key[1..], &[0; 48], &[]] {
                assert!(CryptoInfo::new(version, cipher, bad, NONCE, 0).is_none(), "{} bytes of key", bad.len());
            }
        }
    }

    #[test]
    fn every_suite_has_a_bit_of_its_own() {
        let mut some = KernelTls::default();
        for version in Version::ALL {
            for cipher in Cipher::ALL {
                assert!(!some.has(version, cipher));
                some.add(version, cipher);
                assert!(some.has(version, cipher));
            }
        }
        assert_eq!(KernelTls { rekeys: true, ..some }, KernelTls::everything());
        let words = "TLS 1.2 with 3 of 3 ciphers, TLS 1.3 with 3 of 3 ciphers, without key updates";
        assert_eq!(some.to_string(), words);
    }
}
