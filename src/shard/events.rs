//! Streams of Server-Sent Events: how they begin, what they are told, and what keeps them going.
//!
//! A stream joins its topics as a recovering `json` client does. Then the messages of its topic come from the hub, in blocks
//! that all streams of that topic alone share. A stream of several topics is given copies, as each of its ids says where it
//! is in all of them; streams of the same topics, at the same places, share one. What is put into an outbox is in order, so
//! an id says what comes before it, whatever is dropped later.

use std::borrow::Cow;
use std::rc::Rc;

use crate::conn::{Conn, EventStream, Phase, Session, outbox};
use crate::dialect::sse::{self, Cursor, Cursors};
use crate::dialect::{Position, Since};
use crate::error::CloseReason;
use crate::http::request::{Method, Request};
use crate::http::response::{ALLOW_ORIGIN, EVENT_STREAM, Response};
use crate::hub::frame::{Class, Frames, Span};
use crate::limits::{MAX_TOPICS_PER_STREAM, is_topic_name};
use crate::ring::token::ConnId;

use super::Core;
use super::inbound::Next;
use super::publish::KEPT_SCRATCH;

impl Core {
    /// Begins a stream, or says what is wrong with the request for it.
    pub(super) fn open_events(&mut self, id: ConnId, request: &Request<'_>) -> Next {
        let place = last_event_id(request);
        let topics = match self.topics_for_stream(request, place.is_empty()) {
            Ok(topics) => topics,
            Err((status, sentence)) => {
                self.counters.handshakes_malformed.add(1);
                return self.answer(id, request, &Response::error(status, sentence).header(ALLOW_ORIGIN, "*"));
            }
        };
        let may_have = |topic: &Cow<'_, str>| {
            self.may_subscribe(id, topic) && (place.is_empty() || self.permissions(id).history.includes(topic))
        };
        if !topics.iter().all(may_have) {
            return self.not_permitted(id, request);
        }
        if request.method == Method::Head {
            self.counters.http_requests.add(1);
            self.push_reply(id, &[EVENT_STREAM.as_bytes()]);
            self.flush_and_close(id, CloseReason::Http);
            return Next::End;
        }
        self.begin_stream(id, Cursors::parse(&place, topics.iter().map(|topic| &**topic)), topics.len() > 1);
        for topic in topics {
            let since = self.stream_since(id, &topic);
            // The names are good, and no more than may be.
            if self.recover(id, &topic, since, true).is_err() {
                self.close(id, 1008, "", CloseReason::Policy);
            }
        }
        Next::End
    }

    /// The topics that a request for a stream names, if it is going to be one.
    pub(super) fn topics_of_stream<'a>(&self, request: &Request<'a>) -> Option<Vec<Cow<'a, str>>> {
        self.topics_for_stream(request, last_event_id(request).is_empty()).ok()
    }

    /// The topics of a request, each once; or the status and the sentence that refuse it.
    fn topics_for_stream<'a>(
        &self,
        request: &Request<'a>,
        is_new: bool,
    ) -> Result<Vec<Cow<'a, str>>, (u16, &'static str)> {
        let mut topics: Vec<_> = request.query_values("topic").collect();
        topics.sort_unstable();
        topics.dedup();
        if topics.is_empty() || !topics.iter().all(|topic| is_topic_name(topic)) {
            return Err((400, "Name topics, of 1 to 256 bytes each: /sse?topic=a&topic=b."));
        }
        if topics.len() > MAX_TOPICS_PER_STREAM.min(self.settings.max_topics as usize) {
            return Err((400, "These are more topics than a stream may have."));
        }
        // Better now than when the stream is to go on.
        let head_later = request.head_len + topics.len() * sse::ID_BYTES_PER_TOPIC;
        if is_new && head_later > self.settings.max_head {
            return Err((431, "A request that goes on with these topics, with its Last-Event-ID, would be too large."));
        }
        Ok(topics)
    }

    fn begin_stream(&mut self, id: ConnId, cursors: Cursors, has_several_topics: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let cursors = Rc::new(cursors);
        conn.phase = Phase::Open;
        conn.class = Class::EVENTS;
        conn.session = Session::Events(Box::new(EventStream { cursors, sent: self.now, ..EventStream::default() }));
        conn.flags.set_keep_alive(false);
        conn.flags.set_stamped(has_several_topics);
        self.counters.handshakes_ok.add(1);
        self.counters.event_streams.add(1);
        self.start_heartbeat(id);
        self.push_reply(id, &[EVENT_STREAM.as_bytes(), sse::PREAMBLE.as_bytes()]);
    }

    fn stream_since(&self, id: ConnId, topic: &str) -> Option<Since> {
        match &self.conns.get(id)?.session {
            Session::Events(stream) => stream.cursors.since(topic),
            _ => None,
        }
    }

    /// Notes where a stream is in a topic once it has what it will be sent next; of other connections, nothing.
    pub(super) fn note_place(&mut self, id: ConnId, topic: &str, position: Position) {
        if let Some(Session::Events(stream)) = self.conns.get_mut(id).map(|conn| &mut conn.session) {
            Rc::make_mut(&mut stream.cursors).note(Cursor::new(topic, position));
        }
    }

    /// Sends a stream an event that is for it alone; `placed`: with an id that says where it is.
    pub(super) fn send_event(&mut self, id: ConnId, name: &str, placed: bool, data: &[u8]) -> bool {
        if !self.admits(id, data.len()) {
            return false;
        }
        let mut block = std::mem::take(&mut self.scratch.block);
        if let Some(Session::Events(stream)) = self.conns.get(id).filter(|_| placed).map(|conn| &conn.session) {
            stream.cursors.push_id(&mut block);
        }
        sse::push_event(&mut block, name, data);
        self.push_reply(id, &[&block]);
        block.clear();
        block.shrink_to(KEPT_SCRATCH);
        self.scratch.block = block;
        true
    }

    /// Says something if nothing else was said for a while, and ends a stream whose client has taken nothing for long.
    /// When the client is gone, that is how the kernel, or a proxy, finds out.
    pub(super) fn stream_heartbeat(&mut self, id: ConnId) {
        let (interval, timeout) = (self.settings.sse_heartbeat, self.settings.ping_timeout);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Session::Events(stream) = &mut conn.session else { return };
        let (quiet, stuck) = (stream.sent.after(interval), stream.sent.after(interval + timeout));
        let is_due = !quiet.is_after(self.now) && conn.outbox.is_empty();
        let next = match quiet.is_after(self.now) {
            true => quiet,
            false if is_due => self.now.after(interval),
            false if stuck.is_after(self.now) => stuck,
            // What waits was put there in this turn, which is late: it has yet to be sent.
            false if !conn.flags.blocked() => self.now.after(timeout),
            false => return self.close(id, 1001, "", CloseReason::PingTimeout),
        };
        let end = conn.flags.mortal().then_some(conn.expires).filter(|end| next.is_after(*end));
        self.wheel.set(id.index, end.unwrap_or(next));
        if is_due {
            stream.sent = self.now;
            self.counters.pings.add(1);
            self.push_reply(id, &[sse::HEARTBEAT.as_bytes()]);
        }
    }
}

