//! Holds the architecture: who may know whom, what is where, how long things get. The reasons are in ARCHITECTURE.md.
//!
//! It reads sources as lines of text, so it can be fooled; it is here for mistakes, not for malice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 60;

/// Rooms that know nothing of ours but each other. The frames of the hub are on this floor too.
const FLOOR_0: [&str; 8] = ["error", "config", "limits", "counters", "time", "bucket", "hub::frame", "hub::log"];
/// Rooms that know floor 0, and not each other.
const FLOOR_1: [&str; 5] = ["http", "ws", "hub", "dialect", "ring"];
/// What connections know besides floor 0.
const CONN_KNOWS: [&str; 5] = ["conn", "http", "ws", "dialect", "ring::token"];
/// What TLS knows besides floor 0: whom a session is of, how its threads yield, and in what form the kernel takes keys.
const TLS_KNOWS: [&str; 4] = ["tls", "ring::token", "ring::sys", "ring::ktls"];
/// What checking tokens knows besides floor 0.
const AUTH_KNOWS: [&str; 4] = ["auth", "http", "ring::token", "ring::sys"];
/// Where a shard's state lives. Nothing there is shared, so nothing there is locked.
const DATA_PLANE: [&str; 9] =
    ["shard/", "handler.rs", "handler/", "conn/", "hub/", "ws/", "http/", "dialect/", "ring/"];

/// Where production code may panic, and why no client can make it.
const MAY_PANIC: [(&str, &str, &str); 5] = [
    ("src/hub/topic.rs", ".expect(\"a topic in use\")", "the index is of the hub's own tables"),
    ("src/hub/topic.rs", ".expect(\"fewer than 2³² topics\")", "memory ends before"),
    ("src/hub/frame.rs", ".expect(\"fewer than 2³² chunks\")", "memory ends before"),
    ("src/hub/frame.rs", ".expect(\"two chunks\")", "documented: the caller names two chunks"),
    ("src/hub/invariants.rs", ".expect(\"a batch's owner is there\")", "it checks invariants, for tests"),
];

/// A source file.
struct Source {
    /// Relative to the package: `src/hub/mod.rs`.
    path: String,
    text: String,
}

impl Source {
    /// Its lines with their numbers, without comments, and without the module of its unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().map(|line| line.split("// ").next().unwrap_or(line)).enumerate();
        lines.map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// `hub` for `src/hub/topic.rs`, `time` for `src/time.rs`. The frames of the hub are a room of their own.
    fn room(&self) -> &str {
        let path = self.path.trim_start_matches("src/");
        match path {
            "hub/frame.rs" => "hub::frame",
            "hub/log.rs" => "hub::log",
            _ => path.split('/').next().unwrap_or(path).trim_end_matches(".rs"),
        }
    }

    /// Whether its path begins with one of the prefixes, below `src/`.
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.trim_start_matches("src/").starts_with(place))
    }

    /// `path:line: code` wherever one of the words is in its code.
    fn mentions(&self, words: &[&str]) -> Vec<String> {
        let found = self.code().filter(|(_, line)| words.iter().any(|word| has_word(line, word)));
        found.map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim())).collect()
    }

    /// The files of modules that it declares for tests only.
    fn test_modules(&self) -> impl Iterator<Item = String> {
        let path = Path::new(&self.path);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let here = path.parent().expect("a directory");
        let dir = if matches!(stem, "mod" | "lib" | "main") { here.to_owned() } else { here.join(stem) };
        let declared = self.text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once(';'));
        declared.map(move |(name, _)| dir.join(format!("{name}.rs")).display().to_string())
    }
}

