//! Who may come in, and what whoever is in may do.
//!
//! A request that needs a token waits until that is checked, with everything that came behind it; then it is taken up anew, as
//! one of a client that is known. What a grant does not allow is refused where it is asked for.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::auth::hook::Answer;
use crate::auth::{Denied, Grant, Judged, Permissions, Purpose, Said, Verdict, token};
use crate::conn::{Phase, Session, Unparsed};
use crate::dialect::{Event, Failure};
use crate::error::CloseReason;
use crate::http::request::Request;
use crate::http::response::{ALLOW_ORIGIN, Framing, Response};
use crate::http::route::Route;
use crate::ring::token::ConnId;
use crate::time::Tick;

use super::Core;
use super::hook_message::Queue;
use super::inbound::Next;
use super::pass::Passes;

/// What a connection was granted.
pub(super) struct Admission {
    /// By its token, and by the application.
    pub(super) grant: Grant,
    /// What the application has said when it was asked whether the client may come in.
    pub(super) answer: Option<Box<Answer>>,
    /// Messages that wait for its word.
    pub(super) queue: Option<Box<Queue>>,
    /// When its lifetime would be over, whatever its token says.
    lifetime: Option<Tick>,
    /// Whether a new token of its own is being checked.
    refreshing: bool,
    /// What tokens of topics allow.
    pub(super) passes: Option<Box<Passes>>,
}

/// The grants of a shard's connections, by slot.
#[derive(Default)]
pub(super) struct Admissions(HashMap<u32, Admission>);

impl Admissions {
    pub(super) fn insert(&mut self, index: u32, grant: Grant) {
        let admission = Admission { grant, answer: None, queue: None, lifetime: None, refreshing: false, passes: None };
        self.0.insert(index, admission);
    }

    /// Of a connection, if it has one.
    pub(super) fn get(&self, id: ConnId) -> Option<&Admission> {
        self.0.get(&id.index)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Admission> {
        self.0.get_mut(&id.index)
    }

    /// A connection is over, or its request is. Returns the bytes that were kept of messages.
    pub(super) fn end(&mut self, index: u32) -> usize {
        let queue = self.0.remove(&index).and_then(|admission| admission.queue);
        queue.map_or(0, |queue| queue.bytes())
    }

    /// What the configuration allows has changed: so has what is allowed to those of whom nothing else is said.
    pub(super) fn change_defaults(&mut self, before: &Arc<Permissions>, now: &Arc<Permissions>) {
        let by_default = self.0.values_mut().filter(|admission| Arc::ptr_eq(&admission.grant.may, before));
        by_default.for_each(|admission| admission.grant.may = now.clone());
    }

    /// The slots of connections with a grant, for tests.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }
}

impl Core {
    /// Whether somebody has to be admitted before a request for this is answered.
    fn is_guarded(&self, route: &Route<'_>) -> bool {
        let has_guard = self.aides.gate.is_some() || self.aides.hook.is_some();
        has_guard && matches!(route, Route::Raw { .. } | Route::Json | Route::Events | Route::Publish)
    }

    /// Sees to it that a client is admitted before its request is answered: `None` if it is. `rest`: the request, and what came
    /// behind it.
    pub(super) fn admit(&mut self, id: ConnId, route: &Route<'_>, request: &Request<'_>) -> Option<Next> {
        if !self.is_from_here(request) && !matches!(route, Route::Probe(_) | Route::Page(_)) {
            return Some(self.deny(id, request, 403, "This page may not connect here."));
        }
        // What a browser asks before it posts has no token.
        if !self.is_guarded(route) || request.method == crate::http::request::Method::Options {
            return None;
        }
        let waits = if self.admissions.get(id).is_none() { self.admit_by_token(id, request) } else { None };
        waits.or_else(|| self.ask_at_the_door(id, route, request))
    }

