//! What the server is shipped in: the files of the Debian package, the unit and the container agree with each other and with the
//! binary. What can be tried of them is tried by `tests/packaging/run.sh`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(package().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs the binary in an environment of its own: exit code, and all that it said.
fn uproar(args: &[&str], env: &BTreeMap<&str, &str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    let output = command.args(args).env_clear().envs(env).current_dir(package()).output().expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn check(args: &[&str], env: &BTreeMap<&str, &str>) -> (Option<i32>, String) {
    uproar(&[args, &["--check"]].concat(), env)
}

/// The rest of the lines of a text that begin so, but for spaces.
fn after<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(begin)).map(str::trim).collect()
}

#[test]
fn the_assets_of_the_package_are_there() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().expect("a list");
    for asset in assets {
        let [source, to, mode] = [0, 1, 2].map(|part| asset[part].as_str().expect("a text"));
        let dir = package().join(source).parent().expect("a directory").to_owned();
        let (before, behind) = source.rsplit('/').next().expect("a name").split_once('*').unwrap_or((source, ""));
        let is_there = match source.contains('*') {
            false => package().join(source).is_file(),
            true => fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
                entry.file_name().to_str().is_some_and(|name| name.starts_with(before) && name.ends_with(behind))
            }),
        };
        assert!(is_there || source.starts_with("target/release/"), "{source}");
        assert!(!to.starts_with('/') && ["755", "644", "640"].contains(&mode), "{source}: {to} {mode}");
    }
    for script in ["postinst", "prerm", "postrm", "build.sh"] {
        let path = package().join(deb["maintainer-scripts"].as_str().expect("a path")).join(script);
        let checked = Command::new("bash").arg("-n").arg(path).status().expect("there is bash");
        assert!(checked.success(), "{script}");
    }
}

#[test]
fn the_configuration_of_the_package_is_valid_and_so_is_each_line_that_it_offers() {
    let text = read("tuning/debian/uproar.toml");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("uproar.toml");
    let valid = |text: &str| {
        fs::write(&path, text).expect("room for it");
        check(&["--config", path.to_str().expect("UTF-8")], &BTreeMap::new())
    };
    assert_eq!(valid(&text).0, Some(0), "as it is shipped");
    let offered: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    assert!(offered.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count() >= 8, "{offered}");
    // The files that it names are read: they are in that directory.
    let made = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).expect("a certificate");
    fs::write(dir.path().join("certificate.pem"), made.cert.pem()).expect("room for it");
    fs::write(dir.path().join("certificate.key"), made.signing_key.serialize_pem()).expect("room for it");
    let offered = offered.replace("/etc/uproar", dir.path().to_str().expect("UTF-8"));
    let (code, said) = valid(&offered);
    assert_eq!(code, Some(0), "{said}\n{offered}");
}

#[test]
fn the_unit_starts_what_the_server_takes() {
    let unit = read("tuning/systemd/uproar.service");
    let start = after(&unit, "ExecStart=");
    let mut words = start[0].split(' ');
    assert_eq!((start.len(), words.next()), (1, Some("uproar")));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("uproar.toml");
    fs::write(&path, "").expect("room for it");
    let args: Vec<_> =
        words.map(|word| word.replace("/etc/uproar/uproar.toml", path.to_str().expect("UTF-8"))).collect();
    let (code, said) = check(&args.iter().map(String::as_str).collect::<Vec<_>>(), &BTreeMap::new());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((after(&unit, "Type="), after(&unit, "User=")), (vec!["notify"], vec!["uproar"]));
    assert!(read("tuning/systemd/uproar.sysusers").lines().any(|line| line.starts_with("u uproar ")));
    let socket = read("tuning/systemd/uproar.socket");
    assert_eq!(after(&socket, "FileDescriptorName="), ["public"]);
}

#[test]
fn what_the_container_is_made_of_is_there() {
    let dockerfile = read("tuning/docker/Dockerfile");
    assert!(after(&dockerfile, "USER ").iter().all(|user| user.starts_with("65532")), "not root");
    for words in [after(&dockerfile, "HEALTHCHECK "), after(&dockerfile, "ENTRYPOINT ")] {
        assert!(words[0].contains("\"/usr/bin/uproar\""), "{words:?}");
    }
    assert!(uproar(&["health", "--help"], &BTreeMap::new()).1.contains("Exit codes:"));
    let compose = package().join("tuning/docker");
    let text = read("tuning/docker/compose.yaml");
    let seccomp: Vec<PathBuf> = after(&text, "- seccomp=").into_iter().map(|path| compose.join(path)).collect();
    assert!(seccomp.len() == 1 && seccomp[0].is_file(), "{seccomp:?}");
    let context = compose.join(after(&text, "context: ")[0]);
    assert!(context.join("Cargo.lock").is_file() && context.join(after(&text, "dockerfile: ")[0]).is_file());
    assert_eq!(after(&text, "env_file: "), ["uproar.env"]);
    assert!(!dockerfile.contains("INSECURE") && !text.contains("INSECURE"), "it is not to be open by itself");
    let version = after(&dockerfile, "FROM docker.io/library/rust:")[0];
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let oldest = manifest["package"]["rust-version"].as_str().expect("a version");
    let number = |version: &str| version.split(['.', '-']).nth(1).and_then(|minor| minor.parse::<u32>().ok());
    assert!(number(version) >= number(oldest), "{version} builds what needs {oldest}");
}

#[test]
fn the_container_needs_its_secrets() {
    let (dockerfile, compose) = (read("tuning/docker/Dockerfile"), read("tuning/docker/compose.yaml"));
    let example = read("tuning/docker/uproar.env.example");
    let image = after(&dockerfile, "ENV ").into_iter().filter_map(|pair| pair.split_once('='));
    let given = compose.lines().filter(|line| line.trim_start().starts_with("UPROAR_"));
    let given = given.filter_map(|line| line.trim().split_once(": "));
    let named = example.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| name.starts_with("UPROAR_"));
    let mut env: BTreeMap<&str, &str> = image.chain(given).collect();
    let (code, said) = check(&[], &env);
    assert!(code == Some(3) && said.contains("admin_key"), "without secrets: {code:?} {said}");
    env.extend(named.map(|(name, value)| {
        assert_eq!(value, "", "{name}: a secret is not to be shipped");
        (name, "0123456789abcdef0123456789abcdef")
    }));
    let (code, said) = check(&[], &env);
    assert_eq!(code, Some(0), "{said}");
}

/// Or the threads of TLS, tokens and the hook would take what the shards have.
#[test]
fn where_calls_are_filtered_threads_may_yield_and_shards_be_pinned() {
    let unit = read("tuning/systemd/uproar.service");
    let allowed = after(&unit, "SystemCallFilter=").into_iter().last().expect("a filter").to_owned();
    let profile: serde_json::Value = serde_json::from_str(&read("tuning/seccomp/uproar.json")).expect("JSON");
    let rules = profile["syscalls"].as_array().expect("rules");
    let named: Vec<&str> =
        rules.iter().filter_map(|rule| rule["names"].as_array()).flatten().filter_map(|name| name.as_str()).collect();
    for call in ["setpriority", "sched_setaffinity"] {
        assert!(allowed.split(' ').any(|word| word == call) && named.contains(&call), "{call}");
    }
}