/// Whether the word is in the line, not as a part of a longer one. Its end counts only if it is part of an identifier.
fn has_word(line: &str, word: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        let starts = !word.starts_with(inner) || !before.is_some_and(inner);
        starts && (!word.ends_with(inner) || !after.is_some_and(inner))
    })
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        match path.extension() {
            _ if path.is_dir() && !path.ends_with("node_modules") => rust_files(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    dirs.iter().for_each(|dir| rust_files(&package().join(dir), &mut files));
    let read = |file: &PathBuf| Source {
        path: file.strip_prefix(package()).expect("below the package").display().to_string(),
        text: fs::read_to_string(file).expect("readable"),
    };
    assert!(!files.is_empty());
    files.iter().map(read).collect()
}

/// Everything below `src/` that is not for tests only.
fn production() -> Vec<Source> {
    let all = sources(&["src"]);
    let tests: BTreeSet<String> = all.iter().flat_map(Source::test_modules).collect();
    assert!(tests.contains("src/hub/model.rs"), "{tests:?}");
    all.into_iter().filter(|source| !tests.contains(&source.path)).collect()
}

/// The words are nowhere in production code but in these places.
fn only_in(places: &[&str], words: &[&str]) {
    let found = production().into_iter().filter(|source| !source.is_in(places)).flat_map(|s| s.mentions(words));
    assert_none(found, &format!("{words:?} are allowed in {places:?} only"));
}

fn assert_none(found: impl IntoIterator<Item = String>, rule: &str) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn only_the_ring_knows_the_kernel() {
    only_in(&["ring/"], &["libc::", "io_uring::"]);
}

#[test]
fn only_the_ring_is_unsafe() {
    only_in(&["ring/"], &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe_code"]);
}

#[test]
fn only_the_worker_control_and_the_tools_read_the_clock() {
    let clocks = ["Instant::now", "SystemTime", "UNIX_EPOCH", "elapsed", "clock_gettime"];
    only_in(
        &["shard/worker.rs", "control/", "bench/", "remote/", "ring/sys.rs", "auth/jwks.rs", "auth/hook.rs", "log/"],
        &clocks,
    );
}

#[test]
fn nothing_is_locked_on_the_data_plane() {
    let locks = ["Mutex", "RwLock", "RefCell", "Condvar", "thread_local"];
    let found = production().into_iter().filter(|source| source.is_in(&DATA_PLANE)).flat_map(|s| s.mentions(&locks));
    assert_none(found, "a shard's state is its own");
}

#[test]
fn atomics_are_few() {
    only_in(&["shard/mailbox.rs", "shard/shared.rs", "counters.rs", "bench/", "log/"], &["atomic"]);
}

/// What a room may import, as far as it is not free to import everything.
fn may_import(room: &str) -> Option<Vec<&str>> {
    let floor_0 = FLOOR_0.to_vec();
    match room {
        _ if FLOOR_0.contains(&room) => Some(floor_0),
        _ if FLOOR_1.contains(&room) => Some([floor_0, vec![room]].concat()),
        "conn" => Some([floor_0, CONN_KNOWS.to_vec()].concat()),
        "auth" => Some([floor_0, AUTH_KNOWS.to_vec()].concat()),
        "log" => Some([floor_0, vec!["log"]].concat()),
        "tls" => Some([floor_0, TLS_KNOWS.to_vec()].concat()),
        // What shards share a lock for: outside of the data plane, and no wider than that.
        "admission" => Some([floor_0, vec!["admission", "conn::peer"]].concat()),
        "shard" | "handler" => {
            Some([&FLOOR_0[..], &FLOOR_1, &["admission", "auth", "conn", "tls", "shard", "handler"]].concat())
        }
        // The tools know the floors below the shards only, and whom a client trusts.
        "bench" | "doctor" | "remote" => Some([&FLOOR_0[..], &FLOOR_1, &[room, "tls::trust"]].concat()),
        "server" | "control" | "cli" | "main" | "lib" => None,
        room => panic!("on which floor is {room}?"),
    }
}

/// Whether an import, as `hub::frame::Span`, is of that room, as `hub::frame`.
fn is_of(import: &str, room: &str) -> bool {
    import.strip_prefix(room).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn imports_go_downward() {
    let mut found = Vec::new();
    for source in production() {
        let Some(allowed) = may_import(source.room()) else { continue };
        for (number, line) in source.code() {
            for import in line.split("crate::").skip(1) {
                if !allowed.iter().any(|room| is_of(import, room)) {
                    found.push(format!("{}:{number}: {import}", source.path));
                }
            }
        }
    }
    assert_none(found, "an import that the floors forbid");
}

/// Or the rule before could be got around: `super` is for siblings within a room.
#[test]
fn super_does_not_leave_the_room() {
    let leaves = |source: &Source| match source.path.strip_suffix("/mod.rs") {
        Some(_) => source.mentions(&["super::"]),
        None if source.path.matches('/').count() == 1 => source.mentions(&["super::"]),
        None => source.mentions(&["super::super"]),
    };
    assert_none(production().iter().flat_map(leaves), "write crate:: for what is outside");
}

#[test]
fn what_came_from_the_network_panics_nothing() {
    let panics = [".unwrap()", ".expect(", ".unwrap_err(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];
    let mut unused: BTreeSet<_> = MAY_PANIC.iter().map(|&(path, text, _)| (path, text)).collect();
    let mut found = Vec::new();
    for source in production().iter().filter(|source| source.is_in(&DATA_PLANE) && !source.is_in(&["ring/"])) {
        for (number, line) in source.code().filter(|(_, line)| panics.iter().any(|panic| line.contains(panic))) {
            let excused = MAY_PANIC.iter().find(|(path, text, _)| *path == source.path && line.contains(text));
            match excused {
                Some(&(path, text, _)) => drop(unused.remove(&(path, text))),
                None => found.push(format!("{}:{number}: {}", source.path, line.trim())),
            }
        }
    }
    assert_none(found, "return an error, or say in MAY_PANIC why this cannot happen");
    assert!(unused.is_empty(), "excused, but not there: {unused:?}");
}

#[test]
fn files_are_short() {
    let all = sources(&["src", "tests", "benches", "examples", "fuzz"]);
    let lines = |source: &Source| source.text.lines().count();
    let long = all.iter().filter(|source| lines(source) > MAX_FILE_LINES);
    assert_none(long.map(|source| format!("{}: {} lines", source.path, lines(source))), "split these");
}

/// Where functions begin and how many lines they have, by rustfmt's layout: the brace that ends a function stands
/// alone, as far in as the function's first line.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let starts =
        lines.iter().enumerate().filter(|(_, line)| has_word(line, "fn") && !line.trim_start().starts_with("//"));
    let measure = |(at, line): (usize, &&str)| {
        let last = lines[at..].iter().position(|other| *other == format!("{}}}", " ".repeat(indent(line))))?;
        Some((at + 1, last + 1))
    };
    let has_body = |(at, _): &(usize, &&str)| {
        let head = lines[*at..].iter().find(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
        head.is_some_and(|line| line.ends_with('{'))
    };
    starts.filter(has_body).filter_map(measure).collect()
}

#[test]
fn functions_fit_a_screen() {
    let mut count = 0;
    let mut long = Vec::new();
    for source in sources(&["src", "tests", "benches", "examples", "fuzz"]) {
        for (line, length) in functions(&source) {
            count += 1;
            if length > MAX_FUNCTION_LINES {
                long.push(format!("{}:{line}: {length} lines", source.path));
            }
        }
    }
    assert!(count > 500, "only {count} functions were found");
    assert_none(long, "split these");
}

#[test]
fn every_dependency_is_explained() {
    let manifest: toml::Table = fs::read_to_string(package().join("Cargo.toml")).unwrap().parse().unwrap();
    let explained = fs::read_to_string(package().join("ARCHITECTURE.md")).expect("there is an ARCHITECTURE.md");
    let tables = ["dependencies", "dev-dependencies"].map(|table| manifest[table].as_table().expect("a table"));
    let names = tables.into_iter().flat_map(|table| table.keys());
    let missing = names.filter(|name| !explained.contains(&format!("`{name}`")));
    assert_none(missing.cloned(), "ARCHITECTURE.md says of every dependency what it is for");
}
