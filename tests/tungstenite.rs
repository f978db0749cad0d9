//! The binary, driven by tokio-tungstenite, with one shard and with two.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

/// A server process, killed at the end of the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(shards: u32) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_uproar"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "off",
                "--drain-time",
                "200ms",
                "--shards",
                &shards.to_string(),
            ])
            .env_clear()
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let page = lines.find_map(|line| Some(line.trim().strip_prefix("page")?.trim().to_owned()));
        let page = page.expect("the server says where its page is");
        let address = page.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        Server { child, address }
    }

    async fn connect(&self, path: &str) -> Client {
        let connecting = connect_async(format!("ws://{}{path}", self.address));
        let (stream, _) = timeout(PATIENCE, connecting).await.expect("in time").expect("a handshake");
        Client(stream)
    }

    async fn connect_many(&self, count: usize, path: &str) -> Vec<Client> {
        join_all((0..count).map(|_| self.connect(path))).await
    }

    /// Asks it to end, as a service manager does.
    fn terminate(&self) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn send(&mut self, message: impl Into<Message>) {
        timeout(PATIENCE, self.0.send(message.into())).await.expect("in time").expect("an open connection");
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.0.next()).await.expect("in time")
    }

    async fn message(&mut self) -> Message {
        self.next().await.expect("an open connection").expect("a message")
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(self.message().await.to_text().expect("text")).expect("JSON")
    }

    /// Says goodbye, and returns what the server answered.
    async fn close(mut self, code: u16, reason: &'static str) -> Option<CloseFrame> {
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))).await;
        self.until_closed().await
    }

    /// The server's close frame, after which it must end the stream.
    async fn until_closed(&mut self) -> Option<CloseFrame> {
        let mut frame = None;
        while let Some(Ok(message)) = self.next().await {
            if let Message::Close(said) = message {
                frame = said;
            }
        }
        frame
    }
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| ((i * 31) ^ (i >> 8)) as u8).collect()
}

fn code(frame: Option<CloseFrame>) -> u16 {
    frame.expect("a close frame with a code").code.into()
}

/// A frame of a fragmented message.
fn fragment(piece: &[u8], first: OpCode, is_first: bool, is_last: bool) -> Message {
    let opcode = if is_first { first } else { OpCode::Data(Data::Continue) };
    Message::Frame(Frame::message(piece.to_vec(), opcode, is_last))
}

async fn messages_arrive_as_they_were_sent(server: &Server) {
    let mut clients = server.connect_many(3, "/raw/exchange").await;
    let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, MIB];
    let texts = ["", "plain", "žluťoučký 🐎 \0"].map(Message::from);
    let long = lengths.map(|len| Message::from("x".repeat(len)));
    let binary = lengths.map(|len| Message::from(bytes(len)));
    for (i, message) in texts.into_iter().chain(long).chain(binary).enumerate() {
        clients[i % 3].send(message.clone()).await;
        for client in &mut clients {
            assert!(client.message().await == message, "message {i}, of {} bytes", message.len());
        }
    }
}

async fn a_ping_is_answered_with_its_payload(server: &Server) {
    let mut client = server.connect("/raw/pings").await;
    for payload in [bytes(0), bytes(5), bytes(125)] {
        client.send(Message::Ping(payload.clone())).await;
        assert_eq!(client.message().await, Message::Pong(payload));
    }
}

async fn fragments_become_one_message(server: &Server) {
    let [mut one, mut two] = [server.connect("/raw/fragments").await, server.connect("/raw/fragments").await];
    // A character is cut in two; a ping may come between the fragments of a message.
    let pieces: [&[u8]; 5] = [b"fra", b"gme\xc5", b"", b"\xbe", b"nts"];
    for (i, piece) in pieces.iter().enumerate() {
        one.send(fragment(piece, OpCode::Data(Data::Text), i == 0, i == pieces.len() - 1)).await;
        one.send(Message::Ping(Bytes::from_static(b"between"))).await;
        assert_eq!(one.message().await, if i < 4 { pong() } else { Message::from("fragmežnts") });
    }
    assert_eq!(one.message().await, pong());
    assert_eq!(two.message().await, Message::from("fragmežnts"));
}

