//! Listening sockets that outlive a process: taken over from whoever started this one, and handed on to the one that
//! takes its place.
//!
//! A service manager hands them over as sd_listen_fds(3) says. A program of ours that starts its successor says
//! `XPS_INHERIT=FD,FD,…`, and `XPS_READY=FD` is a pipe on which it waits for a byte: the successor serves. Those of unix
//! sockets whose files are the successor's to remove are also in `XPS_INHERIT_FILES`; a manager removes its own.

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

/// Descriptors of sockets, separated by commas.
const INHERIT: &str = "XPS_INHERIT";

/// Those of them whose files come with them.
const FILES: &str = "XPS_INHERIT_FILES";

/// The descriptor on which the predecessor waits.
const READY: &str = "XPS_READY";

/// Where the service manager's descriptors begin (sd_listen_fds(3)).
const FIRST_OF_MANAGER: RawFd = 3;

/// The listening sockets that this process was given.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<HandedSocket>,
}

/// A listening socket that is handed over.
#[derive(Debug)]
pub struct HandedSocket {
    /// Where it listens.
    pub address: Address,
    /// The socket.
    pub socket: OwnedFd,
    /// Whoever takes it over removes its file in the end.
    pub has_file: bool,
}

impl InheritedSockets {
    /// What the environment says. To be called once, before the process opens anything by itself.
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

    /// The sockets that listen on this address, all on the same; with port 0, on the first that has its host.
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

    /// The addresses of sockets that nobody took.
    pub fn left_over(&self) -> impl Iterator<Item = &Address> + '_ {
        self.sockets.iter().map(|handed| &handed.address)
    }
}

/// Where this process will take over sockets from its predecessor: internet addresses, each once, in the order in which they
/// were configured there.
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

/// Tells the predecessor, if there is one, that this process serves.
pub fn notify_predecessor() {
    let fd = std::env::var(READY).ok().and_then(|fd| fd.parse().ok());
    if let Some(Ok(pipe)) = fd.map(descriptors::inherit_pipe) {
        // If it is gone, it need not know.
        let _ = File::from(pipe).write_all(b"1");
    }
}

/// What starts this program again, as it was started: by the same path, which may lead to a newer program by then.
#[derive(Clone, Debug)]
pub struct Executable {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Where it was started; `None`: that folder was gone by then.
    folder: Option<PathBuf>,
}

/// A process that is to take this one's place.
#[derive(Debug)]
pub struct ReplacementProcess {
    child: Child,
    ready: File,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplacementOutcome {
    /// It serves.
    Serves,
    /// It ended by itself before it did.
    Ended,
    /// It took too long, and was killed.
    Killed,
}

impl Executable {
    /// This process's.
    ///
    /// # Errors
    /// Neither the command line nor `/proc` tells where the program is.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let program = program(&arguments.next().unwrap_or_default())?;
        Ok(Self { program, arguments: arguments.collect(), folder: start::folder().ok() })
    }

    /// Starts a process like this one was, and hands it these sockets.
    ///
    /// # Errors
    /// What starting a process can fail with.
    pub fn start_replacement(&self, sockets: Vec<HandedSocket>) -> io::Result<ReplacementProcess> {
        let (ready, is_ready) = io::pipe()?;
        let is_ready = OwnedFd::from(is_ready);
        // They stay open in the successor alone: here they are closed when it has been started.
        for descriptor in sockets.iter().map(|handed| &handed.socket).chain([&is_ready]) {
            descriptors::keep_on_exec(descriptor)?;
        }
        let list = |is_in: fn(&&HandedSocket) -> bool| {
            let numbers = sockets.iter().filter(is_in).map(|handed| handed.socket.as_raw_fd().to_string());
            numbers.collect::<Vec<_>>().join(",")
        };
        let mut command = Command::new(&self.program);
        // Where its way leads now. If it leads nowhere any more, whole paths may still do.
        if let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_dir()) {
            command.current_dir(folder).env("PWD", folder);
        }
        let child = command
            .args(&self.arguments)
            .env(INHERIT, list(|_| true))
            .env(FILES, list(|handed| handed.has_file))
            .env(READY, is_ready.as_raw_fd().to_string())
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .spawn()?;
        Ok(ReplacementProcess { child, ready: File::from(OwnedFd::from(ready)) })
    }
}

/// The path by which a program was called, from the top, with no link on its way resolved; if that is not this program's,
/// the path that `/proc` tells, which is the program's own.
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
        // Without /proc there is nothing to compare it with.
        (Ok(found), Err(_)) => found.is_file(),
        (Err(_), _) => false,
    };
    candidates.into_iter().find(is_running).map_or_else(std::env::current_exe, Ok)
}

impl ReplacementProcess {
    /// Its process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves, for so long at most; zero: for as long as it takes.
    pub fn wait_until_ready(mut self, timeout: Duration) -> ReplacementOutcome {
        // A pipe cannot be read for a while only; but whoever waits for who reads it can end the process, and with that
        // the pipe.
        let (tell, told) = mpsc::channel();
        let mut ready = self.ready;
        let reader = thread::Builder::new().name("xps-ready".to_owned()).spawn(move || {
            // If nobody waits any more, it need not be told.
            let _ = tell.send(ready.read_exact(&mut [0]).is_ok());
        });
        let is_ready = match (reader, timeout.is_zero()) {
            (Ok(_), true) => told.recv().ok(),
            (Ok(_), false) => match told.recv_timeout(timeout) {
                Ok(is_ready) => Some(is_ready),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => Some(false),
            },
            // Without a thread it could not be heard.
            (Err(_), _) => None,
        };
        match is_ready {
            Some(true) => ReplacementOutcome::Serves,
            Some(false) => {
                // It has closed the pipe, so it is about to end; then it must not stay a zombie.
                let _ = self.child.wait();
                ReplacementOutcome::Ended
            }
            None => {
                // That it has ended already is no fault.
                let _ = self.child.kill();
                let _ = self.child.wait();
                ReplacementOutcome::Killed
            }
        }
    }
}
