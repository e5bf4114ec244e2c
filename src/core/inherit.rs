//! Listening sockets that outlive a process: taken over from whoever started this one, and handed on to the one that
//! takes its place.
//!
//! A service manager hands them over as sd_listen_fds(3) says. A program of ours that starts its successor says
//! `XPS_INHERIT=FD,FD,…`, and `XPS_READY=FD` is a pipe on which it waits for a byte: the successor serves.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{Child, Command};

use socket2::SockRef;

use crate::driver::descriptors;

/// Descriptors of sockets, separated by commas.
const INHERIT: &str = "XPS_INHERIT";

/// The descriptor on which the predecessor waits.
const READY: &str = "XPS_READY";

/// Where the service manager's descriptors begin (sd_listen_fds(3)).
const FIRST_OF_MANAGER: RawFd = 3;

/// The listening sockets that this process was given.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, OwnedFd)>,
}

impl Inherited {
    /// What the environment says. To be called once, before the process opens anything by itself.
    ///
    /// # Errors
    /// A descriptor is not that of a listening socket.
    pub fn from_environment() -> io::Result<Self> {
        let mut sockets = Vec::new();
        for fd in named_by_predecessor().into_iter().chain(named_by_manager()) {
            let socket = descriptors::inherit_listener(fd)?;
            match SockRef::from(&socket).local_addr()?.as_socket() {
                Some(address) => sockets.push((address, socket)),
                None => tracing::warn!(fd, "an inherited socket has no internet address, and is not used"),
            }
        }
        Ok(Self { sockets })
    }

    /// The sockets that listen on this address, and the address; with port 0, on the first that has its host.
    pub fn take(&mut self, wanted: SocketAddr) -> Option<(SocketAddr, Vec<OwnedFd>)> {
        let is_fit = |is: &SocketAddr| *is == wanted || (wanted.port() == 0 && is.ip() == wanted.ip());
        let address = self.sockets.iter().map(|(is, _)| *is).find(is_fit)?;
        let all = std::mem::take(&mut self.sockets);
        let (fit, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(is, _)| *is == address);
        self.sockets = others;
        Some((address, fit.into_iter().map(|(_, socket)| socket).collect()))
    }

    /// The addresses of sockets that nobody took.
    pub fn left_over(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|(address, _)| *address)
    }
}

fn named_by_predecessor() -> Vec<RawFd> {
    let list = std::env::var(INHERIT).unwrap_or_default();
    list.split(',').filter_map(|fd| fd.parse().ok()).collect()
}

fn named_by_manager() -> Vec<RawFd> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let is_ours = number("LISTEN_PID").is_some_and(|process| i64::from(process) == i64::from(std::process::id()));
    let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
    (FIRST_OF_MANAGER..FIRST_OF_MANAGER + count).collect()
}

/// Tells the predecessor, if there is one, that this process serves.
pub fn tell_predecessor() {
    let fd = std::env::var(READY).ok().and_then(|fd| fd.parse().ok());
    if let Some(Ok(pipe)) = fd.map(descriptors::inherit_pipe) {
        // If it is gone, it need not know.
        let _ = File::from(pipe).write_all(b"1");
    }
}

/// What starts this program anew, as it was started: taken down before its file may be replaced.
#[derive(Clone, Debug)]
pub struct Origin {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A process that is to take this one's place.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    ready: File,
}

impl Origin {
    /// This process's.
    ///
    /// # Errors
    /// `/proc` does not tell.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Starts a process like this one was, and hands it these sockets.
    ///
    /// # Errors
    /// What starting a process can fail with.
    pub fn start_successor<'s>(&self, sockets: impl Iterator<Item = &'s OwnedFd>) -> io::Result<Successor> {
        let (ready, is_ready) = io::pipe()?;
        let is_ready = OwnedFd::from(is_ready);
        // They stay open in the successor alone: here they are closed when it has been started.
        let handed: Vec<OwnedFd> = sockets.map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        for descriptor in handed.iter().chain([&is_ready]) {
            descriptors::keep_on_exec(descriptor)?;
        }
        let list: Vec<String> = handed.iter().map(|socket| socket.as_raw_fd().to_string()).collect();
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env(INHERIT, list.join(","))
            .env(READY, is_ready.as_raw_fd().to_string())
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .spawn()?;
        Ok(Successor { child, ready: File::from(OwnedFd::from(ready)) })
    }
}

impl Successor {
    /// Its process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves; `false`: it ended without.
    pub fn wait_until_ready(mut self) -> bool {
        let is_ready = self.ready.read_exact(&mut [0]).is_ok();
        if !is_ready {
            // It has closed the pipe, so it is about to end; then it must not stay a zombie.
            let _ = self.child.wait();
        }
        is_ready
    }
}
