//! Deadlines, and terminate → join → close.
//!
//! | phase | ends in | deadline |
//! |---|---|---|
//! | Head | Open (upgrade), Flushing (response that closes) | head or keep-alive time-out |
//! | Open | Closing (we close), Flushing (the peer closes, or broke the protocol) | next ping, pong, or lifetime |
//! | Open, of an event stream | Flushing (we end it), terminate: at the peer's FIN | next heartbeat, or lifetime |
//! | Closing | Flushing (the peer's close frame), terminate | close time-out |
//! | Flushing | Lingering, Head (keep-alive), terminate: when the outbox is empty | close time-out |
//! | Lingering | terminate: at the peer's FIN | linger time-out |
//!
//! What has to be joined before the slot is closed is a shutdown, which runs on a kernel worker and would hit the slot's
//! next tenant. No send or receive outlives its enter, and a poll owns no memory; but it holds the socket open, so it is
//! ended first. A completion that comes after is of another generation.

use std::time::Duration;

use smallvec::SmallVec;

use crate::conn::{Conn, Phase, Session};
use crate::error::CloseReason;
use crate::http::response::{Framing, Response};
use crate::ring::op::Op;
use crate::ring::token::ConnId;
use crate::ws::frame;

use super::inbound::kept;
use super::mail::{Origin, RoomEvent, RoomMail};
use super::{Core, NO_TOPIC, Notice};

/// How long a connection whose last words are sent may go on sending.
const LINGER: Duration = Duration::from_secs(2);
/// The end of a `json` connection, for others.
struct Parting {
    client: u64,
    /// Whether the client's name leads elsewhere.
    claimed: bool,
    from: Origin,
    rooms: SmallVec<[Box<str>; 1]>,
}

impl Core {
    /// Sends a response. Without keep-alive it is the connection's last.
    pub(super) fn respond(&mut self, id: ConnId, response: &Response<'_>, framing: Framing, reason: CloseReason) {
        let mut bytes = Vec::new();
        response.encode(framing, &mut bytes);
        self.push_reply(id, &[&bytes]);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_keep_alive(framing.keep_alive);
        if !framing.keep_alive {
            self.flush_and_close(id, reason);
        }
    }

