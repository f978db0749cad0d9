//! Bytes → HTTP heads or WebSocket frames → dialect.

use crate::conn::{HandlerSession, Phase, Session, Unparsed};
use crate::dialect::{self, Command, Instruction, json, raw};
use crate::error::CloseReason;
use crate::handler::{self, Routes};
use crate::http::request::{self, Method, Request};
use crate::http::response::{Framing, Response};
use crate::http::route::{Route, route};
use crate::hub::frame::MessageKind;
use crate::limits::CODEC_BYTES_PER_TURN;
use crate::ring::token::ConnId;
use crate::ws::deflate::{Arena, Inflater};
use crate::ws::message::{Compression, Decoder, Event, Partial};
use crate::ws::{frame, message};

use super::{Core, Shard};

/// What decoding needs between reads, shared by all connections of the shard.
pub(super) struct Codec {
    inflater: Inflater,
    arena: Arena,
    json: Vec<u8>,
}

impl Codec {
    pub(super) fn new() -> Codec {
        Codec { inflater: Inflater::new(), arena: Arena::default(), json: Vec::new() }
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        Inflater::BYTES + self.arena.capacity() + self.json.capacity()
    }
}

/// What follows a request on its connection.
pub(super) enum Next {
    /// Another request.
    Request,
    /// WebSocket frames.
    Frames,
    /// Nothing, before what was posted is answered.
    Answer,
    /// The same request, when its token is checked, or the application has said something.
    Wait,
    /// Nothing.
    End,
}

/// A message that is too large is skipped, and the connection goes on, up to so many times the largest message.
const SKIPPED_MESSAGES: u32 = 16;

impl Shard {
    /// Bytes that a connection has sent.
    pub(super) fn inbound(&mut self, id: ConnId, bytes: &mut [u8]) {
        let Some(conn) = self.core.conns.get_mut(id) else { return };
        match conn.phase {
            Phase::Head => self.head(id, bytes),
            // Whoever reads a stream has nothing to say.
            Phase::Open if conn.class.is_events() => {}
            Phase::Open | Phase::Closing => self.frames(id, bytes),
            Phase::Flushing | Phase::Lingering => {}
        }
    }

    fn head(&mut self, id: ConnId, bytes: &mut [u8]) {
        let Some(conn) = self.core.conns.get_mut(id) else { return };
        match &mut conn.session {
            // Whoever sends more before he is answered is answered, and shown the door.
            Session::Posted { keep_alive } => *keep_alive = false,
            Session::Head(earlier) => match earlier.take() {
                None => self.requests(id, bytes, true),
                Some(mut unparsed) => {
                    self.core.partial_bytes -= unparsed.body_bytes();
                    let len = unparsed.bytes.len();
                    unparsed.bytes.extend_from_slice(bytes);
                    if unparsed.is_worth_parsing(len, self.core.settings.max_head) {
                        self.requests(id, &mut unparsed.bytes, false);
                    } else {
                        self.core.keep_head(id, unparsed, false);
                    }
                }
            },
            _ => {}
        }
    }

    /// Answers the requests at the start of `bytes`, and keeps what is incomplete.
    fn requests(&mut self, id: ConnId, mut bytes: &mut [u8], fresh: bool) {
        while !bytes.is_empty() {
            let mut request = match request::parse(bytes, self.core.settings.max_head) {
                Ok(Some(request)) => request,
                Ok(None) => return self.core.keep_head(id, Box::new(unparsed(bytes, 0)), fresh),
                Err(error) => {
                    let response = Response::error(error.status(), &error.to_string());
                    return self.core.refuse(id, &response, Framing::CLOSE);
                }
            };
            let len = match self.core.body_len(&request) {
                Ok(len) => request.head_len + len,
                Err(response) => return self.core.refuse(id, &response, Framing::CLOSE),
            };
            let Some(body) = bytes.get(request.head_len..len) else {
                request.is_cut = true;
                return self.wait_for_body(id, &request, (bytes, len), fresh);
            };
            let next = self.request(id, &request, body);
            if matches!(next, Next::Wait) {
                return self.core.keep_for_verdict(id, bytes);
            }
            bytes = bytes.split_at_mut(len).1;
            match next {
                Next::Request => {}
                Next::Frames => return self.frames(id, bytes),
                Next::Answer if !bytes.is_empty() => return self.head(id, bytes),
                Next::Answer | Next::Wait | Next::End => return,
            }
        }
    }

