//! What a run is about: who comes, what they do, and what they should get.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xps::internals::config::{HttpLimits, Limits};
use xps::internals::driver::sim::{Behaviour, Faults, Rng, Step};

use crate::forward::{self, Ask, Forwarding};
use crate::h2::record::Log;
use crate::h2::reference::Reference;
use crate::tls::Encryption;

/// Everything about a run that follows from its seed.
#[derive(Debug)]
pub struct Scenario {
    pub seed: u64,
    pub faults: Faults,
    pub limits: Limits,
    pub clients: Vec<Client>,
    pub forwarding: Forwarding,
    pub stop: Stop,
    /// Who speaks TLS; `None`: nobody.
    pub tls: Option<Encryption>,
    /// Clients of HTTP/2 are passed on to a reference server each: these runs are about the clients and their judge.
    pub reference: Option<Reference>,
}

/// How much trouble a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Polite clients and no faults: whatever goes wrong was planted.
    Calm,
    /// Whatever the seed says.
    Any,
}

/// When the worker is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// When every peer is done. No time-out is set, so nothing may depend on one.
    WhenDone,
    /// When every peer is done or stuck for good; time-outs deal with those.
    WhenDoneOrStuck,
    /// In the middle, at this time.
    At(Duration),
}

/// A client, and the service it comes for.
#[derive(Debug)]
pub struct Client {
    pub service: Service,
    pub after: Duration,
    pub steps: Vec<Step>,
    /// What its steps send.
    pub payload: Vec<u8>,
    /// Whether it sends everything and reads to the end.
    pub is_polite: bool,
    /// Whether it reads to the end, whatever its upstream does.
    pub reads_all: bool,
    /// What it keeps of its connection, if it speaks HTTP/2: its payload is not drawn before then.
    pub http2: Option<Log>,
}

impl Client {
    /// One for a scenario that is not drawn: it comes at once, sends `payload`, and then goes through these steps.
    pub fn alone(service: Service, payload: Vec<u8>, then: Vec<Step>) -> Self {
        let sends = (!payload.is_empty()).then(|| Step::Send(payload.clone()));
        let steps = sends.into_iter().chain(then).collect();
        Self { service, after: Duration::ZERO, steps, payload, is_polite: false, reads_all: true, http2: None }
    }
}

/// What it comes for.
#[derive(Clone, Debug)]
pub enum Service {
    Echo,
    Reverse,
    Text,
    File(FileCase),
    Proxy(Upstream),
    /// Files over HTTP, asked for one after the other on one connection.
    Http(Vec<Request>),
    /// Requests for the servers behind the proxy.
    Forward(Vec<Ask>),
}

/// One request, and what the model says comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Get(FileCase),
    Head(FileCase),
    Part {
        offset: usize,
        length: usize,
    },
    /// With a body that nobody wants.
    Post {
        length: usize,
        is_chunked: bool,
    },
    /// Not HTTP: the last that is answered in HTTP/1.1.
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileCase {
    Large,
    Small,
    Empty,
    Missing,
    Outside,
    Folder,
}

/// A server behind the proxy; each client that is proxied has its own.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub behaviour: Behaviour,
    pub addresses: Vec<IpAddr>,
    /// What it sends, unless it echoes.
    pub answer: Reply,
    /// Whether it reads everything and answers in full.
    pub is_polite: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Echo,
    Bytes(Vec<u8>),
}

impl Request {
    pub fn bytes(self) -> Vec<u8> {
        let plain =
            |method: &str, path: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nHost: sim\r\n{more}\r\n");
        match self {
            Self::Get(case) => plain("GET", case.target(), ""),
            Self::Head(case) => plain("HEAD", case.target(), ""),
            Self::Part { offset, length } => {
                plain("GET", FileCase::Large.target(), &format!("Range: bytes={offset}-{}\r\n", offset + length - 1))
            }
            Self::Post { length, is_chunked: false } => {
                plain("POST", "/empty", &format!("Content-Length: {length}\r\n")) + &"x".repeat(length)
            }
            Self::Post { length, is_chunked: true } => {
                let body = format!("{length:x}\r\n{}\r\n0\r\n\r\n", "y".repeat(length));
                plain("POST", "/empty", "Transfer-Encoding: chunked\r\n") + &body
            }
            Self::Garbage => "GET /\r\n\r\n".to_owned(),
        }
        .into_bytes()
    }