    /// Sees to it that a client's token is checked, if it needs one: `None` if it does not.
    fn admit_by_token(&mut self, id: ConnId, request: &Request<'_>) -> Option<Next> {
        let anonymous = Grant::anonymous(self.settings.permissions.clone());
        if self.aides.gate.is_none() {
            self.admissions.insert(id.index, anonymous);
            return None;
        }
        let Some(token) = token::of(request, self.settings.auth_cookie.as_deref()) else {
            if self.settings.anonymous {
                self.admissions.insert(id.index, anonymous);
                return None;
            }
            return Some(self.deny(id, request, 401, "A token is wanted here."));
        };
        let asked = self.aides.gate.as_ref().is_some_and(|gate| gate.ask(self.id, id, Purpose::Connect, &token));
        if !asked {
            self.counters.auth_shed.add(1);
            let response = Response::unavailable(1, "There are too many tokens to check.");
            return Some(self.answer(id, request, &response));
        }
        Some(Next::Wait)
    }

    /// Whether a request comes from no page, or from one whose origin (RFC 6454) is allowed.
    fn is_from_here(&self, request: &Request<'_>) -> bool {
        let Some(origin) = request.header("Origin") else { return true };
        std::str::from_utf8(origin).is_ok_and(|origin| self.settings.allowed_origins.includes(origin))
    }

    fn deny(&mut self, id: ConnId, request: &Request<'_>, status: u16, sentence: &str) -> Next {
        self.counters.auth_denied.add(1);
        self.answer(id, request, &Response::error(status, sentence).header(ALLOW_ORIGIN, "*"))
    }

    /// Keeps a request, and what came behind it, until its token is checked.
    pub(super) fn keep_for_verdict(&mut self, id: ConnId, bytes: &[u8]) {
        let head_timeout = self.settings.head_timeout;
        // Heads are bounded by how many connections there are.
        let wanted = if bytes.len() > self.settings.max_head { bytes.len() } else { 0 };
        let unparsed = Unparsed { bytes: bytes.to_vec(), wanted, since: Some(self.now) };
        let Some(conn) = self.conns.get_mut(id) else { return };
        self.partial_bytes += unparsed.body_bytes();
        conn.session = Session::Asked(Box::new(unparsed));
        conn.flags.set_asking(true);
        self.wheel.set(id.index, self.now.after(head_timeout));
    }

    /// A token is checked.
    pub(super) fn judged(&mut self, verdict: Verdict) {
        let Verdict { conn: id, judged } = verdict;
        if let Some(denied) = judged.denied() {
            log_conn!(self, id, why = %denied, "a token was refused");
        }
        match judged {
            Judged::Connect(outcome) => self.judged_to_connect(id, outcome),
            Judged::Refresh(outcome) => self.judged_to_stay(id, outcome),
            Judged::Subscribe(topic, outcome) => self.judged_to_subscribe(id, topic, outcome),
        }
    }

    /// A request need not wait any more: what it is and what came behind it, if somebody waits for the answer.
    pub(super) fn take_asked(&mut self, id: ConnId) -> Option<Vec<u8>> {
        let conn = self.conns.get_mut(id)?;
        let Session::Asked(kept) = &mut conn.session else { return None };
        let kept = std::mem::take(&mut **kept);
        self.partial_bytes -= kept.body_bytes();
        conn.session = Session::Head(None);
        conn.flags.set_asking(false);
        (conn.phase == Phase::Head).then_some(kept.bytes)
    }

    /// What a token grants that says this: what it does not say is what everybody may do by now.
    fn granted(&self, said: Said) -> Option<Grant> {
        let is_current = said.expires.is_none_or(|expires| expires > self.unix_ms);
        is_current.then(|| said.over(&self.settings.permissions))
    }

    fn judged_to_connect(&mut self, id: ConnId, outcome: Result<Said, Denied>) {
        let Some(bytes) = self.take_asked(id) else { return };
        match outcome.ok().and_then(|said| self.granted(said)) {
            Some(grant) => {
                self.counters.auth_granted.add(1);
                self.admissions.insert(id.index, grant);
                self.take_up(id, bytes);
            }
            None => {
                self.counters.auth_denied.add(1);
                self.counters.http_errors.add(1);
                let response = Response::error(401, "The token is not valid, or not any more.");
                let response = response.header(ALLOW_ORIGIN, "*");
                self.respond(id, &response, Framing::CLOSE, CloseReason::Http);
            }
        }
    }

