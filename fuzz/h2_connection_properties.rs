//! What must hold for a whole connection of an HTTP/2 client that sends any bytes at any times. As in `properties.rs`.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use xps::internals::buffer::{PoolConfig, SizeClass};
use xps::internals::config::{FileRouteConfig, Limits, ResponseConfig, UpstreamAddress};
use xps::internals::core::{Core, ListenerId, LiveCounts};
use xps::internals::driver::sim::{Behaviour, Chance, Converse, Faults, Move, PeerId, Rng, Sim, Step};
use xps::internals::driver::{Driver, SymlinkPolicy, Time};
use xps::internals::file::store::RootPath;
use xps::internals::http::chunked;
use xps::internals::http::error_page::ErrorPages;
use xps::internals::http::forward::{Authority, RequestRules, ResponseRules, WebSocketKey};
use xps::internals::http::h2::frame::{PREFACE, push_settings};
use xps::internals::http::h2::hpack::Decoder;
use xps::internals::http::h2::reader::Event;
use xps::internals::http::h2::{BlockReader, Frame, FrameReader};
use xps::internals::http::request::{self, HeadLimits, Parsed, RequestHead};
use xps::internals::http::{BodyFraming, Scheme};
use xps::internals::limit::Access;
use xps::internals::session::http::{
    FileRoute, Files, Handler, Metrics, Proxy, ProxyRoute, Route, Router, RouterCell, Source, VirtualHost,
};
use xps::internals::session::{ListenerContext, Service};
use xps::internals::upstream::{ConnectPolicy, GroupConfig, KeepAlive, UpstreamGroup, Upstreams};

const LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);
const ORIGIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 3000);

/// One small buffer is a piece, so that what a connection may hold is little more than what it is allowed.
const POOL: PoolConfig = PoolConfig { small_bytes: 4 << 10, large_bytes: 4 << 10, small_max: 64, large_max: 0 };

/// Completions of one turn.
const BATCH_MAX: usize = 4;

/// What may arrive on a socket after a pause of it was asked for.
const SLACK_BYTES: usize = (BATCH_MAX + 8) * POOL.small_bytes;

/// Bytes that one send may hold, beyond what one direction of a connection may: as in the simulation.
const SENDING_BYTES_MAX: usize = 512 << 10;

/// More turns than any input needs.
const TURNS_MAX: usize = 500_000;

/// When the client is gone, everything is gone after this time at the latest: a lingering close takes a few seconds, an upstream
/// that is silent is left at once.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// A connection ends and leaves nothing behind, keeps the invariants of the worker meanwhile, and what the client gets are
/// frames of a server. Requests may be for files, metrics, or an upstream that behaves well or badly.
///
/// The first byte decides how the client begins, reads and ends. The second is a number of cuts, and for each of them there is a
/// length and a pause. The rest is what the client sends.
pub fn connection(bytes: &[u8]) {
    let &[habits, cuts, ref rest @ ..] = bytes else { return };
    let (cuts, sent) = rest.split_at((usize::from(cuts % 8) * 2).min(rest.len()));
    let begins = habits & 1 != 0;
    let mut faults = Faults { pool: POOL, batch_max: BATCH_MAX, ..Faults::none() };
    if habits & 0x08 != 0 {
        faults.socket_buffer_bytes = 1 << 10;
    }
    if habits & 0x20 != 0 {
        (faults.short_reads, faults.short_writes) = (Chance::per_mille(300), Chance::per_mille(300));
    }
    let mut sim = Sim::new(u64::from(habits >> 6), faults);
    sim.file("f/small", b"some text\n".repeat(10));
    sim.file("f/large", vec![b'x'; 100_000]);
    sim.upstream(ORIGIN, Behaviour::Serve(vec![Step::Converse(Box::new(Origin::Head))]));
    let mut core = Core::new(limits());
    let context = ListenerContext { h2c: true, ..service().into() };
    core.add_listener(ListenerId(0), sim.listener(LISTENER), context);
    let client = sim.client(LISTENER, Duration::ZERO, script(habits, cuts, sent));
    serve(&mut sim, &mut core, client);
    if begins {
        check_frames(sim.peer(client).received());
    }
}

