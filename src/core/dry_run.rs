//! What a listener offers and how it responds to a request, computed without a running server.
//!
//! The response has to be that of the server, so the server's own session makes it, on a worker with
//! one accepted connection: an end of a socket pair. A client on the worker's loop instead of the thread
//! would be a second state machine beside the core, only to send one head and to read another.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use super::opened::OpenedService;
use super::server::StartError;
use super::service_builder::ServiceBuilder;
use super::state::Core;
use super::supervised::{Message, SupervisedCore};
use super::worker::Worker;
use crate::config::{Limits, ServiceConfig};
use crate::driver::{Driver, Epoll, EpollConfig, KernelDriver, Peer};
use crate::limit::Admission;
use crate::session::http::Router;
use crate::session::{ListenerContext, Service};

/// The router of an HTTP service; `None` for other services. Opens its folders, but no access log, and
/// does not contact its upstreams.
///
/// # Errors
/// A folder cannot be opened.
pub fn router_of(service: &ServiceConfig) -> Result<Option<Rc<Router>>, StartError> {
    Ok(match ServiceBuilder::default().service(OpenedService::new(service, None)?) {
        Service::Http(router_cell) => Some(router_cell.router()),
        Service::Echo
        | Service::Reverse
        | Service::Proxy(..)
        | Service::ProxyByName(_)
        | Service::Send(_)
        | Service::Receive(_) => None,
    })
}

/// The length of a response's head at the beginning of these bytes; `None`: they are not all of it.
pub type HeadLength = fn(&[u8]) -> Option<usize>;

/// Sends a request to a service, of HTTP/1.1 or with the preface of HTTP/2. Returns the response head,
/// as long as `head_length` says, or nothing if the service closes the connection without a complete head.
///
/// One worker serves one session, whose client is the other end of a socket pair. A request that
/// matches a forwarding route is really forwarded.
///
/// # Errors
/// A folder cannot be opened, or the process is out of descriptors or threads.
pub fn dry_run(
    service: &ServiceConfig,
    request: Vec<u8>,
    head_length: HeadLength,
    peer: Peer,
    admission: Arc<Admission>,
    limits: Limits,
) -> Result<Vec<u8>, StartError> {
    let service = ServiceBuilder::default().service(OpenedService::new(service, None)?);
    run(service, request, head_length, peer, admission, limits).map_err(StartError::Worker)
}

fn run(
    service: Service,
    request: Vec<u8>,
    head_length: HeadLength,
    peer: Peer,
    admission: Arc<Admission>,
    limits: Limits,
) -> io::Result<Vec<u8>> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut driver =
        Epoll::new(EpollConfig { pool: limits.pool.within(limits.pipe_bytes_max), ..EpollConfig::default() })?;
    let drain_timeout = limits.drain_timeout;
    let mut core = Core::new(limits);
    core.admit_by(admission);
    let (socket, now, waker) = (driver.adopt(theirs.into()), driver.now(), driver.waker());
    // Without TLS, the first bytes say which version of HTTP it is.
    let context = ListenerContext { h2c: true, ..service.into() };
    core.add_session(socket, peer, &Rc::new(context), now);
    let (messages, inbox) = mpsc::channel();
    let client = thread::Builder::new().name("xps-client".to_owned()).spawn(move || {
        let response = ask(ours, &request, head_length);
        // The connection is closed by now, so nothing is left to drain. A failed send means that
        // the worker has ended already.
        let _ = messages.send(Message::Drain);
        waker.wake();
        response
    })?;
    Worker::new(driver, SupervisedCore::new(core, inbox, drain_timeout)).run()?;
    client.join().unwrap_or_else(|_| Err(io::Error::other("the client panicked")))
}

fn ask(mut stream: UnixStream, request: &[u8], head_length: HeadLength) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut response = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        if let Some(length) = head_length(&response) {
            response.truncate(length);
            return Ok(response);
        }
        match stream.read(&mut bytes)? {
            0 => return Ok(Vec::new()),
            got => response.extend_from_slice(&bytes[..got]),
        }
    }
}
