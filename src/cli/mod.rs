//! The command line: what is asked for, and how it is told.

mod args;
mod banner;
mod connect;
mod demo;
mod explain;
mod failure;
mod man;
mod operate;
mod probe;
mod run;
mod serve;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;

use self::args::{Arguments, Command};
use self::failure::Failure;
use crate::config::{self, BackendChoice};
use crate::driver::limits::{kernel_release, usable_cpus};
use crate::driver::probe::choose;
use crate::driver::{FeatureSet, signals};

/// Does what the process's arguments ask for; the code to exit with.
pub fn run() -> ExitCode {
    signals::ignore_file_size_limit();
    let parsed = args::definition().try_get_matches().and_then(|mut found| Arguments::from_arg_matches_mut(&mut found));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(answer) => return show_answer(&answer),
    };
    let (format, backend) = (arguments.log.log_format, arguments.server.backend.into());
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(format);
            failure.exit_code(backend)
        }
    }
}

/// The parser's own answer: help that was asked for, or what is wrong with the arguments.
fn show_answer(answer: &clap::Error) -> ExitCode {
    // Who does not read it has chosen so: `xps --help | head`.
    if answer.use_stderr() {
        let _ = write!(io::stderr(), "xps: ");
    }
    let _ = answer.print();
    if answer.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS }
}

fn execute(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { command, server, log, version } = arguments;
    if version {
        return print(version_text().as_bytes());
    }
    match command {
        None => demo::run(&server, &log),
        Some(Command::Run { file }) => run::run(file, &server, &log),
        Some(Command::Check { file }) => run::check(&file),
        Some(Command::Explain(options)) => explain::run(&options),
        Some(Command::Schema) => print(format!("{:#}\n", config::file::schema()).as_bytes()),
        Some(Command::Reload { pid }) => signals::ask_to_reload(pid).map_err(|error| Failure::Reload { pid, error }),
        Some(Command::Proxy(options)) => serve::proxy(options, &server, &log),
        Some(Command::Serve(options)) => serve::files(options, &server, &log),
        Some(Command::Echo { listen }) => serve::echo(&listen, &server, &log),
        Some(Command::Reverse { listen }) => serve::reverse(&listen, &server, &log),
        Some(Command::Send { file, listen, root }) => serve::send(&file, &listen, root, &server, &log),
        Some(Command::Connect { upstream }) => connect::run(upstream, &server, &log),
        Some(Command::Probe { json }) => probe::run(json, &server),
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
