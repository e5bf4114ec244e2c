//! Failures as people meet them: what, on what, why, and what to do; and the code to exit with.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::core::client::ClientError;
use crate::core::{RunError, StartError};
use crate::driver::probe::Unavailable;

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
    /// The access log cannot be written.
    #[error("cannot write the access log {}: {error}", path.display())]
    AccessLog {
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
    /// Standard input or output cannot be used.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// The log cannot be set up.
    #[error("the log cannot be set up: {0}")]
    Log(String),
    /// Threads or sockets for the terminal cannot be made.
    #[error("cannot join standard input and output to the connection: {0}")]
    Bridge(#[source] io::Error),
}

impl Failure {
    /// Writes it to standard error.
    pub fn report(&self) {
        let mut output = io::stderr().lock();
        // Nobody is left to tell that nobody can be told.
        let _ = writeln!(output, "xps: error: {self}");
        if let Some(help) = self.help() {
            let _ = writeln!(output, "help: {help}");
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Start(StartError::Unavailable(unavailable)) | Self::Client(ClientError::Unavailable(unavailable)) => {
                Some(unavailable.remedy().to_owned())
            }
            Self::Start(StartError::Bind { address, source }) => match source.kind() {
                io::ErrorKind::AddrInUse => Some(format!(
                    "`ss -ltnp 'sport = :{}'` shows who has it; another port is chosen with --listen",
                    address.port()
                )),
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 need CAP_NET_BIND_SERVICE; take a higher one".to_owned())
                }
                io::ErrorKind::AddrNotAvailable => {
                    Some("no interface has this address; `ip addr` lists them".to_owned())
                }
                _ => None,
            },
            Self::OutsideRoot { .. } => Some("name a --root that contains it".to_owned()),
            Self::Start(StartError::File { .. } | StartError::Worker(_))
            | Self::Run(_)
            | Self::Client(ClientError::Driver(_) | ClientError::Connection { .. })
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::AccessLog { .. }
            | Self::Output(_)
            | Self::Log(_)
            | Self::Bridge(_) => None,
        }
    }

    /// 2: usage; 4: the demanded back-end is unavailable; 1: everything else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Start(StartError::Unavailable(unavailable)) | Self::Client(ClientError::Unavailable(unavailable)) => {
                match unavailable {
                    Unavailable::Resource(_) => ExitCode::from(1),
                    Unavailable::NotInKernel
                    | Unavailable::Disabled { .. }
                    | Unavailable::Seccomp
                    | Unavailable::Forbidden(_)
                    | Unavailable::Lacks(_) => ExitCode::from(4),
                }
            }
            Self::OutsideRoot { .. } | Self::Log(_) => ExitCode::from(2),
            Self::Start(StartError::Bind { .. } | StartError::File { .. } | StartError::Worker(_))
            | Self::Run(_)
            | Self::Client(ClientError::Driver(_) | ClientError::Connection { .. })
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::AccessLog { .. }
            | Self::Output(_)
            | Self::Bridge(_) => ExitCode::from(1),
        }
    }
}
