//! Failures as people meet them: what, on what, why, and what to do; and the code to exit with.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::reload::ReloadError;
use crate::config::build::BuildError;
use crate::core::client::ClientError;
use crate::core::{RunError, StartError};
use crate::driver::Address;
use crate::driver::probe::{BackendChoice, Unavailable};
use crate::telemetry::{self, LogError, LogFormat};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A server could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A running server failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// `connect` failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The same address was given twice.
    #[error("{0} is to be listened on twice")]
    ListedTwice(Address),
    /// An address of every interface, and one of them.
    #[error("{one} is to be listened on, and so is {all}, which is part of it")]
    Overlap {
        /// The address of one interface.
        one: SocketAddr,
        /// That of all of them.
        all: SocketAddr,
    },
    /// A configuration file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A configuration file has problems; this is all of them.
    #[error("{0}")]
    Problems(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A request that was to be explained would not be served.
    #[error("{0}")]
    NotServed(String),
    /// What the configuration file asks for cannot be had here.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// What a configuration file names is not here.
    #[error("{0}")]
    NotHere(String),
    /// A process was not asked to read its configuration anew.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// A file to send is not to be had.
    #[error("cannot send {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A folder to serve cannot be.
    #[error("cannot serve {}: {error}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// What is to be served is no folder.
    #[error("cannot serve {}: it is not a folder", path.display())]
    NotAFolder {
        /// What it is.
        path: PathBuf,
    },
    /// The access log cannot be written.
    #[error("cannot write the access log {}: {error}", path.display())]
    AccessLog {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A page in place of one of ours cannot be read.
    #[error("cannot read the error page {}: {error}", path.display())]
    ErrorPage {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file to send is not in the folder it should be in.
    #[error("{} is not in {}", path.display(), root.display())]
    OutsideRoot {
        /// The file.
        path: PathBuf,
        /// The folder.
        root: PathBuf,
    },
    /// A file to send is a link to one that is not in the folder it should be in.
    #[error("{} leads to {}, which is not in {}", path.display(), target.display(), root.display())]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
        /// The folder.
        root: PathBuf,
    },
    /// What was to be written is there already.
    #[error("{} is there already", .0.display())]
    FileThere(PathBuf),
    /// A file was to be received, and was not.
    #[error("{} was not received: {reason}", path.display())]
    NotReceived {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The only client that was to be served has left.
    #[error("the client has left, and --once serves no other")]
    ClientLeft,
    /// Standard input or output cannot be used.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// The log cannot be set up.
    #[error("the log cannot be set up: {0}")]
    Log(#[from] LogError),
    /// The threads that every server has cannot be started.
    #[error("no thread can be started: {0}")]
    Thread(#[source] io::Error),
    /// Threads or sockets for the terminal cannot be made.
    #[error("cannot join standard input and output to the connection: {0}")]
    Bridge(#[source] io::Error),
}

impl Failure {
    /// What to write to standard error, in the format of the log: where JSON is read, only JSON is to be read.
    pub fn text(&self, format: LogFormat) -> String {
        let (message, help) = (self.to_string(), self.help());
        match format {
            LogFormat::Human => {
                let help = help.map_or(String::new(), |help| format!("help: {help}\n"));
                format!("xps: error: {message}\n{help}")
            }
            LogFormat::Json => telemetry::last_record(self.level(), &message, help.as_deref()),
        }
    }

    /// `error` is for bugs of xps, also where the program cannot go on: who watches for them should not be called for
    /// a port that is taken.
    const fn level(&self) -> tracing::Level {
        match self {
            Self::Run(RunError::Panicked) => tracing::Level::ERROR,
            Self::Run(RunError::Worker(_) | RunError::Supervise(_))
            | Self::Start(_)
            | Self::Client(_)
            | Self::ListedTwice(_)
            | Self::Overlap { .. }
            | Self::Config { .. }
            | Self::Problems(_)
            | Self::Usage(_)
            | Self::NotServed(_)
            | Self::Build(_)
            | Self::NotHere(_)
            | Self::Reload(_)
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::NotAFolder { .. }
            | Self::AccessLog { .. }
            | Self::ErrorPage { .. }
            | Self::OutsideRoot { .. }
            | Self::LeadsOut { .. }
            | Self::ClientLeft
            | Self::NotReceived { .. }
            | Self::FileThere(_)
            | Self::Output(_)
            | Self::Log(_)
            | Self::Thread(_)
            | Self::Bridge(_) => tracing::Level::WARN,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Start(StartError::Unavailable(unavailable)) | Self::Client(ClientError::Unavailable(unavailable)) => {
                Some(unavailable.remedy().to_owned())
            }
            Self::Start(StartError::Bind { address, source }) => help_to_bind(address, source),
            Self::Start(StartError::Worker(error))
            | Self::Client(ClientError::Driver(error))
            | Self::Log(LogError::Thread(error))
            | Self::Thread(error)
            | Self::Bridge(error) => help_to_set_up(error),
            Self::AccessLog { path, error } | Self::Build(BuildError::AccessLog { path, error }) => {
                help_to_log(path, error)
            }
            Self::ListedTwice(_) => Some("name each address once".to_owned()),
            Self::Overlap { .. } => {
                Some("the kernel lets only one of them listen: name each address, or only the one for all".to_owned())
            }
            Self::FileThere(_) => Some("--force replaces it; --keep takes the next free name".to_owned()),
            Self::OutsideRoot { .. } => Some("name a --root that contains it".to_owned()),
            Self::LeadsOut { target, .. } => {
                Some(format!("send {} itself, or name a --root that contains both", target.display()))
            }
            Self::NotAFolder { path } => Some(help_to_serve(path)),
            Self::File { path, error } if error.kind() == io::ErrorKind::IsADirectory => {
                Some(format!("`xps serve {}` serves a folder's files over HTTP", path.display()))
            }
            Self::Config { path, error } if error.kind() == io::ErrorKind::IsADirectory => {
                Some(format!("name the file: {}", path.join("xps_config.json").display()))
            }
            Self::Config { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                Some("`xps serve DIR` and `xps proxy` need no file; docs/configuration.md describes it".to_owned())
            }
            Self::Config { .. }
            | Self::Problems(_)
            | Self::Usage(_)
            | Self::NotServed(_)
            | Self::Build(BuildError::ErrorPage { .. } | BuildError::Socket { .. } | BuildError::Text { .. })
            | Self::Reload(ReloadError::Signal { .. }) => None,
            Self::NotHere(_) => Some("`xps check --no-fs` looks at the file alone".to_owned()),
            Self::Reload(ReloadError::Refused { .. } | ReloadError::Unknown { .. }) => {
                Some("`xps reload --force` sends it all the same; a process that does not catch it dies".to_owned())
            }
            Self::Start(
                StartError::File { .. }
                | StartError::Receive { .. }
                | StartError::Upstream { .. }
                | StartError::Inherit(_),
            )
            | Self::Run(_)
            | Self::Client(ClientError::Connection { .. })
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::ErrorPage { .. }
            | Self::ClientLeft
            | Self::NotReceived { .. }
            | Self::Output(_)
            | Self::Log(LogError::Directives(_) | LogError::Second(_)) => None,
        }
    }

    /// 2: usage; 4: the demanded back-end is unavailable; 1: everything else.
    pub fn exit_code(&self, backend: BackendChoice) -> ExitCode {
        ExitCode::from(match self {
            Self::Start(StartError::Unavailable(_)) | Self::Client(ClientError::Unavailable(_)) => match backend {
                BackendChoice::IoUring | BackendChoice::Epoll => BACKEND_UNAVAILABLE,
                // Nothing was demanded: a resource ran out.
                BackendChoice::Auto => RUN_TIME,
            },
            Self::OutsideRoot { .. } | Self::LeadsOut { .. } | Self::ListedTwice(_) | Self::Overlap { .. } => USAGE,
            Self::Log(LogError::Directives(_)) => USAGE,
            Self::Log(LogError::Second(_) | LogError::Thread(_)) => RUN_TIME,
            Self::Config { .. } | Self::Problems(_) | Self::Usage(_) => USAGE,
            Self::NotServed(_) | Self::Build(_) | Self::NotHere(_) | Self::Reload(_) => RUN_TIME,
            Self::Start(
                StartError::Bind { .. }
                | StartError::File { .. }
                | StartError::Receive { .. }
                | StartError::Upstream { .. }
                | StartError::Inherit(_)
                | StartError::Worker(_),
            )
            | Self::Run(_)
            | Self::Client(ClientError::Driver(_) | ClientError::Connection { .. })
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::NotAFolder { .. }
            | Self::AccessLog { .. }
            | Self::ErrorPage { .. }
            | Self::ClientLeft
            | Self::NotReceived { .. }
            | Self::FileThere(_)
            | Self::Output(_)
            | Self::Thread(_)
            | Self::Bridge(_) => RUN_TIME,
        })
    }
}

const RUN_TIME: u8 = 1;
/// The parser of the command line exits with the same.
pub const USAGE: u8 = 2;
const BACKEND_UNAVAILABLE: u8 = 4;

fn help_to_bind(address: &Address, error: &io::Error) -> Option<String> {
    match (address, error.kind()) {
        (Address::Inet(address), io::ErrorKind::AddrInUse) => {
            let port = address.port();
            Some(format!("`ss -ltnp 'sport = :{port}'` shows who has it; end that, or listen on another port"))
        }
        (Address::Inet(_), io::ErrorKind::PermissionDenied) => {
            Some("ports below 1024 need CAP_NET_BIND_SERVICE; take a higher one".to_owned())
        }
        (Address::Inet(_), io::ErrorKind::AddrNotAvailable) => {
            Some("no interface has this address; `ip addr` lists them".to_owned())
        }
        (Address::Unix(_), io::ErrorKind::AddrInUse) => {
            Some("`ss -lxp` shows who has it; end that, or listen on another path".to_owned())
        }
        (Address::Unix(_), io::ErrorKind::AlreadyExists) => Some("remove it, or listen on another path".to_owned()),
        (Address::Unix(_), io::ErrorKind::NotFound) => Some("make the folder that it is to be in".to_owned()),
        (Address::Unix(_), io::ErrorKind::PermissionDenied) => {
            Some("it must be allowed to make files in that folder; take another".to_owned())
        }
        (Address::Inet(_) | Address::Unix(_), _) => None,
    }
}

/// A ring of full size may meet a limit that the small one of the probe did not.
fn help_to_set_up(error: &io::Error) -> Option<String> {
    let shortage = match error.raw_os_error() {
        Some(libc::ENOMEM) => Unavailable::LockedMemory,
        Some(libc::EAGAIN) => {
            return Some(
                "as many threads as are allowed run already: raise `ulimit -u` (TasksMax= and LimitNPROC= in a unit, \
                 pids.max of a container), or take fewer --workers"
                    .to_owned(),
            );
        }
        Some(libc::EMFILE | libc::ENFILE) => return Some("ulimit -n 65536 (LimitNOFILE=65536 in a unit)".to_owned()),
        Some(_) | None => return None,
    };
    Some(shortage.remedy().to_owned())
}

/// Who names a file wants it to be had.
fn help_to_serve(file: &Path) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, folder) = (file.display(), folder.display());
    format!(
        "`xps send {file}` sends it to each client that connects; `xps serve {folder}` serves the folder that it is in"
    )
}

/// A socket, or a pipe that nobody reads, cannot be opened by its path.
fn help_to_log(path: &Path, error: &io::Error) -> Option<String> {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => help_to_set_up(error),
        Some(libc::ENXIO) => Some(format!("`-` is standard output; {} cannot be opened", path.display())),
        Some(libc::ENOENT) => Some("make the folder that it is to be in".to_owned()),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(unavailable: Unavailable, backend: BackendChoice) -> ExitCode {
        Failure::Start(StartError::Unavailable(unavailable)).exit_code(backend)
    }

    /// `ExitCode` cannot be compared.
    fn shown(code: ExitCode) -> String {
        format!("{code:?}")
    }

    #[test]
    fn a_demanded_back_end_that_is_unavailable_has_a_code_of_its_own_whatever_the_reason() {
        for unavailable in
            [Unavailable::NotInKernel, Unavailable::Seccomp { call: "io_uring_setup" }, Unavailable::LockedMemory]
        {
            let code = code_of(unavailable, BackendChoice::IoUring);
            assert_eq!(shown(code), shown(ExitCode::from(4)));
        }
        let code = code_of(Unavailable::LockedMemory, BackendChoice::Auto);
        assert_eq!(shown(code), shown(ExitCode::from(1)));
    }

    #[test]
    fn a_taken_port_comes_with_the_command_that_shows_by_whom() {
        let failure = Failure::Start(StartError::Bind {
            address: SocketAddr::from(([127, 0, 0, 1], 8001)).into(),
            source: io::Error::from_raw_os_error(libc::EADDRINUSE),
        });
        assert!(failure.to_string().contains("127.0.0.1:8001"));
        assert!(failure.help().is_some_and(|help| help.contains("ss -ltnp 'sport = :8001'")));
    }

    #[test]
    fn a_worker_without_resources_is_told_which() {
        let help = |errno| Failure::Start(StartError::Worker(io::Error::from_raw_os_error(errno))).help();
        assert!(help(libc::EMFILE).is_some_and(|help| help.contains("ulimit -n")));
        assert!(help(libc::ENOMEM).is_some_and(|help| help.contains("ulimit -l")));
        assert!(help(libc::EAGAIN).is_some_and(|help| help.contains("ulimit -u")));
    }
}
