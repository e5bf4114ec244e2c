//! Servers for the program under test to connect to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::client::uninterrupted;
use super::environment::patience;

/// A server that runs a function for each connection, on a thread of its own.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Serves each connection by `serve`, which also gets its number, from 0 on.
    pub fn new(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"), serve)
    }

    /// The same, on a listener of the caller's.
    pub fn on(listener: TcpListener, serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let serve = Arc::new(serve);
        let acceptor = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
                stream.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Self { address, stopping, acceptor: Some(acceptor) }
    }

    /// Sends back what comes, until the end of input.
    pub fn echo() -> Self {
        Self::new(|stream, _| echo(&stream))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the acceptor; a full backlog wakes it as well.
        let _ = TcpStream::connect_timeout(&self.address, patience());
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Sends back what comes, until the end of input or a fault, which is the client's affair.
pub fn echo(mut stream: &TcpStream) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        match uninterrupted(|| stream.read(&mut bytes)) {
            Ok(0) => break,
            Ok(got) if stream.write_all(&bytes[..got]).is_ok() => {}
            Ok(_) | Err(_) => return,
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Connects until the backlog takes no more, and returns the connections that wait there.
pub fn fill_backlog(address: SocketAddr) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    for _ in 0..64 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => return waiting,
        }
    }
    panic!("a backlog of 0 took {} connections", waiting.len());
}

/// A port that is taken but not listened on: connecting to it is refused, and nobody else gets it.
#[derive(Debug)]
pub struct ClosedPort {
    socket: Socket,
    address: SocketAddr,
}

impl ClosedPort {
    /// Takes a port of 127.0.0.1.
    pub fn new() -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address")).expect("loopback has a free port")
    }

    /// Takes this port.
    ///
    /// # Errors
    /// It is taken, or this machine lacks the address.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().expect("an internet socket");
        Ok(Self { socket, address })
    }

    /// The port's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens the port at last.
    pub fn listen(self) -> TcpListener {
        self.listen_with_backlog(128)
    }

    /// Opens the port, with room for so many connections that nobody accepts.
    pub fn listen_with_backlog(self, backlog: i32) -> TcpListener {
        self.socket.listen(backlog).expect("a bound socket can listen");
        self.socket.into()
    }
}