fn script(habits: u8, cuts: &[u8], sent: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    if habits & 0x01 != 0 {
        let mut start = PREFACE.to_vec();
        push_settings(&mut start, &[]);
        steps.push(Step::Send(start));
    }
    if habits & 0x10 != 0 {
        steps.push(Step::StopReading(Some(Duration::from_secs(1000))));
    }
    let mut left = sent;
    for cut in cuts.chunks_exact(2) {
        let length = match usize::from(cut[0]) {
            short @ ..128 => short,
            long => (long - 127) * 32,
        };
        let (piece, after) = left.split_at(length.min(left.len()));
        left = after;
        steps.push(Step::Send(piece.to_vec()));
        // A millisecond up to two minutes.
        steps.extend((cut[1] > 0).then(|| Step::Stall(Duration::from_millis(1 << (cut[1] % 18)))));
    }
    steps.push(Step::Send(left.to_vec()));
    match habits >> 1 & 3 {
        0 => steps.push(Step::Close),
        1 => steps.extend([Step::ShutdownWrite, Step::ReadUntilEof]),
        2 => steps.extend([Step::Stall(Duration::from_millis(1)), Step::Reset]),
        // It stays until the server closes.
        _ => steps.push(Step::ReadUntilEof),
    }
    steps
}

fn limits() -> Limits {
    let mut limits = Limits { pipe_bytes_max: 16 << 10, pool: POOL, ..Limits::default() };
    limits.http.http2.streams_max = 10;
    limits.http.http2.connection_window = 64 << 10;
    limits.http.http2.stream_window = 16 << 10;
    limits
}

fn service() -> Service {
    let file_route = |source, prefix: &[u8]| {
        let (config, responses) = (FileRouteConfig::default(), ResponseConfig::default());
        Rc::new(FileRoute::new(source, config, responses, ErrorPages::default(), prefix))
    };
    let fallback = file_route(Source::BuiltIn(&[]), b"");
    let route = |prefix: &[u8], handler: Box<dyn Handler>, file_route: Rc<FileRoute>| {
        let (prefix, access) = (prefix.to_vec(), Access::default());
        Rc::new(Route { prefix, access, keep_alive: true, handler, file_route, counters: None })
    };
    let folder = Source::Folder(RootPath::new(Path::new("/").into(), SymlinkPolicy::Follow));
    let routes = vec![
        route(b"f", Box::new(Files), file_route(folder, b"")),
        route(b"m", Box::new(Metrics), Rc::clone(&fallback)),
        route(b"", Box::new(Proxy(Rc::new(proxy_route(Rc::clone(&fallback))))), Rc::clone(&fallback)),
    ];
    let host = VirtualHost { names: Vec::new(), access: Access::default(), access_log: None, routes };
    Service::Http(RouterCell::new(Router::new(Scheme::Http, vec![host], fallback)))
}

fn proxy_route(file_route: Rc<FileRoute>) -> ProxyRoute {
    let config = GroupConfig::of([UpstreamAddress::tcp(ORIGIN.ip().to_string(), ORIGIN.port())]);
    ProxyRoute {
        name: "/".into(),
        group: UpstreamGroup::sharing(&mut Upstreams::default(), config, &[None], 0),
        connect_policy: ConnectPolicy { tries_max: 0, connect_timeout: Duration::from_secs(10) },
        request: RequestRules::default(),
        response: ResponseRules::default(),
        authority: Authority::new("origin").expect("it is one"),
        keep_alive: KeepAlive::default(),
        response_timeout: Duration::from_secs(30),
        upgrades: true,
        body_bytes_max: 1 << 20,
        file_route,
    }
}

