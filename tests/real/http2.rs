//! HTTP/2 with clients that other people wrote: curl, nghttp, h2load, Python's `h2`, a browser, and a suite for conformance.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::browser;
use crate::curl::Curl;
use crate::place::{Place, Service, files, wait_for_end};
use crate::script::{self, Script};
use crate::support::bridge::Over;
use crate::support::environment::{find_program, report, require_program};
use crate::support::process::{Signal, run_to_end};
use crate::support::tls::{Authority, Signed};
use crate::support::{Backend, Content, Launch, Xps, assert_same_bytes, backends, is_wrapped, skip};

/// What the browser's page shows.
const IMAGES: usize = 100;

/// Fewer in a debug build.
const REQUESTS: usize = if cfg!(debug_assertions) { 20_000 } else { 500_000 };

/// What the suite expects otherwise. It sends requests with a body, which a server of files answers at once: what is wrong
/// arrives on a stream that is over for the server, and is dropped. The last one is a stream that was begun or passed over, which the server
/// does not distinguish.
const ACCEPTED: [&str; 10] = [
    "frame exceeding max size",
    "closed sends continuation frame after rst stream",
    "closed sends data frame after rst stream",
    "closed sends headers frame after rst stream",
    "sends multiple window update frames increasing flow control window above max on stream",
    "sends headers frame with incorrect content length multiple data frames",
    "sends headers frame with incorrect content length single data frame",
    "sends headers frame with pseudo header in trailer",
    "sends second headers frame without end stream",
    "sends smaller stream identifier",
];

/// A folder that is served with prior knowledge, and over TLS.
struct Site {
    folder: tempfile::TempDir,
    plain: Xps,
    encrypted: Xps,
    authority: Authority,
}

impl Site {
    #[track_caller]
    fn new(backend: Backend, fill: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("a folder in it");
        fill(&root);
        let words = ["serve", root.to_str().expect("a path of text"), "--listen", "127.0.0.1:0", "--access-log", "off"];
        let plain = Launch::new(backend, words).over(Over::H2c).start();
        let authority = Authority::new();
        let signed = authority.signed(&["localhost", "127.0.0.1"]);
        let encrypted = over_tls(backend, folder.path(), &signed);
        Self { folder, plain, encrypted, authority }
    }

    /// The URLs of a target, and what curl needs for each.
    fn urls(&self, target: &str) -> [(String, Vec<String>); 2] {
        let ca = self.authority.ca().display().to_string();
        [
            (format!("http://{}{target}", self.plain.address()), vec!["--http2-prior-knowledge".to_owned()]),
            (
                format!("https://localhost:{}{target}", self.encrypted.address().port()),
                vec!["--http2".to_owned(), "--cacert".to_owned(), ca],
            ),
        ]
    }
}

/// The folder `root` in this one, over TLS.
#[track_caller]
fn over_tls(backend: Backend, folder: &Path, signed: &Signed) -> Xps {
    let document = json!({
        "access_log": "off",
        "backend": if matches!(backend, Backend::Epoll) { "epoll" } else { "io_uring" },
        "servers": [{
            "listeners": [{
                "host": "127.0.0.1", "port": 0,
                "tls": { "certificates": [{ "cert": signed.cert, "key": signed.key }], "alpn": ["h2", "http/1.1"] },
            }],
            "routes": [{ "req_path": "/", "type": "file_serve", "dir_path": "root" }],
        }],
    });
    std::fs::write(folder.join("xps_config.json"), document.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).told_nothing().in_folder(folder).start()
}

/// A proxy with prior knowledge.
#[track_caller]
fn proxy(backend: Backend, upstream: SocketAddr) -> Xps {
    let words = ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off", "--upstream"];
    Launch::new(backend, words).flag(upstream).over(Over::H2c).start()
}

/// What h2load says of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    started: u64,
    succeeded: u64,
    /// Responses with a status 2xx.
    good: u64,
}

