//! Python's own HTTP server, which speaks HTTP/1.0 and closes after each answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::environment::require_program;
use super::program::Program;

/// `python3 -m http.server` over a temporary folder; killed when dropped.
#[derive(Debug)]
pub struct Python {
    program: Program,
    /// Where it listens.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Python {
    /// Starts it; `None`, visibly, where there is no Python.
    #[track_caller]
    pub fn start(test: &str) -> Option<Self> {
        let python = require_program(test, "python3", "python3")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let words = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"];
        let program = Program::start(Command::new(python).args(words).arg(folder.path()));
        // "Serving HTTP on 127.0.0.1 port 41233 (http://127.0.0.1:41233/) ..."
        let greeting = program.line();
        let port =
            greeting.split_whitespace().skip_while(|word| *word != "port").nth(1).and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("no port in `{greeting}`"));
        Some(Self { program, address: SocketAddr::from(([127, 0, 0, 1], port)), folder })
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.program.kill();
    }
}
