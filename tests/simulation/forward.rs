//! The part of a run in which requests are forwarded: who asks what, and the servers that answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xps::internals::driver::sim::{Behaviour, Rng, Step};
use xps::internals::upstream::KeepAlive;
use xps::internals::upstream::group::QueueConfig;

use crate::message::{chunked, passed_trailers_of, trailers_of};
use crate::origin::{Cut, Fault, Framing, Habit, Log, Origin, Place, Then};
use crate::scenario::{Mood, Stop};
use crate::tls::Manner;

/// The proxy that all clients of a run share which ask for something to be forwarded.
#[derive(Debug)]
pub struct Forwarding {
    pub origins: Vec<Server>,
    /// How each of them speaks TLS, if it does; those beyond its end do not.
    pub manners: Vec<Option<Manner>>,
    pub keep_alive: KeepAlive,
    /// Zero where nothing may depend on time.
    pub response_timeout: Duration,
    pub tries_max: u32,
    /// Requests that each server may have at a time; 0: no limit.
    pub places: usize,
    /// Where the others wait.
    pub queue: QueueConfig,
    /// What the servers saw, in the order in which they did.
    pub log: Log,
}

/// One of the servers.
#[derive(Clone, Debug)]
pub enum Server {
    Answers(Vec<Habit>),
    Refuses,
    Vanishes,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Nobody else's in the run.
    pub id: u32,
    pub method: Method,
    pub body: Option<Body>,
    pub answer_bytes: usize,
    pub is_http10: bool,
    pub says_close: bool,
    /// Bytes of another protocol that it wants to speak from then on. What it sends comes back.
    pub upgrade: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub chunk_bytes: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether asking twice means the same as asking once (RFC 9110, 9.2.2).
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post)
    }
}

impl Ask {
    pub fn get(id: u32, answer_bytes: usize) -> Self {
        Self { id, method: Method::Get, body: None, answer_bytes, is_http10: false, says_close: false, upgrade: None }
    }

    /// What a client asks on streams that it misuses: without a body, or with one of any length up to that of this.
    pub fn spare(client: u8) -> [Self; 2] {
        let id = u32::from(client) * 100 + SPARE;
        let body = Body { bytes: vec![b'x'; 8 * (16 << 10)], chunk_bytes: None };
        [Self::get(id, 0), Self { method: Method::Put, body: Some(body), ..Self::get(id + 1, 0) }]
    }

    /// Whether it is one of those.
    pub const fn is_spare(&self) -> bool {
        self.id % 100 >= SPARE
    }

    /// As a request names it: who asks, and for how much.
    pub fn target(&self) -> String {
        format!("/{}/{}", self.id, self.answer_bytes)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let version = if self.is_http10 { "1.0" } else { "1.1" };
        let mut head = format!("{} {} HTTP/{version}\r\nHost: sim\r\n", self.method.name(), self.target());
        if self.says_close {
            head += "Connection: close\r\n";
        }
        if self.takes_trailers() {
            head += "TE: trailers\r\n";
        }
        if self.upgrade.is_some() {
            head += "Connection: Upgrade\r\nUpgrade: echo\r\n";
        }
        let body = match &self.body {
            None => self.upgrade.clone().unwrap_or_default(),
            Some(Body { bytes, chunk_bytes: None }) => {
                head += &format!("Content-Length: {}\r\n", bytes.len());
                bytes.clone()
            }
            Some(Body { bytes, chunk_bytes: Some(most) }) => {
                head += "Transfer-Encoding: chunked\r\n";
                chunked(bytes, *most, trailers_of(self.id))
            }
        };
        head += "\r\n";
        [head.into_bytes(), body].concat()
    }

