//! What can be said of the options before anything is connected: a run of minutes should not end with a file that cannot be
//! written.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::ring::sys;

use super::message;
use super::observe::Process;
use super::options::Mode;
use super::{Result, Usage};

/// Checks sizes, CPUs, files and the server's process.
///
/// # Errors
/// [`Usage`]: which option names something that cannot be, or is not there.
pub fn check(mode: &Mode) -> Result<()> {
    let common = mode.common();
    mode.payload().map_or(Ok(()), message::check_size)?;
    check_cpus(&common.cpus, &sys::allowed_cpus()?)?;
    for (option, file) in [("--json", &common.json), ("--html", &common.html)] {
        let Some(file) = file.as_deref().filter(|file| option != "--json" || *file != Path::new("-")) else { continue };
        writable(file).map_err(|error| Usage(format!("{option} {}: {error}", file.display())))?;
    }
    let server = common.server_pid.map(Process::new).transpose();
    server.map(drop).map_err(|error| Usage(format!("--server-pid: {error}")).into())
}

fn check_cpus(wanted: &[usize], allowed: &[usize]) -> Result<()> {
    let Some(missing) = wanted.iter().find(|cpu| !allowed.contains(cpu)) else { return Ok(()) };
    let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
    Usage::error(format!(
        "--cpus: there is no CPU {missing} here, or it may not be used; there are {}",
        allowed.join(",")
    ))
}

/// Whether a file can be written. What is in it stays, and one that is not there still is not afterwards.
fn writable(file: &Path) -> io::Result<()> {
    match fs::metadata(file) {
        // Who waits at the other end of a pipe would take this for all that comes.
        Ok(meta) if !meta.is_file() && !meta.is_dir() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(file).map(drop),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match OpenOptions::new().write(true).create_new(true).open(file) {
                Ok(_) => fs::remove_file(file),
                // A link to what is not there yet.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (there, not_there) = (dir.path().join("there"), dir.path().join("not there"));
        fs::write(&there, "text").unwrap();
        assert!(writable(&there).is_ok() && writable(&not_there).is_ok());
        assert_eq!(fs::read_to_string(&there).unwrap(), "text");
        assert!(!not_there.exists());
        assert!(writable(dir.path()).is_err() && writable(&there.join("below")).is_err());
        assert_eq!(writable(&dir.path().join("no/file")).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(writable(Path::new("/dev/null")).is_ok());
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        assert!(check_cpus(&[], &[1]).is_ok() && check_cpus(&[3, 1, 3], &[1, 3]).is_ok());
        let error = check_cpus(&[1, 2], &[1, 3]).unwrap_err();
        assert!(error.is::<Usage>());
        assert_eq!(error.to_string(), "--cpus: there is no CPU 2 here, or it may not be used; there are 1,3");
    }
}
