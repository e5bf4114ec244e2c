//! A program that waits for a reader at a FIFO. Whoever opens the FIFO wakes it; if it is closed again, the program dies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::environment::eventually;
use super::process::wait_for_exit;

/// A writer at a FIFO.
#[derive(Debug)]
pub struct WaitingWriter {
    process: Child,
    fifo: PathBuf,
    /// A file that it makes when the FIFO is open.
    opened: PathBuf,
    _folder: tempfile::TempDir,
}

impl WaitingWriter {
    /// What it writes once somebody reads.
    pub const TEXT: &str = "data\n";

    /// Makes the FIFO if it is not there, and returns when the writer waits.
    #[track_caller]
    pub fn at(fifo: &Path) -> Self {
        if !fifo.exists() {
            let made = Command::new("mkfifo").arg(fifo).status().expect("mkfifo starts");
            assert!(made.success(), "mkfifo: {made}");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (ready, opened) = (folder.path().join("ready"), folder.path().join("opened"));
        let script = r#": > "$2"; exec 3> "$1"; : > "$3"; echo data >&3"#;
        let process = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([fifo, &ready, &opened])
            .stdin(Stdio::null())
            .spawn()
            .expect("sh starts");
        let writer = Self { process, fifo: fifo.to_owned(), opened, _folder: folder };
        eventually("the writer waits", || ready.exists() && writer.is_asleep());
        writer
    }

    /// Nobody has opened the FIFO.
    #[track_caller]
    pub fn assert_waits(&self) {
        // Who is woken can run from that moment on (proc(5)), and has either made the file or died when it sleeps next.
        eventually("the writer is asleep or gone", || self.is_asleep() || self.is_gone());
        assert!(!self.opened.exists() && !self.is_gone(), "somebody has opened the FIFO");
    }

    /// Reads what it writes.
    #[track_caller]
    pub fn finish(mut self) -> String {
        let text = fs::read_to_string(&self.fifo).expect("the writer waits");
        let status = wait_for_exit(&mut self.process, super::patience()).expect("it has written");
        assert!(status.success(), "{status}");
        text
    }

    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // The name in brackets may hold anything (proc(5)).
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    fn is_asleep(&self) -> bool {
        self.state() == Some('S')
    }

    fn is_gone(&self) -> bool {
        matches!(self.state(), None | Some('Z' | 'X'))
    }
}

impl Drop for WaitingWriter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