    /// The status, and the body unless it is a page of words.
    pub fn expected(self) -> (u16, Option<Vec<u8>>) {
        let of_file = |case| match case {
            FileCase::Large | FileCase::Small | FileCase::Empty => (200, Some(case.bytes())),
            FileCase::Missing => (404, None),
            FileCase::Outside => (400, None),
            FileCase::Folder => (301, Some(Vec::new())),
        };
        match self {
            Self::Get(case) => of_file(case),
            Self::Head(case) => (of_file(case).0, Some(Vec::new())),
            Self::Part { offset, length } => (206, Some(FileCase::Large.bytes()[offset..offset + length].to_vec())),
            Self::Post { .. } => (405, None),
            Self::Garbage => (400, None),
        }
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let cases = [
            FileCase::Small,
            FileCase::Small,
            FileCase::Large,
            FileCase::Empty,
            FileCase::Missing,
            FileCase::Outside,
            FileCase::Folder,
        ];
        let case = cases[rng.below(cases.len() as u64) as usize];
        match rng.below(8) {
            0 => Self::Head(case),
            1 => {
                let offset = rng.below(150_000) as usize;
                Self::Part { offset, length: rng.length(150_000 - offset) }
            }
            // At least one byte: a chunk of none is the last.
            2 => Self::Post { length: rng.length(20_000), is_chunked: rng.coin() },
            _ => Self::Get(case),
        }
    }
}

pub const TEXT: &[u8] = b"So much depends upon a red wheel barrow.\n";

impl Scenario {
    pub fn new(seed: u64, mood: Mood) -> Self {
        let rng = &mut Rng::new(seed ^ 0x5ce4_a210);
        let stop = match (mood, rng.below(8)) {
            (Mood::Calm, _) | (Mood::Any, 0..5) => Stop::WhenDone,
            (Mood::Any, 5..7) => Stop::WhenDoneOrStuck,
            (Mood::Any, _) => Stop::At(Duration::from_micros(rng.below(20_000))),
        };
        let faults = match mood {
            Mood::Calm => Faults::none(),
            Mood::Any => Faults::random(seed),
        };
        let limits = limits(stop, &faults, rng);
        let clients = (0..rng.range(1, 12)).map(|number| client(number as u8, mood, stop, rng)).collect();
        let forwarding = Forwarding::new(mood, stop, rng);
        Self { seed, faults, limits, clients, forwarding, stop, tls: None, reference: None }
    }
}

impl FileCase {
    pub const fn path(self) -> &'static std::ffi::CStr {
        match self {
            Self::Large => c"folder/large",
            Self::Small => c"folder/./small",
            Self::Empty => c"empty",
            Self::Missing => c"missing",
            Self::Outside => c"../empty",
            Self::Folder => c"folder",
        }
    }

    /// As a request names it.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Large => "/folder/large",
            Self::Small => "/folder/%2e/small",
            Self::Empty => "//empty",
            Self::Missing => "/missing",
            Self::Outside => "/folder/../../empty",
            Self::Folder => "/folder",
        }
    }

    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Large => Rng::new(1).bytes(150_000),
            Self::Small => Rng::new(2).bytes(100),
            Self::Empty | Self::Missing | Self::Outside | Self::Folder => Vec::new(),
        }
    }
}

/// Where client number `number` finds its service.
pub fn listener_address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8000 + number as u16))
}

pub const UPSTREAM_PORT: u16 = 3000;

