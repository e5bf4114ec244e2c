//! What options of HTTP do.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::options::target::{BIG_BYTES, Case, GET_PAGE, Running};
use crate::support::process::{Finished, Signal};
use crate::support::{Launch, Upstream, ask, connect, eventually, patience, read_rest, uninterrupted};

/// Files, and what is passed on, as far as the server has them.
fn addresses(running: &Running) -> impl Iterator<Item = SocketAddr> {
    running.http.into_iter().chain(running.proxied)
}

/// Sends a request, and reads the status of its answer.
fn status(mut stream: &TcpStream, request: &[u8]) -> String {
    stream.write_all(request).expect("it is read");
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).expect("an answer");
    String::from_utf8_lossy(&beginning[9..]).into_owned()
}

/// Reads until the connection ends, in whatever way; that this is soon.
#[track_caller]
fn ends_within(mut stream: &TcpStream, time: Duration) -> Vec<u8> {
    let since = Instant::now();
    stream.set_read_timeout(Some(patience())).expect("a time that is not zero");
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert!(since.elapsed() < time, "it ended after {:?} only", since.elapsed());
    got
}

pub fn when_full(case: &Case) {
    let running = case.start(&["--when-full", "refuse", "--max-connections", "1", "--workers", "1"]);
    let _first = running.served();
    let second = connect(running.any_http());
    assert_eq!(status(&second, GET_PAGE), "503", "{}", case.command);
}

pub fn head_size_and_max_requests(case: &Case) {
    let running = case.start(&["--head-size", "1k", "--max-requests", "2"]);
    for address in addresses(&running) {
        let large = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(2000));
        assert_eq!(status(&connect(address), large.as_bytes()), "431", "{}", case.command);
        let three = ask(address, &GET_PAGE.repeat(3));
        let answers = String::from_utf8_lossy(&three).matches("HTTP/1.1 ").count();
        assert_eq!(answers, 2, "{}", case.command);
    }
}

/// The default is 10 s.
pub fn head_timeout(case: &Case) {
    let running = case.start(&["--head-timeout", "300ms"]);
    for address in addresses(&running) {
        let stream = connect(address);
        (&stream).write_all(b"GET / HT").expect("it is read");
        ends_within(&stream, Duration::from_secs(8));
    }
}

/// The default is 75 s.
pub fn keep_alive_timeout(case: &Case) {
    let running = case.start(&["--keep-alive-timeout", "300ms"]);
    for address in addresses(&running) {
        let stream = connect(address);
        (&stream).write_all(GET_PAGE).expect("it is read");
        ends_within(&stream, Duration::from_secs(20));
    }
}

/// Without it, an idle connection is closed after 2 s; with 0, only when all the time to drain is over.
pub fn drain_idle_timeout(case: &Case) {
    let mut running = case.start(&["--drain-idle-timeout", "0", "--drain-timeout", "2700ms"]);
    let stream = connect(running.any_http());
    assert!(matches!(status(&stream, GET_PAGE).as_str(), "200" | "404"));
    let since = Instant::now();
    running.xps.signal(Signal::Terminate);
    let _ = (&stream).read_to_end(&mut Vec::new());
    assert_eq!(running.xps.wait().code(), Some(0));
    assert!(since.elapsed() > Duration::from_millis(2400), "{}: {:?}", case.command, since.elapsed());
}

const GET_BIG: &[u8] = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n";

/// A client that takes nothing; the default is longer than anybody waits here.
pub fn send_timeout(case: &Case) {
    let running = case.start(&["--send-timeout", "300ms", "--send-rate", "0", "--log-level", "debug"]);
    for address in addresses(&running) {
        let deaf = connect(address);
        (&deaf).write_all(GET_BIG).expect("it is read");
        let peer = deaf.local_addr().expect("it is connected").to_string();
        running.xps.log().wait_for("it is cut off", |record| {
            record.message() == "connection ended" && record.text("peer") == Some(peer.as_str())
        });
    }
}

