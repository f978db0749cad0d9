//! Who is let in: newcomers, by the room that is left and by the address that they come from; and which address that is, where
//! a proxy that is trusted speaks for others.

use std::net::IpAddr;
use std::sync::Once;

use crate::admission::{Admitted, Excess};
use crate::conn::peer::Peer;
use crate::conn::proxy::{self, Malformed};
use crate::conn::{Phase, Session, Unparsed};
use crate::error::CloseReason;
use crate::http::forwarded::{self, Contradiction};
use crate::http::request::Request;
use crate::http::response::{Framing, Response};
use crate::limits::SPARE_SLOTS;
use crate::ring::token::ConnId;

use super::{Core, Shard};

/// Why a connection is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// The server, or the shard, has as many as it may have.
    Full,
    /// Memory is short.
    Memory,
    /// Its address has too much of something.
    Address(Excess),
    /// It comes from nobody who may use the PROXY protocol, which is all that is spoken.
    NoProxy,
    /// It does not begin with a PROXY header.
    NoHeader,
    /// A request says two things about whom it is from.
    Contradiction,
}

impl Refusal {
    fn response(self) -> Response<'static> {
        match self {
            Refusal::Full => Response::unavailable(1, "The server has as many connections as it may have."),
            Refusal::Memory => Response::unavailable(1, "The server is short of memory."),
            Refusal::Address(Excess::Connections) => {
                Response::too_many(10, "Your address has as many connections as it may have.")
            }
            Refusal::Address(Excess::Rate) => Response::too_many(1, "Your address makes connections too fast."),
            Refusal::NoProxy => Response::error(403, "Only the proxies of this server may connect to it."),
            Refusal::NoHeader => Response::error(400, &Malformed.to_string()),
            Refusal::Contradiction => Response::error(400, &Contradiction.to_string()),
        }
    }
}

impl Shard {
    /// Bytes of a connection that is to begin with a PROXY header. What follows that is the connection's own.
    pub(super) fn proxy_header(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.core.conns.get_mut(id).filter(|conn| conn.phase == Phase::Head) else { return };
        let Session::Head(earlier) = &mut conn.session else { return };
        let mut all = earlier.take().map_or(Vec::new(), |earlier| earlier.bytes);
        all.extend_from_slice(bytes);
        let outcome = match proxy::parse(&all) {
            Ok(None) => {
                *earlier = Some(Box::new(Unparsed { bytes: all, ..Unparsed::default() }));
                return;
            }
            Ok(Some(header)) => {
                conn.flags.set_headless(false);
                self.core.introduced(id, header).map(|()| header.len)
            }
            Err(Malformed) => Err(Refusal::NoHeader),
        };
        match outcome {
            Ok(len) if len < all.len() => self.arrived(id, &mut all[len..]),
            Ok(_) => {}
            Err(refusal) => self.core.turn_away(id, refusal),
        }
    }
}

impl Core {
    /// A proxy has said where a connection comes from.
    fn introduced(&mut self, id: ConnId, header: proxy::Header) -> Result<(), Refusal> {
        // Its own checks are nobody else's.
        let Some(source) = header.source else { return Ok(()) };
        self.note_proxy(id, source);
        self.move_to(id, source)
    }

    /// Lets a newcomer in, or not.
    pub(super) fn admit_newcomer(&mut self, id: ConnId, address: IpAddr) -> Result<(), Refusal> {
        self.set_peer(id, address.into());
        if self.conns.len() > self.capacity || self.shared.connections() > self.shared.max_connections() {
            return Err(Refusal::Full);
        }
        if self.shared.memory_pressure() {
            return Err(Refusal::Memory);
        }
        let is_proxy = self.note_proxy(id, address);
        match (self.settings.proxy_protocol, is_proxy) {
            (true, false) => Err(Refusal::NoProxy),
            (awaits_header, true) => {
                self.conns.get_mut(id).into_iter().for_each(|conn| conn.flags.set_headless(awaits_header));
                Ok(())
            }
            (false, false) => self.count_with_peer(id).map_err(Refusal::Address),
        }
    }