fn limits(stop: Stop, faults: &Faults, rng: &mut Rng) -> Limits {
    let is_patient = stop == Stop::WhenDone;
    let idle_ms = rng.range(500, 20_000);
    let connect_ms = rng.range(100, 10_000);
    Limits {
        connections_max: if rng.below(4) == 0 { rng.range(1, 6) as usize } else { 1000 },
        pipe_bytes_max: rng.length(64 << 10),
        line_bytes_max: rng.length(8 << 10),
        // A patient run waits longer than anything takes that is not a fault.
        idle_timeout: if is_patient { Duration::ZERO } else { Duration::from_millis(idle_ms) },
        connect_timeout: if is_patient { Duration::from_secs(30) } else { Duration::from_millis(connect_ms) },
        drain_timeout: Duration::from_millis(rng.range(1, 5_000)),
        pool: faults.pool,
        http: HttpLimits {
            head_timeout: time_limit(is_patient, rng),
            keep_alive_timeout: time_limit(is_patient, rng),
            // Drawn from nothing, so that seeds keep their meaning.
            drain_idle_timeout: Duration::from_millis(connect_ms / 4),
            send_timeout: time_limit(is_patient, rng),
            body_timeout: time_limit(is_patient, rng),
            ..HttpLimits::default()
        },
        ..Limits::default()
    }
}

fn time_limit(is_patient: bool, rng: &mut Rng) -> Duration {
    if is_patient { Duration::ZERO } else { Duration::from_millis(rng.range(200, 20_000)) }
}

fn client(number: u8, mood: Mood, stop: Stop, rng: &mut Rng) -> Client {
    let after = Duration::from_micros(if rng.coin() { rng.below(500) } else { rng.below(100_000) });
    let service = service(number, mood, stop, rng);
    let length = match rng.below(4) {
        0 => rng.below(50),
        1 => rng.below(5_000),
        _ => rng.below(120_000),
    };
    let payload = match service {
        Service::Echo | Service::Proxy(_) => rng.bytes(length as usize),
        Service::Reverse => lines(length as usize, rng),
        // Bytes that are not asked for: what comes back after them may be a reset.
        Service::Text | Service::File(_) if mood == Mood::Any && rng.below(4) == 0 => rng.bytes(length as usize),
        Service::Text | Service::File(_) => Vec::new(),
        Service::Http(ref requests) => requests.iter().flat_map(|request| request.bytes()).collect(),
        Service::Forward(ref asks) => asks.iter().flat_map(Ask::bytes).collect(),
    };
    let talks = !matches!(service, Service::Text | Service::File(_));
    let is_rude = mood == Mood::Any && rng.below(4) == 0;
    let mut is_polite = !is_rude && (talks || payload.is_empty());
    let mut steps = sending(&service, &payload, rng);
    if let (Service::Forward(_), true) = (&service, is_rude) {
        steps = forward::rude_steps(&payload, stop, rng);
    } else if is_rude {
        let stuck = stop != Stop::WhenDone;
        match rng.below(5) {
            0 => steps.push(Step::Close),
            1 => steps.push(Step::Reset),
            // Others may have nothing to say before they have heard it all.
            2 if matches!(service, Service::Echo) => steps.extend([Step::Expect(payload.len() / 2), Step::Reset]),
            2 => steps.extend([Step::Stall(Duration::from_millis(rng.below(100))), Step::Reset]),
            3 if stuck => steps.insert(0, Step::StopReading(None)),
            4 if stuck => steps.insert(0, Step::Stall(Duration::from_secs(rng.range(1, 60)))),
            _ => steps = vec![Step::Close],
        }
        if !matches!(steps.last(), Some(Step::Close | Step::Reset)) {
            steps.push(Step::ReadUntilEof);
        }
    } else if (!talks || ends_by_itself(&service)) && rng.coin() {
        steps.push(Step::ReadUntilEof);
    } else {
        steps.extend([Step::ShutdownWrite, Step::ReadUntilEof]);
    }
    if let Service::Proxy(upstream) = &service {
        is_polite &= upstream.is_polite;
    }
    Client { service, after, steps, payload, is_polite, reads_all: !is_rude, http2: None }
}

/// Whether the server closes without being told to.
fn ends_by_itself(service: &Service) -> bool {
    matches!(service, Service::Forward(asks) if asks.last().is_some_and(Ask::is_last))
}

