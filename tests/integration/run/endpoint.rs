//! An upstream that can be unwell, be killed with all its connections, and be revived where it was.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;

use crate::support::Upstream;
use crate::support::upstream::ClosedPort;

/// What health checks ask for.
pub const HEALTH: &str = "/health";

#[derive(Debug)]
pub struct Endpoint {
    /// Held all the time, so that nobody else gets it.
    port: ClosedPort,
    /// While it is alive.
    server: Option<Upstream>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    body: &'static str,
    served: AtomicU64,
    checked: AtomicU64,
    is_unwell: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Endpoint {
    /// One that answers every request with this body.
    pub fn new(body: &'static str) -> Self {
        let shared = Arc::new(Shared { body, ..Shared::default() });
        let port = ClosedPort::new();
        Self { server: Some(serve(port.address(), &shared)), port, shared }
    }

    /// As the configuration names it.
    pub fn to_json(&self) -> Value {
        json!(self.port.address().to_string())
    }

    /// How many requests it has answered, health checks apart.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// How many HTTP health checks it has answered.
    pub fn checked(&self) -> u64 {
        self.shared.checked.load(Ordering::SeqCst)
    }

    /// Whether HTTP health checks hear that it is unwell; other requests are served as ever.
    pub fn set_unwell(&self, is_unwell: bool) {
        self.shared.is_unwell.store(is_unwell, Ordering::SeqCst);
    }

    /// Nobody listens any more, and every connection is reset.
    pub fn kill(&mut self) {
        self.server = None;
        for stream in self.shared.streams.lock().expect("no panic holds it").drain(..) {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// It listens again.
    pub fn revive(&mut self) {
        self.server = Some(serve(self.port.address(), &self.shared));
    }
}

fn serve(address: SocketAddr, shared: &Arc<Shared>) -> Upstream {
    let listener = ClosedPort::at(address).expect("the port is ours").listen();
    let shared = Arc::clone(shared);
    Upstream::on(listener, move |stream, _| {
        if let Ok(clone) = stream.try_clone() {
            shared.streams.lock().expect("no panic holds it").push(clone);
        }
        shared.answer(&stream);
        let _ = stream.shutdown(Shutdown::Both);
    })
}

impl Shared {
    fn answer(&self, mut stream: &TcpStream) {
        let mut requests = BufReader::new(stream);
        while let Some(target) = target(&mut requests) {
            let (status, counter) = match (target == HEALTH, self.is_unwell.load(Ordering::SeqCst)) {
                (true, true) => ("503 Service Unavailable", &self.checked),
                (true, false) => ("200 OK", &self.checked),
                (false, _) => ("200 OK", &self.served),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{}", self.body.len(), self.body);
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The target of the next request; `None` at the connection's end.
fn target(requests: &mut impl BufRead) -> Option<String> {
    let mut request_line = String::new();
    requests.read_line(&mut request_line).ok()?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if requests.read_line(&mut line).ok()? == 0 {
            return None;
        }
    }
    Some(request_line.split(' ').nth(1)?.to_owned())
}
