//! What a listener would offer, and what it would answer, without a server.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use super::blueprint::{Blueprint, Builder};
use super::server::StartError;
use super::state::Core;
use super::worker::{Message, Worker};
use crate::admission::Admission;
use crate::config::{Limits, Service};
use crate::driver::{Driver, Epoll, EpollConfig, KernelDriver, Peer};
use crate::session::Template;
use crate::session::http::Front;

/// Opens what a service needs, as a start would: its folders and files.
///
/// # Errors
/// What is missing.
pub fn look_for(service: &Service) -> Result<(), StartError> {
    Blueprint::new(service).map(drop)
}

/// What an HTTP service offers; `None` for others. Its folders are opened, its upstreams are not contacted.
///
/// # Errors
/// A folder cannot be opened.
pub fn front_of(service: &Service) -> Result<Option<Rc<Front>>, StartError> {
    Ok(match Builder::default().template(Blueprint::new(service)?) {
        Template::Http(door) => Some(door.front()),
        Template::Echo | Template::Reverse | Template::Proxy(..) | Template::Deliver(_) | Template::Receive(_) => None,
    })
}

/// The head of what a service answers to the head of a request, up to and with the empty line; nothing if it answers
/// nothing. This is one session of one worker, whose client is at the other end of a socket pair. A request that would be
/// forwarded is.
///
/// # Errors
/// A folder cannot be opened, or the system has no descriptors or threads left.
pub fn rehearse(
    service: &Service,
    request: Vec<u8>,
    peer: Peer,
    admission: Arc<Admission>,
    limits: Limits,
) -> Result<Vec<u8>, StartError> {
    let template = Builder::default().template(Blueprint::new(service)?);
    run(template, request, peer, admission, limits).map_err(StartError::Worker)
}

fn run(
    template: Template,
    request: Vec<u8>,
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
    core.add_session(socket, peer, &Rc::new(template.into()), now);
    let (messages, inbox) = mpsc::channel();
    let client = thread::Builder::new().name("xps-client".to_owned()).spawn(move || {
        let answer = ask(ours, &request);
        // The connection is closed by now, so nothing is left to drain. If the worker has ended, it need not be told.
        let _ = messages.send(Message::Drain);
        waker.wake();
        answer
    })?;
    Worker::new(driver, core, inbox, drain_timeout).run()?;
    client.join().unwrap_or_else(|_| Err(io::Error::other("the client panicked")))
}

fn ask(mut stream: UnixStream, request: &[u8]) -> io::Result<Vec<u8>> {
    const END: &[u8] = b"\r\n\r\n";
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        if let Some(at) = answer.windows(END.len()).position(|bytes| bytes == END) {
            answer.truncate(at + END.len());
            return Ok(answer);
        }
        match stream.read(&mut bytes)? {
            0 => return Ok(Vec::new()),
            got => answer.extend_from_slice(&bytes[..got]),
        }
    }
}
