//! The command line: one definition for parsing, help, the manual page and completions.
//!
//! An option stands in the commands to which it means something, with a variable of its own. The groups that commands share
//! are in [`server`] and [`log`]; what a single command has is in a file of its own, or beside its like.

mod file;
mod given;
mod log;
mod proxy;
mod serve;
mod server;
mod stream;
mod tools;

use std::ffi::OsString;
use std::path::Path;

use clap::builder::{OsStr, PossibleValuesParser, Resettable};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

pub use self::file::{CheckOptions, ExplainOptions, ReloadOptions, RunOptions};
pub use self::given::Given;
pub use self::log::LogOptions;
pub use self::proxy::{PROXY_HTTP, ProxyOptions};
pub use self::serve::ServeOptions;
pub use self::server::{AllOptions, Settings, SocketOptions};
pub use self::stream::{EchoOptions, ReceiveOptions, ReverseOptions, SendOptions};
pub use self::tools::{ConnectOptions, ProbeOptions};
use crate::telemetry::LogFormat;

/// The definition that parsing, help, manual pages and completions are made of. A variable of the
/// environment that is set to nothing counts as not set, as scripts and unit files expect.
pub fn definition() -> clap::Command {
    let command = with_defaults(Arguments::command()).mut_subcommands(|command| {
        // There the file says what holds where nothing is given.
        if command.get_name() == "run" { command } else { with_defaults(command) }
    });
    without_empty_variables(command)
}

