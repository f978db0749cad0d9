//! Thousands of clients that lose their connections at any byte, and a server that is killed and started again: whoever
//! follows a topic gets each of its messages once and in order, and what is published is ordered once.
//!
//! `UPROAR_RECONNECT_CLIENTS=n` has another number of them.

mod common;
mod simulation {
    #![allow(dead_code, reason = "the simulation uses the rest")]
    pub mod wire;
}

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Process;
use common::client::{TEXT, frame, handshake};
use common::rng::Rng;
use serde_json::{Value, json};
use simulation::wire::{Frame, Reader};

const CLIENTS: usize = 2_000;
const THREADS: usize = 4;
const TOPICS: usize = 20;
/// Messages of each topic between one restart and the next.
const MESSAGES: u64 = 50;
/// How long one phase may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);
const HISTORY: &str = "--history=deep.* count=100000 bytes=16MiB age=1h";

#[test]
fn thousands_who_are_cut_off_anywhere_miss_nothing_and_get_nothing_twice() {
    uproar::ring::sys::raise_nofile().expect("a limit");
    let clients = std::env::var("UPROAR_RECONNECT_CLIENTS").map_or(CLIENTS, |n| n.parse().expect("a number"));
    let mut server = start(address());
    let world = World::new(server.addr);
    thread::scope(|scope| {
        scope.spawn(|| world.publish());
        for thread in 0..THREADS {
            let world = &world;
            let followers = (0..clients).filter(move |client| client % THREADS == thread);
            let followers = followers.map(|client| RefCell::new(Follower::new(client % TOPICS)));
            scope.spawn(move || world.follow(followers.collect(), thread));
        }
        let _failure = Failure(&world);
        world.wait_for_messages();
        for signal in ["KILL", "INT"] {
            server.signal(signal);
            server.wait();
            server = start(world.addr);
            world.wait_for_messages();
        }
        world.calm.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.metric("recoveries_total result=\"gap\""), 0);
    world.check(clients as u64);
}

/// A port that the kernel gives to nobody who connects: while the server is away, it must stay free.
fn address() -> SocketAddr {
    let free = (20_000..30_000).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    ([127, 0, 0, 1], free.expect("a free port")).into()
}

fn start(addr: SocketAddr) -> Process {
    Process::start_at(addr, &["--shards=3", "--backlog=16MiB", "--ack-window=1h", HISTORY])
}

/// What all of them agree on.
struct World {
    addr: SocketAddr,
    /// By topic and epoch: the number of the message at each offset that somebody saw.
    places: Mutex<HashMap<(usize, String), BTreeMap<u64, u64>>>,
    /// What publishers were told: topic, epoch, offset, number.
    acknowledged: Mutex<Vec<(usize, String, u64, u64)>>,
    /// The number of the last message of each topic that was acknowledged.
    published: Vec<AtomicU64>,
    /// Nobody is cut off any more, and nothing more is published.
    calm: AtomicBool,
    /// Somebody has panicked: nobody waits for anything any more.
    failed: AtomicBool,
    /// Connections cut off by the clients.
    cuts: AtomicU64,
    resumed: AtomicU64,
}

impl World {
    fn new(addr: SocketAddr) -> World {
        World {
            addr,
            places: Mutex::default(),
            acknowledged: Mutex::default(),
            published: (0..TOPICS).map(|_| AtomicU64::new(0)).collect(),
            calm: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
        }
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Goes on until all is calm and `is_done`.
    fn until_done(&self, pause: Duration, mut step: impl FnMut(), is_done: impl Fn() -> bool) {
        let _failure = Failure(self);
        while !(self.failed.load(Ordering::Relaxed) || self.is_calm() && is_done()) {
            step();
            thread::sleep(pause);
        }
    }

    /// Until each topic has some more.
    fn wait_for_messages(&self) {
        let goals: Vec<u64> = self.published.iter().map(|last| last.load(Ordering::Relaxed) + MESSAGES).collect();
        let end = Instant::now() + PATIENCE;
        let is_there = |(last, goal): (&AtomicU64, &u64)| last.load(Ordering::Relaxed) >= *goal;
        while !self.published.iter().zip(&goals).all(is_there) {
            assert!(Instant::now() < end && !self.failed.load(Ordering::Relaxed), "messages are acknowledged");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn publish(&self) {
        let mut rng = Rng::new(1);
        let publishers: Vec<_> = (0..TOPICS).map(|topic| RefCell::new(Publisher::new(topic))).collect();
        let step = || publishers.iter().for_each(|publisher| publisher.borrow_mut().step(self, &mut rng));
        self.until_done(Duration::from_millis(10), step, || {
            publishers.iter().all(|publisher| !publisher.borrow().waits)
        });
    }

    /// Follows topics until everything that was acknowledged has been seen.
    fn follow(&self, followers: Vec<RefCell<Follower>>, seed: usize) {
        let mut rng = Rng::new(100 + seed as u64);
        let step = || followers.iter().for_each(|follower| follower.borrow_mut().step(self, &mut rng));
        self.until_done(Duration::from_millis(10), step, || followers.iter().all(|one| one.borrow().is_done(self)));
    }

    fn check(&self, clients: u64) {
        let places = self.places.lock().expect("nobody has panicked");
        for ((topic, epoch), places) in &*places {
            let steps = places.iter().zip(places.iter().skip(1));
            for ((offset, number), (next_offset, next_number)) in steps {
                assert_eq!((offset + 1, number + 1), (*next_offset, *next_number), "topic {topic}, epoch {epoch}");
            }
        }
        for (topic, epoch, offset, number) in self.acknowledged.lock().expect("nobody has panicked").iter() {
            let seen = places.get(&(*topic, epoch.clone())).and_then(|places| places.get(offset));
            assert!(seen.is_none_or(|seen| seen == number), "topic {topic}: {number} was to be at {offset}: {seen:?}");
        }
        let (cuts, resumed) = (self.cuts.load(Ordering::Relaxed), self.resumed.load(Ordering::Relaxed));
        println!("{cuts} connections cut off, {resumed} subscriptions resumed, {} epochs", places.len());
        assert!(cuts > clients && resumed > clients && places.len() >= 3 * TOPICS);
    }
}

/// Tells the others of a panic.
struct Failure<'a>(&'a World);

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// A connection that ends after so many bytes.
struct Conn {
    stream: TcpStream,
    reader: Reader,
    is_open: bool,
    bytes_left: usize,
}

impl Conn {
    /// `None` while nobody listens.
    fn new(addr: SocketAddr, path: &str, rng: &mut Rng) -> Option<Conn> {
        let mut stream = TcpStream::connect(addr).ok()?;
        stream.write_all(handshake(path, "").as_bytes()).ok()?;
        stream.set_nonblocking(true).expect("a socket");
        let bytes_left = rng.pick(&[200, 1_000, 5_000, 30_000]);
        Some(Conn { stream, reader: Reader::default(), is_open: false, bytes_left: rng.below(bytes_left) })
    }

    /// Reads some; the frames that are whole. `None`: it is over.
    fn read(&mut self, world: &World, rng: &mut Rng) -> Option<Vec<Frame>> {
        let mut bytes = [0; 4096];
        let limit = if world.is_calm() { bytes.len() } else { self.bytes_left.min(rng.between(1, bytes.len())) };
        if limit == 0 {
            world.cuts.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        match self.stream.read(&mut bytes[..limit]) {
            Ok(0) => return None,
            Ok(n) => {
                self.bytes_left = self.bytes_left.saturating_sub(n);
                self.reader.push(bytes[..n].iter().copied());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        if !self.is_open {
            let Some(response) = self.reader.response() else { return Some(Vec::new()) };
            assert_eq!(response.status, 101);
            self.is_open = true;
        }
        Some(std::iter::from_fn(|| self.reader.frame()).collect())
    }

    fn say(&mut self, message: &Value) {
        // What does not go out is said again on the next connection.
        let _ = self.stream.write_all(&frame(TEXT, message.to_string().as_bytes()));
    }
}

/// Publishes the numbers from 1 to a topic, one after the other, each until it is acknowledged.
struct Publisher {
    topic: usize,
    number: u64,
    /// The number is not acknowledged.
    waits: bool,
    /// `clientId` and token.
    identity: Option<(String, String)>,
    conn: Option<Conn>,
}

impl Publisher {
    fn new(topic: usize) -> Publisher {
        Publisher { topic, number: 0, waits: false, identity: None, conn: None }
    }

    fn step(&mut self, world: &World, rng: &mut Rng) {
        let Some(conn) = &mut self.conn else {
            let claim = self.identity.as_ref().map(|(id, token)| format!("&clientId={id}&token={token}"));
            self.conn = Conn::new(world.addr, &format!("/?room=p{}{}", self.topic, claim.unwrap_or_default()), rng);
            return;
        };
        let Some(frames) = conn.read(world, rng) else { return self.conn = None };
        for frame in frames {
            let Frame::Text { payload, .. } = frame else { continue };
            let told: Value = serde_json::from_slice(&payload).expect("JSON");
            match told["type"].as_str() {
                Some("connected") => {
                    let text = |name: &str| told[name].as_str().expect("a string").to_owned();
                    self.identity = Some((text("clientId"), text("token")));
                    if self.waits {
                        self.say();
                    }
                }
                Some("ack") if told["id"] == self.number => {
                    let epoch = told["epoch"].as_str().expect("an epoch").to_owned();
                    let place = (self.topic, epoch, told["offset"].as_u64().expect("an offset"), self.number);
                    world.acknowledged.lock().expect("nobody has panicked").push(place);
                    world.published[self.topic].store(self.number, Ordering::Relaxed);
                    self.waits = false;
                }
                Some("ack") => assert!(told["id"].as_u64() < Some(self.number), "{told}"),
                // An earlier connection of its own, from before it was known.
                Some("user_joined" | "user_left") => {}
                _ => panic!("a publisher is told {told}"),
            }
        }
        if !self.waits && self.conn.as_ref().is_some_and(|conn| conn.is_open) && !world.is_calm() {
            self.number += 1;
            self.waits = true;
            if self.identity.is_some() {
                self.say();
            }
        }
    }

    fn say(&mut self) {
        let (topic, number) = (format!("deep.{}", self.topic), self.number);
        let message = json!({"type": "publish", "id": number, "ack": true, "topic": topic, "data": number});
        if let Some(conn) = &mut self.conn {
            conn.say(&message);
        }
    }
}

/// Follows a topic from connection to connection.
struct Follower {
    topic: usize,
    /// The epoch, and the offset of the next message.
    trail: Option<(String, u64)>,
    /// The number of the last message.
    last: u64,
    conn: Option<Conn>,
}

impl Follower {
    fn new(topic: usize) -> Follower {
        Follower { topic, trail: None, last: 0, conn: None }
    }

    fn is_done(&self, world: &World) -> bool {
        self.last >= world.published[self.topic].load(Ordering::Relaxed)
    }

    fn step(&mut self, world: &World, rng: &mut Rng) {
        let Some(conn) = &mut self.conn else {
            self.conn = Conn::new(world.addr, &format!("/?room=f{}", self.topic), rng);
            return;
        };
        let Some(frames) = conn.read(world, rng) else { return self.conn = None };
        for frame in frames {
            if let Frame::Text { payload, .. } = frame {
                self.told(&serde_json::from_slice(&payload).expect("JSON"), world);
            }
        }
    }

    fn told(&mut self, told: &Value, world: &World) {
        let epoch = told["epoch"].as_str();
        match told["type"].as_str() {
            Some("connected") => self.subscribe(),
            Some("subscribed") => self.subscribed(&told["topics"][0], world),
            Some("message") => {
                let (at_epoch, next) = self.trail.as_mut().expect("it is subscribed");
                let (offset, number) = (told["offset"].as_u64(), told["data"].as_u64().expect("a number"));
                assert_eq!((epoch, offset), (Some(at_epoch.as_str()), Some(*next)), "{told}");
                let mut places = world.places.lock().expect("nobody has panicked");
                let known = *places.entry((self.topic, at_epoch.clone())).or_default().entry(*next).or_insert(number);
                assert_eq!(known, number, "{told}");
                *next += 1;
                self.last = number;
            }
            // Of another server, whose history holds all that it has published.
            Some("gap") if told["reset"] == true && told["from"].is_null() => {}
            Some("user_joined" | "user_left" | "presence") => {}
            _ => panic!("a follower is told {told}"),
        }
    }

    fn subscribe(&mut self) {
        let topic = format!("deep.{}", self.topic);
        let since = match &self.trail {
            Some((epoch, next)) => json!({&topic: {"epoch": epoch, "offset": next - 1}}),
            // From the first message: none of the process's was before.
            None => json!({&topic: {"epoch": "none", "offset": 0}}),
        };
        if let Some(conn) = &mut self.conn {
            conn.say(&json!({"type": "subscribe", "topic": topic, "recover": true, "since": since}));
        }
    }

    fn subscribed(&mut self, result: &Value, world: &World) {
        assert_eq!(result["ok"], true, "{result}");
        let (epoch, newest) =
            (result["epoch"].as_str().expect("an epoch"), result["offset"].as_u64().expect("an offset"));
        match &self.trail {
            Some((known, next)) if known == epoch => assert!(*next <= newest + 1, "it is ahead of its topic"),
            _ => self.trail = Some((epoch.to_owned(), 1)),
        }
        let (_, next) = self.trail.as_ref().expect("it was just set");
        world.resumed.fetch_add(u64::from(*next > 1), Ordering::Relaxed);
    }
}
