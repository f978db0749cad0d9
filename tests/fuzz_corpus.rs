//! Replays the corpus of every fuzz target, without a fuzzer.

#[path = "../fuzz/entries.rs"]
mod entries;

use std::fs;
use std::path::{Path, PathBuf};

use entries::wire::vectors;
use uproar::ws::deflate::{Arena, Deflater};

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
fn json() {
    replay("json", entries::json, 10);
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
}
