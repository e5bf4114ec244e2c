//! What options of `serve` do.

use std::fs;
use std::os::unix::fs::symlink;

use crate::options::target::{Case, Running};
use crate::support::ask;

/// The answer to GET with these fields, as text.
fn get(running: &Running, path: &str, fields: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\nHost: h\r\n{fields}\r\n");
    String::from_utf8_lossy(&ask(running.any_http(), request.as_bytes())).into_owned()
}

pub fn what(case: &Case) {
    let public = |name: &str| case.path("public").join(name);
    fs::create_dir(public("bare")).expect("a folder");
    for (name, text) in [("start.html", "index"), (".hidden", "hidden"), ("app.html", "fallback")] {
        fs::write(public(name), text).expect("a file");
    }
    symlink("page", public("link")).expect("a link");
    let plain = case.start(&[]);
    let changed = case.start(&["--index", "start.html", "--dot-files", "--no-symlinks", "--no-listing"]);
    for (path, before, after) in [
        ("/", "200 OK", "200 OK"),
        ("/bare/", "200 OK", "403 Forbidden"),
        ("/.hidden", "404 Not Found", "200 OK"),
        ("/link", "200 OK", "403 Forbidden"),
    ] {
        for (running, status) in [(&plain, before), (&changed, after)] {
            let answer = get(running, path, "");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        }
    }
    assert!(get(&changed, "/", "").ends_with("index") && !get(&plain, "/", "").ends_with("index"));
    let fallen_back = get(&case.start(&["--fallback", "app.html"]), "/nothing", "");
    assert!(fallen_back.ends_with("fallback") && !get(&plain, "/nothing", "").ends_with("fallback"));
}

pub fn fields(case: &Case) {
    fs::write(case.path("public/page.html"), "x").expect("a file");
    fs::write(case.path("missing.html"), "a page for it").expect("a file");
    let page = format!("404={}", case.path("missing.html").display());
    let flags =
        ["--charset", "latin1", "--cors", "*", "--header", "X-Own: 1", "--server-name", "own", "--error-page", &page];
    let (plain, changed) = (case.start(&[]), case.start(&flags));
    let (before, after) = (get(&plain, "/page.html", ""), get(&changed, "/page.html", ""));
    for field in ["charset=latin1", "Access-Control-Allow-Origin: *", "X-Own: 1", "Server: own"] {
        assert!(after.contains(field) && !before.contains(field), "{field}: {after}");
    }
    assert!(get(&changed, "/nothing", "").ends_with("a page for it"));
}

pub fn compression(case: &Case) {
    let text: String = (0..20_000).map(|number| format!("{} ", number * 7919 % 1000)).collect();
    for (name, text) in [("large.txt", text.as_str()), ("small.txt", &"a".repeat(100)), ("ready.txt", "plain")] {
        fs::write(case.path("public").join(name), text).expect("a file");
    }
    fs::write(case.path("public/ready.txt.gz"), "ready").expect("a file");
    const GZIP: &str = "Accept-Encoding: gzip\r\n";
    let is_coded = |answer: &str| answer.contains("Content-Encoding: gzip");
    // The first one to ask may get the file as it is.
    let length = |running: &Running, path: &str| {
        crate::support::eventually("it is compressed", || is_coded(&get(running, path, GZIP)));
        get(running, path, GZIP).len()
    };
    let plain = case.start(&[]);
    let off = case.start(&["--no-compression", "--no-precompressed"]);
    assert!(is_coded(&get(&plain, "/ready.txt", GZIP)) && !is_coded(&get(&off, "/ready.txt", GZIP)));
    assert!(!is_coded(&get(&off, "/large.txt", GZIP)));
    let hard = case.start(&["--compression-level", "9", "--compression-min-size", "10"]);
    let (usual, least) = (length(&plain, "/large.txt"), length(&hard, "/large.txt"));
    assert!(!is_coded(&get(&off, "/large.txt", GZIP)), "also the second time");
    assert_ne!(usual, least, "another level, another length");
    length(&hard, "/small.txt");
    assert!(!is_coded(&get(&plain, "/small.txt", GZIP)));
}