fn pong() -> Message {
    Message::Pong(Bytes::from_static(b"between"))
}

async fn everybody_receives_everything_in_one_order(server: &Server) {
    const CLIENTS: usize = 200;
    const EACH: usize = 5;
    let clients = server.connect_many(CLIENTS, "/raw/crowd").await;
    let orders = join_all(clients.into_iter().enumerate().map(|(i, mut client)| async move {
        for n in 0..EACH {
            client.send(format!("{i} {n}")).await;
        }
        let mut order = Vec::new();
        while order.len() < CLIENTS * EACH {
            order.push(client.message().await.into_text().expect("text").to_string());
        }
        order
    }))
    .await;
    assert!(orders.iter().all(|order| order == &orders[0]), "one order for all");
    for i in 0..CLIENTS {
        let own = orders[0].iter().filter_map(|text| text.strip_prefix(&format!("{i} ")));
        assert!(own.eq((0..EACH).map(|n| n.to_string())), "the messages of client {i} keep their order");
    }
}

async fn a_clients_close_is_answered_with_its_code(server: &Server) {
    for (sent, reason) in [(1000, ""), (1000, "done"), (3000, "a library's"), (4999, "an application's")] {
        assert_eq!(code(server.connect("/raw/closes").await.close(sent, reason).await), sent);
    }
}

async fn offences_are_told_with_their_code(server: &Server) {
    let bad_text = Frame::message(&b"h\xff"[..], OpCode::Data(Data::Text), true);
    let continuation = Frame::message(&b"of nothing"[..], OpCode::Data(Data::Continue), true);
    let mut reserved = Frame::message(&b"x"[..], OpCode::Data(Data::Text), true);
    reserved.header_mut().rsv1 = true;
    let too_big = Frame::message(bytes(MIB + 1), OpCode::Data(Data::Binary), true);
    for (frame, told) in [(bad_text, 1007), (continuation, 1002), (reserved, 1002), (too_big, 1009)] {
        let mut client = server.connect("/raw/offences").await;
        client.send(Message::Frame(frame)).await;
        assert_eq!(code(client.until_closed().await), told);
    }
}

async fn json_clients_meet_in_topics(server: &Server) {
    let [mut one, mut two] = [server.connect("/one").await, server.connect("/two").await];
    for client in [&mut one, &mut two] {
        assert_eq!(client.json().await["type"], "connected");
        client.send(json!({"type": "subscribe", "topics": ["a", "b"]}).to_string()).await;
        let joined = json!([{"topic": "a", "ok": true}, {"topic": "b", "ok": true}]);
        assert_eq!(client.json().await, json!({"type": "subscribed", "topics": joined}));
    }
    let data = json!({"bid": 1.5, "text": "ž\n\"🐎\"", "list": [null, true, {}]});
    one.send(json!({"type": "publish", "topic": "b", "data": data}).to_string()).await;
    assert_eq!((one.json().await, two.json().await), (data.clone(), data));
    two.send(json!({"type": "no such"}).to_string()).await;
    assert_eq!(two.json().await["code"], "unknown_type");
}

/// To the clients, and to who started it; that nobody reads its output any more is no failure.
async fn a_drain_says_so(server: &mut Server) {
    let mut clients = server.connect_many(20, "/raw/leaving").await;
    server.terminate();
    for client in &mut clients {
        assert_eq!(code(client.until_closed().await), u16::from(CloseCode::Restart));
    }
    assert_eq!(server.child.wait().expect("a child").code(), Some(0));
}

macro_rules! with_one_and_two_shards {
    ($($name:ident)+) => {
        mod one_shard {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&mut super::Server::start(1)).await;
            })+
        }

        mod two_shards {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&mut super::Server::start(2)).await;
            })+
        }
    };
}

with_one_and_two_shards! {
    messages_arrive_as_they_were_sent
    a_ping_is_answered_with_its_payload
    fragments_become_one_message
    everybody_receives_everything_in_one_order
    a_clients_close_is_answered_with_its_code
    offences_are_told_with_their_code
    json_clients_meet_in_topics
    a_drain_says_so
}
