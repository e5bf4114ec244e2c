//! What is around a driver: peers, servers and files. Real ones for a kernel driver; the simulation
//! has its own.
//!
//! The far end of a connection does nothing by itself, except that it takes bytes until the sockets
//! are full. A case tells it what to do. With real sockets that happens at once or on a thread of the
//! far end; a simulated peer goes on while its driver turns.

use std::any::Any;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Type};
use tempfile::TempDir;
use xps::internals::driver::{Address, Driver, KernelDriver, Root, Socket, UnixPath};

use crate::support::patience;

/// How the bytes of a connection ended, at its far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Orderly,
    Reset,
}

/// All bytes that a far end has read and not returned before, and how they ended.
pub type Heard = (Vec<u8>, End);

/// A driver with what is around it.
pub trait World: Driver {
    /// The far end of a connection.
    type Far;
    /// A server that the driver connects to.
    type Server;

    /// Whether its folders can hold links and special files.
    const HAS_SPECIAL_FILES: bool;

    /// Whether a socket takes as many bytes as it has room for.
    const TAKES_ALL: bool;

    /// A listener, owned by the driver.
    fn listener(&mut self) -> (Socket, SocketAddr);

    /// A connection: one end for the driver, and the far end.
    fn connection(&mut self) -> (Socket, Self::Far);

    /// A client that has connected to a listener.
    fn client(&mut self, to: SocketAddr) -> Self::Far;

    /// The address of a client.
    fn client_address(&self, client: &Self::Far) -> SocketAddr;

    /// A server at each kind of address that there is.
    fn servers(&mut self) -> Vec<(Address, Self::Server)>;

    /// The far end of the oldest connection to a server that was not returned before.
    fn accepted(&mut self, server: &mut Self::Server) -> Self::Far;

    /// Addresses without a server, with the error of a connect, as long as the guard lives.
    fn dead_addresses(&mut self) -> (Vec<(Address, i32)>, Box<dyn Any>);

    /// The far end writes bytes, for which there is room. They have arrived on return.
    fn write(&mut self, far: &mut Self::Far, bytes: &[u8]);

    /// The far end writes bytes as fast as the driver takes them, after those of earlier calls, unless
    /// the connection breaks.
    fn pour(&mut self, far: &mut Self::Far, bytes: Vec<u8>);

    /// The far end ends its sending half, after all bytes.
    fn end_sending(&mut self, far: &mut Self::Far);

    /// The far end begins to read until the end.
    fn listen(&mut self, far: &mut Self::Far);

    /// The far end reads this many bytes. `None`: they have not arrived, the driver must turn.
    fn try_read(&mut self, far: &mut Self::Far, count: usize) -> Option<Vec<u8>>;

    /// The far end reads until the end. `None`: it has not come, the driver must turn.
    fn try_read_rest(&mut self, far: &mut Self::Far) -> Option<Heard>;

    /// The far end closes.
    fn close(&mut self, far: Self::Far);

    /// The far end resets the connection.
    fn reset(&mut self, far: Self::Far);

    /// Puts a file with these bytes into a folder, which is the only one that the case uses.
    fn put(&mut self, folder: &Path, name: &str, bytes: &[u8]);

    /// The bytes of a file in that folder, if there is one.
    fn file(&self, folder: &Path, name: &str) -> Option<Vec<u8>>;

    /// What the rig may have done against the contract.
    fn breaches(&self) -> Vec<String>;
}

/// A folder for the files of a case.
pub struct Folder {
    pub root: Arc<Root>,
    folder: TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self { root: Root::open(folder.path()).expect("it was just made"), folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The far end of a connection over real sockets.
pub struct RealFar {
    stream: socket2::Socket,
    reader: Option<JoinHandle<Heard>>,
    writer: Option<mpsc::Sender<Task>>,
}

/// What a far end's thread does in the background.
enum Task {
    Write(Vec<u8>),
    Finish,
    /// Says that all earlier tasks are done.
    Report(mpsc::Sender<()>),
}

/// A server over real sockets.
pub enum RealServer {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "it is removed with the server")] TempDir),
}

impl RealFar {
    fn new(stream: impl Into<socket2::Socket>) -> Self {
        let stream = stream.into();
        stream.set_read_timeout(Some(patience())).expect("not zero");
        stream.set_write_timeout(Some(patience())).expect("not zero");
        Self { stream, reader: None, writer: None }
    }

    fn copy(&self) -> socket2::Socket {
        self.stream.try_clone().expect("a descriptor is left")
    }

    /// Queues a task for the thread that writes.
    fn queue(&mut self, task: Task) {
        let mut stream = self.copy();
        let writer = self.writer.get_or_insert_with(|| {
            let (writer, tasks) = mpsc::channel();
            thread::spawn(move || {
                for task in tasks {
                    // If the connection breaks, the case finds out from what arrives.
                    match task {
                        Task::Write(bytes) => drop(stream.write_all(&bytes)),
                        Task::Finish => drop(stream.shutdown(Shutdown::Write)),
                        Task::Report(done) => drop(done.send(())),
                    }
                }
            });
            writer
        });
        writer.send(task).expect("the thread waits for tasks");
    }