    /// Takes up bytes as if they had just been read.
    pub(super) fn take_up(&mut self, id: ConnId, bytes: Vec<u8>) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.flags.set_undecoded(true);
            self.undecoded.push_back((id, bytes));
        }
    }

    /// The token did not get checked in time, or the application has not said anything.
    pub(super) fn verdict_timed_out(&mut self, id: ConnId) {
        self.counters.http_errors.add(1);
        self.counters.auth_shed.add(1);
        let response = Response::unavailable(1, "Whether you may come in could not be found out in time.");
        self.respond(id, &response, Framing::CLOSE, CloseReason::HeadTimeout);
    }

    /// A client wants to stay, by a new token. One of them is checked at a time. `message`: the request's `id`.
    pub(super) fn refresh(&mut self, id: ConnId, token: &str, message: Option<&str>) {
        let (Some(gate), Some(admission)) = (&self.aides.gate, self.admissions.0.get_mut(&id.index)) else {
            self.counters.auth_denied.add(1);
            return self.tell(id, Event::BadToken);
        };
        if admission.refreshing || !gate.ask(self.id, id, Purpose::Refresh, token) {
            self.counters.auth_shed.add(1);
            return self.tell(id, Event::Failed { why: Failure::Undecided, id: message });
        }
        admission.refreshing = true;
    }

    /// A token for the same user takes the place of the one before.
    fn judged_to_stay(&mut self, id: ConnId, outcome: Result<Said, Denied>) {
        if !self.conns.get(id).is_some_and(|conn| conn.is_open()) {
            return;
        }
        let grant = outcome.ok().and_then(|said| self.granted(said));
        let mut admission = self.admissions.0.get_mut(&id.index);
        if let Some(admission) = &mut admission {
            admission.refreshing = false;
        }
        // What the application has said holds as long as the connection, whatever the token.
        let answer = admission.as_ref().and_then(|admission| admission.answer.as_deref());
        let grant = grant.and_then(|grant| answer.map_or(Ok(grant.clone()), |answer| answer.over(grant)).ok());
        let Some((grant, admission)) = grant.zip(admission).filter(|(new, old)| new.user == old.grant.user) else {
            self.counters.auth_denied.add(1);
            return self.tell(id, Event::BadToken);
        };
        self.counters.auth_granted.add(1);
        let (expires, lifetime) = (grant.expires, admission.lifetime);
        admission.grant = grant;
        self.set_end(id, lifetime);
        self.tell(id, Event::Refreshed { expires });
    }

    /// What a connection may do.
    pub(super) fn permissions(&self, id: ConnId) -> &Arc<Permissions> {
        self.admissions.0.get(&id.index).map_or(&self.settings.permissions, |admission| &admission.grant.may)
    }

    /// Whether a connection may subscribe to a topic.
    pub(super) fn may_subscribe(&self, id: ConnId, topic: &str) -> bool {
        let passes = self.admissions.get(id).and_then(|admission| admission.passes.as_ref());
        let by_pass = || passes.is_some_and(|passes| passes.includes(topic, self.unix_ms));
        self.permissions(id).subscribe.includes(topic) || by_pass()
    }

    /// The user that a connection's token names.
    pub(super) fn granted_user(&self, id: ConnId) -> Option<&str> {
        self.admissions.0.get(&id.index)?.grant.user.as_deref()
    }

    /// Milliseconds since 1970 at which a connection's token is over.
    pub(super) fn grant_expires(&self, id: ConnId) -> Option<u64> {
        self.admissions.get(id)?.grant.expires
    }

    /// When a connection ends that would live until `lifetime`: then, or when its token is over.
    pub(super) fn end_of(&mut self, id: ConnId, lifetime: Option<Tick>) -> Option<Tick> {
        if let Some(admission) = self.admissions.0.get_mut(&id.index) {
            admission.lifetime = lifetime;
        }
        let left = self.grant_expires(id).map(|at| std::time::Duration::from_millis(at.saturating_sub(self.unix_ms)));
        let expiry = left.map(|left| self.now.after(left));
        [lifetime, expiry].into_iter().flatten().reduce(|a, b| if a.is_after(b) { b } else { a })
    }

    /// Whether it is for its token that a connection ends now, not for its lifetime.
    pub(super) fn ends_by_token(&self, id: ConnId) -> bool {
        let Some(admission) = self.admissions.0.get(&id.index) else { return false };
        admission.grant.expires.is_some() && admission.lifetime.is_none_or(|lifetime| lifetime.is_after(self.now))
    }
}
