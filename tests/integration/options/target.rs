//! A command in a folder of its own, ready to be started with an option.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::files::write_sparse;
use crate::support::{Backend, Launch, Upstream, Xps, connect};

/// More than all sockets on the way hold (tcp_rmem and tcp_wmem of tcp(7)).
pub const BIG_BYTES: u64 = 256 << 20;

/// A command, and what it needs.
pub struct Case {
    /// Its first word; empty: the demonstration.
    pub command: &'static str,
    pub is_http: bool,
    pub backend: Backend,
    pub folder: TempDir,
    upstream: Upstream,
}

/// Where a server's services are, as far as it has them.
pub struct Running {
    pub xps: Xps,
    /// Files: `/page`, and `/big`.
    pub http: Option<SocketAddr>,
    /// The same, and more, from an upstream.
    pub proxied: Option<SocketAddr>,
    /// What comes back: as it is, reversed, from an upstream.
    pub stream: Option<SocketAddr>,
    pub reverse: Option<SocketAddr>,
    /// Bytes of a file without an end that a client sees soon.
    pub download: Option<SocketAddr>,
}

impl Case {
    pub fn new(command: &'static str, backend: Backend) -> Self {
        let mut words = command.split(' ');
        let (command, is_http) = (words.next().unwrap_or_default(), words.next() == Some("--http"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let public = folder.path().join("public");
        fs::create_dir(&public).expect("a folder");
        fs::write(public.join("page"), "page").expect("a file");
        write_sparse(&public.join("big"), BIG_BYTES);
        let upstream = if is_http || command == "run" { origin() } else { Upstream::echo() };
        Self { command, is_http, backend, folder, upstream }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with these words for where to listen, without a back-end or anything else besides.
    pub fn words(&self, listen: &str) -> Vec<String> {
        let upstream = self.upstream.address().to_string();
        let words: &[&str] = match self.command {
            "echo" | "reverse" => &[self.command, listen],
            "send" => &["send", "public/big", "--listen", listen],
            "receive" => &["receive", "received", "--keep", "--listen", listen],
            "serve" => &["serve", "public", "--listen", listen, "--access-log", "off"],
            "proxy" if self.is_http => {
                &["proxy", "--http", "--listen", listen, "--upstream", &upstream, "--access-log", "off"]
            }
            "proxy" => &["proxy", "--listen", listen, "--upstream", &upstream],
            "run" => {
                self.configure(|_| {});
                &["run"]
            }
            command => panic!("`{command}` is not started so"),
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Writes the configuration file of `run`, after `change` has been at it.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let server = |host: &str, more: Value| {
            let mut server = json!({ "listeners": [{ "host": host, "port": 0 }] });
            let members = more.as_object().expect("an object").clone();
            server.as_object_mut().expect("an object").extend(members);
            server
        };
        let files = json!([{ "req_path": "/", "type": "file_serve", "dir_path": "public" }]);
        let proxied =
            json!([{ "req_path": "/", "type": "reverse_proxy", "upstreams": [self.upstream.address().to_string()] }]);
        let mut document = json!({
            "access_log": "off",
            // The profile `expserver` has them on one port, which several tests at once cannot have.
            "metrics": false,
            "servers": [
                server("127.0.0.1", json!({ "routes": files })),
                server("127.0.0.2", json!({ "routes": proxied })),
                server("127.0.0.3", json!({ "protocol": "tcp", "handler": "reverse" })),
                server("127.0.0.4", json!({ "protocol": "tcp", "handler": "echo" })),
            ],
        });
        change(&mut document);
        fs::write(self.path("xps_config.json"), document.to_string()).expect("a file");
    }

    /// The command with these flags, ready to start.
    pub fn launch(&self, flags: &[&str]) -> Launch {
        let words = if self.command.is_empty() { Vec::new() } else { self.words("127.0.0.1:0") };
        let listeners = match self.command {
            "" => 5,
            "run" => 4,
            _ => 1,
        };
        let launch = Launch::new(self.backend, words).flags(flags.iter().copied());
        launch.in_folder(self.folder.path()).listening_on(listeners)
    }

    /// Two demonstrations that start in the same moment would choose the same ports.
    pub fn alone(&self) -> Option<MutexGuard<'static, ()>> {
        static DEMONSTRATIONS: Mutex<()> = Mutex::new(());
        self.command.is_empty().then(|| DEMONSTRATIONS.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn start(&self, flags: &[&str]) -> Running {
        self.start_after(flags, || {})
    }

    /// The same, after something has been done to the configuration file.
    pub fn start_after(&self, flags: &[&str], prepare: impl Fn()) -> Running {
        let _alone = self.alone();
        for _ in 0..10 {
            let launch = self.launch(flags);
            prepare();
            match launch.try_start() {
                Ok(xps) => return self.running(xps),
                // Others on this machine may take the ports of a demonstration, too.
                Err(refusal) if self.command.is_empty() && refusal.log.to_string().contains("ss -ltnp") => {}
                Err(refusal) => panic!("`{}` did not start: {}\n{}", self.command, refusal.status, refusal.log),
            }
        }
        panic!("the ports are always taken");
    }

    /// Where the services of a started server are.
    fn running(&self, xps: Xps) -> Running {
        let first = Some(xps.address());
        let mut running = Running { http: None, proxied: None, stream: None, reverse: None, download: None, xps };
        match self.command {
            "echo" => running.stream = first,
            "reverse" => (running.stream, running.reverse) = (first, first),
            "send" => running.download = first,
            // It answers nothing.
            "receive" => {}
            "serve" => running.http = first,
            "proxy" if self.is_http => running.proxied = first,
            "proxy" => running.stream = first,
            "run" => {
                let on = |last: u8| {
                    let ip = std::net::IpAddr::from([127, 0, 0, last]);
                    running.xps.addresses().iter().copied().find(|address| address.ip() == ip)
                };
                let addresses = [1, 2, 3, 4].map(on);
                [running.http, running.proxied, running.reverse, running.stream] = addresses;
            }
            _ => {
                let addresses: Vec<_> = running.xps.addresses().iter().copied().map(Some).collect();
                let _https;
                [running.http, running.proxied, running.reverse, running.stream, _https] =
                    addresses.try_into().expect("five");
            }
        }
        running
    }
}

impl Running {
    /// A connection that was served, and stays.
    pub fn served(&self) -> TcpStream {
        let stream = connect(self.any());
        self.ask(&stream);
        self.answered(&stream);
        stream
    }

    pub fn any(&self) -> SocketAddr {
        self.stream.or(self.download).or(self.http).or(self.proxied).expect("it has a service")
    }

    pub fn any_http(&self) -> SocketAddr {
        self.http.or(self.proxied).expect("it speaks HTTP")
    }

    /// Asks for what comes back, whatever that is.
    pub fn ask(&self, mut stream: &TcpStream) {
        if self.stream.is_some() {
            stream.write_all(b"x\n").expect("it is read");
        } else if self.download.is_none() {
            stream.write_all(GET_PAGE).expect("it is read");
        }
    }

    /// Waits for the beginning of it.
    pub fn answered(&self, mut stream: &TcpStream) {
        std::io::Read::read_exact(&mut stream, &mut [0]).expect("an answer");
    }
}

pub const GET_PAGE: &[u8] = b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n";

/// An HTTP upstream: `/big` is endless, `/silent` is never answered, bodies are read as they come.
fn origin() -> Upstream {
    Upstream::new(|stream, _| serve(&stream))
}

fn serve(stream: &TcpStream) {
    let mut requests = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !requests.read_line(&mut head).is_ok_and(|count| count > 0) {
                return;
            }
        }
        let mut answer = stream;
        if head.starts_with("POST ") || head.starts_with("GET /silent") {
            return drop(std::io::copy(&mut requests, &mut std::io::sink()));
        }
        let length = if head.starts_with("GET /big") { BIG_BYTES } else { 4 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        if answer.write_all(head.as_bytes()).is_err() {
            return;
        }
        let piece = vec![b'.'; usize::try_from(length.min(1 << 20)).expect("it is small")];
        for _ in 0..length.div_ceil(piece.len() as u64) {
            if answer.write_all(&piece).is_err() {
                return;
            }
        }
    }
}