/// The id of the last event that the client has had: a browser's own, else that of the address; empty if there is none.
fn last_event_id<'a>(request: &Request<'a>) -> Cow<'a, str> {
    let header = request.header("Last-Event-ID").and_then(|value| std::str::from_utf8(value).ok());
    let header = header.filter(|value| !value.is_empty()).map(Cow::Borrowed);
    header.or_else(|| request.query_value("lastEventId")).unwrap_or_default()
}

/// The copies of shared messages that streams of several topics are sent, while one fan-out is placed.
#[derive(Default)]
pub(super) struct Copies {
    /// The last one: as a rule, the next stream has the same topics and is at the same places.
    last: Option<Copied>,
}

/// Messages with the ids of the streams that were at `before`, and are then at `after`.
struct Copied {
    of: Span,
    before: Rc<Cursors>,
    after: Rc<Cursors>,
    span: Span,
}

impl Copies {
    /// The copy for a stream. Takes the reference to the shared chunk, and gives one to the copy.
    pub(super) fn of(&mut self, frames: &mut Frames, conn: &mut Conn, span: Span, scratch: &mut Vec<u8>) -> Span {
        let Session::Events(stream) = &mut conn.session else { return span };
        let last = self.last.take_if(|last| last.of == span && last.before == stream.cursors);
        let copied = last.unwrap_or_else(|| {
            self.release(frames);
            Copied::new(frames, Rc::clone(&stream.cursors), span, scratch)
        });
        stream.cursors = Rc::clone(&copied.after);
        frames.retain(copied.span.chunk, 1);
        frames.release(span.chunk, 1);
        self.last.insert(copied).span
    }

    /// Gives back the reference to the last one.
    pub(super) fn release(&mut self, frames: &mut Frames) {
        if let Some(last) = self.last.take() {
            frames.release(last.span.chunk, 1);
        }
    }
}

impl Copied {
    /// In a chunk of its own but of the same log: so it is counted, dropped and conflated as the shared messages are.
    fn new(frames: &mut Frames, before: Rc<Cursors>, of: Span, scratch: &mut Vec<u8>) -> Copied {
        let mut after = Cursors::clone(&before);
        for message in outbox::messages(frames, of) {
            after.stamp(frames.bytes(message), scratch);
        }
        let chunk = frames.alloc(scratch.len(), frames.log(of.chunk));
        let span = frames.append(chunk, &[scratch]);
        scratch.clear();
        scratch.shrink_to(KEPT_SCRATCH);
        Copied { of, before, after: Rc::new(after), span }
    }
}
