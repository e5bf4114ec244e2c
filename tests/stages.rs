//! The configurations of `docs/stages`, each used as it says at its top, on ports of this run.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};

mod support;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "http/wire.rs"]
mod wire;

use support::client::{ping, read_rest};
use support::{Backend, Launch, Upstream, Xps, backends, connect};
use tempfile::TempDir;
use wire::{Response, Wire};

/// Those that are tested below.
const STAGES: [&str; 5] = ["1-reverse.json", "2-proxy.json", "3-many-ports.json", "4-modules.json", "5-http.json"];

fn stages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stages")
}

/// A stage on free ports, with `upstream` in the place of port 3000.
fn start(stage: &str, backend: Backend, upstream: Option<&Upstream>) -> (TempDir, Xps) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("public")).expect("a new folder");
    for name in ["public/index.html", "public/sample.txt"] {
        std::fs::copy(stages().join(name), folder.path().join(name)).expect("a file of the stages");
    }
    let mut text = std::fs::read_to_string(stages().join(stage)).expect("a stage");
    let listeners = text.matches("\"port\": 80").count();
    for port in [8001, 8002, 8003, 8004, 8080] {
        text = text.replace(&format!("\"port\": {port}"), "\"port\": 0");
    }
    if let Some(upstream) = upstream {
        text = text.replace("127.0.0.1:3000", &upstream.address().to_string());
    }
    let backend_name = if backend == Backend::Epoll { "epoll" } else { "io_uring" };
    text = text.replacen("{\n", &format!("{{ \"backend\": \"{backend_name}\", \"access_log\": \"off\",\n"), 1);
    std::fs::write(folder.path().join(stage), text).expect("a temporary file");
    let xps = Launch::new(backend, ["run", stage]).in_folder(folder.path()).listening_on(listeners).start();
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
    Upstream::new(|mut stream, _| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        stream.write_all(answer.as_bytes()).ok();
    })
}

#[track_caller]
fn get(address: SocketAddr, target: &str) -> Response {
    let mut wire = Wire::to(address);
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: h:8001\r\nConnection: close\r\n\r\n"));
    wire.response()
}

#[test]
fn every_stage_is_tested() {
    let mut found: Vec<String> = std::fs::read_dir(stages())
        .expect("the folder of the stages")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect();
    found.sort_unstable();
    assert_eq!(found, STAGES);
    let index = std::fs::read_to_string(stages().join("README.md")).expect("the index");
    assert!(STAGES.iter().all(|stage| index.contains(&format!("]({stage})"))));
}

backends! {
    fn stage_1_reverses_lines(backend) {
        let (_folder, xps) = start(STAGES[0], backend, None);
        expect_reversed(xps.address());
    }

    fn stage_2_is_a_proxy(backend) {
        let origin = origin();
        let (_folder, xps) = start(STAGES[1], backend, Some(&origin));
        let stream = connect(xps.address());
        (&stream).write_all(b"GET /here HTTP/1.0\r\n\r\n").expect("the proxy takes it");
        assert!(read_rest(&stream).ends_with(b"/here"));
    }

    fn stage_3_has_four_ports(backend) {
        let (_folder, xps) = start(STAGES[2], backend, None);
        let [first, second, third, fourth] = *xps.addresses() else { panic!("{:?}", xps.addresses()) };
        [first, second].into_iter().for_each(expect_reversed);
        [third, fourth].into_iter().for_each(|address| ping(&connect(address), b"stressed\n"));
    }

    fn stage_4_has_a_module_a_port(backend) {
        let origin = origin();
        let (_folder, xps) = start(STAGES[3], backend, Some(&origin));
        let [proxy, file, echo] = *xps.addresses() else { panic!("{:?}", xps.addresses()) };
        let stream = connect(proxy);
        (&stream).write_all(b"GET /here HTTP/1.0\r\n\r\n").expect("the proxy takes it");
        assert!(read_rest(&stream).ends_with(b"/here"));
        let stream = connect(file);
        stream.shutdown(Shutdown::Write).expect("a live connection");
        let expected = std::fs::read(stages().join("public/sample.txt")).expect("a file of the stages");
        assert_eq!(read_rest(&stream), expected);
        ping(&connect(echo), b"stressed\n");
    }

    fn stage_5_serves_files_a_redirect_and_an_upstream(backend) {
        let origin = origin();
        let (_folder, xps) = start(STAGES[4], backend, Some(&origin));
        let index = std::fs::read(stages().join("public/index.html")).expect("a file of the stages");
        assert_eq!(get(xps.address(), "/").body, index);
        assert_eq!(get(xps.address(), "/sample.txt").status, 200);
        let redirect = get(xps.address(), "/old?a=b");
        assert_eq!((redirect.status, redirect.field("Location")), (301, Some("http://h/sample.txt?a=b")));
        assert_eq!(get(xps.address(), "/api/users").text(), "/users");
        assert_eq!(get(xps.address(), "/apis").status, 404);
    }
}
