//! New settings for a shard that runs. Most are looked at where they are wanted; here is what must be told of them.

use std::sync::Arc;

use crate::conn::meter::Meters;
use crate::limits::MAX_REMEMBERED_TOPICS;

use super::settings::Settings;
use super::{Aides, Core};

/// What a shard is to work with from its next turn on.
#[derive(Clone, Debug)]
pub struct Update {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// Those who do what would take it too long.
    pub aides: Aides,
    /// Dropped when the shard works with it, or has ended: nothing is sent.
    pub pending: Option<flume::Sender<()>>,
}

impl Core {
    /// Takes up settings that have come, before anything else of a turn: so a turn sees one set of them.
    pub(super) fn take_up_settings(&mut self) {
        let Some(update) = self.update.take() else { return };
        let Update { settings, aides, pending: _pending } = *update;
        let before = std::mem::replace(&mut self.settings, Settings::clone(&settings));
        self.aides = aides;
        self.admissions.change_defaults(&before.permissions, &settings.permissions);
        self.window.set_length(settings.ack_window);
        self.encoder.set_min(settings.deflate_min);
        self.hub.set_memory(MAX_REMEMBERED_TOPICS, settings.topic_memory);
        self.hub.set_history_bound(settings.history_bytes);
        if before.history != settings.history {
            self.hub.keep_otherwise(|topic| settings.history.of(topic).map(Into::into));
        }
        if before.presence != settings.presence {
            self.rooms.values_mut().for_each(|room| room.set_rules(settings.presence));
        }
        if before.connect_rate != settings.connect_rate && self.accept_again.is_some() && self.accepts() {
            self.start_accepting();
        }
        self.tell_connections(&before);
    }

    /// What connections keep for themselves of settings that have changed.
    fn tell_connections(&mut self, before: &Settings) {
        let Settings { message_rate, byte_rate, ping_interval, ping_timeout, .. } = self.settings;
        let paced = (before.message_rate, before.byte_rate) != (message_rate, byte_rate);
        let pinged = (before.ping_interval, before.ping_timeout) != (ping_interval, ping_timeout);
        if paced {
            self.meters = Meters::new(message_rate, byte_rate);
        }
        let mut next = if paced || pinged { self.conns.next_occupied(0) } else { None };
        while let Some(index) = next {
            if paced {
                self.meters.start(index, self.peers.get(index).is_loopback(), self.now);
            }
            if let Some(id) = self.conns.id(index).filter(|_| pinged) {
                self.restart_heartbeat(id);
            }
            next = self.conns.next_occupied(index + 1);
        }
    }
}
