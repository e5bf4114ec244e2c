//! Listening sockets that outlive a process: inherited from the parent process at start, and passed
//! on to the process that replaces this one.
//!
//! A service manager passes sockets by the protocol of sd_listen_fds(3). An xps process that starts
//! its replacement sets `XPS_INHERIT=FD,FD,…`. `XPS_READY=FD` is a pipe on which it waits for one
//! byte: the replacement serves. `XPS_INHERIT_FILES` lists those unix sockets whose files the
//! replacement has to remove; a service manager removes its own. Files in memory have the state that the
//! replacement takes over ([`PassedState`]): the keys of session tickets, so that TLS clients can resume their
//! sessions, and what operators have set for endpoints.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{SockAddr, SockRef};

use crate::config::start;
use crate::driver::{Address, UnixPath, descriptors};

/// Descriptors of the inherited sockets, separated by commas.
const INHERIT: &str = "XPS_INHERIT";

/// The subset of [`INHERIT`] whose socket files the new process owns.
const FILES: &str = "XPS_INHERIT_FILES";

/// Descriptor of the pipe on which the predecessor waits for readiness.
const READY: &str = "XPS_READY";

/// State that a process passes to its replacement in a file in memory.
#[derive(Debug)]
pub struct PassedState {
    /// The variable with the descriptor of the file.
    variable: &'static str,
    /// The name of the file, for those who look at the process.
    name: &'static str,
    /// Limit of the file, far above what there can be.
    bytes_max: u64,
    /// What follows if it is not passed on.
    without: &'static str,
}

/// The keys of session tickets. 4 KiB.
pub const TICKET_KEYS: PassedState = PassedState {
    variable: "XPS_INHERIT_TICKETS",
    name: "xps-tickets",
    bytes_max: 4 << 10,
    without: "clients make full TLS handshakes",
};

/// What operators have set for endpoints. 64 MiB.
pub const ENDPOINT_SETTINGS: PassedState = PassedState {
    variable: "XPS_INHERIT_ENDPOINTS",
    name: "xps-endpoints",
    bytes_max: 64 << 20,
    without: "endpoints are as configured, whatever `xps ctl` has set",
};

/// First descriptor that a service manager passes (sd_listen_fds(3)).
const FIRST_OF_MANAGER: RawFd = 3;

/// Listening sockets that this process has inherited.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<HandedSocket>,
}

/// A listening socket on its way from one process to another.
#[derive(Debug)]
pub struct HandedSocket {
    /// The address that the socket is bound to.
    pub address: Address,
    /// The descriptor.
    pub socket: OwnedFd,
    /// The process that takes the socket over owns its file and removes it at the end.
    pub has_file: bool,
}

impl InheritedSockets {
    /// Reads the environment. Call it once, before the process opens any descriptor of its own.
    ///
    /// # Errors
    /// A descriptor is not that of a listening socket.
    pub fn from_environment() -> io::Result<Self> {
        let mut sockets = Vec::new();
        let with_file = named_in(FILES);
        for fd in named_in(INHERIT).into_iter().chain(named_by_manager()) {
            let socket = descriptors::inherit_listener(fd)?;
            match address_of(&SockRef::from(&socket).local_addr()?) {
                Some(address) => sockets.push(HandedSocket { address, socket, has_file: with_file.contains(&fd) }),
                None => {
                    tracing::warn!(fd, "an inherited socket has neither internet address nor path, and is not used")
                }
            }
        }
        Ok(Self { sockets })
    }

    /// Removes and returns the sockets bound to `wanted`. With port 0, these are the sockets of the
    /// first address with the same host.
    pub fn take(&mut self, wanted: &Address) -> Vec<HandedSocket> {
        let is_fit = |is: &Address| match (is, wanted) {
            (Address::Inet(is), Address::Inet(wanted)) if wanted.port() == 0 => is.ip() == wanted.ip(),
            _ => is == wanted,
        };
        let Some(address) = self.sockets.iter().map(|handed| &handed.address).find(|is| is_fit(is)).cloned() else {
            return Vec::new();
        };
        let all = std::mem::take(&mut self.sockets);
        let (fit, others) = all.into_iter().partition(|handed| handed.address == address);
        self.sockets = others;
        fit
    }