    /// Ends a connection of the HTTP phase when its outbox is empty.
    pub(super) fn flush_and_close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.phase = Phase::Flushing;
        conn.reason = reason;
        conn.flags.set_linger(true);
        self.wheel.set(id.index, self.now.after(self.settings.close_timeout));
    }

    /// Starts a close handshake: close frame, then wait for the peer's. A stream has none: it ends behind what is queued.
    pub(crate) fn close(&mut self, id: ConnId, code: u16, text: &str, reason: CloseReason) {
        let close_timeout = self.settings.close_timeout;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        conn.held = 0;
        conn.code = code;
        conn.reason = reason;
        let has_handshake = !conn.class.is_events();
        conn.phase = if has_handshake { Phase::Closing } else { Phase::Flushing };
        conn.flags.set_linger(!has_handshake);
        self.backend_closes(id);
        self.wheel.set(id.index, self.now.after(close_timeout));
        if !has_handshake {
            return self.mark_dirty(id.index);
        }
        self.push_reply(id, &[frame::encode_close(Some(code), text).as_slice()]);
    }

    /// Fails the connection (RFC 6455 section 7.1.7): close frame, FIN, and nothing more is listened to.
    pub(crate) fn fail(&mut self, id: ConnId, code: u16, text: &str, reason: CloseReason) {
        let was_open = self.conns.get(id).is_some_and(Conn::is_open);
        self.close(id, code, text, reason);
        // One that lingers has sent its FIN, and must not be shut down twice.
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.phase != Phase::Lingering) else { return };
        conn.phase = Phase::Flushing;
        conn.flags.set_linger(true);
        if !was_open {
            self.mark_dirty(id.index);
        }
    }

    /// The peer's close frame: echo it if ours is not out yet, and end when all is sent (RFC 6455 section 5.5.1).
    pub(super) fn peer_closed(&mut self, id: ConnId, code: Option<u16>) {
        let close_timeout = self.settings.close_timeout;
        let Some(conn) = self.conns.get_mut(id) else { return };
        match conn.phase {
            Phase::Open => {
                conn.phase = Phase::Flushing;
                conn.held = 0;
                conn.code = code.unwrap_or(1005);
                conn.reason = CloseReason::Peer;
                self.backend_closes(id);
                self.wheel.set(id.index, self.now.after(close_timeout));
                self.push_reply(id, &[frame::encode_close(code, "").as_slice()]);
            }
            Phase::Closing => {
                conn.phase = Phase::Flushing;
                self.mark_dirty(id.index);
            }
            Phase::Head | Phase::Flushing | Phase::Lingering => {}
        }
    }

    /// The peer has sent its last byte, without a close frame.
    pub(super) fn end_of_stream(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_flushed = conn.outbox.is_empty() && !(conn.flags.in_session() && self.secure.has_wire(id.index));
        let reason = match conn.phase {
            Phase::Head if matches!(conn.session, Session::Posted { .. }) => {
                conn.session = Session::Posted { keep_alive: false };
                return;
            }
            // A client that half-closes after its request still reads the response.
            Phase::Head if !is_flushed => {
                conn.phase = Phase::Flushing;
                conn.reason = CloseReason::Http;
                conn.flags.set_linger(false);
                return self.mark_dirty(id.index);
            }
            Phase::Flushing if !is_flushed => return conn.flags.set_linger(false),
            Phase::Head => CloseReason::Http,
            // That is how a stream's client goes.
            Phase::Open if conn.class.is_events() => CloseReason::Peer,
            Phase::Open => CloseReason::Lost,
            Phase::Closing | Phase::Flushing | Phase::Lingering => conn.reason,
        };
        self.terminate(id, reason);
    }

    /// The outbox is empty. In some phases that is what the connection waited for.
    pub(super) fn flushed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase != Phase::Flushing {
            return;
        }
        if conn.flags.tls() && (if conn.flags.kernel_tls() { self.end_kernel(id) } else { self.seal_end(id) }) {
            return;
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.flags.linger() {
            conn.phase = Phase::Lingering;
            conn.flags.set_shutting(true);
            self.ops.push(Op::Shutdown(id));
            self.wheel.set(id.index, self.now.after(LINGER));
        } else {
            let reason = conn.reason;
            self.terminate(id, reason);
        }
    }

    /// The shutdown is done. A connection that was to be terminated meanwhile is terminated now.
    pub(super) fn shutdown_completed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_shutting(false);
        if conn.flags.doomed() {
            let reason = conn.reason;
            self.terminate(id, reason);
        }
    }

    /// Ends a connection now: out of the hub, out of the table, socket closed.
    pub(super) fn terminate(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.flags.shutting() {
            return conn.flags.set_doomed(true);
        }
        self.backend_closes(id);
        let Some(mut conn) = self.conns.remove(id) else { return };
        self.wheel.cancel(id.index);
        self.overdue.cancel(id.index);
        self.ops.push(Op::Unwatch(id));
        if conn.flags.blocked() {
            self.ops.push(Op::CancelWritable(id));
            self.counters.backlogged.sub(1);
        }
        self.ops.push(Op::Close(id));
        let lost = conn.outbox.clear(&mut self.frames);
        if conn.flags.tls() {
            self.secure.end(id.index, &mut self.frames);
            self.counters.tls_connections.sub(1);
            self.counters.tls_kernel_connections.sub(u64::from(conn.flags.kernel_tls()));
        }
        if conn.flags.lagging() {
            self.watch.lagging.remove(&id.index);
        }
        self.watch.traffic.take(id.index);
        if conn.flags.counted() {
            self.discount(id.index);
        }
        self.counters.dropped_gone.add(u64::from(lost));
        self.partial_bytes -= kept(&conn.partial);
        self.partial_bytes -= self.admissions.end(id.index);
        if let Session::Head(Some(unparsed)) | Session::Asked(unparsed) = &conn.session {
            self.partial_bytes -= unparsed.body_bytes();
        }
        let parting = self.parting(id, &conn.session);
        if conn.flags.subscriber() {
            self.leave_all(id.index);
        }
        if let Some(parting) = parting {
            self.part(parting);
        }
        if conn.reason == CloseReason::Refused {
            self.seats.refusals -= 1;
        }
        self.counters.connections.sub(1);
        self.counters.closed[reason as usize].add(1);
        log_conn!(self, id, reason = reason.label(), code = conn.code, "a connection has ended");
        self.counters.websockets.sub(u64::from(conn.session.is_websocket()));
        self.counters.event_streams.sub(u64::from(conn.class.is_events()));
        match conn.session {
            Session::Handler(session) => {
                self.notices.push(Notice::Closed { id, session, code: conn.code, reason });
            }
            Session::Backend { .. } => self.drop_backend_log(id),
            Session::Head(_) | Session::Asked(_) | Session::Posted { .. } | Session::Raw { .. } => {}
            Session::Json { .. } | Session::Events(_) | Session::Called => {}
        }
    }

    /// What others are to be told of the end of a `json` connection.
    fn parting(&self, id: ConnId, session: &Session) -> Option<Parting> {
        let &Session::Json { room, ref more } = session else { return None };
        let claimed = more.as_ref().and_then(|more| more.claimed);
        let others = more.iter().flat_map(|more| more.rooms.iter().copied());
        let rooms = Some(room).filter(|&room| room != NO_TOPIC).into_iter().chain(others);
        Some(Parting {
            client: self.client_named(id, claimed),
            claimed: claimed.is_some(),
            from: Origin { shard: self.id, conn: id },
            rooms: rooms.map(|room| self.hub.name(room).into()).collect(),
        })
    }

    fn part(&mut self, parting: Parting) {
        let Parting { client, claimed, from, rooms } = parting;
        if claimed {
            self.post_claim(client, from, true);
        }
        if self.has_backend {
            self.notices.push(Notice::Parted { client });
        }
        for room in rooms {
            self.post_room(RoomMail { room, client, from, what: RoomEvent::Leave });
        }
    }

    /// The connection's deadline has come.
    pub(super) fn expired(&mut self, index: u32) {
        let Some((id, conn)) = self.conns.by_index(index) else { return };
        match conn.phase {
            Phase::Head => self.head_timed_out(id),
            Phase::Open => self.heartbeat(id),
            phase @ (Phase::Closing | Phase::Flushing | Phase::Lingering) => {
                let reason = conn.reason;
                self.counters.close_timeouts.add(u64::from(phase != Phase::Lingering));
                self.terminate(id, reason);
            }
        }
    }

    fn head_timed_out(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if matches!(conn.session, Session::Posted { .. }) {
            return self.posted_timed_out(id);
        }
        if matches!(conn.session, Session::Asked(_)) {
            return self.verdict_timed_out(id);
        }
        if matches!(conn.session, Session::Head(None)) || conn.flags.headless() {
            // Not one byte of a request: nobody to tell.
            let reason = if conn.flags.keep_alive() { CloseReason::Http } else { CloseReason::HeadTimeout };
            return self.terminate(id, reason);
        }
        self.counters.http_errors.add(1);
        let response = Response::error(408, "The request did not arrive in time.");
        self.respond(id, &response, Framing::CLOSE, CloseReason::HeadTimeout);
    }
}
