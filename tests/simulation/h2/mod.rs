//! HTTP/2 in a run: clients that speak it, written apart from the code that is tested.
//!
//! A scenario is drawn as without it, and HTTP/2 is drawn for it apart, so that seeds keep their meaning.

mod cases;
pub mod client;
pub mod crate_client;
pub mod frame;
pub mod habit;
pub mod hpack;
mod huffman;
#[path = "../../support/h2/pipe.rs"]
mod pipe;
pub mod record;
pub mod reference;
#[path = "../../support/h2/static_table.rs"]
mod static_table;

use std::rc::Rc;
use std::time::Duration;

use xps::internals::driver::sim::{Chance, Rng, Step};
use xps::internals::session::Http2Limits;

use self::client::H2Client;
use self::client::abuse::Spare;
use self::habit::Habit;
use self::record::{Log, Record};
use crate::forward::{Ask, Method};
use crate::message::trailers_of;
use crate::scenario::{Client, FileCase, Mood, Request, Scenario, Service, Stop};
use crate::tls::Flaw;

/// One request, as a client of HTTP/2 sends it.
#[derive(Clone, Debug)]
pub struct Call {
    pub fields: Vec<hpack::Field>,
    pub body: Option<Vec<u8>>,
    /// After its body.
    pub trailers: Vec<hpack::Field>,
    /// About how much comes back.
    pub answer_bytes: usize,
}

impl Call {
    fn new(method: &str, path: &str) -> Self {
        let fields = [(":method", method), (":scheme", "http"), (":authority", "sim"), (":path", path)];
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { fields, body: None, trailers: Vec::new(), answer_bytes: 0 }
    }

    fn field(&mut self, name: &str, value: &str) {
        self.fields.push((name.into(), value.into()));
    }

    fn body(&mut self, bytes: Vec<u8>, has_length: bool) {
        if has_length {
            self.field("content-length", &bytes.len().to_string());
        }
        self.body = Some(bytes);
    }

    fn of_request(request: Request) -> Self {
        let mut call = match request {
            Request::Get(case) => Self::new("GET", case.target()),
            Request::Head(case) => Self::new("HEAD", case.target()),
            Request::Part { offset, length } => {
                let mut call = Self::new("GET", FileCase::Large.target());
                call.field("range", &format!("bytes={offset}-{}", offset + length - 1));
                call
            }
            Request::Post { length, is_chunked } => {
                let mut call = Self::new("POST", "/empty");
                call.body(vec![b'x'; length], !is_chunked);
                call
            }
            // Of a connection nothing is said in fields (RFC 9113, 8.2.2).
            Request::Garbage => {
                let mut call = Self::new("GET", "/empty");
                call.field("connection", "keep-alive");
                call
            }
        };
        call.answer_bytes = request.expected().1.map_or(500, |body| body.len());
        call
    }

    /// An extended CONNECT (RFC 8441, 4) for one that wants another protocol.
    fn of_ask(ask: &Ask) -> Self {
        let mut call = Self::new(ask.method.name(), &ask.target());
        if let Some(bytes) = &ask.upgrade {
            call.fields[0].1 = b"CONNECT".to_vec();
            call.fields.insert(1, (b":protocol".to_vec(), b"echo".to_vec()));
            call.body = Some(bytes.clone());
        }
        if let Some(body) = &ask.body {
            call.body(body.bytes.clone(), body.chunk_bytes.is_none());
            // Those that a client of HTTP/1.1 sends, which are not all passed on.
            let lines = if body.chunk_bytes.is_some() { trailers_of(ask.id) } else { &[] };
            let fields = lines.iter().filter_map(|line| line.split_once(':'));
            call.trailers = fields.map(|(name, value)| (name.to_lowercase().into(), value.trim().into())).collect();
        }
        if ask.takes_trailers() {
            call.field("te", "trailers");
        }
        call.answer_bytes = ask.answer_bytes;
        call
    }

