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

/// What is for those who build from the sources is not in the package: benches, the client, examples, the architecture.
#[test]
fn the_guides_of_the_package_lead_to_files_that_it_has() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("a list");
    let shipped: Vec<(&str, &str)> =
        assets.iter().filter_map(|asset| Some((asset[0].as_str()?, asset[1].as_str()?))).collect();
    let mut links = 0;
    for dir in ["docs", "tuning"] {
        let guides = fs::read_dir(package().join(dir)).expect("a directory").flatten().map(|entry| entry.path());
        for guide in guides.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            let text = fs::read_to_string(&guide).expect("readable");
            for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let name = link.trim_start_matches("../");
                let name = if name == link { format!("{dir}/{link}") } else { name.to_owned() };
                let (place, file) = name.rsplit_once('/').unwrap_or(("", &name));
                if !["docs/", "tuning/"].iter().any(|top| name.starts_with(top)) || !package().join(&name).is_file() {
                    continue;
                }
                links += 1;
                let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
                let sources = [name.clone(), format!("{place}/*"), format!("{place}/*.{extension}")];
                let to = format!("usr/share/doc/uproar/{place}/");
                let has = shipped.iter().any(|(source, at)| sources.iter().any(|name| name == source) && *at == to);
                assert!(has, "{}: {link}", guide.display());
            }
        }
    }
    assert!(links > 50, "{links}");
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
    let env: BTreeMap<&str, &str> =
        after(&unit, "Environment=").iter().filter_map(|pair| pair.split_once('=')).collect();
    let (code, said) = check(&args.iter().map(String::as_str).collect::<Vec<_>>(), &env);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((after(&unit, "Type="), after(&unit, "User=")), (vec!["notify"], vec!["uproar"]));
    assert!(read("tuning/systemd/uproar.sysusers").lines().any(|line| line.starts_with("u uproar ")));
    let socket = read("tuning/systemd/uproar.socket");
    assert_eq!(after(&socket, "FileDescriptorName="), ["public"]);
}

/// Or `systemctl reload` would ask where nobody listens; and a flag in the unit would win over the file.
#[test]
fn the_commands_of_the_unit_ask_where_the_package_listens() {
    let unit = read("tuning/systemd/uproar.service");
    let file: toml::Table = read("tuning/debian/uproar.toml").parse().expect("TOML");
    let listens = file["admin_listen"].as_str().expect("a text");
    assert_eq!(after(&unit, "Environment="), [format!("UPROAR_ADMIN={listens}")]);
    let socket = listens.strip_prefix("unix:").and_then(|path| Path::new(path).parent());
    assert_eq!(socket, Some(Path::new("/run").join(after(&unit, "RuntimeDirectory=")[0]).as_path()));
    let commands = [after(&unit, "ExecStart=")[0], after(&unit, "ExecReload=")[0]];
    assert!(commands.iter().all(|command| !command.contains("--admin")), "{commands:?}");
    let env = BTreeMap::from([("UPROAR_ADMIN", "unix:/no/such")]);
    let arguments: Vec<&str> = commands[1].split(' ').skip(1).collect();
    let (code, said) = uproar(&arguments, &env);
    assert!(code == Some(3) && said.contains("unix:/no/such"), "{code:?} {said}");
    let (code, said) = uproar(&[&arguments[..], &["--admin", "unix:/nowhere"]].concat(), &env);
    assert!(code == Some(3) && said.contains("unix:/nowhere"), "the flag wins: {code:?} {said}");
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
    assert!(example.lines().all(|line| line.is_empty() || line.starts_with('#')), "nothing is set as it is shipped");
    let offered = after(&example, "#").into_iter().filter(|line| line.starts_with("UPROAR_"));
    let offered: Vec<_> = offered.filter_map(|line| line.split_once('=')).collect();
    let mut env: BTreeMap<&str, &str> = image.chain(given).collect();
    let (code, said) = check(&[], &env);
    assert!(code == Some(3) && said.contains("admin_key"), "without secrets: {code:?} {said}");
    let secrets = ["UPROAR_JWT_SECRET", "UPROAR_ADMIN_KEY"];
    assert!(secrets.iter().all(|name| offered.contains(&(*name, ""))), "not to be shipped: {offered:?}");
    let secret = "0123456789abcdef0123456789abcdef";
    env.extend(offered.into_iter().map(|(name, value)| (name, if value.is_empty() { secret } else { value })));
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
