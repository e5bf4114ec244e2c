//! Every option of every command does something: a table says what, and the definition of the command line is held against it.

mod bench;
mod course;
mod effects;
mod files;
mod http;
mod operator;
mod responses;
mod target;
mod tls;

use std::collections::BTreeSet;

use crate::support::{Backend, backends};
use target::Case;

/// What shows that options do something.
struct Entry {
    /// As words of the command line; none: the demonstration.
    commands: &'static [&'static str],
    options: &'static [&'static str],
    /// Runs the program and holds that they do.
    check: fn(&Case),
}

const fn entry(commands: &'static [&'static str], options: &'static [&'static str], check: fn(&Case)) -> Entry {
    Entry { commands, options, check }
}

const DEMO: &str = "";
/// The commands that serve.
const SERVERS: &[&str] = &[DEMO, "echo", "reverse", "send", "receive", "serve", "proxy", "run"];
/// Those of them that answer, or send without being asked.
const ANSWERING: &[&str] = &[DEMO, "echo", "reverse", "send", "serve", "proxy", "run"];
/// Those with HTTP, and flags that they need for it.
const HTTP: &[&str] = &[DEMO, "serve", "proxy --http", "run"];
const UPLOADS: &[&str] = &["proxy --http", "run"];
const PIPES: &[&str] = &[DEMO, "echo", "reverse", "receive", "proxy", "run"];
const LINES: &[&str] = &[DEMO, "reverse", "run"];
const SOCKETS: &[&str] = &["echo", "reverse", "send", "receive", "serve", "proxy", "run"];
const LISTEN: &[&str] = &["send", "receive", "serve", "proxy"];
const RECEIVE: &[&str] = &["receive"];
const SERVE: &[&str] = &["serve"];
const PROXY: &[&str] = &["proxy --http"];

/// What is the same for all that serve.
const SERVER: &[Entry] = &[
    entry(SERVERS, &["backend", "workers", "uring-off", "buffers", "log-level"], effects::what_it_starts_with),
    entry(SERVERS, &["pin-workers"], effects::pin_workers),
    entry(SOCKETS, &["socket-mode"], effects::socket_mode),
    entry(ANSWERING, &["max-connections"], effects::max_connections),
    entry(ANSWERING, &["backlog"], effects::backlog),
    entry(ANSWERING, &["idle-timeout"], effects::idle_timeout),
    entry(ANSWERING, &["drain-timeout"], effects::drain_timeout),
    entry(SERVERS, &["quiet"], effects::quiet),
    entry(SERVERS, &["log-target"], effects::log_target),
    entry(LISTEN, &["listen"], effects::listen),
    entry(&["send"], &["root"], effects::root),
];

/// What came with the course.
const COURSE: &[Entry] = &[
    entry(RECEIVE, &["max-connections"], course::receive_max_connections),
    entry(RECEIVE, &["backlog"], course::receive_backlog),
    entry(RECEIVE, &["idle-timeout"], course::receive_idle_timeout),
    entry(RECEIVE, &["drain-timeout"], course::receive_drain_timeout),
    entry(RECEIVE, &["keep", "force"], course::keep_and_force),
    entry(&["reverse"], &["once"], course::once),
    entry(&["run"], &["profile"], course::profile),
    entry(&["explain"], &["profile"], course::profile_explained),
];

/// What is relayed and connected to.
const RELAY: &[Entry] = &[
    entry(PIPES, &["pipe-size"], effects::pipe_size),
    entry(LINES, &["line-max"], effects::line_max),
    entry(&["proxy", "run"], &["connect-timeout"], effects::connect_timeout),
    entry(&["connect"], &["connect-timeout"], responses::connect_timeout),
    entry(&["connect"], &["backend", "uring-off", "log-level", "pipe-size"], responses::connect_starts_with),
    entry(PROXY, &["upstream", "http", "balance"], http::balance),
    entry(PROXY, &["response-timeout"], http::response_timeout),
    entry(PROXY, &["access-log", "access-format"], http::access_log),
];

/// How HTTP connections are bounded.
const LIMITS: &[Entry] = &[
    entry(&["serve", "proxy --http"], &["h2c"], http::h2c),
    entry(HTTP, &["when-full"], http::when_full),
    entry(HTTP, &["head-size", "max-requests"], http::head_size_and_max_requests),
    entry(HTTP, &["head-timeout"], http::head_timeout),
    entry(HTTP, &["keep-alive-timeout"], http::keep_alive_timeout),
    entry(HTTP, &["drain-idle-timeout"], http::drain_idle_timeout),
    entry(HTTP, &["send-timeout"], http::send_timeout),
    entry(HTTP, &["send-rate"], http::send_rate),
    entry(HTTP, &["body-timeout"], http::body_timeout),
    entry(UPLOADS, &["upload-rate"], http::upload_rate),
];

/// What is served of a folder, and how.
const FILES: &[Entry] = &[
    entry(SERVE, &["index", "no-listing", "dot-files", "fallback", "no-symlinks"], files::what),
    entry(SERVE, &["charset", "cors", "header", "error-page", "server-name"], files::fields),
    entry(
        SERVE,
        &["no-compression", "compression-level", "compression-min-size", "no-precompressed"],
        files::compression,
    ),
    entry(SERVE, &["access-log", "access-format"], http::access_log),
];

