//! `xps reload`: has a server reload its configuration, by its admin socket ([`ctl`]), which tells the
//! result, or by SIGHUP, after checking that the process is an xps that catches it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::args::ReloadOptions;
use super::ctl::{self, ControlError};
use super::failure::Failure;
use super::run::{place, read};
use crate::config::file::Profile;
use crate::driver::signals;

/// Why the signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The process is not xps, or the signal would end it.
    #[error("not sending SIGHUP to process {pid} ({name}): {reason}")]
    Refused { pid: i32, name: String, reason: String },
    /// The process cannot be identified.
    #[error("not sending SIGHUP to process {pid}: cannot identify it without /proc: {error}")]
    Unknown { pid: i32, error: io::Error },
    /// The kernel refused to deliver the signal.
    #[error("cannot signal process {pid}: {error}")]
    Signal { pid: i32, error: io::Error },
}

/// Asks the server, if its admin socket is known, or signals it.
pub fn run(options: &ReloadOptions) -> Result<(), Failure> {
    if let Some(socket) = &options.socket {
        return ctl::reload(socket);
    }
    let Some(config) = &options.config else {
        return match options.pid {
            Some(pid) => signal(pid, options),
            None => ctl::reload(Path::new(ctl::DEFAULT_SOCKET)),
        };
    };
    let (folder, _) = place(config)?;
    let file = read(config, Profile::Xps)?;
    let pid = || match (options.pid, &file.pid_file) {
        (Some(pid), _) => Ok(Some(pid)),
        (None, Some(path)) => pid_in(&folder.join(path)).map(Some),
        (None, None) => Ok(None),
    };
    match &file.admin {
        Some(admin) => match ctl::reload(&folder.join(&admin.unix)) {
            // A server whose file had no `admin` so far has no socket: this reload makes it.
            Err(failure @ Failure::Control(ControlError::Unreachable { .. })) => match pid() {
                Ok(Some(pid)) => {
                    super::warn(&format!("{failure}; sending SIGHUP to process {pid}"));
                    signal(pid, options)
                }
                Ok(None) | Err(_) => Err(failure),
            },
            result => result,
        },
        None => match pid()? {
            Some(pid) => signal(pid, options),
            None => {
                let name = config.display();
                Err(Failure::Usage(format!(
                    "{name} has neither `admin` nor `pid_file`: name the process or the socket"
                )))
            }
        },
    }
}

/// The process ID in a file.
fn pid_in(path: &Path) -> Result<i32, Failure> {
    let failed = |error| Failure::Config { path: path.to_owned(), error };
    let text = fs::read_to_string(path).map_err(failed)?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "it holds no process ID")))
}

/// Sends SIGHUP to the process, which makes it reload its configuration.
fn signal(pid: i32, options: &ReloadOptions) -> Result<(), Failure> {
    if !options.force {
        examine(Path::new("/proc"), pid)?;
    }
    signals::ask_to_reload(pid).map_err(|error| ReloadError::Signal { pid, error }.into())
}

/// Checks that the process runs this program and catches the signal. A process that does not exist
/// passes: `kill(2)` reports it.
fn examine(proc: &Path, pid: i32) -> Result<(), ReloadError> {
    // First check that /proc is mounted: a hidden process (hidepid, proc(5)) and one that does not
    // exist cause the same error.
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
        Some(caught) if caught & HANGUP == 0 => refused("it reads no configuration file; only `xps run` does"),
        Some(_) => Ok(()),
        None => {
            let error = io::Error::new(io::ErrorKind::InvalidData, "no SigCgt in its status");
            Err(ReloadError::Unknown { pid, error })
        }
    }
}

/// SIGHUP (signal 1) in a signal mask.
const HANGUP: u64 = 1;

/// Compares the file that the process was started from, or, if that is not readable, its name. If the
/// file was replaced since, the link has " (deleted)" after the old path.
fn is_this_program(folder: &Path, name: &str) -> bool {
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(program);
    match fs::read_link(folder.join("exe")) {
        Ok(path) => own.is_some() && program(&path) == own,
        // The kernel truncates the name (prctl(2), PR_SET_NAME), so a prefix is compared.
        Err(_) => own.is_some_and(|own| !name.is_empty() && own.as_bytes().starts_with(name.as_bytes())),
    }
}

/// The file name of a program, without " (deleted)".
fn program(path: &Path) -> Option<&OsStr> {
    const DELETED: &[u8] = b" (deleted)";
    let name = path.file_name()?.as_bytes();
    Some(OsStr::from_bytes(name.strip_suffix(DELETED).unwrap_or(name)))
}

/// The value of a field of /proc/PID/status (proc(5)).
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A `/proc` with one process of this name that catches these signals. `exe` is the file that it
    /// was started from; `None` if that is not readable.
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

    /// The error of `examine`, or an empty text.
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
