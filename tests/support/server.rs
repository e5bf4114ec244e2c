//! The program under test: how it is started, watched and ended.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use super::backend::Backend;
use super::bridge::{Covered, Encryption, Over};
use super::environment::{patience, wrapper};
use super::log::{Log, Record};
use super::process::{Finished, Signal, Usage, run_to_end, wait_for_exit};

/// A command line of the program, to be started.
#[derive(Debug)]
pub struct Launch {
    before: Vec<String>,
    arguments: Vec<String>,
    flags: Vec<String>,
    is_told_nothing: bool,
    log_directives: Option<String>,
    folder: Option<PathBuf>,
    listeners: usize,
    input: Option<OwnedFd>,
    encryption: Option<Encryption>,
    is_h2c: bool,
}

impl Launch {
    /// `xps` with these arguments, then the flags that choose the back-end, if the command has one.
    pub fn new<I: IntoIterator<Item: Into<String>>>(backend: Backend, arguments: I) -> Self {
        let arguments: Vec<String> = arguments.into_iter().map(Into::into).collect();
        let has_backend = !arguments.first().is_some_and(|command| WITHOUT_BACKEND.contains(&command.as_str()));
        Self {
            before: wrapper(),
            arguments,
            flags: if has_backend { backend.flags() } else { Vec::new() },
            is_told_nothing: false,
            log_directives: None,
            folder: None,
            listeners: 1,
            input: None,
            encryption: None,
            is_h2c: false,
        }
    }

    /// `xps echo` on one port.
    pub fn echo(backend: Backend) -> Self {
        Self::new(backend, ["echo", LOOPBACK])
    }

    /// `xps reverse` on one port.
    pub fn reverse(backend: Backend) -> Self {
        Self::new(backend, ["reverse", LOOPBACK])
    }

    /// `xps proxy` on one port.
    pub fn proxy(backend: Backend, upstream: impl ToString) -> Self {
        Self::new(backend, ["proxy", "--listen", LOOPBACK, "--upstream"]).flag(upstream)
    }

    /// `xps send` on one port.
    pub fn send(backend: Backend, file: &Path) -> Self {
        Self::new(backend, ["send"]).flag(file.display()).flags(["--listen", LOOPBACK])
    }

    /// Gives no back-end on the command line: a configuration file, or the program, chooses.
    #[must_use]
    pub fn without_flags(mut self) -> Self {
        self.flags.clear();
        self
    }

    /// Adds one word to the command line.
    #[must_use]
    pub fn flag(mut self, word: impl ToString) -> Self {
        self.arguments.push(word.to_string());
        self
    }

    /// Adds words to the command line.
    #[must_use]
    pub fn flags<I: IntoIterator<Item: Into<String>>>(mut self, words: I) -> Self {
        self.arguments.extend(words.into_iter().map(Into::into));
        self
    }

