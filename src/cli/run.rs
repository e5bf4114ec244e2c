//! `xps run`: serves with a configuration file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Invocation;
use super::args::{RunOptions, Settings};
use super::failure::Failure;
use super::operate::operate;
use crate::config::file::Profile;
use crate::config::resolve::resolve;
use crate::config::{ServerConfig, file, start};
use crate::driver::limits;

/// Serves, and reads the file again on request. Options of the command line override the file each
/// time.
pub fn run(options: RunOptions, invocation: &Invocation) -> Result<(), Failure> {
    let profile = options.profile.unwrap_or_default();
    // The path with its links unresolved: a link may be switched to another release before a reload.
    let (folder, path) = place(&options.file)?;
    let log = options.log.clone();
    let mut is_running = false;
    let mut load = move || -> Result<ServerConfig, Failure> {
        if std::mem::replace(&mut is_running, true) {
            refuse_pipe(&path)?;
        }
        let mut file = read(&path, profile)?;
        options.apply(&mut file);
        let mut config = resolve(&file, &folder, limits::usable_cpus())?;
        config.operator.file = Some(path.clone());
        Ok(config)
    };
    let config = load()?;
    operate(config, &log, &[], Some(Box::new(load)), invocation)
}

/// A pipe was read to its end at the start. Waiting for more would block the whole process, signals
/// included.
fn refuse_pipe(path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Config { path: path.to_owned(), error };
    if path.metadata().map_err(failed)?.is_file() {
        return Ok(());
    }
    Err(failed(io::Error::other("not a regular file, so it can be read only once, at the start")))
}

/// The folder of a file, and the file, as absolute paths without resolving links.
pub fn place(path: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let whole = start::absolute(path).map_err(|error| Failure::Config { path: path.to_owned(), error })?;
    let folder = whole.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((folder, whole))
}

/// Reads a file. The error lists all its problems. `profile` applies if the file names none.
pub fn read(path: &Path, profile: Profile) -> Result<file::File, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::Config { path: path.to_owned(), error })?;
    file::parse_with(&text, profile).map_err(|problems| {
        let name = path.display().to_string();
        let mut all: String = problems.iter().map(|problem| format!("{}\n\n", problem.in_file(&name))).collect();
        let count = problems.len();
        all.push_str(&format!("{name}: {count} {}", if count == 1 { "problem" } else { "problems" }));
        Failure::Problems(all)
    })
}
