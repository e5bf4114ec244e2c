//! Unix stream sockets: as upstreams, and to listen on.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::environment::{bulk, find_program};
use crate::support::process::Signal;
use crate::support::{
    Backend, Content, Launch, ask, assert_same_bytes, backends, connect, eventually, patience, skip, uninterrupted,
    was_cut,
};
use tempfile::TempDir;

/// A server on a unix socket that runs a function for each connection, on a thread of its own.
struct Upstream {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Upstream {
    fn new(serve: impl Fn(UnixStream) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upstream");
        let listener = UnixListener::bind(&path).expect("a new file");
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, serve) = (Arc::clone(&stopping), Arc::new(serve));
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
                stream.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { path, stopping, acceptor: Some(acceptor), _folder: folder }
    }

    /// Sends back what comes, until the end of input.
    fn echo() -> Self {
        Self::new(|mut stream| {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(got @ 1..) = uninterrupted(|| stream.read(&mut bytes)) {
                if stream.write_all(&bytes[..got]).is_err() {
                    return;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Answers each request, which must have no body, with its own head.
    fn http() -> Self {
        Self::new(|mut stream| {
            let mut head = Vec::new();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
                if head.ends_with(b"\r\n\r\n") {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
                    if stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&head)).is_err() {
                        return;
                    }
                    head.clear();
                }
            }
        })
    }

    fn address(&self) -> String {
        address_of(&self.path)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the acceptor.
        let _ = UnixStream::connect(&self.path);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn address_of(path: &Path) -> String {
    format!("unix:{}", path.display())
}

mod upstream {
    use super::*;

    backends! {
        fn bytes_reach_it_and_come_back(backend) {
            let upstream = Upstream::echo();
            let xps = Launch::proxy(backend, upstream.address()).start();
            for seed in 0..3 {
                let content = Content::bytes(seed, bulk(8 << 20) + 3);
                assert_same_bytes(&ask(xps.address(), &content), &content);
            }
        }

        fn connect_joins_it_to_the_terminal(backend) {
            let upstream = Upstream::echo();
            let content = Content::bytes(1, 300_000);
            let finished = Launch::new(backend, ["connect"]).flag(upstream.address()).run(&content);
            assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
            assert_same_bytes(&finished.output, &content);
        }

        fn http_requests_are_forwarded_to_it(backend) {
            let upstream = Upstream::http();
            let xps = Launch::proxy(backend, upstream.address()).flag("--http").start();
            let answer = ask(xps.address(), b"GET /a HTTP/1.1\r\nHost: example.org\r\n\r\nGET /b HTTP/1.0\r\n\r\n");
            let answer = String::from_utf8(answer).expect("text");
            assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answer}");
            assert!(answer.contains("GET /a HTTP/1.1\r\nHost: example.org\r\n"), "{answer}");
            // A client that names no host has one chosen for it, and a path is none (RFC 9112, 3.2).
            assert!(answer.contains("GET /b HTTP/1.1\r\nHost: localhost\r\n"), "{answer}");
        }

        fn one_that_is_not_there_is_a_bad_gateway(backend) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let xps = Launch::proxy(backend, address_of(&folder.path().join("nobody"))).flag("--http").start();
            let answer = ask(xps.address(), b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            assert!(answer.starts_with(b"HTTP/1.1 502 "), "{}", String::from_utf8_lossy(&answer));
        }

        fn connect_says_what_is_not_there(backend) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("nobody");
            let finished = Launch::new(backend, ["connect"]).flag(address_of(&path)).run(b"");
            assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
            assert!(finished.errors.contains(path.to_str().expect("text")), "says where: {}", finished.errors);
            assert!(finished.errors.contains("No such file"), "says why: {}", finished.errors);
        }

        fn one_that_accepts_nothing_is_given_up(backend) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("full");
            let listener = UnixListener::bind(&path).expect("a new file");
            // Again, with the shortest backlog there is.
            socket2::SockRef::from(&listener).listen(0).expect("it is bound");
            let _waiting = UnixStream::connect(&path).expect("one fits");
            let xps = Launch::proxy(backend, address_of(&path)).flags(["--connect-timeout", "300ms"]).start();
            let since = Instant::now();
            assert!(was_cut(&connect(xps.address())));
            assert!(since.elapsed() >= Duration::from_millis(250), "given up after {:?} already", since.elapsed());
        }
    }
}

mod listener {
    use super::*;

