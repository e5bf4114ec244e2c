//! Too many clients, too slow ones, too few descriptors.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::http::site::{PROBE_REQUEST, Site, expect_probe};
use crate::support::client::stays_silent;
use crate::support::environment::{allow_descriptors, find_program, report};
use crate::support::files::write_sparse;
use crate::support::process::Signal;
use crate::support::{
    Content, backends, connect, eventually, http1_only, is_wrapped, patience, plain_only, skip, uninterrupted,
};
use crate::wire::Wire;

/// As many as a test may open without asking for more; the rows' ten thousand are the same code path.
const CLIENTS: usize = 800;

backends! {
    fn row_71_slow_heads_cost_others_nothing(backend) {
        if !allow_descriptors(2 * CLIENTS as u64 + 200) {
            return skip("row_71", "too few descriptors are allowed");
        }
        let site = Site::new(backend, &["--workers", "1"]);
        expect_probe(&mut site.wire());
        let before = site.xps.usage().rss_bytes;
        let mut drips: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(site.address())).collect();
        let request = format!("GET /probe HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat(100));
        let mut slowest = Duration::ZERO;
        for byte in &request.as_bytes()[..20] {
            for drip in &mut drips {
                drip.write_all(&[*byte]).expect("the server takes it");
            }
            let since = Instant::now();
            expect_probe(&mut site.wire());
            slowest = slowest.max(since.elapsed());
        }
        assert!(slowest < patience() / 10, "a new client waited {slowest:?}");
        let grown = site.xps.usage().rss_bytes.saturating_sub(before) / CLIENTS as u64;
        report(&format!("{CLIENTS} clients with half a head over {backend:?}: {grown} bytes each, another waited {slowest:?} at most"));
        // Over TLS, what handshakes at the same time took stays with the process: the more of them, the busier the machine.
        let grown_max = if site.xps.encryption().is_some() { 16 << 10 } else { 8 << 10 };
        assert!(is_wrapped() || grown < grown_max, "{grown} bytes for each slow client");
        for drip in &mut drips {
            drip.write_all(&request.as_bytes()[20..]).expect("the server takes it");
        }
        for mut drip in drips {
            let mut answer = [0; 15];
            drip.read_exact(&mut answer).expect("an answer in the end");
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        }
    }

    fn row_72_clients_that_read_nothing_hold_bounded_memory(backend) {
        http1_only!("pipelined requests");
        if !allow_descriptors(1000) {
            return skip("row_72", "too few descriptors are allowed");
        }
        const DEAF: usize = 200;
        let site = Site::new(backend, &["--workers", "1"]);
        site.write("small", Content::bytes(1, 30_000));
        site.write("large", Content::bytes(2, 16 << 20));
        for target in ["/probe", "/small", "/large"] {
            site.get(target);
        }
        let before = site.xps.usage().rss_bytes;
        let clients: Vec<TcpStream> = (0..DEAF).map(|number| {
            let mut client = connect(site.address());
            client.set_nonblocking(true).expect("it can be");
            let request = if number % 2 == 0 { "/small" } else { "/large" };
            // More than is answered: what the server does not read stays in the kernel.
            let requests = format!("GET {request} HTTP/1.1\r\nHost: h\r\n\r\n").repeat(3000);
            let _ = client.write(requests.as_bytes());
            client
        }).collect();
        for _ in 0..20 {
            let since = Instant::now();
            expect_probe(&mut site.wire());
            assert!(since.elapsed() < patience() / 10, "another waited {:?}", since.elapsed());
        }
        let grown = site.xps.usage().rss_bytes.saturating_sub(before) / DEAF as u64;
        report(&format!("{DEAF} clients that read nothing over {backend:?}: {} KiB each", grown >> 10));
        assert!(is_wrapped() || grown < 512 << 10, "{grown} bytes for each client that reads nothing");
        drop(clients);
        expect_probe(&mut site.wire());
    }

    fn clients_that_read_nothing_of_a_large_listing_share_it(backend) {
        const NAMES: usize = 10_000;
        const DEAF: usize = 100;
        if !allow_descriptors(1000) {
            return skip("a large listing", "too few descriptors are allowed");
        }
        let site = Site::of(backend, &["--workers", "1", "--send-timeout", "0"], |root| {
            fs::create_dir(root.join("many")).expect("a folder");
            for number in 0..NAMES {
                let name = format!("many/a name that is neither short nor very long {number}");
                fs::write(root.join(name), "").expect("a file");
            }
        });
        assert!(site.get("/many/").body.len() > NAMES * 200);
        let before = site.xps.usage().rss_bytes;
        let clients: Vec<TcpStream> = (0..DEAF).map(|number| {
            let mut client = connect(site.address());
            let sort = ["name", "size", "modified"][number % 3];
            write!(client, "GET /many/?sort={sort} HTTP/1.1\r\nHost: h\r\n\r\n").expect("the server takes it");
            // The answer has begun.
            assert_eq!(uninterrupted(|| client.peek(&mut [0])).expect("an answer"), 1);
            client
        }).collect();
        expect_probe(&mut site.wire());
        let grown = site.xps.usage().rss_bytes.saturating_sub(before) / DEAF as u64;
        report(&format!("{DEAF} listings of {NAMES} names unread over {backend:?}: {} KiB each", grown >> 10));
        // A piece or two of the page, and nothing of the entries, which are more than 1 MiB.
        assert!(is_wrapped() || grown < 300 << 10, "{grown} bytes for each client that reads nothing");
        drop(clients);
    }

    fn rows_44_and_73_without_descriptors_it_answers_503_or_waits_and_recovers(backend) {
        if is_wrapped() {
            return skip("rows_44_and_73", "a wrapper needs descriptors itself");
        }
        let site = Site::launched(backend, &["--workers", "1"], |launch| launch.with_descriptors_max(64), |root| {
            for number in 0..200 {
                // Too large to be kept in memory: each that is asked for stays open for a while.
                fs::write(root.join(format!("large{number}")), vec![b'x'; 50_000]).expect("a file");
            }
        });
        // Files at hand must not take the descriptors that connections need.
        let mut wire = site.wire();
        for number in 0..200 {
            wire.send(format!("GET /large{number} HTTP/1.1\r\nHost: h\r\n\r\n"));
            let response = wire.response();
            assert!(matches!(response.status, 200 | 503), "{response:?}");
            assert_eq!(response.field("Retry-After").is_some(), response.status == 503);
        }
        expect_probe(&mut wire);
        eventually("a new client is served", || {
            let new = connect(site.address());
            (&new).write_all(PROBE_REQUEST.as_bytes()).expect("the kernel takes it");
            !stays_silent(&new, Duration::from_millis(500))
        });
        // Connections take them all: who has one lives on, others wait, and none is lost.
        let mut clients: Vec<_> = (0..100).map(|_| site.wire()).collect();
        for client in &mut clients {
            client.send(PROBE_REQUEST);
        }
        expect_probe(&mut wire);
        wire.send("GET /large7 HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = wire.response();
        assert!(matches!(response.status, 200 | 503), "{response:?}");
        for mut client in clients {
            let response = client.response();
            assert!(matches!(response.status, 200 | 503), "{response:?}");
        }
        eventually("files can be opened again", || site.get("/large9").status == 200);
    }

    fn row_74_a_burst_of_connections_leaves_descriptors_for_files(backend) {
        if is_wrapped() {
            return skip("row_74, descriptors", "a wrapper needs descriptors itself");
        }
        const LARGE: usize = 50_000;
        let site = Site::launched(backend, &["--workers", "1"], |launch| launch.with_descriptors_max(64), |root| {
            fs::write(root.join("large"), vec![b'x'; LARGE]).expect("a file");
        });
        // While the server does not run, they all come to wait.
        site.xps.signal(Signal::Stop);
        let mut wires: Vec<_> = (0..200).map(|_| site.wire()).collect();
        site.xps.signal(Signal::Continue);
        for wire in &mut wires[..20] {
            expect_probe(wire);
        }
        wires[0].send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = wires[0].response();
        assert_eq!((response.status, response.body.len()), (200, LARGE));
        // Who waits is served as soon as others leave.
        let mut rest = wires.split_off(180);
        drop(wires);
        rest.iter_mut().for_each(expect_probe);
    }

    fn row_44_a_file_that_no_descriptor_is_left_for_is_503_for_a_while(backend) {
        if is_wrapped() {
            return skip("row_44, descriptors", "a wrapper needs descriptors itself");
        }
        // So many connections are admitted under this limit: each with a file of its own takes more than there are.
        const ADMITTED: usize = 32;
        let site = Site::launched(backend, &["--workers", "1"], |launch| launch.with_descriptors_max(64), |root| {
            for number in 0..ADMITTED {
                write_sparse(&root.join(format!("large{number}")), 64 << 20);
            }
        });
        let ask = |wire: &mut Wire, number: usize| {
            wire.send(format!("GET /large{number} HTTP/1.1\r\nHost: h\r\n\r\n"));
            let head = wire.head_only();
            assert!(matches!(head.status, 200 | 503), "{head:?}");
            assert_eq!(head.field("Retry-After").is_some(), head.status == 503, "{head:?}");
            head
        };
        let mut wires: Vec<_> = (0..ADMITTED).map(|_| site.wire()).collect();
        wires.iter_mut().for_each(expect_probe);
        let mut reading = Vec::new();
        let mut refused = None;
        for (number, mut wire) in wires.into_iter().enumerate() {
            let head = ask(&mut wire, number);
            if head.status == 200 {
                // It holds the file, since it reads no more of it.
                reading.push(wire);
            } else {
                wire.take(head.length().expect("a length") as usize);
                refused = Some((wire, number));
            }
        }
        let (mut wire, number) = refused.expect("one for which no descriptor was left");
        wire.send("OPTIONS /probe HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.response().status, 204, "what wants no file is answered as ever");
        drop(reading);
        eventually("the file", || {
            let head = ask(&mut wire, number);
            if head.status == 503 {
                wire.take(head.length().expect("a length") as usize);
            }
            head.status == 200
        });
    }

    fn row_74_connections_beyond_the_limit_wait_their_turn(backend) {
        let site = Site::new(backend, &["--workers", "1", "--max-connections", "4"]);
        let mut served: Vec<_> = (0..4).map(|_| site.wire()).collect();
        for wire in &mut served {
            expect_probe(wire);
        }
        let mut waiting = site.wire();
        waiting.send(PROBE_REQUEST);
        assert!(stays_silent(&waiting.stream, Duration::from_millis(300)));
        drop(served);
        assert_eq!(waiting.response().status, 200);
    }

    fn row_74_connections_beyond_the_limit_are_told_so_where_that_is_configured(backend) {
        let site = Site::new(backend, &["--workers", "1", "--max-connections", "4", "--when-full", "refuse"]);
        let mut served: Vec<_> = (0..4).map(|_| site.wire()).collect();
        for wire in &mut served {
            expect_probe(wire);
        }
        for _ in 0..200 {
            let refused = site.get("/probe");
            assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
        }
        assert_eq!(site.head("/probe", "").status, 503);
        expect_probe(&mut served[3]);
        // Of those who say nothing some are let in, and the others wait.
        let silent: Vec<_> = (0..100).map(|_| site.wire()).collect();
        let ask = || {
            let mut wire = site.wire();
            wire.send(PROBE_REQUEST);
            wire
        };
        eventually("others wait", || stays_silent(&ask().stream, Duration::from_millis(200)));
        let mut waiting = ask();
        drop(silent);
        assert_eq!(waiting.response().status, 503);
        drop(served);
        eventually("there is room again", || site.get("/probe").status == 200);
    }

    fn row_44_what_the_servers_user_may_not_read_is_forbidden(backend) {
        plain_only!("the key cannot be read by the other user either");
        if find_program("setpriv").is_none() || fs::read("/proc/self/status").is_ok_and(|status| {
            !String::from_utf8_lossy(&status).contains("Uid:\t0\t")
        }) {
            return skip("row_44, as another user", "it takes root and setpriv(1)");
        }
        let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let may_start = std::process::Command::new(words[0]).args(&words[1..]).args([env!("CARGO_BIN_EXE_xps"), "--version"])
            .stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
        if !may_start.is_ok_and(|status| status.success()) {
            return skip("row_44, as another user", "that user cannot start the program");
        }
        let site = Site::launched(backend, &[], |launch| launch.through(words), |root| {
            let mode = |path: &std::path::Path, mode| {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own");
            };
            mode(root.parent().expect("it has one"), 0o755);
            fs::write(root.join("file"), "secret").expect("a file");
            mode(&root.join("file"), 0o600);
            fs::create_dir(root.join("folder")).expect("a folder");
            fs::write(root.join("folder/leaf"), "secret").expect("a file");
            mode(&root.join("folder"), 0o700);
            fs::create_dir(root.join("blind")).expect("a folder");
            fs::write(root.join("blind/leaf"), "seen").expect("a file");
            mode(&root.join("blind"), 0o711);
        });
        for target in ["/file", "/folder/", "/folder/leaf", "/folder/none", "/blind/"] {
            assert_eq!(site.get(target).status, 403, "{target}");
        }
        assert_eq!(site.get("/blind/leaf").text(), "seen");
        assert_eq!(site.get("/none").status, 404);
    }
}