    /// Keeps a request of so many bytes until it is there in whole, unless its head says that there is nothing to wait for. Whoever
    /// has to be admitted is, before it can make the shard keep a body.
    fn wait_for_body(&mut self, id: ConnId, request: &Request<'_>, (bytes, len): (&[u8], usize), fresh: bool) {
        if let Some(response) = self.core.refusal_of_client(id, request) {
            return self.core.refuse(id, &response, Framing::CLOSE);
        }
        match self.let_in(id, request) {
            Ok(Route::Publish) => {
                self.core.go_on(id, request);
                self.core.keep_head(id, Box::new(unparsed(bytes, len)), fresh);
            }
            Ok(route) => _ = self.answer_for(id, route, request, &[]),
            Err(Next::Wait) => self.core.keep_for_verdict(id, bytes),
            Err(_) => {}
        }
    }

    fn request(&mut self, id: ConnId, request: &Request<'_>, body: &[u8]) -> Next {
        let next = self.route(id, request, body);
        // What one request was granted is not for the next, which a proxy may send for somebody else.
        if matches!(next, Next::Request | Next::Answer) {
            let kept = self.core.admissions.end(id.index);
            debug_assert_eq!(kept, 0, "of a request, no message waits");
        }
        next
    }

    fn route(&mut self, id: ConnId, request: &Request<'_>, body: &[u8]) -> Next {
        let refused = self.core.refusal_of_client(id, request).or_else(|| self.core.refusal_of_request(id));
        if let Some(response) = refused {
            self.core.refuse(id, &response, Framing::CLOSE);
            return Next::End;
        }
        match self.let_in(id, request) {
            Ok(route) => self.answer_for(id, route, request, body),
            Err(next) => next,
        }
    }

    /// What a request asks for, once its client may have that; otherwise it is answered, or waits until that is known.
    fn let_in<'r>(&mut self, id: ConnId, request: &Request<'r>) -> Result<Route<'r>, Next> {
        let upgrade = request.wants_websocket();
        let asked = route(request.path, upgrade);
        if self.core.turns_away() && !matches!(asked, Route::Probe(_)) {
            return Err(self.core.send_elsewhere(id, request));
        }
        if let Some(index) = self.routes.find(request.path) {
            return Err(if upgrade {
                self.upgrade_to_handler(id, request, index)
            } else {
                self.core.upgrade_required(id, request)
            });
        }
        let route = match asked {
            Route::Probe(probe) => Route::Probe(probe),
            Route::Page(_) if !self.core.settings.playground => Route::NotFound,
            route if self.routes.dialects => route,
            _ => Route::NotFound,
        };
        self.core.admit(id, &route, request).map_or(Ok(route), Err)
    }

    fn answer_for(&mut self, id: ConnId, route: Route<'_>, request: &Request<'_>, body: &[u8]) -> Next {
        match route {
            Route::Raw { topic } => self.core.upgrade_to_raw(id, request, &topic),
            Route::Json => self.core.upgrade_to_json(id, request),
            Route::Events | Route::Publish if request.method == Method::Options => {
                self.core.answer(id, request, &Response::preflight())
            }
            Route::Events => self.core.open_events(id, request),
            Route::Publish => match request.method {
                Method::Post => self.core.publish_posted(id, request, body, &mut self.codec.json),
                _ => self.core.answer(id, request, &Response::post_only()),
            },
            Route::Backend => self.core.upgrade_to_backend(id, request),
            Route::Probe(probe) => self.core.answer_probe(id, request, probe),
            Route::Page(page) => self.core.answer(id, request, &Response::page(page)),
            Route::UpgradeRequired => self.core.upgrade_required(id, request),
            Route::BadTopic => {
                let sentence = "A topic is 1 to 256 bytes of percent-encoded UTF-8.";
                self.core.answer(id, request, &Response::error(400, sentence))
            }
            Route::NotFound => self.core.answer(id, request, &Response::error(404, "There is nothing at this path.")),
        }
    }

    fn upgrade_to_handler(&mut self, id: ConnId, request: &Request<'_>, index: u16) -> Next {
        let upgrade = match handler::upgrade(&self.core, &mut self.routes, index, request) {
            Ok(upgrade) => upgrade,
            Err(refusal) => {
                self.core.counters.handshakes_handler.add(1);
                let status = if (400..600).contains(&refusal.status) { refusal.status } else { 500 };
                return self.core.answer(id, request, &Response::error(status, &refusal.reason));
            }
        };
        let session = HandlerSession { route: index, user: upgrade.user };
        let protocols: &[&str] = upgrade.protocol.as_slice();
        let next = self.core.upgrade(id, request, protocols, Session::Handler(Box::new(session)));
        if matches!(next, Next::Frames) {
            handler::open(&mut self.core, &mut self.routes, id);
        }
        next
    }

    /// Frames of an open or closing WebSocket.
    fn frames(&mut self, id: ConnId, mut bytes: &mut [u8]) {
        let Shard { core, routes, codec } = self;
        let Some(conn) = core.conns.get_mut(id) else { return };
        let mut partial = conn.partial.take();
        let was_begun = partial.is_some();
        core.partial_bytes -= kept(&partial);
        let compression = match conn.class.window_bits() {
            Some(_) => Compression::PerMessage,
            None => Compression::Off,
        };
        let max_message = core.settings.max_message;
        let max_skipped = match conn.session {
            Session::Json { .. } | Session::Backend { .. } => max_message.saturating_mul(SKIPPED_MESSAGES),
            _ => 0,
        };
        let settings = message::Settings { max_message, max_skipped, compression };
        let mut decoder = Decoder::new(settings, &mut partial, &mut codec.inflater, &mut codec.arena);
        let mut posted = false;
        while !core.codec_is_spent() && !core.awaits_word(id) {
            match decoder.next(&mut bytes) {
                Ok(Some(event)) => posted |= on_event(core, routes, &mut codec.json, id, event),
                Ok(None) => break,
                Err(violation) => {
                    core.fail(id, violation.code, violation.reason, violation.close_reason());
                    break;
                }
            }
        }
        drop(decoder);
        if was_begun || partial.is_some() {
            core.keep_partial(id, partial);
        }
        core.put_off(id, bytes);
        core.pace(id, posted);
    }

    /// Goes on with what earlier turns have not decoded, the next connection after the one that was last.
    pub(super) fn decode_rest(&mut self) {
        for _ in 0..self.core.undecoded.len() {
            if self.core.codec_is_spent() || self.core.congested() {
                return;
            }
            let Some((id, mut bytes)) = self.core.undecoded.pop_front() else { return };
            let Some(conn) = self.core.conns.get_mut(id) else { continue };
            conn.flags.set_undecoded(false);
            self.inbound(id, &mut bytes);
            self.core.want_read(id);
        }
    }
}