    /// Waits until everything queued is done.
    fn settle(&mut self) {
        if self.writer.is_some() {
            let (done, is_done) = mpsc::channel();
            self.queue(Task::Report(done));
            is_done.recv_timeout(patience()).expect("the driver takes the bytes");
            self.writer = None;
        }
    }
}

fn read_rest(mut stream: &socket2::Socket) -> Heard {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, End::Orderly),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (bytes, End::Reset),
        Err(error) => panic!("after {} bytes: {error}", bytes.len()),
    }
}

impl<D: KernelDriver> World for D {
    type Far = RealFar;
    type Server = RealServer;

    const HAS_SPECIAL_FILES: bool = true;
    const TAKES_ALL: bool = true;

    fn listener(&mut self) -> (Socket, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // Again, with a backlog for thousands (`std` asks for 128).
        socket2::SockRef::from(&listener).listen(4096).expect("a longer backlog");
        let address = listener.local_addr().expect("it is bound");
        (self.adopt(listener.into()), address)
    }

    fn connection(&mut self) -> (Socket, RealFar) {
        let (near, far) = tcp_pair();
        (self.adopt(near.into()), RealFar::new(far))
    }

    fn client(&mut self, to: SocketAddr) -> RealFar {
        RealFar::new(connect(to))
    }

    fn client_address(&self, client: &RealFar) -> SocketAddr {
        client.stream.local_addr().ok().and_then(|address| address.as_socket()).expect("a TCP connection")
    }

    fn servers(&mut self) -> Vec<(Address, RealServer)> {
        let tcp = ["127.0.0.1:0", "[::1]:0"].into_iter().filter_map(|address| TcpListener::bind(address).ok());
        let mut servers: Vec<_> = tcp
            .map(|listener| (listener.local_addr().expect("it is bound").into(), RealServer::Tcp(listener)))
            .collect();
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a new file");
        servers.push((unix(&path), RealServer::Unix(listener, folder)));
        servers
    }

    fn accepted(&mut self, server: &mut RealServer) -> RealFar {
        match server {
            RealServer::Tcp(listener) => RealFar::new(listener.accept().expect("a client has connected").0),
            RealServer::Unix(listener, _) => RealFar::new(listener.accept().expect("a client has connected").0),
        }
    }

    fn dead_addresses(&mut self) -> (Vec<(Address, i32)>, Box<dyn Any>) {
        // Bound and not listening: no other process can take the port meanwhile.
        let bound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let tcp = bound.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let folder = TempDir::new().expect("a temporary folder");
        let stale = folder.path().join("stale");
        drop(UnixListener::bind(&stale).expect("a new file"));
        let nothing = folder.path().join("nothing");
        let addresses =
            vec![(tcp.into(), libc::ECONNREFUSED), (unix(&stale), libc::ECONNREFUSED), (unix(&nothing), libc::ENOENT)];
        (addresses, Box::new((bound, folder)))
    }

    fn write(&mut self, far: &mut RealFar, bytes: &[u8]) {
        far.settle();
        far.stream.write_all(bytes).expect("room in the socket");
    }

    fn pour(&mut self, far: &mut RealFar, bytes: Vec<u8>) {
        far.queue(Task::Write(bytes));
    }

    fn end_sending(&mut self, far: &mut RealFar) {
        if far.writer.is_some() {
            far.queue(Task::Finish);
        } else {
            far.stream.shutdown(Shutdown::Write).expect("a live connection");
        }
    }

    fn listen(&mut self, far: &mut RealFar) {
        let stream = far.copy();
        far.reader = Some(thread::spawn(move || read_rest(&stream)));
    }

    fn try_read(&mut self, far: &mut RealFar, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        far.stream.read_exact(&mut bytes).expect("bytes from the driver");
        Some(bytes)
    }

    fn try_read_rest(&mut self, far: &mut RealFar) -> Option<Heard> {
        Some(match far.reader.take() {
            Some(reader) => reader.join().expect("the reader lives"),
            None => read_rest(&far.stream),
        })
    }

    fn close(&mut self, far: RealFar) {
        drop(far);
    }

    fn reset(&mut self, mut far: RealFar) {
        far.settle();
        far.stream.set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    fn put(&mut self, folder: &Path, name: &str, bytes: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a new folder");
        fs::write(path, bytes).expect("room on the disk");
    }

    fn file(&self, folder: &Path, name: &str) -> Option<Vec<u8>> {
        fs::read(folder.join(name)).ok()
    }

    fn breaches(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Both ends of a TCP connection over loopback.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let far = connect(listener.local_addr().expect("it is bound"));
    let (near, _) = listener.accept().expect("a client has connected");
    (near, far)
}

/// A client with timeouts.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a listener on loopback");
    stream.set_read_timeout(Some(patience())).expect("not zero");
    stream.set_write_timeout(Some(patience())).expect("not zero");
    stream
}

/// The address of a unix socket.
pub fn unix(path: &Path) -> Address {
    UnixPath::new(path).expect("a short path").into()
}
