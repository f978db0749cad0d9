//! Sends every message to everybody on the same path. `cargo run --release --example broadcast 127.0.0.1:9002 [SHARDS]`
use uproar::{Config, Connection, Handler, Message, Server};

struct Broadcast;

impl Handler for Broadcast {
    fn open(&mut self, conn: &mut Connection<'_>) {
        let _ = conn.subscribe("all");
    }

    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        conn.publish("all", message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut config = Config::default();
    config.listen = args.next().unwrap_or("127.0.0.1:9002".into()).parse()?;
    config.shards = args.next().map_or(Ok(config.shards), |shards| shards.parse())?;
    config.admin_listen = uproar::config::AdminListen::Off;
    Ok(Server::new(config).route("*", || Broadcast).run()?)
}
