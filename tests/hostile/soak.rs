//! A soak: everything that clients do, good and bad, for as long as one likes, and memory that must stay flat.
//!
//! `bash benches/soak.sh MINUTES` runs it; `cargo test` leaves it out. What is sampled is written as a table, `samples.csv`, and
//! drawn, `samples.svg`; the verdict is printed, and in `verdict.txt`.

mod judge;
mod load;
mod plot;
mod samples;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use super::common::tls::{Certificate, TlsClient, certificate, trusting};
use super::common::{Process, wait_until};
use super::healthy::{Entrance, Findings, Healthy};
use samples::{Row, Sampler};

/// Of most histories of that configuration.
const HISTORY_AGE: Duration = Duration::from_secs(30);

/// A configuration as one would have it in production, with its times shortened so that each passes often.
const CONFIG: &str = r#"
shards = 2
history = "hist.* count=200 age=30s bytes=256KiB; last.* count=1 last_value; pulse count=100"
history_memory = "16MiB"
max_memory = "1GiB"
max_message = "256KiB"
message_rate = "1000 burst=5000"
byte_rate = "4MiB burst=16MiB"
address_connections = 5000
address_connect_rate = "5000 burst=10000"
topic_publish_rate = "2000 burst=4000"
send_buffer = "64KiB"
head_timeout = "2s"
keep_alive_timeout = "5s"
ack_window = "20s"
ping_interval = "10s"
ping_timeout = "5s"
close_timeout = "2s"
"#;

/// The server, what it needs, and where its listeners are.
pub struct Site {
    server: Process,
    tls: std::net::SocketAddr,
    certificate: Certificate,
    _dir: TempDir,
}

impl Site {
    fn start() -> Site {
        let dir = TempDir::new().expect("a directory");
        let certificate = certificate(dir.path(), "c", &["localhost"]);
        let tls = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let [chain, key] = [&certificate.certificate, &certificate.key].map(|path| path.display().to_string());
        let more = format!("tls_listen = \"{tls}\"\ntls_certificate = \"{chain}\"\ntls_key = \"{key}\"\n");
        let config = dir.path().join("uproar.toml");
        std::fs::write(&config, format!("{CONFIG}{more}")).expect("a file");
        let server = Process::start(&[&format!("--config={}", config.display())]);
        Site { server, tls, certificate, _dir: dir }
    }

    fn secured(&self, n: usize) -> TlsClient {
        let config = trusting(&[&self.certificate], &[[&TLS12, &TLS13][n % 2]]);
        TlsClient::connect(self.tls, "localhost", &config)
    }
}

/// Minutes to soak, and where its record goes.
fn wanted() -> (Duration, PathBuf) {
    let minutes: f64 = std::env::var("SOAK_MINUTES").map_or(0.5, |text| text.parse().expect("minutes"));
    let record = std::env::var_os("SOAK_RECORD").map_or_else(std::env::temp_dir, PathBuf::from);
    (Duration::from_secs_f64(minutes * 60.0), record)
}

#[test]
#[ignore = "it takes as long as one likes: benches/soak.sh"]
fn soak() {
    let (time, record) = wanted();
    let site = Site::start();
    let healthy = Healthy::start(site.server.addr, &Entrance::default(), (0..4).map(|n| site.secured(n)).collect());
    healthy.attacked();
    let over = AtomicBool::new(false);
    let sampler = Sampler::new(&site.server);
    let rows = thread::scope(|scope| {
        let loads = load::start(scope, &site, &over);
        let rows = sample(&sampler, time);
        over.store(true, Ordering::Relaxed);
        loads.into_iter().for_each(|load| load.join().expect("no part of the load fails"));
        rows
    });
    wait_until("all but the healthy are gone", || site.server.metric("connections") == healthy.connections);
    let findings = healthy.finish();
    wait_until("all are gone", || site.server.metric("connections") == 0);
    // Until what has an age is too old.
    thread::sleep(HISTORY_AGE + Duration::from_secs(10));
    let end = sampler.row(time.as_secs_f64());
    conclude(&rows, &end, &findings, &record);
}

/// A row every ten seconds, and no fewer than thirty.
fn sample(sampler: &Sampler<'_>, time: Duration) -> Vec<Row> {
    let every = Duration::from_secs(10).min(time / 30);
    let begin = Instant::now();
    let mut rows = Vec::new();
    while begin.elapsed() < time {
        thread::sleep((every * (rows.len() as u32 + 1)).saturating_sub(begin.elapsed()));
        rows.push(sampler.row(begin.elapsed().as_secs_f64()));
    }
    rows
}

/// Writes the record, and says whether all is well.
fn conclude(rows: &[Row], end: &Row, findings: &Findings, record: &std::path::Path) {
    std::fs::create_dir_all(record).expect("a directory");
    let write = |name: &str, text: String| std::fs::write(record.join(name), text).expect("a file");
    write("samples.csv", samples::csv(rows, end));
    write("samples.svg", plot::svg(rows));
    let (well, verdict) = judge::verdict(rows, end, findings);
    write("verdict.txt", verdict.clone());
    println!("{verdict}\nrecord: {}", record.display());
    assert!(well, "not flat, or not served");
}