/// With the defaults of the options that have none of their own.
fn with_defaults(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| match server::DEFAULTS.iter().find(|(id, _)| argument.get_id() == id) {
        Some((_, default)) => argument.default_value(default.as_str()),
        None => argument,
    })
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let is_empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { argument.env(Resettable::<OsStr>::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

/// Reads the process's arguments; and which options of its command were given.
///
/// # Errors
/// What is wrong with them, or help that was asked for.
pub fn parse() -> Result<(Arguments, Vec<Given>), clap::Error> {
    // The demonstration's variables are no other command's, not even to be found wrong.
    let mut command = without_variables(definition());
    let words = with_command(&command, std::env::args_os().collect());
    let mut matches = match command.try_get_matches_from_mut(&words) {
        Ok(matches) if matches.subcommand().is_some() => matches,
        Ok(_) | Err(_) => {
            command = definition();
            command.try_get_matches_from_mut(&words)?
        }
    };
    if let Some((name, _)) = matches.subcommand()
        && let Some(misplaced) = misplaced(&command, &matches)
    {
        let message = format!("`{misplaced}` stands before the command: write `xps {name} {misplaced} …`\n");
        return Err(command.error(clap::error::ErrorKind::ArgumentConflict, message));
    }
    let given = match matches.subcommand() {
        Some((name, matches)) => command.find_subcommand(name).map(|command| given::given(command, matches)),
        None => Some(given::given(&command, &matches)),
    };
    Ok((Arguments::from_arg_matches_mut(&mut matches)?, given.unwrap_or_default()))
}

/// `xps FILE`, eXpServer's own command line, is `xps run FILE` by its profile. A file that is called like a command is not
/// meant; one that is not there is, where its name says that it is a file's.
fn with_command(command: &clap::Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let is_file = |word: &OsString| {
        let path = Path::new(word);
        let looks_so = || word.as_encoded_bytes().contains(&b'/') || path.extension().is_some_and(|end| end == "json");
        !word.as_encoded_bytes().starts_with(b"-") && (path.is_file() || looks_so())
    };
    let is_command =
        |word: &OsString| word == "help" || word.to_str().is_some_and(|word| command.find_subcommand(word).is_some());
    if words.get(1).is_some_and(|word| !is_command(word) && is_file(word)) {
        words.splice(1..1, ["run", "--profile", "expserver"].map(OsString::from));
    }
    words
}

/// Without the variables of the options that stand before a command.
fn without_variables(command: clap::Command) -> clap::Command {
    command.mut_args(
        |argument| {
            if argument.is_global_set() { argument } else { argument.env(Resettable::<OsStr>::Reset) }
        },
    )
}

/// An option before the command that is not for all commands: it is the demonstration's, and would be ignored.
fn misplaced(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let misplaced =
        given::given(command, matches).into_iter().filter(|given| !given.is_variable && given.id != "version");
    let mut options =
        misplaced.filter_map(|given| command.get_arguments().find(|option| *option.get_id() == *given.id));
    let option = options.find(|option| !option.is_global_set())?;
    Some(format!("--{}", option.get_long()?))
}

/// The commands that `xps man` has a page for.
pub const DOCUMENTED: [&str; 15] = [
    "proxy",
    "serve",
    "run",
    "check",
    "explain",
    "schema",
    "reload",
    "echo",
    "reverse",
    "send",
    "receive",
    "connect",
    "probe",
    "completions",
    "man",
];

/// A TCP and HTTP server, reverse proxy and file server driven by io_uring completions.
///
/// Without a command it starts a demonstration on ports 8001 to 8004 of this machine, or the next free ones, and says what to try.
///
/// `xps FILE`, with a configuration file in place of a command, is `xps run FILE --profile expserver`: what eXpServer does with
/// its file.
#[derive(Debug, Parser)]
#[command(
    name = "xps",
    disable_version_flag = true,
    max_term_width = 100,
    override_usage = "xps [OPTIONS] [COMMAND]\n       xps FILE [OPTIONS]",
    after_help = "Every option can also be set by the environment variable named with it.\n\
                  Exit codes: 0 ok, 1 failure at run time, 2 usage, 4 the demanded back-end is unavailable.",
    after_long_help = "Examples:\n  \
        xps                                                          the demonstration\n  \
        xps xps_config.json                                          serve as this file says, in eXpServer's way\n  \
        xps proxy --listen 8080 --upstream 127.0.0.1:3000            relay port 8080 of every address\n  \
        xps echo 127.0.0.1:8004 --backend epoll --workers 1          one thread, without io_uring\n  \
        xps probe                                                    what is allowed here, and how to allow more\n\n\
        Sizes are numbers with k, m or g (64k, 1m); times are numbers with ms, s, m, h or d (250ms, 30s), and 0 means without limit.\n\n\
        Options stand behind the command that they are for; those without a command are the demonstration's. \
        Every option can also be set by the environment variable named with it; the command line has the last word, and an empty variable counts as not set. \
        Two variables have no option: XPS_LOG holds directives for single modules (xps::tcp=trace,info) and overrules --log-level; XPS_DEBUG=1 means --log-level debug. \
        NO_COLOR switches colours off.\n\n\
        SIGTERM or Ctrl-C stops accepting and lets connections finish within --drain-timeout; the second one ends at once.\n\n\
        Exit codes:\n  \
        0  ok\n  \
        1  failure at run time: a port is taken, a file or an upstream is not to be had\n  \
        2  usage or configuration\n  \
        4  the demanded back-end is unavailable"
)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the version, this kernel's, and the back-end that would be used
    #[arg(short = 'V', long)]
    pub version: bool,

    /// How the log is written, and an error that ends the program
    ///
    /// With `json`, everything that a server writes to standard error is one object a line: there is no banner, and an
    /// error that ends it is a record too.
    #[arg(
        long,
        global = true,
        env = "XPS_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "human",
        help_heading = "Log"
    )]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub settings: AllOptions,

    #[command(flatten)]
    pub log: LogOptions,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay connections, or HTTP requests, to upstreams
    ///
    /// Without --http, each connection is joined to a new one to an upstream, and bytes are relayed unchanged both ways.
    /// A slow receiver slows its sender down; the end of one direction is passed on while the other goes on; when one
    /// side breaks off, so does the other.
    ///
    /// With --http, each request is passed on by itself, on connections that are kept, with `X-Forwarded-For` and `Via`.
    /// Bodies stream through. Requests for WebSocket and other upgrades are passed on.
    #[command(after_help = "Examples:\n  \
        python3 -m http.server 3000 &\n  \
        xps proxy --listen 127.0.0.1:8080 --upstream 127.0.0.1:3000\n  \
        xps proxy --http --listen 8080 --upstream app1:3000 --upstream app2:3000 --balance least-conn\n  \
        xps proxy --listen 8080 --listen '[::]:8080' --upstream app.internal:3000 --connect-timeout 1s")]
    Proxy(ProxyOptions),

    /// Serve a folder's files over HTTP
    #[command(
        after_help = "Examples:\n  xps serve\n  xps serve public --listen 0.0.0.0:8080 --fallback index.html\n  xps serve /srv/www --access-log /var/log/xps.log --header 'Cache-Control: max-age=3600'"
    )]
    Serve(ServeOptions),

    /// Serve as a configuration file says
    ///
    /// SIGHUP, or `xps reload`, has the file read anew: a bad one changes nothing and says why; a good one holds from the
    /// next request on, and what is under way goes on. SIGUSR2 starts the program anew, with the same listening sockets,
    /// and ends this process once the new one serves.
    ///
    /// An option that is given, here or by its variable, holds in place of what the file says, also after a reload and in
    /// the process that takes over. The banner and the log name those that are.
    ///
    /// `xps FILE` is `xps run FILE --profile expserver`.
    #[command(after_help = "Examples:\n  \
        xps run\n  \
        xps check site.json && xps run site.json\n  \
        xps run site.json --backend epoll --log-level debug\n  \
        xps schema > xps.schema.json")]
    Run(RunOptions),

    /// Say what is wrong with a configuration file, if anything is; nothing is listened on or contacted
    ///
    /// First the file itself, with the place of each mistake (exit code 2); then what it names: folders, files, error pages,
    /// the folders of access logs and unix sockets (exit code 1). What would only not work is a warning. Whether a port is
    /// free is not looked for, since the server that the file is for may run.
    #[command(
        after_help = "Examples:\n  xps check xps_config.json\n  xps check --no-fs xps_config.json        (on a machine that it is not for)"
    )]
    Check(CheckOptions),

    /// Say what a configuration file would have done with a request; nothing is contacted
    ///
    /// Which listener, server and route take it, who may, and what answers: a file, upstreams with the request they
    /// would get, another URL; and the head of the answer, where it is not an upstream's. Exit code 1: the request would
    /// be refused.
    #[command(after_help = "Examples:\n  \
        xps explain xps_config.json GET http://localhost:8001/api/users\n  \
        xps explain xps_config.json GET http://example.org/ --client 203.0.113.7 --header 'Accept: text/html'")]
    Explain(ExplainOptions),

    /// Print the JSON Schema of the configuration file, for editors
    #[command(after_help = "Example:\n  xps schema > xps.schema.json")]
    Schema,

    /// Have a running `xps run` read its configuration file anew
    ///
    /// A process that is not xps, or would die of the signal, is left alone. What comes of it is in that program's log; the
    /// exit code says only that it was asked.
    #[command(after_help = "Example:\n  xps check && xps reload $(pidof xps)")]
    Reload(ReloadOptions),

    /// Send back what is received
    #[command(after_help = "Examples:\n  \
        xps echo 127.0.0.1:8004\n  \
        nc 127.0.0.1 8004        (or: xps connect 127.0.0.1:8004)")]
    Echo(EchoOptions),

    /// Send each line back reversed
    ///
    /// The newline stays in its place. What remains at the end of input is reversed as it is; a line longer than
    /// --line-max is reversed in pieces.
    #[command(after_help = "Example:\n  \
        xps reverse 127.0.0.1:8003\n  \
        echo stressed | nc -N 127.0.0.1 8003\n  \
        xps reverse 127.0.0.1:8080 --once      (ends with its only client)")]
    Reverse(ReverseOptions),

    /// Send a file to whoever connects, then close
    ///
    /// The file is opened anew for each connection, beneath the root and nowhere else: a path or a link that leads out
    /// of it is refused.
    #[command(after_help = "Examples:\n  \
        xps send backup.tar --listen 0.0.0.0:8005\n  \
        nc 192.0.2.7 8005 > backup.tar\n  \
        xps send /srv/files/today/list.txt --root /srv/files")]
    Send(SendOptions),

    /// Write what a client sends to a file
    ///
    /// One connection is one file: it ends where the client ends its side, and so does the program. The file is written
    /// under a temporary name beside FILE and gets its own when all of it is on the disk; then the connection is closed.
    /// Of a connection that breaks off, or when the disk is full, nothing is left, and the exit code is 1.
    #[command(after_help = "Examples:\n  \
        xps receive t2.txt --listen 127.0.0.1:8080\n  \
        nc -N 127.0.0.1 8080 < t1.txt\n  \
        xps receive incoming.log --keep --listen 0.0.0.0:8006")]
    Receive(ReceiveOptions),

    /// Connect to a server: standard input to it, its answer to standard output
    ///
    /// The end of input is passed on (half-close), and the answer is read to its end. On a terminal the server's end
    /// is the end.
    #[command(after_help = "Examples:\n  \
        xps connect 127.0.0.1:8004\n  \
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | xps connect example.org:80")]
    Connect(ConnectOptions),

    /// Show what this kernel and this process allow, what would be chosen and why, and how to lift each limit
    ///
    /// Everything is found out by trying, not by the kernel's version. With --uring-off it shows what would be chosen
    /// without those features. It exits with 0 also when io_uring is unavailable: that is its answer.
    #[command(after_help = "Examples:\n  \
        xps probe\n  \
        xps probe --json | python3 -m json.tool\n  \
        docker run --rm -v \"$PWD/xps:/xps\" debian /xps probe      (what a container allows)")]
    Probe(ProbeOptions),

    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  \
        xps completions bash > /etc/bash_completion.d/xps\n  \
        xps completions zsh > ~/.zfunc/_xps\n  \
        xps completions fish > ~/.config/fish/completions/xps.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Print the manual page, of xps or of one command
    #[command(after_help = "Examples:\n  xps man | man -l -\n  xps man proxy | man -l -")]
    Man {
        /// The command; without it, the page of xps itself
        #[arg(value_parser = PossibleValuesParser::new(DOCUMENTED))]
        command: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn every_default_is_that_of_an_option_and_only_run_has_none() {
        let command = definition();
        let has = |command: &clap::Command, id: &str| {
            command.get_arguments().any(|option| option.get_id() == id && !option.get_default_values().is_empty())
        };
        for (id, _) in server::DEFAULTS.iter() {
            assert!(command.get_subcommands().any(|command| has(command, id)), "{id}");
            assert!(!has(command.find_subcommand("run").unwrap(), id), "{id}");
        }
    }

    #[test]
    fn every_option_has_its_environment_variable() {
        let command = Arguments::command();
        // They are asked by hand, and what is forced should be so where it can be seen.
        let serves = |command: &&clap::Command| !["explain", "reload"].contains(&command.get_name());
        let commands = std::iter::once(&command).chain(command.get_subcommands().filter(serves));
        let options = commands.flat_map(clap::Command::get_arguments).filter_map(|argument| {
            let long = argument.get_long()?;
            (long != "version").then_some((argument, long))
        });
        for (argument, long) in options {
            let expected = format!("XPS_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        }
    }

    #[test]
    fn every_command_is_documented() {
        let command = Arguments::command();
        let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, DOCUMENTED);
    }
}