/// A client that takes something all the time, and less than was asked for.
pub fn send_rate(case: &Case) {
    let running = case.start(&["--send-rate", "1g", "--send-timeout", "500ms"]);
    for address in addresses(&running) {
        let mut slow = connect(address);
        slow.write_all(GET_BIG).expect("it is read");
        let mut taken = 0_u64;
        let mut piece = vec![0; 256 << 10];
        // 40 MiB or more can lie on the way. At the default rate all would come.
        loop {
            match uninterrupted(|| slow.read(&mut piece)) {
                Ok(0) | Err(_) => break,
                Ok(got) => taken += got as u64,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(taken < BIG_BYTES, "{}: all of it was sent", case.command);
    }
}

const POST: &[u8] = b"POST /page HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nsome of it";

/// The default is 30 s or more.
pub fn body_timeout(case: &Case) {
    let running = case.start(&["--body-timeout", "300ms"]);
    let stream = connect(running.any_http());
    (&stream).write_all(POST).expect("it is read");
    ends_within(&stream, Duration::from_secs(15));
}

/// A client that sends something all the time, and less than was asked for.
pub fn upload_rate(case: &Case) {
    let running = case.start(&["--upload-rate", "1g", "--body-timeout", "500ms"]);
    let mut stream = connect(running.proxied.expect("it passes on"));
    stream.write_all(POST).expect("it is read");
    let since = Instant::now();
    // Far more slowly than that, and far longer than the time; at the default rate it would go on.
    for _ in 0..400 {
        if stream.write_all(b"more").is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{}: it goes on after {:?}", case.command, since.elapsed());
}

/// Each client has an upstream of its own; taken in turn, both would be reached.
pub fn balance(case: &Case) {
    let answer = |body: char| {
        Upstream::new(move |stream, _| {
            let mut request = [0; 1024];
            while uninterrupted(|| (&stream).read(&mut request)).is_ok_and(|got| got > 0) {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}");
                if (&stream).write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
    };
    let (one, two) = (answer('1'), answer('2'));
    for (policy, reached) in [("ip-hash", 1), ("round-robin", 2)] {
        let words = [
            "proxy",
            "--http",
            "--listen",
            "127.0.0.1:0",
            "--access-log",
            "off",
            "--workers",
            "1",
            "--balance",
            policy,
        ];
        let xps = Launch::new(case.backend, words)
            .flag("--upstream")
            .flag(one.address())
            .flag("--upstream")
            .flag(two.address())
            .start();
        let last = |_| ask(xps.address(), b"GET / HTTP/1.0\r\n\r\n").pop().expect("an answer");
        let bodies: std::collections::BTreeSet<u8> = (0..8).map(last).collect();
        assert_eq!(bodies.len(), reached, "{policy}: {bodies:?}");
    }
}

/// The default is 60 s.
pub fn response_timeout(case: &Case) {
    let running = case.start(&["--response-timeout", "300ms"]);
    let stream = connect(running.any_http());
    assert_eq!(status(&stream, b"GET /silent HTTP/1.1\r\nHost: h\r\n\r\n"), "504");
}

pub fn access_log(case: &Case) {
    let path = case.path("access.log");
    let words: Vec<String> = case.words("127.0.0.1:0").into_iter().take_while(|word| word != "--access-log").collect();
    let launch =
        Launch::new(case.backend, words).flags(["--access-format", "json", "--access-log"]).flag(path.display());
    let xps = launch.in_folder(case.folder.path()).start();
    drop(read_rest(&{
        let stream = connect(xps.address());
        (&stream).write_all(b"GET /page HTTP/1.0\r\n\r\n").expect("it is read");
        stream
    }));
    eventually("a line", || fs::read(&path).is_ok_and(|log| log.ends_with(b"\n")));
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a log")).expect("JSON");
    assert_eq!((line["target"].as_str(), line["status"].as_u64()), (Some("/page"), Some(200)), "{line}");
}

/// The first byte that differs from the preface of HTTP/2 decides. A request that begins like the preface is
/// served as without the option, and a preface that does not end is too slow.
pub fn h2c(case: &Case) {
    let running = case.start(&["--h2c", "--head-timeout", "1s"]);
    let address = running.any_http();
    let request = b"PRI /page HTTP/1.1\r\nHost: h\r\n\r\n";
    let expected = if case.command == "serve" { "405" } else { "200" };
    for cut in [1, 4, 5] {
        let mut stream = connect(address);
        stream.write_all(&request[..cut]).expect("it is read");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(status(&stream, &request[cut..]), expected, "{}", case.command);
    }
    assert_eq!(status(&connect(address), GET_PAGE), "200", "{}", case.command);
    let slow = connect(address);
    (&slow).write_all(b"PRI * HTTP/2.0").expect("it is read");
    ends_within(&slow, Duration::from_secs(8));
    let Finished { status, errors, .. } = case.launch(&["--h2c", "--tls-self-signed"]).run(b"");
    assert!(status.code() == Some(2) && errors.contains("--h2c is for connections without TLS"), "{errors}");
}
