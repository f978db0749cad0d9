//! Holds the documents to the binary and the files: commands that work, options that exist, links that lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use uproar::config::{Inputs, load};

/// A Markdown file of the package.
struct Document {
    /// Relative to the package: `docs/tuning.md`.
    path: String,
    text: String,
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, ARCHITECTURE.md, and what else there is at the top, in `benches/`, `docs/` and `tuning/`.
fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    for dir in ["", "benches", "docs", "tuning"] {
        for entry in fs::read_dir(package().join(dir)).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let relative = path.strip_prefix(package()).expect("below the package").display().to_string();
                found.push(Document { path: relative, text: fs::read_to_string(path).expect("readable") });
            }
        }
    }
    let paths: BTreeSet<_> = found.iter().map(|document| &*document.path).collect();
    let some = ["README.md", "ARCHITECTURE.md", "benches/README.md", "docs/BENCH.md", "tuning/README.md"];
    assert!(some.iter().all(|path| paths.contains(path)), "{paths:?}");
    found
}

impl Document {
    /// Its lines but for fences, each with the language of the block that it is in; `None` outside of blocks.
    fn lines(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let mut block = None;
        self.text.lines().filter_map(move |line| match line.trim_start().strip_prefix("```") {
            Some(language) => {
                block = block.is_none().then_some(language);
                None
            }
            None => Some((block, line)),
        })
    }

    /// The commands of blocks marked as `sh`: one a line, comments taken away, lines that go on put together.
    fn commands(&self) -> Vec<String> {
        let shell = self.lines().filter(|(block, _)| *block == Some("sh")).map(|(_, line)| format!("{line}\n"));
        let joined = shell.collect::<String>().replace("\\\n", "");
        let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    /// The lines outside of blocks.
    fn plain(&self) -> impl Iterator<Item = &str> {
        self.lines().filter(|(block, _)| block.is_none()).map(|(_, line)| line)
    }

    /// What stands between backticks within a line.
    fn code_spans(&self) -> impl Iterator<Item = &str> {
        self.plain().flat_map(|line| line.split('`').skip(1).step_by(2))
    }

    /// The targets of its links that are not addresses elsewhere: a path, empty for itself, and what follows a `#`.
    fn local_links(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let targets = self.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let local = targets.filter(|target| !target.contains("://"));
        local.map(|target| target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor))))
    }

    /// What stands in the lines that begin with `#`, outside of blocks.
    fn headings(&self) -> impl Iterator<Item = &str> {
        self.plain().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
    }
}

/// What a link to a heading ends with: no capitals, a dash for a space, nothing for what is neither letter nor digit.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Environment and arguments.
type Invocation<'a> = (Vec<(&'a str, &'a str)>, Vec<&'a str>);

/// The words of a command; one in double quotes may have spaces.
fn words(command: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = command.trim_start();
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (word, behind) = quoted.or_else(|| rest.split_once(char::is_whitespace)).unwrap_or((rest, ""));
        words.push(word);
        rest = behind.trim_start();
    }
    words
}

/// The environment, the arguments and nothing else of a command that runs `uproar`; `None` of another command.
fn invocation(command: &str) -> Option<Invocation<'_>> {
    // What a shell does with it then is not the server's concern.
    let command = command.split([';', '|', '&', '>']).next()?;
    let mut words = words(command).into_iter().peekable();
    let mut env = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        env.push((name, value));
        words.next();
    }
    let program = words.next()?;
    if program == "cargo" && words.next()? == "run" {
        let options: Vec<_> = words.by_ref().take_while(|word| *word != "--").collect();
        return (!options.contains(&"--example")).then(|| (env, words.collect()));
    }
    (program.rsplit('/').next() == Some("uproar")).then(|| (env, words.collect()))
}

