//! `xps reload`: a signal to a process that is meant to get it, and to no other.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::args::ReloadOptions;
use super::failure::Failure;
use crate::driver::signals;

/// Why a process is not asked to reload.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It would not read a file, or die of the signal.
    #[error("process {pid} ({name}) is not sent SIGHUP: {reason}")]
    Refused {
        /// Which.
        pid: i32,
        /// What it calls itself.
        name: String,
        /// Why not.
        reason: String,
    },
    /// What it is cannot be found out.
    #[error("process {pid} is not sent SIGHUP: what it is cannot be found out without /proc: {error}")]
    Unknown {
        /// Which.
        pid: i32,
        /// Why not.
        error: io::Error,
    },
    /// The signal was not delivered.
    #[error("cannot signal process {pid}: {error}")]
    Signal {
        /// Which.
        pid: i32,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Asks a process to read its configuration anew, if it is one that does.
pub fn run(options: &ReloadOptions) -> Result<(), Failure> {
    let pid = options.pid;
    if !options.force {
        examine(Path::new("/proc"), pid)?;
    }
    signals::ask_to_reload(pid).map_err(|error| ReloadError::Signal { pid, error }.into())
}

/// Holds that the process is one of this program's that catches the signal. One that is not there is the signal's to tell of.
fn examine(proc: &Path, pid: i32) -> Result<(), ReloadError> {
    // Whether there is a proc at all: of a process that hides (hidepid in proc(5)) and of one that is not, it says the same.
    if let Err(error) = fs::read(proc.join("self/status")) {
        return Err(ReloadError::Unknown { pid, error });
    }
    let folder = proc.join(pid.to_string());
    let status = match fs::read_to_string(folder.join("status")) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ReloadError::Unknown { pid, error }),
    };
    let name = field(&status, "Name:").unwrap_or_default().to_owned();
    let refused = |reason: &str| Err(ReloadError::Refused { pid, name: name.clone(), reason: reason.to_owned() });
    if !is_this_program(&folder, &name) {
        return refused("it is not xps");
    }
    match field(&status, "SigCgt:").and_then(|mask| u64::from_str_radix(mask, 16).ok()) {
        Some(caught) if caught & HANGUP == 0 => refused("it reads no configuration file, as `xps run` does"),
        Some(_) => Ok(()),
        None => {
            let error = io::Error::new(io::ErrorKind::InvalidData, "no SigCgt in its status");
            Err(ReloadError::Unknown { pid, error })
        }
    }
}

/// SIGHUP, which is 1, in a mask of signals.
const HANGUP: u64 = 1;

/// By the file it was started from, or, where that may not be looked at, by its name. A program that was replaced since is
/// called by its old path and " (deleted)".
fn is_this_program(folder: &Path, name: &str) -> bool {
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(program);
    match fs::read_link(folder.join("exe")) {
        Ok(path) => own.is_some() && program(&path) == own,
        // As a kernel cuts it (prctl(2), PR_SET_NAME).
        Err(_) => own.is_some_and(|own| !name.is_empty() && own.as_bytes().starts_with(name.as_bytes())),
    }
}

/// The name of a program's file.
fn program(path: &Path) -> Option<&OsStr> {
    const DELETED: &[u8] = b" (deleted)";
    let name = path.file_name()?.as_bytes();
    Some(OsStr::from_bytes(name.strip_suffix(DELETED).unwrap_or(name)))
}

/// What follows a name in proc(5)'s status.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A `/proc` with one process of this name, started from `exe`, if that may be seen, which catches these signals.
    fn proc(exe: Option<&Path>, name: &str, caught: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for process in ["self", "7"] {
            let folder = proc.path().join(process);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("status"), format!("Name:\t{name}\nSigCgt:\t{caught}\n")).unwrap();
            if let Some(exe) = exe {
                std::os::unix::fs::symlink(exe, folder.join("exe")).unwrap();
            }
        }
        proc
    }

    /// What is said of it; empty: nothing is held against it.
    fn complaint(proc: &tempfile::TempDir) -> String {
        examine(proc.path(), 7).err().map(|error| error.to_string()).unwrap_or_default()
    }

    const CAUGHT: &str = "0000000000000001";

    #[test]
    fn this_program_is_asked_also_after_its_file_was_replaced() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(complaint(&proc(Some(&own), "any", CAUGHT)), "");
        let replaced = PathBuf::from(format!("/elsewhere/{} (deleted)", own.file_name().unwrap().to_str().unwrap()));
        assert_eq!(complaint(&proc(Some(&replaced), "any", CAUGHT)), "");
    }

    #[test]
    fn where_the_file_may_not_be_seen_the_name_decides() {
        let own = std::env::current_exe().unwrap();
        let name: String = own.file_name().unwrap().to_str().unwrap().chars().take(15).collect();
        assert_eq!(complaint(&proc(None, &name, CAUGHT)), "");
        assert!(complaint(&proc(None, "nginx", CAUGHT)).contains("(nginx)"));
    }

    #[test]
    fn others_and_those_that_would_die_are_left_alone() {
        let own = std::env::current_exe().unwrap();
        assert!(complaint(&proc(Some(Path::new("/bin/sleep")), "sleep", CAUGHT)).contains("not xps"));
        assert!(complaint(&proc(Some(&own), "any", "0000000000004002")).contains("no configuration file"));
    }

    #[test]
    fn without_proc_it_says_so() {
        let nothing = tempfile::tempdir().unwrap();
        assert!(complaint(&nothing).contains("without /proc"));
    }
}
