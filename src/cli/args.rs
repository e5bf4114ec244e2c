//! The command line: one definition for parsing, help, the manual page and completions.
//!
//! An option exists only in the commands that use it, and has its own environment variable.
//! Groups shared by several commands are in [`server`] and [`log`]; the options of single commands
//! are in the other files.

mod bench;
mod ctl;
mod file;
mod given;
mod log;
mod proxy;
mod serve;
mod server;
mod stream;
mod tls;
mod tools;

use std::ffi::OsString;
use std::path::Path;

use clap::builder::{OsStr, PossibleValuesParser, Resettable};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

pub use self::bench::{BenchOptions, BenchTls, CompareOptions, ExpectOptions, OutputOptions, VerdictOptions};
pub use self::ctl::{CtlCommand, CtlOptions};
pub use self::file::{CheckOptions, ExplainOptions, ReloadOptions, RunOptions};
pub use self::given::Given;
pub use self::log::LogOptions;
pub use self::proxy::{PROXY_HTTP, ProxyOptions};
pub use self::serve::ServeOptions;
pub use self::server::{AllOptions, H2cOption, Settings, SocketOptions};
pub use self::stream::{EchoOptions, ReceiveOptions, ReverseOptions, SendOptions};
pub use self::tls::TlsOptions;
pub use self::tools::{ConnectOptions, ConnectTls, ProbeOptions, TopOptions};
use crate::telemetry::LogFormat;

/// The definition for parsing, help, manual pages and completions. An empty environment variable
/// counts as not set, as scripts and unit files expect.
pub fn definition() -> clap::Command {
    let command = with_defaults(Arguments::command()).mut_subcommands(|command| {
        // `run` takes the defaults from its file.
        if command.get_name() == "run" { command } else { with_defaults(command) }
    });
    without_empty_variables(command)
}

/// Adds [`server::DEFAULTS`] to the options without a default.
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

/// Parses the arguments of the process. Also returns the options of the command that were given.
///
/// # Errors
/// The arguments are invalid, or they request help.
pub fn parse() -> Result<(Arguments, Vec<Given>), clap::Error> {
    // Other commands must not read the variables of the demonstration, even to report an invalid
    // value.
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
        let message = format!("`{misplaced}` must follow the command: write `xps {name} {misplaced} …`\n");
        return Err(command.error(clap::error::ErrorKind::ArgumentConflict, message));
    }
    let given = match matches.subcommand() {
        Some((name, matches)) => command.find_subcommand(name).map(|command| given::given(command, matches)),
        None => Some(given::given(&command, &matches)),
    };
    Ok((Arguments::from_arg_matches_mut(&mut matches)?, given.unwrap_or_default()))
}

/// Turns `xps FILE`, eXpServer's command line, into `xps run --profile expserver FILE`. A word that
/// names a command is never a file. A file that does not exist is recognised by a `/` or the
/// extension `.json`.
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

/// Removes the environment variables of the options that are not global.
fn without_variables(command: clap::Command) -> clap::Command {
    command.mut_args(
        |argument| {
            if argument.is_global_set() { argument } else { argument.env(Resettable::<OsStr>::Reset) }
        },
    )
}

/// An option given before the command that is not global: only the demonstration uses it, so the
/// command would ignore it.
fn misplaced(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let misplaced =
        given::given(command, matches).into_iter().filter(|given| !given.is_variable && given.id != "version");
    let mut options =
        misplaced.filter_map(|given| command.get_arguments().find(|option| *option.get_id() == *given.id));
    let option = options.find(|option| !option.is_global_set())?;
    Some(format!("--{}", option.get_long()?))
}