    /// The addresses of sockets that no listener has taken.
    pub fn left_over(&self) -> impl Iterator<Item = &Address> + '_ {
        self.sockets.iter().map(|handed| &handed.address)
    }
}

/// The internet addresses of the sockets inherited from a predecessor, without duplicates, in the
/// order of the predecessor's configuration.
pub fn handed_addresses() -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in named_in(INHERIT).into_iter().filter_map(descriptors::listening_address) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn address_of(name: &SockAddr) -> Option<Address> {
    let path = || UnixPath::new(name.as_pathname()?).ok();
    name.as_socket().map(Address::Inet).or_else(|| path().map(Address::Unix))
}

fn named_in(variable: &str) -> Vec<RawFd> {
    let list = std::env::var(variable).unwrap_or_default();
    list.split(',').filter_map(|fd| fd.parse().ok()).collect()
}

fn named_by_manager() -> Vec<RawFd> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let is_ours = number("LISTEN_PID").is_some_and(|process| i64::from(process) == i64::from(std::process::id()));
    let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
    (FIRST_OF_MANAGER..FIRST_OF_MANAGER + count).collect()
}

impl PassedState {
    /// That of the predecessor, as it was exported; empty if there is none. Call it once.
    pub fn take_over(&self) -> Vec<u8> {
        let fd = std::env::var(self.variable).ok().and_then(|fd| fd.parse().ok());
        let mut exported = Vec::new();
        if let Some(Ok(file)) = fd.map(descriptors::inherit_file)
            && let Err(error) = File::from(file).take(self.bytes_max).read_to_end(&mut exported)
        {
            tracing::warn!(%error, "{} cannot be taken over: {}", self.variable, self.without);
        }
        exported
    }

    /// A file with it; `None`: there is nothing to pass on, or it cannot be.
    fn file(&self, exported: &[u8]) -> Option<OwnedFd> {
        if exported.is_empty() {
            return None;
        }
        descriptors::file_in_memory(self.name, exported)
            .inspect_err(|error| tracing::warn!(%error, "{} cannot be passed on: {}", self.variable, self.without))
            .ok()
    }
}

/// Writes to the readiness pipe of the predecessor, if there is one: this process serves.
pub fn notify_predecessor() {
    let fd = std::env::var(READY).ok().and_then(|fd| fd.parse().ok());
    if let Some(Ok(pipe)) = fd.map(descriptors::inherit_file) {
        // An error means that the predecessor is gone. It changes nothing here.
        let _ = File::from(pipe).write_all(b"1");
    }
}

/// The command that starts this program again with the same arguments. It uses the same path, which
/// may lead to a newer program by then.
#[derive(Clone, Debug)]
pub struct Executable {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// The working directory at start; `None` if it no longer existed then.
    folder: Option<PathBuf>,
}

/// A started process that is to replace this one.
#[derive(Debug)]
pub struct ReplacementProcess {
    child: Child,
    ready: File,
}

/// How the start of a replacement process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacementOutcome {
    /// The replacement serves.
    Serves,
    /// The replacement exited before it served.
    Ended,
    /// The replacement took too long and was killed.
    Killed,
}

