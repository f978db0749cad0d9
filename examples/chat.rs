//! A room for each path, names from `?name=`. `cargo run --release --example chat 127.0.0.1:9002`
use uproar::http::request::Request;
use uproar::{Closed, Config, Connection, Handler, Message, Refuse, Server, Topics, Upgrade};

struct Chat;
impl Handler for Chat {
    fn upgrade(&mut self, request: &Request<'_>) -> Result<Upgrade, Refuse> {
        let name = request.query_value("name").ok_or(Refuse { status: 400, reason: "?name= is missing".into() })?;
        Ok(Upgrade { user: Some(Box::new((request.path.to_owned(), name.into_owned()))), ..Upgrade::default() })
    }
    fn open(&mut self, conn: &mut Connection<'_>) {
        let Some((room, name)) = conn.user::<(String, String)>().cloned() else { return };
        let _ = conn.subscribe(&room);
        conn.publish(&room, &format!("{name} has joined"));
    }
    fn message(&mut self, conn: &mut Connection<'_>, message: Message<'_>) {
        let Some((room, name)) = conn.user::<(String, String)>().cloned() else { return };
        conn.publish(&room, &format!("{name}: {}", message.as_text().unwrap_or("(not text)")));
    }
    fn close(&mut self, topics: &mut Topics<'_>, closed: Closed) {
        let Some(Ok(user)) = closed.user.map(|user| user.downcast::<(String, String)>()) else { return };
        topics.publish(&user.0, &format!("{} has left", user.1));
    }
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.listen = std::env::args().nth(1).unwrap_or("127.0.0.1:9002".into()).parse()?;
    config.admin_listen = uproar::config::AdminListen::Off;
    Ok(Server::new(config).route("/room/*", || Chat).run()?)
}
