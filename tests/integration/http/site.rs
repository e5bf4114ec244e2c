//! A folder that is served.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::support::{Backend, Launch, Xps};
use crate::wire::{Response, Wire};

/// A running server, and the folder it serves.
#[derive(Debug)]
pub struct Site {
    pub xps: Xps,
    folder: tempfile::TempDir,
}

/// What every site holds, to find out whether a connection goes on.
const PROBE: &str = "the probe's content";

impl Site {
    /// A site with a file `probe` in it.
    #[track_caller]
    pub fn new(backend: Backend, flags: &[&str]) -> Self {
        Self::of(backend, flags, |_| {})
    }

    /// A site that `fill` has filled before the server starts.
    #[track_caller]
    pub fn of(backend: Backend, flags: &[&str], fill: impl FnOnce(&Path)) -> Self {
        Self::launched(backend, flags, |launch| launch, fill)
    }

    /// The same, with more said about how the server is started.
    #[track_caller]
    pub fn launched(
        backend: Backend,
        flags: &[&str],
        launch: impl FnOnce(Launch) -> Launch,
        fill: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("a folder in it");
        std::fs::write(root.join("probe"), PROBE).expect("a file in it");
        fill(&root);
        let mut words = vec!["serve", root.to_str().expect("a path of text"), "--listen", "127.0.0.1:0"];
        if !flags.contains(&"--access-log") {
            words.extend(["--access-log", "off"]);
        }
        words.extend(flags);
        let xps = launch(Launch::new(backend, words).over_what_is_asked()).start();
        Self { xps, folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.xps.address()
    }

    /// The URL of a target, for other programs.
    pub fn url(&self, target: &str) -> String {
        let scheme = if self.xps.encryption().is_some() { "https" } else { "http" };
        format!("{scheme}://{}{target}", self.address())
    }

    /// The flag with which other programs trust the server, if tests run over TLS.
    pub fn trust_flag(&self, name: &str) -> Option<String> {
        self.xps.encryption().map(|encryption| format!("--{name}={}", encryption.ca().display()))
    }

    /// A file or folder in the folder that is served.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    /// Writes a file into the folder that is served.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a temporary file");
    }

    /// A new connection.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::to(self.address())
    }

    /// The answer to GET, on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.get_with(target, "")
    }

    /// The same, with further field lines.
    #[track_caller]
    pub fn get_with(&self, target: &str, lines: &str) -> Response {
        self.ask("GET", target, lines)
    }

    /// The answer to HEAD.
    #[track_caller]
    pub fn head(&self, target: &str, lines: &str) -> Response {
        self.ask("HEAD", target, lines)
    }

    /// The answer to a request without a body, on a connection that ends with it.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, lines: &str) -> Response {
        let mut wire = self.wire();
        wire.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{lines}Connection: close\r\n\r\n"));
        let response = wire.read(method == "HEAD").unwrap_or_else(|| panic!("no answer to {method} {target}"));
        wire.expect_end();
        response
    }

    /// Sends bytes that hold one request, and says whether the connection goes on after its answer. The probe that
    /// finds it out may not be answered unless it does.
    #[track_caller]
    pub fn fate(&self, request: &[u8]) -> (Response, Fate) {
        let mut wire = self.wire();
        wire.send(request);
        let is_head = request.trim_ascii_start().starts_with(b"HEAD ");
        let text = || String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let response = wire.read(is_head).unwrap_or_else(|| panic!("no answer to {:?}", text()));
        if response.is_last() {
            // Who has said that this was the last may find the connection closed, and nothing to send to.
            if !has_said_last(request) {
                wire.send(PROBE_REQUEST);
            }
            wire.expect_end();
            return (response, Fate::Closed);
        }
        expect_probe(&mut wire);
        (response, Fate::Kept)
    }
}

/// Whether the client itself declared the request its last (RFC 9112, 9.6).
fn has_said_last(request: &[u8]) -> bool {
    let head = String::from_utf8_lossy(request).to_ascii_lowercase();
    head.contains("http/1.0\r\n") || head.contains("close")
}

/// Asks for the probe, and checks that the connection still carries a request and its answer.
#[track_caller]
pub fn expect_probe(wire: &mut Wire) {
    wire.send(PROBE_REQUEST);
    let probe = wire.response();
    assert_eq!((probe.status, probe.text().as_str()), (200, PROBE));
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It takes another request.
    Kept,
    /// It ends in order, and nothing more is answered.
    Closed,
}

/// A request for a file that is always there.
pub const PROBE_REQUEST: &str = "GET /probe HTTP/1.1\r\nHost: h\r\n\r\n";
