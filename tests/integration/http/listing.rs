//! Listings of folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::http::site::{Fate, Site, expect_probe};
use crate::support::backends;
use crate::support::bridge::Over;

fn names(page: &str) -> Vec<String> {
    let listing: serde_json::Value = serde_json::from_str(page).unwrap_or_else(|error| panic!("{error}: {page}"));
    let entries = listing["entries"].as_array().expect("entries");
    entries.iter().map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
}

const JSON: &str = "Accept: application/json\r\n";

backends! {
    fn row_47_a_listing_names_what_can_be_had(backend) {
        let site = Site::of(backend, &[], |root| {
            let folder = root.join("folder");
            fs::create_dir_all(folder.join("sub")).expect("a folder");
            for (name, size, age_s) in [("b.txt", 3, 100), ("a.txt", 2000, 300), ("c.txt", 10, 200)] {
                fs::write(folder.join(name), vec![b'x'; size]).expect("a file");
                let time = SystemTime::now() - Duration::from_secs(age_s);
                fs::File::options().write(true).open(folder.join(name)).and_then(|file| file.set_modified(time)).expect("a time");
            }
            fs::write(folder.join(".hidden"), "x").expect("a file");
            symlink("/etc", folder.join("out")).expect("a link");
            symlink("nothing", folder.join("dangling")).expect("a link");
            symlink("a.txt", folder.join("link")).expect("a link");
        });
        let page = site.get("/folder/");
        assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.field("Vary"), Some("Accept"));
        assert_eq!(page.field("X-Content-Type-Options"), Some("nosniff"));
        let text = page.text();
        for link in ["/folder/a.txt", "/folder/b.txt", "/folder/sub/", "/folder/link"] {
            assert!(text.contains(&format!("href=\"{link}\"")), "{link} in {text}");
        }
        assert!(!text.contains(".hidden") && !text.contains("dangling") && !text.contains(">out"), "{text}");
        assert!(!text.contains("<script"), "{text}");
        let listed = names(&site.get_with("/folder/", JSON).text());
        assert_eq!(listed, ["sub", "a.txt", "b.txt", "c.txt", "link"]);
        assert_eq!(site.get("/folder/nothing/").status, 404);
        let head = site.head("/folder/", "");
        assert_eq!((head.status, head.length()), (200, Some(page.body.len() as u64)));
        // Every link of the page can be followed, those that sort among them.
        let links: Vec<&str> = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for link in links.into_iter().filter(|link| !link.starts_with("data:")) {
            let link = link.replace("&amp;", "&");
            let target = if link.starts_with('/') { link.clone() } else { format!("/folder/{link}") };
            assert_eq!(site.get(&target).status, 200, "{link}");
        }
    }

    fn row_47_a_listing_is_sorted_as_asked_for(backend) {
        let site = Site::of(backend, &[], |root| {
            fs::create_dir_all(root.join("folder/sub")).expect("a folder");
            for (name, size) in [("b", 3), ("a", 2000), ("c", 10)] {
                fs::write(root.join("folder").join(name), vec![b'x'; size]).expect("a file");
            }
        });
        for (query, expected) in [("?sort=size&order=desc", ["sub", "a", "c", "b"]), ("?sort=size", ["sub", "b", "c", "a"]), ("", ["sub", "a", "b", "c"])] {
            assert_eq!(names(&site.get_with(&format!("/folder/{query}"), JSON).text()), expected, "{query}");
        }
    }

    fn row_47_a_new_file_is_listed_soon(backend) {
        let site = Site::new(backend, &[]);
        assert_eq!(names(&site.get_with("/", JSON).text()), ["probe"]);
        site.write("another", "x");
        crate::support::eventually("the new name", || names(&site.get_with("/", JSON).text()).len() == 2);
    }

    fn rows_23_and_47_ten_thousand_entries_come_chunked_or_until_the_end(backend) {
        const COUNT: usize = 10_000;
        let site = Site::of(backend, &[], |root| {
            fs::create_dir(root.join("many")).expect("a folder");
            for number in 0..COUNT {
                fs::write(root.join(format!("many/file-{number:05}")), "").expect("a file");
            }
        });
        let mut wire = site.wire();
        wire.send(format!("GET /many/ HTTP/1.1\r\nHost: h\r\n{JSON}\r\n"));
        let chunked = wire.response();
        assert_eq!(chunked.field("Transfer-Encoding"), Some("chunked"));
        let listed = names(&chunked.text());
        assert!(listed.len() == COUNT && listed.is_sorted());
        expect_probe(&mut wire);
        let html = site.get("/many/").text();
        assert_eq!(html.matches("href=\"/many/file-").count(), COUNT);
        // No chunks for HTTP/1.0, and the connection's end is the body's, whatever the client asked for.
        let connections: &[&str] = if Over::asked().is_http2() { &[] } else { &["", "Connection: keep-alive\r\n"] };
        for connection in connections {
            for method in ["GET", "HEAD"] {
                let request = format!("{method} /many/ HTTP/1.0\r\n{JSON}{connection}\r\n");
                let (response, fate) = site.fate(request.as_bytes());
                assert_eq!((response.status, fate, response.field("Transfer-Encoding")), (200, Fate::Closed, None), "{request}");
                assert_eq!(response.length(), None);
                if method == "GET" {
                    assert_eq!(names(&response.text()).len(), COUNT);
                }
            }
        }
        // Several at once, and answers behind them stay in order.
        let mut wire = site.wire();
        wire.send(format!("GET /many/ HTTP/1.1\r\nHost: h\r\n{JSON}\r\n").repeat(3));
        wire.send(crate::http::site::PROBE_REQUEST);
        for _ in 0..3 {
            assert_eq!(names(&wire.response().text()).len(), COUNT);
        }
        assert_eq!(wire.response().text(), "the probe's content");
    }
}
