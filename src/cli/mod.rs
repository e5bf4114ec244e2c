//! The command line: what is asked for, and how it is told.

mod args;
mod background;
mod banner;
mod check;
mod connect;
mod demo;
mod explain;
mod failure;
mod man;
mod operate;
mod overrides;
mod probe;
mod process;
mod reload;
mod run;
mod serve;
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
use crate::telemetry::LogFormat;

/// What a command is told besides its own options, and what it says besides its result.
#[derive(Debug)]
struct Invocation {
    log_format: LogFormat,
    /// Of its options, those that were given.
    given: Vec<Given>,
    /// The back-end that was asked for, once that is known: the code to exit with depends on it.
    backend: Cell<BackendChoice>,
    /// It is a server, which ends also if nobody reads what it says.
    is_server: Cell<bool>,
}

/// Does what the process's arguments ask for; the code to exit with.
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
            let text = failure.text(log_format);
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

/// The parser's own answer: help that was asked for, or what is wrong with the arguments.
fn show_error(error: &clap::Error) -> ExitCode {
    // Who does not read it has chosen so: `xps --help | head`.
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
        Some(Command::Proxy(options)) => serve::proxy(options, invocation),
        Some(Command::Serve(options)) => serve::files(options, invocation),
        Some(Command::Echo(options)) => serve::echo(&options, invocation),
        Some(Command::Reverse(options)) => serve::reverse(&options, invocation),
        Some(Command::Send(options)) => serve::send(options, invocation),
        Some(Command::Receive(options)) => serve::receive(options, invocation),
        Some(Command::Connect(options)) => connect::run(options, invocation),
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

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says on standard error what is no failure.
fn warn(warning: &str) {
    say(&format!("xps: warning: {warning}\n"));
}

/// Writes to standard error. Where that cannot be done there is no place to say so.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The same, but a reader that does not read is waited for only a moment.
fn say_without_waiting(text: String) {
    match BackgroundTasks::new("xps-last-words") {
        Ok(background_tasks) => background_tasks.run(move || say(&text)),
        Err(_) => say(&text),
    }
}