/// Commands with a page in `xps man`.
pub const DOCUMENTED: [&str; 19] = [
    "proxy",
    "serve",
    "run",
    "check",
    "explain",
    "schema",
    "reload",
    "bench",
    "compare",
    "top",
    "ctl",
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
/// Without a command it starts a demonstration on ports 8001 to 8004 and 8443 of 127.0.0.1, or the
/// next free ones, and prints commands to try.
///
/// `xps FILE`, with a configuration file in place of a command, is
/// `xps run FILE --profile expserver`: it serves the file as eXpServer does.
#[derive(Debug, Parser)]
#[command(
    name = "xps",
    disable_version_flag = true,
    max_term_width = 100,
    override_usage = "xps [OPTIONS] [COMMAND]\n       xps FILE [OPTIONS]",
    after_help = "Every option can also be set by the environment variable shown with it.\n\
                  Exit codes: 0 success, 1 run-time failure, 2 usage, 3 no server answers (ctl, reload),\n4 requested back-end unavailable.",
    after_long_help = "Examples:\n  \
        xps                                                          start the demonstration\n  \
        xps xps_config.json                                          serve this file as eXpServer does\n  \
        xps proxy --listen 8080 --upstream 127.0.0.1:3000            relay port 8080 of every IPv4 address\n  \
        xps echo 127.0.0.1:8004 --backend epoll --workers 1          one thread, without io_uring\n  \
        xps probe                                                    show what the kernel allows, and how to lift limits\n\n\
        Sizes are numbers with k, m or g (64k, 1m). Times are numbers with ms, s, m, h or d (250ms, 30s); 0 means no limit.\n\n\
        Options follow their command. Options without a command apply to the demonstration. \
        Every option can also be set by the environment variable shown with it; the command line overrides it, and an empty variable counts as not set. \
        Two variables have no option: XPS_LOG holds directives for single modules (xps::tcp=trace,info) and overrides --log-level; XPS_DEBUG=1 means --log-level debug. \
        NO_COLOR disables colours.\n\n\
        SIGTERM or Ctrl-C stops accepting and waits up to --drain-timeout for connections to finish. A second one exits at once.\n\n\
        Exit codes:\n  \
        0  success\n  \
        1  run-time failure: port in use, file not readable, upstream not reachable\n  \
        2  usage or configuration\n  \
        4  requested back-end unavailable"
)]
pub struct Arguments {
    /// Command to run
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the versions of xps and of the kernel, and the back-end that would be used
    #[arg(short = 'V', long)]
    pub version: bool,

    /// Format of the log, and of the error that ends the program
    ///
    /// With `json`, a server writes only JSON to standard error, one object per line: it prints no
    /// banner, and the error that ends it is a record too.
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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay TCP connections or HTTP requests to upstreams
    ///
    /// Without --http, each client connection gets its own upstream connection, and bytes are
    /// relayed unchanged in both directions. A slow receiver slows its sender down. Half-close is
    /// passed on. When one side aborts, the other receives what had arrived, then a reset.
    ///
    /// With --http, each request is forwarded separately, on upstream connections that are kept
    /// alive, with `X-Forwarded-For` and `Via` added. Bodies are streamed. Requests for WebSocket and
    /// other upgrades are forwarded.
    #[command(after_help = "Examples:\n  \
        python3 -m http.server 3000 &\n  \
        xps proxy --listen 127.0.0.1:8080 --upstream 127.0.0.1:3000\n  \
        xps proxy --http --listen 8080 --upstream app1:3000 --upstream app2:3000 --balance least-conn\n  \
        xps proxy --listen 8080 --listen '[::]:8080' --upstream app.internal:3000 --connect-timeout 1s\n  \
        xps proxy --http --listen 443 --tls-cert fullchain.pem --tls-key privkey.pem --upstream 127.0.0.1:3000   (TLS ends here)")]
    Proxy(ProxyOptions),

