//! What `--apply` changes and `--revert` takes back.
//!
//! Only files under names of our own are written, and only sysctls that a finding names are set. What was there before is
//! kept in a state file, which is written first: whatever happens after that can be taken back.

mod diff;
mod plan;
mod state;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;

use crate::doctor::root::{Root, sysctl_path};

use plan::FileChange;
pub use plan::Plan;
pub use state::State;

/// The sysctls that `--apply` sets when the machine starts.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/60-uproar.conf";
/// The limits that it gives to the service.
pub const UNIT_FILE: &str = "/etc/systemd/system/uproar.service.d/limits.conf";
/// What was there before.
pub const STATE_FILE: &str = "/var/lib/uproar/doctor.json";

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
    /// Some changes were made, and some could not be.
    #[error("not everything could be changed:\n  {}", .0.join("\n  "))]
    Partly(Vec<String>),
}

/// Carries out a plan that mends, once it is known how to take it back.
///
/// # Errors
/// The state cannot be kept: nothing is changed. Or some of the changes cannot be made; the others are.
pub fn apply(root: &Root, plan: &Plan) -> Result<(), ApplyError> {
    let mut state = State::load(root)?.unwrap_or_default();
    state.record(root, plan);
    state.save(root)?;
    let problems = carry_out(root, plan);
    // A sysctl may show its value in another form than it was written in.
    state.observe(root, plan);
    state.save(root)?;
    done(problems)
}

/// Takes back what was applied; what others have changed since then is not in the plan.
///
/// # Errors
/// Some of the changes cannot be taken back. The state is kept, so that it can be tried again.
pub fn revert(root: &Root, plan: &Plan, state: &State) -> Result<(), ApplyError> {
    done(carry_out(root, plan))?;
    state.remove(root)
}

fn done(problems: Vec<String>) -> Result<(), ApplyError> {
    if problems.is_empty() { Ok(()) } else { Err(ApplyError::Partly(problems)) }
}

/// Makes the changes, files first, and returns what went wrong.
fn carry_out(root: &Root, plan: &Plan) -> Vec<String> {
    let files = plan.files.iter().filter_map(|change| write(root, change).err());
    let files: Vec<_> = files.map(|error| error.to_string()).collect();
    let sysctls = plan.sysctls.iter().filter_map(|change| {
        let path = sysctl_path(&change.key);
        let written = fs::write(root.path(&path), format!("{}\n", change.after));
        let error = written.map_err(failed("cannot write", &path)).err()?;
        Some(error.to_string())
    });
    files.into_iter().chain(sysctls).collect()
}

fn write(root: &Root, change: &FileChange) -> Result<(), ApplyError> {
    let path = root.path(&change.path);
    match &change.after {
        Some(text) => {
            let dir = path.parent().map_or(Ok(()), fs::create_dir_all);
            dir.and_then(|()| fs::write(&path, text)).map_err(failed("cannot write", &change.path))
        }
        None => fs::remove_file(&path).map_err(failed("cannot remove", &change.path)),
    }
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
