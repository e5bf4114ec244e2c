//! Clients of the program under test: blocking sockets with time-outs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::bridge;
use super::content::Content;
use super::environment::patience;

/// Connects; reading and writing give up after [`patience`]. Through a [`bridge`] if the server speaks TLS.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, patience())
        .unwrap_or_else(|error| panic!("{address} does not take a connection: {error}"));
    let stream = bridge::through(address, stream);
    stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
    stream.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
    stream
}

/// Sends `request`, ends the sending half, and returns all that comes back. Both ways at once, so
/// no amount of bytes makes it lock up.
#[track_caller]
pub fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    exchange(&connect(address), request)
}

/// [`ask`] over a connection that is already there.
#[track_caller]
pub fn exchange(stream: &TcpStream, request: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sink = stream;
            sink.write_all(request).expect("the server takes the request");
            stream.shutdown(Shutdown::Write).expect("the connection is still there");
        });
        read_rest(stream)
    })
}

/// Sends a message and reads its echo, leaving the connection open.
#[track_caller]
pub fn ping(mut stream: &TcpStream, message: &[u8]) {
    stream.write_all(message).expect("the server takes the message");
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("no answer to {} bytes: {error}", message.len()));
    assert!(answer == message, "the answer is not the echo");
}

/// Reads to the end, which must be an orderly one.
#[track_caller]
pub fn read_rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        panic!("after {} bytes: {error}", bytes.len());
    }
    bytes
}

/// Reads to the end, whichever kind, and returns what came and how it ended. A time-out fails.
#[track_caller]
pub fn read_until_cut(mut stream: &TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map(|_| ());
    if let Err(error) = &end {
        assert!(!is_timeout(error), "neither bytes nor an end came within {:?}", patience());
    }
    (bytes, end)
}

/// Whether the connection ended without a byte: an end of input or a reset.
#[track_caller]
pub fn was_cut(stream: &TcpStream) -> bool {
    read_until_cut(stream).0.is_empty()
}

/// Sends the content of `seed` until `length` bytes are out, and checks that the same comes back.
#[track_caller]
pub fn echo_content(address: SocketAddr, seed: u64, length: usize) {
    let stream = connect(address);
    std::thread::scope(|scope| {
        scope.spawn(|| send_content(&stream, &mut Content::new(seed), length));
        expect_content(&stream, &mut Content::new(seed), length as u64);
    });
}

/// Sends `length` bytes of content, then ends the sending half.
#[track_caller]
pub fn send_content(mut stream: &TcpStream, content: &mut Content, length: usize) {
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len());
        content.fill(&mut block[..now]);
        stream.write_all(&block[..now]).expect("the server takes the bytes");
        left -= now;
    }
    stream.shutdown(Shutdown::Write).expect("the connection is still there");
}

/// Reads to the end and checks that exactly the next `length` bytes of the content came.
#[track_caller]
pub fn expect_content(mut stream: &TcpStream, content: &mut Content, length: u64) {
    let mut block = vec![0; BLOCK_BYTES];
    let start = content.position();
    loop {
        match uninterrupted(|| stream.read(&mut block)) {
            Ok(0) => break,
            Ok(got) => content.expect(&block[..got]),
            Err(error) => panic!("after {} bytes: {error}", content.position() - start),
        }
    }
    assert_eq!(content.position() - start, length, "bytes came back");
}

/// Writes until the connection takes nothing more for a while, at most `bytes_max`; returns how many
/// bytes of the content went out.
pub fn flood(mut stream: &TcpStream, content: &mut Content, bytes_max: u64) -> u64 {
    stream.set_write_timeout(Some(STALL)).expect("a time-out that is not zero");
    let mut block = vec![0; BLOCK_BYTES];
    let mut sent = 0;
    let mut filled = 0;
    while sent < bytes_max {
        if filled == 0 {
            content.fill(&mut block);
        }
        match uninterrupted(|| stream.write(&block[filled..])) {
            Ok(written) => {
                sent += written as u64;
                filled = (filled + written) % block.len();
            }
            Err(error) if is_timeout(&error) => break,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    sent
}

/// Closes so that the other end sees a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket can linger");
}

/// Whether nothing is there to be read within `time`, and the connection still stands.
pub fn stays_silent(stream: &TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).expect("a time-out that is not zero");
    let silent = uninterrupted(|| stream.peek(&mut [0])).is_err_and(|error| is_timeout(&error));
    stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
    silent
}

/// Makes a call again as long as a signal interrupts it.
///
/// The kernel does not restart a call that waits on a socket with a time-out (`signal(7)`), even if the process ignores
/// the signal. SIGCHLD is such a signal: the C library blocks all signals of a thread while it starts a process or a
/// thread; if a child of that thread ends in such a moment, the signal goes to a thread that does not block it.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether this is a read or write time-out.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A flood that takes so long over one write has stopped.
const STALL: Duration = Duration::from_secs(2);
const BLOCK_BYTES: usize = 64 << 10;

/// [`connect`] with so small a receive buffer that what is sent waits at the sender until it is read.
#[track_caller]
pub fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
        .and_then(|socket| {
            socket.set_recv_buffer_size(8 << 10)?;
            socket.connect_timeout(&address.into(), patience())?;
            Ok(socket)
        })
        .unwrap_or_else(|error| panic!("{address} does not take a connection: {error}"));
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
    stream.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
    stream
}

/// Waits until the other end's kernel has acknowledged all that was sent over IPv4 (`proc_pid_net(5)`, `tx_queue`).
#[track_caller]
pub fn wait_until_acknowledged(stream: &TcpStream) {
    let port = |address: io::Result<SocketAddr>| format!(":{:04X}", address.expect("it is connected").port());
    let ends = [port(stream.local_addr()), port(stream.peer_addr())];
    super::eventually("all is acknowledged", || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc is there");
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut own = fields.filter(|fields| fields[1].ends_with(&ends[0]) && fields[2].ends_with(&ends[1]));
        own.next().is_none_or(|fields| fields[4].starts_with("00000000:"))
    });
}
