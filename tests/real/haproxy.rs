//! HAProxy.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::gateway::Port;
use crate::support::environment::require_program;
use crate::support::patience;
use crate::support::program::Program;

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    _program: Program,
    port: Port,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    /// Starts it in front of one server; `None`, visibly, where there is none.
    #[track_caller]
    pub fn in_front_of(test: &str, upstream: SocketAddr) -> Option<Self> {
        Self::with(test, |listen| {
            format!(
                "frontend front\n    bind {listen}\n    default_backend behind\nbackend behind\n    server nginx {upstream}\n"
            )
        })
    }

    /// Starts it with these sections, for the address that it listens on.
    #[track_caller]
    pub fn with(test: &str, sections: impl FnOnce(SocketAddr) -> String) -> Option<Self> {
        let haproxy = require_program(test, "haproxy", "haproxy")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = Port::reserve();
        let configuration = format!(
            "global
    maxconn 200
defaults
    mode http
    timeout connect {time}s
    timeout client {time}s
    timeout server {time}s
{sections}",
            time = patience().as_secs(),
            sections = sections(port.address()),
        );
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, configuration).expect("a file");
        // In the foreground, and one process: when it is killed, nothing is left.
        let mut program = Program::start(Command::new(haproxy).arg("-db").arg("-f").arg(path));
        port.wait_for(&mut program);
        Some(Self { _program: program, port, _folder: folder })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.port.address()
    }
}
