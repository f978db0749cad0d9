//! What `--apply` changes and `--revert` takes back.
//!
//! Only files under names of our own are written, and only sysctls that a finding names are set. What was there before is
//! kept in a state file, which is written first: whatever happens after that can be taken back.

mod diff;
mod plan;
mod state;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::doctor::root::{Root, sysctl_path};

use plan::FileChange;
pub use plan::Plan;
pub use state::State;

/// The sysctls that `--apply` sets when the machine starts.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/60-uproar.conf";
/// The limits that it gives to the service.
pub const UNIT_FILE: &str = "/etc/systemd/system/uproar.service.d/limits.conf";
/// What was there before.
///
/// Not below a directory of the service's: whoever can write it decides what root takes back.
pub const STATE_FILE: &str = "/var/lib/uproar-doctor.json";

/// Why nothing, or not all, could be changed.
#[derive(thiserror::Error, Debug)]
pub enum ApplyError {
    /// A file could not be read or written.
    #[error("{doing} {path}: {source}{}", hint(.source))]
    File {
        /// What was being done: `cannot write`.
        doing: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The state file is not one of ours.
    #[error("{STATE_FILE} is not understood: {0}")]
    State(serde_json::Error),
    /// The state file names what is never changed.
    #[error("{STATE_FILE} names {0}, which uproar doctor never changes: it is not ours")]
    Foreign(String),
    /// Some changes were made, and some could not be.
    #[error("not everything could be changed:\n  {}", .0.join("\n  "))]
    Partly(Vec<String>),
}

/// Carries out a plan that mends, once it is known how to take it back.
///
/// # Errors
/// The state cannot be kept: nothing is changed. Or some of the sysctls cannot be set: the others are, and no file is
/// written, since a limit above `fs.nr_open` would turn everybody away who logs in. Or some of the files cannot be written.
pub fn apply(root: &Root, plan: &Plan) -> Result<(), ApplyError> {
    let mut state = State::load(root)?.unwrap_or_default();
    state.record(root, plan);
    state.save(root)?;
    let mut problems = set(root, plan);
    if problems.is_empty() {
        problems = write_all(root, plan);
    } else if !plan.files.is_empty() {
        problems.push("so no file was written".into());
    }
    // A sysctl may show its value in another form than it was written in, and what failed has not changed.
    state.observe(root, plan);
    state.save(root)?;
    done(problems)
}

/// Takes back what was applied; what others have changed since then is not in the plan.
///
/// # Errors
/// Some of the changes cannot be taken back. The state is kept, so that it can be tried again. While a file could not be
/// taken back, no sysctl is: it may have a limit that needs it.
pub fn revert(root: &Root, plan: &Plan, state: &State) -> Result<(), ApplyError> {
    done(write_all(root, plan))?;
    done(set(root, plan))?;
    if plan.left.is_empty() { state.remove(root) } else { Ok(()) }
}

fn done(problems: Vec<String>) -> Result<(), ApplyError> {
    if problems.is_empty() { Ok(()) } else { Err(ApplyError::Partly(problems)) }
}

/// Sets the sysctls, and returns what went wrong.
fn set(root: &Root, plan: &Plan) -> Vec<String> {
    let failures = plan.sysctls.iter().filter_map(|change| {
        let path = sysctl_path(&change.key);
        let written = fs::write(root.path(&path), format!("{}\n", change.after));
        Some(written.map_err(failed("cannot write", &path)).err()?.to_string())
    });
    failures.collect()
}

/// Writes the files, and returns what went wrong.
fn write_all(root: &Root, plan: &Plan) -> Vec<String> {
    let failures = plan.files.iter().filter_map(|change| write(root, change).err());
    failures.map(|error| error.to_string()).collect()
}

fn write(root: &Root, change: &FileChange) -> Result<(), ApplyError> {
    let path = root.path(&change.path);
    match &change.after {
        Some(text) => replace(&path, text).map_err(failed("cannot write", &change.path)),
        None => fs::remove_file(&path).map_err(failed("cannot remove", &change.path)),
    }
}

/// Writes a file in full or not at all, and the directories above it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}

fn failed(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> ApplyError {
    let path = path.to_owned();
    move |source| ApplyError::File { doing, path, source }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root, in a container on its host",
        io::ErrorKind::ReadOnlyFilesystem => "; in a container, do it on its host",
        _ => "",
    }
}
