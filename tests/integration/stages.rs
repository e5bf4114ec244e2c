//! The configurations of `docs/stages`, each used as it says at its top, on ports of this run.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::client::{echo_content, flood, ping, read_until_cut};
use crate::support::environment::find_program;
use crate::support::process::run_to_end;
use crate::support::{Backend, Content, Launch, Upstream, Xps, backends, connect, read_rest, skip, was_cut};
use crate::wire::{Response, Wire};
use tempfile::TempDir;

/// Those that are tested below, and how many addresses each listens on.
const STAGES: [(&str, usize); 16] = [
    ("1-reverse.json", 1),
    ("5-proxy.json", 1),
    ("7-core-and-loop.json", 4),
    ("9-non-blocking.json", 4),
    ("10-pipes.json", 4),
    ("11-upstream.json", 4),
    ("12-files.json", 4),
    ("13-sessions.json", 4),
    ("15-http.json", 1),
    ("16-configuration.json", 1),
    ("17-listings.json", 1),
    ("18-access.json", 1),
    ("19-compression.json", 1),
    ("20-balancing.json", 2),
    ("21-timers.json", 2),
    ("23-workers.json", 1),
];

fn stages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stages")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("a folder of the stages") {
        let entry = entry.expect("an entry");
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            std::fs::copy(path, copied).expect("a file of the stages");
        }
    }
}

/// A stage on free ports, with other servers in the places of those on ports 3000 and 3001.
fn start(stage: &str, backend: Backend, upstreams: &[&Upstream]) -> (TempDir, Xps) {
    start_with(stage, backend, upstreams, |text| text)
}

/// The same, with its text changed.
fn start_with(
    stage: &str,
    backend: Backend,
    upstreams: &[&Upstream],
    change: impl FnOnce(String) -> String,
) -> (TempDir, Xps) {
    let (_, listeners) = STAGES.iter().find(|(name, _)| *name == stage).expect("a stage");
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&stages(), folder.path());
    let mut text = change(std::fs::read_to_string(stages().join(stage)).expect("a stage"));
    for port in [8001, 8002, 8003, 8004, 8080] {
        text = text.replace(&format!("\"port\": {port}"), "\"port\": 0");
    }
    for (port, upstream) in (3000..).zip(upstreams) {
        text = text.replace(&format!("127.0.0.1:{port}"), &upstream.address().to_string());
    }
    // Several tests at once cannot have the port of metrics.
    text = text.replacen("{\n", "{ \"access_log\": \"off\", \"metrics\": false,\n", 1);
    std::fs::write(folder.path().join(stage), text).expect("a temporary file");
    let xps = Launch::new(backend, [stage]).in_folder(folder.path()).listening_on(*listeners).start();
    (folder, xps)
}

#[track_caller]
fn expect_reversed(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"stressed\n").expect("the server takes it");
    let mut line = [0; 9];
    stream.read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"desserts\n");
}

/// A server like `python3 -m http.server`: one answer a connection, which names the path that was asked for.
fn origin() -> Upstream {
    origin_that_says(|path| path.to_owned())
}

/// The same, but it names itself.
fn origin_named(name: &'static str) -> Upstream {
    origin_that_says(move |_| name.to_owned())
}

fn origin_that_says(what: impl Fn(&str) -> String + Send + Sync + 'static) -> Upstream {
    Upstream::new(move |mut stream, _| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let text = what(String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).ok();
    })
}

#[track_caller]
fn get(address: SocketAddr, target: &str) -> Response {
    let mut wire = Wire::to(address);
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: h:8001\r\nConnection: close\r\n\r\n"));
    wire.response()
}

/// What a file of the stages holds.
#[track_caller]
fn content(name: &str) -> Vec<u8> {
    std::fs::read(stages().join("public").join(name)).expect("a file of the stages")
}

/// Runs a program to its end with this on standard input; what it wrote to standard output. `None`, said aloud, where it
/// is not installed.
fn typed(test: &str, program: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let Some(path) = find_program(program) else {
        skip(test, &format!("{program} is not installed"));
        return None;
    };
    let finished = run_to_end(Command::new(path).args(arguments), input);
    assert!(finished.status.success(), "{program} {arguments:?}: {}", finished.errors);
    Some(String::from_utf8_lossy(&finished.output).into_owned())
}