/// The start of a request, whose length is known if its head is there.
fn unparsed(bytes: &[u8], wanted: usize) -> Unparsed {
    Unparsed { bytes: bytes.to_vec(), wanted, since: None }
}

/// Bytes that a connection keeps of an incomplete message.
pub(super) fn kept(partial: &Partial) -> usize {
    partial.as_ref().map_or(0, |pending| pending.heap_bytes())
}

/// Acts on what a client has sent; says whether it published or did something else that other shards have to know.
fn on_event(core: &mut Core, routes: &mut Routes, scratch: &mut Vec<u8>, id: ConnId, event: Event<'_>) -> bool {
    let Some(conn) = core.conns.get_mut(id) else { return false };
    let inflated = match &event {
        Event::Message { compressed: true, payload, .. } => payload.len(),
        Event::TooBig { inflated } => *inflated,
        _ => 0,
    };
    if inflated > 0 {
        core.inflated_bytes += inflated;
        // A thousandth of it may have been on the wire. The message that it is, or was to be, is judged by this too.
        core.meters.charge_bytes(id.index, inflated, core.now);
    }
    match (event, conn.phase) {
        (Event::Close { code, .. }, _) => core.peer_closed(id, code),
        (Event::Message { kind, compressed, payload }, Phase::Open) => {
            core.counters.messages_in.add(1);
            core.watch.traffic.receive(id.index);
            core.counters.inflated.add(u64::from(compressed));
            return core.admits_message(id, payload, scratch) && on_message(core, routes, scratch, id, kind, payload);
        }
        (Event::TooBig { .. }, Phase::Open) => {
            let is_backend = conn.is_backend();
            let error = json::event(dialect::Event::TooLarge { most: core.settings.max_message });
            return match is_backend {
                true => core.carry_out(id, Instruction::Error(error)),
                false => core.admits_message(id, &[], scratch) && core.execute(id, Command::Error(error)),
            };
        }
        (Event::Ping(payload), Phase::Open) if core.admits_ping(id) => {
            core.push_reply(id, &[frame::encode_pong(payload).as_slice()])
        }
        _ => {}
    }
    false
}

