//! How findings are shown: as text for people, as JSON for programs.

use serde::Serialize;

use super::apply::SYSCTL_FILE;
use super::finding::{Finding, Mend, Severity, bytes, grouped};
use super::machine::Machine;
use super::wanted::Wanted;

/// Columns that text is wrapped at; commands are not.
const WIDTH: usize = 120;

/// What was looked at, and what was found.
pub struct Report<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What was wanted of it.
    pub wanted: &'a Wanted,
    /// What was found.
    pub findings: &'a [Finding],
}

impl Report<'_> {
    /// The worst of the findings.
    pub fn severity(&self) -> Severity {
        self.findings.iter().map(|finding| finding.verdict.severity).max().unwrap_or(Severity::Fine)
    }

    /// A line for what is fine, a paragraph for what is not, the worst last; then how many of each.
    pub fn text(&self, colour: bool) -> String {
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|finding| finding.verdict.severity);
        let width = findings.iter().map(|finding| finding.id.len()).max().unwrap_or(0);
        let shown = findings.iter().map(|finding| show(finding, width, colour));
        format!("{}\n\n{}\n{}", self.title(), shown.collect::<String>(), self.summary())
    }

    fn title(&self) -> String {
        let kernel = self.machine.release.as_deref().unwrap_or("of an unknown version");
        let cpus = self.machine.cpus.online.len();
        let memory = self.machine.memory.map_or("unknown".to_owned(), |memory| bytes(memory.total));
        let (connections, shards) = (grouped(self.wanted.connections), self.wanted.shards);
        let latency = if self.wanted.latency { ", at the lowest latency" } else { "" };
        format!(
            "Linux {kernel}, CPUs: {cpus}, memory: {memory}; for {connections} connections, shards: {shards}{latency}"
        )
    }

    fn summary(&self) -> String {
        let count = |severity| self.findings.iter().filter(|finding| finding.verdict.severity == severity).count();
        let mut text = format!(
            "{} must be changed, {} should be; {} are fine, {} cannot be told.\n",
            count(Severity::Must),
            count(Severity::Should),
            count(Severity::Fine),
            count(Severity::Unknown)
        );
        let automatic =
            self.findings.iter().filter(|finding| finding.verdict.mend.iter().any(Mend::is_automatic)).count();
        if automatic > 0 {
            text.push_str(&format!(
                "--apply changes {automatic} of them by itself, as root, and shows first how.\n\
                 What it sets with `sysctl -w` it also writes into {SYSCTL_FILE}, for later starts.\n"
            ));
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Json<'a> {
            connections: u64,
            shards: u64,
            port: u16,
            latency: bool,
            kernel: Option<&'a str>,
            cpus: usize,
            memory: Option<u64>,
            severity: Severity,
            findings: &'a [Finding],
        }
        let json = Json {
            connections: self.wanted.connections,
            shards: self.wanted.shards,
            port: self.wanted.port,
            latency: self.wanted.latency,
            kernel: self.machine.release.as_deref(),
            cpus: self.machine.cpus.online.len(),
            memory: self.machine.memory.map(|memory| memory.total),
            severity: self.severity(),
            findings: self.findings,
        };
        // It has no maps with keys that are not text, so nothing can fail.
        serde_json::to_string_pretty(&json).unwrap_or_default() + "\n"
    }
}

fn show(finding: &Finding, width: usize, colour: bool) -> String {
    let verdict = &finding.verdict;
    let (word, code) = match verdict.severity {
        Severity::Fine => ("fine", "32"),
        Severity::Unknown => ("?", "36"),
        Severity::Should => ("should", "33"),
        Severity::Must => ("MUST", "1;31"),
    };
    let mark = if colour { format!("\x1b[{code}m{word:6}\x1b[0m") } else { format!("{word:6}") };
    let indent = width + 10;
    let mut text = format!("{mark}  {:width$}  {}\n", finding.id, wrap(&verdict.found, indent));
    let mut part = |name: &str, words: String| text.push_str(&format!("{:indent$}{name:6}  {words}\n", ""));
    if let Some(wanted) = &verdict.wanted {
        part("wanted", wrap(wanted, indent + 8));
    }
    if let Some(why) = &verdict.why {
        part("why", wrap(why, indent + 8));
    }
    for step in &verdict.mend {
        for line in step.lines() {
            part("mend", if matches!(step, Mend::Advice(_)) { wrap(&line, indent + 8) } else { line });
        }
    }
    if verdict.severity >= Severity::Should {
        part("see", finding.see.clone());
    }
    text
}

/// Breaks a text into lines that end before [`WIDTH`], all but the first behind an indent.
fn wrap(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent).max(40);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join(&format!("\n{:indent$}", ""))
}
