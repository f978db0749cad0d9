//! Reads below a root: `/` of this machine, or a tree that a test has made.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// Where `/proc`, `/sys`, `/etc` and `/var` are looked for.
///
/// Nothing that is read has to be there, or make sense: what cannot be read or understood is `None`.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// A root at that directory.
    pub fn new(directory: PathBuf) -> Root {
        Root(directory)
    }

    /// Whether it is the machine's own.
    pub fn is_real(&self) -> bool {
        self.0.as_os_str() == "/"
    }

    /// Where the file of that absolute path is.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// Whether there is a file or directory of that path.
    pub fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).exists()
    }

    /// The text of a file, without white space at its ends.
    pub fn text(&self, absolute: &str) -> Option<String> {
        fs::read_to_string(self.path(absolute)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that holds one number, or another thing that can be parsed.
    pub fn parse<T: FromStr>(&self, absolute: &str) -> Option<T> {
        self.text(absolute)?.parse().ok()
    }

    /// The names in a directory, in order; none if it cannot be read.
    pub fn names(&self, absolute: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(absolute)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// A sysctl's value, its fields one space apart.
    pub fn sysctl(&self, key: &str) -> Option<String> {
        self.text(&sysctl_path(key)).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// `net.core.somaxconn` → `/proc/sys/net/core/somaxconn`.
pub fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}
