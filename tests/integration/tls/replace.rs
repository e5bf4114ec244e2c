//! SIGUSR2: the process that takes over can resume the sessions of the one before.

use std::io::Write;
use std::process::Command;

use rustls::HandshakeKind;

use crate::support::process::Signal;
use crate::support::tls::{Authority, Client, Stream};
use crate::support::{Launch, backends};

/// The process that has taken over. It is ended with this.
struct Successor(u64);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill {}", self.0)]).status();
    }
}

/// A request and its answer, behind which tickets have arrived.
fn exchange(mut stream: Stream) -> Option<HandshakeKind> {
    let request = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it is read");
    let answer = stream.read_rest().expect("an answer that ends with close_notify");
    assert!(answer.ends_with(b"\r\n\r\na page"), "{}", String::from_utf8_lossy(&answer));
    stream.kind()
}

backends! {
    fn a_process_that_takes_over_resumes_sessions(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("page"), "a page").expect("a temporary file");
        let mut xps = Launch::new(backend, ["serve"])
            .flag(folder.path().display())
            .flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"])
            .flag(signed.cert.display())
            .flag("--tls-key")
            .flag(signed.key.display())
            .start();
        let client = Client::trusting(&authority);
        let connect = |address| client.connect(address, "localhost").expect("a handshake");
        assert_eq!(exchange(connect(xps.address())), Some(HandshakeKind::Full));
        assert_eq!(exchange(connect(xps.address())), Some(HandshakeKind::Resumed));
        xps.signal(Signal::User2);
        let begun = xps.log().wait_for("a new process", |record| record.message() == "a new process takes over");
        let _successor = Successor(begun.number("process").expect("its number"));
        assert_eq!(xps.wait().code(), Some(0));
        assert_eq!(exchange(connect(xps.address())), Some(HandshakeKind::Resumed));
    }
}
