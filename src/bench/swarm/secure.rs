//! TLS, for connections of a `wss` URL: what is sent is sealed, what is read is opened.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::{Attention, Core, Event};
use crate::limits::READ_BUFFER_BYTES;
use crate::ring::token::ConnId;

/// The sessions of a thread's connections, by slot.
#[derive(Default)]
pub(super) struct Sessions(HashMap<u32, Box<ClientConnection>>);

impl Sessions {
    /// Whether a slot's connection has TLS.
    pub(super) fn has(&self, index: u32) -> bool {
        self.0.contains_key(&index)
    }

    pub(super) fn end(&mut self, index: u32) {
        self.0.remove(&index);
    }

    /// Begins a session with a server of that name.
    fn begin(
        &mut self,
        index: u32,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<(), rustls::Error> {
        let mut session = Box::new(ClientConnection::new(config.clone(), name.clone())?);
        // What waits is bounded where plain bytes are: by who sends.
        session.set_buffer_limit(None);
        self.0.insert(index, session);
        Ok(())
    }
}

/// What a session has for its server.
fn sealed(session: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector does not fail.
    while session.wants_write() && session.write_tls(&mut bytes).is_ok() {}
    bytes
}

/// Takes what the server has sent, and appends what was in it to `plain`.
fn opened(session: &mut ClientConnection, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        // Behind its goodbye nothing is read.
        if session.read_tls(&mut bytes)? == 0 {
            break;
        }
        let state = session.process_new_packets().map_err(io::Error::other)?;
        let (begin, len) = (plain.len(), state.plaintext_bytes_to_read());
        plain.resize(begin + len, 0);
        session.reader().read_exact(&mut plain[begin..])?;
    }
    Ok(())
}

impl Core {
    /// Sees to it that what follows is under TLS, where the URL wants that.
    pub(super) fn begin_tls(&mut self, id: ConnId) -> Result<(), String> {
        let role = self.conns[id.index as usize].role;
        let Some((config, name)) = self.target.tls(role) else { return Ok(()) };
        self.sessions.begin(id.index, config, name).map_err(|error| format!("TLS: {error}"))
    }

    /// Sends bytes, after all that the connection was given before.
    pub(super) fn push(&mut self, id: ConnId, bytes: &[u8]) {
        match self.sessions.0.get_mut(&id.index) {
            None => self.outboxes.push(id, bytes),
            // Writing to a session without a limit does not fail.
            Some(session) => {
                let _ = session.writer().write_all(bytes);
                self.outboxes.push(id, &sealed(session));
            }
        }
    }

    /// Bytes of the socket, whatever they are.
    pub(super) fn arrived(&mut self, id: ConnId, bytes: &mut [u8], on: &mut dyn FnMut(Event<'_>)) {
        let Some(session) = self.sessions.0.get_mut(&id.index) else { return self.take(id, bytes, on) };
        let mut plain = std::mem::take(&mut self.plain);
        let outcome = opened(session, bytes, &mut plain);
        // An alert too.
        self.outboxes.push(id, &sealed(session));
        if !plain.is_empty() {
            self.take(id, &mut plain, on);
        }
        plain.clear();
        plain.shrink_to(2 * READ_BUFFER_BYTES);
        self.plain = plain;
        if let Err(error) = outcome {
            self.lost(id, format!("TLS: {error}"), on);
        }
    }

    /// Whether messages of a connection are not told of: it is counted, but only what is opened can be.
    pub(super) fn is_silent(&self, id: ConnId) -> bool {
        self.conns[id.index as usize].attention == Attention::Count && self.sessions.has(id.index)
    }
}