    /// Serve a folder's files over HTTP or HTTPS
    #[command(
        after_help = "Examples:\n  xps serve\n  xps serve public --listen 0.0.0.0:8080 --fallback index.html\n  xps serve /srv/www --access-log /var/log/xps.log --header 'Cache-Control: max-age=3600'\n  xps serve --tls-self-signed --listen 127.0.0.1:8443      (then: curl --insecure https://127.0.0.1:8443/)\n  xps serve --tls-cert fullchain.pem --tls-key privkey.pem --listen 443"
    )]
    Serve(ServeOptions),

    /// Serve with a configuration file
    ///
    /// SIGHUP or `xps reload` reloads the file. A valid file applies from the next request on;
    /// requests and connections in progress continue unchanged. An invalid file changes nothing, and
    /// the log gives the reason. SIGUSR2 starts the program again with the same listening sockets;
    /// this process drains and exits once the new one serves.
    ///
    /// An option given here or by its variable overrides the file, also after a reload and in a
    /// replacement process. The banner and the log list the overrides.
    ///
    /// `xps FILE` is `xps run FILE --profile expserver`.
    #[command(after_help = "Examples:\n  \
        xps run\n  \
        xps check site.json && xps run site.json\n  \
        xps run site.json --backend epoll --log-level debug\n  \
        xps schema > xps.schema.json")]
    Run(RunOptions),

    /// Check a configuration file without starting a server or contacting an upstream
    ///
    /// First the file itself: every mistake with its line and column (exit code 2). Then what the
    /// file names: folders, files, error pages, and the folders for access logs and unix sockets
    /// (exit code 1). What lets the server start but does not work is a warning. Whether a port is
    /// free is not checked, because the server may be running.
    #[command(
        after_help = "Examples:\n  xps check xps_config.json\n  xps check --no-fs xps_config.json        (on a host that the file is not for)"
    )]
    Check(CheckOptions),

    /// Explain how a configuration file handles a request, without sending it
    ///
    /// Prints the listener, server and route for the request, the addresses allowed and denied, and
    /// the handler: a file, a redirect, or upstreams with the request that they would get. Prints the
    /// response head unless it would come from an upstream. Exit code 1: the request would be
    /// refused.
    #[command(after_help = "Examples:\n  \
        xps explain xps_config.json GET http://localhost:8001/api/users\n  \
        xps explain xps_config.json GET http://example.org/ --client 203.0.113.7 --header 'Accept: text/html'")]
    Explain(ExplainOptions),

    /// Print the JSON Schema of the configuration file, for editors
    #[command(after_help = "Example:\n  xps schema > xps.schema.json")]
    Schema,

    /// Make a running `xps run` reload its configuration file
    ///
    /// With --socket, or an admin socket in the file of --config, the server is asked: exit code 0 means
    /// that the new configuration applies, 1 that the server refuses it, with the reason, and 3 that no
    /// server answers.
    ///
    /// Else it gets SIGHUP, unless it is not xps or SIGHUP would end it. Then exit code 0 means that the
    /// signal was sent; the result of the reload is in the log of that process.
    #[command(after_help = "Examples:\n  \
        xps reload --config /etc/xps/xps_config.json\n  \
        xps reload --socket /run/xps/admin.sock\n  \
        xps check && xps reload $(pidof xps)")]
    Reload(ReloadOptions),

    /// Measure a server: requests a second, response times, errors, processor time
    ///
    /// Without --rate it asks as fast as the server answers, with --connections requests in progress at
    /// any time. With --rate it asks by the clock, and response times count from the time at which a
    /// request was due.
    ///
    /// A response that is not correct counts as an error and never as a request completed. Exit code 1: no
    /// connection could be made, or no response was correct.
    #[command(after_help = "Examples:\n  \
        xps bench http://127.0.0.1:8080/\n  \
        xps bench -c 200 -d 30s -t 2 --warmup 2s https://example.org/ --insecure\n  \
        xps bench -R 20000 http://127.0.0.1:8080/ --pid $(pidof nginx | cut -d' ' -f1)\n  \
        xps bench tcp://127.0.0.1:7000 --mode echo --body ping")]
    Bench(Box<BenchOptions>),

    /// Compare the reports of runs of `xps bench`
    ///
    /// Rates, processor time of the server for a request, errors and times of each side, as ratios to the
    /// first. Runs of different kernels, processors, back-ends or loads are refused, unless
    /// --any-environment is given.
    #[command(after_help = "Examples:\n  \
        xps bench http://127.0.0.1:8080/ --json > old.json\n  \
        xps compare old.json new.json\n  \
        xps compare old1.json,old2.json,old3.json new1.json,new2.json,new3.json")]
    Compare(CompareOptions),

    /// Show the live figures of a running server
    ///
    /// Rates, latencies, connections, processor time and ring calls of a request, routes and upstreams,
    /// from the server's metrics listener or admin socket (`metrics` and `admin` in its file). On a
    /// terminal it draws them until q is pressed; elsewhere it writes tables once, or with --count one
    /// line for each reading.
    #[command(after_help = "Examples:\n  \
        xps top\n  \
        xps top 10.0.0.7:8004\n  \
        xps top /run/xps/admin.sock --count 60 > minute.txt")]
    Top(TopOptions),

    /// Ask a running server, or tell it to do something, by its admin socket
    ///
    /// The server has an admin socket if its file says so: "admin": { "unix": "/run/xps/admin.sock" }. It
    /// speaks HTTP: `curl --unix-socket PATH http://xps/status` is `xps ctl status --json`.
    ///
    /// Exit codes: 0 done, 1 refused by the server, with the reason, 2 usage, 3 no server answers.
    #[command(after_help = "Examples:\n  \
        xps ctl status\n  \
        xps ctl --config site.json reload\n  \
        xps ctl --socket ./admin.sock log-level debug\n  \
        xps ctl status --json | python3 -m json.tool")]
    Ctl(CtlOptions),

    /// Send back what is received
    #[command(after_help = "Examples:\n  \
        xps echo 127.0.0.1:8004\n  \
        nc 127.0.0.1 8004        (or: xps connect 127.0.0.1:8004)")]
    Echo(EchoOptions),

    /// Send each line back reversed
    ///
    /// The newline stays at the end of the line. A last line without newline is reversed too. A line
    /// longer than --line-max is reversed in pieces.
    #[command(after_help = "Example:\n  \
        xps reverse 127.0.0.1:8003\n  \
        echo stressed | nc -N 127.0.0.1 8003\n  \
        xps reverse 127.0.0.1:8080 --once      (ends with its only client)")]
    Reverse(ReverseOptions),

    /// Send a file to each client that connects, then close
    ///
    /// The file is opened again for each connection, and only beneath the root: a path or a symbolic
    /// link that leads out of it is refused.
    #[command(after_help = "Examples:\n  \
        xps send backup.tar --listen 0.0.0.0:8005\n  \
        nc 192.0.2.7 8005 > backup.tar\n  \
        xps send /srv/files/today/list.txt --root /srv/files")]
    Send(SendOptions),

    /// Write what a client sends to a file
    ///
    /// One connection is one file. The file ends where the client ends its side; then xps exits,
    /// unless --keep is given. The file is written under a temporary name beside FILE and renamed
    /// once all of it is on the disk; then the connection is closed. If the connection breaks or the
    /// disk is full, nothing is left, and the exit code is 1.
    #[command(after_help = "Examples:\n  \
        xps receive t2.txt --listen 127.0.0.1:8080\n  \
        nc -N 127.0.0.1 8080 < t1.txt\n  \
        xps receive incoming.log --keep --listen 0.0.0.0:8006")]
    Receive(ReceiveOptions),

    /// Connect to a server: send standard input, write what it sends to standard output
    ///
    /// The end of input is passed on (half-close), and output continues until the server ends its
    /// side. If standard input is a terminal, xps exits when the server ends its side.
    #[command(after_help = "Examples:\n  \
        xps connect 127.0.0.1:8004\n  \
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | xps connect example.org:80")]
    Connect(ConnectOptions),

    /// Show what this kernel and this process allow, which back-end is chosen and why, and how to lift each limit
    ///
    /// Features are tried out, not derived from the kernel's version. With --uring-off it shows the
    /// choice without those features. The exit code is 0 also when io_uring is unavailable.
    #[command(after_help = "Examples:\n  \
        xps probe\n  \
        xps probe --json | python3 -m json.tool\n  \
        docker run --rm -v \"$PWD/xps:/xps\" debian /xps probe      (in a container)")]
    Probe(ProbeOptions),

    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  \
        xps completions bash > /etc/bash_completion.d/xps\n  \
        xps completions zsh > ~/.zfunc/_xps\n  \
        xps completions fish > ~/.config/fish/completions/xps.fish")]
    Completions {
        /// Shell to complete for
        shell: Shell,
    },

    /// Print the manual page, of xps or of one command
    #[command(after_help = "Examples:\n  xps man | man -l -\n  xps man proxy | man -l -")]
    Man {
        /// Command to describe [default: xps itself]
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
        // These are run by hand, and `--force` should be visible on the command line.
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