/// Runs the binary in the package's directory, so that files are found as a reader of the README finds them.
fn uproar(env: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    command.args(args).env_clear().envs(env.iter().copied()).current_dir(package());
    let output = command.output().expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What `--help` says of the command, and below it of every subcommand.
fn helps(command: &[&str]) -> String {
    let (code, help) = uproar(&[], &[command, &["--help"]].concat());
    assert_eq!(code, Some(0), "{command:?}: {help}");
    let below = subcommands(&help).into_iter().map(|name| helps(&[command, &[name]].concat()));
    below.collect::<String>() + &help
}

/// The subcommands that a help lists.
fn subcommands(help: &str) -> Vec<&str> {
    let list = help.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    // What it says of one may go on in lines that are further in.
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").collect()
}

/// The options that the helps name, with their dashes.
fn options() -> BTreeSet<String> {
    let help = helps(&[]);
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let options: BTreeSet<_> =
        words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect();
    let some = ["--backlog-policy", "--check", "--connections"];
    assert!(some.iter().all(|option| options.contains(*option)), "{options:?}");
    options
}

/// They only check or print: neither listens, and with `--check` no server does.
const LISTENS_NOT: [&str; 6] = ["--check", "--print-config", "--help", "-h", "--version", "-V"];

/// Where a load goes in the documents, and where it goes here: nothing listens on port 1.
const SERVER: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:1"];

/// A command made harmless, and how it shows that all of it was understood: its exit code and a part of what it prints.
///
/// Not by `--help`, which is answered before it is looked whether the options go together.
fn harmless<'a>(args: &[&'a str], nowhere: &'a str) -> (Vec<String>, i32, &'static str) {
    let mut words: Vec<String> = args.iter().map(|word| word.replace(SERVER[0], SERVER[1])).collect();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    match args.first() {
        Some(&"bench") => {
            if !args.contains(&"--url") {
                add(&["--url", &format!("ws://{}/raw/{{topic}}", SERVER[1])]);
            }
            (words, 3, "Connection refused")
        }
        Some(&"publish") => {
            add(&["--admin", "http://127.0.0.1:1"]);
            (words, 3, "Connection refused")
        }
        Some(&"top") => {
            if !args.contains(&"--once") {
                add(&["--once"]);
            }
            add(&["--admin", "http://127.0.0.1:1"]);
            (words, 3, "Connection refused")
        }
        Some(&"drain" | &"reload" | &"health") => {
            add(&["--admin", "http://127.0.0.1:1"]);
            (words, 3, "Connection refused")
        }
        // The reader has made that file.
        Some(&"subscribe") if args.contains(&"--token-file") => (words, 2, "No such file"),
        Some(&"subscribe") => {
            if !args.contains(&"--url") {
                add(&["--url", "ws://127.0.0.1:1"]);
            }
            (words, 3, "Connection refused")
        }
        // They only print.
        Some(&"completions" | &"man") => (words, 0, "uproar"),
        Some(&"doctor") => {
            add(&["--root", nowhere]);
            (words, 4, "to look at")
        }
        _ => {
            if !args.iter().any(|arg| LISTENS_NOT.contains(arg)) {
                add(&["--check"]);
            }
            (words, 0, "")
        }
    }
}

#[test]
fn commands_that_run_the_binary_are_accepted() {
    let nowhere = tempfile::tempdir().expect("a directory");
    let mut seen = BTreeSet::new();
    for document in documents() {
        for command in document.commands() {
            let Some((env, args)) = invocation(&command) else { continue };
            seen.insert(args.first().copied().unwrap_or_default().to_owned());
            let (args, expected, said) = harmless(&args, nowhere.path().to_str().expect("UTF-8"));
            let (code, output) = uproar(&env, &args.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(code == Some(expected) && output.contains(said), "{}: {command}\n{code:?} {output}", document.path);
        }
    }
    assert!(
        ["bench", "completions", "doctor", "drain", "health", "man", "publish", "reload", "subscribe", ""]
            .iter()
            .all(|tool| seen.contains(*tool)),
        "{seen:?}"
    );
}

/// What the test above would not let pass.
#[test]
fn mistakes_in_commands_are_seen() {
    for command in [
        "bench fanout --subscribrs 5",
        "bench fanout --subscribers many",
        "bench fanout --subscribed x",
        "bench fanout --url http://127.0.0.1:8080/",
        "bench fanot",
        "bench idle --subscribers 5",
        "publish prices",
        "publish prices 1 --ids 2",
        "publish prices {",
        "subscribe --count 1",
        "subscribe prices --count 0",
        "subscribe prices quotes --since 0:0",
        "doctor --apply --json",
        "doctor --connection 5",
        "--backlog-policy never",
    ] {
        let args: Vec<_> = command.split(' ').collect();
        let (args, expected, said) = harmless(&args, "/nowhere");
        let (code, output) = uproar(&[], &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(code != Some(expected) || !output.contains(said), "{command}: {code:?} {output}");
    }
}

#[test]
fn options_that_are_named_exist() {
    let options = options();
    for document in documents() {
        for span in document.code_spans().filter(|span| span.starts_with("--")) {
            let option = span.split([' ', '=']).next().unwrap_or(span);
            assert!(options.contains(option), "{}: `{span}`", document.path);
        }
    }
}

#[test]
fn variables_that_are_named_exist() {
    let variable = |option: &String| option.trim_start_matches('-').replace('-', "_").to_uppercase();
    // For `uproar subscribe`; as an option, others on the machine could read it.
    let known: BTreeSet<String> = options().iter().map(variable).chain(["TOKEN".into()]).collect();
    for document in documents() {
        for name in document.text.split("UPROAR_").skip(1) {
            let end = name.find(|c: char| !(c.is_ascii_uppercase() || c == '_')).unwrap_or(name.len());
            assert!(end == 0 || known.contains(&name[..end]), "{}: UPROAR_{}", document.path, &name[..end]);
        }
    }
}

#[test]
fn scripts_and_targets_of_commands_exist() {
    let exists = |path: &str| package().join(path).exists();
    for document in documents() {
        for command in document.commands() {
            let words: Vec<_> = command.split_whitespace().collect();
            let script = |word: &&&str| [".sh", ".mjs"].iter().any(|end| word.ends_with(end)) && !word.contains("://");
            for script in words.iter().filter(script) {
                assert!(exists(script), "{}: {command}", document.path);
            }
            for (kind, dir) in [("--example", "examples"), ("--bench", "benches"), ("--test", "tests")] {
                for pair in words.windows(2).filter(|pair| pair[0] == kind) {
                    let found =
                        exists(&format!("{dir}/{}.rs", pair[1])) || exists(&format!("{dir}/{}/main.rs", pair[1]));
                    assert!(found, "{}: {command}", document.path);
                }
            }
            if let Some((bench, options)) = bench_options(&words) {
                let source = ["", "/main"].map(|end| package().join(format!("benches/{bench}{end}.rs")));
                let source = source.iter().find_map(|path| fs::read_to_string(path).ok()).expect("found above");
                for option in options {
                    // As it is spelt where options are derived from fields, or where they are compared.
                    let known = source.contains(&format!("{}:", option.replace('-', "_"))) || source.contains(option);
                    assert!(known, "{}: {command}: --{option}", document.path);
                }
            }
        }
    }
}

/// The bench that a command runs, and the options that it is given itself, without their dashes.
fn bench_options<'a>(words: &[&'a str]) -> Option<(&'a str, Vec<&'a str>)> {
    let bench = words.windows(2).find(|pair| pair[0] == "--bench")?[1];
    let own = words.iter().skip_while(|word| **word != "--").skip(1);
    Some((bench, own.filter_map(|word| word.strip_prefix("--")).collect()))
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let file = package().join(&document.path);
        for (path, heading) in document.local_links() {
            let target = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            assert!(target.exists(), "{}: {path}", document.path);
            if let Some(heading) = heading {
                let text = fs::read_to_string(&target).expect("a document");
                let target = Document { path: path.to_owned(), text };
                assert!(target.headings().any(|found| anchor(found) == heading), "{}: {path}#{heading}", document.path);
            }
        }
    }
}

