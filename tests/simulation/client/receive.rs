//! What a client makes of what it receives.

use super::*;

impl Client {
    pub(super) fn answered(&mut self, response: &Response, scene: &mut Scene<'_>) {
        note(|| format!("c{} is answered {}", self.id, response.status));
        let expected = self.expected.pop_front();
        let is_stream = response.head.contains("\r\nContent-Type: text/event-stream\r\n");
        assert!(response.status == 101 || is_stream || response.body.len() > 1, "a body");
        match response.status {
            200 if is_stream => {
                assert_eq!((self.persona, expected), (Persona::Reader, Some(200)));
                self.let_in(scene);
                self.state = State::Open;
                scene.tally.streams += 1;
            }
            101 => {
                assert!(response.head.contains(ACCEPT));
                assert_eq!(expected, Some(101));
                self.opened(scene);
            }
            503 | 408 => {
                assert!(response.closes(), "{response:?}");
                assert!(!scene.plan.calm);
                if response.status == 503 {
                    self.put_off(response, scene);
                }
                self.state = State::Ending;
                scene.tally.refused += 1;
            }
            status => {
                // Who shows no pass is asked for one before anything else.
                let has_none = self.persona == Persona::Rude && scene.plan.guard.is_some();
                let is_asked = status == 401 && (has_none || self.has_expired(scene.now));
                assert!(Some(status) == expected || is_asked, "client {}, {:?}: {response:?}", self.id, self.persona);
                scene.tally.pages += 1;
                if response.closes() {
                    self.state = State::Ending;
                }
            }
        }
    }

    pub(super) fn opened(&mut self, scene: &mut Scene<'_>) {
        self.let_in(scene);
        self.state = State::Open;
        scene.tally.opened += 1;
        match self.persona {
            Persona::Raw { topic, own } => {
                self.views.insert(topic, View::new(scene.oracle, self.id, topic, own));
            }
            Persona::Follower if !self.trails.is_empty() => {
                let topics: Vec<_> = (0..scene.plan.topics).filter(|&topic| self.trails.follows(topic)).collect();
                self.follow(&topics, scene);
            }
            Persona::Sender | Persona::Backend => {}
            Persona::Guest => {
                let topics = guest::some_topics(scene);
                self.wish(topics, scene);
            }
            _ => {
                let topics = (0..scene.plan.topics).filter(|_| scene.rng.percent(50)).take(3).collect::<Vec<_>>();
                let topics = if topics.is_empty() { vec![0] } else { topics };
                match self.persona {
                    Persona::Follower => self.follow(&topics, scene),
                    _ => self.ask_for(Asked::Subscribe(topics), scene),
                }
            }
        }
    }

    pub(super) fn got(&mut self, frame: Frame, scene: &mut Scene<'_>) {
        let is_last = matches!(frame, Frame::Close(Some(1012)));
        assert!(self.away.hint.is_none() || is_last, "client {} was told to come back: {frame:?}", self.id);
        match frame {
            Frame::Ping(payload) => {
                scene.tally.pings += 1;
                if !self.mute && self.closing.is_none() {
                    self.say(wire::control(PONG, &payload, scene.rng));
                }
            }
            Frame::Pong(payload) => {
                scene.tally.pongs += 1;
                assert_eq!(self.pings.pop_front(), Some(payload), "pings are answered in order");
            }
            Frame::Close(code) => self.closed(code, scene),
            Frame::Text { compressed, payload } => {
                let payload = if compressed { inflated(payload, scene.tally) } else { payload };
                match payload.first() {
                    Some(b'{') => self.told(&payload, scene),
                    _ => self.saw(false, &payload, scene),
                }
            }
            Frame::Binary { compressed, payload } => {
                let payload = if compressed { inflated(payload, scene.tally) } else { payload };
                self.saw(true, &payload, scene);
            }
        }
    }

    pub(super) fn saw(&mut self, binary: bool, payload: &[u8], scene: &mut Scene<'_>) {
        let message = scene.oracle.recognise(binary, payload);
        note(|| format!("c{} sees {message:?}", self.id));
        let last = self.ever.insert((message.topic, message.publisher), message.seq);
        assert!(last < Some(message.seq), "client {} sees {message:?} again", self.id);
        let view = self.views.get_mut(&message.topic);
        let view = view.unwrap_or_else(|| panic!("client {} is not subscribed to {message:?}", self.id));
        view.see(message, scene.oracle, scene.plan.drops());
        scene.tally.delivered += 1;
    }

