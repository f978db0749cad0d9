//! Replays the corpus of every fuzz target, without a fuzzer.

#[path = "../fuzz/entries.rs"]
mod entries;

use std::fs;
use std::path::{Path, PathBuf};

use entries::wire::{server, vectors};
use uproar::ws::deflate::{Arena, Deflater};
use uproar::ws::message::Compression;

/// Seeds larger than this are left to the tests they come from.
const MAX_SEED: usize = 1024;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str, entry: fn(&[u8]), at_least: usize) {
    let files: Vec<_> = fs::read_dir(corpus(target)).expect("a corpus").collect();
    assert!(files.len() >= at_least, "only {} files", files.len());
    for file in files {
        let path = file.expect("a directory entry").path();
        println!("{}", path.display());
        entry(&fs::read(&path).expect("a readable file"));
    }
}

#[test]
fn frames() {
    replay("frames", entries::frames, 100);
}

#[test]
fn deflate() {
    replay("deflate", entries::deflate, 10);
}

#[test]
fn extensions() {
    replay("extensions", entries::extensions, 40);
}

#[test]
fn head() {
    replay("head", entries::head, 10);
}

#[test]
fn reader() {
    replay("reader", entries::reader, 80);
}

#[test]
fn answer() {
    replay("answer", entries::answer, 20);
}

#[test]
fn backend() {
    replay("backend", entries::backend, 20);
}

#[test]
fn json() {
    replay("json", entries::json, 10);
}

#[test]
fn events() {
    replay("events", entries::events, 15);
}

#[test]
fn publish() {
    replay("publish", entries::publish, 15);
}

#[test]
fn proxy() {
    replay("proxy", entries::proxy, 15);
}

#[test]
fn token() {
    replay("token", entries::token, 15);
}

#[test]
fn hook() {
    replay("hook", entries::hook, 15);
}

/// Writes `seed` under a name made of the case's.
fn write(target: &str, name: &str, seed: &[u8]) {
    if seed.len() > MAX_SEED {
        return;
    }
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-").to_lowercase();
    fs::create_dir_all(corpus(target)).expect("a directory");
    fs::write(corpus(target).join(name), seed).expect("a writable file");
}

#[test]
#[ignore = "writes the seeds of the corpus; to be run when the vectors have changed"]
fn write_seeds() {
    for case in vectors::frames() {
        write("frames", &case.name, &entries::frames_input(case.settings, &case.input));
        if let Some(bytes) = server::unmasked(&case.input) {
            let deflate = case.settings.compression != Compression::Off;
            write("reader", &case.name, &entries::reader_input(deflate, case.settings.max_message, &bytes));
        }
    }
    let (lines, zeros) = (b"one line\n".repeat(40), vec![0; 60_000]);
    let payloads = [("empty", &b""[..]), ("hello", b"Hello"), ("lines", &lines), ("zeros", &zeros)];
    for (i, (name, payload)) in payloads.into_iter().enumerate() {
        for (level, window_bits) in [(1, 9), (6, 12), (9, 15)] {
            let mut arena = Arena::default();
            let compressed = Deflater::new(window_bits, level).compress(payload, &mut arena);
            for limit in [payload.len(), payload.len() / 2] {
                let how = (window_bits - 9) + 7 * (level - 1);
                let seed = [&(limit as u16).to_be_bytes()[..], &[how], compressed].concat();
                write("deflate", &format!("{i} {name} {window_bits} {level} limit {limit}"), &seed);
            }
        }
    }
    let blocks = include_str!("vectors/extensions.txt").split("\n\n");
    for (i, block) in blocks.filter(|block| block.contains("offer:")).enumerate() {
        let offers: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("offer:")).map(str::trim).collect();
        write("extensions", &format!("{i:02}"), offers.join("\n").as_bytes());
    }
    write_answers();
}

/// Answers to handshakes, good ones and others.
fn write_answers() {
    let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for (name, from, to) in [
        ("good", "", ""),
        ("cut", "\r\n\r\n", "\r\n"),
        ("refused", "101 Switching Protocols", "503 Service Unavailable"),
        ("not found", "101 Switching Protocols", "404"),
        ("old", "HTTP/1.1", "HTTP/1.0"),
        ("not HTTP", "HTTP/1.1", "SSH-2.0"),
        ("line feeds", "\r\n", "\n"),
        ("empty line first", "HTTP", "\r\nHTTP"),
        ("no upgrade", "Upgrade: websocket\r\n", ""),
        ("list", "n: Upgrade", "n: keep-alive,, upgrade"),
        ("wrong key", "s3p", "S3p"),
        ("two keys", "\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n"),
        ("protocol", "\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
        ("other protocol", "\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n"),
        ("early frame", "\r\n\r\n", "\r\n\r\n\u{1}\u{0}"),
    ] {
        write("answer", name, good.replace(from, to).as_bytes());
    }
    for (i, parameters) in [
        "; server_no_context_takeover",
        ";server_no_context_takeover ; client_no_context_takeover;server_max_window_bits=\"12\"",
        "",
        "; server_no_context_takeover; server_max_window_bits=7",
        "; server_no_context_takeover; client_max_window_bits=15",
        "; server_no_context_takeover=1",
        "; server_no_context_takeover, permessage-deflate",
        "; server_no_context_takeover; server_no_context_takeover",
    ]
    .into_iter()
    .enumerate()
    {
        let field = format!("\r\nSec-WebSocket-Extensions: permessage-deflate{parameters}\r\n\r\n");
        write("answer", &format!("deflate {i}"), good.replace("\r\n\r\n", &field).as_bytes());
    }
}
