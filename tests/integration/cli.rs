//! The command line as people and scripts meet it: help, exit codes, the environment, and what goes to which stream.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use crate::support::filter::denying;
use crate::support::process::{Signal, wait_for_exit};
use crate::support::{Backend, Launch, patience};
use assert_cmd::Command;
use serde_json::Value;

const COMMANDS: [&str; 17] = [
    "run",
    "check",
    "explain",
    "schema",
    "reload",
    "top",
    "ctl",
    "proxy",
    "serve",
    "echo",
    "reverse",
    "send",
    "receive",
    "connect",
    "probe",
    "completions",
    "man",
];

const USAGE: i32 = 2;
const BACKEND_UNAVAILABLE: i32 = 4;

/// A command of the program, with nothing of its settings inherited.
fn xps<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xps"));
    without_settings(&mut command);
    command.args(arguments);
    command
}

fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"XPS_")) {
        command.env_remove(name);
    }
    command.timeout(patience());
}

/// What a successful run prints.
#[track_caller]
fn output(command: &mut Command) -> String {
    let finished = command.assert().success();
    String::from_utf8(finished.get_output().stdout.clone()).expect("text")
}

/// What a run that ends with this code complains of.
#[track_caller]
fn complaint(command: &mut Command, code: i32) -> String {
    let finished = command.assert().code(code);
    let streams = finished.get_output();
    assert!(streams.stdout.is_empty(), "a complaint belongs on standard error");
    String::from_utf8(streams.stderr.clone()).expect("text")
}

#[track_caller]
fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn help_names_every_command_and_the_long_help_teaches() {
    let short = output(&mut xps(["-h"]));
    let long = output(&mut xps(["--help"]));
    assert_contains(&short, &COMMANDS);
    assert_contains(&long, &COMMANDS);
    assert_contains(&long, &["Examples:", "Exit codes:", "XPS_LOG", "NO_COLOR", "--drain-timeout", "[default: 10s]"]);
    assert!(short.len() < long.len());
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in COMMANDS {
        assert_contains(&output(&mut xps([command, "--help"])), &["Example", &format!("xps {command}")]);
    }
}

#[test]
fn the_version_comes_with_the_kernel_and_the_back_end() {
    let version = output(&mut xps(["--version"]));
    assert_contains(&version, &[env!("CARGO_PKG_VERSION"), "kernel ", "back-end "]);
    assert_eq!(version, output(&mut xps(["-V"])));
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert_contains(&output(&mut xps(["completions", shell])), &["xps", "proxy", "uring-off"]);
    }
    complaint(&mut xps(["completions", "csh"]), USAGE);
}