    /// The server has said something in `json`.
    pub(super) fn told(&mut self, text: &[u8], scene: &mut Scene<'_>) {
        let event: Value = serde_json::from_slice(text).expect("JSON");
        // Members are introduced in an order that no seed says.
        match event["type"].as_str() {
            Some(kind @ ("client_joined" | "client_left")) => note(|| format!("c{} is told of a {kind}", self.id)),
            _ => note(|| format!("c{} is told {event}", self.id)),
        }
        if event["type"] == "reconnect" {
            return self.told_to_return(&event, scene);
        }
        match self.persona {
            Persona::Sender => return self.sender_told(&event, text, scene),
            Persona::Backend => return self.backend_told(&event, text, scene),
            Persona::Guest => return self.guest_told(&event, scene),
            _ => {}
        }
        let follows = self.persona == Persona::Follower;
        assert!(follows || self.persona == Persona::Json);
        match event["type"].as_str() {
            Some("gap") if !event["topic"].is_null() => return self.lacks(&event, scene),
            Some("message") => return self.followed(&event, scene),
            // Of its room, which it has not asked for.
            Some("subscribed") if event["topics"][0]["topic"] == "game" => {
                assert_eq!(event["topics"][0]["ok"], true);
                return;
            }
            Some("subscribed") if follows => return self.follows(&event, scene),
            Some("gap") => return self.told += event["dropped"].as_u64().expect("a count") as usize,
            Some("connected") => {
                assert!(!std::mem::replace(&mut self.welcomed, true), "welcomed twice");
                self.check_name(&event, scene);
                return;
            }
            _ => assert!(self.welcomed, "the welcome comes first"),
        }
        let asked = self.asked.pop_front().expect("an answer to something");
        match (&asked, event["type"].as_str()) {
            (Asked::Subscribe(topics), Some("subscribed")) => self.subscribed(topics, &event, scene),
            (Asked::Unsubscribe(topics), Some("unsubscribed")) => self.unsubscribed(topics, &event, scene.plan),
            (Asked::Ping, Some("pong")) | (Asked::Nonsense, Some("error")) => {}
            _ => panic!("{asked:?} is answered {event}"),
        }
    }

    pub(super) fn subscribed(&mut self, topics: &[usize], event: &Value, scene: &mut Scene<'_>) {
        assert_eq!(event["topics"].as_array().map(Vec::len), Some(topics.len()));
        for (i, &topic) in topics.iter().enumerate() {
            let ok = event["topics"][i]["ok"] == true;
            let may = self.views.contains_key(&topic) || self.views.len() < scene.plan.settings.max_topics as usize;
            assert_eq!(ok, may, "{event}");
            if ok && !self.views.contains_key(&topic) {
                self.views.insert(topic, View::new(scene.oracle, self.id, topic, true));
            }
        }
    }

    pub(super) fn unsubscribed(&mut self, topics: &[(usize, usize)], event: &Value, plan: &Plan) {
        for (i, (topic, published)) in topics.iter().enumerate() {
            let view = self.views.remove(topic);
            // What was published before still comes. Other shards' messages are ordered later than they are sent.
            let last = view.as_ref().map_or(*published, |view| view.last_of(self.id));
            assert!(plan.drops() || plan.shards > 1 || last >= *published, "client {} left too early", self.id);
            assert_eq!(event["topics"][i]["ok"] == true, view.is_some(), "{event}");
            if let Some(view) = view {
                self.past.0 += view.received;
                self.past.1 += view.missed;
            }
        }
    }

    pub(super) fn closed(&mut self, code: Option<u16>, scene: &mut Scene<'_>) {
        note(|| format!("c{} is closed {code:?}", self.id));
        let tight = scene.net[self.socket].tight;
        let may_end = self.may_be_ended(scene);
        let right = match code {
            code if self.closing == Some(code) => self.violation.is_none(),
            Some(1001) => may_end,
            Some(1008) => self.has_expired(scene.now),
            Some(1012) => self.is_sent_away(scene),
            Some(1013) => tight,
            Some(4001) => self.may_be_replaced(),
            Some(code) if self.is_shown_out(code, scene.oracle) => true,
            code => code.is_some() && code == self.violation,
        };
        assert!(right, "client {} is closed with {code:?}: {:?} {:?}", self.id, self.closing, self.violation);
        self.desk.orderly = self.closing == Some(code) || code == Some(1012);
        *scene.tally.closes.entry(code.unwrap_or(1005)).or_default() += 1;
        if self.closing.is_none() && self.violation.is_none() && !self.mute {
            self.say_close(code, scene.rng);
        }
        self.closing.get_or_insert(code);
        self.state = State::Ending;
    }

    /// The stream has ended.
    pub(super) fn ended(&mut self, scene: &mut Scene<'_>) {
        note(|| format!("c{} is at the end", self.id));
        let cut = scene.net[self.socket].server_reset || self.is_cut(scene);
        let stream_may_end = self.persona == Persona::Reader && self.stream_may_be_ended(scene);
        let socket = &mut scene.net[self.socket];
        assert!(cut || self.reader.is_empty(), "client {}: the stream ends inside something", self.id);
        let words = self.state != State::Open || socket.client_fin || stream_may_end;
        assert!(cut || words, "client {}: the stream ends without a close frame", self.id);
        socket.finish();
        self.state = State::Gone;
    }
}

fn inflated(payload: Vec<u8>, tally: &mut Tally) -> Vec<u8> {
    tally.inflated += 1;
    let mut out = Vec::with_capacity(1 << 20);
    let input = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&input, &mut out, FlushDecompress::Sync).expect("a deflate stream");
    out
}
