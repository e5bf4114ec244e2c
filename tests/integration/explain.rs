//! `xps explain`: what would become of a request.

use std::path::Path;

use crate::support::{Backend, Launch};
use serde_json::json;
use tempfile::TempDir;

fn place() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("site")).expect("a new folder");
    std::fs::write(folder.path().join("site/index.html"), "<p>").expect("a temporary file");
    std::fs::write(folder.path().join("site/page"), "a page").expect("a temporary file");
    let document = json!({
        "trusted_proxies": ["127.0.0.1"],
        "requests_per_second": 10,
        "access_log": "access.log",
        "servers": [
            {
                "listeners": [{ "host": "127.0.0.1", "port": 8001 }],
                "hostnames": ["example.org"],
                "routes": [
                    { "req_path": "/", "type": "file_serve", "dir_path": "site", "listing": false,
                      "headers": { "set": { "X-Own": "1" } } },
                    { "req_path": "/api", "type": "reverse_proxy", "upstreams": ["127.0.0.1:3000", "127.0.0.1:3001"],
                      "load_balancing": "ip_hash", "strip_prefix": "/api", "ip_blacklist": ["192.0.2.0/24"],
                      "health_check": { "active": { "type": "http", "path": "/up", "host": "app.example.org",
                        "headers": { "X-Probe": "1" }, "status": [204, "2xx"], "body": "all well" } },
                      "max_body_size": "1k", "response_headers": { "remove": ["X-Inner"], "set": { "X-Own": "2" } } },
                    { "req_path": "/old", "type": "redirect", "redirect_url": "http://$host/page?$query" },
                ],
            },
            { "listeners": [{ "host": "127.0.0.1", "port": 8001 }],
              "routes": [{ "req_path": "/metrics", "type": "metrics" }] },
            { "listeners": [{ "host": "127.0.0.1", "port": 8004 }], "protocol": "tcp", "handler": "echo" },
            { "listeners": [{ "host": "127.0.0.1", "port": 8005 }], "protocol": "tcp", "handler": "tcp_proxy",
              "upstreams": ["127.0.0.1:1", "127.0.0.1:2"], "load_balancing": "least_conn", "ip_whitelist": ["127.0.0.0/8"] },
        ],
    });
    std::fs::write(folder.path().join("xps.json"), document.to_string()).expect("a temporary file");
    folder
}

/// The exit code, what it says, and what it complains of.
fn explain(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let words = ["explain", "xps.json"].iter().chain(words);
    let finished = Launch::new(Backend::Epoll, words.copied()).in_folder(folder).run(b"");
    let root = folder.canonicalize().expect("the folder").display().to_string();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&root, "ROOT");
    (finished.status.code().expect("an exit code"), text(&finished.output), text(finished.errors.as_bytes()))
}

#[test]
fn a_file_is_named_with_the_way_that_leads_to_it() {
    let folder = place();
    let (code, text, _) = explain(folder.path(), &["GET", "http://example.org:8001/page"]);
    let (text, answer) = text.split_once("\nThe client gets:\n").expect("what the client gets");
    assert_eq!(
        (code, text),
        (
            0,
            "\
GET http://example.org:8001/page

listener  127.0.0.1:8001, http
client    127.0.0.1
limits    10 requests per second per address, burst 10
server    example.org
route     /
folder    ROOT/site
to        the file ROOT/site/page, 6 bytes
          compressed, if the client accepts it and the type and size qualify
"
        )
    );
    for line in ["HTTP/1.1 200 OK", "Content-Length: 6", "X-Own: 1", "Server: xps"] {
        assert!(answer.contains(&format!("  {line}\n")), "{answer}");
    }
    assert!(!folder.path().join("access.log").exists(), "nothing is opened for writing");
    let (code, text, _) = explain(folder.path(), &["GET", "http://example.org:8001/"]);
    assert!(code == 0 && text.contains("the file ROOT/site/index.html"), "{text}");
}

#[test]
fn what_upstreams_would_get_is_shown() {
    let folder = place();
    let words = ["POST", "http://example.org:8001/api/users?a=b", "--header", "X-Forwarded-For: 198.51.100.7"];
    let (code, text, _) = explain(folder.path(), &words);
    assert_eq!(
        (code, text.as_str()),
        (
            0,
            "\
POST http://example.org:8001/api/users?a=b

listener  127.0.0.1:8001, http
client    198.51.100.7, from X-Forwarded-For of 127.0.0.1
limits    10 requests per second per address, burst 10
server    example.org
route     /api, rather than /
          denied: 192.0.2.0/24
to        one of 127.0.0.1:3000, 127.0.0.1:3001, by the client's address
          checked every 5s by GET /up
          with Host: app.example.org
          with X-Probe: 1
          expecting 204 or 2xx and \"all well\" in the body
tries     3; connect timeout 5s, response timeout 60s
body      at most 1024 bytes, else 413
response  without X-Inner
          X-Own: 2

The upstream gets:
  POST /users?a=b HTTP/1.1
  Host: example.org:8001
  X-Forwarded-For: 198.51.100.7, 127.0.0.1
  X-Forwarded-Proto: http
  X-Forwarded-Host: example.org:8001
  Via: 1.1 xps
"
        )
    );
}

