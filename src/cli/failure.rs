//! Errors as the user sees them: what failed, on what, why, and what to do; and the exit code.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::ctl::ControlError;
use super::reload::ReloadError;
use crate::config::resolve::ResolveError;
use crate::core::client::ClientError;
use crate::core::{RunError, StartError};
use crate::driver::Address;
use crate::driver::probe::{BackendChoice, Unavailable};
use crate::load::RunError as LoadError;
use crate::telemetry::access_log::AccessLogOutput;
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
    #[error("duplicate listen address {0}")]
    ListedTwice(Address),
    /// The wildcard address and a specific address with the same port.
    #[error("listen addresses {one} and {all} overlap")]
    Overlap { one: SocketAddr, all: SocketAddr },
    /// A configuration file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Config { path: PathBuf, error: io::Error },
    /// A configuration file has problems; the text lists all of them.
    #[error("{0}")]
    Problems(String),
    /// The arguments contradict each other or have no meaning.
    #[error("{0}")]
    Usage(String),
    /// `explain`: the request would not be served.
    #[error("{0}")]
    NotServed(String),
    /// The configuration cannot be used on this host.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// `check`: what the configuration file names is missing on this host.
    #[error("{0}")]
    NotHere(String),
    /// `reload`: no signal was sent.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// `bench`: there was no run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// `bench`: no response was correct.
    #[error("no request got a correct response")]
    NothingMeasured,
    /// `bench`: a server that was to be compared could not be started or ended.
    #[error("{command}: {reason}")]
    Rival { command: String, reason: String },
    /// `bench`: what was asked for does not hold; the text lists all of it.
    #[error("{0}")]
    NotMet(String),
    /// `top`: the server's metrics cannot be read.
    #[error(transparent)]
    Top(#[from] super::top::ReadError),
    /// `ctl`: the server refuses, or none answers.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A file to send, or its root, cannot be used.
    #[error("cannot send {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    /// A folder to serve cannot be used.
    #[error("cannot serve {}: {error}", path.display())]
    Folder { path: PathBuf, error: io::Error },
    /// The path to serve is not a folder.
    #[error("cannot serve {}: not a folder", path.display())]
    NotAFolder { path: PathBuf },
    /// A file to send is outside its root.
    #[error("{} is not in {}", path.display(), root.display())]
    OutsideRoot { path: PathBuf, root: PathBuf },
    /// A file to send is a link to a file outside its root.
    #[error("{} leads to {}, which is not in {}", path.display(), target.display(), root.display())]
    LeadsOut { path: PathBuf, target: PathBuf, root: PathBuf },
    /// The file to write exists.
    #[error("{} already exists", .0.display())]
    FileThere(PathBuf),
    /// `receive`: no complete file was received.
    #[error("{} was not received: {reason}", path.display())]
    NotReceived { path: PathBuf, reason: String },
    /// `reverse --once`: the client has left.
    #[error("the client has left, and --once serves only one")]
    ClientLeft,
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The log cannot be set up.
    #[error("cannot set up the log: {0}")]
    Log(#[from] LogError),
    /// A thread that every server needs cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// `connect`: a thread or the socket pair for standard input and output cannot be created.
    #[error("cannot connect standard input and output to the connection: {0}")]
    Bridge(#[source] io::Error),
}

impl Failure {
    /// The text for standard error, in the format of the log. With JSON, the error is JSON as well.
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

    /// What failed, and what to do.
    pub fn with_help(&self) -> String {
        match self.help() {
            Some(help) => format!("{self}\nhelp: {help}"),
            None => self.to_string(),
        }
    }

    /// `error` means a bug in xps. Every other failure is `warn`, even if it ends the program, so that
    /// alerts on `error` do not fire for a port in use.
    pub const fn level(&self) -> tracing::Level {
        match self {
            Self::Run(RunError::Panicked) => tracing::Level::ERROR,
            Self::Run(RunError::Worker(_) | RunError::Supervise(_))
            | Self::Start(_)
            | Self::Client(_)
            | Self::ListedTwice(_)
            | Self::Overlap { .. }
            | Self::Config { .. }
            | Self::Problems(_)
            | Self::NotMet(_)
            | Self::Usage(_)
            | Self::NotServed(_)
            | Self::Resolve(_)
            | Self::NotHere(_)
            | Self::Reload(_)
            | Self::Top(_)
            | Self::Control(_)
            | Self::Load(_)
            | Self::Rival { .. }
            | Self::NothingMeasured
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::NotAFolder { .. }
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
            Self::Start(StartError::AccessLog { output, source }) => help_to_log(output, source),
            Self::Start(StartError::AcmeStorage { .. }) => {
                Some("the user of this process has to be able to write there: see `acme.storage`".to_owned())
            }
            Self::ListedTwice(_) => Some("name each address once".to_owned()),
            Self::Overlap { .. } => {
                Some("the kernel allows only one of them: list specific addresses, or only the wildcard".to_owned())
            }
            Self::FileThere(_) => Some("--force replaces it; --keep takes the next free name".to_owned()),
            Self::OutsideRoot { .. } => Some("use a --root that contains it".to_owned()),
            Self::LeadsOut { target, .. } => {
                Some(format!("send {} itself, or use a --root that contains both", target.display()))
            }
            Self::NotAFolder { path } => Some(help_to_serve(path)),
            Self::File { path, error } if error.kind() == io::ErrorKind::IsADirectory => {
                Some(format!("`xps serve {}` serves a folder's files over HTTP", path.display()))
            }
            Self::Config { path, error } if error.kind() == io::ErrorKind::IsADirectory => {
                Some(format!("name the file: {}", path.join("xps_config.json").display()))
            }
            Self::Config { error, .. } if error.kind() == io::ErrorKind::NotFound => Some(
                "`xps serve DIR` and `xps proxy` need no file; docs/configuration.md describes the file".to_owned(),
            ),
            Self::Config { .. }
            | Self::Problems(_)
            | Self::NotMet(_)
            | Self::Usage(_)
            | Self::NotServed(_)
            | Self::Resolve(_)
            | Self::Reload(ReloadError::Signal { .. }) => None,
            Self::Load(LoadError::Driver(error)) => help_to_set_up(error),
            Self::Load(LoadError::Unreachable { .. }) => {
                Some("the server has to run, and to be reached from here, before it is measured".to_owned())
            }
            Self::Rival { .. } => Some("run the command by itself: what it says is not shown here".to_owned()),
            Self::NothingMeasured => {
                Some("the errors above tell why; --expect-status allows other statuses".to_owned())
            }
            Self::Top(_) => Some(
                "the server needs `metrics` or `admin` in its configuration; name that address or socket".to_owned(),
            ),
            Self::Control(error) => error.help(),
            Self::Start(StartError::PidFile { .. }) => {
                Some("the user of this process has to be able to write there: see `pid_file`".to_owned())
            }
            Self::NotHere(_) => Some("`xps check --no-fs` checks the file alone".to_owned()),
            Self::Reload(ReloadError::Refused { .. } | ReloadError::Unknown { .. }) => {
                Some("`xps reload --force` sends it anyway; SIGHUP ends a process that does not catch it".to_owned())
            }
            Self::Start(
                StartError::File { .. }
                | StartError::Receive { .. }
                | StartError::ErrorPage { .. }
                | StartError::Upstream { .. }
                | StartError::Tls(_)
                | StartError::TlsSettings(_)
                | StartError::Inherit(_),
            )
            | Self::Run(_)
            | Self::Client(ClientError::Connection { .. })
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::ClientLeft
            | Self::NotReceived { .. }
            | Self::Output(_)
            | Self::Log(LogError::Directives(_) | LogError::Filter { .. } | LogError::Second(_)) => None,
        }
    }

    /// 2: usage; 3: no server answers, or what was asked of a measurement does not hold; 4: the requested back-end is unavailable; 1: everything else.
    pub fn exit_code(&self, backend: BackendChoice) -> ExitCode {
        ExitCode::from(match self {
            Self::Start(StartError::Unavailable(_)) | Self::Client(ClientError::Unavailable(_)) => match backend {
                BackendChoice::IoUring | BackendChoice::Epoll => BACKEND_UNAVAILABLE,
                // No back-end was requested: a resource that epoll needs as well ran out.
                BackendChoice::Auto => RUN_TIME,
            },
            Self::NotMet(_) => NOT_MET,
            Self::Control(ControlError::Unreachable { .. } | ControlError::NoReply { .. }) => NO_SERVER,
            Self::Control(ControlError::Refused { .. }) => RUN_TIME,
            Self::OutsideRoot { .. } | Self::LeadsOut { .. } | Self::ListedTwice(_) | Self::Overlap { .. } => USAGE,
            Self::Log(LogError::Directives(_) | LogError::Filter { .. }) => USAGE,
            Self::Log(LogError::Second(_) | LogError::Thread(_)) => RUN_TIME,
            Self::Config { .. } | Self::Problems(_) | Self::Usage(_) => USAGE,
            Self::NotServed(_) | Self::Resolve(_) | Self::NotHere(_) | Self::Reload(_) | Self::Top(_) => RUN_TIME,
            Self::Start(
                StartError::Bind { .. }
                | StartError::File { .. }
                | StartError::Receive { .. }
                | StartError::AccessLog { .. }
                | StartError::ErrorPage { .. }
                | StartError::Upstream { .. }
                | StartError::Tls(_)
                | StartError::TlsSettings(_)
                | StartError::AcmeStorage { .. }
                | StartError::PidFile { .. }
                | StartError::Inherit(_)
                | StartError::Worker(_),
            )
            | Self::Run(_)
            | Self::Client(ClientError::Driver(_) | ClientError::Connection { .. })
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::NotAFolder { .. }
            | Self::ClientLeft
            | Self::NotReceived { .. }
            | Self::FileThere(_)
            | Self::Load(_)
            | Self::Rival { .. }
            | Self::NothingMeasured
            | Self::Output(_)
            | Self::Thread(_)
            | Self::Bridge(_) => RUN_TIME,
        })
    }
}

const RUN_TIME: u8 = 1;
/// The same code as the command-line parser's.
pub const USAGE: u8 = 2;
const NO_SERVER: u8 = 3;
const NOT_MET: u8 = 3;
const BACKEND_UNAVAILABLE: u8 = 4;

fn help_to_bind(address: &Address, error: &io::Error) -> Option<String> {
    match (address, error.kind()) {
        (Address::Inet(address), io::ErrorKind::AddrInUse) => {
            let port = address.port();
            Some(format!("`ss -ltnp 'sport = :{port}'` shows the process; stop it, or listen on another port"))
        }
        (Address::Inet(_), io::ErrorKind::PermissionDenied) => {
            Some("ports below 1024 need CAP_NET_BIND_SERVICE; use a higher one".to_owned())
        }
        (Address::Inet(_), io::ErrorKind::AddrNotAvailable) => {
            Some("no interface has this address; `ip addr` lists them".to_owned())
        }
        (Address::Unix(_), io::ErrorKind::AddrInUse) => {
            Some("`ss -lxp` shows the process; stop it, or listen on another path".to_owned())
        }
        (Address::Unix(_), io::ErrorKind::AlreadyExists) => Some("remove it, or listen on another path".to_owned()),
        (Address::Unix(_), io::ErrorKind::NotFound) => Some("create the folder of the socket".to_owned()),
        (Address::Unix(_), io::ErrorKind::PermissionDenied) => {
            Some("xps needs permission to create files in that folder; or use another one".to_owned())
        }
        (Address::Inet(_) | Address::Unix(_), _) => None,
    }
}

/// Remedies for errors of setting up rings and threads. A ring of full size may hit a limit that the
/// small ring of the probe did not.
fn help_to_set_up(error: &io::Error) -> Option<String> {
    let shortage = match error.raw_os_error() {
        Some(libc::ENOMEM) => Unavailable::LockedMemory,
        Some(libc::EAGAIN) => {
            return Some(
                "the limit of threads is reached: raise `ulimit -u` (TasksMax= and LimitNPROC= in a unit, \
                 pids.max of a container), or use fewer --workers"
                    .to_owned(),
            );
        }
        Some(libc::EMFILE | libc::ENFILE) => return Some("ulimit -n 65536 (LimitNOFILE=65536 in a unit)".to_owned()),
        Some(_) | None => return None,
    };
    Some(shortage.remedy().to_owned())
}

/// `xps serve FILE`: suggests commands that serve a file.
fn help_to_serve(file: &Path) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, folder) = (file.display(), folder.display());
    format!("`xps send {file}` sends it to each client that connects; `xps serve {folder}` serves its folder")
}

/// Remedies for access logs. A socket, or a FIFO without reader, cannot be opened by its path
/// (`ENXIO`).
fn help_to_log(output: &AccessLogOutput, error: &io::Error) -> Option<String> {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => help_to_set_up(error),
        Some(libc::ENXIO) => Some(format!("{output} cannot be opened; `-` means standard output")),
        Some(libc::ENOENT) => Some("create the folder of the log".to_owned()),
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