    /// A place for a socket.
    struct Place {
        path: PathBuf,
        folder: TempDir,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            Self { path: folder.path().join("xps.sock"), folder }
        }

        fn echo(&self, backend: Backend) -> Launch {
            Launch::new(backend, ["echo"]).flag(address_of(&self.path))
        }
    }

    /// A process that nobody waits for; told to end when dropped.
    struct Successor(u64);

    impl Drop for Successor {
        fn drop(&mut self) {
            let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.0)]).status();
        }
    }

    #[track_caller]
    fn join(path: &Path) -> UnixStream {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
        stream.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
        stream
    }

    /// Sends all of it while it reads the answer to its end.
    #[track_caller]
    fn exchange(path: &Path, request: &[u8]) -> Vec<u8> {
        let stream = join(path);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (&stream).write_all(request).expect("the server takes the request");
                stream.shutdown(Shutdown::Write).expect("the connection is still there");
            });
            let mut answer = Vec::new();
            (&stream).read_to_end(&mut answer).expect("an orderly end");
            answer
        })
    }

    #[track_caller]
    fn ping(mut stream: &UnixStream) {
        stream.write_all(b"ping").expect("the server takes the message");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"ping");
    }

    backends! {
        fn bytes_come_back_from_an_echo(backend) {
            let place = Place::new();
            let xps = place.echo(backend).start();
            assert_eq!(xps.path(), place.path);
            for seed in 0..3 {
                let content = Content::bytes(seed, bulk(8 << 20) + 1);
                assert_same_bytes(&exchange(&place.path, &content), &content);
            }
        }

        fn workers_share_it(backend) {
            let place = Place::new();
            let _xps = place.echo(backend).flags(["--workers", "3"]).start();
            let clients: Vec<UnixStream> = (0..100).map(|_| join(&place.path)).collect();
            clients.iter().for_each(ping);
        }

        fn workers_at_their_limit_leave_the_rest_to_the_others(backend) {
            let place = Place::new();
            let config = place.folder.path().join("xps_config.json");
            let document = serde_json::json!({
                "workers": 3,
                "limits": { "connections_max": 4 },
                "servers": [{ "listeners": [{ "unix": "xps.sock" }], "protocol": "tcp", "handler": "echo" }],
            });
            fs::write(&config, document.to_string()).expect("a temporary file");
            let _xps = Launch::new(backend, ["run"]).flag(config.display()).start();
            let clients: Vec<UnixStream> = (0..12).map(|_| join(&place.path)).collect();
            clients.iter().for_each(ping);
        }

        fn a_proxy_joins_two_paths(backend) {
            let place = Place::new();
            let upstream = Upstream::echo();
            let _xps = Launch::new(backend, ["proxy", "--listen"])
                .flag(address_of(&place.path))
                .flags(["--upstream".to_owned(), upstream.address()])
                .start();
            let content = Content::bytes(7, bulk(8 << 20) + 1);
            assert_same_bytes(&exchange(&place.path, &content), &content);
        }

        fn curl_gets_files_from_it(backend) {
            let Some(curl) = find_program("curl") else {
                return skip("curl_gets_files_from_it", "curl is not installed");
            };
            let place = Place::new();
            let content = Content::bytes(3, bulk(4 << 20) + 1);
            fs::write(place.folder.path().join("file.bin"), &content).expect("a temporary file");
            let _xps = Launch::new(backend, ["serve"])
                .flag(place.folder.path().display())
                .flags(["--access-log", "off", "--listen"])
                .flag(address_of(&place.path))
                .start();
            let output = Command::new(curl)
                .args(["-q", "-sS", "--fail", "--max-time", "30", "--unix-socket"])
                .arg(&place.path)
                .arg("http://localhost/file.bin")
                .output()
                .expect("curl starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_same_bytes(&output.stdout, &content);
        }

        fn its_file_has_the_mode_that_was_asked_for(backend) {
            let place = Place::new();
            let _xps = place.echo(backend).flags(["--socket-mode", "0602"]).start();
            let mode = fs::metadata(&place.path).expect("the socket's file").permissions().mode();
            assert_eq!(mode & 0o777, 0o602);
        }

        fn its_file_is_there_until_the_last_connection_has_ended(backend) {
            let place = Place::new();
            let mut xps = place.echo(backend).flags(["--drain-timeout", "60s"]).start();
            let stream = join(&place.path);
            ping(&stream);
            xps.signal(Signal::Terminate);
            eventually("nobody listens", || UnixStream::connect(&place.path).is_err());
            ping(&stream);
            assert!(place.path.exists());
            drop(stream);
            assert_eq!(xps.wait().code(), Some(0));
            assert!(!place.path.exists());
        }

        fn a_file_that_a_killed_server_left_is_replaced(backend) {
            let place = Place::new();
            drop(UnixListener::bind(&place.path).expect("a new file"));
            let xps = place.echo(backend).start();
            assert_eq!(exchange(&place.path, b"alive"), b"alive");
            xps.finish();
            assert!(!place.path.exists());
        }

        fn a_path_on_which_another_server_listens_is_taken(backend) {
            let place = Place::new();
            let _first = place.echo(backend).start();
            let second = place.echo(backend).run(b"");
            assert_eq!(second.status.code(), Some(1), "{}", second.errors);
            assert!(second.errors.contains("another server listens there"), "{}", second.errors);
            assert!(second.errors.contains(&address_of(&place.path)), "{}", second.errors);
            assert_eq!(exchange(&place.path, b"unharmed"), b"unharmed");
        }

        fn a_file_that_is_no_socket_is_left_alone(backend) {
            let place = Place::new();
            fs::write(&place.path, "precious").expect("a temporary file");
            let refused = place.echo(backend).run(b"");
            assert_eq!(refused.status.code(), Some(1), "{}", refused.errors);
            assert!(refused.errors.contains("not a socket"), "{}", refused.errors);
            assert_eq!(fs::read(&place.path).expect("it is still there"), b"precious");
        }

        fn a_server_that_drains_leaves_the_path_to_the_next(backend) {
            let place = Place::new();
            let mut first = place.echo(backend).flags(["--drain-timeout", "60s"]).start();
            let stream = join(&place.path);
            ping(&stream);
            first.signal(Signal::Terminate);
            eventually("nobody listens", || UnixStream::connect(&place.path).is_err());
            let second = place.echo(backend).start();
            drop(stream);
            assert_eq!(first.wait().code(), Some(0));
            assert_eq!(exchange(&place.path, b"the next"), b"the next");
            second.finish();
            assert!(!place.path.exists());
        }

        fn a_successor_takes_the_socket_and_its_file_over(backend) {
            let place = Place::new();
            let mut xps = place.echo(backend).flags(["--workers", "2", "--drain-timeout", "60s"]).start();
            let stream = join(&place.path);
            ping(&stream);
            xps.signal(Signal::User2);
            let successor = Successor(xps.log().wait_until("a successor", |records| {
                let told = records.iter().find(|record| record.message() == "a new process takes over");
                told.and_then(|record| record.number("process"))
            }));
            xps.log().wait_until("the first one drains", |records| {
                records.iter().any(|record| record.message() == "draining").then_some(())
            });
            assert_eq!(exchange(&place.path, b"the next"), b"the next");
            drop(stream);
            assert_eq!(xps.wait().code(), Some(0));
            assert_eq!(exchange(&place.path, b"still there"), b"still there");
            drop(successor);
            eventually("the file is gone", || !place.path.exists());
        }

        fn a_path_that_is_too_long_is_a_mistake_with_words(backend) {
            let long = format!("unix:/{}", "a".repeat(107));
            let refused = Launch::new(backend, ["echo"]).flag(long).run(b"");
            assert_eq!(refused.status.code(), Some(2), "{}", refused.errors);
            assert!(refused.errors.contains("107 bytes at most"), "{}", refused.errors);
        }
    }
}
