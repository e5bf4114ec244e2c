//! Full is said: no descriptors, no room for connections, no space for a log.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::operate::{get, metrics, metrics_address};
use crate::place::{Place, Service, files, is_alive, kill, routes};
use crate::support::process::{Signal, wait_for_exit};
use crate::support::server::Launch;
use crate::support::{Backend, ask, backends, connect, environment::find_program, eventually, patience, skip};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";

/// A server of one page, with this access log.
fn logging(backend: Backend, log: &str) -> Place {
    let place = Place::new(backend);
    place.page("folder", "here");
    place.configure_with([files(HERE, "folder")], |document| {
        document["access_log"] = json!(log);
        document["access_format"] = json!("json");
        document["metrics"] = metrics();
    });
    place
}

/// Lines that this log, `access` or `server`, has lost, as `text` of the metrics says.
#[track_caller]
fn lines_lost(text: &str, log: &str) -> u64 {
    let name = format!("xps_log_lines_lost_total{{log=\"{log}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}is missing in\n{text}"))
}

#[track_caller]
fn access_lines_lost(service: &Service) -> u64 {
    lines_lost(&get(metrics_address(service), "/metrics").text(), "access")
}

#[track_caller]
fn expect_page(wire: &mut Wire) {
    wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(wire.response().status, 200);
}

/// A limit that is lifted later, in blocks of 512 or 1024 bytes.
fn with_file_size_max(launch: Launch, blocks: u32) -> Launch {
    launch.through(["sh", "-c", &format!("ulimit -S -f {blocks} && exec \"$@\""), "sh"])
}

#[track_caller]
fn lift_file_size_limit(process: u64) {
    let status = Command::new("prlimit").args(["--pid", &process.to_string(), "--fsize=unlimited:"]).status();
    assert!(status.expect("prlimit starts").success());
}

/// Every line of a file, each whole.
#[track_caller]
fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("it is there");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    lines.collect()
}

