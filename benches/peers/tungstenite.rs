//! A broadcast server as users of `tokio-tungstenite` write it: a task for each connection, a broadcast channel for each
//! topic, payloads shared, and all that waits for a connection written before it is flushed. It is for one core, so the
//! runtime is `current_thread`: a runtime of many threads on one core is slower.
//!
//! `/raw/{topic}` subscribes, and what a client sends goes to the topic's others; on any other path it comes back.
//! Environment: `PORT`; `BACKLOG`, bytes that may wait for a connection, taken to be in messages of 1 KiB.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

// As Uproar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the library advises for many connections (its default is 128 KiB each).
const READ_BUFFER: usize = 4 << 10;
const MESSAGE: usize = 1 << 10;
const DEFAULT_BACKLOG: usize = 1 << 20;

type Socket = WebSocketStream<TcpStream>;
/// A message, and the connection that it came from.
type Publication = (u64, Message);

/// The channels of the topics.
struct Topics {
    channels: Mutex<HashMap<String, broadcast::Sender<Publication>>>,
    /// Messages that a channel holds for its slowest subscriber.
    capacity: usize,
}

impl Topics {
    fn channel(&self, topic: &str) -> broadcast::Sender<Publication> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(topic.to_owned()).or_insert_with(|| broadcast::Sender::new(self.capacity)).clone()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let backlog = std::env::var("BACKLOG").map_or(Ok(DEFAULT_BACKLOG), |bytes| bytes.parse())?;
    let topics = Arc::new(Topics { channels: Mutex::default(), capacity: backlog / MESSAGE });
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        let topics = Arc::clone(&topics);
        // A connection ends for its own reasons.
        tokio::spawn(async move { serve(id, stream, &topics).await.ok() });
    }
    Ok(())
}

async fn serve(id: u64, stream: TcpStream, topics: &Topics) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut path = String::new();
    #[allow(clippy::result_large_err)] // the library's type
    let look = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let socket = accept_hdr_async_with_config(stream, look, Some(config)).await?;
    match path.strip_prefix("/raw/") {
        Some(topic) => broadcast(id, socket, &topics.channel(topic)).await,
        None => echo(socket).await,
    }
}

async fn broadcast(id: u64, mut socket: Socket, topic: &broadcast::Sender<Publication>) -> Result<(), Error> {
    let mut inbox = topic.subscribe();
    loop {
        tokio::select! {
            received = socket.next() => match received {
                // It fails when nobody is subscribed, and this connection is.
                Some(message) => { let _ = is_data(message?).map(|message| topic.send((id, message))); }
                None => return Ok(()),
            },
            publication = inbox.recv() => {
                let mut next = publication.map_err(missed)?;
                loop {
                    let (from, message) = next;
                    if from != id {
                        socket.feed(message).await?;
                    }
                    match inbox.try_recv() {
                        Ok(publication) => next = publication,
                        Err(_) => break,
                    }
                }
                socket.flush().await?;
            }
        }
    }
}

/// Whoever missed messages is closed.
fn missed(error: RecvError) -> Error {
    Error::Io(std::io::Error::other(error))
}

async fn echo(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        if let Some(message) = is_data(message?) {
            socket.send(message).await?;
        }
    }
    Ok(())
}

fn is_data(message: Message) -> Option<Message> {
    (message.is_text() || message.is_binary()).then_some(message)
}