impl Counts {
    #[track_caller]
    fn of(said: &str) -> Self {
        let numbers = |beginning: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(beginning));
            let words = line.unwrap_or_else(|| panic!("no line {beginning:?}: {said}")).split_whitespace();
            words.filter_map(|word| word.parse().ok()).collect::<Vec<u64>>()
        };
        let requests = numbers("requests: ");
        Self { started: requests[1], succeeded: requests[3], good: numbers("status codes: ")[0] }
    }
}

/// Runs it; it must end well.
#[track_caller]
fn run(command: &mut Command) -> String {
    let finished = run_to_end(command.env("LC_ALL", "C"), b"");
    let output = String::from_utf8_lossy(&finished.output).into_owned();
    assert!(finished.status.success(), "{command:?}: {}\n{output}\n{}", finished.status, finished.errors);
    output
}

backends! {
    fn curl_gets_parts_and_heads(backend) {
        let Some(curl) = Curl::find(module_path!()) else { return };
        let content = Content::bytes(1, 3_000_001);
        let site = Site::new(backend, |root| std::fs::write(root.join("file.bin"), &content).expect("a file"));
        for (url, flags) in site.urls("/file.bin") {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let get = |words: &[&str]| curl.get(&[&flags[..], words, &[&url]].concat());
            assert_same_bytes(&get(&[]), &content);
            assert_same_bytes(&get(&["--range", "7-70007"]), &content[7..=70_007]);
            assert_eq!(get(&["-o", "/dev/null", "-w", "%{http_version} %{http_code}"]), b"2 200", "{url}");
            assert_eq!(get(&["--head", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]), b"200 0");
            assert_eq!(get(&["--compressed", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "body"]), b"405");
            // Several at once over one connection.
            let many = get(&["--parallel", "--parallel-immediate", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} ", &url]);
            assert_eq!(many, b"200 200 ");
        }
        drop(site.folder);
    }

    fn curl_uploads(backend) {
        let (Some(curl), Some(mirror)) = (Curl::find(module_path!()), Script::python(module_path!(), "mirror.py", &[])) else { return };
        let content = Content::bytes(2, 3_000_001);
        let xps = proxy(backend, mirror.address());
        let url = format!("http://{}/", xps.address());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, &content).expect("a file");
        let file = file.to_str().expect("a path of text");
        for (words, input) in [(&["-T", file][..], &b""[..]), (&["-H", "Expect:", "-T", file], b""), (&["-T", "-"], &content)] {
            let output = curl.run_with(&[&["--http2-prior-knowledge"], words, &[&url]].concat(), input).output;
            assert_same_bytes(&output, &content);
        }
    }

    fn nghttp_gets_many_at_once(backend) {
        let Some(nghttp) = require_program(module_path!(), "nghttp", "nghttp2-client") else { return };
        let site = Site::new(backend, |root| std::fs::write(root.join("file.bin"), Content::bytes(3, 300_000)).expect("a file"));
        for (url, _) in site.urls("/file.bin") {
            // Statistics have a line for each request.
            let said = run(Command::new(&nghttp).args(["--null-out", "--stat", "--no-verify-peer", "--multiply=50", &url]));
            let served = said.lines().filter(|line| line.contains(" 200 ") && line.ends_with("/file.bin")).count();
            assert_eq!(served, 50, "{said}");
            // With padding, a small window, a continuation, and trailers of an upload that is not wanted.
            let words = ["--null-out", "--stat", "--no-verify-peer", "--padding=200", "--window-bits=14", "--continuation"];
            let said = run(Command::new(&nghttp).args(words).args(["--multiply=10", &url]));
            assert_eq!(said.lines().filter(|line| line.contains(" 200 ")).count(), 10, "{said}");
        }
    }

    fn h2load_loses_no_request(backend) {
        let Some(h2load) = require_program(module_path!(), "h2load", "nghttp2-client") else { return };
        if is_wrapped() {
            return skip(module_path!(), "a load test needs the program at its speed");
        }
        let site = Site::new(backend, |root| {
            std::fs::write(root.join("small"), "small").expect("a file");
            std::fs::write(root.join("large"), Content::bytes(4, 1 << 20)).expect("a file");
        });
        for (target, requests) in [("/small", REQUESTS), ("/large", REQUESTS / 100)] {
            for (url, _) in site.urls(target) {
                let count = requests.to_string();
                let said = run(Command::new(&h2load).args(["-n", &count, "-c", "8", "-m", "100", &url]));
                assert!(said.contains(&format!("{requests} succeeded, 0 failed, 0 errored")), "{url}: {said}");
                let rate = said.lines().find(|line| line.starts_with("finished in")).unwrap_or_default();
                report(&format!("h2load {url} over {backend:?}: {rate}"));
            }
        }
        // One connection for all of them: no limit on abuse may take this for it.
        let (url, _) = &site.urls("/small")[0];
        let count = (5 * REQUESTS).to_string();
        let said = run(Command::new(&h2load).args(["-n", &count, "-c", "1", "-m", "100", url]));
        assert!(said.contains(&format!("{count} succeeded, 0 failed, 0 errored")), "one connection: {said}");
    }

    /// Neither what is in progress nor what is on its way when the server takes another configuration, or another process its place.
    fn h2load_loses_no_stream_to_a_reload_and_a_replacement(backend) {
        let Some(h2load) = require_program(module_path!(), "h2load", "nghttp2-client") else { return };
        if is_wrapped() {
            return skip(module_path!(), "a load test needs the program at its speed");
        }
        const CLIENTS: u64 = 4;
        const STREAMS: u64 = 20;
        let place = Place::new(backend);
        place.page("root", "small");
        std::fs::write(place.path("root").join("large"), Content::bytes(6, 1 << 20)).expect("a temporary file");
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let configure = || {
            let mut server = files("127.0.0.1", "root");
            server["listeners"] = json!([
                { "host": "127.0.0.1", "port": 0, "h2c": true },
                { "host": "127.0.0.2", "port": 0, "tls": { "certificates": [{ "cert": signed.cert, "key": signed.key }] } },
            ]);
            place.configure_with([server], |document| document["access_log"] = json!(place.path("access.log")));
        };
        configure();
        let mut service = Service::new(place.launch().listening_on(2).start());
        let bases = [("http", "127.0.0.1"), ("https", "127.0.0.2")].map(|(scheme, host)| format!("{scheme}://{}", service.address_on(host)));
        let (clients, streams) = (CLIENTS.to_string(), STREAMS.to_string());
        let load = |url: &str, requests: usize| {
            let words = ["-n", &requests.to_string(), "-c", &clients, "-m", &streams, url];
            Counts::of(&run(Command::new(&h2load).args(words)))
        };
        let mut succeeded = 0;
        for (base, target) in bases.iter().flat_map(|base| [(base, "/page"), (base, "/large")]) {
            let url = format!("{base}{target}");
            let requests = if target == "/large" { REQUESTS / 500 } else { REQUESTS / 10 };
            // Connections go on over reloads.
            let (counts, reloads) = std::thread::scope(|scope| {
                let load = scope.spawn(|| load(&url, requests));
                let mut reloads = 0;
                while !load.is_finished() {
                    configure();
                    service.reload();
                    reloads += 1;
                    std::thread::sleep(Duration::from_millis(50));
                }
                (load.join().expect("it ends well"), reloads)
            });
            let all = requests as u64;
            assert_eq!(counts, Counts { started: all, succeeded: all, good: all }, "{url}: {reloads} reloads");
            // They do not over a replacement: GOAWAY, after which h2load does not connect again. Those of its requests that it
            // has not sent by then fail, at most one for each stream.
            let few = requests / 10 + 20;
            let (process, fresh, counts) = std::thread::scope(|scope| {
                let load_of_old = scope.spawn(|| load(&url, 100_000_000));
                std::thread::sleep(Duration::from_millis(300));
                let process = service.pid();
                service.replace();
                (process, load(&url, few), load_of_old.join().expect("it ends well"))
            });
            let all_of_few = few as u64;
            assert_eq!(fresh, Counts { started: all_of_few, succeeded: all_of_few, good: all_of_few }, "{url}, of the new process");
            assert!(counts.good == counts.succeeded && counts.succeeded > 0, "{url}: {counts:?}");
            assert!(counts.started - counts.succeeded <= CLIENTS * STREAMS, "{url}: {counts:?}");
            wait_for_end(process);
            succeeded += all + fresh.succeeded + counts.succeeded;
            report(&format!("h2load {url} over {backend:?}: {reloads} reloads, then a replacement after {counts:?}"));
        }
        service.signal(Signal::Terminate);
        wait_for_end(service.pid());
        // What a server has answered has arrived, and it has left nothing that it had begun.
        let log = std::fs::read_to_string(place.path("access.log")).expect("it is written");
        let whole = |line: &&str| line.contains("/page HTTP/2.0\" 200 5 ") || line.contains("/large HTTP/2.0\" 200 1048576 ");
        let bad: Vec<&str> = log.lines().filter(|line| !whole(line)).take(5).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(log.lines().count() as u64, succeeded);
        assert_eq!(service.first.wait().code(), Some(0));
    }

    fn pythons_h2_agrees(backend) {
        // Debian's package is for Debian's Python, which need not be the first one.
        let has_h2 = |python: &PathBuf| run_to_end(Command::new(python).args(["-c", "import h2"]), b"").status.success();
        let pythons = [find_program("python3"), Some(PathBuf::from("/usr/bin/python3")).filter(|path| path.exists())];
        let Some(python) = pythons.into_iter().flatten().find(has_h2) else {
            return skip(module_path!(), "Python has no h2; Debian: apt-get install python3-h2");
        };
        let content = Content::bytes(5, 1_000_000);
        let site = Site::new(backend, |root| std::fs::write(root.join("file.bin"), &content).expect("a file"));
        let Some(mirror) = Script::python(module_path!(), "mirror.py", &[]) else { return };
        let gateway = proxy(backend, mirror.address());
        let [files, gateway] = [site.plain.address(), gateway.address()].map(|address| address.to_string());
        let size = content.len().to_string();
        let said = run(Command::new(&python).arg(script::path("http2.py")).args([&files, &gateway, &size]));
        assert_eq!(said, "all well\n");
    }

    fn a_browser_shows_a_page_of_a_hundred_images(backend) {
        let site = Site::new(backend, |root| {
            let image = |color: usize| format!("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9' fill='rgb({color},0,0)'/></svg>");
            let tags: String = (0..IMAGES).map(|number| format!("<img src='image{number}.svg'>")).collect();
            (0..IMAGES).for_each(|number| std::fs::write(root.join(format!("image{number}.svg")), image(number)).expect("a file"));
            let script = "onload = () => {
                const shown = [...document.images].filter(image => image.complete && image.naturalWidth == 9).length;
                const protocols = new Set(performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol));
                document.getElementById('result').textContent = `${shown} over ${[...protocols].join()}`;
            }";
            std::fs::write(root.join("page.html"), format!("<!doctype html><pre id=\"result\"></pre><script>{script}</script>{tags}")).expect("a file");
        });
        let url = &site.urls("/page.html")[1].0;
        let Some(document) = browser::document(module_path!(), url, &[]) else { return };
        assert!(document.contains(&format!("<pre id=\"result\">{IMAGES} over h2</pre>")), "{document}");
    }

    /// `.ci/run nightly` builds it; the gate does not.
    fn the_suite_of_httpwg_finds_nothing(backend) {
        let Some(httpwg) = find_program("httpwg") else {
            return skip(module_path!(), "httpwg is not installed (cargo install --locked httpwg-cli)");
        };
        let site = Site::new(backend, |root| std::fs::write(root.join("index.html"), "a page").expect("a file"));
        let address = site.plain.address().to_string();
        let finished = run_to_end(Command::new(httpwg).args(["-a", &address]), b"");
        let said = String::from_utf8_lossy(&finished.output).into_owned() + &finished.errors;
        assert!(said.contains("Test passed"), "{said}");
        let failed = said.lines().filter_map(|line| Some(line.split_once("Test failed: ")?.1.trim()));
        let bad: Vec<&str> = failed.filter(|test| ACCEPTED.iter().all(|accepted| !test.ends_with(accepted))).collect();
        assert!(bad.is_empty(), "{bad:#?}\n{said}");
    }
}
