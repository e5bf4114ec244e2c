//! `xps explain` and a server that runs agree on what becomes of a request.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::place::Place;
use crate::run::reload::{proxied, upstream};
use crate::support::{Backend, Launch, backends};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";

/// Method, target, and further lines of the head.
const REQUESTS: [(&str, &str, &[&str]); 49] = [
    ("GET", "/", &[]),
    ("GET", "/page", &[]),
    ("HEAD", "/page", &[]),
    ("POST", "/page", &[]),
    ("PATCH", "/page", &["Content-Length: 0"]),
    ("OPTIONS", "/page", &[]),
    ("TRACE", "/page", &[]),
    ("BREW", "/page", &[]),
    ("CONNECT", "", &[]),
    ("GET", "/page/", &[]),
    ("GET", "/%70age?query", &[]),
    ("GET", "/page?q=100%", &[]),
    ("GET", "/folder?q=\u{2019}%", &[]),
    ("GET", "/old?q=\u{2019}%", &[]),
    ("GET", "/folder", &[]),
    ("GET", "/folder/", &[]),
    ("GET", "/indexed", &[]),
    ("GET", "/indexed/", &[]),
    ("GET", "/missing", &[]),
    ("GET", "/.hidden", &[]),
    ("GET", "/folder/.hidden", &[]),
    ("GET", "/.well-known/known", &[]),
    ("GET", "/.well-known/missing", &[]),
    ("GET", "/link", &[]),
    ("GET", "/out", &[]),
    ("GET", "/dangling", &[]),
    ("GET", "/refuse/page", &[]),
    ("GET", "/refuse/link", &[]),
    ("GET", "/closed/folder/", &[]),
    ("GET", "/app/anything", &[]),
    ("GET", "/app/out", &[]),
    ("GET", "/app/folder", &[]),
    ("GET", "/%zz", &[]),
    ("GET", "/../page", &[]),
    ("GET", "/page", &["Range: bytes=0-1"]),
    ("GET", "/page", &["Range: bytes=99-"]),
    ("GET", "/page", &["If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT", "If-None-Match: *"]),
    ("GET", "/page", &["If-Match: \"no\""]),
    ("GET", "/page", &["Expect: much"]),
    ("GET", "/page", &["A: 1", "B: 2", "C: 3", "D: 4", "E: 5"]),
    ("GET", "/a-target-that-is-longer-than-the-configuration-permits-for-a-line-of-a-request", &[]),
    ("GET", "/old/x", &[]),
    ("POST", "/old", &["Content-Length: 0"]),
    ("TRACE", "/old", &[]),
    ("GET", "/private/page", &[]),
    ("DELETE", "/metrics", &[]),
    ("GET", "/api/users", &[]),
    ("TRACE", "/api", &[]),
    ("POST", "/api", &["Content-Length: 2000"]),
];

/// A place with something of each kind.
fn place(backend: Backend, port: u16, upstream: &Value) -> (Place, Value) {
    let place = Place::new(backend);
    for folder in ["site", "site/folder", "site/indexed", "site/.well-known"] {
        place.page(folder, "a page");
    }
    for file in ["site/.hidden", "site/folder/.hidden", "site/.well-known/known", "site/indexed/index.html", "secret"] {
        std::fs::write(place.path(file), "text").expect("a temporary file");
    }
    let link = |to: &str, from: &str| symlink(to, place.path(from)).expect("a link");
    link("page", "site/link");
    link("../secret", "site/out");
    link("nowhere", "site/dangling");
    let site = |path: &str, options: Value| {
        let mut route = json!({ "req_path": path, "type": "file_serve", "dir_path": "site" });
        route.as_object_mut().expect("an object").extend(options.as_object().expect("an object").clone());
        route
    };
    let mut api = upstream.clone();
    api["max_body_size"] = json!("1k");
    let server = json!({
        "listeners": [{ "host": HERE, "port": port }],
        "hostnames": [HERE],
        "routes": [
            site("/", json!({})),
            site("/refuse", json!({ "symlinks": "refuse" })),
            site("/closed", json!({ "listing": false })),
            site("/app", json!({ "fallback": "page" })),
            site("/private", json!({ "ip_whitelist": ["192.0.2.1"] })),
            { "req_path": "/old", "type": "redirect", "redirect_url": "https://$host$path?$query" },
            { "req_path": "/metrics", "type": "metrics" },
            api,
        ],
    });
    (place, server)
}

/// What `xps explain` says of the status of the answer; 200 where it is an upstream's.
#[track_caller]
fn explained(place: &Place, method: &str, url: &str, lines: &[&str]) -> String {
    let mut launch = Launch::new(Backend::Epoll, ["explain", "explained.json", method, url]).in_folder(&place.path(""));
    for line in lines {
        launch = launch.flags(["--header", line]);
    }
    let finished = launch.run(b"");
    let said = String::from_utf8_lossy(&finished.output).into_owned();
    match finished.status.code() {
        Some(0) if said.contains("The upstream gets:") => "200".to_owned(),
        Some(0) => {
            let (_, head) = said.split_once("The client gets:\n  HTTP/1.1 ").unwrap_or_else(|| panic!("{said}"));
            head[..3].to_owned()
        }
        _ => {
            let status = finished.errors.split(": ").find(|part| part.len() == 3 && part.parse::<u16>().is_ok());
            status.unwrap_or_else(|| panic!("{method} {url}: {}", finished.errors)).to_owned()
        }
    }
}

backends! {
    fn explanation_and_server_agree_on_the_status(backend) {
        let origin = upstream("from upstream");
        let proxied = proxied("/api", &origin);
        let limits = json!({ "http": { "request_line_bytes_max": 80, "fields_max": 5 } });
        let (place, server) = place(backend, 0, &proxied);
        place.configure_with([server], |document| document["limits"] = limits.clone());
        let service = place.start();
        let address = service.address();
        // The same, but for the port that the kernel chose.
        let text = std::fs::read_to_string(place.file()).expect("it was written");
        let mut document: Value = serde_json::from_str(&text).expect("JSON");
        document["servers"][0]["listeners"][0]["port"] = json!(address.port());
        std::fs::write(place.path("explained.json"), document.to_string()).expect("a temporary file");
        let mut differences = Vec::new();
        for (method, target, lines) in REQUESTS {
            let target_sent = if method == "CONNECT" { address.to_string() } else { target.to_owned() };
            let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut wire = Wire::to(address);
            wire.send(format!("{method} {target_sent} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n"));
            let line = wire.take("HTTP/1.1 200".len());
            let served = String::from_utf8_lossy(&line[9..]).into_owned();
            let explained = explained(&place, method, &format!("http://{address}{target}"), lines);
            if served != explained {
                differences.push(format!("{method} {target} {lines:?}: {served}, but explained as {explained}"));
            }
        }
        assert!(differences.is_empty(), "{differences:#?}");
        let other = explained(&place, "GET", &format!("http://localhost:{}/", address.port()), &[]);
        assert_eq!(other, "404", "the host is not one of the server's");
    }
}
