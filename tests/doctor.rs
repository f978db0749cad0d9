//! `uproar doctor`, the binary: on trees of files, on this machine with limits lowered, in a network namespace of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const UPROAR: &str = env!("CARGO_BIN_EXE_uproar");
/// What the machine of the tree is fit for.
const FOR: [&str; 4] = ["--connections", "10000", "--shards", "2"];

const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";
const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
";
/// Everything but the sysctls of `tuning/`.
const GOOD: [(&str, &str); 16] = [
    ("proc/self/limits", LIMITS),
    ("proc/self/status", "Name:\tuproar\nCapEff:\t0000000000000000\nSeccomp:\t0\n"),
    ("proc/self/cgroup", "0::/user.slice\n"),
    ("proc/meminfo", "MemTotal:        8000000 kB\nMemAvailable:    6000000 kB\n"),
    ("proc/sys/kernel/osrelease", "6.12.0-1-amd64\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/ip_local_reserved_ports", "\n"),
    ("proc/sys/net/ipv4/tcp_mem", "92000\t122000\t184000\n"),
    ("sys/devices/system/cpu/online", "0-1\n"),
    ("sys/devices/system/node/online", "0\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
    ("etc/sysctl.d/README.sysctl", "not a file of settings\n"),
];

/// A machine as files, with the sysctls that its connections want.
struct Tree(TempDir);

impl Tree {
    fn good() -> Tree {
        let tree = Tree(tempfile::tempdir().expect("a directory"));
        for (path, text) in GOOD {
            tree.write(path, text);
        }
        for (key, value) in wanted() {
            tree.write(&format!("proc/sys/{}", key.replace('.', "/")), &format!("{value}\n"));
        }
        tree
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        fs::write(path, text).expect("room for it");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every path with its mode and its bytes.
    fn everything(&self) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
        let (mut found, mut pending) = (BTreeMap::new(), vec![self.path().to_owned()]);
        while let Some(path) = pending.pop() {
            let metadata = fs::metadata(&path).expect("what was listed");
            let bytes = metadata.is_file().then(|| fs::read(&path).expect("readable"));
            found.insert(path.display().to_string(), (metadata.permissions().mode(), bytes));
            if metadata.is_dir() {
                pending.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
            }
        }
        found
    }

    /// Runs the doctor on the tree: exit code and output.
    fn doctor(&self, args: &[&str]) -> (i32, String) {
        let root = self.path().to_str().expect("a path in UTF-8");
        run(&[&["--root", root], &FOR[..], args].concat())
    }
}

/// The sysctls that 10,000 connections want: key, value.
fn wanted() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/sysctl.d/uproar-10k.conf");
    let text = fs::read_to_string(path).expect("readable");
    let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    settings.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

fn run(args: &[&str]) -> (i32, String) {
    let output = Command::new(UPROAR).arg("doctor").args(args).stdin(Stdio::null()).output().expect("the binary runs");
    outcome(&output)
}

fn outcome(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
    (output.status.code().expect("it was not killed"), text)
}

/// A finding of the JSON report.
fn finding(json: &str, id: &str) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("{id} in {json}")).clone()
}

#[test]
fn a_good_machine_is_fine() {
    let (code, text) = Tree::good().doctor(&[]);
    assert_eq!(code, 0, "{text}");
    let (title, rest) = text.split_once("\n\n").expect("a title");
    assert_eq!(title, "Linux 6.12.0-1-amd64, CPUs: 2, memory: 7.6 GiB; for 10,000 connections, shards: 2");
    for (id, found) in [
        ("kernel", "Linux 6.12.0-1-amd64"),
        ("nofile", "524,288: room for 1,048,448 connections on 2 shards"),
        ("clocksource", "tsc"),
        ("net.core.somaxconn", "4096"),
    ] {
        let line = rest.lines().find(|line| line.split_whitespace().nth(1) == Some(id)).expect("a line for it");
        assert!(line.starts_with("fine  ") && line.ends_with(found), "{line}");
    }
    // Of a tree of files only what is written can be known.
    assert!(rest.contains("\n?     ") && rest.contains("0 must be changed, 0 should be"), "{text}");
    assert!(!text.contains("mend"), "{text}");
}

