//! SIGUSR2: a new process takes the place of the old one, and nobody outside notices.

use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::place::{Place, Service, echo, files, is_alive, routes, wait_for_end};
use crate::run::load::withstands;
use crate::run::reload::{proxied, upstream};
use crate::support::client::ping;
use crate::support::process::Signal;
use crate::support::{Backend, Content, assert_same_bytes, backends, connect, eventually, skip};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";
const ENDED: &str = "the new process ended before it served; this one goes on";
const KILLED: &str = "the new process did not come to serve and was killed; this one goes on";

#[track_caller]
fn get(wire: &mut Wire) -> Response {
    wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = wire.response();
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// Asks on a connection that goes on.
#[track_caller]
fn expect_page(wire: &mut Wire, text: &str) {
    let response = get(wire);
    assert_eq!((response.text().as_str(), response.is_last()), (text, false), "{response:?}");
}

/// Asks on a connection of the old process: until each of its workers has heard of the drain it goes on, then it ends in order.
#[track_caller]
fn expect_last_page(wire: &mut Wire, text: &str) {
    eventually("the last answer", || {
        let response = get(wire);
        assert_eq!(response.text(), text);
        response.is_last()
    });
    wire.expect_end();
}

backends! {
    fn the_new_process_reads_the_file_anew_and_the_old_one_ends_by_itself(backend) {
        let place = Place::new(backend);
        place.page("one", "one");
        place.page("two", "two");
        place.configure([files(HERE, "one")]);
        let mut service = place.start();
        let address = service.address();
        expect_page(&mut Wire::to(address), "one");
        place.configure([files(HERE, "two")]);
        service.replace();
        assert_eq!(service.first.wait().code(), Some(0));
        // The very socket: it has the port that the kernel chose for the first process.
        expect_page(&mut Wire::to(address), "two");
        for page in ["one", "two"] {
            let old = service.pid();
            place.configure([files(HERE, page)]);
            service.replace();
            wait_for_end(old);
            expect_page(&mut Wire::to(address), page);
        }
    }

    fn what_is_under_way_is_finished_by_the_old_process(backend) {
        let place = Place::new(backend);
        let content = Content::bytes(5, 48 << 20);
        place.page("large", &content);
        place.configure([files(HERE, "large"), echo(THERE)]);
        let mut service = Service::new(place.launch().listening_on(2).start());
        let (here, there) = (service.address_on(HERE), service.address_on(THERE));
        let mut download = Wire::to(here);
        download.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(download.head_only().length(), Some(content.len() as u64));
        let spoken = connect(there);
        ping(&spoken, b"before");
        service.replace();
        ping(&spoken, b"after");
        ping(&connect(there), b"the new one");
        assert_same_bytes(&download.take(content.len()), &content);
        assert!(service.first.is_running(), "it has connections");
        drop((download, spoken));
        assert_eq!(service.first.wait().code(), Some(0));
        ping(&connect(there), b"still there");
    }

    fn a_request_on_an_idle_connection_of_the_old_process_is_answered_as_its_last(backend) {
        let place = Place::new(backend);
        place.page("files", "here");
        place.configure_with([files(HERE, "files")], |document| {
            document["limits"]["http"] = json!({ "drain_idle_timeout": "20s" });
        });
        let mut service = place.start();
        let mut idle: Vec<Wire> = (0..20).map(|_| Wire::to(service.address())).collect();
        idle.iter_mut().for_each(|wire| expect_page(wire, "here"));
        service.replace();
        for wire in &mut idle {
            expect_last_page(wire, "here");
        }
        assert_eq!(service.first.wait().code(), Some(0));
    }

    fn an_idle_connection_does_not_hold_the_old_process_up(backend) {
        let place = Place::new(backend);
        place.page("files", "here");
        place.configure_with([files(HERE, "files")], |document| {
            document["limits"]["http"] = json!({ "drain_idle_timeout": "200ms" });
        });
        let mut service = place.start();
        let mut idle = Wire::to(service.address());
        expect_page(&mut idle, "here");
        service.replace();
        idle.expect_end();
        assert_eq!(service.first.wait().code(), Some(0));
    }

    fn a_new_process_that_does_not_come_to_serve_leaves_the_old_one_in_place(backend) {
        let place = Place::new(backend);
        place.page("files", "here");
        place.configure([files(HERE, "files")]);
        let mut service = place.start();
        let mut wire = Wire::to(service.address());
        expect_page(&mut wire, "here");
        let missing = routes(HERE, json!([{ "req_path": "/", "type": "file_serve", "dir_path": "missing" }]));
        for bad in [r#"{ "servers": 1 }"#.to_owned(), json!({ "servers": [missing] }).to_string()] {
            let good = std::fs::read_to_string(place.file()).expect("it was written");
            place.write(&bad);
            service.until_told(ENDED, || service.signal(Signal::User2));
            for _ in 0..20 {
                expect_page(&mut Wire::to(service.address()), "here");
            }
            expect_page(&mut wire, "here");
            place.write(&good);
        }
        service.replace();
        expect_last_page(&mut wire, "here");
        assert_eq!(service.first.wait().code(), Some(0));
        expect_page(&mut Wire::to(service.address()), "here");
    }

    fn a_new_process_that_hangs_is_killed_and_the_next_one_may_try(backend) {
        let place = Place::new(backend);
        place.page("files", "here");
        let configure = |timeout: &str| {
            place.configure_with([files(HERE, "files")], |document| {
                document["limits"]["replace_timeout"] = json!(timeout);
            });
        };
        configure("200ms");
        let mut service = place.start();
        let mut wire = Wire::to(service.address());
        expect_page(&mut wire, "here");
        for number in 1..=2 {
            // Nobody ever writes to it, so whoever opens it to read waits.
            std::fs::remove_file(place.file()).expect("it was written");
            let made = Command::new("mkfifo").arg(place.file()).status().expect("mkfifo starts");
            assert!(made.success());
            let begun = service.until_told("a new process takes over", || service.signal(Signal::User2));
            let process = begun.number("process").expect("its number");
            wait_for_end(process);
            eventually("that is told", || service.count(KILLED) == number);
            expect_page(&mut wire, "here");
            expect_page(&mut Wire::to(service.address()), "here");
        }
        // One that only needs its time gets it.
        configure("25s");
        service.reload();
        service.replace();
        expect_last_page(&mut wire, "here");
        assert_eq!(service.first.wait().code(), Some(0));
        expect_page(&mut Wire::to(service.address()), "here");
    }

    fn an_upgraded_connection_outlives_the_replacement(backend) {
        let place = Place::new(backend);
        let origin = upstream("a page");
        place.configure([routes(HERE, json!([proxied("/", &origin)]))]);
        let mut service = place.start();
        let mut upgraded = Wire::to(service.address());
        upgraded.send("GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(upgraded.response().status, 101);
        upgraded.send("before");
        assert_eq!(upgraded.take(6), b"before");
        service.replace();
        // A worker of the old process that has not heard of the drain yet may take a new connection, and answers once.
        eventually("the new process answers", || {
            let response = get(&mut Wire::to(service.address()));
            assert_eq!(response.text(), "a page");
            upgraded.send("after");
            assert_eq!(upgraded.take(5), b"after");
            !response.is_last()
        });
        assert!(service.first.is_running(), "it has a connection");
        drop(upgraded);
        assert_eq!(service.first.wait().code(), Some(0));
    }

    fn the_number_of_workers_may_change(backend) {
        let place = Place::new(backend);
        place.page("files", "here");
        let configure = |workers: u16| {
            place.configure_with([files(HERE, "files")], |document| document["workers"] = json!(workers));
        };
        configure(2);
        let mut service = place.start();
        let address = service.address();
        for workers in [1, 4, 2] {
            configure(workers);
            let old = service.pid();
            service.replace();
            wait_for_end(old);
            // Enough that each of the sockets has its share.
            let mut clients: Vec<Wire> = (0..64).map(|_| Wire::to(address)).collect();
            clients.iter_mut().for_each(|wire| expect_page(wire, "here"));
        }
    }

    fn a_stop_after_a_replacement_stops_the_service(backend) {
        let place = Place::new(backend);
        place.configure([echo(HERE)]);
        let mut service = place.start();
        let address = service.address();
        service.replace();
        assert_eq!(service.first.wait().code(), Some(0));
        ping(&connect(address), b"hello");
        service.signal(Signal::Terminate);
        wait_for_end(service.pid());
        assert!(!is_alive(service.pid()) && TcpStream::connect(address).is_err());
    }

    fn under_load_no_request_fails(backend) {
        let place = Place::new(backend);
        let (small, large) = (vec![b'1'; 100], vec![b'2'; 40_000]);
        place.page("one", &small);
        place.page("two", &large);
        let upstreams = [upstream("first"), upstream("second")];
        let configure = |number: usize| {
            let files = json!({ "req_path": "/", "type": "file_serve", "dir_path": (["one", "two"][number]) });
            place.configure([routes(HERE, json!([files, proxied("/api", &upstreams[number])]))]);
        };
        configure(0);
        let mut service = place.start();
        let pages = [("/page", [small, large]), ("/api", [b"first".to_vec(), b"second".to_vec()])];
        let address = service.address();
        withstands("replacement", address, &pages, 4, |round| {
            configure((round + 1) % 2);
            let old = service.pid();
            service.replace();
            // The next one in line is not held up by it, but so many processes at once would be another test.
            wait_for_end(old);
        });
        assert_eq!(service.first.wait().code(), Some(0));
    }

    fn under_load_the_back_end_may_change(backend) {
        if !has_both(backend) {
            return skip("under_load_the_back_end_may_change", "io_uring is unavailable");
        }
        let place = Place::new(backend);
        let small = vec![b'1'; 100];
        place.page("files", &small);
        let configure = |name: &str| {
            place.configure_with([files(HERE, "files")], |document| document["backend"] = json!(name));
        };
        let (own, other) = if backend == Backend::Epoll { ("epoll", "io_uring") } else { ("io_uring", "epoll") };
        configure(own);
        let mut service = Service::new(place.launch().without_flags().start());
        let pages = [("/page", [small.clone(), small])];
        let address = service.address();
        // Each pair: to the other, on it, back, and on this one.
        let next = [other, other, own, own];
        withstands("replacement by another back-end", address, &pages, 4, |round| {
            configure(next[round % next.len()]);
            let old = service.pid();
            service.replace();
            wait_for_end(old);
        });
        assert_eq!(service.first.wait().code(), Some(0));
    }

    fn under_load_a_replacement_by_another_back_end_may_fail(backend) {
        if !has_both(backend) {
            return skip("under_load_a_replacement_by_another_back_end_may_fail", "io_uring is unavailable");
        }
        let place = Place::new(backend);
        let small = vec![b'1'; 100];
        place.page("files", &small);
        let configure = |name: &str, workers: u32| {
            place.configure_with([files(HERE, "files")], |document| {
                document["backend"] = json!(name);
                document["workers"] = json!(workers);
            });
        };
        let (own, other) = if backend == Backend::Epoll { ("epoll", "io_uring") } else { ("io_uring", "epoll") };
        configure(own, 2);
        // Some workers of the new process have the listeners when there are no descriptors for the rest of them.
        let launch = place.launch().without_flags().with_descriptors_max(160);
        let service = Service::new(launch.start());
        let pages = [("/page", [small.clone(), small])];
        let address = service.address();
        withstands("replacement that fails", address, &pages, 4, |round| {
            configure([other, own][round % 2], 64);
            service.until_told(ENDED, || service.signal(Signal::User2));
        });
        // Not only those who came meanwhile: whoever comes is served at once.
        for _ in 0..20 {
            expect_page(&mut Wire::to(address), &"1".repeat(100));
        }
    }
}

fn has_both(backend: Backend) -> bool {
    backend != Backend::Epoll || Backend::IoUring.is_available()
}
