//! Content codings: chosen by the client, made on the fly or found beside the file, never mixed up.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::http::site::Site;
use crate::support::log::Record;
use crate::support::{backends, bridge, eventually};
use crate::wire::Response;

/// Text that every coding makes much smaller.
fn text(bytes: usize) -> Vec<u8> {
    b"A line of text, as there are many. ".iter().copied().cycle().take(bytes).collect()
}

fn accepting(site: &Site, target: &str, codings: &str) -> Response {
    site.get_with(target, &format!("Accept-Encoding: {codings}\r\n"))
}

#[track_caller]
fn decoded(response: &Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    let body = &response.body[..];
    let decoder: &mut dyn Read = match response.field("Content-Encoding") {
        None => &mut { body },
        Some("gzip") => &mut flate2::read::GzDecoder::new(body),
        Some("br") => &mut brotli::Decompressor::new(body, 4096),
        Some("zstd") => &mut zstd::stream::Decoder::new(body).expect("a decoder"),
        Some(other) => panic!("{other}"),
    };
    decoder.read_to_end(&mut bytes).expect("what the field says");
    bytes
}

/// Writes a file and its neighbours; each says which one it is.
fn with_neighbours(root: &Path) {
    fs::write(root.join("app.js"), text(5000)).expect("a file");
    for suffix in ["br", "zst", "gz"] {
        fs::write(root.join(format!("app.js.{suffix}")), format!("content of {suffix}")).expect("a file");
    }
}

fn set_age(path: &Path, age_s: u64) {
    let time = SystemTime::now() - Duration::from_secs(age_s);
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a time");
}

