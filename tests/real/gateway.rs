//! The proxy under test.

use std::net::SocketAddr;

use crate::support::program::Program;
use crate::support::upstream::ClosedPort;
use crate::support::{Backend, Launch, Xps, eventually};

/// `xps proxy --http` in front of one upstream.
#[track_caller]
pub fn proxy(backend: Backend, upstream: SocketAddr, flags: &[&str]) -> Xps {
    Launch::new(backend, ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off", "--upstream"])
        .flag(upstream)
        .flags(flags.iter().copied())
        .start()
}

/// A port for a program that cannot say which one the kernel gave it: the port is bound here all the time, so that
/// nobody else gets it, and only the program listens on it. Both may, because both set `SO_REUSEADDR` (socket(7)).
#[derive(Debug)]
pub struct Port(ClosedPort);

impl Port {
    /// A port of 127.0.0.1.
    pub fn reserve() -> Self {
        Self(ClosedPort::new())
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Waits until the program listens there.
    #[track_caller]
    pub fn wait_for(&self, program: &mut Program) {
        eventually("somebody else's server listens", || {
            assert!(program.is_running(), "it has ended: {program}");
            std::net::TcpStream::connect(self.address()).is_ok()
        });
    }
}
