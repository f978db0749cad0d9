//! WebSocket handshakes, by what the client is to speak, and what each begins with.

use std::borrow::Cow;

use crate::auth::token;
use crate::conn::{JsonMore, Phase, Session};
use crate::dialect::{self, Since, json};
use crate::http::request::{Request, percent_decode};
use crate::http::response::{ALLOW_ORIGIN, Response};
use crate::hub::frame::Class;
use crate::limits::is_topic_name;
use crate::ring::token::ConnId;
use crate::ws::{deflate, handshake};

use super::inbound::Next;
use super::mail::{Origin, RoomEvent, Wanted};
use super::{Core, NO_TOPIC};

/// The room of those who name none.
const DEFAULT_ROOM: &str = "default";

/// A topic's newest message, as it was published.
const NEWEST: Wanted = Wanted { since: None, recover: false };

impl Core {
    pub(super) fn upgrade_to_raw(&mut self, id: ConnId, request: &Request<'_>, topic: &str) -> Next {
        if !self.may_subscribe(id, topic) {
            return self.not_permitted(id, request);
        }
        let own = request.query_value("self") != Some(Cow::Borrowed("false"));
        // The topic's index comes with the subscription, which needs the connection's class: so this is set last.
        let next = self.upgrade(id, request, &[], Session::Raw { topic: NO_TOPIC, own });
        if matches!(next, Next::Frames) {
            let topic = match self.conns.get(id).map(|conn| conn.class) {
                Some(_) if self.has_last_value(topic) => self.open_with_past(id, topic, NEWEST),
                Some(class) => self.enlist(id, topic, class),
                None => return next,
            };
            if let Some(conn) = self.conns.get_mut(id) {
                conn.session = Session::Raw { topic, own };
            }
        }
        next
    }

    pub(super) fn upgrade_to_json(&mut self, id: ConnId, request: &Request<'_>) -> Next {
        let Some(room) = room_of(request) else {
            let sentence = "A room is 1 to 256 bytes of percent-encoded UTF-8.";
            return self.answer(id, request, &Response::error(400, sentence));
        };
        let wanted = past_of_room(request);
        if !self.permissions(id).rooms.includes(&room)
            || wanted.is_some() && !self.permissions(id).history.includes(&room)
        {
            return self.not_permitted(id, request);
        }
        let claimed = self.claimed(request);
        let wanted = wanted.or_else(|| self.has_last_value(&room).then_some(NEWEST));
        let next = self.upgrade(id, request, &[], Session::Json { room: NO_TOPIC, more: None });
        let Some(class) = self.conns.get(id).filter(|_| matches!(next, Next::Frames)).map(|conn| conn.class) else {
            return next;
        };
        self.count_session(request, claimed);
        let local = match wanted {
            Some(_) => self.hub.intern(&room),
            None => self.enlist(id, &room, class.of_member()),
        };
        self.welcome(id, local, &room, claimed);
        if let Some(wanted) = wanted {
            self.open_with_past(id, &room, wanted);
        }
        // Behind what asks for its past: who hears of a newcomer and answers must reach it.
        self.tell_room(id, &room, RoomEvent::Join);
        next
    }

    pub(super) fn upgrade_to_backend(&mut self, id: ConnId, request: &Request<'_>) -> Next {
        let Some(position) = self.backend_key_of(request) else {
            self.counters.handshakes_backend.add(1);
            return self.answer(id, request, &Response::error(401, "This is for backends that have the key."));
        };
        // By its place in the list, whoever replaces keys sees which are still in use.
        log_conn!(self, id, key = position + 1, "a backend has a key");
        let presence = request.query_value("presence") == Some(Cow::Borrowed("true"));
        let next = self.upgrade(id, request, &[], Session::Backend { presence });
        if matches!(next, Next::Frames) {
            self.welcome_backend(id);
        }
        next
    }

    /// The name that a client had on an earlier connection, and can prove.
    pub(super) fn claimed(&self, request: &Request<'_>) -> Option<u64> {
        let client = json::parse_client_id(&request.query_value("clientId")?)?;
        let token = request.query_value("token")?;
        self.shared.identity().proves(client, &token).then_some(client)
    }

