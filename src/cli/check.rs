//! `xps check`: finds errors in a configuration file, and in what it names on this host.
//!
//! [`read`] checks the file alone and reports all its errors at once, each with line and column. Then
//! the server [looks](crate::core::look) at what the file names, as a start does, and nothing is created.

use super::args::CheckOptions;
use super::failure::Failure;
use super::run::{place, read};
use crate::config::file::Profile;
use crate::config::resolve::resolve;
use crate::core::look::{Findings, look};

/// Checks the file. Prints warnings, returns the problems.
pub fn run(options: &CheckOptions) -> Result<(), Failure> {
    let path = &options.file;
    let file = read(path, Profile::Xps)?;
    let (folder, _) = place(path)?;
    let config = resolve(&file, &folder, 1)?;
    let Findings { problems, warnings } = if options.no_fs { Findings::default() } else { look(&config) };
    let name = path.display();
    for warning in &warnings {
        super::warn(&format!("{name}: {warning}"));
    }
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{name}: {problem}")).collect();
        return Err(Failure::NotHere(lines.join("\n")));
    }
    let routes: usize = file.servers.iter().map(|server| server.routes.len()).sum();
    // Of the resolved configuration: servers may share a listener.
    let (listeners, routes) = (counted(config.listeners.len(), "listener"), counted(routes, "route"));
    super::print(format!("{name}: OK ({listeners}, {routes})\n").as_bytes())
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
