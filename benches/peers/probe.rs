//! One exchange at leisure, on a connection of its own: whether a server is up, what it calls its file, and connections
//! that then stay idle.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::channel::{Channel, Memory, READ_BYTES};
use crate::response::{Expected, Reader};
use crate::scenario::Scenario;
use crate::tls::Received;

/// How to reach a server.
pub struct Target {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// How to speak TLS, if that is what it expects.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Asks for the whole body and checks it. Waits at most so long for it.
pub fn exchange(scenario: &Scenario, target: &Target, patience: Duration) -> io::Result<Expected> {
    used(scenario, target, patience).map(|(_, expected)| expected)
}

/// The same, and the connection on which it was done.
pub fn used(scenario: &Scenario, target: &Target, patience: Duration) -> io::Result<(Channel, Expected)> {
    let deadline = Instant::now() + patience;
    let mut channel = Channel::connect(target.port, target.tls.as_ref())?;
    channel.socket().set_read_timeout(Some(patience))?;
    channel.send(&scenario.request())?;
    let mut expected = scenario.whole();
    let mut reader = Reader::new();
    let mut memory = Memory::new();
    loop {
        let count = match channel.read(&mut memory, READ_BYTES)? {
            Received::Bytes(count @ 1..) => count,
            Received::Bytes(0) | Received::Nothing if Instant::now() < deadline => continue,
            Received::Bytes(0) | Received::Nothing => {
                return Err(io::Error::other(format!("no whole answer within {patience:?}")));
            }
            Received::End => return Err(io::Error::other("closed before the answer's end")),
        };
        let read = reader.read(&memory.bytes[..count], &mut expected, true)?;
        match (read.is_end, read.bytes == count) {
            (true, true) => return Ok((channel, expected)),
            (true, false) => return Err(io::Error::other("more bytes than the answer has")),
            (false, _) => {}
        }
    }
}
