//! Where a process's configuration comes from: read at the start, and again with every reload.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::load::{ConfigError, Inputs, Resolved, load};

/// A file, the environment and the flags of this process. The last two stay what they were when it was made.
pub struct Source {
    /// The file, and what named it.
    file: Option<(PathBuf, &'static str)>,
    env: Vec<(String, String)>,
    flags: Vec<(&'static str, String)>,
}

impl Source {
    /// Of this process: with the file that `--config` names, or else `UPROAR_CONFIG`; and with flags, by the names of their
    /// knobs.
    ///
    /// # Errors
    /// A variable that concerns the configuration is not UTF-8.
    pub fn of_process(file: Option<&Path>, flags: Vec<(&'static str, String)>) -> Result<Source, ConfigError> {
        let file = match file {
            Some(path) => Some((path.into(), "--config")),
            None => env::var_os("UPROAR_CONFIG").map(|path| (path.into(), "UPROAR_CONFIG")),
        };
        Ok(Source { file, env: environment()?, flags })
    }

    /// Reads the file and puts the configuration together.
    ///
    /// # Errors
    /// The file cannot be read, or the configuration is not valid; every problem is told.
    pub fn read(&self) -> Result<Resolved, ConfigError> {
        let file = self.file.as_ref().map(|(path, origin)| read_file(path, origin)).transpose()?;
        load(&Inputs { file, env: self.env.clone(), flags: self.flags.clone() })
    }
}

fn read_file(path: &Path, origin: &str) -> Result<(String, String), ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(ConfigError::new(format!("{origin}: cannot read {name:?}: {error}"))),
    }
}

/// The variables that concern the configuration.
fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let text = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok().filter(|name| name == "PORT" || name.starts_with("UPROAR_"))?;
        let problem = format!("{name}: the value is not UTF-8");
        Some(value.into_string().map(|value| (name, value)).map_err(|_| ConfigError::new(problem)))
    };
    env::vars_os().filter_map(text).collect()
}
