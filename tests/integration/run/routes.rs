//! What the routes of a configuration file do: which one holds, how it answers in its own name, what it sends.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::origin::Visit;
use crate::place::{Place, Service, routes};
use crate::run::reload::{proxied, upstream};
use crate::support::upstream::ClosedPort;
use crate::support::{Backend, Upstream, backends, eventually};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";

/// A GET request with these lines in its head; `Host: h` unless they have one.
#[track_caller]
fn get_with(service: &Service, target: &str, lines: &str) -> Response {
    let host = if lines.contains("Host:") { "" } else { "Host: h\r\n" };
    let mut wire = Wire::to(service.address());
    wire.send(format!("GET {target} HTTP/1.1\r\n{host}{lines}\r\n"));
    wire.response()
}

#[track_caller]
fn get(service: &Service, target: &str) -> Response {
    get_with(service, target, "")
}

/// A folder `site` with these files, and routes. `{site}` in a route is a `file_serve` of it.
fn serve(backend: Backend, files: &[(&str, &[u8])], routes_json: Value) -> (Place, Service) {
    let place = Place::new(backend);
    place.page("site", "a page");
    for (name, content) in files {
        std::fs::write(place.path("site").join(name), content).expect("a temporary file");
    }
    place.configure([routes(HERE, routes_json)]);
    let service = place.start();
    (place, service)
}

/// A `file_serve` of the folder with these options.
fn site(path: &str, options: Value) -> Value {
    let mut route = json!({ "req_path": path, "type": "file_serve", "dir_path": "site" });
    if let (Some(route), Value::Object(options)) = (route.as_object_mut(), options) {
        route.extend(options);
    }
    route
}

/// A text that is worth compressing.
fn text(bytes: usize) -> Vec<u8> {
    "A line of text, as there are many.\n".bytes().cycle().take(bytes).collect()
}

