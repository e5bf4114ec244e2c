//! The access log: one line a request, in a form that others read, and never in a request's way.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::http::site::{PROBE_REQUEST, Site, expect_probe};
use crate::support::client::reset;
use crate::support::files::write_sparse;
use crate::support::log::Record;
use crate::support::process::Signal;
use crate::support::{backends, eventually, http1_only};

/// Waits until a log has so many lines.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || -> Vec<String> { fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect() };
    eventually("the log's lines", || read().len() >= count);
    read()
}

/// A site that logs into a file beside nobody's root.
fn logging(backend: crate::support::Backend, folder: &Path, format: &str) -> Site {
    let path = folder.join("access.log");
    Site::new(backend, &["--access-log", path.to_str().expect("text"), "--access-format", format])
}

backends! {
    fn the_combined_format_is_what_log_readers_expect(backend) {
        http1_only!("malformed text");
        let folder = tempfile::tempdir().expect("a folder");
        let site = logging(backend, folder.path(), "combined");
        site.get_with("/probe?q=1", "User-Agent: test \"1\"\r\nReferer: http://r/\r\n");
        site.get("/none\"\\");
        site.head("/probe", "");
        site.fate(b"GARBAGE\r\n\r\n");
        let lines = lines(&folder.path().join("access.log"), 4);
        let after_date = |line: &str| -> String {
            let (peer, rest) = line.split_once(" - - [").expect("a peer");
            assert_eq!(peer, "127.0.0.1");
            let (date, rest) = rest.split_once("] ").expect("a date");
            let form: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else if c.is_ascii_alphabetic() { 'a' } else { c }).collect();
            assert_eq!(form, "00/aaa/0000:00:00:00 +0000", "{line}");
            // What is known of TLS, if tests run over it.
            let rest = rest.split(" TLSv1").next().expect("a line");
            // The milliseconds at the end are what they are.
            rest.rsplit_once(' ').expect("milliseconds").0.to_owned()
        };
        assert_eq!(after_date(&lines[0]), "\"GET /probe?q=1 HTTP/1.1\" 200 19 \"http://r/\" \"test \\x221\\x22\"");
        let missing = after_date(&lines[1]);
        assert!(missing.starts_with("\"GET /none\\x22\\x5C HTTP/1.1\" 404 "), "{missing}");
        assert_eq!(after_date(&lines[2]), "\"HEAD /probe HTTP/1.1\" 200 0 \"-\" \"-\"");
        let refused = after_date(&lines[3]);
        assert!(refused.starts_with("\"-\" 400 "), "{refused}");
    }

    fn the_json_format_is_json_whatever_is_asked(backend) {
        http1_only!("malformed text");
        let folder = tempfile::tempdir().expect("a folder");
        let site = logging(backend, folder.path(), "json");
        let targets = ["/probe", "/none\"x\\y", "/%0a%00", "/%ff%22", "http://h:80/probe?a=\"b\"", "/a?b"];
        for target in targets {
            site.get_with(target, "User-Agent: a\tb\"c\\\u{e9}\r\n");
        }
        site.fate(b"GARBAGE\r\n\r\n");
        site.fate(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        for line in lines(&folder.path().join("access.log"), targets.len() + 3) {
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(entry["status"].is_u64() && entry["bytes"].is_u64() && entry["peer"] == "127.0.0.1", "{line}");
            assert!(entry["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 20), "{line}");
        }
        let text = fs::read_to_string(folder.path().join("access.log")).expect("it is there");
        let first: serde_json::Value = text.lines().nth(1).and_then(|line| serde_json::from_str(line).ok()).expect("JSON");
        assert_eq!((&first["target"], &first["agent"]), (&"/none\"x\\y".into(), &"a\tb\"c\\\u{e9}".into()));
    }

    fn a_download_is_recorded_at_its_end_with_what_was_sent_of_it(backend) {
        const SIZE: u64 = 64 << 20;
        const TAKEN: usize = 1 << 20;
        let folder = tempfile::tempdir().expect("a folder");
        let site = logging(backend, folder.path(), "json");
        write_sparse(&site.path("large"), SIZE);
        let log = folder.path().join("access.log");
        let whole = site.get("/large");
        assert_eq!(whole.body.len() as u64, SIZE);
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        wire.head_only();
        wire.take(TAKEN);
        assert_eq!(lines(&log, 1).len(), 1, "it is not over yet");
        reset(wire.stream);
        let entries: Vec<serde_json::Value> =
            lines(&log, 2).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((&entries[0]["bytes"], &entries[0]["status"]), (&SIZE.into(), &200.into()));
        let ends = |entry: &serde_json::Value| [entry["cache"].clone(), entry["termination"].clone()];
        assert_eq!(ends(&entries[0]), ["miss", "--"]);
        assert_eq!(entries[1]["termination"], "CD");
        let cut = entries[1]["bytes"].as_u64().expect("a number");
        assert!((TAKEN as u64..SIZE).contains(&cut), "{cut} bytes");
        let ranges = site.get_with("/large", "Range: bytes=0-9,100000-200000\r\n");
        let listing = site.get("/");
        let entries: Vec<serde_json::Value> =
            lines(&log, 4).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(entries[2]["bytes"], ranges.body.len());
        assert_eq!(entries[3]["bytes"], listing.body.len());
    }

    fn a_file_that_was_cached_is_logged_as_such(backend) {
        let folder = tempfile::tempdir().expect("a folder");
        let site = logging(backend, folder.path(), "json");
        let mut wire = site.wire();
        wire.send(PROBE_REQUEST.repeat(5));
        (0..5).for_each(|_| assert_eq!(wire.response().status, 200));
        let entries = lines(&folder.path().join("access.log"), 5);
        let entries = entries.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let states: Vec<serde_json::Value> = entries.map(|entry| entry["cache"].clone()).collect();
        assert!(states.contains(&"miss".into()) && states.contains(&"hit".into()), "{states:?}");
    }

    /// The first from the start of its connection, later ones from their first byte.
    fn a_malformed_or_late_head_has_its_duration(backend) {
        http1_only!("a head that comes in pieces of text");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let flags = ["--access-log", path.to_str().expect("text"), "--access-format", "json", "--head-timeout", "1s"];
        let site = Site::new(backend, &flags);
        let pause = Duration::from_millis(200);
        for (begin, rest, status, duration) in [("GET", "\0", 400, pause), ("GET /", "", 408, Duration::from_secs(1))] {
            let mut wire = site.wire();
            expect_probe(&mut wire);
            wire.send(begin);
            std::thread::sleep(pause);
            wire.send(rest);
            assert_eq!(wire.response().status, status);
            wire.expect_end();
            let count = if status == 400 { 2 } else { 4 };
            let entry: serde_json::Value = serde_json::from_str(&lines(&path, count)[count - 1]).expect("JSON");
            assert!(entry["status"] == status && entry["refused"].is_string(), "{entry}");
            assert_eq!(entry["termination"], if status == 408 { "cR" } else { "PR" });
            // What was sent may arrive late.
            let duration_us = entry["duration_us"].as_u64().expect("a number");
            assert!(duration_us + 50_000 > duration.as_micros() as u64, "{entry}");
        }
    }

    fn sigusr1_opens_the_file_anew(backend) {
        let folder = tempfile::tempdir().expect("a folder");
        let site = logging(backend, folder.path(), "combined");
        let (log, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut wire = site.wire();
        expect_probe(&mut wire);
        lines(&log, 1);
        fs::rename(&log, &old).expect("a rename");
        expect_probe(&mut wire);
        lines(&old, 2);
        site.xps.signal(Signal::User1);
        eventually("the new file", || {
            expect_probe(&mut wire);
            log.exists()
        });
        lines(&log, 1);
        assert!(!fs::read_to_string(&old).expect("it is there").is_empty());
    }

    fn a_connection_has_no_record_of_its_own_beside_its_lines(backend) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut site = logging(backend, folder.path(), "combined");
        let mut wire = site.wire();
        expect_probe(&mut wire);
        drop(wire);
        site.xps.signal(Signal::Terminate);
        assert_eq!(site.xps.wait().code(), Some(0));
        let is_record = |record: &Record| record.message() == "connection ended";
        let record = site.xps.log().wait_until_or_end("none", |records| records.iter().find(|record| is_record(record)).cloned());
        assert!(record.is_none(), "{record:?}");
        lines(&folder.path().join("access.log"), 1);
    }

    fn rotation_under_load_and_a_stop_lose_no_line(backend) {
        const ROTATIONS: usize = 5;
        const BATCH: usize = 200;
        let folder = tempfile::tempdir().expect("a folder");
        let mut site = logging(backend, folder.path(), "combined");
        let log = folder.path().join("access.log");
        let mut wire = site.wire();
        let mut requests = 0;
        let mut ask = || {
            wire.send(PROBE_REQUEST.repeat(BATCH));
            (0..BATCH).for_each(|_| assert_eq!(wire.response().status, 200));
            requests += BATCH;
        };
        for number in 0..ROTATIONS {
            ask();
            fs::rename(&log, folder.path().join(format!("access.log.{number}"))).expect("a rename");
            ask();
            site.xps.signal(Signal::User1);
            eventually("the new file", || {
                ask();
                log.exists()
            });
        }
        ask();
        // What waits for others is written nevertheless.
        drop(wire);
        site.xps.signal(Signal::Terminate);
        assert_eq!(site.xps.wait().code(), Some(0));
        let files = fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file").path());
        let found: usize = files.map(|path| fs::read_to_string(path).expect("text").lines().count()).sum();
        assert_eq!(found, requests);
    }

    /// A FIFO that is opened and not read: the pipe fills, then the queue.
    fn a_reader_that_is_too_slow_loses_lines_which_are_counted(backend) {
        const REQUESTS: usize = 90_000;
        const BATCH: usize = 1000;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo starts").success());
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).expect("a FIFO");
        let mut site = logging(backend, folder.path(), "combined");
        let mut wire = site.wire();
        for _ in 0..REQUESTS / BATCH {
            wire.send(PROBE_REQUEST.repeat(BATCH));
            for _ in 0..BATCH {
                assert_eq!(wire.response().status, 200);
            }
        }
        drop(wire);
        // The reader comes back, and the next lines tell of the loss.
        std::thread::spawn(move || {
            let mut bytes = [0; 64 << 10];
            while reader.read(&mut bytes).is_ok_and(|got| got > 0) {}
        });
        let told = site.xps.log().wait_for("the loss", |record| record.message().starts_with("access log lines were lost"));
        let dropped = told.number("dropped").expect("a count");
        assert!((1..=REQUESTS as u64).contains(&dropped), "{dropped}");
        site.xps.signal(Signal::Terminate);
        site.xps.wait();
        site.xps.log().wait_for("the sum", |record| record.message() == "access log lines were lost in all");
    }
}
