//! Sends every message back. `cargo run --release --example echo 127.0.0.1:9002 [SHARDS]`
use uproar::{Config, Connection, Handler, Message, Server};

struct Echo;

impl Handler for Echo {
    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        conn.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut config = Config::default();
    config.listen = args.next().unwrap_or("127.0.0.1:9002".into()).parse()?;
    config.shards = args.next().map_or(Ok(config.shards), |shards| shards.parse())?;
    config.admin_listen = uproar::config::AdminListen::Off;
    config.max_message = 64 << 20;
    Ok(Server::new(config).route("*", || Echo).run()?)
}
