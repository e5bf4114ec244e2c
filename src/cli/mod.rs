//! The command line: parses arguments, runs the command, prints its result or error.

mod args;
mod background;
mod banner;
mod bench;
mod check;
mod connect;
mod ctl;
mod demo;
mod explain;
mod failure;
mod man;
mod operate;
mod operator_request;
mod overrides;
mod probe;
mod process;
mod reload;
mod run;
mod serve;
mod tls;
mod top;
mod units;

use std::cell::Cell;
use std::io::{self, Write};
use std::process::ExitCode;

use self::args::{Arguments, Command, Given};
use self::background::BackgroundTasks;
use self::failure::Failure;
use crate::config::{self, BackendChoice};
use crate::driver::limits::{kernel_release, usable_cpus};
use crate::driver::probe::choose;
use crate::driver::{FeatureSet, signals};
use crate::telemetry::{self, LogFormat};

/// What a command gets besides its own options, and what it reports besides its result.
#[derive(Debug)]
struct Invocation {
    log_format: LogFormat,
    /// The options of the command that were given.
    given: Vec<Given>,
    /// The requested back-end, once it is known: the exit code depends on it.
    backend: Cell<BackendChoice>,
    /// The command is a server: it exits even if nothing reads its standard error.
    is_server: Cell<bool>,
}

/// Runs the command of the process's arguments. Returns the exit code.
pub fn run() -> ExitCode {
    signals::ignore_file_size_limit();
    let (arguments, given) = match args::parse() {
        Ok(parsed) => parsed,
        Err(error) => return show_error(&error),
    };
    let log_format = arguments.log_format;
    let invocation =
        Invocation { log_format, given, backend: Cell::new(BackendChoice::Auto), is_server: Cell::new(false) };
    match execute(arguments, &invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = telemetry::for_standard_error(failure.level(), failure.text(log_format));
            if invocation.is_server.get() {
                say_without_waiting(text);
            } else {
                say(&text);
            }
            failure.exit_code(invocation.backend.get())
        }
    }
}

/// The definition of the command line, for tests that go through all of it.
#[doc(hidden)]
pub fn definition() -> clap::Command {
    args::definition()
}

/// Prints what the parser returns instead of arguments: help, or an error in the arguments.
fn show_error(error: &clap::Error) -> ExitCode {
    // Write errors are ignored: the reader may have stopped, as in `xps --help | head`.
    if error.use_stderr() {
        let _ = write!(io::stderr(), "xps: ");
    }
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS }
}

fn execute(arguments: Arguments, invocation: &Invocation) -> Result<(), Failure> {
    let Arguments { command, settings, log, version, log_format: _ } = arguments;
    if version {
        return print(version_text().as_bytes());
    }
    match command {
        None => demo::run(&settings, &log, invocation),
        Some(Command::Run(options)) => run::run(options, invocation),
        Some(Command::Check(options)) => check::run(&options),
        Some(Command::Explain(options)) => explain::run(&options),
        Some(Command::Schema) => print(format!("{:#}\n", config::file::schema()).as_bytes()),
        Some(Command::Reload(options)) => reload::run(&options),
        Some(Command::Ctl(options)) => ctl::run(&options),
        Some(Command::Proxy(options)) => serve::proxy(options, invocation),
        Some(Command::Serve(options)) => serve::files(options, invocation),
        Some(Command::Echo(options)) => serve::echo(&options, invocation),
        Some(Command::Reverse(options)) => serve::reverse(&options, invocation),
        Some(Command::Send(options)) => serve::send(options, invocation),
        Some(Command::Receive(options)) => serve::receive(options, invocation),
        Some(Command::Connect(options)) => connect::run(options, invocation),
        Some(Command::Bench(options)) => bench::run(*options, invocation),
        Some(Command::Compare(options)) => bench::compare(&options),
        Some(Command::Top(options)) => top::run(&options),
        Some(Command::Probe(options)) => probe::run(&options),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::definition(), "xps", &mut script);
            print(&script)
        }
        Some(Command::Man { command }) => print(&man::page(command.as_deref()).map_err(Failure::Output)?),
    }
}

fn version_text() -> String {
    let backend = match choose(BackendChoice::Auto, FeatureSet::NONE, usable_cpus()) {
        Ok(selection) => format!("{} ({})", selection.backend.name(), selection.reason),
        Err(unavailable) => format!("none ({unavailable})"),
    };
    format!("xps {}\nkernel {}\nback-end {backend}\n", env!("CARGO_PKG_VERSION"), kernel_release())
}

/// Writes to standard output. A closed pipe is no failure: its reader has seen enough, as `head`.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a warning to standard error.
fn warn(warning: &str) {
    say(&format!("xps: warning: {warning}\n"));
}

/// Writes to standard error. Errors are ignored: they could be reported nowhere else.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes to standard error, but waits at most a second for a slow reader.
fn say_without_waiting(text: String) {
    match BackgroundTasks::new("xps-last-words") {
        Ok(background_tasks) => background_tasks.run(move || say(&text)),
        Err(_) => say(&text),
    }
}
