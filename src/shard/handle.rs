//! All shards, for threads that are none of them: how the embedder's threads and the control thread publish and ask.

use std::sync::Arc;

use super::address::way;
use super::mail::{Addressed, Ask, Mail, Message, Origin, Question, Receipt, Return, TopicRef};
use super::mailbox::Postbox;
use super::shared::Shared;

/// Payload bytes in some shard's mailbox beyond which it is said to be busy.
const BOUND: usize = 16 << 20;

/// A handle on all shards. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    shared: Arc<Shared>,
    postboxes: Arc<[Postbox]>,
}

/// Why nothing can be asked of the shards now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// More is waiting to go out than may wait: try again later.
    #[error("the server is busy: try again later")]
    Busy,
    /// A shard has ended.
    #[error("the server has stopped")]
    Stopped,
}

impl Shards {
    /// Of these shards, in order.
    pub fn new(shared: Arc<Shared>, postboxes: Vec<Postbox>) -> Shards {
        Shards { shared, postboxes: postboxes.into() }
    }

    /// What they share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where their mail goes, shard by shard.
    pub fn postboxes(&self) -> &[Postbox] {
        &self.postboxes
    }

    /// Whether they take more. To be asked before what brings payload.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn available(&self) -> Result<(), Unavailable> {
        if self.postboxes.iter().any(Postbox::is_closed) {
            return Err(Unavailable::Stopped);
        }
        // Every shard's, not only the home's: that passes on what it takes.
        if self.postboxes.iter().any(|postbox| postbox.weight() > BOUND) {
            return Err(Unavailable::Busy);
        }
        Ok(())
    }

    /// Publishes. `topic` is a topic's name, and a text is UTF-8.
    pub fn publish(&self, topic: &str, message: Message, receipt: Option<Box<Receipt>>) {
        let mail = Mail::Publish { topic: TopicRef::Name(topic.into()), message, exclude: None, receipt };
        self.post(self.shared.home(topic), mail);
    }

    /// Has something done to whom it names; `false` if that is nobody. Otherwise whoever asks is told.
    pub fn address(&self, addressed: Addressed) -> bool {
        let shard = way(&self.shared, &addressed.receiver, addressed.stage);
        self.post(shard, Mail::Address(Box::new(addressed)))
    }

    /// Has something done to a connection; `false` if there is no such shard. Otherwise whoever asks is told.
    pub fn act(&self, at: Origin, what: Addressed) -> bool {
        self.post(at.shard, Mail::Act { to: at.conn, what: Box::new(what) })
    }

    /// Asks the home shard of a room or topic.
    pub fn ask(&self, name: &str, question: Question, to: Return) {
        self.post(self.shared.home(name), Mail::Ask(Box::new(Ask { question, to })));
    }

    /// Asks every shard the same: as many answers come.
    pub fn ask_all(&self, question: impl Fn() -> Question, to: &Return) {
        for shard in 0..self.postboxes.len() {
            let ask = Ask { question: question(), to: to.clone() };
            self.post(shard as u16, Mail::Ask(Box::new(ask)));
        }
    }

    /// `false` if there is no such shard.
    fn post(&self, shard: u16, mail: Mail) -> bool {
        let Some(postbox) = self.postboxes.get(usize::from(shard)) else { return false };
        postbox.post(mail);
        postbox.wake();
        true
    }
}
