//! Clients before the proxy: curl, wget and wrk.

use std::fs;
use std::process::Command;

use crate::curl::{Curl, field};
use crate::gateway::proxy;
use crate::nginx::Nginx;
use crate::script::Script;
use crate::support::environment::{bulk, report, require_program};
use crate::support::process::run_to_end;
use crate::support::{Content, assert_same_bytes, backends, patience};

const LENGTH: usize = 3_000_001;

backends! {
    fn curl_speaks_both_versions(backend) {
        let (Some(curl), Some(nginx)) = (Curl::find(module_path!()), Nginx::of_files(module_path!())) else { return };
        let content = Content::bytes(1, bulk(LENGTH));
        fs::write(nginx.file("file.bin"), &content).expect("a file");
        let xps = proxy(backend, nginx.address(), &[]);
        let url = format!("http://{}/file.bin", xps.address());
        let length = content.len().to_string();
        for version in ["--http1.0", "--http1.1"] {
            assert_same_bytes(&curl.get(&[version, &url]), &content);
            assert_same_bytes(&curl.get(&[version, "--range", "7-70007", &url]), &content[7..=70_007]);
            let head = curl.head(&[version, "--head", &url]);
            assert!(head[0].contains(" 200 ") && field(&head, "Content-Length") == Some(&length), "{head:?}");
            let part = curl.head(&[version, "--range", "7-70007", &url]);
            let range = format!("bytes 7-70007/{length}");
            assert!(part[0].contains(" 206 ") && field(&part, "Content-Range") == Some(&range), "{part:?}");
        }
        // The connection goes on after an answer, unless it is one to HTTP/1.0.
        let twice = ["-w", "%{num_connects} ", "-o", "/dev/null", "-o", "/dev/null", &url, &url];
        assert_eq!(curl.get(&twice), b"1 0 ");
        assert_eq!(curl.get(&[&["--http1.0"], &twice[..]].concat()), b"1 1 ");
    }

    fn curl_uploads_of_known_and_of_unknown_length(backend) {
        let (Some(curl), Some(mirror)) = (Curl::find(module_path!()), Script::python(module_path!(), "mirror.py", &[])) else { return };
        let content = Content::bytes(2, bulk(LENGTH));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, &content).expect("a file");
        let file = file.to_str().expect("a path of text");
        let xps = proxy(backend, mirror.address(), &[]);
        let url = format!("http://{}/", xps.address());
        for (words, input, framing) in [
            (&["-T", file][..], &b""[..], "length"),
            (&["-H", "Expect:", "-T", file], b"", "length"),
            (&["--http1.0", "-T", file], b"", "length"),
            (&["-T", "-"], &content, "chunked"),
            (&["-H", "Expect:", "-T", "-"], &content, "chunked"),
            (&["-H", "Expect:", "--data-binary", &format!("@{file}")], b"", "length"),
        ] {
            let finished = curl.run_with(&[words, &["-D", "/dev/stderr", &url]].concat(), input);
            assert_same_bytes(&finished.output, &content);
            let head: Vec<String> = finished.errors.lines().map(|line| line.trim_end().to_owned()).collect();
            assert_eq!(field(&head, "X-Framing"), Some(framing), "{words:?}: {head:?}");
        }
        let nothing = curl.run_with(&["-T", "-", &url], b"").output;
        assert_eq!(nothing, b"", "an upload of nothing at all");
    }

    fn curl_is_told_to_go_on_before_it_uploads(backend) {
        let (Some(curl), Some(mirror)) = (Curl::find(module_path!()), Script::python(module_path!(), "mirror.py", &[])) else { return };
        // So much that curl asks first.
        let content = Content::bytes(3, LENGTH);
        let xps = proxy(backend, mirror.address(), &[]);
        // Without an answer it would wait for a minute, and fail.
        let words = ["-v", "--expect100-timeout", "60", "--data-binary", "@-"];
        let url = format!("http://{}/", xps.address());
        let finished = curl.run_with(&[&words[..], &[&url]].concat(), &content);
        assert_same_bytes(&finished.output, &content);
        let said = finished.errors;
        assert!(said.contains("> Expect: 100-continue"), "curl did not ask: {said}");
        assert!(said.contains("< HTTP/1.1 100 Continue"), "nobody told it to go on: {said}");
        assert!(said.contains("< X-Expect: 100-continue"), "the upstream was not asked: {said}");
    }

    fn curl_is_told_at_once_that_its_upload_is_not_wanted(backend) {
        let (Some(curl), Some(nginx)) = (Curl::find(module_path!()), Nginx::of_files(module_path!())) else { return };
        fs::write(nginx.file("file.bin"), "content").expect("a file");
        let xps = proxy(backend, nginx.address(), &[]);
        let url = format!("http://{}/file.bin", xps.address());
        let words = ["-v", "--expect100-timeout", "60", "-o", "/dev/null", "--data-binary", "@-", &url];
        let finished = curl.run_with(&words, &Content::bytes(4, LENGTH));
        assert!(finished.errors.contains("< HTTP/1.1 405 "), "{}", finished.errors);
        assert!(!finished.errors.contains("100 Continue"), "{}", finished.errors);
        assert_eq!(curl.get(&[&url]), b"content", "the proxy lives on");
    }

    fn wget_goes_on_where_it_left_off(backend) {
        let (Some(wget), Some(nginx)) =
            (require_program(module_path!(), "wget", "wget"), Nginx::of_files(module_path!())) else { return };
        let content = Content::bytes(5, bulk(LENGTH));
        fs::write(nginx.file("file.bin"), &content).expect("a file");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let part = folder.path().join("file.bin");
        fs::write(&part, &content[..content.len() / 3]).expect("a file");
        let xps = proxy(backend, nginx.address(), &[]);
        let time = patience().as_secs().to_string();
        let resume = || {
            let finished = run_to_end(
                Command::new(&wget)
                    .args(["--no-proxy", "--no-config", "-S", "-T", &time, "-t", "1", "-c"])
                    .arg(format!("http://{}/file.bin", xps.address()))
                    .current_dir(folder.path())
                    .env("LC_ALL", "C"),
                b"",
            );
            assert!(finished.status.success(), "{}: {}", finished.status, finished.errors);
            assert_same_bytes(&fs::read(&part).expect("it is there"), &content);
            finished.errors
        };
        let said = resume();
        assert!(said.contains(" 206 "), "{said}");
        let said = resume();
        assert!(said.contains(" 416 "), "nothing is left to be had: {said}");
    }

    fn wrk_counts_no_errors(backend) {
        let (Some(wrk), Some(nginx)) =
            (require_program(module_path!(), "wrk", "wrk"), Nginx::of_files(module_path!())) else { return };
        fs::write(nginx.file("page.txt"), "text".repeat(256)).expect("a file");
        let xps = proxy(backend, nginx.address(), &[]);
        let finished = run_to_end(
            Command::new(wrk)
                .args(["-t", "1", "-c", "32", "-d", "1s", "--timeout", &format!("{}s", patience().as_secs())])
                .arg(format!("http://{}/page.txt", xps.address())),
            b"",
        );
        let said = String::from_utf8_lossy(&finished.output);
        assert!(finished.status.success(), "{said}{}", finished.errors);
        // It has these lines only if there is something to count.
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
        // "  12345 requests in 1.00s, 14.13MB read"
        let requests: u64 = said
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .and_then(|(requests, _)| requests.parse().ok())
            .unwrap_or_else(|| panic!("no number of requests: {said}"));
        report(&format!("wrk through {backend:?}: {requests} requests within a second"));
        assert!(requests > 0, "{said}");
    }
}