    /// Notes whether a connection comes from a trusted proxy, which may have as many as it likes.
    fn note_proxy(&mut self, id: ConnId, address: IpAddr) -> bool {
        let is_proxy = self.settings.trusted_proxies.contains(address);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.flags.set_proxied(is_proxy);
        }
        is_proxy
    }

    /// A request of a trusted proxy: finds out whom it is from, and moves the connection to that one's account. The response, if
    /// that one has too much already.
    pub(super) fn refusal_of_client(&mut self, id: ConnId, request: &Request<'_>) -> Option<Response<'static>> {
        let refusal = self.find_client(id, request).err()?;
        self.count_refusal(refusal);
        Some(refusal.response())
    }

    fn find_client(&mut self, id: ConnId, request: &Request<'_>) -> Result<(), Refusal> {
        if !self.conns.get(id).is_some_and(|conn| conn.flags.proxied()) {
            if self.peers.get(id.index).is_loopback() {
                warn_of_proxy(request);
            }
            return Ok(());
        }
        let trusted = &self.settings.trusted_proxies;
        match forwarded::client(request, |address| trusted.contains(address)) {
            Ok(Some(address)) => self.move_to(id, address),
            Ok(None) => Ok(()),
            Err(Contradiction) => Err(Refusal::Contradiction),
        }
    }

    /// A connection is known to come from an address: from now on, it is counted with that one.
    fn move_to(&mut self, id: ConnId, address: IpAddr) -> Result<(), Refusal> {
        let peer = Peer::from(address);
        let is_counted = self.conns.get(id).is_some_and(|conn| conn.flags.counted());
        if self.peers.get(id.index) != peer {
            if is_counted {
                self.discount(id.index);
                self.conns.get_mut(id).into_iter().for_each(|conn| conn.flags.set_counted(false));
            }
            self.set_peer(id, peer);
        } else if is_counted {
            return Ok(());
        }
        match self.settings.trusted_proxies.contains(address) {
            true => Ok(()),
            false => self.count_with_peer(id).map_err(Refusal::Address),
        }
    }

    /// It is known where a connection comes from.
    fn set_peer(&mut self, id: ConnId, peer: Peer) {
        self.peers.set(id.index, peer);
        self.meters.start(id.index, peer.is_loopback(), self.now);
    }

    /// Counts a connection with its address.
    fn count_with_peer(&mut self, id: ConnId) -> Result<(), Excess> {
        let peer = self.peers.get(id.index);
        let admitted = self.shared.admission().admit(peer, self.settings.limits_of(peer), self.now)?;
        self.counters.untracked.add(u64::from(admitted == Admitted::Untracked));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.flags.set_counted(admitted == Admitted::Counted);
        }
        Ok(())
    }

    /// A connection is its address's no more.
    pub(super) fn discount(&mut self, index: u32) {
        let peer = self.peers.get(index);
        self.shared.admission().release(peer, self.settings.limits_of(peer), self.now);
    }

    /// Tells a newcomer why it is not served, and closes the connection. What a TLS client is told would cost a handshake first, so
    /// that is told nothing; nor is anybody while many are told already.
    pub(super) fn turn_away(&mut self, id: ConnId, refusal: Refusal) {
        self.count_refusal(refusal);
        log_conn!(self, id, why = ?refusal, "a connection was refused");
        let is_tls = self.conns.get(id).is_some_and(|conn| conn.flags.tls());
        if is_tls || self.seats.refusals >= SPARE_SLOTS {
            return self.terminate(id, CloseReason::Refused);
        }
        self.seats.refusals += 1;
        self.respond(id, &refusal.response(), Framing::CLOSE, CloseReason::Refused);
    }

    fn count_refusal(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Full => &self.counters.refused_full,
            Refusal::Memory => &self.counters.refused_memory,
            Refusal::Address(Excess::Connections) => &self.counters.refused_address_connections,
            Refusal::Address(Excess::Rate) => &self.counters.refused_address_rate,
            Refusal::NoProxy | Refusal::NoHeader | Refusal::Contradiction => &self.counters.refused_proxy,
        };
        counter.add(1);
    }
}

/// Whoever comes through a proxy that is not believed has the limits of this machine, which are none: that is hardly meant, and
/// said once.
fn warn_of_proxy(request: &Request<'_>) {
    static SAID: Once = Once::new();
    if !SAID.is_completed() && forwarded::is_there(request) {
        SAID.call_once(|| {
            tracing::warn!(
                "a proxy on this machine names its clients (X-Forwarded-For or Forwarded), and is not believed: \
                 without trusted_proxies = \"127.0.0.1,::1\" none of them has the limits of clients elsewhere"
            )
        });
    }
}