backends! {
    fn a_full_disk_is_said_and_holds_nothing_up(backend) {
        let place = logging(backend, "/dev/full");
        let mut service = place.start();
        let mut wire = Wire::to(service.address());
        for _ in 0..100 {
            expect_page(&mut wire);
        }
        let told = service.first.log().wait_for("the failure", |record| record.message().starts_with("the access log cannot be written"));
        assert_eq!((told.level(), told.text("path")), ("WARN", Some("/dev/full")), "{told}");
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("space")), "{told}");
        eventually("all of them are counted", || access_lines_lost(&service) == 100);
        drop(wire);
        service.signal(Signal::Terminate);
        // Else it gets the signal a second time, which ends it at once.
        assert_eq!(service.first.wait().code(), Some(0));
        let sum = service.first.log().wait_for("the sum", |record| record.message() == "access log lines were lost in all");
        assert_eq!(sum.number("dropped"), Some(100), "{sum}");
        let is_it = |record: &crate::support::log::Record| record.message().starts_with("the access log cannot be written");
        assert_eq!(service.first.log().records().iter().filter(|record| is_it(record)).count(), 1, "once is enough");
    }

    fn a_log_beyond_the_limit_of_file_size_loses_counted_lines_and_does_not_end_the_server(backend) {
        if find_program("prlimit").is_none() {
            return skip("a_log_beyond_the_limit_of_file_size", "prlimit is not installed");
        }
        let place = logging(backend, "log");
        let service = Service::new(with_file_size_max(place.launch(), 3).start());
        let mut wire = Wire::to(service.address());
        let mut requests = 0_u64;
        let mut ask = || {
            expect_page(&mut wire);
            requests += 1;
        };
        let log = service.first.log();
        let has_said = |message: &str| log.records().iter().any(|record| record.message().starts_with(message));
        eventually("the limit is met", || {
            ask();
            has_said("the access log cannot be written")
        });
        // Lines are written by a thread of their own: how many of these are lost is for it to say.
        for _ in 0..10 {
            ask();
        }
        lift_file_size_limit(service.pid());
        eventually("it is written again", || {
            ask();
            has_said("the access log is written again")
        });
        let told = log.wait_for("it", |record| record.message().starts_with("the access log is written again"));
        let lost = told.number("lost").expect("a count");
        assert_eq!(access_lines_lost(&service), lost);
        eventually("every other line is there", || json_lines(&place.path("log")).len() as u64 + lost == requests);
    }

    fn lines_without_a_reader_are_counted_until_there_is_one_again(backend) {
        let place = logging(backend, "log");
        assert!(Command::new("mkfifo").arg(place.path("log")).status().expect("mkfifo starts").success());
        // Both ends, so that opening does not wait for the other one.
        let reader = || File::options().read(true).write(true).open(place.path("log")).expect("a FIFO");
        let first = reader();
        let service = place.start();
        let mut wire = Wire::to(service.address());
        drop(first);
        expect_page(&mut wire);
        let told = service.first.log().wait_for("the failure", |record| record.message().starts_with("the access log cannot be written"));
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("reader")), "{told}");
        eventually("it is counted", || access_lines_lost(&service) == 1);
        let second = reader();
        expect_page(&mut wire);
        let told = service.first.log().wait_for("it", |record| record.message().starts_with("the access log is written again"));
        assert_eq!((told.number("lost"), access_lines_lost(&service)), (Some(1), 1), "{told}");
        let mut line = String::new();
        BufReader::new(second).read_line(&mut line).expect("a line");
        assert!(line.ends_with("}\n") && line.contains("/page"), "{line}");
    }

    fn lost_lines_of_the_programs_own_log_are_counted(backend) {
        let place = logging(backend, "off");
        place.configure_with([crate::place::echo(HERE)], |document| document["metrics"] = json!({ "unix": "metrics" }));
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let mut process = place.launch().command().stderr(full).spawn().expect("it starts");
        let ask = || {
            let mut stream = UnixStream::connect(place.path("metrics")).ok()?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok().map(|_| text)
        };
        eventually("it counts what it cannot say", || ask().is_some_and(|text| lines_lost(&text, "server") > 0));
        kill(Signal::Terminate, u64::from(process.id()));
        assert_eq!(wait_for_exit(&mut process, patience()).expect("it ends").code(), Some(0));
    }

    fn the_programs_own_log_does_not_end_it_either(backend) {
        if find_program("prlimit").is_none() {
            return skip("the_programs_own_log", "prlimit is not installed");
        }
        let place = logging(backend, "off");
        let socket = place.path("socket");
        place.configure([json!({
            "listeners": [{ "unix": "socket" }],
            "routes": [{ "req_path": "/", "type": "file_serve", "dir_path": "folder" }],
        })]);
        let log = place.path("own-log");
        let launch = with_file_size_max(place.launch().flags(["--log-format", "json", "--log-level", "debug"]), 3);
        let mut command = launch.command();
        command.env("XPS_LOG", "debug").stderr(std::fs::File::create(&log).expect("a file"));
        let mut process = command.spawn().expect("it starts");
        let pid = u64::from(process.id());
        let grow = |what: &str, is_enough: &dyn Fn() -> bool| {
            eventually(what, || {
                assert!(is_alive(pid), "it lives");
                if let Ok(mut stream) = UnixStream::connect(&socket) {
                    stream.write_all(b"GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("it is read");
                    let mut response = String::new();
                    stream.read_to_string(&mut response).expect("an orderly end");
                    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
                }
                is_enough()
            });
        };
        let length = || std::fs::metadata(&log).expect("it is there").len();
        grow("the limit is met", &|| matches!(length(), 1536 | 3072));
        for _ in 0..5 {
            grow("and there is more to say", &|| true);
        }
        lift_file_size_limit(pid);
        let is_told = || std::fs::read_to_string(&log).expect("text").contains("lines of this log were lost");
        grow("it says what was lost", &is_told);
        kill(Signal::Terminate, pid);
        let status = wait_for_exit(&mut process, patience()).expect("it ends");
        assert_eq!(status.code(), Some(0));
        assert!(json_lines(&log).len() > 5);
    }

    fn the_last_place_taken_is_said(backend) {
        let xps = Launch::echo(backend).flags(["--max-connections", "1", "--workers", "1"]).start();
        let first = connect(xps.address());
        let told = xps.log().wait_for("it is full", |record| record.message() == "connection limit of the server reached");
        assert_eq!((told.level(), told.number("connections")), ("WARN", Some(1)), "{told}");
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("--max-connections")), "{told}");
        drop(first);
        assert_eq!(ask(xps.address(), b"served"), b"served");
    }

    fn the_last_place_of_all_taken_is_said(backend) {
        let place = Place::new(backend);
        place.configure_with([crate::place::echo(HERE)], |document| document["max_connections"] = json!(1));
        let service = place.start();
        let _first = connect(service.address());
        let told = service.first.log().wait_for("it is full", |record| record.message() == "connection limit of the server reached");
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("max_connections")), "{told}");
    }

    fn too_few_descriptors_are_said_at_the_start(backend) {
        let xps = Launch::echo(backend).flags(["--workers", "1"]).with_descriptors_max(40).start();
        let told = xps.log().wait_for("the limit", |record| record.message().contains("few connections"));
        assert_eq!(told.level(), "WARN", "{told}");
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("ulimit -n")), "{told}");
        assert_eq!(ask(xps.address(), b"served"), b"served");
    }

    fn no_descriptors_are_said_with_the_limit(backend) {
        const LIMIT: u32 = 80;
        let place = Place::new(backend);
        // Sockets that it listens on are not among what it sets apart for itself.
        let listeners: Vec<Value> = (0..18).map(|_| json!({ "host": HERE, "port": 0 })).collect();
        let server = json!({ "listeners": listeners, "protocol": "tcp", "handler": "echo" });
        place.configure_with([server], |document| document["workers"] = json!(1));
        let service = Service::new(place.launch().with_descriptors_max(LIMIT).listening_on(18).start());
        let streams: Vec<TcpStream> = (0..LIMIT).map(|_| connect(service.address())).collect();
        let told = service.first.log().wait_for("the pause", |record| record.message().starts_with("accepting pauses"));
        assert_eq!((told.level(), told.number("limit")), ("WARN", Some(u64::from(LIMIT))), "{told}");
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("ulimit -n")), "{told}");
        drop(streams);
        assert_eq!(ask(service.address(), b"served"), b"served");
    }

    fn used_up_buffers_are_said(backend) {
        let place = Place::new(backend);
        place.configure_with([crate::place::echo(HERE)], |document| {
            document["workers"] = json!(1);
            document["limits"]["pool"] = json!({ "small_max": 1, "large_max": 1 });
        });
        let service = place.start();
        // It sends, and takes nothing of what comes back.
        let hoarder = connect(service.address());
        let mut sender = hoarder.try_clone().expect("a second handle");
        let sending = std::thread::spawn(move || sender.write_all(&vec![b'x'; 64 << 20]));
        let mut clients: Vec<TcpStream> = Vec::new();
        eventually("others wait for a buffer", || {
            let mut client = connect(service.address());
            client.write_all(b"hello").expect("room in the kernel");
            clients.push(client);
            service.count("receive buffers are used up: connections wait for one") > 0
        });
        let told = service.first.log().wait_for("it", |record| record.message().starts_with("receive buffers are used up"));
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("limits.pool")), "{told}");
        hoarder.shutdown(std::net::Shutdown::Both).expect("it is connected");
        sending.join().expect("no panic").expect_err("it was cut off");
        // A close with bytes unread is a reset, so what it hoarded goes.
        drop(hoarder);
        for client in clients {
            client.shutdown(std::net::Shutdown::Write).expect("it is connected");
            assert_eq!(crate::support::read_rest(&client), b"hello");
        }
    }

    fn without_threads_files_are_served_and_it_is_said(backend) {
        const PAGE: &[u8] = &[b'a'; 100_000];
        let place = Place::new(backend);
        place.page("folder", PAGE);
        std::fs::rename(place.path("folder/page"), place.path("folder/page.txt")).expect("the same folder");
        let route = json!({ "req_path": "/", "type": "file_serve", "dir_path": "folder", "listing": true });
        place.configure_with([routes(HERE, json!([route]))], |document| document["workers"] = json!(1));
        // A user of its own, that the limit counts no other test's threads: the main one, the log's, a worker's.
        let user = 100_000 + std::process::id() * 2 + u32::from(backend == Backend::Epoll);
        let as_user = ["prlimit", "--nproc=3:3", "setpriv", "--clear-groups"].map(str::to_owned).into_iter();
        let as_user = as_user.chain([format!("--reuid={user}"), format!("--regid={user}")]);
        let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(place.path("")).status().expect("chmod starts");
        let version = Launch::new(backend, ["--version"]).through(as_user.clone()).command().output();
        if !opened.success() || !version.is_ok_and(|output| output.status.success()) {
            return skip("without_threads_files_are_served", "no other user may be taken on, or run this program");
        }
        let service = Service::new(place.launch().through(as_user).start());
        let mut wire = Wire::to(service.address());
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = wire.response();
        assert!(response.status == 200 && response.text().contains("page.txt"), "{response:?}");
        wire.send("GET /page.txt HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
        let response = wire.response();
        assert_eq!((response.status, response.field("content-encoding")), (200, None), "it goes out as it is");
        assert_eq!(response.body, PAGE);
        let told = service.first.log().wait_for("it", |record| record.message() == "no thread can be started");
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("pids.max")), "{told}");
    }
}
