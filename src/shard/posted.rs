//! Publications by HTTP: `POST /publish`, for those who have no WebSocket.
//!
//! The answer is sent when the message is ordered, which another shard may have to do. Until then the connection does nothing
//! else: what its client sends meanwhile is not listened to, and it is closed behind the answer.

use crate::conn::{Phase, Session};
use crate::dialect::{Failure, json};
use crate::error::CloseReason;
use crate::http::request::Request;
use crate::http::response::{ALLOW_ORIGIN, Framing, Response};
use crate::hub::frame::MessageKind;
use crate::ring::token::ConnId;

use super::Core;
use super::inbound::Next;
use super::mail::{Answer, Origin, Receipt, Return};
use super::publish::Publication;

/// Bytes that a body may have beyond those of the largest message: for the topic, the id and what is around them.
const AROUND: u64 = 1024;
/// What bodies may be called. A browser sends the second to another origin without asking first.
const MEDIA_TYPES: [&str; 2] = ["application/json", "text/plain"];

impl Core {
    /// Bytes of a request's body; or the response that refuses to read it.
    pub(super) fn body_len(&self, request: &Request<'_>) -> Result<usize, Response<'static>> {
        let most = u64::from(self.settings.max_message) + AROUND;
        match usize::try_from(request.body_len) {
            Ok(len) if request.body_len <= most => Ok(len),
            _ => Err(self.too_large()),
        }
    }

    fn too_large(&self) -> Response<'static> {
        refused(413, "too_large", &format!("Message too large: at most {} bytes", self.settings.max_message))
    }

    /// Publishes what a request brings.
    pub(super) fn publish_posted(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        body: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Next {
        let media_type = request.header("Content-Type").unwrap_or_default().split(|&byte| byte == b';').next();
        let media_type = media_type.unwrap_or_default().trim_ascii();
        if !MEDIA_TYPES.iter().any(|known| media_type.eq_ignore_ascii_case(known.as_bytes())) {
            let response = refused(415, "media_type", "A publication is application/json");
            return self.answer(id, request, &response);
        }
        let publication = match json::posted(body, &self.settings.types, scratch) {
            Ok(publication) => publication,
            Err(problem) => return self.answer(id, request, &json_response(problem.status(), problem.body())),
        };
        if !self.permissions(id).publish.includes(&publication.topic) {
            self.counters.not_allowed.add(1);
            log_conn!(self, id, topic = &*publication.topic, "a publication was not allowed");
            let why = Failure::NotAllowed;
            return self.answer(id, request, &refused(403, why.code(), &why.to_string()));
        }
        if let Some(next) = self.ask_to_post(id, request, &publication.topic) {
            return next;
        }
        let head_timeout = self.settings.head_timeout;
        // An id is a client's: what nobody proves to have sent may be anybody's, and is not known again.
        let client = publication.id.as_ref().and_then(|_| self.claimed(request));
        let Some(conn) = self.conns.get_mut(id) else { return Next::End };
        conn.session = Session::Posted { keep_alive: request.keep_alive() };
        self.wheel.set(id.index, self.now.after(head_timeout));
        let name = publication.id.unwrap_or_default();
        let to = Return::Conn(Origin { shard: self.id, conn: id });
        let receipt = Receipt { to, client, id: name.into(), place: true, quiet: false };
        let message = Publication::new(MessageKind::Text, publication.data);
        if !self.publish(&publication.topic, Publication { receipt: Some(Box::new(receipt)), ..message }) {
            let response = self.too_large();
            self.end_posted(id, &response, CloseReason::Http);
        }
        self.pace(id, true);
        match self.conns.get(id) {
            Some(conn) if matches!(conn.session, Session::Posted { .. }) => Next::Answer,
            Some(conn) if conn.phase == Phase::Head => Next::Request,
            _ => Next::End,
        }
    }

    /// Answers a publication that is ordered, if that is what the connection waits for; `false` if not.
    pub(super) fn answer_posted(&mut self, id: ConnId, answer: &Answer) -> bool {
        let Some(&Session::Posted { .. }) = self.conns.get(id).map(|conn| &conn.session) else { return false };
        match answer {
            Answer::Ack { place: Some((topic, position)), .. } => {
                self.counters.http_requests.add(1);
                self.end_posted(id, &json_response(200, json::placed_at(topic, *position)), CloseReason::Http);
            }
            Answer::Failed { why: why @ Failure::TooFast, .. } => {
                self.counters.http_errors.add(1);
                let response = refused(429, why.code(), &why.to_string()).retry_after(1);
                self.end_posted(id, &response, CloseReason::Http);
            }
            _ => {}
        }
        true
    }

    /// The answer did not come: it is not known whether the message was ordered.
    pub(super) fn posted_timed_out(&mut self, id: ConnId) {
        self.counters.http_errors.add(1);
        self.end_posted(id, &refused(504, "timeout", "The message may have been published, or not"), CloseReason::Http);
    }

    fn end_posted(&mut self, id: ConnId, response: &Response<'_>, reason: CloseReason) {
        let keep_alive_timeout = self.settings.keep_alive_timeout;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Session::Posted { keep_alive } = conn.session else { return };
        let keep_alive = keep_alive && response.status == 200;
        conn.session = Session::Head(None);
        self.wheel.set(id.index, self.now.after(keep_alive_timeout));
        self.respond(id, response, Framing { head_only: false, keep_alive }, reason);
    }
}

fn refused(status: u16, code: &str, message: &str) -> Response<'static> {
    json_response(status, format!("{{\"code\":\"{code}\",\"message\":\"{message}\"}}"))
}

fn json_response(status: u16, text: String) -> Response<'static> {
    Response { status, ..Response::json(text) }.header(ALLOW_ORIGIN, "*")
}
