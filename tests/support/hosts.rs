//! A hosts file of the program's own, so that names lead where a test wants.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::environment::find_program;

/// A hosts file, seen in a mount namespace only.
#[derive(Debug)]
pub struct Hosts {
    folder: TempDir,
}

impl Hosts {
    /// With these lines.
    pub fn new(lines: &str) -> Self {
        let hosts = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        hosts.write(lines);
        hosts
    }

    /// With other lines from now on, also for who is in the namespace already.
    pub fn write(&self, lines: &str) {
        // In place: it is the file that is mounted, not its name.
        std::fs::write(self.path(), lines).expect("a temporary file");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// The words that start a program in the namespace.
    pub fn namespace(&self) -> Vec<String> {
        let script = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", self.path().display());
        ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// Why a name does not lead to these addresses there, if so.
    pub fn obstacle(&self, name: &str, addresses: &[&str]) -> Option<&'static str> {
        let namespace = self.namespace();
        let is_asked = || {
            let output = Command::new(&namespace[0]).args(&namespace[1..]).args(["getent", "ahosts", name]).output();
            output.is_ok_and(|output| {
                let found = String::from_utf8_lossy(&output.stdout).into_owned();
                addresses.iter().all(|address| found.contains(address))
            })
        };
        let works = find_program("unshare").is_some() && is_asked();
        (!works).then_some("no mount namespace, or its hosts file is not asked")
    }
}
