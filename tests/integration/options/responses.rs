//! What options of commands do that serve nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::options::target::Case;
use crate::support::process::{Finished, run_to_end, sleeper, wait_for_exit};
use crate::support::upstream::{ClosedPort, fill_backlog};
use crate::support::{Backend, Launch, Upstream, patience, uninterrupted};

/// Runs the command with these words to its end.
fn run(case: &Case, words: &[&str]) -> Finished {
    Launch::new(case.backend, words.iter().copied()).in_folder(case.folder.path()).run(b"")
}

fn text(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.output).into_owned()
}

pub fn explain(case: &Case) {
    case.configure(|document| {
        let listener = &mut document["servers"][0]["listeners"][0];
        (listener["port"], listener["h2c"]) = (json!(8080), json!(true));
    });
    let plain = text(&run(case, &["explain", "xps_config.json", "GET", "http://127.0.0.1:8080/page"]));
    let words = ["--client", "203.0.113.7", "--header", "Range: bytes=0-0", "--http2"];
    let changed =
        text(&run(case, &[&["explain", "xps_config.json", "GET", "http://127.0.0.1:8080/page"], &words[..]].concat()));
    for part in ["203.0.113.7", ":status: 206"] {
        assert!(changed.contains(part) && !plain.contains(part), "{part}: {changed}");
    }
}

pub fn probe(case: &Case) {
    let report: Value = serde_json::from_str(&text(&run(case, &["probe", "--json"]))).expect("JSON");
    assert!(!text(&run(case, &["probe"])).starts_with('{'));
    if report["io_uring"]["available"] == true {
        let without = text(&run(case, &["probe", "--uring-off", "accept-multishot"]));
        assert!(without.contains("without accept-multishot"), "{without}");
        let of_three = text(&run(case, &["probe", "--json", "--workers", "3"]));
        let of_three: Value = serde_json::from_str(&of_three).expect("JSON");
        assert_eq!(of_three["io_uring"]["rings"]["number"], 3, "{of_three}");
    }
}

pub fn no_fs(case: &Case) {
    case.configure(|document| document["servers"][0]["routes"][0]["dir_path"] = json!("missing"));
    assert_eq!(run(case, &["check"]).status.code(), Some(1));
    assert_eq!(run(case, &["check", "--no-fs"]).status.code(), Some(0));
}

pub fn force(case: &Case) {
    let Some(mut other) = sleeper("--force") else { return };
    let process = other.id().to_string();
    let (refused, forced) = (run(case, &["reload", &process]), run(case, &["reload", &process, "--force"]));
    let ended = wait_for_exit(&mut other, patience());
    assert_eq!((refused.status.code(), forced.status.code()), (Some(1), Some(0)), "{}", refused.errors);
    assert!(ended.is_some_and(|status| !status.success()), "it dies of the signal");
}

/// A server that has nothing but one metric is enough.
pub fn top(case: &Case) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("its address").to_string();
    // It ends with the process of the tests.
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                uninterrupted(|| stream.read_exact(&mut byte)).expect("a request");
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nxps_workers 1\n").expect("a response");
        }
    });
    let begun = Instant::now();
    let finished = run(case, &["top", &address, "--interval", "100ms", "--count", "3"]);
    let lines = text(&finished);
    assert_eq!(lines.lines().count(), 2 + 3, "{lines}{}", finished.errors);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

pub fn version(case: &Case) {
    for word in ["--version", "-V"] {
        assert!(text(&run(case, &[word])).starts_with(concat!("xps ", env!("CARGO_PKG_VERSION"), "\n")));
    }
}

/// Each is brought to fail; the error is a record.
pub fn log_format(case: &Case) {
    let words: &[&str] = match case.command {
        "" => &["--buffers", "4m"],
        "echo" | "reverse" => &[case.command, "unix:/no/such/folder/x"],
        "send" | "serve" | "receive" => &[case.command, "/no/such/file"],
        "proxy" => &["proxy", "--upstream", "127.0.0.1:1", "--listen", "unix:/no/such/folder/x"],
        "run" | "check" => &[case.command, "/no/such/file"],
        "connect" => &["connect", "unix:/no/such/socket"],
        "explain" => &["explain", "/no/such/file", "GET", "http://127.0.0.1/"],
        "reload" => &["reload", "2147483647"],
        "top" => &["top", "127.0.0.1:1"],
        "bench" => &["bench", "http://127.0.0.1:1/"],
        "compare" => &["compare", "/no/such/file", "/no/such/file"],
        "ctl" => &["ctl", "status", "--socket", "/no/such/socket"],
        "completions" => &["completions", "bash"],
        command => &[command],
    };
    for (format, is_json) in [("human", false), ("json", true)] {
        let launch = Launch::new(case.backend, words.iter().copied()).flags(["--log-format", format]);
        let mut command = launch.in_folder(case.folder.path()).command();
        let errors = match case.command {
            // Nothing else can fail there; nor is the demonstration to be kept from starting.
            "" => {
                command.env("XPS_LOG", "xps=loud");
                run_to_end(&mut command, b"").errors
            }
            "schema" | "probe" | "completions" | "man" => {
                let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("null(4)");
                let output =
                    command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().expect("it ends");
                String::from_utf8_lossy(&output.stderr).into_owned()
            }
            _ => run_to_end(&mut command, b"").errors,
        };
        assert!(!errors.is_empty(), "{words:?} does not fail");
        let all_json =
            errors.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()));
        assert_eq!(all_json, is_json, "{words:?} {format}: {errors}");
    }
}

/// The default is 5 s.
pub fn connect_timeout(case: &Case) {
    let full = ClosedPort::new();
    let address = full.address();
    let _listener = full.listen_with_backlog(0);
    let _waiting = fill_backlog(address);
    let since = Instant::now();
    let finished = run(case, &["connect", &address.to_string(), "--connect-timeout", "200ms"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

pub fn connect_starts_with(case: &Case) {
    let upstream = Upstream::echo();
    let words = ["connect", &upstream.address().to_string(), "--pipe-size", "64k", "--log-level", "debug"];
    let finished = run(case, &[&words[..], &["--uring-off", "accept-multishot", "--log-format", "json"]].concat());
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    let records = finished.errors.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let connecting = records.map(|mut record| record["fields"].take()).find(|fields| fields["message"] == "connecting");
    let fields = connecting.expect("a record of the level that was asked for");
    assert_eq!(fields["backend"], if case.backend == Backend::Epoll { "epoll" } else { "io_uring" });
    assert!(fields["uring_off"].as_str().is_some_and(|off| off.contains("accept-multishot")), "{fields}");
    assert!(fields["pool"].as_str().is_some_and(|pool| pool.contains("large_bytes: 65536")), "{fields}");
    assert!(run(case, &["connect", &upstream.address().to_string()]).errors.is_empty(), "nothing by default");
}
