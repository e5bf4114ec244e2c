//! Unix stream sockets: as upstreams, and to listen on.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::environment::bulk;
use support::{Content, Launch, ask, assert_same_bytes, backends, connect, patience, was_cut};
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
            while let Ok(got @ 1..) = stream.read(&mut bytes) {
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
