//! Plans, carried out in a tree of files and taken back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::doctor::finding::{Finding, LimitName, Mend, Verdict};
use crate::doctor::machine::LIMITS_FILE;
use crate::doctor::sysctl::Kind;

/// A tree of those files.
fn tree(files: &[(&str, &str)]) -> (TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path().to_owned());
    for (path, text) in files {
        fs::create_dir_all(root.path(path).parent().unwrap()).unwrap();
        fs::write(root.path(path), text).unwrap();
    }
    (dir, root)
}

/// Every path below a directory, with its mode and its bytes.
fn everything(dir: &Path) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let bytes = metadata.is_file().then(|| fs::read(&path).unwrap());
        found.insert(path.display().to_string(), (metadata.permissions().mode(), bytes));
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn finding(steps: &[Mend]) -> Finding {
    let verdict = steps.iter().cloned().fold(Verdict::should("low"), Verdict::mend);
    Finding { id: "id".into(), see: String::new(), verdict }
}

fn sysctl(key: &str, value: &str, kind: Kind) -> Mend {
    Mend::Sysctl { key: key.into(), value: value.into(), kind }
}

fn limit(name: LimitName, value: u64) -> Mend {
    Mend::Limit { name, value }
}

const SOMAXCONN: &str = "net.core.somaxconn";
const SOMAXCONN_FILE: &str = "/proc/sys/net/core/somaxconn";
const TCP_MEM_FILE: &str = "/proc/sys/net/ipv4/tcp_mem";

