//! `xps run`: serving as a configuration file says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Invocation;
use super::args::{RunOptions, Settings};
use super::failure::Failure;
use super::operate::operate;
use crate::config::build::ConfigBuilder;
use crate::config::file::Profile;
use crate::config::{ServerConfig, file, start};
use crate::driver::limits;

/// Serves, and reads the file anew when it is asked to. What was given on the command line has the last word each time.
pub fn run(options: RunOptions, invocation: &Invocation) -> Result<(), Failure> {
    let profile = options.profile.unwrap_or_default();
    // The way to it, not where that leads now: a link on it may be switched to another release before the next reload.
    let (folder, path) = place(&options.file)?;
    let log = options.log.clone();
    let mut builder = ConfigBuilder::new(&folder);
    let mut is_running = false;
    let mut load = move || -> Result<ServerConfig, Failure> {
        if std::mem::replace(&mut is_running, true) {
            refuse_pipe(&path)?;
        }
        let mut file = read(&path, profile)?;
        options.apply(&mut file);
        Ok(builder.server(&file, limits::usable_cpus())?)
    };
    let config = load()?;
    operate(config, &log, &[], Some(Box::new(load)), invocation)
}

/// A pipe has been read to its end at the start. To wait for more would hold up everything else, the end included.
fn refuse_pipe(path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Config { path: path.to_owned(), error };
    if path.metadata().map_err(failed)?.is_file() {
        return Ok(());
    }
    Err(failed(io::Error::other("not a regular file, so it can only be read at the start")))
}

/// Has logs neither opened nor made.
pub fn without_logs(file: &mut file::File) {
    file.access_log = file::AccessTarget::Off;
    for server in &mut file.servers {
        server.access_log = None;
    }
}

/// The folder that a file is in, and the file, both from the top and with no link resolved.
pub fn place(path: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let whole = start::absolute(path).map_err(|error| Failure::Config { path: path.to_owned(), error })?;
    let folder = whole.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((folder, whole))
}

/// Reads a file, or says everything that is wrong with it. The profile holds where it names none.
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