    fn count_session(&self, request: &Request<'_>, claimed: Option<u64>) {
        let result = match claimed {
            Some(_) => &self.counters.clients_resumed,
            None if request.query_value("clientId").is_some() => &self.counters.clients_unproven,
            None => &self.counters.clients_new,
        };
        result.add(1);
    }

    fn welcome(&mut self, id: ConnId, local: u32, room: &str, claimed: Option<u64>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let more = claimed.map(|_| Box::new(JsonMore { claimed, ..JsonMore::default() }));
        conn.session = Session::Json { room: local, more };
        let Some(client) = self.client_of(id) else { return };
        let from = Origin { shard: self.id, conn: id };
        if let Some(client) = claimed {
            self.post_claim(client, from, false);
        }
        let token = self.shared.identity().token(client);
        let user = self.granted_user(id).map(str::to_owned);
        let (user, expires, now) = (user.as_deref(), self.grant_expires(id), self.unix_ms);
        self.tell(id, dialect::Event::Connected { client, room, token: &token, user, expires, now });
        if user.is_some() {
            self.identify(id, user);
        }
    }

    /// What a request asks for is not for its client.
    pub(super) fn not_permitted(&mut self, id: ConnId, request: &Request<'_>) -> Next {
        self.counters.handshakes_forbidden.add(1);
        log_conn!(self, id, "a request was not allowed");
        self.answer(id, request, &Response::error(403, "This is not for you.").header(ALLOW_ORIGIN, "*"))
    }

    /// Answers a WebSocket handshake (RFC 6455 section 4.2.2), or says what is wrong with it.
    pub(super) fn upgrade(&mut self, id: ConnId, request: &Request<'_>, protocols: &[&str], session: Session) -> Next {
        // A browser that offers its token so wants that agreed to.
        let with_token = [token::SUBPROTOCOL];
        let protocols = if protocols.is_empty() && token::is_subprotocol(request) { &with_token } else { protocols };
        let checked = handshake::check(request.method.as_str(), request.minor_version, request.headers(), protocols);
        let handshake = match checked {
            Ok(handshake) => handshake,
            Err(refusal) => {
                self.counters.handshakes_malformed.add(1);
                return self.answer(id, request, &Response::error(refusal.status(), &refusal.to_string()));
            }
        };
        let deflated = self.negotiate_deflate(request);
        let Some(conn) = self.conns.get_mut(id) else { return Next::End };
        conn.phase = Phase::Open;
        conn.session = session;
        conn.class = deflated.as_ref().map_or(Class::PLAIN, |deflated| Class::deflate(deflated.window_bits));
        conn.flags.set_keep_alive(false);
        self.counters.handshakes_ok.add(1);
        self.counters.websockets.add(1);
        let mut response = Vec::with_capacity(256);
        handshake.write_response(deflated.as_ref().map(|deflated| deflated.response.as_str()), &mut response);
        self.push_reply(id, &[&response]);
        self.start_heartbeat(id);
        Next::Frames
    }

    fn negotiate_deflate(&self, request: &Request<'_>) -> Option<deflate::Negotiated> {
        if !self.settings.deflate {
            return None;
        }
        let offers = request.values("Sec-WebSocket-Extensions").filter_map(|value| std::str::from_utf8(value).ok());
        deflate::negotiate(offers, deflate::Policy { window_bits: 15, client_takeover: false })
    }
}

/// The room that a request names: by query, else by the last segment of its path. `None` if that cannot be one.
pub(super) fn room_of<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    let room = match request.query_value("room") {
        Some(room) => room,
        None => match request.path.rsplit('/').find(|segment| !segment.is_empty()) {
            None => DEFAULT_ROOM.into(),
            Some("ws") if request.path.trim_end_matches('/') == "/ws" => DEFAULT_ROOM.into(),
            Some(segment) => percent_decode(segment)?,
        },
    };
    is_topic_name(&room).then_some(room)
}

/// What a request wants of its room's past.
fn past_of_room(request: &Request<'_>) -> Option<Wanted> {
    let recover = request.query_value("recover").is_some_and(|value| value == "true");
    let offset = request.query_value("offset").and_then(|offset| offset.parse().ok());
    let since = request.query_value("epoch").zip(offset.filter(|&offset| offset <= json::MAX_OFFSET));
    let since = since.map(|(epoch, offset)| Since { epoch: json::parse_epoch(&epoch), offset });
    recover.then_some(Wanted { since, recover })
}