/// Serves until the client is gone, and then until all is gone.
fn serve(sim: &mut Sim, core: &mut Core, client: PeerId) {
    let (mut done, mut gone_at, mut is_draining) = (Vec::new(), None, false);
    for _ in 0..TURNS_MAX {
        let now = sim.now();
        let wait = core.wait(now);
        if core.is_finished() {
            return check_nothing_is_left(sim, core);
        }
        if sim.peer(client).end().is_some() && !is_draining {
            let gone_at: Time = *gone_at.get_or_insert(now);
            is_draining = core.live_counts().sessions == 0;
            assert!(is_draining || now.since(gone_at) < GONE_AFTER, "left: {:?}", core.live_counts());
            if is_draining {
                core.drain(now, None);
                continue;
            }
        }
        let turn = sim.turn(core.ops(), wait, &mut done).expect("the simulation never fails");
        // Quiet with the client and its session gone is as it should be.
        let is_quiet = sim.peer(client).end().is_some() && core.live_counts().sessions == 0 && !is_draining;
        assert!(!sim.is_stalled() || is_quiet, "a stall: {:?}", core.live_counts());
        core.set_share(sim.pool().share());
        core.on_turn(turn.now, &mut done);
        core.check_invariants(SLACK_BYTES).unwrap_or_else(|violation| panic!("{violation}"));
        let sending = sim.sending_memory_max();
        assert!(sending <= SENDING_BYTES_MAX + SLACK_BYTES, "a send holds {sending} bytes");
    }
    panic!("it does not come to an end: {:?}", core.live_counts());
}

fn check_nothing_is_left(sim: &Sim, core: &Core) {
    assert_eq!(core.live_counts(), LiveCounts::default());
    assert_eq!((sim.in_flight(), sim.open_descriptors()), (0, 0), "operations and descriptors are left");
    for class in [SizeClass::Small, SizeClass::Large] {
        let usage = sim.pool().usage(class);
        assert_eq!(usage.free, usage.made, "buffers are left");
    }
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
}

/// What a client gets: frames that a server may send, in their order, and blocks that can be decoded. The last may be cut.
fn check_frames(received: &[u8]) {
    let (mut reader, mut decoder, mut at) = (FrameReader::of_client(), Decoder::new(), 0);
    let mut block = BlockReader::new(&HeadLimits { head_bytes_max: 1 << 20, ..HeadLimits::default() });
    loop {
        let step = reader.next(&received[at..]).unwrap_or_else(|error| panic!("{error:?} at {at} of what it got"));
        at += step.consumed;
        match step.event {
            None => return,
            Some(Event::Data(_)) => {}
            Some(Event::Frame(
                Frame::Headers { fragment, end_headers, .. } | Frame::Continuation { fragment, end_headers, .. },
            )) => {
                block.push(&mut decoder, fragment, end_headers).expect("a block of a server");
                if end_headers {
                    let fields = block.take();
                    assert_eq!(fields.excess(), None);
                    assert!(fields.iter().all(|field| !field.name.iter().any(u8::is_ascii_uppercase)));
                }
            }
            Some(Event::Frame(
                Frame::ResetStream { .. }
                | Frame::Settings { .. }
                | Frame::SettingsAck
                | Frame::Ping { .. }
                | Frame::GoAway { .. }
                | Frame::WindowUpdate { .. },
            )) => {}
            Some(other @ (Event::Frame(_) | Event::StreamError(_))) => panic!("{other:?} of a server"),
        }
    }
}

/// The upstream, of which each connection has a copy. The first letter of a path says what it does; whatever it gets is a
/// well-formed request of HTTP/1.1.
#[derive(Clone, Debug)]
enum Origin {
    Head,
    /// Sends back what it hears.
    Upgraded,
    /// Reads a body, and answers then, if it has not before.
    Body {
        left: Left,
        answer: Vec<Step>,
    },
}

/// Of a body.
#[derive(Clone, Debug)]
enum Left {
    Bytes(u64),
    Chunks(chunked::Decoder),
}