/// The lines of a file of ours that are not comments.
fn settings(root: &Root, path: &str) -> Vec<String> {
    let text = fs::read_to_string(root.path(path)).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn carry(root: &Root, findings: &[Finding]) -> Plan {
    let plan = Plan::mending(root, findings).unwrap();
    apply(root, &plan).unwrap();
    plan
}

fn take_back(root: &Root) -> Plan {
    let state = State::load(root).unwrap().expect("something was applied");
    let plan = Plan::reverting(root, &state).unwrap();
    revert(root, &plan, &state).unwrap();
    plan
}

#[test]
fn what_was_applied_is_taken_back_byte_by_byte() {
    let (dir, root) = tree(&[
        (SOMAXCONN_FILE, "128\n"),
        (TCP_MEM_FILE, "1\t2\t3\n"),
        ("/run/systemd/system/here", ""),
        (SYSCTL_FILE, "# mine\nnet.core.somaxconn=256 \n vm.swappiness = 1"),
    ]);
    // The kernel shows lists with tabs; a plain file shows what was written.
    let values = |root: &Root| ["net.core.somaxconn", "net.ipv4.tcp_mem"].map(|key| root.sysctl(key).unwrap());
    let (before, found) = (everything(dir.path()), values(&root));
    let steps = [sysctl(SOMAXCONN, "4096", Kind::Min), sysctl("net.ipv4.tcp_mem", "10 20 30", Kind::AtLeastEach)];
    carry(&root, &[finding(&steps), finding(&[limit(LimitName::Nofile, 5564), limit(LimitName::Memlock, 1 << 20)])]);

    assert_eq!(values(&root), ["4096", "10 20 30"]);
    let lines = ["net.core.somaxconn = 4096", "net.ipv4.tcp_mem = 10 20 30", "vm.swappiness = 1"];
    assert_eq!(settings(&root, SYSCTL_FILE), lines);
    assert_eq!(
        settings(&root, LIMITS_FILE),
        ["* hard nofile 5564", "root hard nofile 5564", "* - memlock 1024", "root - memlock 1024"]
    );
    assert_eq!(settings(&root, UNIT_FILE), ["[Service]", "LimitNOFILE=5564", "LimitMEMLOCK=1048576"]);

    take_back(&root);
    assert_eq!(values(&root), found);
    let sysctls_aside = |mut all: BTreeMap<String, (u32, Option<Vec<u8>>)>| {
        all.retain(|path, _| !path.contains("/proc/sys/net/"));
        all
    };
    assert_eq!(sysctls_aside(everything(dir.path())), sysctls_aside(before));
}

#[test]
fn a_second_apply_adds_and_the_way_back_leads_to_the_beginning() {
    let (_dir, root) = tree(&[(SOMAXCONN_FILE, "128"), (TCP_MEM_FILE, "1 2 3")]);
    carry(&root, &[finding(&[sysctl(SOMAXCONN, "4096", Kind::Min), limit(LimitName::Nofile, 9000)])]);
    carry(&root, &[finding(&[sysctl("net.ipv4.tcp_mem", "4 5 6", Kind::AtLeastEach), limit(LimitName::Nofile, 5000)])]);
    carry(&root, &[finding(&[sysctl(SOMAXCONN, "1024", Kind::Min), sysctl(SOMAXCONN, "16384", Kind::Min)])]);
    assert_eq!(settings(&root, SYSCTL_FILE), ["net.core.somaxconn = 16384", "net.ipv4.tcp_mem = 4 5 6"]);
    assert_eq!(settings(&root, LIMITS_FILE), ["* hard nofile 9000", "root hard nofile 9000"], "no systemd, no unit");
    assert!(!root.exists(UNIT_FILE));
    take_back(&root);
    assert_eq!(root.sysctl(SOMAXCONN).as_deref(), Some("128"));
    assert_eq!(root.sysctl("net.ipv4.tcp_mem").as_deref(), Some("1 2 3"));
    assert!(!root.exists("/etc") && !root.exists("/var"), "directories that were made are gone");
}

#[test]
fn what_others_have_changed_since_is_left() {
    let (_dir, root) = tree(&[(SOMAXCONN_FILE, "128"), (TCP_MEM_FILE, "1 2 3")]);
    carry(&root, &[finding(&[sysctl(SOMAXCONN, "4096", Kind::Min), sysctl("net.ipv4.tcp_mem", "4 5 6", Kind::Exact)])]);
    fs::write(root.path(SOMAXCONN_FILE), "8192").unwrap();
    fs::write(root.path(SYSCTL_FILE), "net.core.somaxconn = 8192\n").unwrap();
    let plan = take_back(&root);
    assert_eq!(plan.left.len(), 2, "{:?}", plan.left);
    assert!(plan.show().contains("# net.core.somaxconn was changed since"), "{}", plan.show());
    assert_eq!(root.sysctl(SOMAXCONN).as_deref(), Some("8192"));
    assert_eq!(root.sysctl("net.ipv4.tcp_mem").as_deref(), Some("1 2 3"));
    assert!(State::load(&root).unwrap().is_some(), "it can be tried again");
}

/// A limit above `fs.nr_open` turns everybody away who logs in.
#[test]
fn no_limit_is_written_while_a_sysctl_cannot_be_set() {
    let (_dir, root) = tree(&[("/proc/sys/fs/nr_open", "1000")]);
    let findings = [finding(&[sysctl("fs.nr_open", "9000", Kind::Min), limit(LimitName::Nofile, 9000)])];
    let plan = Plan::mending(&root, &findings).unwrap();
    fs::remove_file(root.path("/proc/sys/fs/nr_open")).unwrap();
    fs::create_dir(root.path("/proc/sys/fs/nr_open")).unwrap();
    let error = apply(&root, &plan).unwrap_err().to_string();
    assert!(error.contains("nr_open") && error.contains("no file was written"), "{error}");
    assert!(!root.exists(LIMITS_FILE));
}

#[test]
fn a_limit_is_not_lowered_below_what_the_first_process_or_the_unit_has() {
    let limits = "Max open files            1024                 500000               files\n";
    let unit = "[Service]\nLimitNOFILE=1048576\n";
    let (_dir, root) = tree(&[
        ("/proc/1/limits", limits),
        ("/etc/systemd/system/uproar.service", unit),
        ("/run/systemd/system/x", ""),
    ]);
    carry(&root, &[finding(&[limit(LimitName::Nofile, 9000)])]);
    assert_eq!(settings(&root, LIMITS_FILE), ["* hard nofile 500000", "root hard nofile 500000"]);
    assert_eq!(settings(&root, UNIT_FILE), ["[Service]", "LimitNOFILE=1048576"]);
}

#[test]
fn a_state_that_names_what_is_not_ours_is_refused() {
    let state =
        r#"{"files":[{"path":"/etc/cron.d/x","before":"* * * * * root true","after":null}],"sysctls":[],"dirs":[]}"#;
    let (_dir, root) = tree(&[(STATE_FILE, state)]);
    assert!(State::load(&root).unwrap_err().to_string().contains("/etc/cron.d/x"));
}

#[test]
fn what_cannot_be_changed_is_told_and_the_rest_can_be_taken_back() {
    // A directory stands where a sysctl file should be written.
    let (_dir, root) = tree(&[(SOMAXCONN_FILE, "128"), (&format!("{LIMITS_FILE}.d/x"), "")]);
    fs::rename(root.path(&format!("{LIMITS_FILE}.d")), root.path(LIMITS_FILE)).unwrap();
    let findings = [finding(&[sysctl(SOMAXCONN, "4096", Kind::Min)])];
    let mut plan = Plan::mending(&root, &findings).unwrap();
    plan.files.push(FileChange { path: LIMITS_FILE.into(), before: None, after: Some("x".into()) });
    let error = apply(&root, &plan).unwrap_err().to_string();
    assert!(error.contains("not everything") && error.contains(LIMITS_FILE), "{error}");
    assert_eq!(root.sysctl(SOMAXCONN).as_deref(), Some("4096"));
    fs::remove_dir_all(root.path(LIMITS_FILE)).unwrap();
    take_back(&root);
    assert_eq!(root.sysctl(SOMAXCONN).as_deref(), Some("128"));
}

#[test]
fn nothing_is_changed_if_the_state_cannot_be_kept_or_understood() {
    let (dir, root) = tree(&[(SOMAXCONN_FILE, "128"), ("/var/lib", "a file")]);
    let before = everything(dir.path());
    let plan = Plan::mending(&root, &[finding(&[sysctl(SOMAXCONN, "4096", Kind::Min)])]).unwrap();
    let error = apply(&root, &plan).unwrap_err().to_string();
    assert!(error.contains(STATE_FILE), "{error}");
    assert_eq!(everything(dir.path()), before);

    let (dir, root) = tree(&[(SOMAXCONN_FILE, "128"), (STATE_FILE, "{}")]);
    let before = everything(dir.path());
    let error = apply(&root, &plan).unwrap_err().to_string();
    assert!(error.contains("is not understood"), "{error}");
    assert_eq!(everything(dir.path()), before);
}

#[test]
fn a_plan_is_shown_as_a_diff() {
    let (_dir, root) = tree(&[(SOMAXCONN_FILE, "128"), (SYSCTL_FILE, "net.core.somaxconn = 256\nvm.swappiness = 1\n")]);
    let plan = Plan::mending(&root, &[finding(&[sysctl(SOMAXCONN, "4096", Kind::Min)])]).unwrap();
    let shown = plan.show();
    let expected = "-net.core.somaxconn = 256\n+# Written by";
    assert!(shown.starts_with(&format!("--- {SYSCTL_FILE}\n+++ {SYSCTL_FILE}\n{expected}")), "{shown}");
    let end = "+net.core.somaxconn = 4096\n vm.swappiness = 1\nsysctl -w net.core.somaxconn=4096    # now 128\n";
    assert!(shown.ends_with(end), "{shown}");
    let new = FileChange { path: "/a".into(), before: None, after: Some("x\ny\n".into()) };
    assert_eq!(diff::unified(&new), "--- /dev/null\n+++ /a\n+x\n+y\n");
    let gone = FileChange { path: "/a".into(), before: Some("x\ny\n".into()), after: None };
    assert_eq!(diff::unified(&gone), "--- /a\n+++ /dev/null\n-x\n-y\n");
}

/// Every line of both is shown once, in order, by whatever way the two differ.
#[test]
fn a_diff_is_both_texts() {
    use proptest::prelude::*;
    let lines = || proptest::collection::vec("[abc]", 0..12);
    proptest!(|(before in lines(), after in lines())| {
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let change = FileChange { path: "/a".into(), before: Some(text(&before)), after: Some(text(&after)) };
        let shown = diff::unified(&change);
        let of = |marks: [char; 2]| {
            let body = shown.lines().skip(2).filter(|line| line.starts_with(marks));
            body.map(|line| line[1..].to_owned()).collect::<Vec<_>>()
        };
        prop_assert_eq!(of([' ', '-']), before);
        prop_assert_eq!(of([' ', '+']), after);
    });
}
