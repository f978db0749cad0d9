//! The binary: its help, its verdicts on configurations, its exit codes.

use std::io::Write;
use std::process::{Command, Output};

fn uproar(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uproar"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the binary was not killed")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room for it");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a path in UTF-8")
}

#[test]
fn help_shows_every_knob_with_its_default_and_bounds() {
    for flag in ["--help", "-h"] {
        let help = uproar(&[flag], &[]);
        assert_eq!(code(&help), 0);
        let text = out(&help).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "--listen <ADDRESS>",
            "[127.0.0.1:8080; ip:port; takes a restart]",
            "[64KiB; 1KiB..1GiB]",
            "[close; close|drop-oldest|drop-newest|latest]",
            "[30s; off or 1s..1h]",
            "Slow readers:",
            "PORT sets the port",
            "Examples:",
            "Exit codes: 0 ended in order 3 the configuration is not valid",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn the_printed_configuration_is_a_file_that_names_every_flag_of_the_help() {
    let printed = uproar(&["--print-config", "--backlog", "1MiB"], &[("UPROAR_PIN", "false")]);
    assert_eq!(code(&printed), 0);
    let text = out(&printed);
    assert!(
        text.contains("; from --backlog\nbacklog = \"1MiB\"")
            && text.contains("; takes a restart; from UPROAR_PIN\npin = false")
    );
    let again = uproar(&["--print-config", "--config", path(&file(&text))], &[]);
    let settings = |text: &str| text.lines().filter(|line| line.contains(" = ")).map(String::from).collect::<Vec<_>>();
    assert_eq!(settings(&out(&again)), settings(&text));
    let help = out(&uproar(&["--help"], &[]));
    for setting in settings(&text) {
        let name = setting.split(' ').next().expect("a name");
        assert!(help.contains(&format!("--{}", name.replace('_', "-"))), "{name}");
    }
}

#[test]
fn a_good_configuration_is_ok() {
    let good = file("backlog = '128KiB'\nping_interval = 'off'\n");
    for (args, env) in [
        (&["--check"][..], &[][..]),
        (&["--check", "--config", path(&good)], &[("PORT", "9000")]),
        (&["--check", "--pin=false"], &[("UPROAR_CONFIG", path(&good)), ("UPROAR_SERVICE_HOST", "10.0.0.1")]),
    ] {
        let output = uproar(args, env);
        assert_eq!((code(&output), out(&output)), (0, "configuration ok\n".into()), "{}", err(&output));
    }
}

#[test]
fn what_is_hardly_meant_is_said_and_is_no_mistake() {
    let odd = file("history = '*; prices.* count=1'\nshards = 256\nbacklog = '1KiB'\n");
    let output = uproar(&["--check", "--config", path(&odd)], &[]);
    assert_eq!((code(&output), out(&output)), (0, "configuration ok\n".into()));
    let text = err(&output);
    for part in
        ["warning: history: the rule of \"prices.*\" never counts", "warning: shards: 256", "warning: backlog: "]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_bad_configuration_ends_with_3_and_every_problem() {
    let bad = file("shards = 0\nbacklgo = '1MiB'\n");
    let env = [("UPROAR_ADMIN_LISTEN", "nowhere"), ("UPROAR_NO_SUCH", "1"), ("UPROAR_CONFIG", path(&bad))];
    // Not only --check refuses it: nothing is served either.
    for args in [&["--check", "--max-head=1"][..], &["--max-head=1"]] {
        let output = uproar(args, &env);
        assert_eq!((code(&output), out(&output)), (3, String::new()));
        let text = err(&output);
        for part in [
            &format!("{}:1: shards: \"0\" is out of bounds; allowed: 1..256\n", path(&bad)),
            &format!("{}:2: backlgo: unknown; did you mean backlog?\n", path(&bad)),
            "UPROAR_ADMIN_LISTEN: \"nowhere\" is not an IP address and port; allowed: ip:port, unix:/path or off\n",
            "UPROAR_NO_SUCH: unknown",
            "--max-head: \"1\" is out of bounds; allowed: 1KiB..64KiB, in bytes",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.lines().count(), 6, "{text}");
    }
}

#[test]
fn a_secret_is_no_flag_and_is_not_printed() {
    const KEY: &str = "correct-horse-battery";
    let refused = uproar(&["--check", "--backend-key", KEY], &[]);
    assert_eq!(code(&refused), 3);
    assert!(err(&refused).contains("--backend-key: no flag") && err(&refused).contains("UPROAR_BACKEND_KEY"));
    let printed = uproar(&["--print-config"], &[("UPROAR_BACKEND_KEY", KEY)]);
    assert_eq!(code(&printed), 0);
    assert!(out(&printed).contains("# backend_key is set, and not shown"));
    let all = [refused, printed].map(|output| out(&output) + &err(&output)).concat();
    assert!(!all.contains(KEY), "{all}");
}

/// As a start does: a check that says ok must be worth something.
#[test]
fn a_check_reads_the_files_of_keys_and_certificates() {
    let tls = ["--check", "--tls-listen=127.0.0.1:0", "--tls-certificate=/no/such.pem", "--tls-key=/no/such.key"];
    for (args, knob) in
        [(&tls[..], "tls_certificate"), (&["--check", "--jwt-public-key=/no/such.pem"], "jwt_public_key")]
    {
        let output = uproar(args, &[]);
        let text = err(&output);
        assert!(code(&output) == 3 && text.contains(knob) && text.contains("/no/such.pem"), "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for (args, env, origin) in [
        (&["--check", "--config", "/no/such.toml"][..], &[][..], "--config"),
        (&["--check"], &[("UPROAR_CONFIG", "/no/such.toml")], "UPROAR_CONFIG"),
    ] {
        let output = uproar(args, env);
        assert_eq!(code(&output), 3);
        let text = err(&output);
        assert!(text.contains(&format!("{origin}: cannot read \"/no/such.toml\": No such file")), "{text}");
    }
}

#[test]
fn bad_usage_ends_with_2() {
    for args in [&["--no-such"][..], &["stray"], &["--check", "--print-config"], &["--backlog"]] {
        let output = uproar(args, &[]);
        assert_eq!((code(&output), out(&output)), (2, String::new()), "{args:?}");
        assert!(err(&output).contains("--help"), "{}", err(&output));
    }
}

#[test]
fn version_is_the_packages() {
    assert_eq!(out(&uproar(&["--version"], &[])), format!("uproar {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn too_few_descriptors_for_a_connection_are_an_error() {
    let command =
        format!("ulimit -n 60; exec {} --listen 127.0.0.1:0 --admin-listen off", env!("CARGO_BIN_EXE_uproar"));
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{message}");
    assert!(message.contains("RLIMIT_NOFILE is 60"), "{message}");
}

#[test]
fn help_lists_the_tools() {
    let help = out(&uproar(&["--help"], &[]));
    for tool in ["bench", "doctor", "drain", "publish", "subscribe"] {
        assert!(help.lines().any(|line| line.starts_with(&format!("  {tool} "))), "{tool} is not in {help}");
        let own = uproar(&[tool, "--help"], &[]);
        assert!(code(&own) == 0 && out(&own).contains("Usage: uproar"), "{tool}: {}", out(&own));
    }
    for (tool, said) in
        [("publish", "When it is printed, the message is ordered"), ("subscribe", "goes on where it was")]
    {
        let own = out(&uproar(&[tool, "--help"], &[])).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [said, "Examples:", "Exit codes:", "3 there is no server"] {
            assert!(own.contains(part), "{part} is not in {own}");
        }
    }
}

#[test]
fn tools_without_a_server_say_what_to_do_and_end_with_3() {
    for (args, parts) in [
        (&["publish", "t", "1", "--admin", "http://127.0.0.1:1"][..], ["http://127.0.0.1:1", "Connection refused"]),
        (&["publish", "t", "1", "--admin", "unix:/no/such"], ["unix:/no/such", "No such file"]),
        (&["drain", "--admin", "http://127.0.0.1:1"], ["http://127.0.0.1:1", "Connection refused"]),
        (&["subscribe", "t", "--url", "ws://127.0.0.1:1"], ["127.0.0.1:1", "Connection refused"]),
    ] {
        let output = uproar(args, &[]);
        let said = err(&output);
        assert_eq!((code(&output), out(&output)), (3, String::new()), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)) && said.contains("is the server running"), "{said}");
    }
}

#[test]
fn tools_are_particular_about_their_arguments() {
    for args in [
        &["publish", "t"][..],
        &["publish", "t", "hello"],
        &["publish", "t", "1", "--admin", "https://127.0.0.1"],
        &["drain", "--wait", "soon"],
        &["subscribe"],
        &["subscribe", "t", "--since", "41"],
        &["subscribe", "t", "u", "--since", "e:41"],
        &["subscribe", "t", "--count", "0"],
        &["subscribe", "t", "--timeout", "soon"],
        &["subscribe", "t", "--url", "http://127.0.0.1:8080"],
    ] {
        let output = uproar(args, &[]);
        assert_eq!((code(&output), out(&output)), (2, String::new()), "{args:?}: {}", err(&output));
    }
}

/// Whether a program is there; without, what it would look at is not looked at.
fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("there is a shell");
    if !found.status.success() {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found.status.success()
}

#[test]
fn shells_understand_the_completions() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = uproar(&["completions", shell], &[]);
        assert_eq!(code(&script), 0, "{shell}");
        assert!(out(&script).contains("backlog-policy") && out(&script).contains("subscribe"), "{shell}");
        if is_installed(shell) {
            let file = file(&out(&script));
            let checked = Command::new(shell).args([check, path(&file)]).output().expect("it is installed");
            assert!(checked.status.success() && checked.stderr.is_empty(), "{shell}: {}", err(&checked));
        }
    }
    assert_eq!(code(&uproar(&["completions", "dos"], &[])), 2);
}

#[test]
fn bash_completes_what_was_begun() {
    let script = file(&out(&uproar(&["completions", "bash"], &[])));
    let complete = format!(
        "source {}; COMP_WORDS=(uproar --backlog-p); COMP_CWORD=1; _uproar uproar --backlog-p uproar; echo ${{COMPREPLY[@]}}
         COMP_WORDS=(uproar dr); COMP_CWORD=1; _uproar uproar dr uproar; echo ${{COMPREPLY[@]}}",
        path(&script)
    );
    let completed = Command::new("bash").args(["--norc", "-c", &complete]).output().expect("there is bash");
    assert_eq!(out(&completed), "--backlog-policy\ndrain\n", "{}", err(&completed));
}

#[test]
fn the_manual_is_one() {
    for page in ["uproar", "uproar.toml", "uproar-drain", "uproar-bench-fanout"] {
        let source = uproar(&["man", page], &[]);
        assert!(code(&source) == 0 && out(&source).contains(".SH NAME\n"), "{page}");
        let file = file(&out(&source));
        if is_installed("man") {
            // What groff(1) does not understand, it says on standard error.
            let mut man = Command::new("man");
            let shown = man.args(["--warnings", "-l", path(&file)]).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
            let shown = shown.output().expect("it is installed");
            assert!(shown.status.success() && shown.stderr.is_empty(), "{page}: {}", err(&shown));
            assert!(out(&shown).contains("SEE ALSO"), "{page}: {}", out(&shown));
        }
        if is_installed("mandoc") {
            let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning", path(&file)]).output();
            let lint = out(&lint.expect("it is installed"));
            // Pages have no date, so that they are the same whenever they are made. The macros are around lists of values.
            let known = ["missing date", "skipping paragraph macro: br"];
            let serious: Vec<_> = lint.lines().filter(|line| !known.iter().any(|known| line.contains(known))).collect();
            assert!(serious.is_empty(), "{page}: {serious:#?}");
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let written = uproar(&["man", "--out", dir.path().to_str().expect("UTF-8")], &[]);
    assert_eq!(code(&written), 0, "{}", err(&written));
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("it was written");
    assert_eq!(text("uproar.1"), out(&uproar(&["man"], &[])));
    assert!(text("uproar.toml.5").contains("history_memory") && text("uproar-bench-echo.1").contains("echo"));
    let unknown = uproar(&["man", "uproard"], &[]);
    assert!(code(&unknown) == 2 && err(&unknown).contains("uproar-bench, "), "{}", err(&unknown));
}