#[test]
fn every_sysctl_of_a_profile_is_explained_once() {
    let documents = documents();
    let guide: Vec<_> = documents.iter().filter(|document| document.path.starts_with("tuning/")).collect();
    let mut profiles = 0;
    for entry in fs::read_dir(package().join("tuning/sysctl.d")).expect("the profiles") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("readable");
        profiles += 1;
        for (key, _) in text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = ")) {
            let heading = format!("`{key}`");
            let explained = guide.iter().flat_map(|document| document.headings()).filter(|found| **found == heading);
            assert_eq!(explained.count(), 1, "{key}");
        }
    }
    assert_eq!(profiles, 4);
}

#[test]
fn commands_are_told_apart() {
    let args = |command: &str| invocation(command).map(|(_, args)| args.join(" "));
    assert_eq!(args("PORT=9000 uproar --pin false > log &").as_deref(), Some("--pin false"));
    assert_eq!(args("cargo run --release -- --shards 2").as_deref(), Some("--shards 2"));
    assert_eq!(args("target/release/uproar").as_deref(), Some(""));
    let (_, quoted) = invocation(r#"uproar --history "a count=1" --check"#).expect("a command");
    assert_eq!(quoted, ["--history", "a count=1", "--check"]);
    assert_eq!(args("cargo run --release --example echo 127.0.0.1:9002"), None);
    assert_eq!(args("cargo build --release"), None);
    assert_eq!(args("bash tests/run.sh"), None);
    let text = "# A\n\n```sh\nuproar --check  # why\n# comment\nuproar \\\n  --pin\n```\nand `--pin`\n1. x\n\n   ```sh\n   uproar --version\n   ```\n```js\nlet x;\n```\n";
    let document = Document { path: "x.md".into(), text: text.into() };
    assert_eq!(document.commands(), ["uproar --check", "uproar   --pin", "uproar --version"]);
    assert_eq!(document.code_spans().collect::<Vec<_>>(), ["--pin"]);
    assert_eq!(document.headings().collect::<Vec<_>>(), ["A"]);
    assert_eq!(anchor("`net.ipv4.tcp_mem`"), "netipv4tcp_mem");
    let command = "cargo bench --bench ring -- --full --json ring.json".split(' ').collect::<Vec<_>>();
    assert_eq!(bench_options(&command), Some(("ring", vec!["full", "json"])));
    assert_eq!(anchor("More than 28,000 clients"), "more-than-28000-clients");
}

#[test]
fn every_configuration_of_the_documents_is_one() {
    let mut read = 0;
    for document in documents() {
        for block in document.text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let inputs = Inputs { file: Some((document.path.clone(), block.into())), ..Inputs::default() };
            assert!(load(&inputs).is_ok(), "{:?} in\n{block}", load(&inputs).err());
            read += 1;
        }
    }
    assert!(read >= 2, "{read} were read");
}
