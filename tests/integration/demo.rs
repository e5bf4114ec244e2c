//! `xps` alone: the demonstration on its fixed ports, in a network namespace where they are free.
//!
//! The test starts itself again inside the namespace, so that its clients are there too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::support::environment::find_program;
use crate::support::process::{Signal, wait_for_exit};
use crate::support::tls::Client;
use crate::support::{Backend, Launch, ask, backend, connect, patience, read_rest, skip};

const HTTP: u16 = 8001;
const PROXY: u16 = 8002;
const REVERSE: u16 = 8003;
const ECHO: u16 = 8004;
const HTTPS: u16 = 8443;

#[test]
fn five_services_are_offered_over_io_uring() {
    let name = "five_services_are_offered_over_io_uring";
    backend::run(name, Backend::IoUring, |backend| in_namespace(name, || five_services(backend)));
}

#[test]
fn five_services_are_offered_over_epoll() {
    let name = "five_services_are_offered_over_epoll";
    in_namespace(name, || five_services(Backend::Epoll));
}

#[test]
fn the_banner_says_what_to_try() {
    in_namespace("the_banner_says_what_to_try", || {
        let mut process = Launch::new(Backend::Epoll, [""; 0]).command().spawn().expect("the program starts");
        wait_until_all_listen();
        Signal::Terminate.send(&process);
        let status = wait_for_exit(&mut process, patience()).expect("it ends when told to");
        assert_eq!(status.code(), Some(0));
        let mut banner = String::new();
        process.stderr.take().expect("a pipe").read_to_string(&mut banner).expect("text");
        for port in [HTTP, PROXY, REVERSE, ECHO, HTTPS] {
            assert!(banner.contains(&port.to_string()), "port {port} is not in the banner:\n{banner}");
        }
        assert!(banner.contains("epoll"), "the back-end is not in the banner:\n{banner}");
        assert!(banner.contains("https://127.0.0.1:8443/") && banner.contains("  SHA-256 "), "{banner}");
    });
}

#[test]
fn where_a_port_is_taken_the_next_free_one_is_used_and_told() {
    in_namespace("where_a_port_is_taken_the_next_free_one_is_used_and_told", || {
        // Of the first two, and of what would be next; and the last.
        let _taken =
            [HTTP, PROXY, 8005, HTTPS].map(|port| TcpListener::bind(at(port)).expect("a namespace of one's own"));
        let mut process = Launch::new(Backend::Epoll, [""; 0]).command().spawn().expect("the program starts");
        let (http, proxy) = (8006, 8007);
        let https = 8444;
        for port in [http, proxy, REVERSE, ECHO, https] {
            wait_until_it_listens(port);
        }
        assert_eq!(ask(at(ECHO), b"hello"), b"hello", "those that are free are the usual ones");
        let stream = connect(at(proxy));
        (&stream).write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").expect("it is read");
        assert!(read_rest(&stream).starts_with(b"HTTP/1.1 200 OK\r\n"), "the proxy knows where the pages are");
        Signal::Terminate.send(&process);
        let status = wait_for_exit(&mut process, patience()).expect("it ends when told to");
        assert_eq!(status.code(), Some(0));
        let mut banner = String::new();
        process.stderr.take().expect("a pipe").read_to_string(&mut banner).expect("text");
        let moved = format!("{http} in place of {HTTP}, {proxy} in place of {PROXY}, {https} in place of {HTTPS}");
        for told in [moved, format!("127.0.0.1:{http}/ in a"), format!("curl -k https://127.0.0.1:{https}/")] {
            assert!(banner.contains(&told), "{told}:\n{banner}");
        }
    });
}

fn five_services(backend: Backend) {
    let xps = Launch::new(backend, [""; 0]).listening_on(5).start();
    let page = |port| {
        let stream = connect(at(port));
        (&stream).write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").expect("it is read");
        String::from_utf8(read_rest(&stream)).expect("a text for people")
    };
    let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    let direct = page(HTTP);
    assert!(direct.starts_with("HTTP/1.1 200 OK\r\n") && direct.contains("8003"), "a page that explains: {direct}");
    assert_eq!(body(&page(PROXY)), body(&direct), "the proxy stands in front of the pages");
    let mut stream = Client::trusting_anyone().connect(at(HTTPS), "localhost").expect("a handshake");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is read");
    let secure = String::from_utf8(stream.read_rest().expect("an end with close_notify")).expect("a text for people");
    assert_eq!(body(&secure), body(&direct), "the same pages, over TLS");
    assert_eq!(ask(at(REVERSE), b"hello\nworld\n"), b"olleh\ndlrow\n");
    assert_eq!(ask(at(ECHO), b"hello"), b"hello");
    for address in xps.addresses() {
        assert!(address.ip().is_loopback(), "{address} can be reached from outside");
    }
    xps.finish();
}

/// Runs `test` in a network namespace with a loopback of its own, by way of a second run of this program.
fn in_namespace(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    if find_program("unshare").is_none() || find_program("ip").is_none() {
        return skip(name, "unshare or ip is not installed");
    }
    let enter = ["--map-root-user", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];
    let allowed = Command::new("unshare").args(enter).arg("true").stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return skip(name, "network namespaces are not allowed here");
    }
    let this_program = std::env::current_exe().expect("Linux knows the path");
    let output = Command::new("unshare")
        .args(enter)
        .arg(this_program)
        .args(["--exact", &format!("demo::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare starts");
    let (words, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}\n{errors}");
    assert!(words.contains("1 passed"), "the test did not run inside:\n{words}");
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn wait_until_all_listen() {
    [HTTP, PROXY, REVERSE, ECHO, HTTPS].into_iter().for_each(wait_until_it_listens);
}

fn wait_until_it_listens(port: u16) {
    crate::support::eventually("the port is open", || {
        TcpStream::connect(at(port)).is_ok_and(|mut stream| stream.write_all(b"").is_ok())
    });
}

/// Set inside the namespace. Not `XPS_…`: those are the program's own.
const INSIDE: &str = "TEST_INSIDE_NAMESPACE";