backends! {
    fn row_57_files_are_compressed_as_the_client_likes(backend) {
        let site = Site::new(backend, &[]);
        // Held in memory, held open, and small.
        for (name, size) in [("small.txt", 5000), ("large.txt", 300_000), ("tiny.txt", 100)] {
            site.write(name, text(size));
        }
        for (codings, expected) in [
            ("gzip", Some("gzip")), ("br", Some("br")), ("zstd", Some("zstd")), ("gzip, deflate, br, zstd", Some("br")),
            ("br;q=0.1, gzip;q=0.9", Some("gzip")), ("br;q=0, zstd;q=0, *", Some("gzip")), ("*", Some("br")), ("identity", None),
            ("gzip;q=0", None), ("", None), ("deflate", None), ("identity, gzip;q=0.5", None), ("gzip;q=2", None), ("*;q=0", None),
            ("x-gzip", Some("gzip")), ("GZIP", Some("gzip")),
        ] {
            for (name, size) in [("small.txt", 5000), ("large.txt", 300_000)] {
                let response = accepting(&site, &format!("/{name}"), codings);
                assert_eq!((response.status, response.field("Content-Encoding")), (200, expected), "{name} {codings}");
                assert_eq!(response.field("Vary"), Some("Accept-Encoding"));
                assert_eq!(response.field("Content-Type"), Some("text/plain"));
                assert!(decoded(&response) == text(size), "{name} {codings}");
                let head = site.head(&format!("/{name}"), &format!("Accept-Encoding: {codings}\r\n"));
                assert_eq!(head.length(), Some(response.body.len() as u64), "{name} {codings}");
                assert_eq!(head.field("ETag"), response.field("ETag"));
                assert_eq!(head.field("Content-Encoding"), expected);
            }
        }
        let tiny = accepting(&site, "/tiny.txt", "gzip");
        assert_eq!((tiny.field("Content-Encoding"), tiny.field("Vary")), (None, Some("Accept-Encoding")));
        // Without the field, too: a cache must not give the plain one to everybody.
        assert_eq!(site.get("/small.txt").field("Vary"), Some("Accept-Encoding"));
    }

    fn row_57_each_coding_is_a_version_of_its_own(backend) {
        let site = Site::new(backend, &[]);
        site.write("a.txt", text(5000));
        let plain = site.get("/a.txt");
        let coded = accepting(&site, "/a.txt", "gzip");
        let (plain_tag, coded_tag) = (plain.field("ETag").expect("a tag"), coded.field("ETag").expect("a tag"));
        assert_ne!(plain_tag, coded_tag);
        let ask = |lines: String| site.get_with("/a.txt", &lines);
        assert_eq!(ask(format!("Accept-Encoding: gzip\r\nIf-None-Match: {coded_tag}\r\n")).status, 304);
        assert_eq!(ask(format!("If-None-Match: {coded_tag}\r\n")).status, 200);
        assert_eq!(ask(format!("Accept-Encoding: gzip\r\nIf-None-Match: {plain_tag}\r\n")).status, 200);
        // A part of one version is never put to a part of another.
        let response = ask(format!("Range: bytes=0-9\r\nIf-Range: {coded_tag}\r\n"));
        assert_eq!((response.status, response.body.len()), (200, 5000));
        let response = ask(format!("Accept-Encoding: gzip\r\nRange: bytes=0-9\r\nIf-Range: {plain_tag}\r\n"));
        assert!(response.status == 200 && response.body == coded.body);
        let response = ask(format!("Accept-Encoding: gzip\r\nRange: bytes=5-9\r\nIf-Range: {coded_tag}\r\n"));
        assert_eq!((response.status, response.field("Content-Encoding")), (206, Some("gzip")));
        assert_eq!(response.body, coded.body[5..10]);
        assert_eq!(response.field("Content-Range"), Some(&*format!("bytes 5-9/{}", coded.body.len())));
    }

    /// A body of several parts has no field that says how the parts are coded.
    fn row_57_several_ranges_of_a_compressed_file_are_all_of_it(backend) {
        let site = Site::new(backend, &[]);
        for (name, size) in [("small.txt", 5000), ("large.txt", 300_000)] {
            site.write(name, text(size));
            let ask = |lines: &str| site.get_with(&format!("/{name}"), &format!("Range: bytes=0-1,4-5\r\n{lines}"));
            let coded = ask("Accept-Encoding: gzip\r\n");
            assert_eq!((coded.status, coded.field("Content-Encoding")), (200, Some("gzip")), "{name}");
            assert!(decoded(&coded) == text(size), "{name}");
            let plain = ask("");
            assert_eq!((plain.status, plain.field("Content-Encoding")), (206, None), "{name}");
        }
    }

    /// The forms of a file share its date, so that a date does not say of which form a client has a part.
    fn rows_52_and_57_a_date_does_not_let_a_part_be_put_to_one_of_another_form(backend) {
        let site = Site::of(backend, &[], |root| {
            for name in ["a.txt", "a.png"] {
                fs::write(root.join(name), text(5000)).expect("a file");
                set_age(&root.join(name), 1000);
            }
        });
        let date = site.get("/a.txt").field("Last-Modified").expect("a date").to_owned();
        let lines = format!("Range: bytes=100-\r\nIf-Range: {date}\r\n");
        for codings in ["", "Accept-Encoding: gzip\r\n"] {
            let response = site.get_with("/a.txt", &format!("{lines}{codings}"));
            assert!(response.status == 200 && decoded(&response) == text(5000), "{codings}: {response:?}");
        }
        let only_form = site.get("/a.png").field("Last-Modified").expect("a date").to_owned();
        let lines = format!("Range: bytes=100-\r\nIf-Range: {only_form}\r\n");
        assert_eq!(site.get_with("/a.png", &lines).status, 206);
    }

    fn row_57_what_is_compressed_already_or_switched_off_is_left_alone(backend) {
        let site = Site::new(backend, &[]);
        for name in ["a.png", "a.zip", "a.gz", "a.mp4", "a.woff2"] {
            site.write(name, text(5000));
            let response = accepting(&site, &format!("/{name}"), "gzip, br");
            assert_eq!((response.field("Content-Encoding"), response.field("Vary")), (None, None), "{name}");
        }
        // Noise gains nothing.
        site.write("noise.txt", crate::support::Content::bytes(1, 20_000));
        let response = accepting(&site, "/noise.txt", "br");
        assert_eq!((response.field("Content-Encoding"), response.body.len()), (None, 20_000));
        let site = Site::of(backend, &["--no-compression", "--no-precompressed"], with_neighbours);
        let response = accepting(&site, "/app.js", "gzip, br");
        assert_eq!((response.field("Content-Encoding"), response.field("Vary")), (None, None));
        assert!(response.body == text(5000));
    }

    fn row_57_the_compressed_form_follows_the_file(backend) {
        let site = Site::new(backend, &[]);
        for size in [5000, 100_000] {
            site.write("a.txt", text(size));
            eventually("the new content, compressed", || {
                let response = accepting(&site, "/a.txt", "zstd");
                assert_eq!(response.field("Content-Encoding"), Some("zstd"));
                decoded(&response) == text(size)
            });
        }
    }

    /// A server that looks again whenever it has looked in vain does nothing else any more.
    fn a_file_that_shrinks_before_it_is_compressed_is_refused_once(backend) {
        let site = Site::new(backend, &["--log-level", "trace"]);
        site.write("a.txt", text(300_000));
        assert_eq!(site.get("/a.txt").body.len(), 300_000);
        fs::File::options().write(true).open(site.path("a.txt")).and_then(|file| file.set_len(50_000)).expect("shorter");
        let response = accepting(&site, "/a.txt", "gzip");
        // If this test was held up for a second, it is looked up anew.
        assert!(response.status == 503 || decoded(&response) == text(50_000), "{response:?}");
        site.write("last.html", text(2000));
        site.get("/last.html");
        let is_read = |record: &Record| record.message() == "submit" && record.text("kind") == Some("read");
        let reads = site.xps.log().wait_until("the last file is read", |records| {
            let reads = records.iter().filter(|record| is_read(record)).count();
            (reads >= 2).then_some(reads)
        });
        // Over TLS and HTTP/2, a file is also read to be sent.
        let reads_max = if bridge::is_asked() { 16 } else { 4 };
        assert!(reads <= reads_max, "{reads}");
        eventually("the file as it is now", || {
            let response = accepting(&site, "/a.txt", "gzip");
            response.status == 200 && decoded(&response) == text(50_000)
        });
    }

    fn row_57_neighbours_on_disk_are_taken_instead(backend) {
        let site = Site::of(backend, &[], with_neighbours);
        // Twice: the second time from what is at hand.
        for _ in 0..2 {
            for (codings, coding, suffix) in [("br", "br", "br"), ("zstd", "zstd", "zst"), ("gzip", "gzip", "gz"), ("gzip, br, zstd", "br", "br"),
                ("gzip, br;q=0.5", "gzip", "gz")]
            {
                let response = accepting(&site, "/app.js", codings);
                assert_eq!((response.status, response.field("Content-Encoding")), (200, Some(coding)), "{codings}");
                assert_eq!(response.text(), format!("content of {suffix}"), "{codings}");
                assert_eq!(response.field("Vary"), Some("Accept-Encoding"));
                assert_eq!(response.field("Content-Type"), Some("text/javascript"));
                let tag = response.field("ETag").expect("a tag");
                assert_eq!(site.get_with("/app.js", &format!("Accept-Encoding: {codings}\r\nIf-None-Match: {tag}\r\n")).status, 304);
                assert_ne!(Some(tag), site.get("/app.js").field("ETag"));
                // The neighbour itself is a file like any other.
                let itself = accepting(&site, &format!("/app.js.{suffix}"), codings);
                assert_eq!(itself.field("Content-Encoding"), None);
                assert_eq!(itself.text(), format!("content of {suffix}"));
                assert_ne!(itself.field("Content-Type"), Some("text/javascript"));
            }
            assert!(site.get("/app.js").body == text(5000));
            let response = site.get_with("/app.js", "Accept-Encoding: br\r\nRange: bytes=0-6\r\n");
            assert_eq!((response.status, response.text().as_str()), (206, "content"));
            assert_eq!(response.field("Content-Range"), Some("bytes 0-6/13"));
        }
        let site = Site::of(backend, &["--no-compression"], with_neighbours);
        assert_eq!(accepting(&site, "/app.js", "gzip").text(), "content of gz");
        let site = Site::of(backend, &["--no-precompressed"], with_neighbours);
        let response = accepting(&site, "/app.js", "gzip");
        assert!(response.field("Content-Encoding") == Some("gzip") && decoded(&response) == text(5000));
    }

    /// Both by request in turn over one connection, in the same second: what is kept for one is not given for the other.
    fn row_57_a_neighbour_and_the_file_that_it_is_are_not_confused(backend) {
        let site = Site::of(backend, &[], with_neighbours);
        let mut wire = site.wire();
        for _ in 0..20 {
            wire.send("GET /app.js HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\nGET /app.js.gz HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(wire.response().field("Content-Encoding"), Some("gzip"));
            assert_eq!(wire.response().field("Content-Encoding"), None);
        }
    }

    fn row_57_a_neighbour_that_is_old_or_no_file_is_not_taken(backend) {
        let site = Site::of(backend, &["--no-compression"], |root| {
            with_neighbours(root);
            set_age(&root.join("app.js.br"), 1000);
            fs::remove_file(root.join("app.js.zst")).expect("it was there");
            fs::create_dir(root.join("app.js.zst")).expect("a folder");
            fs::write(root.join("app.js.gz"), "").expect("a file");
            fs::write(root.join("b.js"), text(5000)).expect("a file");
            std::os::unix::fs::symlink("/etc/passwd", root.join("b.js.gz")).expect("a link");
        });
        for target in ["/app.js", "/b.js"] {
            let response = accepting(&site, target, "br, zstd, gzip");
            assert_eq!((response.status, response.field("Content-Encoding")), (200, None), "{target}");
            assert!(response.body == text(5000));
        }
        set_age(&site.path("app.js"), 2000);
        eventually("the neighbour that is new enough now", || accepting(&site, "/app.js", "br").text() == "content of br");
        set_age(&site.path("app.js.br"), 3000);
        eventually("the file itself", || accepting(&site, "/app.js", "br").body == text(5000));
    }
}
