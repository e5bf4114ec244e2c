//! The profile `expserver`: what a file of eXpServer's means in that one's own way, and how it is asked for.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::place::{Place, Service, routes};
use crate::support::client::was_cut;
use crate::support::upstream::ClosedPort;
use crate::support::{Backend, Launch, Upstream, backends, connect, read_rest, uninterrupted};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";

/// The answer to a request on a connection of its own.
#[track_caller]
fn ask(address: SocketAddr, method: &str, target: &str, lines: &str) -> Response {
    let mut wire = Wire::to(address);
    wire.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{lines}Connection: close\r\n\r\n"));
    wire.read(method == "HEAD").unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

#[track_caller]
fn get(address: SocketAddr, target: &str) -> Response {
    ask(address, "GET", target, "")
}

/// Folders: one with an index, and one without.
fn site(backend: Backend) -> Place {
    let place = Place::new(backend);
    for (name, content) in [
        ("site/a.txt", "Grüße"),
        ("site/photo.jpeg", "x"),
        ("site/paper.pdf", "x"),
        ("site/xps.h", "int x;\n"),
        ("site/test/deep/b.txt", "b"),
        ("site/test/c.txt", "c"),
        ("with_index/index.html", "<p>index</p>"),
        ("with_index/bare/d.txt", "d"),
    ] {
        let path = place.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
        std::fs::write(path, content).expect("a temporary file");
    }
    place
}

/// Starts these servers with the profile.
fn start(place: &Place, servers: impl IntoIterator<Item = Value>) -> Service {
    place.configure_with(servers, |document| document["profile"] = json!("expserver"));
    place.start()
}

/// An origin that answers each request, on a connection of its own, with this.
fn origin(answer: impl Into<String>) -> Upstream {
    let answer = answer.into();
    Upstream::new(move |mut stream, _| {
        if read_head(&mut stream) {
            stream.write_all(answer.as_bytes()).ok();
        }
    })
}

/// An origin that tells its name.
fn named_origin(name: &str) -> Upstream {
    origin(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len()))
}

fn read_head(stream: &mut TcpStream) -> bool {
    use std::io::Read;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if !matches!(uninterrupted(|| stream.read(&mut byte)), Ok(1)) {
            return false;
        }
        head.push(byte[0]);
    }
    true
}

fn file_route(path: &str, folder: &str) -> Value {
    json!({ "req_path": path, "type": "file_serve", "dir_path": folder, "index": ["index.html"] })
}

fn proxy_route(path: &str, upstream: SocketAddr) -> Value {
    json!({ "req_path": path, "type": "reverse_proxy", "upstreams": [upstream.to_string()] })
}

/// Fields that are about one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 4] = ["Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade"];

/// The fields of an answer that a proxy has to pass on as they are.
fn end_to_end(response: &Response, without: &[&str]) -> Vec<(String, String)> {
    let is_left_out = |name: &str| HOP_BY_HOP.iter().chain(without).any(|other| other.eq_ignore_ascii_case(name));
    let mut fields: Vec<_> = response.fields.iter().filter(|(name, _)| !is_left_out(name)).cloned().collect();
    fields.sort();
    fields
}

