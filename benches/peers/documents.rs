//! The folder of files that servers serve: one for each scenario that asks for one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::TempDir;

use crate::scenario::{SCENARIOS, Service};

/// Writes it. The files are on the disk when this returns, so that nothing is written back while something is measured;
/// they are in the page cache too.
pub fn write() -> io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.service == Service::Files) {
        write_synced(&folder.path().join(scenario.name), &scenario.body())?;
    }
    Ok(folder)
}

/// Writes a file that is on the disk when this returns.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