impl Converse for Origin {
    fn hear(&mut self, unread: &[u8], _: bool, _: &mut Rng) -> Option<Move> {
        match self {
            Self::Head => {
                let (head, taken) = match request::parse(unread, &HeadLimits::default()) {
                    Ok(Parsed::Partial) => return None,
                    Ok(Parsed::Complete { head, length }) => (head, length),
                    Err(error) => panic!("{error:?} at the upstream: {}", unread.escape_ascii()),
                };
                let (steps, is_sink) = answer(&head);
                let left = match head.framing {
                    BodyFraming::None => {
                        if is_switch(&head) {
                            *self = Self::Upgraded;
                        }
                        return Some(Move { taken, steps });
                    }
                    BodyFraming::Length(length) => Left::Bytes(length),
                    BodyFraming::Chunked => Left::Chunks(chunked::Decoder::default()),
                };
                let (steps, answer) = if is_sink { (Vec::new(), steps) } else { (steps, Vec::new()) };
                *self = Self::Body { left, answer };
                Some(Move { taken, steps })
            }
            Self::Upgraded => {
                let steps = vec![Step::Send(unread.to_vec())];
                (!unread.is_empty()).then_some(Move { taken: unread.len(), steps })
            }
            Self::Body { left, answer } => {
                let taken = left.take(unread);
                let steps = if left.is_done() { std::mem::take(answer) } else { Vec::new() };
                if left.is_done() {
                    *self = Self::Head;
                }
                (taken > 0 || !steps.is_empty()).then_some(Move { taken, steps })
            }
        }
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(self.clone())
    }
}

impl Left {
    fn take(&mut self, unread: &[u8]) -> usize {
        match self {
            Self::Bytes(left) => {
                let taken = unread.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                taken
            }
            Self::Chunks(decoder) => {
                let mut taken = 0;
                while !decoder.is_done() && taken < unread.len() {
                    taken += match decoder.decode(&unread[taken..]).expect("a chunked body") {
                        chunked::Step::Data { skip, length } => skip + length,
                        chunked::Step::More => unread.len() - taken,
                        chunked::Step::End { consumed } => consumed,
                    };
                }
                taken
            }
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunks(decoder) => decoder.is_done(),
        }
    }
}

/// What the upstream does about a request, and whether it reads the body first.
fn answer(head: &RequestHead<'_>) -> (Vec<Step>, bool) {
    let send = |text: &[u8]| Step::Send(text.to_vec());
    let plain = || send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let kind = head.target.path().and_then(|path| path.as_bytes().get(1));
    let steps = match kind {
        Some(b's') => return (vec![plain()], true),
        Some(b'w') if is_switch(head) => {
            let accept = head.fields.all("Sec-WebSocket-Key").next().map_or_else(Default::default, accept_of);
            let fields = format!("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n");
            vec![Step::Send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n").into_bytes())]
        }
        Some(b'c') => {
            let chunk = [b"4e20\r\n", &[b'y'; 20_000][..], b"\r\n"].concat().repeat(3);
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            vec![send(&[head, &*chunk, b"0\r\nX-End: yes\r\n\r\n"].concat())]
        }
        Some(b'l') => {
            let bytes = [&b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n"[..], &[b'z'; 50_000]].concat();
            vec![Step::SendSlowly { bytes, piece_bytes: 1000, every: Duration::from_millis(50) }]
        }
        Some(b'i') => vec![send(b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\n"), plain()],
        Some(b'u') => vec![send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), Step::Close],
        Some(b'r') => vec![send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"), Step::Reset],
        Some(b'n') => vec![Step::ReadUntilEof],
        Some(b'g') => vec![send(b"nonsense\r\n\r\n")],
        _ => vec![plain()],
    };
    (steps, false)
}

/// Whether the upstream speaks WebSocket from this request on.
fn is_switch(head: &RequestHead<'_>) -> bool {
    let path = head.target.path().unwrap_or_default();
    path.starts_with("/w") && head.upgrade().is_some() && head.framing == BodyFraming::None
}

/// What accepts this key; something else if it is not one of 16 bytes.
fn accept_of(key: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = key.iter().filter_map(|digit| DIGITS.iter().position(|other| other == digit));
    // Of 22 digits, the last has two bits and padding.
    let bits = digits.take(22).enumerate().fold(0u128, |bits, (at, digit)| match at {
        21 => bits << 2 | digit as u128 >> 4,
        _ => bits << 6 | digit as u128,
    });
    WebSocketKey::new(bits.to_be_bytes()).accept().to_string()
}
