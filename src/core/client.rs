//! The client mode: copies one local stream to an upstream and the upstream's bytes back, like
//! netcat.
//!
//! The client is an ordinary proxy session whose downstream socket is one end of a socket pair in
//! this process. Connecting, timeouts, half-close and backpressure work as in the server.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;

use super::state::Core;
use super::supervised::SupervisedCore;
use super::worker::Worker;
use crate::config::{BackendChoice, Limits, UpstreamAddress};
use crate::driver::probe::{self, Backend, Unavailable};
use crate::driver::{Epoll, EpollConfig, FeatureSet, KernelDriver, Peer, Uring, UringConfig};
use crate::session::{CloseReason, Service, SessionEnd};
use crate::upstream::{ConnectPolicy, GroupConfig, UpstreamGroup};

/// Error of a client connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The requested driver is not available.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The driver cannot be set up, or it failed.
    #[error("the event loop failed: {0}")]
    Driver(#[from] io::Error),
    /// The connection was not established, or it failed later.
    #[error("{upstream}: {session_end}")]
    Connection {
        /// The upstream's configured address.
        upstream: UpstreamAddress,
        /// How the session ended.
        session_end: SessionEnd,
    },
}

/// Connects `stream`, one end of a socket pair, to the upstream. Returns when both directions end.
///
/// # Errors
/// Any session end other than [`CloseReason::Done`].
pub fn run(
    stream: UnixStream,
    upstream: UpstreamAddress,
    backend: BackendChoice,
    uring_off: FeatureSet,
    limits: Limits,
) -> Result<(), ClientError> {
    let pool = limits.pool.within(limits.pipe_bytes_max);
    let selection = probe::choose(backend, uring_off, 1)?;
    tracing::debug!(backend = selection.backend.name(), %uring_off, ?pool, "connecting");
    match selection.backend {
        Backend::IoUring => {
            let size = selection.ring_size;
            let driver = Uring::new(UringConfig { off: uring_off, size, ..UringConfig::new(pool) })?;
            join(driver, stream.into(), upstream, limits)
        }
        Backend::Epoll => {
            join(Epoll::new(EpollConfig { pool, ..EpollConfig::default() })?, stream.into(), upstream, limits)
        }
    }
}

fn join(
    mut driver: impl KernelDriver,
    stream: OwnedFd,
    upstream: UpstreamAddress,
    limits: Limits,
) -> Result<(), ClientError> {
    let drain_timeout = limits.drain_timeout;
    let connect_policy = ConnectPolicy { tries_max: 0, connect_timeout: limits.connect_timeout };
    let mut core = Core::new(limits);
    let socket = driver.adopt(stream);
    let now = driver.now();
    let relay = Service::Proxy(UpstreamGroup::new(GroupConfig::of([upstream.clone()]), 0), connect_policy);
    core.add_session(socket, Peer::Local, &Rc::new(relay.into()), now);
    // Without listeners, draining finishes the worker as soon as this session ends.
    core.drain(now, None);
    let (_messages, inbox) = mpsc::channel();
    let core = Worker::new(driver, SupervisedCore::new(core, inbox, drain_timeout)).run()?.into_core()?;
    match core.session_end() {
        Some(SessionEnd { close_reason: CloseReason::Done, .. }) | None => Ok(()),
        Some(session_end) => Err(ClientError::Connection { upstream, session_end }),
    }
}
