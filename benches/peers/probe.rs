//! One exchange at leisure, on a connection of its own: whether a server is up, what it calls its file, and connections
//! that then stay idle.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::response::{Expected, Reader};
use crate::scenario::Scenario;

/// Asks for the whole body and checks it. Waits at most so long for each piece.
pub fn exchange(scenario: &Scenario, port: u16, patience: Duration) -> io::Result<Expected> {
    used(scenario, port, patience).map(|(_, expected)| expected)
}

/// The same, and the connection on which it was done.
pub fn used(scenario: &Scenario, port: u16, patience: Duration) -> io::Result<(TcpStream, Expected)> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(patience))?;
    socket.write_all(&scenario.request())?;
    let mut expected = scenario.whole();
    let mut reader = Reader::new();
    let mut memory = vec![0; 64 << 10];
    loop {
        let count = socket.read(&mut memory)?;
        if count == 0 {
            return Err(io::Error::other("closed before the answer's end"));
        }
        let read = reader.read(&memory[..count], &mut expected, true)?;
        match (read.is_end, read.bytes == count) {
            (true, true) => return Ok((socket, expected)),
            (true, false) => return Err(io::Error::other("more bytes than the answer has")),
            (false, _) => {}
        }
    }
}