/// Ways to send the same bytes.
fn sending(service: &Service, payload: &[u8], rng: &mut Rng) -> Vec<Step> {
    let whole = payload.to_vec();
    match rng.below(5) {
        0 => {
            let piece_bytes = rng.length(payload.len()).max(payload.len() / 50).max(1);
            vec![Step::SendSlowly { bytes: whole, piece_bytes, every: Duration::from_micros(rng.below(10_000)) }]
        }
        1 => {
            let pause = Duration::from_millis(rng.below(300));
            vec![Step::Stall(pause), Step::StopReading(Some(pause * 2)), Step::Send(whole)]
        }
        2 if matches!(service, Service::Echo) => {
            let (head, tail) = payload.split_at(rng.below(payload.len() as u64 + 1) as usize);
            vec![Step::Send(head.to_vec()), Step::Expect(head.len()), Step::Send(tail.to_vec())]
        }
        _ => vec![Step::Send(whole)],
    }
}

fn service(number: u8, mood: Mood, stop: Stop, rng: &mut Rng) -> Service {
    match rng.below(18) {
        13..18 => Service::Forward(forward::asks(number, rng)),
        10..13 if mood == Mood::Any => {
            let mut requests: Vec<_> = (0..rng.range(1, 12)).map(|_| Request::draw(rng)).collect();
            if rng.below(6) == 0 {
                requests.push(Request::Garbage);
            }
            Service::Http(requests)
        }
        0..2 => Service::Echo,
        2..4 => Service::Reverse,
        4 if mood == Mood::Any => Service::Text,
        5..7 if mood == Mood::Any => {
            let cases = [
                FileCase::Large,
                FileCase::Large,
                FileCase::Large,
                FileCase::Large,
                FileCase::Small,
                FileCase::Empty,
                FileCase::Missing,
                FileCase::Outside,
                FileCase::Folder,
            ];
            Service::File(cases[rng.below(cases.len() as u64) as usize])
        }
        _ => Service::Proxy(upstream(number, mood, stop, rng)),
    }
}

fn upstream(number: u8, mood: Mood, stop: Stop, rng: &mut Rng) -> Upstream {
    let length = rng.length(100_000);
    let bytes = rng.bytes(length);
    let silent = Reply::Bytes(Vec::new());
    let (behaviour, answer, is_polite) = match rng.below(if mood == Mood::Calm { 4 } else { 10 }) {
        0 => (Behaviour::greet(bytes.clone()), Reply::Bytes(bytes), true),
        1 => (Behaviour::respond(bytes.clone()), Reply::Bytes(bytes), true),
        2 | 3 => (Behaviour::echo(), Reply::Echo, true),
        4 => (Behaviour::die_after(length), silent, false),
        5 => (Behaviour::Serve(vec![Step::Send(bytes.clone()), Step::Close]), Reply::Bytes(bytes), false),
        6 => (Behaviour::Refuse, silent, false),
        7 => (Behaviour::Vanish, silent, false),
        8 if stop != Stop::WhenDone => (Behaviour::never_accept(), silent, false),
        _ => (Behaviour::Serve(vec![Step::Expect(length), Step::Close]), silent, false),
    };
    let v4 = IpAddr::from([198, 51, 100, number]);
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)]);
    // Nobody listens at the second one.
    let addresses = match rng.below(4) {
        0 => vec![v4, v6],
        1 => vec![v6, v4],
        _ => vec![v4],
    };
    Upstream { behaviour, addresses, answer, is_polite }
}

impl Upstream {
    /// The address at which somebody may be.
    pub fn address(&self) -> SocketAddr {
        let v4 = self.addresses.iter().find(|address| address.is_ipv4());
        SocketAddr::new(*v4.expect("each has one"), UPSTREAM_PORT)
    }
}

/// Text with lines of all lengths, also some beyond every limit.
fn lines(length: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.bytes(length);
    let every = rng.range(1, 3000);
    for byte in &mut bytes {
        if *byte == b'\n' || rng.below(every) == 0 {
            *byte = if rng.below(every) == 0 { b'\n' } else { b'x' };
        }
    }
    bytes
}
