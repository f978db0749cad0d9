//! What was there before anything was applied.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, current};
use super::{ApplyError, STATE_FILE, SYSCTL_FILE, UNIT_FILE, failed, replace};
use crate::doctor::checks;
use crate::doctor::machine::LIMITS_FILE;
use crate::doctor::root::Root;

/// The files that are ever written.
const OUR_FILES: [&str; 3] = [SYSCTL_FILE, UNIT_FILE, LIMITS_FILE];

/// What the first `--apply` found and the last one left, so that `--revert` goes back to the very beginning.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct State {
    /// Files that were written.
    pub files: Vec<SavedFile>,
    /// Sysctls that were set.
    pub sysctls: Vec<SavedSysctl>,
    /// Directories that were made for them, the inner ones last.
    pub dirs: Vec<String>,
}

/// A file's text; `None` where there was no such file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct SavedFile {
    /// Its absolute path.
    pub path: String,
    /// Its text before the first change.
    pub before: Option<String>,
    /// Its text after the last.
    pub after: Option<String>,
}

/// A sysctl's value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct SavedSysctl {
    /// Its name.
    pub key: String,
    /// Its value before the first change.
    pub before: String,
    /// Its value after the last.
    pub after: String,
}

impl State {
    /// The state that was kept, if something was applied and not taken back.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood, or names what is none of ours.
    pub fn load(root: &Root) -> Result<Option<State>, ApplyError> {
        let Some(text) = current(root, STATE_FILE)? else { return Ok(None) };
        let state: State = serde_json::from_str(&text).map_err(ApplyError::State)?;
        let files = state.files.iter().map(|file| &file.path);
        let foreign_file = files.into_iter().find(|path| !OUR_FILES.contains(&path.as_str()));
        let foreign_key = state.sysctls.iter().map(|sysctl| &sysctl.key).find(|key| !checks::may_set(key));
        match foreign_file.or(foreign_key) {
            Some(name) => Err(ApplyError::Foreign(name.clone())),
            None => Ok(Some(state)),
        }
    }

    /// Adds what a plan is about to change. What was noted as the beginning stays so.
    pub fn record(&mut self, root: &Root, plan: &Plan) {
        for change in &plan.files {
            match self.files.iter_mut().find(|file| file.path == change.path) {
                Some(file) => file.after.clone_from(&change.after),
                None => {
                    self.note_missing_dirs(root, &change.path);
                    let (path, before, after) = (change.path.clone(), change.before.clone(), change.after.clone());
                    self.files.push(SavedFile { path, before, after });
                }
            }
        }
        for change in &plan.sysctls {
            match self.sysctls.iter_mut().find(|sysctl| sysctl.key == change.key) {
                Some(sysctl) => sysctl.after.clone_from(&change.after),
                None => {
                    let (key, before, after) = (change.key.clone(), change.before.clone(), change.after.clone());
                    self.sysctls.push(SavedSysctl { key, before, after });
                }
            }
        }
    }

    /// Notes what files and sysctls are now that a plan was carried out, as far as it was.
    pub fn observe(&mut self, root: &Root, plan: &Plan) {
        for file in &mut self.files {
            let changed = plan.files.iter().any(|change| change.path == file.path);
            // What cannot be read was not written either.
            if let (true, Ok(text)) = (changed, current(root, &file.path)) {
                file.after = text;
            }
        }
        for sysctl in &mut self.sysctls {
            if plan.sysctls.iter().any(|change| change.key == sysctl.key) {
                sysctl.after = root.sysctl(&sysctl.key).unwrap_or_default();
            }
        }
    }

    /// Writes the state, in full or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&mut self, root: &Root) -> Result<(), ApplyError> {
        self.note_missing_dirs(root, STATE_FILE);
        let text = serde_json::to_string_pretty(self).map_err(ApplyError::State)?;
        replace(&root.path(STATE_FILE), &text).map_err(failed("cannot write", STATE_FILE))
    }

    /// Removes the state, and the directories that were made and are empty now.
    ///
    /// # Errors
    /// The state cannot be removed.
    pub fn remove(&self, root: &Root) -> Result<(), ApplyError> {
        fs::remove_file(root.path(STATE_FILE)).map_err(failed("cannot remove", STATE_FILE))?;
        for dir in self.dirs.iter().rev() {
            // Others may have put something there: then it stays.
            let _ = fs::remove_dir(root.path(dir));
        }
        Ok(())
    }

    /// Notes the directories above a path that are not there yet, outer ones first.
    fn note_missing_dirs(&mut self, root: &Root, path: &str) {
        let above: Vec<_> = Path::new(path).ancestors().skip(1).filter_map(Path::to_str).collect();
        for dir in above.into_iter().rev().filter(|dir| !root.exists(dir)) {
            if !self.dirs.iter().any(|noted| noted == dir) {
                self.dirs.push(dir.to_owned());
            }
        }
    }
}
