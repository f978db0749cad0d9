//! Asking the shards, and waiting for what they say.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Api;
use super::problem::{self, Problem};
use crate::dialect::{Failure, Position};
use crate::shard::mail::{Act, Addressed, Answer, Asker, Message, Origin, Question, Receipt, Return, Stage};

/// Time for the shards to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Until when the shards have to have answered.
#[derive(Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// From now on.
    pub fn begin() -> Deadline {
        Deadline(Instant::now() + PATIENCE)
    }
}

/// Something that was asked.
pub struct Call(flume::Receiver<Answer>);

impl Call {
    /// The next answer.
    ///
    /// # Errors
    /// None came in time, or none will come, because the shard has ended.
    pub async fn answer(&self, deadline: Deadline) -> Result<Answer, Problem> {
        match timeout_at(deadline.0, self.0.recv_async()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(problem::STOPPED),
            Err(_) => Err(problem::TIMEOUT),
        }
    }

    /// Where in its topic the message is.
    pub async fn place(&self, deadline: Deadline) -> Result<Position, Problem> {
        match self.answer(deadline).await? {
            Answer::Ack { place: Some((_, position)), .. } => Ok(position),
            Answer::Failed { why: Failure::TooFast, .. } => Err(problem::TOO_FAST),
            _ => Err(problem::TIMEOUT),
        }
    }
}

fn call(answers: usize) -> (Return, Call) {
    let (to, answer) = flume::bounded(answers);
    (Return::Caller(to), Call(answer))
}

impl Api {
    /// Publishes; answered by where the message is. `id` is what it is known by when it comes again.
    pub fn publish(&self, topic: &str, message: Message, id: Option<Box<str>>) -> Call {
        let (to, call) = call(1);
        let client = self.name(id.as_deref());
        let receipt = Receipt { to, client, id: id.unwrap_or_default(), place: true, quiet: false };
        self.shards.publish(topic, message, Some(Box::new(receipt)));
        call
    }

    /// Does something to a client, a user's clients or a room's.
    ///
    /// # Errors
    /// There is nobody of that name, or nobody said so in time.
    pub async fn act(&self, receiver: &str, act: Act, id: Option<Box<str>>) -> Result<(), Problem> {
        let (to, call) = call(1);
        // Without an id, nobody would be told.
        let asker = Asker { to, client: self.name(id.as_deref()), id: Some(id.unwrap_or_default()), ack: true };
        let there =
            self.shards.address(Addressed { receiver: receiver.into(), to_room: true, stage: Stage::Sent, act, asker });
        match there {
            false => Err(Problem::no_receiver(receiver)),
            true => match call.answer(Deadline::begin()).await? {
                Answer::NoReceiver { .. } => Err(Problem::no_receiver(receiver)),
                _ => Ok(()),
            },
        }
    }

    /// Does something to a connection, whatever it speaks; `name` is its own, for the answer.
    ///
    /// # Errors
    /// There is none of that name, or nobody said so in time.
    pub async fn act_on(&self, at: Origin, name: &str, act: Act) -> Result<(), Problem> {
        let (to, call) = call(1);
        let asker = Asker { to, client: None, id: Some("".into()), ack: true };
        let what = Addressed { receiver: name.into(), to_room: false, stage: Stage::Sent, act, asker };
        match self.shards.act(at, what) {
            false => Err(Problem::no_receiver(name)),
            true => match call.answer(Deadline::begin()).await? {
                Answer::NoReceiver { .. } => Err(Problem::no_receiver(name)),
                _ => Ok(()),
            },
        }
    }

    /// By which name the shards know what comes again: none, of what has no `id`.
    fn name(&self, id: Option<&str>) -> Option<u64> {
        id.map(|_| self.shards.shared().identity().process())
    }

    /// Asks the home shard of a room or topic.
    pub async fn ask(&self, name: &str, question: Question) -> Result<Answer, Problem> {
        let (to, call) = call(1);
        self.shards.ask(name, question, to);
        call.answer(Deadline::begin()).await
    }

    /// Asks every shard the same; their answers, in no order.
    pub async fn ask_all(&self, question: impl Fn() -> Question) -> Result<Vec<Answer>, Problem> {
        let shards = self.shards.postboxes().len();
        let (to, call) = call(shards);
        self.shards.ask_all(question, &to);
        drop(to);
        let deadline = Deadline::begin();
        let mut all = Vec::new();
        for _ in 0..shards {
            all.push(call.answer(deadline).await?);
        }
        Ok(all)
    }
}
