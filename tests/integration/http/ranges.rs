//! Parts of files.

use crate::http::site::{Site, expect_probe};
use crate::support::{Content, assert_same_bytes, backends};
use crate::wire::Response;

/// The sizes of a file that is kept in memory, and of one that is not.
const SIZES: [usize; 2] = [10_000, 1_000_000];

fn site_with_files(backend: crate::support::Backend) -> Site {
    Site::of(backend, &[], |root| {
        for size in SIZES {
            std::fs::write(root.join(size.to_string()), Content::bytes(size as u64, size)).expect("a file");
        }
        std::fs::write(root.join("empty"), "").expect("a file");
    })
}

fn range(site: &Site, size: usize, value: &str) -> Response {
    site.get_with(&format!("/{size}"), &format!("Range: {value}\r\n"))
}

backends! {
    fn rows_51_and_87_one_range_of_every_form(backend) {
        let site = site_with_files(backend);
        for size in SIZES {
            let content = Content::bytes(size as u64, size);
            for (value, start, end) in [
                ("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=100-199", 100, 200), ("bytes=100-", 100, size),
                ("bytes=0-", 0, size), ("bytes=-1", size - 1, size), ("bytes=-100", size - 100, size), ("BYTES=1-2", 1, 3),
                ("bytes=-99999999999999999999999", 0, size), ("bytes=5-18446744073709551615", 5, size),
                ("bytes=5-99999999999999999999999", 5, size), ("bytes= 3-4 ", 3, 5), ("bytes=,3-4,", 3, 5),
                ("bytes=3-4,99999999999-", 3, 5),
            ] {
                let response = range(&site, size, value);
                let span = format!("bytes {start}-{}/{size}", end - 1);
                assert_eq!((response.status, response.field("Content-Range")), (206, Some(&*span)), "{value}");
                assert_same_bytes(&response.body, &content[start..end]);
                assert!(response.field("ETag").is_some() && response.field("Last-Modified").is_some());
            }
            for value in [format!("bytes={}-{}", size - 1, size + 5), format!("bytes={}-", size - 1)] {
                assert_same_bytes(&range(&site, size, &value).body, &content[size - 1..]);
            }
        }
    }

    fn rows_51_and_87_what_cannot_be_satisfied_is_416_and_what_cannot_be_read_is_ignored(backend) {
        let site = site_with_files(backend);
        for size in SIZES {
            let unsatisfied = format!("bytes */{size}");
            for value in [format!("bytes={size}-"), "bytes=-0".into(), "bytes=18446744073709551615-".into(), "bytes=18446744073709551616-".into(),
                format!("bytes={size}-{size}, -0")]
            {
                let response = range(&site, size, &value);
                assert_eq!((response.status, response.field("Content-Range")), (416, Some(&*unsatisfied)), "{value}");
            }
            for value in ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=1", "bytes 0-1", "bytes=0x1-2", "bytes=--1", "bytes=1-2-3",
                "bytes=0-1;2-3", "items=0-1", "bytes=+1-2", "0-1", "bytes=0-1, x", "bytes=1 - 2"]
            {
                let response = range(&site, size, value);
                assert_eq!((response.status, response.length()), (200, Some(size as u64)), "{value}");
            }
        }
        let head = site.head("/10000", "Range: bytes=0-1\r\n");
        assert_eq!((head.status, head.length()), (200, Some(10_000)), "Range is for GET only");
    }

    fn row_51_several_ranges_are_parts_of_one_body(backend) {
        let site = site_with_files(backend);
        for size in SIZES {
            let content = Content::bytes(size as u64, size);
            let spans = [(0, 10), (50, 60), (size - 100, size), (5000, 9000)];
            let response = range(&site, size, &format!("bytes=0-9,50-59, -100,5000-8999,{}-", size + 7));
            assert_eq!((response.status, response.field("Content-Range")), (206, None));
            assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"), "row 56");
            assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
            let content_type = response.field("Content-Type").expect("a type");
            let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("parts");
            let mut rest = &response.body[..];
            for (start, end) in spans {
                let head = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a part's head") + 4;
                let text = String::from_utf8_lossy(&rest[..head]);
                assert!(text.contains(&format!("--{boundary}\r\n")), "{text}");
                assert!(text.contains(&format!("Content-Range: bytes {start}-{}/{size}\r\n", end - 1)), "{text}");
                assert!(text.contains("Content-Type: application/octet-stream\r\n"), "{text}");
                rest = &rest[head..];
                assert_same_bytes(&rest[..end - start], &content[start..end]);
                rest = &rest[end - start..];
            }
            assert_eq!(String::from_utf8_lossy(rest), format!("\r\n--{boundary}--\r\n"));
        }
        // The connection goes on, also behind a pipeline of them.
        let mut wire = site.wire();
        let request = "GET /1000000 HTTP/1.1\r\nHost: h\r\nRange: bytes=0-9,50-59\r\n\r\n";
        wire.send(request.repeat(10));
        for _ in 0..10 {
            assert_eq!(wire.response().status, 206);
        }
        expect_probe(&mut wire);
    }

    fn row_51_too_many_or_overlapping_ranges_get_the_whole_file(backend) {
        let site = site_with_files(backend);
        let many = |count: usize| (0..count).map(|n| format!("{0}-{0}", n * 2)).collect::<Vec<_>>().join(",");
        assert_eq!(range(&site, 10_000, &format!("bytes={}", many(16))).status, 206);
        for value in [format!("bytes={}", many(17)), format!("bytes={}", many(1000)), "bytes=0-10,5-15".into(), "bytes=0-,0-,0-".into(),
            "bytes=0-1,-9999".into()]
        {
            let response = range(&site, 10_000, &value);
            assert_eq!((response.status, response.length()), (200, Some(10_000)), "{value}");
        }
    }

    fn row_52_if_range_wants_the_same_version(backend) {
        let site = site_with_files(backend);
        // A date is strong only once its second has passed.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let plain = site.head("/10000", "");
        let (tag, date) = (plain.field("ETag").expect("a tag"), plain.field("Last-Modified").expect("a date"));
        for (value, status) in [(tag.to_owned(), 206), (date.to_owned(), 206), (format!("W/{tag}"), 200), ("\"x\"".into(), 200),
            ("Mon, 01 Jan 2001 00:00:00 GMT".into(), 200), ("Fri, 01 Jan 2100 00:00:00 GMT".into(), 200), ("nonsense".into(), 200)]
        {
            let response = site.get_with("/10000", &format!("Range: bytes=0-9\r\nIf-Range: {value}\r\n"));
            assert_eq!(response.status, status, "{value}");
        }
        assert_eq!(site.get_with("/10000", &format!("Range: bytes=0-9\r\nIf-None-Match: {tag}\r\n")).status, 304);
        assert_eq!(site.get_with("/10000", "Range: bytes=0-9\r\nIf-Match: \"x\"\r\n").status, 412);
        let response = site.get_with("/10000", "Range: bytes=10000-\r\nIf-Range: \"x\"\r\n");
        assert_eq!(response.status, 200, "a range of another version is not unsatisfiable");
    }

    fn row_53_ranges_of_an_empty_file(backend) {
        let site = site_with_files(backend);
        for value in ["bytes=0-", "bytes=0-0"] {
            let response = site.get_with("/empty", &format!("Range: {value}\r\n"));
            assert_eq!((response.status, response.field("Content-Range")), (416, Some("bytes */0")), "{value}");
        }
        let response = site.get_with("/empty", "Range: bytes=-5\r\n");
        assert_eq!((response.status, response.length()), (200, Some(0)));
    }
}