    /// What its body must be when it arrives.
    pub fn body(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], |body| &body.bytes)
    }

    /// The trailers that must arrive with it.
    pub fn passed_trailers(&self) -> Vec<String> {
        let is_chunked = self.body.as_ref().is_some_and(|body| body.chunk_bytes.is_some());
        if is_chunked { passed_trailers_of(self.id) } else { Vec::new() }
    }

    /// Whether it wants those of its answer. Drawn from nothing, so that seeds keep their meaning.
    pub const fn takes_trailers(&self) -> bool {
        !self.is_http10 && !(self.id / 4).is_multiple_of(3)
    }

    /// Whether no more requests can follow.
    pub const fn is_last(&self) -> bool {
        self.is_http10 || self.says_close
    }

    pub fn draw(id: u32, rng: &mut Rng) -> Self {
        let methods = [Method::Get, Method::Get, Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete];
        let method = methods[rng.below(methods.len() as u64) as usize];
        let answer_bytes = match rng.below(8) {
            0 => 0,
            1..5 => rng.below(200) as usize,
            5..7 => rng.below(20_000) as usize,
            _ => rng.below(120_000) as usize,
        };
        let body = matches!(method, Method::Post | Method::Put).then(|| {
            let length = if rng.coin() { rng.below(200) } else { rng.below(80_000) } as usize;
            let chunk_bytes = rng.coin().then(|| rng.length(length).max(length / 200));
            // One byte each, and what each costs. Drawn from nothing, so that seeds keep their meaning.
            let chunk_bytes = chunk_bytes.map(|bytes| if length % 4 == 3 { 1 } else { bytes });
            Body { bytes: rng.bytes(length), chunk_bytes }
        });
        Self { method, body, ..Self::get(id, answer_bytes) }
    }
}

/// Numbers of a client's requests from here on are of those that are not judged.
const SPARE: u32 = 98;

/// What a client asks for on its one connection.
pub fn asks(client: u8, rng: &mut Rng) -> Vec<Ask> {
    let count = if rng.below(3) == 0 { 1 } else { rng.range(1, 10) };
    let mut asks: Vec<_> = (0..count).map(|number| Ask::draw(u32::from(client) * 100 + number as u32, rng)).collect();
    if let Some(last) = asks.last_mut() {
        let is_chunked = last.body.as_ref().is_some_and(|body| body.chunk_bytes.is_some());
        match rng.below(6) {
            0 if !is_chunked => last.is_http10 = true,
            1..3 => last.says_close = true,
            // Drawn from nothing, so that seeds keep their meaning.
            _ if last.method == Method::Get && last.answer_bytes % 3 == 0 => {
                last.upgrade = Some(Rng::new(u64::from(last.id)).bytes(last.answer_bytes));
            }
            _ => {}
        }
    }
    asks
}

/// How a client that loses interest goes about it.
pub fn rude_steps(payload: &[u8], stop: Stop, rng: &mut Rng) -> Vec<Step> {
    let sent = payload[..rng.below(payload.len() as u64 + 1) as usize].to_vec();
    let rest = Duration::from_micros(rng.below(100_000));
    let may_be_stuck = stop != Stop::WhenDone;
    let end = match rng.below(6) {
        0 => vec![Step::Close],
        1 => vec![Step::Reset],
        2 if may_be_stuck => vec![Step::Expect(rng.length(5_000)), Step::Reset],
        3 if may_be_stuck => vec![Step::StopReading(None), Step::ReadUntilEof],
        // Its request never ends, or its connection waits for more.
        4 if may_be_stuck => vec![Step::ReadUntilEof],
        _ => vec![Step::ShutdownWrite, Step::ReadUntilEof],
    };
    [vec![Step::Send(sent), Step::Stall(rest)], end].concat()
}

impl Forwarding {
    pub fn new(mood: Mood, stop: Stop, rng: &mut Rng) -> Self {
        let is_patient = stop == Stop::WhenDone;
        let faults = mood == Mood::Any && rng.coin();
        let origins = (0..rng.range(1, 3)).map(|_| Server::draw(faults, stop, rng)).collect();
        let idle_ms = if rng.coin() { rng.below(100) } else { rng.range(100, 60_000) };
        let response_ms = rng.range(100, 10_000);
        Self {
            origins,
            manners: Vec::new(),
            keep_alive: KeepAlive {
                idle_max: if rng.below(4) == 0 { rng.below(3) as usize } else { 64 },
                idle_timeout: Duration::from_millis(idle_ms),
            },
            response_timeout: if is_patient { Duration::ZERO } else { Duration::from_millis(response_ms) },
            tries_max: rng.below(4) as u32,
            // Drawn from nothing, so that seeds keep their meaning.
            places: [0, 0, 1, 2][response_ms as usize % 4],
            queue: match is_patient {
                true => QueueConfig { waiting_max: 1000, timeout: Duration::ZERO },
                false => QueueConfig {
                    waiting_max: response_ms as usize % 7,
                    timeout: Duration::from_millis(response_ms / 3),
                },
            },
            log: Log::default(),
        }
    }

