//! The folder of files that servers serve: one for each scenario that asks for one.

use std::fs::File;
use std::io::{self, Write};

use tempfile::TempDir;

use crate::scenario::{SCENARIOS, Service};

/// Writes it. The files are on the disk when this returns, so that nothing is written back while something is measured;
/// they are in the page cache too.
pub fn write() -> io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.service == Service::Files) {
        let mut file = File::create(folder.path().join(scenario.name))?;
        file.write_all(&scenario.body())?;
        file.sync_all()?;
    }
    Ok(folder)
}