#[test]
fn the_manual_has_a_page_for_the_program_and_for_each_command() {
    let page = output(&mut xps(["man"]));
    assert_contains(&page, &[".TH xps 1", "XPS_BACKEND", "proxy"]);
    for command in COMMANDS {
        assert_contains(&output(&mut xps(["man", command])), &[".TH xps", "SYNOPSIS"]);
    }
    complaint(&mut xps(["man", "nothing"]), USAGE);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [["man", "proxy"], ["completions", "bash"], ["probe", "--json"]] {
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_xps"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(process.stdout.take());
        let status = wait_for_exit(&mut process, patience()).expect("it ends by itself");
        let mut words = String::new();
        process.stderr.take().expect("a pipe").read_to_string(&mut words).expect("text");
        assert_eq!((status.code(), words.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn the_probe_s_json_says_what_a_program_needs_to_know() {
    let report: Value = serde_json::from_str(&output(&mut xps(["probe", "--json"]))).expect("JSON");
    assert!(report["auto"]["reason"].is_string(), "{report:#}");
    assert!(report["io_uring"]["available"].is_boolean(), "{report:#}");
    assert_eq!(report["epoll"]["available"], true);
    assert!(report["limits"]["processors"].as_u64().is_some_and(|count| count >= 1), "{report:#}");
    for limit in ["descriptors", "locked_memory_bytes", "backlog_max", "ports", "cgroup_quota"] {
        assert!(report["limits"].get(limit).is_some(), "{limit} is missing: {report:#}");
    }
    for advice in report["advice"].as_array().expect("a list") {
        assert!(advice["what"].is_string() && advice["fix"].is_string(), "{advice:#}");
    }
}

#[test]
fn the_probe_s_text_says_the_same() {
    let parts = ["back-end", "kernel", "io_uring", "seccomp", "processors", "descriptors", "locked memory", "backlog"];
    assert_contains(&output(&mut xps(["probe"])), &parts);
}

#[test]
fn a_wrong_command_suggests_the_right_one() {
    let words = complaint(&mut xps(["prxy"]), USAGE);
    assert!(words.starts_with("xps: error: "), "{words}");
    assert_contains(&words, &["'proxy'", "--help"]);
}

#[test]
fn wrong_arguments_are_told_apart_and_exit_with_the_code_of_usage() {
    let cases: [(&[&str], &str); 16] = [
        (&["proxy"], "--upstream"),
        (&["proxy", "--upstream", "localhost"], "no port"),
        (&["proxy", "--upstream", "::1:3000"], "brackets"),
        (&["echo", "nowhere"], "ADDRESS:PORT"),
        (&["echo", "--backend", "kqueue"], "io_uring"),
        (&["echo", "--uring-off", "warp-drive"], "recv-multishot"),
        (&["echo", "--workers", "0"], "--workers"),
        (&["echo", "--max-connections", "many"], "--max-connections"),
        (&["echo", "--pipe-size", "0"], "at least 1"),
        (&["reverse", "--line-max", "much"], "64k"),
        (&["echo", "--buffers", "1m"], "4m"),
        (&["echo", "--idle-timeout", "soon"], "30s"),
        (&["echo", "--log-level", "loud"], "debug"),
        (&["echo", "--buffers", "18g"], "17g"),
        (&["serve", "--head-size", "0"], "at least 1"),
        (&["serve", "--head-size", "65537"], "at most 64k: positions in a head are 16 bits"),
    ];
    for (arguments, hint) in cases {
        let words = complaint(xps([]).args(arguments), USAGE);
        assert!(words.starts_with("xps: error: ") && words.contains(hint), "{arguments:?}: {words}");
    }
}

#[test]
fn an_option_stands_behind_its_command_and_not_where_it_means_nothing() {
    for command in ["man", "check", "schema", "completions", "explain", "reload", "top", "connect"] {
        let words = complaint(&mut xps([command, "--workers", "1"]), USAGE);
        assert_contains(&words, &["--workers"]);
    }
    assert_contains(&complaint(&mut xps(["--backend", "epoll", "echo"]), USAGE), &["xps echo --backend"]);
    let words = complaint(&mut xps(["proxy", "--upstream", "127.0.0.1:1", "--head-timeout", "1s"]), USAGE);
    assert_contains(&words, &["--head-timeout", "--http"]);
    // Nor does a variable that is another command's, not even a wrong one.
    for command in ["schema", "man"] {
        xps([command]).env("XPS_WORKERS", "none").env("XPS_BACKEND", "none").assert().success();
    }
}

#[test]
fn an_upstream_may_be_a_plain_url_and_what_is_no_upstream_is_named() {
    let cases = [
        ("https://app:443/api", "`/api` is not allowed in an upstream"),
        ("http://app:80/api", "`/api` is not allowed in an upstream"),
        ("http://me:secret@app:80", "`me:secret@` is not allowed in an upstream"),
        ("ws://app:80", "ws:// is not supported"),
    ];
    for (upstream, hint) in cases {
        assert_contains(&complaint(&mut xps(["proxy", "--upstream", upstream]), USAGE), &[hint]);
    }
    let upstream = crate::support::Upstream::echo();
    let url = format!("http://{}/", upstream.address());
    let proxy = Launch::proxy(Backend::Epoll, url).start();
    crate::support::client::ping(&crate::support::connect(proxy.address()), b"hello");
    proxy.finish();
}

#[test]
fn who_takes_a_file_for_a_folder_is_told_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "x").expect("a file");
    let words = complaint(xps(["serve"]).arg(&file), 1);
    let (file, folder) = (file.display().to_string(), folder.path().display().to_string());
    assert_contains(&words, &[&file, "not a folder", &format!("xps send {file}"), &format!("xps serve {folder}")]);
    assert_contains(&complaint(&mut xps(["send", &folder]), 1), &[&format!("xps serve {folder}")]);
    assert_contains(&complaint(&mut xps(["run", &folder]), USAGE), &["xps_config.json"]);
}

#[test]
fn an_address_given_twice_is_a_mistake_of_usage() {
    let words = complaint(&mut xps(["echo", "127.0.0.1:1", "127.0.0.1:1"]), USAGE);
    assert_contains(&words, &["duplicate listen address 127.0.0.1:1", "help: "]);
}

#[test]
fn a_taken_port_is_named_with_the_command_that_finds_who_has_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound");
    let words = complaint(&mut xps(["echo", &address.to_string()]), 1);
    assert_contains(&words, &[&address.to_string(), &format!("help: `ss -ltnp 'sport = :{}'`", address.port())]);
}

#[test]
fn with_json_logs_a_failure_is_json_too_and_no_bug_of_ours() {
    let words = complaint(&mut xps(["send", "/no/such/file", "--log-format", "json"]), 1);
    let record: Value = serde_json::from_str(&words).unwrap_or_else(|error| panic!("{error}: {words}"));
    assert_eq!(record["level"], "WARN");
    assert!(record["fields"]["message"].as_str().is_some_and(|message| message.contains("/no/such/file")), "{record}");
}

#[test]
fn a_log_that_cannot_be_understood_is_a_mistake_of_usage() {
    let words = complaint(xps(["echo", "127.0.0.1:0"]).env("XPS_LOG", "xps=loud"), USAGE);
    assert_contains(&words, &["XPS_LOG", "debug"]);
}

#[test]
fn a_file_outside_its_root_is_refused_also_by_way_of_a_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    let (secret, link) = (folder.path().join("secret"), root.join("link"));
    std::fs::write(&secret, "hidden").expect("a file");
    std::os::unix::fs::symlink(&secret, &link).expect("a link");
    let send = |file: &Path| complaint(xps(["send"]).arg(file).arg("--root").arg(&root), USAGE);
    assert_contains(&send(&secret), &["is not in", "help: "]);
    assert_contains(&send(&link), &["leads to", "help: "]);
}