/// Encryption.
const TLS: &[Entry] = &[
    entry(&["serve", "proxy", "proxy --http"], &["tls-cert", "tls-key"], tls::certificate_and_key),
    entry(&["serve", "proxy", "proxy --http"], &["tls-self-signed"], tls::self_signed),
    entry(
        &["serve", "proxy", "proxy --http"],
        &["acme", "acme-email", "acme-directory", "acme-storage"],
        tls::obtained_certificates,
    ),
    entry(PROXY, &["upstream-ca", "upstream-insecure"], tls::to_upstreams),
    entry(&["connect"], &["ca", "insecure", "sni", "alpn"], tls::connect),
];

/// The load generator.
const BENCH: &[Entry] = &[
    entry(
        &["bench"],
        &[
            "connections",
            "threads",
            "requests",
            "pipeline",
            "streams",
            "duration",
            "warmup",
            "rate",
            "timeout",
            "no-keepalive",
            "requests-per-connection",
            "idle",
            "slow",
            "pid",
            "json",
        ],
        bench::load,
    ),
    entry(
        &["bench"],
        &["urls", "connect-to", "method", "body", "header", "mode", "http2-prior-knowledge", "no-http2"],
        bench::requests,
    ),
    entry(&["bench"], &["expect-status", "expect-length", "expect-sha256", "expect-same"], bench::expectations),
    entry(&["bench"], &["ca", "insecure", "sni"], bench::tls),
    entry(&["bench"], &["csv", "hdr", "html"], bench::files),
    entry(&["bench"], &["slo", "find-max", "baseline", "max-regression", "any-environment"], bench::verdicts),
    entry(&["bench"], &["server-metrics"], bench::server_metrics),
    entry(&["bench"], &["ab", "rounds"], bench::contest),
    entry(&["compare"], &["any-environment", "html"], bench::compare),
    entry(&["bench"], &["backend", "uring-off", "log-level"], bench::starts_with),
];

/// Commands that answer and end, which drive no back-end.
const ANSWERS: &[Entry] = &[
    entry(&["explain"], &["client", "header", "http2"], responses::explain),
    entry(&["probe"], &["json", "uring-off", "workers"], responses::probe),
    entry(&["check"], &["no-fs"], responses::no_fs),
    entry(&["reload"], &["force"], responses::force),
    entry(&["top"], &["interval", "count"], responses::top),
    entry(&["reload"], &["socket", "config"], operator::reload),
    entry(&["ctl"], &["socket", "config", "json"], operator::ctl),
    entry(&["run"], &["pid-file"], operator::pid_file),
    entry(&[DEMO], &["version"], responses::version),
    entry(
        &[
            DEMO,
            "echo",
            "reverse",
            "send",
            "receive",
            "serve",
            "proxy",
            "run",
            "connect",
            "check",
            "explain",
            "schema",
            "reload",
            "top",
            "bench",
            "compare",
            "ctl",
            "probe",
            "completions",
            "man",
        ],
        &["log-format"],
        responses::log_format,
    ),
];

fn run(entries: &[Entry], backend: Backend) {
    for Entry { commands, check, .. } in entries {
        for command in *commands {
            check(&Case::new(command, backend));
        }
    }
}

backends! {
    fn options_of_every_server_do_something(backend) {
        run(SERVER, backend);
    }

    fn options_of_the_course_do_something(backend) {
        run(COURSE, backend);
    }

    fn options_of_what_is_relayed_do_something(backend) {
        run(RELAY, backend);
    }

    fn limits_of_http_do_something(backend) {
        run(LIMITS, backend);
    }

    fn options_of_what_is_served_do_something(backend) {
        run(FILES, backend);
    }

    fn options_of_the_load_generator_do_something(backend) {
        run(BENCH, backend);
    }

    fn options_of_tls_do_something(backend) {
        run(TLS, backend);
    }
}

#[test]
fn options_of_commands_that_answer_do_something() {
    run(ANSWERS, Backend::Epoll);
}

#[test]
fn every_option_of_every_command_has_an_entry() {
    let mut wanted = BTreeSet::new();
    let mut definition = xps::cli::definition();
    definition.build();
    let commands = std::iter::once((DEMO, &definition));
    for (command, definition) in commands.chain(definition.get_subcommands().map(|sub| (sub.get_name(), sub))) {
        for option in definition.get_arguments().filter_map(clap::Arg::get_long) {
            if command != "help" && option != "help" {
                wanted.insert((command.to_owned(), option.to_owned()));
            }
        }
    }
    let mut shown = BTreeSet::new();
    for entry in [SERVER, COURSE, RELAY, LIMITS, FILES, TLS, BENCH, ANSWERS].into_iter().flatten() {
        for command in entry.commands {
            let command = command.split(' ').next().unwrap_or_default();
            shown.extend(entry.options.iter().map(|option| (command.to_owned(), (*option).to_owned())));
        }
    }
    let without: Vec<_> = wanted.difference(&shown).collect();
    assert!(without.is_empty(), "nothing shows that these options do something: {without:?}");
    let gone: Vec<_> = shown.difference(&wanted).collect();
    assert!(gone.is_empty(), "there are no such options: {gone:?}");
}
