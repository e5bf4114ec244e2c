//! Conditional requests: which version a client has, and what it gets then.

use crate::http::site::Site;
use crate::support::backends;

const PAST: &str = "Mon, 01 Jan 2001 00:00:00 GMT";
const FUTURE: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

backends! {
    fn rows_48_to_50_conditions_are_weighed_in_their_order(backend) {
        let site = Site::new(backend, &[]);
        site.write("file", "content");
        let plain = site.get("/file");
        let tag = plain.field("ETag").expect("a tag").to_owned();
        let date = plain.field("Last-Modified").expect("a date").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "a strong tag: {tag}");
        let lines = [
            (format!("If-None-Match: {tag}"), 304),
            (format!("If-None-Match: W/{tag}"), 304),
            (format!("If-None-Match: \"x\", {tag}"), 304),
            (format!("If-None-Match: \"x\"\r\nIf-None-Match: {tag}"), 304),
            ("If-None-Match: *".into(), 304),
            ("If-None-Match: \"x\"".into(), 200),
            (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"), 200),
            (format!("If-None-Match: {tag}\r\nIf-Modified-Since: {PAST}"), 304),
            (format!("If-Modified-Since: {date}"), 304),
            (format!("If-Modified-Since: {FUTURE}"), 304),
            (format!("If-Modified-Since: {PAST}"), 200),
            ("If-Modified-Since: yesterday".into(), 200),
            ("If-Modified-Since: 0".into(), 200),
            ("If-Modified-Since: Mon, 99 Foo 2001 00:00:00 GMT".into(), 200),
            (format!("If-Match: {tag}"), 200),
            ("If-Match: *".into(), 200),
            ("If-Match: \"x\"".into(), 412),
            (format!("If-Match: W/{tag}"), 412),
            (format!("If-Match: \"x\", {tag}"), 200),
            (format!("If-Match: \"x\"\r\nIf-None-Match: {tag}"), 412),
            (format!("If-Match: {tag}\r\nIf-None-Match: {tag}"), 304),
            (format!("If-Match: {tag}\r\nIf-Unmodified-Since: {PAST}"), 200),
            (format!("If-Unmodified-Since: {date}"), 200),
            (format!("If-Unmodified-Since: {PAST}"), 412),
            ("If-Unmodified-Since: tomorrow".into(), 200),
            (format!("If-Unmodified-Since: {PAST}\r\nIf-None-Match: {tag}"), 412),
        ];
        for (lines, status) in lines {
            for method in ["GET", "HEAD"] {
                let response = site.ask(method, "/file", &format!("{lines}\r\n"));
                assert_eq!(response.status, status, "{method} {lines}");
                match status {
                    304 => {
                        assert_eq!((response.field("ETag"), response.field("Last-Modified")), (Some(&*tag), Some(&*date)));
                        assert_eq!((response.length(), response.body.len()), (None, 0));
                    }
                    200 if method == "GET" => assert_eq!(response.text(), "content"),
                    _ => {}
                }
            }
        }
        // Conditions are about files that exist.
        assert_eq!(site.get_with("/none", "If-Match: *\r\n").status, 404);
        assert_eq!(site.get_with("/none", "If-None-Match: *\r\n").status, 404);
    }

    fn row_48_the_tag_tells_versions_apart_that_size_and_second_do_not(backend) {
        let site = Site::new(backend, &[]);
        let mut tags = std::collections::HashSet::new();
        for number in 0..4 {
            // A path of its own each time, and the same inode: nothing is answered from memory.
            site.write("file", format!("version {number}"));
            let name = format!("link{number}");
            std::fs::hard_link(site.path("file"), site.path(&name)).expect("a link");
            tags.insert(site.get(&format!("/{name}")).field("ETag").expect("a tag").to_owned());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(tags.len(), 4, "{tags:?}");
    }
}