#[test]
fn flags_are_set_by_the_environment_in_the_usual_words() {
    for word in ["1", "true", "yes", "on", "0", "false", "no", "off", ""] {
        xps(["--version"]).env("XPS_QUIET", word).env("XPS_PIN_WORKERS", word).assert().success();
    }
    assert_contains(&complaint(xps(["--version"]).env("XPS_QUIET", "perhaps"), USAGE), &["--quiet"]);
    for name in ["XPS_NO_LISTING", "XPS_DOT_FILES", "XPS_NO_COMPRESSION"] {
        let words = complaint(xps(["serve", "/no/such/folder"]).env(name, "1"), 1);
        assert_contains(&words, &["/no/such/folder"]);
    }
    let report = output(xps(["probe"]).env("XPS_JSON", "1"));
    assert!(serde_json::from_str::<Value>(&report).is_ok(), "{report}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    xps(["--version"]).env("XPS_WORKERS", "").env("XPS_IDLE_TIMEOUT", "").env("XPS_BACKEND", "").assert().success();
}

#[test]
fn the_command_line_overrules_the_environment() {
    let words = complaint(xps(["echo", "--workers", "0"]).env("XPS_WORKERS", "1"), USAGE);
    assert_contains(&words, &["--workers"]);
    xps(["--version", "--workers", "1"]).env("XPS_WORKERS", "0").assert().success();
}

#[test]
fn the_log_has_the_back_end_and_the_reason() {
    let echo = Launch::echo(Backend::Epoll).flags(["--workers", "1"]).start();
    let started = echo.log().wait_for("the choice", |record| record.message() == "started");
    assert_eq!(started.text("backend"), Some("epoll"));
    assert_eq!(started.text("reason"), Some("as demanded"));
    assert_eq!(started.number("workers"), Some(1));
    echo.finish();
}

#[test]
fn the_banner_is_on_standard_error_unless_quiet() {
    for (flags, has_banner) in [(&[][..], true), (&["--quiet"], false), (&["--log-format", "json"], false)] {
        let launch = Launch::echo(Backend::Epoll).flags(flags.iter().copied());
        let (stdout, stderr) = until_it_listens_then_stop(&launch);
        assert_eq!(stdout, "", "{flags:?}");
        assert_eq!(stderr.contains(concat!("xps ", env!("CARGO_PKG_VERSION"))), has_banner, "{flags:?}: {stderr}");
        assert_eq!(stderr.contains("epoll: as demanded"), has_banner, "{flags:?}: {stderr}");
        if flags.contains(&"json") {
            let is_record = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|record| record.is_object());
            assert!(stderr.lines().all(is_record), "who reads JSON reads only JSON: {stderr}");
        }
        let is_plain = !stderr.contains('\x1b');
        assert!(is_plain, "colours belong on terminals only: {stderr:?}");
    }
}

