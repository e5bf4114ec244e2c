//! Requests over TLS without pause, while certificates are swapped and a new process takes over: each is
//! answered, and sessions are resumed throughout.
//!
//! `XPS_LOAD_REQUESTS=100000` makes so many instead of 4,000.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::place::{Place, Service};
use crate::support::environment::report;
use crate::support::tls::{Authority, Client, Signed, Stream};
use crate::support::{backends, patience};

/// Clients that keep their connections, and clients that open one for each request, of each version.
const KEEPING: usize = 2;
const OPENING: usize = 1;

/// Requests on a connection that is kept.
const KEPT_FOR: usize = 200;

/// How often the certificate is swapped. After half of them, a new process takes over.
const SWAPS: u64 = 6;

const NAME: &str = "localhost";
const PAGE: &[u8] = &[b'x'; 612];

fn wanted() -> u64 {
    let wanted =
        std::env::var("XPS_LOAD_REQUESTS").map(|number| number.parse().expect("XPS_LOAD_REQUESTS is a number"));
    wanted.unwrap_or(4_000)
}

backends! {
    fn no_request_is_lost_under_load_while_certificates_and_the_process_change(backend) {
        let authority = Authority::new();
        let place = Place::new(backend);
        place.page("files", PAGE);
        let Signed { cert, key, .. } = authority.signed(&[NAME]);
        place.configure([json!({
            "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": { "certificates": [{ "cert": cert, "key": key }] } }],
            "routes": [{ "req_path": "/", "type": "file_serve", "dir_path": "files" }],
        })]);
        let mut service = place.start();
        let load = Load::new(service.address(), &authority);
        let since = Instant::now();
        thread::scope(|scope| {
            let load = &load;
            let _end = End(&load.is_over);
            for client in &load.clients {
                for _ in 0..KEEPING {
                    scope.spawn(move || load.repeat(|| load.keep(client)));
                }
                for _ in 0..OPENING {
                    scope.spawn(move || load.repeat(|| load.open(client)));
                }
            }
            for swap in 1..=SWAPS {
                load.wait_until_answered(wanted() * swap / (SWAPS + 1));
                swap_certificate(&authority, &service);
                if swap == SWAPS / 2 {
                    take_over(&authority, &mut service);
                }
            }
            load.wait_until_answered(wanted());
        });
        load.assert_none_lost();
        assert_eq!(service.first.wait().code(), Some(0), "the old process has ended in order");
        let Load { answered, resumed, full, .. } = load;
        let [answered, resumed, full] = [answered, resumed, full].map(AtomicU64::into_inner);
        report(&format!(
            "TLS over {backend:?}: {answered} requests, {SWAPS} swaps of the certificate, 1 replacement, {:?}, 0 lost; \
             {resumed} handshakes resumed, {full} full",
            since.elapsed()
        ));
        assert!(resumed > full, "sessions are resumed");
    }
}

/// Renews the certificate and has the server take it: who resumes nothing gets the new one.
#[track_caller]
fn swap_certificate(authority: &Authority, service: &Service) {
    let signed = authority.signed(&[NAME]);
    service.reload();
    let stream = Client::trusting(authority).forgetful().connect(service.address(), NAME).expect("a handshake");
    assert_eq!(stream.certificate(), Some(&signed.der), "the new certificate");
}

/// Has a new process take over: it resumes what the old one began.
#[track_caller]
fn take_over(authority: &Authority, service: &mut Service) {
    let clients = [&TLS12, &TLS13].map(|version| Client::trusting(authority).speaking(version));
    let kinds = |service: &Service| {
        clients.each_ref().map(|client| {
            let mut stream = client.connect(service.address(), NAME).expect("a handshake");
            exchange(&mut stream, true).expect("an answer");
            stream.kind()
        })
    };
    assert_eq!(kinds(service), [Some(HandshakeKind::Full); 2]);
    service.replace();
    assert_eq!(kinds(service), [Some(HandshakeKind::Resumed); 2], "tickets of the process before");
}

struct Load {
    address: SocketAddr,
    /// One for each version. Their connections share what they can resume.
    clients: [Client; 2],
    asked: AtomicU64,
    answered: AtomicU64,
    resumed: AtomicU64,
    full: AtomicU64,
    lost: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// Ends the load, also when a disturbance fails.
struct End<'l>(&'l AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn new(address: SocketAddr, authority: &Authority) -> Self {
        Self {
            address,
            clients: [&TLS12, &TLS13].map(|version| Client::trusting(authority).speaking(version)),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            full: AtomicU64::new(0),
            lost: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Does this again and again. What goes wrong is noted, and ends it.
    fn repeat(&self, act: impl Fn() -> io::Result<()>) {
        while !self.is_over() {
            if let Err(error) = act() {
                return self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        }
    }

    /// One request after the other on a connection, for as long as the server lets it.
    fn keep(&self, client: &Client) -> io::Result<()> {
        let mut stream = self.connect(client)?;
        for count in 1.. {
            let is_last = count == KEPT_FOR || self.is_over();
            if self.ask(&mut stream, is_last)? {
                break;
            }
        }
        Ok(())
    }

    /// A connection for one request.
    fn open(&self, client: &Client) -> io::Result<()> {
        let mut stream = self.connect(client)?;
        self.ask(&mut stream, true).map(drop)
    }

    fn connect(&self, client: &Client) -> io::Result<Stream> {
        let stream = client.connect(self.address, NAME)?;
        let is_resumed = stream.kind() == Some(HandshakeKind::Resumed);
        let kind = if is_resumed { &self.resumed } else { &self.full };
        kind.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    fn ask(&self, stream: &mut Stream, is_last: bool) -> io::Result<bool> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let has_ended = exchange(stream, is_last)?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(has_ended)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Waits for so many answers. As long as there are more of them, it takes what it takes.
    #[track_caller]
    fn wait_until_answered(&self, wanted: u64) {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let answered = self.answered.load(Ordering::Relaxed);
            let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            if answered >= wanted || !lost.is_empty() {
                return;
            }
            drop(lost);
            if answered > before {
                (before, since) = (answered, Instant::now());
            }
            assert!(since.elapsed() < patience(), "no answer any more after {answered}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn assert_none_lost(&self) {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let [asked, answered] = [&self.asked, &self.answered].map(|count| count.load(Ordering::Relaxed));
        assert!(lost.is_empty() && asked == answered, "{asked} requests, {answered} answers: {lost:?}");
    }
}

/// A request and its answer. Returns whether the server has ended the connection after it, in order.
fn exchange(stream: &mut Stream, is_last: bool) -> io::Result<bool> {
    let field = if is_last { "Connection: close\r\n" } else { "" };
    stream.write_all(format!("GET /page HTTP/1.1\r\nHost: {NAME}\r\n{field}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(PAGE) {
        match stream.read(&mut piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an end in place of an answer")),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    let head = String::from_utf8_lossy(&answer[..answer.len() - PAGE.len()]);
    if !(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n")) {
        return Err(io::Error::other(format!("another answer: {head}")));
    }
    let has_ended = head.contains("\r\nConnection: close\r\n");
    if has_ended && !stream.read_rest()?.is_empty() {
        return Err(io::Error::other("more than an answer"));
    }
    Ok(has_ended)
}