#[test]
fn redirects_counters_and_tcp_servers_are_told() {
    let folder = place();
    let (code, text, _) = explain(folder.path(), &["GET", "http://example.org:8001/old?a=b"]);
    assert!(
        code == 0 && text.contains("302 Found") && text.contains("Location: http://example.org/page?a=b"),
        "{text}"
    );
    let (code, text, _) = explain(folder.path(), &["GET", "http://127.0.0.1:8001/metrics"]);
    assert!(code == 0 && text.contains("server    for every host") && text.contains("the server's counters"), "{text}");
    let (code, text, _) = explain(folder.path(), &["GET", "http://localhost:8004/"]);
    assert!(code == 0 && text.contains("received bytes are sent back"), "{text}");
    let (code, text, _) = explain(folder.path(), &["GET", "http://localhost:8005/"]);
    let parts = ["allowed: only 127.0.0.0/8", "relayed to one of 127.0.0.1:1, 127.0.0.1:2, the one with the fewest"];
    assert!(code == 0 && parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn what_would_be_refused_is_a_failure_that_says_why() {
    let folder = place();
    let refused = |words: &[&str]| {
        let (code, _, complaint) = explain(folder.path(), words);
        assert_eq!(code, 1, "{complaint}");
        complaint
    };
    assert!(refused(&["GET", "http://example.org:8001/none"]).contains("404: ROOT/site/none does not exist"));
    assert!(refused(&["GET", "http://other.org:8001/page"]).contains("404: no route matches; routes: /metrics"));
    let denied = ["GET", "http://example.org:8001/api", "--client", "192.0.2.7"];
    assert!(refused(&denied).contains("403: access denied for your address"));
    let ambiguous = refused(&["GET", "http://example.org:8001/api/..%5cold"]);
    assert!(ambiguous.contains("400: the path is ambiguous"), "{ambiguous}");
    assert!(refused(&["GET", "http://example.org:9999/"]).contains("no listener for this address"));
    assert!(refused(&["GET", "http://example.org:8001/%zz"]).contains("400: "));
    let (code, _, complaint) = explain(folder.path(), &["GET", "ftp://example.org/"]);
    assert!(code == 2 && complaint.contains("write http://HOST:PORT/PATH"), "{complaint}");
}

#[test]
fn a_response_is_shown_as_http2_has_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("page"), "a page").expect("a temporary file");
    let document = json!({
        "servers": [
            {
                "listeners": [{ "host": "127.0.0.1", "port": 8001, "h2c": true }],
                "routes": [
                    { "req_path": "/", "type": "file_serve", "dir_path": "." },
                    { "req_path": "/api", "type": "reverse_proxy", "upstreams": ["127.0.0.1:3000"] },
                ],
            },
            { "listeners": [{ "host": "127.0.0.1", "port": 8002 }], "routes": [{ "req_path": "/", "type": "metrics" }] },
        ],
    });
    std::fs::write(folder.path().join("xps.json"), document.to_string()).expect("a temporary file");
    let explain = |words: &[&str]| explain(folder.path(), &[words, &["--http2"]].concat());

    let (code, text, errors) = explain(&["GET", "http://127.0.0.1:8001/page", "--header", "Range: bytes=0-0"]);
    assert!(code == 0 && text.contains("HTTP/2, for clients that begin with its preface"), "{text}{errors}");
    let (_, answer) = text.split_once("\nThe client gets:\n").expect("what the client gets");
    assert!(answer.starts_with("  :status: 206\n"), "{answer}");
    for line in ["content-length: 1", "content-range: bytes 0-0/6"] {
        assert!(answer.contains(&format!("  {line}\n")), "{answer}");
    }
    assert!(!answer.to_lowercase().contains("connection") && !answer.contains("date: "), "{answer}");

    let (code, text, _) = explain(&["GET", "http://127.0.0.1:8001/api"]);
    assert!(code == 0 && text.contains("  GET /api HTTP/1.1\n  Host: 127.0.0.1:8001\n"), "{text}");
    assert!(text.contains("  Via: 2.0 xps\n"), "{text}");

    let (code, text, errors) = explain(&["GET", "http://127.0.0.1:8001/missing"]);
    assert!(code != 0 && text.contains("  :status: 404\n") && errors.contains("does not exist"), "{text}{errors}");
    for (words, reason) in [
        (&["GET", "http://127.0.0.1:8001/page", "--header", "Connection: close"][..], "PROTOCOL_ERROR"),
        (&["CONNECT", "http://127.0.0.1:8001/"], "405"),
        (&["GET", "http://127.0.0.1:8002/"], "`h2c` is off"),
    ] {
        let (code, text, errors) = explain(words);
        assert!(code != 0 && errors.contains(reason), "{words:?}: {text}{errors}");
    }
}