/// Runs a server until its log says that it listens; both of its streams.
fn until_it_listens_then_stop(launch: &Launch) -> (String, String) {
    let mut process = launch.command().spawn().expect("the program starts");
    let mut stderr = process.stderr.take().expect("a pipe");
    let mut words = Vec::new();
    let mut byte = [0];
    // The record comes after the banner, in either format.
    let is_ready = |words: &[u8]| words.ends_with(b"\n") && String::from_utf8_lossy(words).contains("started");
    while !is_ready(&words) {
        if stderr.read(&mut byte).expect("a pipe can be read") == 0 {
            break;
        }
        words.push(byte[0]);
    }
    Signal::Terminate.send(&process);
    let status = wait_for_exit(&mut process, patience()).expect("it ends when told to");
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&words));
    stderr.read_to_end(&mut words).expect("a pipe can be read");
    let mut output = String::new();
    process.stdout.take().expect("a pipe").read_to_string(&mut output).expect("text");
    (output, String::from_utf8(words).expect("text"))
}

/// The call that container runtimes refuse; the same number everywhere.
const IO_URING_SETUP: i64 = 425;

const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const ENOSYS: i32 = 38;

/// `None`, said aloud, where no filter can be set up.
fn refused_with(errno: i32, test: &str) -> Option<Command> {
    let words = denying(&[IO_URING_SETUP], errno, test)?;
    let mut command = Command::new(&words[0]);
    without_settings(&mut command);
    command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_xps"));
    Some(command)
}

#[test]
fn io_uring_demanded_but_blocked_by_a_filter_is_an_error_with_its_remedy() {
    let Some(mut command) = refused_with(EPERM, "io_uring_demanded_but_blocked_by_a_filter") else { return };
    let words = complaint(command.args(["echo", "127.0.0.1:0", "--backend", "io_uring"]), BACKEND_UNAVAILABLE);
    // A system that forbids it to everybody is not the filter's to explain.
    let is_the_system_s = words.contains("io_uring_disabled is");
    assert!(words.contains("seccomp") || is_the_system_s, "{words}");
    assert_contains(&words, &["xps: error: ", "help: ", "--backend epoll"]);
}

#[test]
fn auto_falls_back_from_a_filter_and_says_why() {
    let Some(mut command) = refused_with(EPERM, "auto_falls_back_from_a_filter") else { return };
    let report: Value = serde_json::from_str(&output(command.args(["probe", "--json"]))).expect("JSON");
    assert_eq!(report["auto"]["backend"], "epoll");
    assert_eq!(report["auto"]["fallback"], true);
    assert_eq!(report["io_uring"]["available"], false);
    assert_eq!(report["seccomp_mode"], 2);
    assert!(report["io_uring"]["remedy"].is_string() && !report["advice"].as_array().expect("a list").is_empty());
}

#[test]
fn a_kernel_without_io_uring_is_not_taken_for_a_filter_unless_it_must_be_one() {
    let Some(mut command) = refused_with(ENOSYS, "a_kernel_without_io_uring") else { return };
    let report: Value = serde_json::from_str(&output(command.args(["probe", "--json"]))).expect("JSON");
    let reason = report["io_uring"]["reason"].as_str().expect("a reason");
    // The setting is there only if the kernel has io_uring.
    let expected = if report["io_uring_disabled"].is_u64() { "seccomp" } else { "no io_uring" };
    assert_contains(reason, &[expected]);
}

#[test]
fn auto_falls_back_from_a_lack_of_memory_and_says_what_to_do() {
    let Some(mut command) = refused_with(ENOMEM, "auto_falls_back_from_a_lack_of_memory") else { return };
    let report: Value = serde_json::from_str(&output(command.args(["probe", "--json"]))).expect("JSON");
    assert_eq!(report["auto"]["backend"], "epoll");
    assert_contains(report["auto"]["reason"].as_str().expect("a reason"), &["ENOMEM", "RLIMIT_MEMLOCK"]);
    assert_contains(report["auto"]["remedy"].as_str().expect("a remedy"), &["ulimit -l", "LimitMEMLOCK"]);
    let Some(mut command) = refused_with(ENOMEM, "io_uring demanded without memory") else { return };
    let words = complaint(command.args(["echo", "127.0.0.1:0", "--backend", "io_uring"]), BACKEND_UNAVAILABLE);
    assert_contains(&words, &["RLIMIT_MEMLOCK", "help: ulimit -l"]);
}