    /// With servers that do nothing wrong.
    pub fn is_reliable(&self) -> bool {
        self.speaks_soundly()
            && self.origins.iter().all(|server| match server {
                Server::Answers(habits) => habits
                    .iter()
                    .all(|habit| habit.cut.is_none() && matches!(habit.then, Then::Keep | Then::CloseAsAnnounced)),
                Server::Refuses | Server::Vanishes => false,
            })
    }

    /// With servers in whose TLS nothing is wrong.
    fn speaks_soundly(&self) -> bool {
        self.manners.iter().flatten().all(Manner::is_sound)
    }

    /// How a server speaks TLS, if it does.
    pub fn manner_of(&self, origin: usize) -> Option<&Manner> {
        self.manners.get(origin)?.as_ref()
    }

    /// Whether the connections to all of them begin with a header.
    pub fn expect_headers(&self) -> bool {
        let expects = |number| self.manner_of(number).is_some_and(|manner| manner.beginnings.is_some());
        (0..self.origins.len()).all(expects)
    }

    /// With servers of which nothing worse can be said than that their connections end between requests. A reset is worse:
    /// it destroys what is still on its way of the answer before it.
    pub fn is_fickle_at_worst(&self) -> bool {
        self.speaks_soundly()
            && self.origins.iter().all(|server| match server {
                Server::Answers(habits) => habits.iter().all(|habit| {
                    habit.cut.is_none()
                        && !habit.is_early
                        && !matches!(habit.then, Then::Chatter | Then::Fail(Fault::Reset, _))
                }),
                Server::Refuses | Server::Vanishes => false,
            })
    }
}

impl Server {
    fn draw(faults: bool, stop: Stop, rng: &mut Rng) -> Self {
        if faults && rng.below(8) == 0 {
            return if rng.coin() { Self::Refuses } else { Self::Vanishes };
        }
        // One kind of trouble at a time, else it hides the others.
        let trouble = if faults { rng.below(5) } else { 0 };
        let habits = (0..rng.range(1, 4)).map(|_| {
            let habit = Habit::draw(rng);
            let rest = Duration::from_micros(if rng.coin() { rng.below(1000) } else { rng.below(300_000) });
            match trouble {
                1 if rng.coin() => Habit { is_early: true, ..habit },
                2 if rng.coin() => Habit { then: Then::Fail(fault(stop, rng), rest), ..habit },
                3 if rng.coin() => Habit { cut: Some(Cut { place: place(rng), fault: fault(stop, rng) }), ..habit },
                // Until the connection ends, everything belongs to the answer.
                4 if habit.framing != Framing::UntilClose => Habit { then: Then::Chatter, ..habit },
                _ => habit,
            }
        });
        Self::Answers(habits.collect())
    }

    /// `says_end`: whether its peers can tell the end of its connections from a cut.
    pub fn behaviour(&self, log: &Log, says_end: bool) -> Behaviour {
        match self {
            Self::Answers(habits) => {
                Behaviour::Serve(vec![Step::Converse(Box::new(Origin::new(habits, log, says_end)))])
            }
            Self::Refuses => Behaviour::Refuse,
            Self::Vanishes => Behaviour::Vanish,
        }
    }
}

/// Where server number `number` is.
pub fn origin_address(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([198, 51, 100, 200 + number as u8]), 80)
}

/// Where all clients find the proxy.
pub const PROXY_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7999);

fn place(rng: &mut Rng) -> Place {
    [Place::BeforeIt, Place::Head, Place::Body, Place::Body][rng.below(4) as usize]
}

fn fault(stop: Stop, rng: &mut Rng) -> Fault {
    match rng.below(if stop == Stop::WhenDone { 3 } else { 4 }) {
        0 => Fault::Close,
        1 => Fault::Reset,
        2 => Fault::HalfClose,
        _ => Fault::Silence,
    }
}