fn on_message(
    core: &mut Core,
    routes: &mut Routes,
    scratch: &mut Vec<u8>,
    id: ConnId,
    kind: MessageKind,
    payload: &[u8],
) -> bool {
    let commands: dialect::Commands<'_> = match core.conns.get(id).map(|conn| &conn.session) {
        Some(Session::Raw { .. }) => raw::message(kind, payload),
        Some(Session::Json { .. }) => json::message(kind, payload, &core.settings.types, scratch),
        Some(Session::Backend { .. }) => return core.carry_out(id, json::instruction(kind, payload, scratch)),
        Some(Session::Handler(_)) => {
            handler::message(core, routes, id, handler::Message { kind, payload });
            return true;
        }
        Some(Session::Head(_) | Session::Asked(_) | Session::Posted { .. } | Session::Events(_) | Session::Called)
        | None => return false,
    };
    let mut posted = false;
    for command in commands {
        match command {
            Command::HandOver { object, receipt } if routes.has_backend() => {
                core.count_errors(id, false);
                handler::hand_over(core, routes, id, object, receipt);
                posted = true;
            }
            command => posted |= core.execute(id, command),
        }
    }
    posted
}

impl Core {
    /// Whether this turn has inflated and compressed as much as it may.
    fn codec_is_spent(&self) -> bool {
        self.inflated_bytes + self.encoder.bytes >= CODEC_BYTES_PER_TURN
    }

    /// Keeps what is not decoded for a later turn.
    fn put_off(&mut self, id: ConnId, rest: &[u8]) {
        let Some(conn) = self.conns.get_mut(id).filter(|_| !rest.is_empty()) else { return };
        if conn.flags.asking() {
            self.keep_behind(id, rest);
        } else if matches!(conn.phase, Phase::Open | Phase::Closing) {
            conn.flags.set_undecoded(true);
            self.undecoded.push_back((id, rest.to_vec()));
        }
    }

    /// Tells a client that waits for it to send the body (RFC 9110 section 10.1.1).
    fn go_on(&mut self, id: ConnId, request: &Request<'_>) {
        if request.minor_version >= 1 && request.has_token("Expect", "100-continue") {
            self.push_reply(id, &[b"HTTP/1.1 100 Continue\r\n\r\n"]);
        }
    }

    /// Keeps an incomplete request. The first bytes of one start its time-out.
    fn keep_head(&mut self, id: ConnId, mut unparsed: Box<Unparsed>, fresh: bool) {
        let head_timeout = self.settings.head_timeout;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if fresh && conn.flags.keep_alive() {
            self.wheel.set(id.index, self.now.after(head_timeout));
        }
        self.partial_bytes += unparsed.body_bytes();
        unparsed.since.get_or_insert(self.now);
        conn.session = Session::Head(Some(unparsed));
    }

    /// Answers a request and goes on, or not, as the request wants.
    pub(super) fn answer(&mut self, id: ConnId, request: &Request<'_>, response: &Response<'_>) -> Next {
        // Whoever pipelines requests faster than he reads the answers gets those so far, and the door.
        let reads = self.backlog(id) <= self.settings.backlog;
        let keep_alive = request.keep_alive() && response.status != 400 && reads;
        let framing = Framing { head_only: request.method == Method::Head, keep_alive };
        if response.status >= 400 {
            self.refuse(id, response, framing);
        } else {
            self.counters.http_requests.add(1);
            self.respond(id, response, framing, CloseReason::Http);
        }
        if keep_alive {
            self.wheel.set(id.index, self.now.after(self.settings.keep_alive_timeout));
            Next::Request
        } else {
            Next::End
        }
    }

    pub(super) fn refuse(&mut self, id: ConnId, response: &Response<'_>, framing: Framing) {
        self.counters.http_errors.add(1);
        self.respond(id, response, framing, CloseReason::Http);
    }

    fn upgrade_required(&mut self, id: ConnId, request: &Request<'_>) -> Next {
        self.answer(id, request, &Response::error(426, "This is a WebSocket endpoint: send an Upgrade request."))
    }
}
