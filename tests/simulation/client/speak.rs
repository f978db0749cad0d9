//! What most clients say: they publish, ping, and ask for topics.

use super::*;

impl Client {
    pub(super) fn publish(&mut self, scene: &mut Scene<'_>) {
        match self.persona {
            Persona::Sender => return self.correspond(scene),
            Persona::Backend => return self.serve(scene),
            Persona::Guest => return self.publish_as_guest(scene),
            _ => {}
        }
        let rng = &mut *scene.rng;
        let large = if scene.plan.calm { 9_000 } else { 90_000 };
        let padding = if rng.permille(5) { rng.below(large) } else { rng.below(scene.plan.payload) };
        let (topic, form) = match self.persona {
            Persona::Raw { topic, .. } => (topic, rng.pick(&[Form::Text, Form::Binary])),
            _ => (rng.below(scene.plan.topics), Form::Data),
        };
        let payload = scene.oracle.publish(self.id, topic, form, padding);
        scene.tally.published += 1;
        note(|| format!("c{} publishes {:?}", self.id, String::from_utf8_lossy(&payload[..payload.len().min(12)])));
        match form {
            Form::Text => self.say_message(TEXT, &payload, rng),
            Form::Binary => self.say_message(BINARY, &payload, rng),
            Form::Data | Form::State => {
                let name = &scene.oracle.names[topic];
                let data = String::from_utf8_lossy(&payload);
                let text = format!(r#"{{"type":"publish","topic":"{name}","data":{data}}}"#);
                self.say_message(TEXT, text.as_bytes(), rng);
            }
        }
    }

    /// Publishes, perhaps, more than one read takes, and nothing after it.
    pub fn burst(&mut self, scene: &mut Scene<'_>) {
        let count = scene.rng.pick(&[0, 1, 300]);
        if self.is_well(scene.net) && self.persona != Persona::Reader {
            (0..count).for_each(|_| self.publish(scene));
        }
    }

    pub(super) fn ping(&mut self, scene: &mut Scene<'_>) {
        self.pinged += 1;
        let payload = format!("{}", self.pinged).into_bytes();
        self.say(wire::control(PING, &payload, scene.rng));
        self.pings.push_back(payload);
    }

    pub(super) fn ask(&mut self, scene: &mut Scene<'_>) {
        let rng = &mut *scene.rng;
        let some: Vec<_> = (0..rng.between(1, 3)).map(|_| rng.below(scene.plan.topics)).collect();
        let asked = match rng.below(10) {
            0..5 => Asked::Subscribe(some),
            5..8 => {
                let published = |topic| (topic, scene.oracle.count(self.id, topic));
                Asked::Unsubscribe(some.into_iter().map(published).collect())
            }
            8 => Asked::Ping,
            _ => Asked::Nonsense,
        };
        self.ask_for(asked, scene);
    }

    /// Of one that follows: what it has asked for already, or something small.
    pub(super) fn ask_again(&mut self, scene: &mut Scene<'_>) {
        let topic = scene.rng.below(scene.plan.topics);
        match scene.rng.below(4) {
            0 => self.ask_for(Asked::Ping, scene),
            1 => self.ask_for(Asked::Nonsense, scene),
            _ if self.trails.follows(topic) => self.follow(&[topic], scene),
            _ => {}
        }
    }

    pub(super) fn ask_for(&mut self, asked: Asked, scene: &mut Scene<'_>) {
        note(|| format!("c{} asks {asked:?}", self.id));
        let names =
            |topics: &[usize]| topics.iter().map(|&topic| scene.oracle.names[topic].clone()).collect::<Vec<_>>();
        let text = match &asked {
            Asked::Subscribe(topics) => json!({"type": "subscribe", "topics": names(topics)}),
            Asked::Unsubscribe(topics) => {
                let topics: Vec<_> = topics.iter().map(|&(topic, _)| topic).collect();
                json!({"type": "unsubscribe", "topics": names(&topics)})
            }
            Asked::Ping => json!({"type": "ping"}),
            Asked::Nonsense => json!({"type": "dance"}),
        };
        self.say_message(TEXT, text.to_string().as_bytes(), scene.rng);
        self.asked.push_back(asked);
    }
}
