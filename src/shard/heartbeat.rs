//! Pings, and the end of a lifetime.

use std::time::Duration;

use crate::conn::{Conn, Flags};
use crate::error::CloseReason;
use crate::ring::token::ConnId;
use crate::time::Tick;
use crate::ws::frame;

use super::Core;

impl Core {
    /// Sets the first deadline of an open WebSocket or stream.
    pub(super) fn start_heartbeat(&mut self, id: ConnId) {
        let lifetime = self.settings.max_lifetime.map(|lifetime| self.jittered(lifetime));
        self.set_end(id, lifetime.map(|lifetime| self.now.after(lifetime)));
    }

    /// Sets when a connection ends at the latest, by its lifetime or by its token, and its next deadline.
    pub(super) fn set_end(&mut self, id: ConnId, lifetime: Option<Tick>) {
        let expires = self.end_of(id, lifetime);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags.set_mortal(expires.is_some());
        conn.expires = expires.unwrap_or_default();
        let flags = conn.flags;
        if conn.class.is_events() {
            return self.stream_heartbeat(id);
        }
        self.next_heartbeat(id, flags, expires);
    }

    /// A lifetime less a random part of it, so that connections that came together do not go together.
    fn jittered(&mut self, lifetime: Duration) -> Duration {
        let range = lifetime * self.settings.lifetime_jitter / 100;
        let cut = self.random() % (range.as_millis() as u64 + 1);
        lifetime.saturating_sub(Duration::from_millis(cut))
    }

    pub(super) fn heartbeat(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let expires = conn.flags.mortal().then_some(conn.expires);
        if expires.is_some_and(|expires| !expires.is_after(now)) {
            return match self.ends_by_token(id) {
                true => self.close(id, 1008, "token expired", CloseReason::Expired),
                false => self.close(id, 1001, "lifetime", CloseReason::Lifetime),
            };
        }
        if conn.class.is_events() {
            return self.stream_heartbeat(id);
        }
        // What waits to be read may be the answer: that it waits is the shard's doing, not the peer's.
        let flags = conn.flags;
        let unread = flags.readable() || flags.paused() || flags.undecoded() || flags.asking();
        let (pinged, heard) = (conn.flags.pinged(), conn.flags.heard() || unread);
        if pinged && !heard {
            return self.ping_overdue(id);
        }
        // Between an answered ping and the next one, the wheel's turn is only for the clock.
        let send = !pinged && self.settings.ping_interval.is_some();
        conn.flags.set_pinged(send);
        conn.flags.set_looked_at(false);
        if send {
            conn.flags.set_heard(false);
        }
        let flags = conn.flags;
        if send {
            self.counters.pings.add(1);
            self.push_reply(id, &[frame::encode_ping(&[]).as_slice()]);
        }
        self.next_heartbeat(id, flags, expires);
    }

    /// No answer is known of, which need not mean that there is none: where a shard gets too little of its CPU, the news
    /// of it may wait in the ring behind much else. So the socket is read from once more.
    fn ping_overdue(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.flags.looked_at() {
            return self.close(id, 1001, "ping timeout", CloseReason::PingTimeout);
        }
        conn.flags.set_looked_at(true);
        self.wheel.set(id.index, self.now.after(Tick::LENGTH));
        self.want_read(id);
    }

    fn next_heartbeat(&mut self, id: ConnId, flags: Flags, expires: Option<Tick>) {
        let timeout = self.settings.ping_timeout;
        let beat = self.settings.ping_interval.map(|interval| {
            let pause = if flags.pinged() { timeout } else { interval.saturating_sub(timeout) };
            self.now.after(pause.max(Tick::LENGTH))
        });
        self.set_deadline(id, beat, expires);
    }

    /// Other times hold for pings now. The first by them comes at a random part of the interval, so that not all connections are
    /// asked at once; a ping that is under way is waited for as long as it was to be.
    pub(super) fn restart_heartbeat(&mut self, id: ConnId) {
        let asked = |conn: &&mut Conn| conn.is_open() && conn.session.is_websocket() && !conn.flags.pinged();
        let Some(conn) = self.conns.get_mut(id).filter(asked) else { return };
        let expires = conn.flags.mortal().then_some(conn.expires);
        let timeout = self.settings.ping_timeout;
        let beat = self.settings.ping_interval.map(|interval| {
            let part = interval.saturating_sub(timeout).as_millis() as u64;
            Duration::from_millis(self.random() % (part + 1)).max(Tick::LENGTH)
        });
        self.set_deadline(id, beat.map(|pause| self.now.after(pause)), expires);
    }

    fn set_deadline(&mut self, id: ConnId, beat: Option<Tick>, expires: Option<Tick>) {
        let next = match (beat, expires) {
            (Some(beat), Some(end)) => Some(if end.is_after(beat) { beat } else { end }),
            (beat, end) => beat.or(end),
        };
        match next {
            Some(deadline) => self.wheel.set(id.index, deadline),
            None => self.wheel.cancel(id.index),
        }
    }
}
