//! HTTP/1.1 on the admin listener's connections: how many there may be, and how long one may take to ask.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use super::access::Caller;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time; those beyond are closed at once.
    pub connections: usize,
    /// For the head of a request to come, from when the connection is made or the answer before it is sent.
    pub head: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections: 256, head: Duration::from_secs(10) }
    }
}

/// Serves for as long as the runtime runs. Requests carry where they come from, which `caller` tells by their connection's
/// address; `refused` is told of every connection that is one too many.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    bounds: Bounds,
    caller: impl Fn(&L::Addr) -> Caller,
    refused: impl Fn(),
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head);
    loop {
        let (stream, address) = listener.accept().await;
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            refused();
            continue;
        };
        let router = router.clone().layer(Extension(caller(&address)));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::spawn(async move {
            // Whoever goes away, says what is no HTTP or takes too long is not worth a line.
            let _ = connection.await;
            drop(slot);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::cell::Cell;
    use std::future::Future;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, sleep, timeout};

    const SHORT: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(20);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// Runs a client against a listener with these bounds. Returns how many connections were one too many.
    fn against<C: Future<Output = ()>>(bounds: Bounds, client: impl FnOnce(String) -> C) -> u32 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let router = Router::new().route("/", get(async || "here"));
            let refused = Cell::new(0);
            tokio::select! {
                () = serve(listener, router, bounds, |_| Caller::Here, || refused.set(refused.get() + 1)) => {}
                ended = timeout(PATIENCE, client(address)) => ended.expect("in time"),
            }
            refused.get()
        })
    }

    /// What comes until the server closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        // A connection that is closed with bytes unread is reset.
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    async fn ask(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 512];
        let sent = stream.write_all(REQUEST).await;
        let read = stream.read(&mut answer).await.unwrap_or_default();
        sent.is_ok() && answer[..read].starts_with(b"HTTP/1.1 200 OK")
    }

    #[test]
    fn half_a_head_ends_the_connection() {
        for head in [&b""[..], b"GET", &REQUEST[..REQUEST.len() - 2]] {
            let refused = against(Bounds { head: SHORT, ..Bounds::default() }, async |address| {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let begin = Instant::now();
                stream.write_all(head).await.unwrap();
                assert_eq!(rest(&mut stream).await, "");
                assert!(begin.elapsed() >= SHORT, "it had its time");
            });
            assert_eq!(refused, 0);
        }
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_has_no_more_time() {
        against(Bounds { head: SHORT, ..Bounds::default() }, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for _ in 0.. {
                if stream.write_all(b"G").await.is_err() {
                    break;
                }
                sleep(SHORT / 10).await;
            }
        });
    }

    #[test]
    fn a_connection_that_asks_on_stays() {
        against(Bounds { head: 10 * SHORT, ..Bounds::default() }, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for _ in 0..4 {
                assert!(ask(&mut stream).await);
                sleep(4 * SHORT).await;
            }
            assert_eq!(rest(&mut stream).await, "", "it asks no more");
        });
    }

    #[test]
    fn one_too_many_is_closed_and_there_is_room_again() {
        let refused = against(Bounds { connections: 2, ..Bounds::default() }, async |address| {
            let mut two = [TcpStream::connect(&address).await.unwrap(), TcpStream::connect(&address).await.unwrap()];
            for stream in &mut two {
                assert!(ask(stream).await);
            }
            let mut third = TcpStream::connect(&address).await.unwrap();
            assert_eq!(rest(&mut third).await, "");
            let [first, mut second] = two;
            drop(first);
            while !ask(&mut TcpStream::connect(&address).await.unwrap()).await {
                sleep(SHORT / 10).await;
            }
            assert!(ask(&mut second).await, "it is not disturbed");
        });
        assert!(refused >= 1, "{refused}");
    }
}
