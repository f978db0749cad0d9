//! A guessing game as a backend within the server: every room has a number, and clients guess it.
//!
//! `cargo run --release --example backend`, then as a client of `ws://127.0.0.1:8080/game`:
//!
//! ```json
//! {"type":"playerAction","guess":50}
//! ```

use std::collections::HashMap;

use uproar::{Backend, Client, Config, Server, StartError};

/// The numbers to guess, by room.
#[derive(Default)]
struct Game {
    numbers: HashMap<String, u64>,
    next: u64,
}

impl Backend for Game {
    fn message(&mut self, client: &mut Client<'_>, text: &str) {
        let message: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let (Some(guess), Some(room)) = (message["guess"].as_u64(), client.room().map(str::to_owned)) else {
            client.send(r#"{"type":"hint","text":"Send a guess, a number."}"#);
            return;
        };
        self.next = self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = *self.numbers.entry(room.clone()).or_insert(1 + (self.next >> 33) % 100);
        let hint = match guess.cmp(&number) {
            std::cmp::Ordering::Less => "more",
            std::cmp::Ordering::Greater => "less",
            std::cmp::Ordering::Equal => {
                self.numbers.remove(&room);
                let won = format!(r#"{{"type":"won","by":"{}","number":{number}}}"#, client.id());
                client.publish(&room, &won);
                return;
            }
        };
        client.send(&format!(r#"{{"type":"hint","text":"{hint}"}}"#));
    }
}

fn main() -> Result<(), StartError> {
    let mut config = Config::default();
    // A backend knows the clients of its shard. So that all of a room play for one number, there is one shard.
    config.shards = 1;
    Server::new(config).dialects().backend(Game::default).run()
}
