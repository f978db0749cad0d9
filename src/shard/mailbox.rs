//! A shard's mailbox: a queue, the bytes in it, and one wake-up a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::mail::Mail;
use crate::ring::WakeFd;

/// The sending side of a shard's mailbox.
#[derive(Clone)]
pub struct Postbox {
    queue: flume::Sender<Mail>,
    /// Bytes posted and not yet worked off.
    weight: Arc<AtomicUsize>,
    asleep: Arc<AtomicBool>,
    wake: Arc<WakeFd>,
}

impl Postbox {
    /// Posts without waking. Mail to a shard that has ended is dropped: its subscribers are gone with it.
    pub fn post(&self, mail: Mail) {
        let weight = mail.weight();
        self.weight.fetch_add(weight, Ordering::Relaxed);
        if self.queue.send(mail).is_err() {
            self.weight.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// Wakes the shard if it sleeps; says whether it did. Call once after a batch of [`Postbox::post`].
    pub fn wake(&self) -> bool {
        // SeqCst here and in `Mailbox::sleep`: of the post and the look at the mailbox one must see the other.
        std::sync::atomic::fence(Ordering::SeqCst);
        let sleeps = self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst);
        if sleeps {
            self.wake.wake();
        }
        sleeps
    }

    /// Bytes posted that the shard has not worked off.
    pub fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    /// Whether the shard has ended.
    pub fn is_closed(&self) -> bool {
        self.queue.is_disconnected()
    }
}

/// The receiving side of a shard's mailbox.
pub struct Mailbox {
    queue: flume::Receiver<Mail>,
    weight: Arc<AtomicUsize>,
    asleep: Arc<AtomicBool>,
    /// Weight taken out whose messages are not on their way yet; see [`Mailbox::settle`].
    owed: usize,
}

/// A mailbox whose owner is woken through `wake`.
pub fn mailbox(wake: Arc<WakeFd>) -> (Postbox, Mailbox) {
    let (tx, rx) = flume::unbounded();
    let weight = Arc::new(AtomicUsize::new(0));
    let asleep = Arc::new(AtomicBool::new(false));
    let postbox = Postbox { queue: tx, weight: weight.clone(), asleep: asleep.clone(), wake };
    (postbox, Mailbox { queue: rx, weight, asleep, owed: 0 })
}

impl Mailbox {
    /// The next mail. Its weight is owed until [`Mailbox::settle`].
    pub fn take(&mut self) -> Option<Mail> {
        let mail = self.queue.try_recv().ok()?;
        self.owed += mail.weight();
        Some(mail)
    }

    /// Tells the senders that what was taken is on its way. A congested shard holds this back, and the senders' own
    /// publishers are not read from meanwhile: so a queue is bounded from end to end without a lost message.
    pub fn settle(&mut self) {
        if self.owed > 0 {
            self.weight.fetch_sub(self.owed, Ordering::Relaxed);
            self.owed = 0;
        }
    }

    /// Bytes posted that are not settled.
    pub fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    /// Announces that the owner is about to wait; `false` if there is mail and it must not.
    pub fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        let sleep = self.queue.is_empty();
        if !sleep {
            self.awake();
        }
        sleep
    }

    /// The owner waits no more.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Postbox, Mailbox) {
        mailbox(Arc::new(WakeFd::new().expect("an eventfd")))
    }

    #[test]
    fn mail_weighs_until_it_is_settled() {
        let (postbox, mut mailbox) = pair();
        postbox.post(Mail::Trim);
        let weight = postbox.weight();
        assert!(weight > 0 && mailbox.take().is_some() && mailbox.take().is_none());
        assert_eq!(postbox.weight(), weight, "taken, not settled");
        mailbox.settle();
        assert_eq!(postbox.weight(), 0);
    }

    #[test]
    fn mail_to_a_shard_that_has_ended_weighs_nothing() {
        let (postbox, mailbox) = pair();
        drop(mailbox);
        postbox.post(Mail::Trim);
        assert!(postbox.is_closed() && postbox.weight() == 0);
    }

    #[test]
    fn a_wake_is_for_one_who_sleeps_and_nobody_sleeps_with_mail() {
        let (postbox, mailbox) = pair();
        assert!(!postbox.wake(), "awake");
        assert!(mailbox.sleep());
        assert!(postbox.wake() && !postbox.wake(), "one wake a sleep");
        postbox.post(Mail::Trim);
        assert!(!mailbox.sleep() && !postbox.wake());
    }
}