    /// Leaves the back-end and the time to drain to the configuration file, which flags would overrule.
    #[must_use]
    pub fn told_nothing(mut self) -> Self {
        self.flags.clear();
        self.is_told_nothing = true;
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Starts it with these directives in `XPS_LOG`; what is said last counts.
    #[must_use]
    pub fn logging(mut self, directives: &str) -> Self {
        self.log_directives = Some(directives.to_owned());
        self
    }

    /// Waits for so many addresses to listen on; without it, one.
    #[must_use]
    pub fn listening_on(mut self, listeners: usize) -> Self {
        self.listeners = listeners;
        self
    }

    /// Starts it with this as standard input, a server only.
    #[must_use]
    pub fn with_input(mut self, input: impl Into<OwnedFd>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// With TLS on its listeners, if tests are to run over it: [`super::bridge`].
    #[must_use]
    pub fn over_tls_where_asked(self) -> Self {
        match Over::asked() {
            over @ Over::Tls(_) => self.over(over),
            Over::Plain | Over::H2c | Over::H2 => self,
        }
    }

    /// For a server of HTTP: with TLS, HTTP/2 or both, if tests are to run over them.
    #[must_use]
    pub fn over_what_is_asked(self) -> Self {
        self.over(Over::asked())
    }

    /// With this on its listeners.
    #[must_use]
    pub fn over(mut self, over: Over) -> Self {
        self.encryption = Encryption::of(over);
        self.is_h2c = matches!(over, Over::H2c);
        self
    }

    /// Starts it through another program.
    #[must_use]
    pub fn through<I: IntoIterator<Item: Into<String>>>(mut self, words: I) -> Self {
        self.before.splice(0..0, words.into_iter().map(Into::into));
        self
    }

    /// Starts it with this limit on descriptors, soft and hard.
    #[must_use]
    pub fn with_descriptors_max(self, descriptors: u32) -> Self {
        self.through(["sh", "-c", &format!("ulimit -n {descriptors} && exec \"$@\""), "sh"])
    }

    /// The command, with nothing of this program's own settings inherited.
    pub fn command(&self) -> Command {
        let words: Vec<&str> = (self.before.iter().map(String::as_str))
            .chain([env!("CARGO_BIN_EXE_xps")])
            .chain((self.arguments.iter().chain(&self.flags)).map(String::as_str))
            .collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"XPS_")) {
            command.env_remove(name);
        }
        if let Some(directives) = &self.log_directives {
            command.env("XPS_LOG", directives);
        }
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Starts a server and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Xps {
        match self.try_start() {
            Ok(xps) => xps,
            Err(refusal) => panic!("it did not start: {}\n{}", refusal.status, refusal.log),
        }
    }

    /// Starts a server and waits until it listens or has ended.
    ///
    /// # Errors
    /// How it ended.
    #[track_caller]
    pub fn try_start(mut self) -> Result<Xps, StartFailure> {
        self.flags.extend(["--log-format", "json"].map(str::to_owned));
        if !self.is_told_nothing && !self.arguments.iter().any(|word| word == "--drain-timeout") {
            self.flags.extend(["--drain-timeout", "5s"].map(str::to_owned));
        }
        if let Some(encryption) = &self.encryption {
            self.flags.extend(encryption.flags());
        }
        if self.is_h2c {
            self.flags.push("--h2c".to_owned());
        }
        let mut command = self.command();
        command.stdout(Stdio::null());
        if let Some(input) = self.input.take() {
            command.stdin(input);
        }
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let log = Log::follow(process.stderr.take().expect("standard error is a pipe"));
        let mut xps = Xps {
            process,
            log,
            addresses: Vec::new(),
            paths: Vec::new(),
            ended: None,
            encryption: self.encryption,
            covered: Covered::default(),
        };
        let listening = xps.log.wait_until_or_end("the listening addresses", |records| {
            let (addresses, paths) = listening(records);
            (addresses.len() + paths.len() >= self.listeners).then_some((addresses, paths))
        });
        match listening {
            Some((addresses, paths)) => {
                if let Some(encryption) = &mut xps.encryption {
                    encryption.covers(&addresses);
                }
                if self.is_h2c {
                    xps.covered.by_h2c(&addresses);
                }
                (xps.addresses, xps.paths) = (addresses, paths);
            }
            None => {
                let status = xps.wait();
                return Err(StartFailure { status, log: xps.log.clone() });
            }
        }
        Ok(xps)
    }

    /// Runs it to its end with this on standard input. It must end by itself.
    #[track_caller]
    pub fn run(&self, input: &[u8]) -> Finished {
        let finished = run_to_end(&mut self.command(), input);
        assert!(!finished.errors.contains("panicked at"), "{}", finished.errors);
        finished
    }
}

/// A server that did not start.
#[derive(Debug)]
pub struct StartFailure {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub log: Log,
}

/// A running server. When it is dropped it is asked to end, must do so in order, and must not have
/// reported a fault of its own; if the test has failed already, it is killed and its log shown.
#[derive(Debug)]
pub struct Xps {
    process: Child,
    log: Log,
    addresses: Vec<SocketAddr>,
    paths: Vec<PathBuf>,
    ended: Option<ExitStatus>,
    encryption: Option<Encryption>,
    /// Where it speaks HTTP/2 with prior knowledge.
    covered: Covered,
}

impl Xps {
    /// The first unix socket it listens on.
    pub fn path(&self) -> &Path {
        &self.paths[0]
    }

    /// The first address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every address it listens on, in the order of the log.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What clients that are other programs need where tests run over TLS.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has used so far.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        signal.send(&self.process);
    }

    /// Waits until it has ended, for whatever reason.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(patience())
    }

    /// Waits until it has ended, so long at most.
    #[track_caller]
    pub fn wait_within(&mut self, time: Duration) -> ExitStatus {
        let status = match self.ended {
            Some(status) => status,
            None => wait_for_exit(&mut self.process, time)
                .unwrap_or_else(|| panic!("the program did not end within {time:?}")),
        };
        self.ended = Some(status);
        status
    }

    /// Asks it to end, and checks that it ends well.
    #[track_caller]
    pub fn finish(mut self) {
        self.stop();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.ended.is_none() && matches!(self.process.try_wait(), Ok(None))
    }

    #[track_caller]
    fn stop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::Terminate);
            let status = self.wait();
            assert_eq!(status.code(), Some(0), "ended by SIGTERM: {status}\n{}", self.log);
        }
        self.log.wait_for_end();
        self.log.assert_no_alarm();
    }
}

impl Drop for Xps {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.ended.is_none() {
                let _ = self.process.kill();
                let _ = self.process.wait();
            }
            eprintln!("{}", self.log);
        } else {
            self.stop();
        }
    }
}

/// The distinct addresses and paths of "listening" records; several workers may share one.
fn listening(records: &[Record]) -> (Vec<SocketAddr>, Vec<PathBuf>) {
    let (mut addresses, mut paths) = (Vec::new(), Vec::new());
    for record in records.iter().filter(|record| record.message() == "listening") {
        let text = record.text("address").unwrap_or_else(|| panic!("no address in {record}"));
        if let Some(path) = text.strip_prefix("unix:") {
            paths.push(PathBuf::from(path));
            continue;
        }
        let address = SocketAddr::from_str(text).unwrap_or_else(|error| panic!("{error} in {record}"));
        assert_ne!(address.port(), 0, "the port chosen must be logged: {record}");
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (addresses, paths)
}

/// The commands that drive nothing.
const WITHOUT_BACKEND: [&str; 11] =
    ["check", "compare", "explain", "schema", "reload", "top", "ctl", "probe", "completions", "man", "help"];

const LOOPBACK: &str = "127.0.0.1:0";
