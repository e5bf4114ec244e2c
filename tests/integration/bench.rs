//! `xps bench`: what it counts against servers that do what they are told, byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use crate::support::process::Finished;
use crate::support::upstream::ClosedPort;
use crate::support::{Backend, Launch, Upstream, backends, patience};

/// What a scripted server does with one request.
enum Reply {
    /// Sends these bytes, and goes on.
    Bytes(&'static [u8]),
    /// Sends these bytes, and ends the connection.
    Last(&'static [u8]),
    /// Sends these bytes, and breaks the connection.
    Reset(&'static [u8]),
    /// Waits until the client gives up.
    Silence,
    /// Sends these bytes after a pause.
    Late(Duration, &'static [u8]),
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A server that answers request number `n` of all its connections, from 0, as `script` says.
fn scripted(script: impl Fn(u64) -> Reply + Send + Sync + 'static) -> Upstream {
    let number = Arc::new(AtomicU64::new(0));
    Upstream::new(move |mut stream, _| {
        while read_request(&mut stream).is_some() {
            let bytes = match script(number.fetch_add(1, Ordering::Relaxed)) {
                Reply::Bytes(bytes) => bytes,
                Reply::Late(pause, bytes) => {
                    std::thread::sleep(pause);
                    bytes
                }
                Reply::Last(bytes) => {
                    // The client may have left.
                    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                    return;
                }
                Reply::Reset(bytes) => {
                    let _ = stream.write_all(bytes);
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option of every socket");
                    return;
                }
                Reply::Silence => {
                    let _ = stream.read(&mut [0]);
                    return;
                }
            };
            if stream.write_all(bytes).is_err() {
                return;
            }
        }
    })
}

/// Reads a request head; `None` at the end of input.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return None,
        }
    }
    Some(head)
}

fn bench(backend: Backend, server: &Upstream, flags: &[&str]) -> Finished {
    let url = format!("http://{}/path", server.address());
    Launch::new(backend, ["bench", &url, "--json"]).flags(flags.iter().copied()).run(b"")
}

/// The report, without the curves of its plots, which would fill pages if a test fails.
pub fn report_of(finished: &Finished) -> Value {
    let mut report =
        serde_json::from_slice(&finished.output).unwrap_or_else(|error| panic!("{error}: {}", finished.errors));
    drop_curves(&mut report);
    report
}

fn drop_curves(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.remove("curve");
        object.values_mut().for_each(drop_curves);
    }
}

/// The report of 40 requests on 4 connections.
fn forty(backend: Backend, server: &Upstream, flags: &[&str]) -> Value {
    report_of(&bench(backend, server, &[&["-n", "40", "-c", "4"], flags].concat()))
}

/// Holds that every fourth of 40 requests has failed, for this reason alone.
#[track_caller]
fn assert_ten(report: &Value, kind: &str) {
    let counts = report["errors"].as_object().expect("an object");
    let found: Vec<_> = counts.iter().filter(|(_, count)| **count != 0).map(|(name, _)| name.as_str()).collect();
    assert_eq!((report["requests"].as_u64(), found), (Some(30), vec![kind]), "{report}");
    assert_eq!(counts[kind], 10, "{report}");
}

/// Every fourth request gets this reply.
fn every_fourth(reply: fn() -> Reply) -> Upstream {
    scripted(move |number| if number % 4 == 3 { reply() } else { Reply::Bytes(GOOD) })
}

backends! {
    fn correct_responses_are_counted_to_the_last(backend) {
        let server = scripted(|_| Reply::Bytes(GOOD));
        let report = forty(backend, &server, &["--expect-length", "5", "--expect-same"]);
        assert_eq!((report["requests"].as_u64(), report["version"].as_u64()), (Some(40), Some(1)));
        assert_eq!(report["statuses"]["200"], 40);
        assert_eq!(report["service_time"]["samples"], 40);
        assert_eq!(report["received_bytes"], 40 * GOOD.len());
        assert_eq!(report["manifest"]["backend"], if backend == Backend::Epoll { "epoll" } else { "io_uring" });
    }

    fn a_reset_before_the_response_is_a_reset(backend) {
        let server = every_fourth(|| Reply::Reset(b""));
        assert_ten(&forty(backend, &server, &[]), "reset");
    }

    fn an_end_before_the_response_is_a_reset(backend) {
        let server = every_fourth(|| Reply::Last(b""));
        assert_ten(&forty(backend, &server, &[]), "reset");
    }

    fn an_end_in_the_middle_of_a_body_is_a_short_body(backend) {
        let server = every_fourth(|| Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"));
        assert_ten(&forty(backend, &server, &[]), "short_body");
    }

    fn another_status_is_an_error_of_status(backend) {
        let server = every_fourth(|| Reply::Bytes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"));
        let report = forty(backend, &server, &[]);
        assert_ten(&report, "status");
        assert_eq!(report["statuses"]["503"], 10);
        assert_eq!(report["by_status_class"]["5xx"]["samples"], 10);
        // What is expected is no error.
        let both = forty(backend, &server, &["--expect-status", "200,503"]);
        assert_eq!(both["requests"], 40);
    }

    fn another_body_is_a_wrong_body(backend) {
        let server = every_fourth(|| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\njello"));
        let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_ten(&forty(backend, &server, &["--expect-sha256", sum]), "wrong_body");
    }

    fn a_body_of_another_length_is_short_or_wrong(backend) {
        let server = every_fourth(|| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell"));
        assert_ten(&forty(backend, &server, &["--expect-length", "5"]), "short_body");
        let server = every_fourth(|| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!"));
        assert_ten(&forty(backend, &server, &["--expect-length", "5"]), "wrong_body");
    }

    fn what_is_no_http_is_malformed(backend) {
        let server = every_fourth(|| Reply::Last(b"SSH-2.0-server\r\n"));
        assert_ten(&forty(backend, &server, &[]), "malformed");
    }

    fn silence_is_a_timeout(backend) {
        let server = every_fourth(|| Reply::Silence);
        assert_ten(&forty(backend, &server, &["--timeout", "1s"]), "timeout");
    }

    fn a_closed_port_is_said_so_and_is_no_result(backend) {
        let nothing = ClosedPort::new();
        let url = format!("http://{}/", nothing.address());
        let finished = Launch::new(backend, ["bench", &url]).run(b"");
        assert_eq!((finished.status.code(), finished.output.len()), (Some(1), 0), "{}", finished.errors);
        assert!(finished.errors.contains("refused"), "{}", finished.errors);
    }

    fn a_server_that_is_gone_costs_each_request_that_was_left(backend) {
        // It serves ten requests on its first two connections, and no further connection is accepted.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let mut streams: Vec<_> = (0..2).map(|_| listener.accept().expect("a connection").0).collect();
            drop(listener);
            for _ in 0..5 {
                for stream in &mut streams {
                    read_request(stream).expect("a request");
                    stream.write_all(GOOD).expect("the client reads");
                }
            }
        });
        let url = format!("http://{address}/");
        let finished = Launch::new(backend, ["bench", &url, "--json", "-n", "20", "-c", "2"]).run(b"");
        server.join().expect("no panic");
        let report = report_of(&finished);
        // A request that was sent behind the last response is lost with its connection.
        let lost = report["errors"]["reset"].as_u64().expect("a number");
        assert_eq!((report["requests"].as_u64(), report["errors"]["connect"].as_u64()), (Some(10), Some(10 - lost)));
    }

    fn no_correct_response_is_a_failure_with_a_report(backend) {
        let server = scripted(|_| Reply::Bytes(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"));
        let finished = bench(backend, &server, &["-n", "10", "-c", "2"]);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
        assert_eq!(report_of(&finished)["errors"]["status"], 10);
    }

    fn a_connection_ends_after_the_number_of_its_requests(backend) {
        for (flags, connections) in [(&["--no-keepalive"][..], 40), (&["--requests-per-connection", "8"], 5)] {
            let accepted = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&accepted);
            let server = Upstream::new(move |mut stream, _| {
                count.fetch_add(1, Ordering::Relaxed);
                while read_request(&mut stream).is_some() && stream.write_all(GOOD).is_ok() {}
            });
            let report = report_of(&bench(backend, &server, &[&["-n", "40", "-c", "1"], flags].concat()));
            assert_eq!((report["requests"].as_u64(), accepted.load(Ordering::Relaxed)), (Some(40), connections));
        }
    }

    fn requests_of_the_warm_up_are_not_counted(backend) {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let server = scripted(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Reply::Bytes(GOOD)
        });
        for flags in [&["-c", "2"][..], &["-c", "2", "-R", "1000"]] {
            let before = asked.load(Ordering::Relaxed);
            let report = report_of(&bench(backend, &server, &[&["-n", "20", "--warmup", "200ms"], flags].concat()));
            let all = asked.load(Ordering::Relaxed) - before;
            assert_eq!((report["requests"].as_u64(), report["service_time"]["samples"].as_u64()), (Some(20), Some(20)));
            assert!(all > 20, "{all} in all: some before");
        }
    }

    fn pipelined_requests_are_answered_in_their_order(backend) {
        let server = scripted(|_| Reply::Bytes(GOOD));
        let report = forty(backend, &server, &["--pipeline", "10", "--expect-same"]);
        assert_eq!((report["requests"].as_u64(), report["requests_per_connection_max"].as_u64()), (Some(40), Some(10)));
    }

    fn an_open_loop_shows_the_requests_that_a_stall_delays(backend) {
        // The server stops for 300 ms once; the clock does not.
        let server = scripted(|number| match number {
            50 => Reply::Late(Duration::from_millis(300), GOOD),
            _ => Reply::Bytes(GOOD),
        });
        let report = report_of(&bench(backend, &server, &["-c", "1", "-R", "200", "-n", "200"]));
        assert_eq!(report["requests"], 200, "{report}");
        assert_eq!(report["pacing"]["error"]["samples"], 200);
        let percentile = |time: &str, percent: f64| {
            let percentiles = report[time]["percentiles"].as_array().expect("percentiles");
            let found = percentiles.iter().find(|at| at["percent"] == percent).expect("enough samples");
            found["value"].as_f64().expect("a number")
        };
        // One request of 200 was answered late, and 60 were due meanwhile.
        assert!(percentile("response_time", 90.0) >= 100.0, "{report}");
        assert!(percentile("service_time", 90.0) < percentile("response_time", 90.0), "{report}");
    }

    fn what_a_slow_server_leaves_unsent_is_counted(backend) {
        let server = scripted(|_| Reply::Late(Duration::from_millis(50), GOOD));
        let report = report_of(&bench(backend, &server, &["-c", "1", "-R", "200", "-d", "1s", "--timeout", "500ms"]));
        let unsent = report["pacing"]["unsent"].as_u64().expect("a number");
        let answered = report["requests"].as_u64().expect("a number");
        let timed_out = report["errors"]["timeout"].as_u64().expect("a number");
        assert!(unsent > 0 && timed_out >= unsent, "{report}");
        assert_eq!(answered + timed_out, 200, "each that was due is counted once: {report}");
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("never sent"), "{warnings}");
    }

    fn a_body_and_fields_are_sent(backend) {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        let server = Upstream::new(move |mut stream, _| {
            while let Some(head) = read_request(&mut stream) {
                let mut body = [0; 4];
                stream.read_exact(&mut body).expect("the body follows");
                heads.lock().expect("no panic").push((String::from_utf8(head).expect("text"), body));
                stream.write_all(GOOD).expect("the client reads");
            }
        });
        let flags = ["-n", "2", "-c", "1", "--body", "text", "-H", "X-Field: value", "-H", "Host: example.org"];
        assert_eq!(report_of(&bench(backend, &server, &flags))["requests"], 2);
        let seen = seen.lock().expect("no panic");
        let expected = "POST /path HTTP/1.1\r\nHost: example.org\r\nX-Field: value\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(*seen, [(expected.to_owned(), *b"text"), (expected.to_owned(), *b"text")]);
    }

    fn urls_are_asked_in_proportion_to_their_weights(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("urls");
        let counts = Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::<String, u32>::new()));
        let seen = Arc::clone(&counts);
        let counting = Upstream::new(move |mut stream, _| {
            while let Some(head) = read_request(&mut stream) {
                let line = String::from_utf8(head).expect("text").lines().next().expect("a line").to_owned();
                *seen.lock().expect("no panic").entry(line).or_default() += 1;
                stream.write_all(GOOD).expect("the client reads");
            }
        });
        let address = counting.address();
        std::fs::write(&path, format!("# weights\n3 http://{address}/often\n\nhttp://{address}/seldom\n")).expect("a file");
        let launch = Launch::new(backend, ["bench", "--json", "-n", "40", "-c", "1", "--urls"]).flag(path.display());
        assert_eq!(report_of(&launch.run(b""))["requests"], 40);
        let counts = counts.lock().expect("no panic");
        let expected = [("GET /often HTTP/1.1".to_owned(), 30), ("GET /seldom HTTP/1.1".to_owned(), 10)];
        assert_eq!(*counts, expected.into());
    }

    fn bytes_come_back_from_an_echo(backend) {
        let server = Upstream::echo();
        let url = format!("tcp://{}", server.address());
        let launch = |flags: &[&str]| {
            let launch = Launch::new(backend, ["bench", &url, "--json", "-n", "40", "-c", "4"]);
            report_of(&launch.flags(flags.iter().copied()).run(b""))
        };
        let report = launch(&["--body", "0123456789"]);
        assert_eq!((report["requests"].as_u64(), report["sent_bytes"].as_u64()), (Some(40), Some(400)));
        for mode in ["request", "stream", "connect"] {
            let report = launch(&["--mode", mode]);
            assert_eq!((report["requests"].as_u64(), report["errors"]["reset"].as_u64()), (Some(40), Some(0)), "{mode}");
        }
    }

    fn another_echo_is_a_wrong_body(backend) {
        let server = Upstream::new(|mut stream, _| {
            let mut bytes = [0; 16];
            while stream.read_exact(&mut bytes).is_ok() {
                bytes[7] = b'X';
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        let url = format!("tcp://{}", server.address());
        let finished = Launch::new(backend, ["bench", &url, "--json", "-n", "10", "-c", "2"]).run(b"");
        assert_eq!(report_of(&finished)["errors"]["wrong_body"], 10);
    }

    fn idle_connections_send_nothing(backend) {
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        let server = Upstream::new(move |mut stream, _| {
            count.fetch_add(1, Ordering::Relaxed);
            while read_request(&mut stream).is_some() && stream.write_all(GOOD).is_ok() {}
        });
        let report = report_of(&bench(backend, &server, &["-n", "10", "-c", "2", "--idle", "5"]));
        assert_eq!((report["requests"].as_u64(), accepted.load(Ordering::Relaxed)), (Some(10), 7));
    }

    fn a_signal_ends_it_with_what_was_measured(backend) {
        let started = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&started);
        let server = scripted(move |_| {
            seen.fetch_add(1, Ordering::Release);
            Reply::Bytes(GOOD)
        });
        let url = format!("http://{}/", server.address());
        let mut command = Launch::new(backend, ["bench", &url, "--json", "-c", "2", "-d", "1h"]).command();
        let mut process = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
        let deadline = Instant::now() + patience();
        while started.load(Ordering::Acquire) < 20 {
            assert!(Instant::now() < deadline, "requests come");
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        let mut output = Vec::new();
        process.stdout.take().expect("a pipe").read_to_end(&mut output).expect("it ends");
        assert_eq!(process.wait().expect("it ends").code(), Some(0));
        let report: Value = serde_json::from_slice(&output).expect("a report");
        assert!(report["requests"].as_u64() >= Some(1), "{report}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["localhost:80"][..], "has no scheme"),
        (&["ftp://localhost/"], "cannot be asked"),
        (&["http:///path"], "has no host"),
        (&["http://user:word@localhost/"], "credentials"),
        (&["http://localhost/", "-H", "Connection: close"], "--no-keepalive"),
        (&["http://localhost/", "-H", "no colon"], "NAME: VALUE"),
        (&["http://localhost/", "-X", "CONNECT"], "cannot be the method"),
        (&["http://localhost/", "-R", "0"], "requests a second"),
        (&["http://localhost/", "--pid", "4294967295"], "no process"),
    ] {
        let launch = Launch::new(Backend::Epoll, ["bench"]).flags(arguments.iter().copied());
        let finished = launch.run(b"");
        assert_eq!(finished.status.code(), Some(2), "{arguments:?}: {}", finished.errors);
        assert!(finished.errors.contains(reason), "{arguments:?}: {}", finished.errors);
    }
}