    /// What is asked on streams that are misused, in the order of [`Spare`].
    fn spare(service: &Service) -> [Self; 3] {
        let new = |spare: Spare, ask: Option<&Ask>| {
            let (method, file_method) = match spare {
                Spare::Get => ("GET", "GET"),
                Spare::Put | Spare::PutOfFive => ("PUT", "POST"),
            };
            let mut call = match ask {
                Some(ask) => Self::new(method, &ask.target()),
                None => Self::new(file_method, "/empty"),
            };
            if ask.is_some_and(Ask::takes_trailers) {
                call.field("te", "trailers");
            }
            if let Spare::PutOfFive = spare {
                call.field("content-length", "5");
            }
            call
        };
        let asks = if let Service::Forward(asks) = service { &asks[..] } else { &[] };
        let of = |method| asks.iter().find(|ask| ask.is_spare() && ask.method == method);
        let (get, put) = (of(Method::Get), of(Method::Put));
        [new(Spare::Get, get), new(Spare::Put, put), new(Spare::PutOfFive, put)]
    }

    /// Fields that change nothing.
    fn adorn(&mut self, habit: &Habit, rng: &mut Rng) {
        if habit.has_priorities && rng.coin() {
            let values = ["u=0", "u=7", "i", "u=2, i", "u=5, i=?0", "nonsense, ?"];
            self.field("priority", values[rng.below(values.len() as u64) as usize]);
        }
        if rng.below(4) == 0 {
            self.field("cookie", "a=1");
            self.field("x-more", &"m".repeat(rng.below(300) as usize));
            self.field("cookie", "b=2");
        }
    }
}

impl Scenario {
    /// The same over HTTP/2: some of the clients that ask for files or for something to be forwarded, and some of the
    /// others, who ask for files instead. `does_more`: some of them want another protocol for a stream, or do what they
    /// should not.
    pub fn over_http2(mut self, mood: Mood, does_more: bool) -> Self {
        let rng = &mut Rng::new(self.seed ^ 0x4832_c0de);
        let more = &mut Rng::new(self.seed ^ 0x00ab_05e5);
        // A client that stays takes a place for which others may wait.
        let may_stay =
            self.reference.is_none() && self.limits.connections_max >= 1000 && self.faults.descriptors_max >= 1000;
        if does_more {
            self.limits.http.http2 = limits(more);
        }
        let never = Chance::NEVER;
        let faults = &self.faults;
        let is_slow = (faults.short_reads, faults.short_writes) != (never, never)
            || (faults.slow_peers, faults.stalled_peers) != (never, never)
            || faults.socket_buffer_bytes < 32 << 10;
        // Who does not know how many streams there may be could have too many.
        let is_narrow = self.limits.http.http2.streams_max < 100;
        let mut clients = std::mem::take(&mut self.clients);
        for (number, client) in clients.iter_mut().enumerate() {
            let manner = self.manner_of(number);
            let is_sound = manner.is_none_or(crate::tls::Manner::is_sound);
            let is_plain = manner.is_some_and(|manner| manner.flaw == Flaw::Plain);
            let is_taken = match client.service {
                Service::Http(_) | Service::Forward(_) => rng.below(8) != 0,
                Service::Echo | Service::Reverse | Service::Text | Service::File(_) => rng.coin(),
                Service::Proxy(_) => false,
            };
            if is_taken && !is_plain {
                let service = service(number as u8, &client.service, (mood, does_more), rng);
                let more = does_more.then_some(&mut *more);
                *client =
                    converted(service, client, (mood, self.stop), (is_sound, may_stay, is_narrow, is_slow), rng, more);
            }
        }
        self.clients = clients;
        self
    }
}

impl Scenario {
    /// Whether a client of it speaks HTTP/2.
    pub fn has_http2(&self) -> bool {
        self.clients.iter().any(|client| client.http2.is_some())
    }
}