backends! {
    fn the_longest_prefix_holds(backend) {
        let (short, long) = (upstream("short"), upstream("long"));
        let both = json!([proxied("/a", &short), proxied("/a/b", &long), site("/files", json!({}))]);
        let (_place, service) = serve(backend, &[], both);
        assert_eq!(get(&service, "/a").text(), "short");
        assert_eq!(get(&service, "/a/bc").text(), "short");
        assert_eq!(get(&service, "/a/b").text(), "long");
        assert_eq!(get(&service, "/a/b/c").text(), "long");
        // For a server that does not resolve dots it would be beneath /a.
        assert_eq!(get(&service, "/a/x/../b/c").status, 400);
        assert_eq!(get(&service, "/a/b/x/../c").text(), "long");
        assert_eq!(get(&service, "/files/page").text(), "a page");
        assert_eq!(get(&service, "/b").status, 404);
    }

    fn a_path_is_passed_on_as_it_came_only_if_every_server_reads_it_as_the_same_routes(backend) {
        let echo = Upstream::new(|stream, _| {
            let mut visit = Visit::new(stream);
            while let Some(request) = visit.try_request() {
                let target = request.line().split(' ').nth(1).unwrap_or_default().to_owned();
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
            }
        });
        let closed = |mut route: Value| {
            route["ip_blacklist"] = json!(["127.0.0.0/8"]);
            route
        };
        let stripped = |mut route: Value| {
            route["replace_prefix"] = json!("/inner");
            route
        };
        let (_place, service) = serve(backend, &[], json!([
            proxied("/", &echo), closed(proxied("/admin", &echo)), proxied("/public", &echo),
            stripped(proxied("/app", &echo)), site("/files", json!({})),
        ]));
        // What is passed on, and to whom it leads, are the same.
        for target in [
            "/group%2Fproject/-/tree", "/public/group%2fproject", "/public/a//b/../c", "/public/a;v=1/b", r"/public/a\b",
            "/public/%252F", "/100%25", "/publicity/%2F", "/%C3%BC%20x/%2F", "/public/a%5Cb?x=/../admin",
        ] {
            let response = get(&service, target);
            assert_eq!((response.status, response.text().as_str()), (200, target));
        }
        for target in [
            "/admin/..%2fpublic", "/admin;x/../y", "/admin;x/y", "/;/admin", "/public/..;/admin", "/public/%2e%2e%2fx",
            "/public/..%5cadmin/x", r"/public\..\admin", "/public/%252e%252e/admin", "//public/x", "/%70ublic/x",
            "/public/..", "/..;/x", "/app/..;/x", "/app/..%5cx", "/app/%252e%252e/x",
        ] {
            assert_eq!(get(&service, target).status, 400, "{target}");
        }
        for target in ["/admin/x", "//admin/x", "/public/../admin", "/%61dmin/x"] {
            assert_eq!(get(&service, target).status, 403, "{target}");
        }
        // What is escaped anew may be spelled in any way.
        for (target, inner) in [("/app/a%2Fb", "/inner/a%2Fb"), ("/%61pp/x", "/inner/x"), ("//app/x%20y", "/inner/x%20y")] {
            assert_eq!(get(&service, target).text(), inner, "{target}");
        }
        // Files are sent by the path that was judged.
        assert_eq!(get(&service, "/public/..%2ffiles/page").text(), "a page");
    }

    fn fields_with_underscores_are_dropped_where_they_are_in_disguise_or_that_is_configured(backend) {
        let echo = Upstream::new(|stream, _| {
            let mut visit = Visit::new(stream);
            while let Some(request) = visit.try_request() {
                let names: Vec<_> = request.lines[1..].iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
                let names = names.join(" ");
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{names}", names.len()));
            }
        });
        let mut some = proxied("/some", &echo);
        some["forwarded"] = json!("off");
        some["via"] = json!("off");
        some["request_headers"] = json!({ "set": { "X-Tenant": "ours" }, "remove": ["X-Inner"] });
        let mut none = some.clone();
        none["req_path"] = json!("/none");
        none["underscore_fields"] = json!("drop");
        let (_place, service) = serve(backend, &[], json!([some, none]));
        let fields = "X_Tenant: theirs\r\nx_inner: 1\r\nX_Other: 2\r\nX_Real_IP: 3\r\nContent_Length: 4\r\nX-Other: 5\r\n";
        assert_eq!(get_with(&service, "/some", fields).text(), "Host X_Other X_Real_IP X-Other X-Tenant");
        assert_eq!(get_with(&service, "/none", fields).text(), "Host X-Other X-Tenant");
    }

    fn a_redirect_knows_host_path_and_query(backend) {
        let to = "https://$host/new$path?$query";
        let moved = json!({ "req_path": "/old", "type": "redirect", "http_status_code": 308, "redirect_url": to });
        let (_place, service) = serve(backend, &[], json!([moved]));
        let response = get_with(&service, "/old/x?a=b", "Host: example.org\r\n");
        assert_eq!((response.status, response.field("Location")), (308, Some("https://example.org/new/old/x?a=b")));
        assert!(response.body.is_empty());
    }

    fn rows_26_37_38_and_39_each_kind_of_route_takes_its_methods(backend) {
        let origin = upstream("from upstream");
        let redirect = |path: &str, status: u16| {
            json!({ "req_path": path, "type": "redirect", "http_status_code": status, "redirect_url": "/new" })
        };
        let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
        let all = json!([redirect("/moved", 308), redirect("/old", 301), metrics, proxied("/proxied", &origin)]);
        let (_place, service) = serve(backend, &[], all);
        const READING: &str = "GET, HEAD, OPTIONS";
        const ALL: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        for (target, methods, status, allow) in [
            ("/moved", &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"][..], 308, None),
            ("/moved", &["OPTIONS"], 204, Some(ALL)),
            ("/moved", &["TRACE"], 405, Some(ALL)),
            ("/moved", &["BREW", "get"], 400, None),
            ("/old", &["GET", "HEAD", "POST", "DELETE"], 301, None),
            ("/metrics", &["GET", "HEAD"], 200, None),
            ("/metrics", &["OPTIONS"], 204, Some(READING)),
            ("/metrics", &["POST", "PUT", "DELETE", "PROPFIND", "TRACE"], 405, Some(READING)),
            ("/metrics", &["BREW"], 400, None),
            ("/proxied", &["TRACE"], 405, Some(ALL)),
        ] {
            for method in methods {
                let mut wire = Wire::to(service.address());
                wire.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"));
                let response = wire.read(*method == "HEAD").expect("an answer");
                assert_eq!((response.status, response.field("Allow")), (status, allow), "{method} {target}");
                assert_eq!(response.field("Location").is_some(), matches!(status, 301 | 308), "{method} {target}");
                if status == 400 {
                    wire.expect_end();
                } else {
                    wire.send("GET /moved HTTP/1.1\r\nHost: h\r\n\r\n");
                    assert_eq!(wire.response().status, 308, "the connection goes on after {method} {target}");
                }
            }
        }
        for target in ["/moved", "/metrics", "/proxied"] {
            assert_eq!(get_with(&service, target, "Expect: a-miracle\r\n").status, 417, "{target}");
        }
    }

    fn rows_77_and_82_a_path_in_a_redirect_names_no_host_and_ends_no_line(backend) {
        let redirect = json!({ "req_path": "/", "type": "redirect", "redirect_url": "/$path?$query" });
        let (_place, service) = serve(backend, &[], json!([redirect]));
        for (target, location) in [
            ("//evil.example/x", "/evil.example/x"),
            ("///evil.example", "/evil.example"),
            // Browsers take it for a slash.
            ("/\\evil.example", "/evil.example"),
            ("/%0d%0aSet-Cookie:%20x=y", "/%0d%0aSet-Cookie:%20x=y"),
            ("/a?b=%0d%0aSet-Cookie:%20x=y", "/a?b=%0d%0aSet-Cookie:%20x=y"),
        ] {
            let response = get(&service, target);
            assert_eq!(response.field("Location"), Some(location), "{target}");
            assert_eq!(response.field("Set-Cookie"), None, "{target}");
        }
    }

    fn a_redirect_to_the_host_wants_one(backend) {
        let to_host = json!({ "req_path": "/host", "type": "redirect", "redirect_url": "https://$host/" });
        let to_path = json!({ "req_path": "/path", "type": "redirect", "redirect_url": "/new" });
        let (_place, service) = serve(backend, &[], json!([to_host, to_path]));
        for (target, host, status, location) in [
            ("/host", "", 400, None),
            ("/host", "Host: h\r\n", 302, Some("https://h/")),
            ("/path", "", 302, Some("/new")),
        ] {
            let mut wire = Wire::to(service.address());
            wire.send(format!("GET {target} HTTP/1.0\r\n{host}\r\n"));
            let response = wire.response();
            assert_eq!((response.status, response.field("Location")), (status, location), "{target}");
        }
    }

    fn a_route_s_own_prefix_may_begin_with_a_dot(backend) {
        let both = json!([site("/.assets", json!({})), site("/a/.b", json!({})), site("/", json!({}))]);
        let (place, service) = serve(backend, &[(".hidden", b"secret")], both);
        std::fs::create_dir(place.path("site/.assets")).expect("a folder");
        std::fs::write(place.path("site/.assets/page"), "another").expect("a file");
        for (target, status) in [
            ("/.assets/page", 200),
            ("/.assets/", 200),
            ("/.assets", 301),
            ("/a/.b/page", 200),
            ("/.assets/.hidden", 404),
            ("/.assets/.assets/page", 404),
            ("/a/.b/.hidden", 404),
            ("/.hidden", 404),
            ("/a/.c", 404),
        ] {
            assert_eq!(get(&service, target).status, status, "{target}");
        }
        assert_eq!(get(&service, "/.assets/page").text(), "a page");
    }

    fn a_host_has_its_own_routes_and_its_own_log(backend) {
        let place = Place::new(backend);
        place.page("site", "the first");
        place.page("other", "the other");
        let server = |folder: &str, hosts: &[&str], log: &str| {
            let route = json!({ "req_path": "/", "type": "file_serve", "dir_path": folder });
            json!({
                "listeners": [{ "host": HERE, "port": 0 }],
                "hostnames": hosts,
                "access_log": log,
                "routes": [route],
            })
        };
        place.configure([
            server("site", &["one.example"], "one.log"),
            server("other", &["two.example", "*.two.example"], "two.log"),
        ]);
        let service = place.start();
        for (host, text) in [
            ("one.example", "the first"),
            ("two.example", "the other"),
            ("a.Two.Example:80", "the other"),
            ("one.example.:8080", "the first"),
        ] {
            assert_eq!(get_with(&service, "/page", &format!("Host: {host}\r\n")).text(), text, "{host}");
        }
        assert_eq!(get_with(&service, "/page", "Host: unknown.example\r\n").status, 404);
        let lines = |log: &str| std::fs::read_to_string(place.path(log)).unwrap_or_default().lines().count();
        eventually("each request in its host's log", || (lines("one.log"), lines("two.log")) == (3, 2));
    }

    fn the_most_exact_host_name_decides_and_then_the_server_without_names(backend) {
        let place = Place::new(backend);
        let server = |folder: &str, hosts: &[&str]| {
            place.page(folder, folder);
            let mut server = routes(HERE, json!([{ "req_path": "/", "type": "file_serve", "dir_path": folder }]));
            server["hostnames"] = json!(hosts);
            server
        };
        let named = [
            server("wide", &["*.example"]),
            server("narrow", &["*.b.example"]),
            server("exact", &["a.b.example"]),
            server("port", &["a.b.example:81"]),
        ];
        let ask = |service: &Service, host: &str| {
            let response = get_with(service, "/page", &format!("Host: {host}\r\n"));
            if response.status == 200 { response.text() } else { response.status.to_string() }
        };
        let common = [
            ("x.example", "wide"),
            ("x.b.example", "narrow"),
            ("A.B.example", "exact"),
            ("a.b.example:8080", "exact"),
            ("a.b.example:81", "port"),
        ];
        place.configure(named.clone());
        let service = place.start();
        for (host, folder) in common.into_iter().chain([("example", "404"), ("h", "404")]) {
            assert_eq!(ask(&service, host), folder, "{host}");
        }
        place.configure(named.into_iter().chain([server("others", &[])]));
        service.reload();
        for (host, folder) in common.into_iter().chain([("example", "others"), ("h", "others")]) {
            eventually(&format!("{host} is answered by {folder}"), || ask(&service, host) == folder);
        }
        place.configure([server("only", &["only.example"])]);
        service.reload();
        eventually("the only server answers for its name", || ask(&service, "only.example") == "only");
        eventually("and for no other", || ask(&service, "h") == "404");
    }

    fn routes_are_found_however_their_path_is_spelled(backend) {
        let all = json!([
            site("/a%20b", json!({})),
            site("/gr\u{fc}n", json!({})),
            site("/c//d/", json!({})),
            { "req_path": "/", "type": "redirect", "redirect_url": "/nowhere" },
        ]);
        let (_place, service) = serve(backend, &[], all);
        for target in ["/a%20b/page", "/%61%20b/page", "/gr%C3%BCn/page", "/c/d/page", "/c//d/page", "/x/../c/d/page"] {
            assert_eq!(get(&service, target).text(), "a page", "{target}");
        }
        assert_eq!(get(&service, "/c/page").status, 302);
    }

    fn an_error_is_answered_with_the_page_for_it(backend) {
        let closed = ClosedPort::new();
        let pages = json!({ "404": "errors/missing.html", "502": "errors/away.json" });
        let mut away = json!({
            "req_path": "/away", "type": "reverse_proxy", "upstreams": [closed.address().to_string()],
        });
        away["error_pages"] = pages.clone();
        let place = Place::new(backend);
        place.page("site", "a page");
        place.page("errors", "");
        std::fs::write(place.path("errors/missing.html"), "<h1>not here</h1>").expect("a temporary file");
        std::fs::write(place.path("errors/away.json"), "{}").expect("a temporary file");
        place.configure([routes(HERE, json!([site("/", json!({ "error_pages": pages })), away]))]);
        let service = place.start();
        let missing = get(&service, "/nothing");
        assert_eq!((missing.status, missing.text().as_str()), (404, "<h1>not here</h1>"));
        assert_eq!(missing.field("Content-Type"), Some("text/html"));
        let away = get(&service, "/away");
        assert_eq!((away.status, away.text().as_str()), (502, "{}"));
        assert_eq!(away.field("Content-Type"), Some("application/json"));
        let mut wire = Wire::to(service.address());
        wire.send("HEAD /nothing HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.response_to_head().length(), Some(17));
        wire.send("POST /page HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert!(wire.response().text().contains("405"), "others are answered as ever");
    }

    fn fields_are_removed_set_and_added(backend) {
        let rules = json!({
            "headers": {
                "remove": ["Last-Modified"],
                "set": { "Accept-Ranges": "none", "X-Frame-Options": "DENY" },
                "add": { "Link": ["</a>", "</b>"] },
            },
        });
        let (_place, service) = serve(backend, &[], json!([site("/", rules)]));
        let response = get(&service, "/page");
        assert_eq!(response.field("Last-Modified"), None);
        assert_eq!(response.field("Accept-Ranges"), Some("none"));
        assert_eq!(response.field("X-Frame-Options"), Some("DENY"));
        let links: Vec<_> = response.fields.iter().filter(|(name, _)| name == "Link").collect();
        assert_eq!(links.len(), 2, "{response:?}");
        let missing = get(&service, "/nothing");
        assert_eq!((missing.field("X-Frame-Options"), missing.status), (None, 404));
    }

    fn row_55_a_vary_that_is_set_keeps_what_the_answer_depends_on(backend) {
        let content = text(20_000);
        let set = |value: Value| json!({ "headers": { "set": { "vary": value } } });
        let all = json!([
            site("/one", set(json!("Origin"))),
            site("/several", set(json!(["Origin", "Cookie"]))),
            site("/any", set(json!("*"))),
            site("/named", set(json!("ACCEPT-ENCODING, Origin"))),
            site("/plain", json!({ "headers": { "set": { "Vary": "Origin" } }, "compression": false, "precompressed": false })),
        ]);
        let (_place, service) = serve(backend, &[("text.txt", &content)], all);
        for (route, expected) in [
            ("/one", &["Origin, Accept-Encoding"][..]),
            ("/several", &["Origin, Accept-Encoding", "Cookie"]),
            ("/any", &["*"]),
            ("/named", &["ACCEPT-ENCODING, Origin"]),
            ("/plain", &["Origin"]),
        ] {
            let lines = |response: &Response| -> Vec<String> {
                let lines = response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary"));
                lines.map(|(_, value)| value.clone()).collect()
            };
            let target = format!("{route}/text.txt");
            let coded = get_with(&service, &target, "Accept-Encoding: gzip\r\n");
            assert_eq!(coded.field("Content-Encoding").is_some(), route != "/plain");
            assert_eq!(lines(&coded), expected, "{route}, coded");
            let whole = get(&service, &target);
            assert_eq!(lines(&whole), expected, "{route}");
            let tag = format!("If-None-Match: {}\r\n", whole.field("ETag").expect("a tag"));
            let not_modified = get_with(&service, &target, &tag);
            assert_eq!((not_modified.status, lines(&not_modified)), (304, expected.iter().map(|&line| line.into()).collect()));
        }
    }

    fn what_says_what_a_body_is_cannot_be_set_to_something_else(backend) {
        let rules = json!({ "headers": {
            "remove": ["Location", "Allow"],
            "set": { "Content-Type": "text/x", "Content-Encoding": "x", "Content-Range": "x" },
        } });
        let content = text(20_000);
        let (place, service) = serve(backend, &[("text.txt", &content)], json!([site("/", rules)]));
        std::fs::create_dir(place.path("site/folder")).expect("a folder");
        let coded = get_with(&service, "/text.txt", "Accept-Encoding: gzip\r\n");
        assert_eq!((coded.field("Content-Encoding"), coded.field("Content-Type")), (Some("gzip"), Some("text/x")));
        let part = get_with(&service, "/text.txt", "Range: bytes=0-1\r\n");
        assert_eq!((part.field("Content-Range"), part.field("Content-Type")), (Some("bytes 0-1/20000"), Some("text/x")));
        let parts = get_with(&service, "/text.txt", "Range: bytes=0-1,5-6\r\n");
        assert!(parts.field("Content-Type").is_some_and(|value| value.starts_with("multipart/byteranges; boundary=")));
        let none = get_with(&service, "/text.txt", "Range: bytes=99999-\r\n");
        assert_eq!((none.status, none.field("Content-Range")), (416, Some("bytes */20000")));
        assert_eq!(get(&service, "/folder").field("Location"), Some("/folder/"));
        let mut wire = Wire::to(service.address());
        wire.send("POST /text.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        let refused = wire.response();
        assert!(refused.status == 405 && refused.field("Allow").is_some(), "{refused:?}");
    }

    fn links_are_followed_or_refused(backend) {
        let both = json!([site("/follow", json!({})), site("/refuse", json!({ "symlinks": "refuse" }))]);
        let (place, service) = serve(backend, &[], both);
        symlink("page", place.path("site/link")).expect("a link");
        assert_eq!(get(&service, "/follow/link").text(), "a page");
        assert_eq!(get(&service, "/refuse/page").text(), "a page");
        assert_eq!(get(&service, "/refuse/link").status, 403);
        let listing = |target| get_with(&service, target, "Accept: application/json\r\n").text();
        assert!(listing("/follow/").contains("link"));
        assert!(!listing("/refuse/").contains("link"));
    }

    fn what_is_compressed_and_how_hard_can_be_said(backend) {
        let all = json!([
            site("/usual", json!({})),
            site("/never", json!({ "compression": false })),
            site("/large", json!({ "compression_min_size": "64k" })),
            site("/more", json!({ "gzip_mime_types": ["application/octet-stream"] })),
            site("/hard", json!({ "gzip_level": 9 })),
            site("/fast", json!({ "compression_level": 1 })),
        ]);
        let content = text(20_000);
        let files: [(&str, &[u8]); 2] = [("text.txt", &content), ("text.bin", &content)];
        let (_place, service) = serve(backend, &files, all);
        let coding = |target| {
            let response = get_with(&service, target, "Accept-Encoding: gzip\r\n");
            (response.field("Content-Encoding").map(str::to_owned), response.body.len())
        };
        let is_coded = |target| coding(target).0.as_deref() == Some("gzip");
        assert!(is_coded("/usual/text.txt") && !is_coded("/usual/text.bin"));
        assert!(!is_coded("/never/text.txt"));
        assert!(!is_coded("/large/text.txt"));
        assert!(is_coded("/more/text.txt") && is_coded("/more/text.bin"));
        assert!(coding("/hard/text.txt").1 < coding("/fast/text.txt").1);
    }

    fn a_route_may_close_after_each_answer(backend) {
        let origin = upstream("from upstream");
        let mut proxied = proxied("/proxied", &origin);
        proxied["keep_alive"] = json!(false);
        let all = json!([site("/", json!({})), site("/once", json!({ "keep_alive": false })), proxied]);
        let (_place, service) = serve(backend, &[], all);
        for (target, body, is_last) in
            [("/page", "a page", false), ("/once/page", "a page", true), ("/proxied", "from upstream", true)]
        {
            let mut wire = Wire::to(service.address());
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            let response = wire.response();
            assert_eq!((response.text().as_str(), response.is_last()), (body, is_last), "{target}");
            if is_last {
                wire.expect_end();
            }
        }
    }

    fn counters_are_shown(backend) {
        let metrics = json!({ "req_path": "/metrics", "type": "metrics", "headers": { "set": { "X-Own": "1" } } });
        let (_place, service) = serve(backend, &[], json!([site("/", json!({})), metrics]));
        assert_eq!(get(&service, "/page").status, 200);
        let response = get(&service, "/metrics");
        assert_eq!(response.field("X-Own"), Some("1"));
        assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"), "row 56");
        assert!(response.text().contains("xps_http_responses_total{class=\"2xx\"} 1\n"), "{}", response.text());
    }

    fn an_error_page_that_cannot_be_read_is_noticed_before_anything_starts(backend) {
        let place = Place::new(backend);
        place.page("site", "a page");
        place.configure([routes(HERE, json!([site("/", json!({ "error_pages": { "404": "nowhere.html" } }))]))]);
        let refused = place.launch().try_start().expect_err("there is no such page");
        assert!(format!("{refused:?}").contains("nowhere.html"), "{refused:?}");
    }
}
