//! A client whose server is about to end: it is sent away, and comes back to another.

use super::*;

/// Milliseconds over which a server spreads those who come back, and the least that it tells a stream.
const SPREAD_MS: u64 = 2_000;
const LEAST_RETRY_MS: u64 = 1_000;
/// Milliseconds after which those come back who were not told when.
const OWN_PAUSE_MS: usize = 2_000;

/// What a client knows of its server's end.
#[derive(Default)]
pub struct Away {
    /// It came to a server that takes nobody any more.
    pub late: bool,
    /// When to come back, in milliseconds: nothing follows that.
    pub(super) hint: Option<u64>,
    sent: bool,
}

impl Client {
    /// When it comes back, in milliseconds, if it was sent away; once.
    pub fn take_return(&mut self, rng: &mut Rng) -> Option<u64> {
        let Away { sent, hint, .. } = &mut self.away;
        std::mem::take(sent).then(|| hint.unwrap_or_else(|| rng.below(OWN_PAUSE_MS) as u64))
    }

    /// Whether its server is being drained, and may have sent it away.
    pub(super) fn may_be_sent_away(&self, scene: &Scene<'_>) -> bool {
        scene.drain.as_ref().is_some_and(|drain| self.home.server == 0 && drain.has_begun(scene.now))
    }

    /// Whether its server may end it without a word on coming back.
    pub(super) fn may_be_dismissed(&self, scene: &Scene<'_>) -> bool {
        self.may_be_sent_away(scene) && scene.drain.as_ref().is_some_and(|drain| !drain.is_gradual())
    }

    /// Whether its server may have ended.
    pub(super) fn may_be_cut_off(&self, scene: &Scene<'_>) -> bool {
        scene.drain.as_ref().is_some_and(|drain| self.home.server == 0 && drain.cuts_off(scene.now))
    }

    /// A WebSocket is told when to come back.
    pub(super) fn told_to_return(&mut self, event: &Value, scene: &mut Scene<'_>) {
        let after = event["after"].as_u64().expect("milliseconds");
        assert!(after <= SPREAD_MS, "client {}: {event}", self.id);
        assert!(self.may_be_sent_away(scene), "client {} is told to come back: {event}", self.id);
        assert_eq!(self.away.hint.replace(after), None, "client {} is told twice", self.id);
    }

    /// A stream is, which ends then.
    pub(super) fn retries(&mut self, millis: &str, scene: &mut Scene<'_>) {
        let after = millis.trim_end().parse().expect("milliseconds");
        assert!((LEAST_RETRY_MS..=LEAST_RETRY_MS + SPREAD_MS).contains(&after), "client {}: {millis}", self.id);
        self.away.hint = Some(after);
        assert!(self.is_sent_away(scene), "client {} is told to come back", self.id);
    }

    /// Whether it was sent away as it should be.
    pub(super) fn is_sent_away(&mut self, scene: &mut Scene<'_>) -> bool {
        let is_told = !matches!(self.persona, Persona::Raw { .. } | Persona::Backend);
        if self.away.hint.is_some() != is_told || !self.may_be_sent_away(scene) || self.may_be_dismissed(scene) {
            return false;
        }
        if let Some(drain) = scene.drain.as_deref_mut() {
            match self.persona {
                Persona::Backend => drain.ends(scene.now),
                _ => drain.sends(self.home.shard, scene.now),
            }
        }
        scene.tally.sent_away += 1;
        self.away.sent = true;
        true
    }

    /// It is let in.
    pub(super) fn let_in(&self, scene: &Scene<'_>) {
        self.check_pass(scene.oracle);
        assert!(!self.away.late, "client {} is let in by a server that takes nobody", self.id);
    }

    /// It is not, for now.
    pub(super) fn put_off(&self, response: &Response, scene: &mut Scene<'_>) {
        let field = response.head.split_once("\r\nRetry-After: ").and_then(|(_, rest)| rest.split_once('\r'));
        let after: usize = field.expect("a time to come back").0.parse().expect("seconds");
        assert!((1..=4).contains(&after), "client {}: {response:?}", self.id);
        scene.tally.turned_away += usize::from(self.away.late);
    }
}
