//! A server within the benchmark's process, and clients that talk to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xps::internals::config::{
    BackendChoice, Limits, ListenAddress, ListenerConfig, OperatorConfig, ServerConfig, ServiceConfig,
};
use xps::internals::core::{RunError, Server, StartError, Stop};
use xps::internals::driver::FeatureSet;
use xps::internals::limit::AdmissionConfig;

/// Both drivers, with the names that the command line has for them.
pub const BACKENDS: [(&str, BackendChoice); 2] =
    [("io_uring", BackendChoice::IoUring), ("epoll", BackendChoice::Epoll)];

/// A server of one worker with one listener. Dropping it stops it and waits for its end.
pub struct InProcess {
    address: SocketAddr,
    stop: Stop,
    running: Option<JoinHandle<Result<(), RunError>>>,
}

/// A reply that takes longer is lost: better an error than a benchmark that hangs.
const REPLY_MAX: Duration = Duration::from_secs(10);

impl InProcess {
    /// Starts a server. `None`, after saying so, if this machine does not have the driver.
    pub fn start(backend: BackendChoice, service: ServiceConfig) -> Option<Self> {
        let config = ServerConfig {
            listeners: vec![ListenerConfig::new(ListenAddress::Inet((Ipv4Addr::LOCALHOST, 0).into()), service)],
            workers: 1,
            pin_workers: false,
            backend,
            uring_off: FeatureSet::default(),
            admission: AdmissionConfig::default(),
            limits: Limits::default(),
            operator: OperatorConfig::default(),
        };
        let server = match Server::start(config) {
            Ok(server) => server,
            Err(StartError::Unavailable(why)) => {
                eprintln!("SKIPPED: {why}");
                return None;
            }
            Err(error) => panic!("the server does not start: {error}"),
        };
        let address = server.addresses()[0].inet().expect("an internet address was asked for");
        let stop = server.stop_handle();
        let running = Some(thread::spawn(move || server.run(|_| ())));
        Some(Self { address, stop, running })
    }

    /// A new connection to it.
    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("the server listens");
        socket.set_nodelay(true).expect("the socket is open");
        socket.set_read_timeout(Some(REPLY_MAX)).expect("the time-out is not zero");
        socket
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(running) = self.running.take() {
            match running.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("the server failed: {error}"),
                Err(_) => eprintln!("the server panicked"),
            }
        }
    }
}

/// Sends a message and reads as many bytes as `reply` holds.
pub fn exchange(socket: &mut TcpStream, message: &[u8], reply: &mut [u8]) {
    socket.write_all(message).expect("the server receives");
    socket.read_exact(reply).expect("the server replies");
}