backends! {
    fn scripts_of_every_site_may_read_every_answer(backend) {
        let place = site(backend);
        let plain = origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let particular =
            origin("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://a.example\r\nContent-Length: 2\r\n\r\nok");
        let gone = ClosedPort::new();
        let mut denied = file_route("/denied", "site");
        denied["ip_blacklist"] = json!([HERE]);
        let moved = json!({ "req_path": "/moved", "type": "redirect", "http_status_code": 302, "redirect_url": "/files/" });
        let service = start(&place, [routes(HERE, json!([
            file_route("/files", "site"), moved, denied, { "req_path": "/metrics", "type": "metrics" },
            proxy_route("/plain", plain.address()), proxy_route("/particular", particular.address()), proxy_route("/gone", gone.address()),
        ]))]);
        let range = "Range: bytes=0-1\r\n";
        for (method, target, lines, status) in [
            ("GET", "/files/a.txt", "", 200), ("HEAD", "/files/a.txt", "", 200), ("GET", "/files/a.txt", range, 206), ("GET", "/files/", "", 200),
            ("GET", "/files/test", "", 301), ("GET", "/files/missing", "", 404), ("POST", "/files/a.txt", "", 405), ("OPTIONS", "/files/a.txt", "", 204),
            ("BREW", "/files/a.txt", "", 400), ("GET", "/files/a.txt", "Range: bytes=99-\r\n", 416), ("GET", "/moved", "", 302),
            ("GET", "/denied/a.txt", "", 403), ("GET", "/metrics", "", 200), ("GET", "/nowhere", "", 404), ("GET", "/%zz", "", 400),
            ("GET", "/plain", "", 200), ("HEAD", "/plain", "", 200), ("GET", "/gone", "", 502),
        ] {
            let response = ask(service.address(), method, target, lines);
            let found = (response.status, response.field("Access-Control-Allow-Origin"));
            assert_eq!(found, (status, Some("*")), "{method} {target}");
        }
        let response = get(service.address(), "/particular");
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some("https://a.example"), "the upstream's own word");
        // What is no request at all.
        let mut wire = Wire::to(service.address());
        wire.send("no request\r\n\r\n");
        let refused = wire.response();
        assert_eq!((refused.status, refused.field("Access-Control-Allow-Origin")), (400, Some("*")));
    }

    fn stage_17_a_folder_is_listed_as_the_original_lists_it(backend) {
        let place = site(backend);
        let service = start(&place, [routes(HERE, json!([file_route("/", "site"), file_route("/other", "with_index")]))]);
        for target in ["/", "//"] {
            let page = get(service.address(), target);
            assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html")), "{target}");
            let text = page.text();
            let (_, table) = text.split_once("<table").expect("a table");
            let links: Vec<&str> = table.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            assert_eq!(links, ["/test", "/a.txt", "/paper.pdf", "/photo.jpeg", "/xps.h"], "{target}");
        }
        let deeper = get(service.address(), "/test/");
        assert!(deeper.text().contains("href=\"/test/deep\""), "{}", deeper.text());
        let without_slash = get(service.address(), "/test");
        assert_eq!((without_slash.status, without_slash.field("Location")), (301, Some("/test/")));
        assert_eq!(get(service.address(), "/other/").text(), "<p>index</p>");
    }

    fn stage_15_the_fields_of_an_answer_are_the_originals(backend) {
        let place = site(backend);
        let mut unlisted = file_route("/unlisted", "with_index");
        unlisted["listing"] = json!(false);
        let service = start(&place, [routes(HERE, json!([file_route("/", "site"), unlisted]))]);
        for (target, media_type) in [
            ("/a.txt", "text/plain"), ("/photo.jpeg", "image/jpeg"), ("/paper.pdf", "application/pdf"), ("/xps.h", "text/x-c"),
            ("/unlisted/", "text/html"),
        ] {
            let response = get(service.address(), target);
            assert_eq!((response.status, response.field("Content-Type")), (200, Some(media_type)), "{target}");
            assert_eq!(response.field("Server"), Some("eXpServer"), "{target}");
            assert!(response.field("Date").is_some() && response.length() == Some(response.body.len() as u64), "{target}");
        }
        assert_eq!(get(service.address(), "/unlisted/bare/").status, 404, "neither an index nor a listing");
    }

    fn the_files_own_keys_win(backend) {
        let place = site(backend);
        let mut route = file_route("/", "with_index");
        let own = json!({ "charset": "iso-8859-1", "cors": "off", "listing": false, "unlisted": "forbidden" });
        if let (Some(route), Value::Object(own)) = (route.as_object_mut(), own) {
            route.extend(own);
        }
        place.configure_with([routes(HERE, json!([route]))], |document| {
            document["profile"] = json!("expserver");
            document["server_name"] = json!("mine");
        });
        let service = place.start();
        let page = get(service.address(), "/");
        assert_eq!(page.field("Content-Type"), Some("text/html; charset=iso-8859-1"));
        assert_eq!((page.field("Server"), page.field("Access-Control-Allow-Origin")), (Some("mine"), None));
        assert_eq!(get(service.address(), "/bare/").status, 403);
    }

    fn stage_12_a_file_outside_its_root_closes_the_connection_and_the_rest_serves(backend) {
        let place = site(backend);
        std::fs::write(place.path("secret"), "not for the public").expect("a temporary file");
        let send = |host: &str, root: &str, file: &str| {
            json!({ "listeners": [{ "host": host, "port": 0 }], "protocol": "tcp", "handler": "send_file", "root": root, "file": file })
        };
        let servers = [
            send("127.0.0.1", "site", "site/a.txt"), send("127.0.0.2", "site", "site/../secret"), send("127.0.0.3", "site", "secret"),
            send("127.0.0.4", "site", "site/later"), send("127.0.0.5", "no-such-folder", "no-such-folder/x"), send("127.0.0.6", "site", "site/test"),
        ];
        let service = start(&place, servers.clone());
        assert_eq!(read_rest(&connect(service.address_on("127.0.0.1"))), "Grüße".as_bytes());
        for host in ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"] {
            for _ in 0..3 {
                assert!(was_cut(&connect(service.address_on(host))), "{host}");
            }
        }
        std::fs::write(place.path("site/later"), "here I am").expect("a temporary file");
        assert_eq!(read_rest(&connect(service.address_on("127.0.0.4"))), b"here I am");
        assert_eq!(read_rest(&connect(service.address_on("127.0.0.1"))), "Grüße".as_bytes());
        drop(service);
        std::fs::remove_file(place.path("site/later")).expect("it is there");
        // Without the profile each of them is why the server does not start.
        for server in &servers[1..] {
            place.configure([server.clone()]);
            let refusal = place.launch().try_start().expect_err("it does not start");
            assert_eq!(refusal.status.code(), Some(1), "{server}");
        }
    }

    fn a_file_in_place_of_a_command_is_run_by_the_profile(backend) {
        let place = site(backend);
        let front = |document: &mut Value| document["servers"][0]["routes"][0]["index"] = json!([]);
        place.configure_with([routes(HERE, json!([file_route("/", "site")]))], front);
        let start = |words: &[&str]| {
            let launch = Launch::new(backend, words.iter().copied()).in_folder(place.path("").as_path());
            Service::new(launch.start())
        };
        let fields = |service: &Service| {
            let page = get(service.address(), "/");
            ["Content-Type", "Server", "Access-Control-Allow-Origin"].map(|name| page.field(name).map(str::to_owned))
        };
        let ours = [Some("text/html; charset=utf-8"), Some("xps"), None].map(|field| field.map(str::to_owned));
        let theirs = [Some("text/html"), Some("eXpServer"), Some("*")].map(|field| field.map(str::to_owned));
        let from_the_top = place.file();
        for (words, expected) in [
            (&["xps_config.json"][..], &theirs), (&[from_the_top.to_str().expect("text")], &theirs), (&["./xps_config.json", "--workers", "1"], &theirs),
            (&["run", "xps_config.json"], &ours), (&["run"], &ours), (&["run", "--profile", "expserver"], &theirs),
            (&["xps_config.json", "--profile", "xps"], &ours),
        ] {
            let service = start(words);
            assert_eq!(fields(&service), *expected, "{words:?}");
        }
        // What the file itself says, and a reload, do not change which profile was asked for.
        let service = start(&["xps_config.json"]);
        service.reload();
        assert_eq!(fields(&service), theirs);
        drop(service);
        place.configure_with([routes(HERE, json!([file_route("/", "site")]))], |document| document["profile"] = json!("xps"));
        assert_eq!(fields(&start(&["xps_config.json"])), ours);
        let missing = Launch::new(backend, ["missing.json"]).in_folder(place.path("").as_path()).run(b"");
        assert_ne!(missing.status.code(), Some(0));
        assert!(missing.errors.contains("cannot read") && missing.errors.contains("missing.json"), "{}", missing.errors);
    }

    /// Each key of the original's configuration, in a file such as its tester writes, and what it means there.
    fn every_key_of_the_originals_configuration_means_what_it_means_there(backend) {
        let place = site(backend);
        std::fs::write(place.path("site/big.h"), "int line;\n".repeat(500)).expect("a temporary file");
        std::fs::write(place.path("site/big.bin"), "int line;\n".repeat(500)).expect("a temporary file");
        let (first, second) = (named_origin("first"), named_origin("second"));
        let both = json!([first.address().to_string(), second.address().to_string()]);
        let files = |path: &str, more: Value| {
            let mut route = json!({ "req_path": path, "type": "file_serve", "dir_path": "./site/" });
            if let (Some(route), Value::Object(more)) = (route.as_object_mut(), more) {
                route.extend(more);
            }
            route
        };
        let document = json!({
            "server_name": "a name of its own",
            "workers": 2,
            // Several tests at once cannot have the port of the profile.
            "metrics": false,
            "servers": [
                {
                    "listeners": [{ "host": HERE, "port": 0 }],
                    "hostnames": ["localhost", "localhost:8001", HERE],
                    "routes": [
                        files("/", json!({ "index": ["a.txt"], "gzip_enable": false })),
                        files("/level-default", json!({ "gzip_enable": true, "gzip_level": -1, "gzip_mime_types": ["text/x-c"] })),
                        files("/level-9", json!({ "gzip_enable": true, "gzip_level": 9, "gzip_mime_types": ["application/octet-stream"] })),
                        files("/only", json!({ "ip_whitelist": [HERE] })),
                        files("/not", json!({ "ip_blacklist": [HERE] })),
                        files("/both", json!({ "ip_whitelist": [HERE, "10.0.0.1"], "ip_blacklist": [HERE] })),
                        files("/others", json!({ "ip_whitelist": ["10.0.0.1"] })),
                        { "req_path": "/moved", "type": "redirect", "http_status_code": 307, "redirect_url": "http://localhost:8002/" },
                        { "req_path": "/turns", "type": "reverse_proxy", "upstreams": both.clone(), "load_balancing": "round_robin" },
                        { "req_path": "/default", "type": "reverse_proxy", "upstreams": both.clone() },
                        { "req_path": "/same", "type": "reverse_proxy", "upstreams": both, "load_balancing": "ip_hash" },
                    ],
                },
                {
                    "listeners": [{ "host": HERE, "port": 0 }],
                    "hostnames": ["second.example"],
                    "routes": [{ "req_path": "/", "type": "redirect", "http_status_code": 302, "redirect_url": "/elsewhere" }],
                },
            ],
        });
        place.write(&document.to_string());
        let launch = Launch::new(backend, ["xps_config.json"]).in_folder(place.path("").as_path());
        let service = Service::new(launch.start());
        let ask_at = |host: &str, target: &str, lines: &str| {
            let mut wire = Wire::to(service.address());
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n"));
            wire.response()
        };
        let ask = |target: &str| ask_at("localhost:8001", target, "");
        assert_eq!((ask("/").text().as_str(), ask("/").field("Server")), ("Grüße", Some("a name of its own")));
        for (target, status) in [
            ("/only/a.txt", 200), ("/not/a.txt", 403), ("/both/a.txt", 403), ("/others/a.txt", 403), ("/moved", 307), ("/moved/on", 307),
            ("/movedon", 404), ("/test/c.txt", 200),
        ] {
            assert_eq!(ask(target).status, status, "{target}");
        }
        assert_eq!(ask("/moved").field("Location"), Some("http://localhost:8002/"));
        assert_eq!(ask_at("second.example", "/", "").field("Location"), Some("/elsewhere"));
        assert_eq!(ask_at("third.example", "/", "").status, 404);
        let coding = |target: &str| {
            let response = ask_at("localhost", target, "Accept-Encoding: gzip\r\n");
            assert_eq!(response.status, 200, "{target}");
            response.field("Content-Encoding").map(str::to_owned)
        };
        for (target, expected) in [
            ("/big.h", None), ("/level-default/big.h", Some("gzip")), ("/level-9/big.h", Some("gzip")),
            ("/level-default/big.bin", None), ("/level-9/big.bin", Some("gzip")),
        ] {
            assert_eq!(coding(target).as_deref(), expected, "{target}");
        }
        // From which upstream a worker begins is its own affair; over the turns both are asked as often.
        for path in ["/turns", "/default"] {
            let mut wire = Wire::to(service.address());
            let names: Vec<String> = (0..4)
                .map(|_| {
                    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                    wire.response().text()
                })
                .collect();
            assert_ne!(names[0], names[1], "{path}");
            assert_eq!(names[..2], names[2..], "{path}");
        }
        let same: Vec<String> = (0..6).map(|_| ask("/same").text()).collect();
        assert!(same.iter().all(|name| *name == same[0]), "{same:?}");
    }

    /// As a tester does that knows nothing of either: the same targets, directly and through the proxy.
    fn through_the_proxy_every_field_is_that_of_the_direct_answer(backend) {
        let place = site(backend);
        // Fields in every spelling, repeated, empty, and xps's own.
        let peculiar = origin(
            "HTTP/1.1 203 Non-Authoritative\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: SimpleHTTP/0.6 Python/3.12\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty: \r\nVary: Accept\r\nVary: Origin\r\nETag: W/\"x\"\r\nVia: 1.0 before\r\n\
             Cache-Control: no-cache, private\r\nContent-Type: text/plain;charset=UTF-8\r\nAge: 7\r\nAccess-Control-Allow-Origin: *\r\n\r\nbody",
        );
        let files = start(&place, [routes(HERE, json!([file_route("/", "site")]))]);
        let front = site(backend);
        let service = start(&front, [
            routes("127.0.0.1", json!([proxy_route("/", files.address())])),
            routes("127.0.0.2", json!([proxy_route("/", peculiar.address())])),
        ]);
        let proxied = service.address_on("127.0.0.1");
        let tag = get(files.address(), "/a.txt").field("ETag").expect("a tag").to_owned();
        for (method, target, lines) in [
            ("GET", "/a.txt", String::new()), ("HEAD", "/a.txt", String::new()), ("GET", "/a.txt", "Accept-Encoding: gzip\r\n".into()),
            ("GET", "/a.txt", format!("If-None-Match: {tag}\r\n")), ("GET", "/a.txt", "Range: bytes=1-3\r\n".into()),
            ("GET", "/photo.jpeg", String::new()), ("GET", "/paper.pdf", String::new()), ("GET", "/xps.h", String::new()),
            ("GET", "/", String::new()), ("GET", "/test", String::new()), ("GET", "/missing", String::new()),
            ("OPTIONS", "/a.txt", String::new()), ("POST", "/a.txt", "Content-Length: 0\r\n".into()),
        ] {
            let direct = ask(files.address(), method, target, &lines);
            let through = ask(proxied, method, target, &lines);
            assert_eq!(direct.status, through.status, "{method} {target}");
            assert_eq!(direct.body, through.body, "{method} {target}");
            // The second may have turned between the two.
            assert_eq!(end_to_end(&direct, &["Date"]), end_to_end(&through, &["Date"]), "{method} {target}");
            assert!(direct.field("Date").is_some() && through.field("Date").is_some());
        }
        let peculiar_of = |address: SocketAddr| {
            let stream = connect(address);
            (&stream).write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("it takes it");
            let mut wire = Wire::over(stream);
            let head = wire.head_only();
            end_to_end(&head, &[])
        };
        assert_eq!(peculiar_of(peculiar.address()), peculiar_of(service.address_on("127.0.0.2")));
    }
}
