//! TLS of one connection: records in, plain bytes out, and the other way.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};

use super::kernel::{self, Keys};
use crate::ring::ktls::{Cipher, Version};

/// Plain bytes of one record at most (RFC 8446 section 5.1).
pub const MAX_PLAIN: usize = 16 * 1024;
/// What a record may have beside its plain bytes: header, type, tag, and what TLS 1.2 has in front.
const AROUND: usize = 64;
/// Bytes that a client may send before its handshake is done and they make a whole message. The largest messages of clients
/// without certificates are far smaller.
const MAX_HANDSHAKE: usize = 64 * 1024;
/// Bytes of a record that is not there in whole.
const MAX_INCOMPLETE: usize = MAX_PLAIN + 2048 + 5;

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The handshake is not done: the client has to send more.
    Handshake,
    /// Plain bytes flow.
    Open,
    /// The client has said that it sends no more (`close_notify`).
    Ended,
}

/// Why a session is over.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Broken {
    /// The client broke the protocol, or wants what is not offered.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The client goes on sending and nothing comes of it.
    #[error("a handshake or a record of more bytes than one may have")]
    TooLarge,
}

/// The server's side of TLS 1.2 or 1.3 (RFC 5246, RFC 8446).
///
/// It has no buffers but for what has come of an incomplete record.
pub struct Session {
    conn: UnbufferedServerConnection,
    /// What has come of a record that is not there in whole.
    incoming: Vec<u8>,
    open: bool,
    ended: bool,
    /// Nothing has come since something was sealed.
    has_last_word: bool,
}

impl Session {
    /// A session that waits for the client's first message.
    ///
    /// # Errors
    /// The configuration is not one that a session can be made of.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, rustls::Error> {
        let conn = UnbufferedServerConnection::new(config)?;
        Ok(Session { conn, incoming: Vec::new(), open: false, ended: false, has_last_word: false })
    }

    /// Whether the handshake is done.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Its version and cipher, as the kernel names them; `None` before the handshake is done.
    pub fn suite(&self) -> Option<(Version, Cipher)> {
        kernel::suite(&self.conn).filter(|_| self.open)
    }

    /// Whether nothing is lost if the kernel goes on from here: it is open, keeps no part of a record, and nothing has come since it
    /// sealed something. So no answer to a change of keys waits in it.
    pub fn owes_nothing(&self) -> bool {
        self.open && !self.ended && self.incoming.is_empty() && self.has_last_word
    }

    /// Its keys, for the kernel. What it has sealed must be sent before anything else. `keeps_next`: keys can be replaced.
    ///
    /// # Errors
    /// It is not open, or has keys that the kernel does not know.
    pub fn into_keys(self, keeps_next: bool) -> Result<Keys, Broken> {
        kernel::keys(self.conn, keeps_next)
    }

    /// Takes in what the client has sent. Plain bytes are appended to `plain`, and what the client is to be sent to `reply`.
    ///
    /// # Errors
    /// The session is over. `reply` has the alert that says so.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<Progress, Broken> {
        self.has_last_word = false;
        if self.incoming.is_empty() {
            // Most reads are whole records, which are decrypted where they are.
            let done = self.process(bytes, plain, reply)?;
            self.incoming.extend_from_slice(&bytes[done..]);
        } else {
            self.incoming.extend_from_slice(bytes);
            let mut incoming = std::mem::take(&mut self.incoming);
            let done = self.process(&mut incoming, plain, reply)?;
            incoming.drain(..done);
            self.incoming = incoming;
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        if self.incoming.len() > if self.open { MAX_INCOMPLETE } else { MAX_HANDSHAKE } {
            return Err(Broken::TooLarge);
        }
        Ok(match (self.ended, self.open) {
            (true, _) => Progress::Ended,
            (false, true) => Progress::Open,
            (false, false) => Progress::Handshake,
        })
    }

    /// Goes through the records at the start of `bytes`; how many bytes are done with.
    fn process(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut done = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.conn.process_tls_records(&mut bytes[done..]);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, reply);
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.open = true;
                    false
                }
                // Early data is not agreed to; nothing follows a blocked handshake or the end of both sides.
                Ok(_) => false,
                Err(error) => {
                    self.alert(&mut bytes[done..], reply);
                    return Err(error.into());
                }
            };
            done += discard;
            if !goes_on {
                return Ok(done);
            }
        }
    }

    /// What the client is told of an error in `bytes`.
    fn alert(&mut self, bytes: &mut [u8], reply: &mut Vec<u8>) {
        // Once: what comes first is what is to be sent; after that, the error would be found again.
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.conn.process_tls_records(bytes).state {
            encode(&mut data, reply);
        }
    }

    /// Appends records with these plain bytes to `out`. The session must be open.
    ///
    /// # Errors
    /// The keys are used up (RFC 8446 section 5.5): the connection must end.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        for piece in plain.chunks(MAX_PLAIN) {
            self.write(piece.len(), out, |traffic, out| traffic.encrypt(piece, out))?;
            self.has_last_word = true;
        }
        Ok(())
    }

    /// Appends the record that says that nothing more is sent (`close_notify`).
    ///
    /// # Errors
    /// As [`Session::seal`].
    pub fn seal_end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.write(0, out, |traffic, out| traffic.queue_close_notify(out))
    }

    /// Appends a record that `seal` writes to `out`, with `len` plain bytes.
    fn write(
        &mut self,
        len: usize,
        out: &mut Vec<u8>,
        mut seal: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Broken> {
        loop {
            match self.conn.process_tls_records(&mut self.incoming).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let sealed = append(out, len + AROUND, |out| match seal(&mut traffic, out) {
                        Err(EncryptError::InsufficientSize(size)) => Err(size.required_size),
                        outcome => Ok(outcome.ok()),
                    });
                    return sealed.ok_or(Broken::Tls(rustls::Error::EncryptError));
                }
                // The answer to the client's change of keys goes before.
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out),
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(rustls::Error::HandshakeNotComplete.into()),
            }
        }
    }
}

type Traffic<'c> = WriteTraffic<'c, ServerConnectionData>;

/// Appends a message of the handshake, or an alert, to `out`.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    append(out, 1024, |out| match data.encode(out) {
        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
        outcome => Ok(outcome.ok()),
    });
}

/// Lets `write` write behind what is in `out`, where it has `room` bytes at first. It says how much it has written, if anything,
/// or how much room it needs.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<Option<usize>, usize>,
) -> Option<()> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(len) => {
                out.truncate(start + len.unwrap_or(0));
                return len.map(drop);
            }
            Err(wanted) => room = wanted.max(room + 1),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("open", &self.open).field("ended", &self.ended).finish_non_exhaustive()
    }
}
