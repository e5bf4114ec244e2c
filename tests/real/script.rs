//! Servers written for these tests, in languages that bring HTTP along. They lie beside this file, listen on a port of
//! the kernel's choice, and begin with a line that says which.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::support::environment::require_program;
use crate::support::program::Program;

/// A running script.
#[derive(Debug)]
pub struct Script {
    program: Program,
    address: SocketAddr,
}

impl Script {
    /// A script in Python; `None`, visibly, where there is no Python.
    #[track_caller]
    pub fn python(test: &str, name: &str, arguments: &[&str]) -> Option<Self> {
        let python = require_program(test, "python3", "python3")?;
        Some(Self::start(Command::new(python).arg("-u").arg(path(name)).args(arguments)))
    }

    /// A script for Node.js; `None`, visibly, where there is none.
    #[track_caller]
    pub fn node(test: &str, name: &str) -> Option<Self> {
        let node = require_program(test, "node", "nodejs")?;
        Some(Self::start(Command::new(node).arg(path(name))))
    }

    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let program = Program::start(command);
        let line = program.line();
        let port: u16 = line.parse().unwrap_or_else(|_| panic!("no port: `{line}`"));
        Self { program, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next line that it says, which must come.
    #[track_caller]
    pub fn line(&self) -> String {
        self.program.line()
    }
}

/// Where a script lies.
pub fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "real", name].iter().collect()
}