impl Executable {
    /// The command of this process.
    ///
    /// # Errors
    /// Neither the command line nor `/proc` yields the path of the program.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let program = program(&arguments.next().unwrap_or_default())?;
        Ok(Self { program, arguments: arguments.collect(), folder: start::folder().ok() })
    }

    /// Starts a process with the same command, and passes these sockets and this state, as it was exported,
    /// to it.
    ///
    /// # Errors
    /// The errors of `pipe(2)`, `fcntl(2)` and starting a process.
    pub fn start_replacement(
        &self,
        sockets: Vec<HandedSocket>,
        state: &[(PassedState, Vec<u8>)],
    ) -> io::Result<ReplacementProcess> {
        let (ready, is_ready) = io::pipe()?;
        let is_ready = OwnedFd::from(is_ready);
        // Without it the replacement serves as well.
        let files: Vec<_> = state.iter().map(|(state, exported)| (state.variable, state.file(exported))).collect();
        // The descriptors stay open only in the replacement: here they are closed after the start.
        let passed = files.iter().filter_map(|(_, file)| file.as_ref());
        for descriptor in sockets.iter().map(|handed| &handed.socket).chain([&is_ready]).chain(passed) {
            descriptors::keep_on_exec(descriptor)?;
        }
        let list = |is_in: fn(&&HandedSocket) -> bool| {
            let numbers = sockets.iter().filter(is_in).map(|handed| handed.socket.as_raw_fd().to_string());
            numbers.collect::<Vec<_>>().join(",")
        };
        let mut command = Command::new(&self.program);
        // The folder that the path leads to now. If it is gone, absolute paths may still work.
        if let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_dir()) {
            command.current_dir(folder).env("PWD", folder);
        }
        command
            .args(&self.arguments)
            .env(INHERIT, list(|_| true))
            .env(FILES, list(|handed| handed.has_file))
            .env(READY, is_ready.as_raw_fd().to_string())
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES");
        for (variable, file) in &files {
            match file {
                Some(file) => command.env(variable, file.as_raw_fd().to_string()),
                None => command.env_remove(variable),
            };
        }
        let child = command.spawn()?;
        Ok(ReplacementProcess { child, ready: File::from(OwnedFd::from(ready)) })
    }
}

/// The path by which the program was called, made absolute without resolving symbolic links. If
/// that path does not lead to the running program, the path from `/proc`, which is the program's
/// own.
fn program(called: &OsStr) -> io::Result<PathBuf> {
    let candidates: Vec<PathBuf> = if called.as_bytes().contains(&b'/') {
        start::absolute(Path::new(called)).into_iter().collect()
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).filter_map(|folder| start::absolute(&folder.join(called)).ok()).collect()
    };
    let running = Path::new("/proc/self/exe").metadata();
    let is_running = |path: &PathBuf| match (path.metadata(), &running) {
        (Ok(found), Ok(running)) => (found.dev(), found.ino()) == (running.dev(), running.ino()),
        // Without /proc there is nothing to compare with.
        (Ok(found), Err(_)) => found.is_file(),
        (Err(_), _) => false,
    };
    candidates.into_iter().find(is_running).map_or_else(std::env::current_exe, Ok)
}

impl ReplacementProcess {
    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the replacement serves, at most for `timeout`. Zero: no limit.
    pub fn wait_until_ready(mut self, timeout: Duration) -> ReplacementOutcome {
        // A read from a pipe has no timeout, so a thread reads it. The waiting thread can kill the
        // process, which closes the pipe and ends the read.
        let (tell, told) = mpsc::channel();
        let mut ready = self.ready;
        let reader = thread::Builder::new().name("xps-ready".to_owned()).spawn(move || {
            // An error means that the receiver has given up waiting.
            let _ = tell.send(ready.read_exact(&mut [0]).is_ok());
        });
        let is_ready = match (reader, timeout.is_zero()) {
            (Ok(_), true) => told.recv().ok(),
            (Ok(_), false) => match told.recv_timeout(timeout) {
                Ok(is_ready) => Some(is_ready),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => Some(false),
            },
            // Without a reader thread, readiness cannot be noticed.
            (Err(_), _) => None,
        };
        match is_ready {
            Some(true) => ReplacementOutcome::Serves,
            Some(false) => {
                // It has closed the pipe, so it is about to exit. Reap it: it must not stay a
                // zombie.
                let _ = self.child.wait();
                ReplacementOutcome::Ended
            }
            None => {
                // `kill` fails if the process has exited already. That is no error.
                let _ = self.child.kill();
                let _ = self.child.wait();
                ReplacementOutcome::Killed
            }
        }
    }
}