#[test]
fn a_lowered_machine_is_told_what_mends_it() {
    let tree = Tree::good();
    tree.write("proc/self/limits", &LIMITS.replace("524288", "4096  "));
    tree.write(SOMAXCONN, "128\n");
    tree.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    let (code, text) = tree.doctor(&[]);
    assert_eq!(code, 3, "{text}");
    // Whatever the column that the longest name makes.
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let text = lines.join("\n");
    for part in [
        "should clocksource hpet\nwanted tsc\nwhy Each reading",
        "should net.core.somaxconn 128\nwanted at least 4096",
        "mend sysctl -w net.core.somaxconn=4096\nsee tuning/",
        "MUST nofile 4,096: room for 8,064 connections on 2 shards\nwanted 5,564: 5,000 a shard, a tenth more, 64 to spare\n",
        "mend printf '* hard nofile 5564\\nroot hard nofile 5564\\n' >> /etc/security/limits.d/60-uproar.conf # log in again; root",
        "printf '[Service]\\nLimitNOFILE=5564\\n' >> /etc/systemd/system/uproar.service.d/limits.conf\n",
        "--shards 3\nsee tuning/limits.md#nofile\n",
        "\n1 must be changed, 2 should be;",
        "--apply changes 2 of them",
    ] {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
    let (code, json) = tree.doctor(&["--json"]);
    assert_eq!((code, finding(&json, "nofile")["severity"].as_str()), (3, Some("must")), "{json}");
    assert_eq!(finding(&json, "net.core.somaxconn")["mend"][0]["sysctl"]["value"], "4096");
}

#[test]
fn nothing_is_changed_unless_it_is_told_to() {
    let tree = Tree::good();
    tree.write(SOMAXCONN, "128\n");
    let before = tree.everything();
    for (args, said) in [
        (&[][..], "should"),
        (&["--json"], "\"should\""),
        (&["--apply"], "+net.core.somaxconn = 4096"),
        (&["--revert"], "Nothing was applied"),
        (&["--revert", "--yes"], "Nothing was applied"),
    ] {
        let (code, text) = tree.doctor(args);
        assert!(code == 1 && text.contains(said), "{args:?}: {code} {text}");
        assert_eq!(tree.everything(), before, "{args:?}");
    }
    let (_, text) = tree.doctor(&["--apply"]);
    assert!(text.contains("sysctl -w net.core.somaxconn=4096    # now 128\n\nNothing is changed: --yes"), "{text}");
}

#[test]
fn what_is_applied_mends_and_is_taken_back_byte_by_byte() {
    let tree = Tree::good();
    tree.write(SOMAXCONN, "128\n");
    tree.write("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    tree.write("etc/sysctl.d/60-uproar.conf", "# by hand\nvm.swappiness = 1\n");
    let before = tree.everything();
    assert_eq!(tree.doctor(&[]).0, 1);

    let (code, text) = tree.doctor(&["--apply", "--yes"]);
    assert!(code == 0 && text.contains("+++ /etc/sysctl.d/60-uproar.conf"), "{code} {text}");
    let file = tree.read("etc/sysctl.d/60-uproar.conf");
    assert!(file.contains("\nnet.core.somaxconn = 4096\n") && file.contains("\nvm.swappiness = 1\n"), "{file}");
    assert_eq!(tree.read(SOMAXCONN), "4096\n");
    let (code, text) = tree.doctor(&["--apply", "--yes"]);
    assert!(code == 0 && text.starts_with("Nothing is changed: "), "{code} {text}");

    let (code, text) = tree.doctor(&["--revert"]);
    assert!(code == 0 && text.contains("--yes does it without asking"), "{code} {text}");
    let (code, text) = tree.doctor(&["--revert", "--yes"]);
    assert!(code == 1 && text.contains("sysctl -w net.core.somaxconn=128    # now 4096"), "{code} {text}");
    assert_eq!(tree.everything(), before);
    assert!(tree.doctor(&["--revert", "--yes"]).1.starts_with("Nothing was applied"));
}

#[test]
fn limits_are_written_for_logins_and_for_the_service() {
    let tree = Tree::good();
    tree.write("proc/self/limits", &LIMITS.replace("524288", "1024  "));
    tree.write("run/systemd/system/here", "");
    let before = tree.everything();
    let (code, text) = tree.doctor(&["--apply", "--yes"]);
    assert!(code == 3 && text.contains("grants it already: log in again"), "{code} {text}");
    assert!(tree.read("etc/security/limits.d/60-uproar.conf").ends_with("* hard nofile 5564\nroot hard nofile 5564\n"));
    assert!(tree.read("etc/systemd/system/uproar.service.d/limits.conf").ends_with("[Service]\nLimitNOFILE=5564\n"));
    // As it is for who logs in now.
    tree.write("proc/self/limits", &LIMITS.replace("524288", "5564  "));
    assert_eq!(tree.doctor(&[]).0, 0);
    tree.write("proc/self/limits", &LIMITS.replace("524288", "1024  "));
    tree.doctor(&["--revert", "--yes"]);
    assert_eq!(tree.everything(), before);
}

#[test]
fn what_cannot_be_done_ends_with_4() {
    let tree = Tree::good();
    tree.write(SOMAXCONN, "128\n");
    tree.write("var/lib", "a file where a directory should be\n");
    let before = tree.everything();
    let (code, text) = tree.doctor(&["--apply", "--yes"]);
    assert!(code == 4 && text.contains("cannot read /var/lib/uproar-doctor.json"), "{code} {text}");
    assert_eq!(tree.everything(), before);
    let (code, text) = run(&["--pid", "4194305"]);
    assert_eq!((code, text.as_str()), (4, "uproar doctor: there is no /proc/4194305 to look at\n"));
}

#[test]
fn bad_usage_ends_with_2() {
    for args in [
        &["--connections", "0"][..],
        &["--connections", "many"],
        &["--shards", "257"],
        &["--profile", "slow"],
        &["--apply", "--revert"],
        &["--apply", "--json"],
        &["stray"],
    ] {
        let (code, text) = run(args);
        assert!(code == 2 && text.contains("--help"), "{args:?}: {code} {text}");
    }
}

/// This machine, with fewer descriptors than it has: what the shell is limited to is what counts.
#[test]
fn a_lowered_limit_of_this_machine_is_found() {
    let doctor = format!("exec {UPROAR} doctor --connections 900 --shards 1 --json");
    let limited = |nofile: u32| {
        let script = format!("ulimit -n {nofile}; {doctor}");
        let (code, json) = outcome(&Command::new("sh").args(["-c", &script]).output().expect("a shell"));
        (code, finding(&json, "nofile"))
    };
    let (code, low) = limited(512);
    assert_eq!((code, low["severity"].as_str()), (3, Some("must")), "{low}");
    assert!(low["found"].as_str().is_some_and(|found| found.starts_with("512: room for 448 connections")), "{low}");
    assert_eq!(low["mend"][0]["limit"], serde_json::json!({"name": "nofile", "value": 964}));
    let (_, enough) = limited(964);
    assert_eq!(enough["severity"].as_str(), Some("fine"), "{enough}");
}

/// Another process's limits, whatever this shell's are.
#[test]
fn a_running_server_is_looked_at() {
    let mut server = Command::new("sh").args(["-c", "ulimit -n 300; exec sleep 60"]).spawn().expect("a shell");
    let pid = server.id().to_string();
    let limits = || fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let lowered = || limits().lines().any(|line| line.starts_with("Max open files") && line.contains(" 300 "));
    // The shell has to come to it first.
    (0..1000).take_while(|_| !lowered()).for_each(|_| std::thread::sleep(Duration::from_millis(5)));
    let (code, json) = run(&["--pid", &pid, "--connections", "1000", "--shards", "1", "--json"]);
    server.kill().and_then(|()| server.wait()).expect("it was there");
    let nofile = finding(&json, "nofile");
    assert_eq!((code, nofile["severity"].as_str()), (3, Some("must")), "{nofile}");
    assert!(nofile["found"].as_str().is_some_and(|found| found.starts_with("300: ")), "{nofile}");
    assert_eq!(finding(&json, "io_uring")["severity"], "unknown", "a ring of ours says nothing of another process");
}

/// Real sysctls of a network namespace that only the test sees, and a real limit: lowered, mended, and put back; with the
/// words that the guide shows.
#[test]
fn a_lowered_namespace_is_mended_and_put_back_as_the_guide_shows() {
    let namespace = ["--net", "--user --map-root-user --net"];
    let enters = |options: &&&str| {
        let script = format!("ulimit -n 5564 && unshare {options} sh -c 'echo 64 > /proc/sys/net/core/somaxconn' 2>&1");
        Command::new("sh").args(["-c", &script]).output().is_ok_and(|output| output.status.success())
    };
    let Some(options) = namespace.iter().find(enters) else {
        eprintln!("skipped: no network namespace can be made here, or too few descriptors are allowed");
        return;
    };
    let tree = Tree::good();
    // What is not the namespace's own, or the process's, stays a file, so that nothing of this machine is touched.
    for path in [SOMAXCONN, "proc/sys/net/ipv4/tcp_syncookies", "proc/self/limits"] {
        let _ = fs::remove_file(tree.path().join(path));
        std::os::unix::fs::symlink(Path::new("/").join(path), tree.path().join(path)).expect("a link");
    }
    let root = tree.path().display();
    let doctor = format!("{UPROAR} doctor --root {root} {}", FOR.join(" "));
    let show = "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_syncookies";
    let script = format!(
        "cd /proc/sys/net && echo 128 > core/somaxconn && echo 0 > ipv4/tcp_syncookies && {show}
         (ulimit -n 4096; {doctor} > {root}/before; echo $?; {doctor} --apply --yes > {root}/applied; echo $?)
         {show}
         ulimit -n 5564; {doctor} > {root}/after; echo $?
         {doctor} --revert --yes > {root}/reverted; echo $?
         {show}"
    );
    let unshare = format!("unshare {options} sh -c \"$0\"");
    let (code, text) =
        outcome(&Command::new("sh").args(["-c", &unshare, &script]).stdin(Stdio::null()).output().expect("a shell"));
    let said = tree.read("applied");
    assert_eq!(
        (code, text.split_whitespace().collect::<Vec<_>>().join(" ").as_str()),
        (0, "128 0 3 3 4096 1 0 1 128 0"),
        "{said}"
    );
    let plan = said.split("\n\nLinux ").next().unwrap_or_default();
    for shown in [&not_fine(&tree.read("before")), plan, &not_fine(&tree.read("after"))] {
        assert!(guide().contains(&format!("```\n{}\n```\n", shown.trim_end())), "tuning/README.md lacks\n{shown}");
    }
}

fn guide() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/README.md")).expect("readable")
}

/// A report without the lines of what is fine, and of what a tree of files cannot tell.
fn not_fine(report: &str) -> String {
    let mut shown = true;
    let kept = report.lines().filter(|line| {
        if !line.starts_with(' ') {
            shown = !line.starts_with("fine ") && !line.starts_with("? ");
        }
        shown
    });
    kept.map(|line| format!("{line}\n")).collect::<String>().replace("\n\n\n", "\n\n")
}