#[test]
fn every_stage_is_tested() {
    let mut found: Vec<String> = std::fs::read_dir(stages())
        .expect("the folder of the stages")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect();
    found.sort_by_key(|name| name.split('-').next().and_then(|number| number.parse::<u8>().ok()));
    assert_eq!(found, STAGES.map(|(name, _)| name));
    for document in ["docs/stages/README.md", "docs/course.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).expect(document);
        for stage in &found {
            assert!(text.contains(&format!("{stage})")), "{document} does not lead to {stage}");
        }
    }
}

backends! {
    fn stages_1_to_4_reverse_lines(backend) {
        let (_folder, xps) = start("1-reverse.json", backend, &[]);
        let clients: Vec<_> = (0..20).map(|_| connect(xps.address())).collect();
        expect_reversed(xps.address());
        drop(clients);
        let (ip, port) = (xps.address().ip().to_string(), xps.address().port().to_string());
        if let Some(answer) = typed("stage 1 by nc", "nc", &["-N", &ip, &port], b"stressed\n") {
            assert_eq!(answer, "desserts\n");
        }
        let connected = Launch::new(Backend::Epoll, ["connect", &format!("{ip}:{port}")]).run(b"stressed\n");
        assert_eq!(connected.output, b"desserts\n");
    }

    fn stage_5_is_a_proxy(backend) {
        let origin = origin();
        let (_folder, xps) = start("5-proxy.json", backend, &[&origin]);
        let stream = connect(xps.address());
        (&stream).write_all(b"GET /here HTTP/1.0\r\n\r\n").expect("the proxy takes it");
        assert!(read_rest(&stream).ends_with(b"/here"));
        let url = format!("http://{}/there", xps.address());
        if let Some(answer) = typed("stage 5 by curl", "curl", &["-s", &url], b"") {
            assert_eq!(answer, "/there");
        }
    }

    fn stages_6_and_7_have_four_ports(backend) {
        let (_folder, xps) = start("7-core-and-loop.json", backend, &[]);
        assert_eq!(xps.addresses().len(), 4);
        let all: Vec<_> = xps.addresses().iter().map(|address| connect(*address)).collect();
        xps.addresses().iter().copied().for_each(expect_reversed);
        drop(all);
    }

    fn stages_8_and_9_a_client_that_reads_nothing_disturbs_no_other(backend) {
        let (_folder, xps) = start("9-non-blocking.json", backend, &[]);
        let greedy = connect(xps.address());
        let before = xps.usage().rss_bytes;
        let sent = flood(&greedy, &mut Content::new(1), 1 << 30);
        assert!(sent < 1 << 30, "it is paused");
        let grown = xps.usage().rss_bytes.saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes more");
        xps.addresses().iter().copied().for_each(expect_reversed);
    }

    fn stage_10_echoes_on_four_ports(backend) {
        let (_folder, xps) = start("10-pipes.json", backend, &[]);
        xps.addresses().iter().for_each(|address| ping(&connect(*address), b"stressed\n"));
        echo_content(xps.address(), 3, 8 << 20);
    }

    fn stage_11_relays_on_one_port_and_echoes_on_the_others(backend) {
        let origin = origin();
        let (_folder, xps) = start("11-upstream.json", backend, &[&origin]);
        let [proxy, echoes @ ..] = xps.addresses() else { panic!("{:?}", xps.addresses()) };
        let ask = || {
            let stream = connect(*proxy);
            (&stream).write_all(b"GET /here HTTP/1.0\r\n\r\n").expect("the proxy takes it");
            read_until_cut(&stream).0
        };
        assert!(ask().ends_with(b"/here"));
        echoes.iter().for_each(|address| ping(&connect(*address), b"stressed\n"));
        // With the upstream gone the client's connection is closed without an answer.
        drop(origin);
        assert_eq!(ask(), b"");
        echoes.iter().for_each(|address| ping(&connect(*address), b"stressed\n"));
    }

    fn stage_12_sends_a_file_and_nothing_from_outside_its_folder(backend) {
        let origin = origin();
        let (_folder, xps) = start("12-files.json", backend, &[&origin]);
        let [_, file, outside, echo] = *xps.addresses() else { panic!("{:?}", xps.addresses()) };
        for _ in 0..3 {
            assert_eq!(read_rest(&connect(file)), content("sample.txt"));
            assert!(was_cut(&connect(outside)));
        }
        ping(&connect(echo), b"stressed\n");
        let (ip, port) = (file.ip().to_string(), file.port().to_string());
        if let Some(answer) = typed("stage 12 by nc", "nc", &["-N", &ip, &port], b"") {
            assert_eq!(answer.as_bytes(), content("sample.txt"));
        }
    }

    fn stage_13_has_a_session_for_each_thing(backend) {
        let origin = origin();
        let (_folder, xps) = start("13-sessions.json", backend, &[&origin]);
        let [proxy, file, reverse, echo] = *xps.addresses() else { panic!("{:?}", xps.addresses()) };
        let stream = connect(proxy);
        (&stream).write_all(b"GET /here HTTP/1.0\r\n\r\n").expect("the proxy takes it");
        assert!(read_rest(&stream).ends_with(b"/here"));
        assert_eq!(read_rest(&connect(file)), content("sample.txt"));
        expect_reversed(reverse);
        ping(&connect(echo), b"stressed\n");
    }

    fn stages_14_and_15_speak_http(backend) {
        let (_folder, xps) = start("15-http.json", backend, &[]);
        let sample = get(xps.address(), "/sample.txt");
        assert_eq!((sample.status, &sample.body), (200, &content("sample.txt")));
        let fields = ["Server", "Content-Type", "Access-Control-Allow-Origin"].map(|name| sample.field(name));
        assert_eq!(fields, [Some("eXpServer"), Some("text/plain"), Some("*")]);
        assert!(sample.field("Date").is_some() && sample.length() == Some(sample.body.len() as u64));
        let in_absolute_form = get(xps.address(), "http://localhost/sample.txt");
        assert_eq!((in_absolute_form.status, in_absolute_form.body), (200, content("sample.txt")));
        for (bad, why) in [
            ("GET /\r\nHost: h\r\n\r\n", "no version"), ("BREW / HTTP/1.1\r\nHost: h\r\n\r\n", "unknown method"),
            ("GET / HTTP/1.1\r\n\r\n", "no Host"), ("GET / HTTP/9\r\nHost: h\r\n\r\n", "wrong version"),
            ("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", "a field without a colon"),
        ] {
            let mut wire = Wire::to(xps.address());
            wire.send(bad);
            assert_eq!(wire.response().status, 400, "{why}");
        }
        // Each of them is understood; what the route offers is another matter.
        for (method, status) in [("GET", 200), ("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("PUT", 405), ("DELETE", 405), ("TRACE", 405)] {
            let mut wire = Wire::to(xps.address());
            wire.send(format!("{method} /sample.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
            assert_eq!(wire.read(method == "HEAD").expect("an answer").status, status, "{method}");
        }
    }

    fn stage_16_has_servers_routes_and_404(backend) {
        let origin = origin();
        let (_folder, xps) = start("16-configuration.json", backend, &[&origin]);
        let get_at = |host: &str, target: &str| {
            let mut wire = Wire::to(xps.address());
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
            wire.response()
        };
        assert_eq!(get_at("localhost:8001", "/").body, content("index.html"));
        assert_eq!(get_at("localhost", "/sample.txt").status, 200);
        let redirect = get_at("localhost:8001", "/old?a=b");
        assert_eq!((redirect.status, redirect.field("Location")), (301, Some("http://localhost/sample.txt?a=b")));
        assert_eq!(get_at("127.0.0.1", "/api/users").text(), "/users");
        assert_eq!(get_at("127.0.0.1", "/apis").status, 404, "a prefix ends at a slash");
        assert_eq!(get_at("other.example", "/anything").status, 302);
        assert_eq!(get_at("third.example", "/").status, 404);
    }

    fn stage_17_lists_folders(backend) {
        let (_folder, xps) = start("17-listings.json", backend, &[]);
        for target in ["/", "//"] {
            let page = get(xps.address(), target);
            assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html")));
            let text = page.text();
            assert!(text.contains("<table") && text.contains("href=\"/test\"") && text.contains("href=\"/sample.txt\""), "{text}");
            assert!(!text.contains("href=\"/test/\""), "{text}");
        }
        assert_eq!(get(xps.address(), "/test").status, 301);
        assert!(get(xps.address(), "/test/").text().contains("href=\"/test/deeper\""));
        let url = format!("http://{}/test", xps.address());
        if let Some(page) = typed("stage 17 by curl", "curl", &["-sL", &url], b"") {
            assert!(page.contains("/test/hello.txt"), "{page}");
        }
    }

    fn stage_18_lets_in_whom_the_lists_let_in(backend) {
        let (_folder, xps) = start("18-access.json", backend, &[]);
        for (target, status) in [("/local/sample.txt", 200), ("/others/sample.txt", 403), ("/both/sample.txt", 403)] {
            assert_eq!(get(xps.address(), target).status, status, "{target}");
        }
    }

    fn stage_19_compresses(backend) {
        let (_folder, xps) = start("19-compression.json", backend, &[]);
        let ask = |target: &str, lines: &str| {
            let mut wire = Wire::to(xps.address());
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}Connection: close\r\n\r\n"));
            wire.response()
        };
        let coded = ask("/example.h", "Accept-Encoding: gzip\r\n");
        assert_eq!((coded.field("Content-Type"), coded.field("Content-Encoding")), (Some("text/x-c"), Some("gzip")));
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&coded.body[..]).read_to_end(&mut decoded).expect("gzip");
        assert_eq!(decoded, content("example.h"));
        for (target, lines) in [("/example.h", ""), ("/plain/example.h", "Accept-Encoding: gzip\r\n")] {
            let plain = ask(target, lines);
            assert_eq!((plain.field("Content-Encoding"), &plain.body), (None, &content("example.h")), "{target}");
        }
    }

    fn stage_20_balances(backend) {
        let (first, second) = (origin_named("first"), origin_named("second"));
        let (_folder, xps) = start_with("20-balancing.json", backend, &[&first, &second], |text| {
            // On port 0 of one address they would be two servers of one listener.
            text.replace("\"127.0.0.1\", \"port\": 8002", "\"127.0.0.2\", \"port\": 0")
        });
        let [in_turn, by_address] = *xps.addresses() else { panic!("{:?}", xps.addresses()) };
        let four = |address| [(); 4].map(|()| get(address, "/").text());
        let turns = four(in_turn);
        assert_ne!(turns[0], turns[1]);
        assert_eq!(turns[..2], turns[2..]);
        let same = four(by_address);
        assert!(same.iter().all(|name| *name == same[0]), "{same:?}");
    }

    fn stage_21_ends_sessions_on_which_nothing_moves(backend) {
        let (_folder, xps) = start_with("21-timers.json", backend, &[], |text| text.replace("60s", "300ms"));
        let [echo, http] = *xps.addresses() else { panic!("{:?}", xps.addresses()) };
        let (idle, silent) = (connect(echo), connect(http));
        ping(&idle, b"stressed\n");
        assert!(was_cut(&idle));
        let (answer, _) = read_until_cut(&silent);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer));
        // It says 60 seconds, not what is tried here.
        assert!(std::fs::read_to_string(stages().join("21-timers.json")).expect("a stage").contains("\"idle_timeout\": \"60s\""));
    }

    fn stage_23_has_workers_on_one_port(backend) {
        let (_folder, xps) = start("23-workers.json", backend, &[]);
        let started = xps.log().wait_for("the start", |record| record.message() == "started");
        assert_eq!(started.number("workers"), Some(4));
        for _ in 0..40 {
            assert_eq!(get(xps.address(), "/").body, content("index.html"));
        }
        let metrics = get(xps.address(), "/metrics").text();
        let accepted = metrics.lines().find_map(|line| line.strip_prefix("xps_connections_accepted_total "));
        assert_eq!(accepted.and_then(|count| count.parse::<u32>().ok()), Some(41), "{metrics}");
    }
}