/// What streams of a connection may have.
fn limits(rng: &mut Rng) -> Http2Limits {
    let mut draw = |usual: u32, others: [u32; 3]| if rng.coin() { usual } else { others[rng.below(3) as usize] };
    let usual = Http2Limits::default();
    Http2Limits {
        streams_max: draw(usual.streams_max, [1, 3, 12]),
        stream_window: draw(usual.stream_window, [16 << 10, 20_000, 1 << 20]),
        connection_window: draw(usual.connection_window, [64 << 10, 100_000, 1 << 20]),
        ..usual
    }
}

/// What it asks for; what cannot be said in HTTP/2 is left out.
fn service(number: u8, service: &Service, (mood, does_more): (Mood, bool), rng: &mut Rng) -> Service {
    let Service::Forward(asks) = service else {
        let mut requests: Vec<_> = (0..rng.range(1, 30)).map(|_| Request::draw(rng)).collect();
        if mood == Mood::Any && rng.below(4) == 0 {
            let at = rng.below(requests.len() as u64) as usize;
            requests[at] = Request::Garbage;
        }
        return Service::Http(requests);
    };
    let mut asks = asks.clone();
    let ids = asks.len() as u32..asks.len() as u32 + rng.below(20) as u32;
    asks.extend(ids.map(|at| Ask::draw(u32::from(number) * 100 + at, rng)));
    for ask in &mut asks {
        let is_tunnel = does_more && ask.method == Method::Get && (ask.upgrade.is_some() || ask.id % 5 == 2);
        let upgrade = is_tunnel.then(|| Rng::new(u64::from(ask.id)).bytes(ask.answer_bytes));
        *ask = Ask { is_http10: false, says_close: false, upgrade, ..ask.clone() };
    }
    if does_more {
        asks.extend(Ask::spare(number));
    }
    Service::Forward(asks)
}

fn converted(
    service: Service,
    client: &Client,
    (mood, stop): (Mood, Stop),
    (is_sound, may_stay, is_narrow, is_slow): (bool, bool, bool, bool),
    rng: &mut Rng,
    more: Option<&mut Rng>,
) -> Client {
    let mut calls: Vec<Call> = match &service {
        Service::Http(requests) => requests.iter().map(|request| Call::of_request(*request)).collect(),
        Service::Forward(asks) => asks.iter().filter(|ask| !ask.is_spare()).map(Call::of_ask).collect(),
        _ => Vec::new(),
    };
    let habit = Habit::draw(mood, stop, may_stay, &calls, rng);
    let habit = Habit { waits_for_settings: habit.waits_for_settings || is_narrow, is_slow, ..habit };
    let habit = match more {
        Some(more) => habit.draw_more(mood, stop, more),
        None => habit,
    };
    calls.iter_mut().for_each(|call| call.adorn(&habit, rng));
    let is_rude = habit.is_rude();
    let log = Log::new(Record::default().into());
    let spare = Call::spare(&service);
    let steps = vec![Step::Converse(Box::new(H2Client::new(habit, calls, Rc::clone(&log)).with_spare(spare)))];
    Client {
        service,
        after: client.after,
        steps,
        payload: Vec::new(),
        is_polite: !is_rude && is_sound,
        reads_all: !is_rude && is_sound,
        http2: Some(log),
    }
}

/// A client that asks for this over HTTP/2 with nothing special about it.
pub fn plain_client(asks: Vec<Ask>) -> Client {
    client_with(Habit::sound(), Service::Forward(asks))
}

/// A client of this habit.
pub fn client_with(habit: Habit, service: Service) -> Client {
    let calls = match &service {
        Service::Forward(asks) => asks.iter().filter(|ask| !ask.is_spare()).map(Call::of_ask).collect(),
        Service::Http(requests) => requests.iter().map(|request| Call::of_request(*request)).collect(),
        _ => Vec::new(),
    };
    let log = Log::new(Record::default().into());
    let h2_client = H2Client::new(habit, calls, Rc::clone(&log)).with_spare(Call::spare(&service));
    Client {
        service,
        after: Duration::ZERO,
        steps: vec![Step::Converse(Box::new(h2_client))],
        payload: Vec::new(),
        is_polite: true,
        reads_all: true,
        http2: Some(log),
    }
}
