//! Servers behind the proxy, and other proxies behind and before it.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::curl::{Curl, field};
use crate::gateway::proxy;
use crate::haproxy::Haproxy;
use crate::nginx::Nginx;
use crate::support::environment::bulk;
use crate::support::python::Python;
use crate::support::{Content, assert_same_bytes, backends, eventually};

const LENGTH: usize = 5 << 20;

backends! {
    fn pythons_server_is_relayed_and_the_client_keeps_its_connection(backend) {
        let (Some(curl), Some(python)) = (Curl::find(module_path!()), Python::start(module_path!())) else { return };
        let content = Content::bytes(1, bulk(3_000_001));
        fs::write(python.file("file.bin"), &content).expect("a file");
        fs::write(python.file("empty"), "").expect("a file");
        fs::create_dir(python.file("folder")).expect("a folder");
        fs::write(python.file("folder/a page.html"), "<p>text</p>").expect("a file");
        let xps = proxy(backend, python.address, &[]);
        let url = |path: &str| format!("http://{}{path}", xps.address());
        assert_same_bytes(&curl.get(&[&url("/file.bin")]), &content);
        assert_same_bytes(&curl.get(&["--http1.0", &url("/file.bin")]), &content);
        assert_eq!(curl.get(&[&url("/empty")]), b"");
        assert_eq!(curl.get(&[&url("/folder/a%20page.html")]), b"<p>text</p>");
        assert_same_bytes(&curl.get(&[&url("/folder/")]), &curl.get(&[&format!("http://{}/folder/", python.address)]));
        assert_eq!(curl.status(&[&url("/nothing")]), "404");
        let moved = curl.head(&[&url("/folder")]);
        assert!(moved[0].contains(" 301 ") && field(&moved, "Location") == Some("/folder/"), "{moved:?}");
        assert_not_modified(&curl, &url("/file.bin"));
        assert_eq!(field(&curl.head(&["-I", &url("/file.bin")]), "Content-Length"), Some(&*content.len().to_string()));
        // Python closes after each answer, but that is between it and the proxy.
        let sink = ["-o", "/dev/null"];
        let words = [&["-w", "%{num_connects} "], &sink[..], &sink[..], &sink[..]].concat();
        let urls = [url("/file.bin"), url("/nothing"), url("/empty")];
        let connects = curl.get(&[&words[..], &urls.each_ref().map(String::as_str)].concat());
        assert_eq!(connects, b"1 0 0 ");
    }

    fn nginx_is_relayed(backend) {
        let (Some(curl), Some(nginx)) = (Curl::find(module_path!()), Nginx::of_files(module_path!())) else { return };
        let xps = proxy(backend, nginx.address(), &[]);
        expect_site(&curl, xps.address(), &nginx);
    }

    fn connections_to_nginx_are_used_again(backend) {
        let (Some(curl), Some(nginx)) = (Curl::find(module_path!()), Nginx::of_files(module_path!())) else { return };
        fs::write(nginx.file("page.txt"), "text").expect("a file");
        let xps = proxy(backend, nginx.address(), &["--workers", "1"]);
        for _ in 0..10 {
            assert_eq!(curl.get(&[&format!("http://{}/page.txt", xps.address())]), b"text");
        }
        // nginx records a request only after its answer is out.
        eventually("each request is in nginx's log", || nginx.connections().len() >= 10);
        let connections = nginx.connections();
        assert_eq!(connections.iter().collect::<HashSet<_>>().len(), 1, "each client had its own: {connections:?}");
    }

    fn haproxy_behind_the_proxy_and_nginx_behind_that(backend) {
        let (Some(curl), Some(nginx)) = (Curl::find(module_path!()), Nginx::of_files(module_path!())) else { return };
        let Some(haproxy) = Haproxy::in_front_of(module_path!(), nginx.address()) else { return };
        let xps = proxy(backend, haproxy.address(), &[]);
        expect_site(&curl, xps.address(), &nginx);
    }

    fn nginx_before_the_proxy_and_python_behind_it(backend) {
        let (Some(curl), Some(python)) = (Curl::find(module_path!()), Python::start(module_path!())) else { return };
        let content = Content::bytes(2, bulk(LENGTH));
        fs::write(python.file("file.bin"), &content).expect("a file");
        let xps = proxy(backend, python.address, &["--workers", "1"]);
        let Some(nginx) = Nginx::in_front_of(module_path!(), xps.address()) else { return };
        let url = |path: &str| format!("http://{}{path}", nginx.address());
        for _ in 0..5 {
            assert_same_bytes(&curl.get(&[&url("/file.bin")]), &content);
        }
        assert_same_bytes(&curl.get(&["--http1.0", &url("/file.bin")]), &content);
        assert_same_bytes(&curl.get(&[&url("/")]), &curl.get(&[&format!("http://{}/", python.address)]));
        assert_eq!(curl.status(&[&url("/nothing")]), "404");
        assert_eq!(field(&curl.head(&["-I", &url("/file.bin")]), "Content-Length"), Some(&*content.len().to_string()));
        assert_not_modified(&curl, &url("/file.bin"));
    }
}

