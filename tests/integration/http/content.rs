//! Files' bytes: every size around the server's boundaries, beyond 4 GiB, and files that change while they are read.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::http::site::{Site, expect_probe};
use crate::support::client::read_rest;
use crate::support::files::{assert_stream_is_file, write_sparse};
use crate::support::{Content, Launch, assert_same_bytes, backends, eventually, is_wrapped, skip};

backends! {
    fn row_53_every_size_around_a_boundary_is_whole(backend) {
        let site = Site::new(backend, &[]);
        let mut sizes = vec![0, 1, 2, 3, 4, 611, 612, 613, 4095, 4096, 4097];
        for boundary in [16 << 10, 32 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20] {
            sizes.extend(boundary - 3..=boundary + 3);
        }
        for size in &sizes {
            site.write(&format!("{size}.bin"), Content::bytes(*size as u64, *size));
        }
        // Twice over one connection: the second time from what the first left at hand. Then as a pipeline.
        let mut wire = site.wire();
        for size in sizes.iter().chain(&sizes) {
            wire.send(format!("GET /{size}.bin HTTP/1.1\r\nHost: h\r\n\r\n"));
            let response = wire.response();
            assert_eq!((response.status, response.length()), (200, Some(*size as u64)));
            assert_same_bytes(&response.body, &Content::bytes(*size as u64, *size));
        }
        for size in &sizes {
            wire.send(format!("GET /{size}.bin HTTP/1.1\r\nHost: h\r\n\r\nHEAD /{size}.bin HTTP/1.1\r\nHost: h\r\n\r\n"));
        }
        for size in &sizes {
            assert_same_bytes(&wire.response().body, &Content::bytes(*size as u64, *size));
            assert_eq!(wire.response_to_head().length(), Some(*size as u64));
        }
        expect_probe(&mut wire);
    }

    fn row_53_a_file_beyond_4_gib_is_served_where_it_is_asked_for(backend) {
        const SIZE: u64 = 5 << 30;
        let site = Site::of(backend, &[], |root| write_sparse(&root.join("large"), SIZE));
        let head = site.head("/large", "");
        assert_eq!(head.length(), Some(SIZE));
        let mut wire = site.wire();
        for (range, offset, length) in [
            ("4294967295-4294967297", (4 << 30) - 1, 3_u64),
            ("4294967296-4294971391", 4 << 30, 4096),
            ("5360320512-", (5 << 30) - (8 << 20), 8 << 20),
            ("-100", SIZE - 100, 100),
            ("4303355904-4320133119", (4 << 30) + (8 << 20), 16 << 20),
        ] {
            wire.send(format!("GET /large HTTP/1.1\r\nHost: h\r\nRange: bytes={range}\r\n\r\n"));
            let response = wire.response();
            assert_eq!(response.status, 206, "{range}");
            let span = format!("bytes {offset}-{}/{SIZE}", offset + length - 1);
            assert_eq!(response.field("Content-Range"), Some(span.as_str()));
            let mut expected = vec![0; length as usize];
            let file = File::open(site.path("large")).expect("it is there");
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut expected, offset).expect("it is as long");
            assert_same_bytes(&response.body, &expected);
        }
    }

    fn row_53_a_file_beyond_4_gib_is_whole(backend) {
        if is_wrapped() {
            return skip("row_53, all of a large file", "inside a wrapper it takes too long");
        }
        let site = Site::of(backend, &[], |root| write_sparse(&root.join("large"), (4 << 30) + 12_345));
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(wire.head_only().length(), Some((4 << 30) + 12_345));
        let buffered = wire.take_buffered();
        assert_stream_is_file(buffered.chain(&wire.stream), &site.path("large"));
    }

    fn row_54_a_file_that_shrinks_under_way_is_cut_off_and_never_padded(backend) {
        const SIZE: usize = 64 << 20;
        let site = Site::new(backend, &[]);
        site.write("large", Content::bytes(7, SIZE));
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.head_only().length(), Some(SIZE as u64));
        // The sockets' buffers hold far less than half of it.
        OpenOptions::new().write(true).open(site.path("large")).and_then(|file| file.set_len(32 << 20)).expect("a shorter file");
        let mut bytes = wire.take_buffered();
        // Fewer than promised, and an end in order.
        let rest = read_rest(&wire.stream);
        bytes.extend(rest);
        assert!(bytes.len() <= 32 << 20, "{} bytes of a file that has fewer", bytes.len());
        assert_same_bytes(&bytes, &Content::bytes(7, bytes.len()));
        site.xps.log().wait_for("a warning", |record| record.level() == "WARN");
        expect_probe(&mut site.wire());
    }

    fn row_54_of_a_file_that_grows_only_the_promised_length_is_sent(backend) {
        const SIZE: usize = 32 << 20;
        let site = Site::new(backend, &[]);
        site.write("large", Content::bytes(8, SIZE));
        let mut wire = site.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.head_only().length(), Some(SIZE as u64));
        let mut file = OpenOptions::new().append(true).open(site.path("large")).expect("it is there");
        file.write_all(&[b'x'; 100_000]).expect("it grows");
        assert_same_bytes(&wire.take(SIZE), &Content::bytes(8, SIZE));
        expect_probe(&mut wire);
    }

    /// Both ways to replace a file, small and large, while a client asks for it all the time.
    fn row_55_a_replaced_file_is_the_old_or_the_new_one_and_soon_the_new(backend) {
        let site = Site::new(backend, &[]);
        for size in [700, 40_000, 300_000] {
            let name = format!("file{size}");
            let version = |letter: u8| vec![letter; size];
            site.write(&name, version(b'a'));
            let mut wire = site.wire();
            let mut ask = || {
                wire.send(format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
                let response = wire.response();
                assert_eq!(response.status, 200);
                let first = response.body[0];
                assert!(response.body.iter().all(|byte| *byte == first), "a mixture of versions");
                assert_eq!(response.body.len(), size);
                (first, response.field("ETag").expect("a tag").to_owned())
            };
            let (letter, mut tag) = ask();
            assert_eq!(letter, b'a');
            for letter in [b'b', b'c'] {
                site.write("new", version(letter));
                fs::rename(site.path("new"), site.path(&name)).expect("a rename");
                eventually("the new version", || ask().0 == letter);
                let (_, new) = ask();
                assert_ne!(new, tag, "a new version wants a new tag");
                tag = new;
            }
            fs::remove_file(site.path(&name)).expect("it was there");
            eventually("that it is gone", || site.get(&format!("/{name}")).status == 404);
        }
    }

    fn row_55_a_file_that_appears_is_found_soon(backend) {
        let site = Site::new(backend, &[]);
        assert_eq!(site.get("/late").status, 404);
        site.write("late", "here");
        eventually("the file", || site.get("/late").status == 200);
    }

    fn rows_56_and_79_types_and_fields_are_as_configured(backend) {
        let fill = |root: &std::path::Path| {
            for name in ["a.html", "a.css", "a.js", "a.json", "a.png", "a.svg", "a.wasm", "a.txt", "a.unknown", "none", "a.tar.gz", "A.HTML"] {
                fs::write(root.join(name), "x").expect("a file");
            }
            fs::create_dir(root.join("folder")).expect("a folder");
        };
        let site = Site::of(backend, &[], fill);
        for (name, media_type) in [("a.html", "text/html"), ("a.css", "text/css"), ("a.js", "text/javascript"), ("a.json", "application/json"),
            ("a.png", "image/png"), ("a.svg", "image/svg+xml"), ("a.wasm", "application/wasm"), ("a.txt", "text/plain"),
            ("a.unknown", "application/octet-stream"), ("none", "application/octet-stream"), ("A.HTML", "text/html")]
        {
            let response = site.get(&format!("/{name}"));
            assert_eq!(response.field("Content-Type"), Some(media_type), "{name}");
            assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"), "{name}");
            assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
            assert_eq!(response.field("Server"), Some("xps"));
            assert!(response.field("Date").is_some());
        }
        let site = Site::of(backend, &["--charset", "utf-8", "--cors", "*", "--server-name", "", "--header", "X-One: 1", "--header",
            "Cache-Control: max-age=60", "--header", "Vary: X-Two"], fill);
        assert_eq!(site.get("/a.txt").field("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(site.get("/a.png").field("Content-Type"), Some("image/png"));
        for (method, target) in [("GET", "/a.txt"), ("HEAD", "/a.txt"), ("GET", "/folder"), ("GET", "/folder/"), ("OPTIONS", "/a.txt")] {
            let response = site.ask(method, target, "");
            assert_eq!(response.field("X-One"), Some("1"), "{method} {target}");
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"), "{method} {target}");
            assert_eq!(response.field("Server"), None, "{method} {target}");
        }
        // In place of the server's own; what answers depend on is merged in.
        for target in ["/a.txt", "/folder/"] {
            let response = site.get(target);
            assert_eq!(response.field("Cache-Control"), Some("max-age=60"), "{target}");
            let vary = if target == "/a.txt" { "X-Two, Accept-Encoding" } else { "X-Two, Accept" };
            assert_eq!(response.field("Vary"), Some(vary), "{target}");
        }
        assert_eq!(site.get("/a.png").field("Vary"), Some("X-Two"));
        for (configured, sent) in [("*", "*"), ("accept-encoding", "accept-encoding"), ("A, ACCEPT-ENCODING", "A, ACCEPT-ENCODING")] {
            let site = Site::of(backend, &["--header", &format!("vary: {configured}")], fill);
            assert_eq!(site.get("/a.txt").field("Vary"), Some(sent));
        }
        let error = site.get("/missing");
        assert_eq!((error.status, error.field("X-One"), error.field("Server")), (404, None, None));
        let site = Site::of(backend, &["--header", "Content-Type: text/x", "--header", "Set-Cookie: a", "--header", "Set-Cookie: b"], fill);
        let response = site.get("/a.txt");
        assert_eq!(response.field("Content-Type"), Some("text/x"));
        assert_eq!(response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie")).count(), 2);
    }

    fn row_56_text_in_utf_8_says_so_in_every_form_that_it_is_sent_in(backend) {
        // Beyond ASCII from the beginning, from the last byte that is looked at, and behind it.
        let begins = |text: &str| format!("{text}{}", "plain text\n".repeat(30_000)).into_bytes();
        let at = |ascii: usize, text: &str| format!("{}{text}", "a".repeat(ascii)).into_bytes();
        let latin = |ascii: usize| [&b"a".repeat(ascii)[..], b"Gr\xfc\xdfe", &b"b".repeat(300_000)].concat();
        let files: [(&str, Vec<u8>, &str); 14] = [
            ("small.txt", "Grüße\n".into(), "text/plain; charset=utf-8"),
            ("small.md", "# Übersicht\n".into(), "text/markdown; charset=utf-8"),
            ("page.html", "<meta charset=\"iso-8859-1\">é".into(), "text/html; charset=utf-8"),
            ("app.js", "const é = 1".into(), "text/javascript; charset=utf-8"),
            ("ascii.txt", "plain\n".into(), "text/plain"),
            ("latin.txt", b"Gr\xfc\xdfe".to_vec(), "text/plain"),
            ("data.json", "\"é\"".into(), "application/json"),
            ("empty.txt", Vec::new(), "text/plain"),
            ("large.txt", begins("Grüße"), "text/plain; charset=utf-8"),
            ("boundary.txt", at(65_535, "é"), "text/plain; charset=utf-8"),
            ("emoji.txt", [&at(65_533, "🙂")[..], &begins("")].concat(), "text/plain; charset=utf-8"),
            ("behind.txt", at(65_536, "é"), "text/plain"),
            ("large-ascii.txt", begins(""), "text/plain"),
            ("large-latin.txt", latin(60_000), "text/plain"),
        ];
        let site = Site::of(backend, &[], |root| {
            for (name, content, _) in &files {
                fs::write(root.join(name), content).expect("a file");
            }
            // Whatever is in a neighbour, it is the file that is described.
            fs::write(root.join("small.md.gz"), "coded").expect("a file");
        });
        for (name, content, media_type) in &files {
            let target = format!("/{name}");
            for lines in ["", "", "Accept-Encoding: gzip\r\n", "Accept-Encoding: br\r\n"] {
                assert_eq!(site.get_with(&target, lines).field("Content-Type"), Some(*media_type), "{name} {lines}");
                assert_eq!(site.head(&target, lines).field("Content-Type"), Some(*media_type), "{name} {lines}");
            }
            let plain = site.get(&target);
            assert!(plain.body == *content, "{name}");
            if content.len() > 20 {
                let part = site.get_with(&target, "Range: bytes=0-3\r\n");
                assert_eq!((part.status, part.field("Content-Type")), (206, Some(*media_type)), "{name}");
                let parts = site.get_with(&target, "Range: bytes=0-3,8-9\r\n").text();
                assert_eq!(parts.matches(&format!("Content-Type: {media_type}\r\n")).count(), 2, "{name}");
            }
            let tag = plain.field("ETag").expect("a tag");
            let unmodified = site.get_with(&target, &format!("If-None-Match: {tag}\r\n"));
            assert_eq!((unmodified.status, unmodified.field("Content-Type")), (304, None), "{name}");
        }
        assert_eq!(site.get_with("/small.md", "Accept-Encoding: gzip\r\n").text(), "coded");
    }

    /// A file that was never sent as a whole: what is asked first, in whatever form, is told the same.
    fn row_56_the_first_request_for_a_large_text_is_told_its_charset(backend) {
        let content = format!("é{}", "text ".repeat(100_000));
        let forms: [(&str, &str, u16); 4] =
            [("HEAD", "", 200), ("GET", "Range: bytes=9-19\r\n", 206), ("GET", "Accept-Encoding: zstd\r\n", 200), ("GET", "", 200)];
        let site = Site::new(backend, &[]);
        for (number, (method, lines, status)) in forms.into_iter().enumerate() {
            site.write(&format!("{number}.txt"), &content);
            let response = site.ask(method, &format!("/{number}.txt"), lines);
            let found = (response.status, response.field("Content-Type"));
            assert_eq!(found, (status, Some("text/plain; charset=utf-8")), "{method} {lines}");
        }
    }

    fn row_56_a_charset_is_claimed_as_configured(backend) {
        let fill = |root: &std::path::Path| {
            fs::write(root.join("a.txt"), "é").expect("a file");
            fs::write(root.join("large.txt"), "é".repeat(100_000)).expect("a file");
        };
        for (charset, media_type) in [("off", "text/plain"), ("auto", "text/plain; charset=utf-8"), ("iso-8859-1", "text/plain; charset=iso-8859-1")] {
            let site = Site::of(backend, &["--charset", charset], fill);
            for target in ["/a.txt", "/large.txt"] {
                assert_eq!(site.get(target).field("Content-Type"), Some(media_type), "{charset} {target}");
                assert_eq!(site.head(target, "").field("Content-Type"), Some(media_type), "{charset} {target}");
            }
        }
        let finished = Launch::new(backend, ["serve", ".", "--charset", "utf 8"]).run(b"");
        assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
        assert!(finished.errors.contains("not a charset"), "{}", finished.errors);
    }

    fn fields_that_frame_an_answer_cannot_be_set(backend) {
        for field in ["Content-Length: 5", "transfer-encoding: chunked", "Connection: close", "Upgrade: x", "Date: now"] {
            let finished = Launch::new(backend, ["serve", ".", "--header", field]).run(b"");
            assert_eq!(finished.status.code(), Some(2), "{field}: {}", finished.errors);
            assert!(finished.errors.contains("xps sets this field itself"), "{field}: {}", finished.errors);
        }
    }

    fn scripts_of_other_sites_learn_what_they_may_do(backend) {
        for origin in ["*", "https://app.example"] {
            let site = Site::new(backend, &["--cors", origin]);
            site.write("a.bin", "content");
            let asks = "Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n\
                Access-Control-Request-Headers: range, x-own\r\n";
            let preflight = site.ask("OPTIONS", "/a.bin", asks);
            assert_eq!(preflight.status, 204, "{origin}");
            assert_eq!(preflight.field("Access-Control-Allow-Origin"), Some(origin));
            assert_eq!(preflight.field("Access-Control-Allow-Methods"), Some("GET, HEAD, OPTIONS"));
            assert_eq!(preflight.field("Access-Control-Allow-Headers"), Some("range, x-own"));
            assert!(preflight.field("Access-Control-Max-Age").is_some());
            // The one origin goes with every answer, to whomever: nothing depends on who asks.
            for lines in ["", "Origin: https://app.example\r\n", "Origin: https://other.example\r\n"] {
                for (method, target, status) in [("GET", "/a.bin", 200), ("GET", "/missing", 404), ("POST", "/a.bin", 405), ("OPTIONS", "/a.bin", 204)] {
                    let response = site.ask(method, target, lines);
                    assert_eq!(response.status, status, "{method} {target}");
                    assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin), "{method} {target}");
                    assert_eq!(response.field("Access-Control-Allow-Methods"), None, "{method} {target}");
                }
            }
        }
        let site = Site::new(backend, &[]);
        let preflight = site.ask("OPTIONS", "/probe", "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n");
        assert!(!preflight.fields.iter().any(|(name, _)| name.starts_with("Access-Control")), "{preflight:?}");
    }

    fn error_pages_are_json_for_who_prefers_it(backend) {
        let site = Site::new(backend, &[]);
        let response = site.get_with("/missing", "Accept: application/json\r\n");
        assert_eq!(response.field("Content-Type"), Some("application/json"));
        let page: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(page["status"], 404);
        let html = site.get("/missing");
        assert_eq!(html.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!((response.field("Vary"), html.field("Vary")), (Some("Accept"), Some("Accept")));
    }

    /// A file that is written to while it is read into memory must not stay there longer than the validity time.
    fn the_command_line_says_how_errors_links_and_compression_are(backend) {
        let folder = tempfile::tempdir().expect("a folder");
        let page = folder.path().join("missing.html");
        fs::write(&page, "<h1>not here</h1>").expect("a file");
        let error_page = format!("404={}", page.display());
        let flags =
            ["--error-page", &error_page, "--no-symlinks", "--compression-min-size", "1k", "--compression-level", "9"];
        let site = Site::new(backend, &flags);
        symlink("probe", site.path("link")).expect("a link");
        site.write("a.txt", "text ".repeat(250));
        site.write("b.txt", "text ".repeat(200));
        assert_eq!((site.get("/link").status, site.get("/probe").status), (403, 200));
        let missing = site.get("/missing");
        assert_eq!((missing.status, missing.text().as_str()), (404, "<h1>not here</h1>"));
        assert!(site.get("/link").text().contains("403 Forbidden"), "the others are ours");
        let coding = |target| site.get_with(target, "Accept-Encoding: gzip\r\n").field("Content-Encoding").map(str::to_owned);
        assert_eq!((coding("/a.txt").as_deref(), coding("/b.txt")), (Some("gzip"), None));
    }

    fn a_file_rewritten_in_place_is_seen_soon(backend) {
        let site = Site::new(backend, &[]);
        site.write("file", "old content");
        assert_eq!(site.get("/file").text(), "old content");
        std::thread::sleep(Duration::from_millis(20));
        site.write("file", "NEW CONTENT");
        eventually("the new content", || site.get("/file").text() == "NEW CONTENT");
    }
}