/// Asks for files in many ways, and uploads one, through whatever lies between `address` and nginx.
#[track_caller]
fn expect_site(curl: &Curl, address: SocketAddr, nginx: &Nginx) {
    let content = Content::bytes(3, bulk(LENGTH));
    let text = "a line that is worth compressing\n".repeat(2000);
    fs::write(nginx.file("file.bin"), &content).expect("a file");
    fs::write(nginx.file("page.txt"), &text).expect("a file");
    let url = |path: &str| format!("http://{address}{path}");
    assert_same_bytes(&curl.get(&[&url("/file.bin")]), &content);
    // What nginx compresses as it goes has no length, so it comes in chunks, or to the end for HTTP/1.0.
    let compressed = curl.head(&["--compressed", &url("/page.txt")]);
    let (encoding, framing) = (field(&compressed, "Content-Encoding"), field(&compressed, "Transfer-Encoding"));
    assert_eq!((encoding, framing), (Some("gzip"), Some("chunked")), "{compressed:?}");
    assert_same_bytes(&curl.get(&["--compressed", &url("/page.txt")]), text.as_bytes());
    assert_same_bytes(&curl.get(&["--compressed", "--http1.0", &url("/page.txt")]), text.as_bytes());
    assert_same_bytes(&curl.get(&["--range", "1000-99999", &url("/file.bin")]), &content[1000..100_000]);
    assert_same_bytes(&curl.get(&["--range", "-4097", &url("/file.bin")]), &content[content.len() - 4097..]);
    assert_eq!(curl.status(&["--range", "99999999-", &url("/file.bin")]), "416");
    assert_eq!(curl.status(&[&url("/nothing")]), "404");
    assert_not_modified(curl, &url("/file.bin"));
    let head = curl.head(&["-I", &url("/file.bin")]);
    assert_eq!(field(&head, "Content-Length"), Some(&*content.len().to_string()), "{head:?}");
    let source = nginx.file("file.bin");
    assert_stored(curl, &source, &[], &url("/stored/length"), &nginx.file("stored/length"));
    assert_stored(
        curl,
        &source,
        &["-H", "Transfer-Encoding: chunked"],
        &url("/stored/chunked"),
        &nginx.file("stored/chunked"),
    );
}

/// Uploads a file and compares what nginx has stored.
#[track_caller]
fn assert_stored(curl: &Curl, source: &Path, words: &[&str], url: &str, stored: &Path) {
    let upload = ["-T", source.to_str().expect("a path of text"), url];
    assert_eq!(curl.status(&[words, &upload].concat()), "201");
    assert_same_bytes(&fs::read(stored).expect("nginx has stored it"), &fs::read(source).expect("it is there"));
}

/// Asks for something that has not changed since the last time.
#[track_caller]
fn assert_not_modified(curl: &Curl, url: &str) {
    let head = curl.head(&[url]);
    let since = format!("If-Modified-Since: {}", field(&head, "Last-Modified").expect("a file has a date"));
    let answer = curl.run_with(&["-i", "-H", &since, url], b"").output;
    let answer = String::from_utf8(answer).expect("a head and nothing else");
    assert!(answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    if let Some(tag) = field(&head, "ETag") {
        assert_eq!(curl.status(&["-H", &format!("If-None-Match: {tag}"), url]), "304");
    }
}
