//! TLS in a run: which listeners, upstreams and servers speak it, how the peers do, and what is wrong with how they do.
//!
//! A scenario is drawn as without TLS, and TLS is drawn for it apart, so that seeds keep their meaning. The peers use
//! rustls' connections with buffers, the server those without. What is random in TLS follows from the seed.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use xps::internals::driver::sim::{Cut, Layer, LayerInput, Layers, PeerEnd, Rng};
use xps::internals::tcp::proxy_header::ProxyVersion;
use xps::internals::tls::seeded;
use xps::internals::tls::{TicketKeys, TlsPeer};

use crate::gateway::{Beginnings, Ends, Gateways, IDENTITIES, certificate, read_header};
use crate::scenario::{Client, Mood, Scenario, Service, Stop};

/// Who speaks TLS in a run.
#[derive(Debug, Default)]
pub struct Encryption {
    /// How each client speaks; `None`: its listener has no TLS.
    pub clients: Vec<Option<Manner>>,
    /// How the upstream of each client speaks, if it has one and that speaks TLS.
    pub upstreams: Vec<Option<Manner>>,
    /// The shared proxy's listener has TLS.
    pub proxy: bool,
    pub gateways: Option<Gateways>,
}

/// How a peer speaks TLS.
#[derive(Clone, Debug)]
pub struct Manner {
    pub is_tls12: bool,
    pub record_bytes_max: usize,
    /// It changes its keys now and then, which only 1.3 knows.
    pub updates_keys: bool,
    /// Its `close_notify` is not followed by the end of its side of the connection.
    pub stays_open: bool,
    pub flaw: Flaw,
    pub cut: Option<(usize, Cut)>,
    /// What it sends before all else: the header of its gateway.
    pub preamble: Vec<u8>,
    /// The addresses in that.
    pub ends: Option<Ends>,
    /// Whose certificate it shows if it is asked, of [`IDENTITIES`].
    pub identity: Option<usize>,
    /// The connections to this server begin with a header, which goes here.
    pub beginnings: Option<Beginnings>,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// It ends without a `close_notify`.
    NoEnd,
    /// One byte of what it sends is changed.
    Flip(usize),
    /// Something else comes first.
    Garbage(Vec<u8>),
    /// A client speaks no TLS at all.
    Plain,
}

impl Manner {
    /// With nothing special about it.
    pub const fn sound() -> Self {
        Self {
            is_tls12: false,
            record_bytes_max: 16 << 10,
            updates_keys: false,
            stays_open: false,
            flaw: Flaw::None,
            cut: None,
            preamble: Vec::new(),
            ends: None,
            identity: None,
            beginnings: None,
        }
    }

    /// Lets its connection begin with the header of a gateway. What is wrong with its TLS comes behind that.
    pub fn announce_by(&mut self, ends: Ends, version: ProxyVersion) {
        self.preamble = ends.header(version);
        self.ends = Some(ends);
        let length = self.preamble.len();
        if let Flaw::Flip(at) = &mut self.flaw {
            *at += length;
        }
        if let (Flaw::Flip(_) | Flaw::Garbage(_), Some((at, _))) = (&self.flaw, &mut self.cut) {
            *at += length;
        }
    }

    /// Expects a header at the beginning of each connection.
    pub fn expect_header(&mut self) {
        self.beginnings = Some(Beginnings::default());
    }

    /// Whether it speaks as it should.
    pub fn is_sound(&self) -> bool {
        self.flaw == Flaw::None && self.cut.is_none()
    }

    /// From which byte on nothing can be made of what it sends.
    const fn spoiled_from(&self) -> Option<usize> {
        match self.flaw {
            Flaw::None | Flaw::NoEnd | Flaw::Plain => None,
            Flaw::Flip(at) => Some(at),
            Flaw::Garbage(_) => Some(0),
        }
    }

    /// Whether records of it are not what they were.
    pub const fn is_spoiled(&self) -> bool {
        self.spoiled_from().is_some()
    }

    /// `bytes`: about how much it sends.
    fn draw(mood: Mood, stop: Stop, bytes: usize, rng: &mut Rng) -> Self {
        let is_tls12 = rng.below(4) == 0;
        let sound = Self {
            is_tls12,
            record_bytes_max: if rng.coin() { 16 << 10 } else { rng.length(16 << 10).max(bytes / 500) },
            updates_keys: !is_tls12 && rng.below(4) == 0,
            stays_open: rng.below(4) == 0,
            ..Self::sound()
        };
        if mood == Mood::Calm || rng.below(4) != 0 {
            return sound;
        }
        let at = if rng.coin() { rng.below(700) } else { rng.below(bytes as u64 + 700) } as usize;
        let may_be_stuck = stop != Stop::WhenDone;
        let mut cut = || match rng.below(if may_be_stuck { 3 } else { 2 }) {
            0 => Cut::Reset,
            1 => Cut::Close,
            _ => Cut::Silence,
        };
        // A record that seems to be longer is waited for, so its connection has to end where nothing depends on time.
        let cut_after = |at: usize, how: Cut| if may_be_stuck { None } else { Some((at, how)) };
        match at % 4 {
            0 => Self { flaw: Flaw::NoEnd, ..sound },
            1 => Self { cut: Some((at, cut())), ..sound },
            2 => Self { cut: cut_after(at + 1 + at % 8, cut()), flaw: Flaw::Flip(at), ..sound },
            _ => {
                let how = cut();
                let garbage = rng.bytes(1 + at % 40);
                Self { cut: cut_after(garbage.len() + at % 8, how), flaw: Flaw::Garbage(garbage), ..sound }
            }
        }
    }
}

impl Scenario {
    /// The same over TLS: some of its listeners, upstreams and servers, the rest as before.
    pub fn over_tls(mut self, mood: Mood) -> Self {
        let rng = &mut Rng::new(self.seed ^ 0x0071_5a11);
        let stop = self.stop;
        let mut encryption = Encryption { proxy: rng.below(4) != 0, ..Encryption::default() };
        for _ in 0..self.forwarding.origins.len() {
            let manner = Manner::draw(mood, stop, 20_000, rng);
            self.forwarding.manners.push((rng.below(3) != 0).then_some(manner));
        }
        for client in &mut self.clients {
            let is_shared = matches!(client.service, Service::Forward(_));
            let has_tls = if is_shared { encryption.proxy } else { rng.below(4) != 0 };
            let mut manner = Manner::draw(mood, stop, client.payload.len(), rng);
            if mood == Mood::Any && rng.below(16) == 0 && may_speak_plain(client, stop) {
                manner = Manner { flaw: Flaw::Plain, cut: None, ..manner };
            }
            let upstream = Manner::draw(mood, stop, 50_000, rng);
            let upstream = (matches!(client.service, Service::Proxy(_)) && rng.below(3) != 0).then_some(upstream);
            if has_tls && !manner.is_sound() {
                client.is_polite = false;
                client.reads_all = false;
            }
            if let (Service::Proxy(server), false) =
                (&mut client.service, upstream.as_ref().is_none_or(Manner::is_sound))
            {
                client.is_polite = false;
                server.is_polite = false;
            }
            encryption.clients.push(has_tls.then_some(manner));
            encryption.upstreams.push(upstream);
        }
        self.tls = Some(encryption);
        self
    }

    /// How a client speaks TLS, if it should.
    pub fn manner_of(&self, client: usize) -> Option<&Manner> {
        self.tls.as_ref()?.clients.get(client)?.as_ref()
    }

    /// How the upstream of a client speaks TLS, if it does.
    pub fn upstream_manner(&self, client: usize) -> Option<&Manner> {
        self.tls.as_ref()?.upstreams.get(client)?.as_ref()
    }
}

/// Whether plain text to a port with TLS comes to an end: what is not HTTP may look like a record, and is waited for.
fn may_speak_plain(client: &Client, stop: Stop) -> bool {
    stop != Stop::WhenDone || matches!(client.service, Service::Http(_) | Service::Forward(_))
}

/// What TLS needs in one run.
#[derive(Debug)]
pub struct Tls {
    server: Versions<ServerConfig>,
    client: Versions<ClientConfig>,
    /// Of clients of HTTP/2.
    client_h2: Versions<ClientConfig>,
    /// Of clients with the certificate of each identity.
    client_of: Vec<Versions<ClientConfig>>,
    /// Of the server that is tested.
    pub listener: Arc<ServerConfig>,
    pub peer: TlsPeer,
}

#[derive(Debug)]
struct Versions<Config> {
    tls12: Arc<Config>,
    tls13: Arc<Config>,
}

impl<Config> Versions<Config> {
    fn new(config: impl Fn(&[&'static SupportedProtocolVersion]) -> Result<Config, Error>) -> Self {
        let config = |version| Arc::new(config(&[version]).expect("it can be used"));
        Self { tls12: config(&TLS12), tls13: config(&TLS13) }
    }

    fn with(&self, change: impl Fn(&mut Config)) -> Self
    where
        Config: Clone,
    {
        let mut changed = Self { tls12: Arc::clone(&self.tls12), tls13: Arc::clone(&self.tls13) };
        change(Arc::make_mut(&mut changed.tls12));
        change(Arc::make_mut(&mut changed.tls13));
        changed
    }

    fn of(&self, manner: &Manner) -> Arc<Config> {
        Arc::clone(if manner.is_tls12 { &self.tls12 } else { &self.tls13 })
    }
}

impl Tls {
    /// Everything random in it follows from the seed, and the clock of this thread begins. `has_http2`: the listeners
    /// speak HTTP/2 with those who ask for it.
    pub fn new(seed: u64, has_http2: bool, gateways: Option<&Gateways>) -> Self {
        seeded::seed(seed);
        let keys = TicketKeys::new(seeded::crypto());
        let server = |versions: &[&'static SupportedProtocolVersion]| seeded::server_config(&keys, versions, None);
        let config = Arc::new(seeded::client_config(&[&TLS13, &TLS12], None).expect("it can be used"));
        let client_auth = gateways.and_then(|gateways| gateways.client_auth);
        let mut listener = seeded::server_config(&keys, &[&TLS13, &TLS12], client_auth).expect("it can be used");
        let client = Versions::new(|versions| seeded::client_config(versions, None));
        let names = IDENTITIES.iter().filter(|_| gateways.is_some());
        let client_of = names
            .map(|name| Versions::new(|versions| seeded::client_config(versions, Some(certificate(name)))))
            .collect();
        if has_http2 {
            listener.alpn_protocols = vec![ALPN_H2.to_vec(), b"http/1.1".to_vec()];
        }
        Self {
            server: Versions::new(server),
            client_h2: client.with(|config| config.alpn_protocols = vec![ALPN_H2.to_vec()]),
            client,
            client_of,
            listener: Arc::new(listener),
            peer: TlsPeer { config, server_name: name() },
        }
    }

    /// What a client speaks through; `None`: it speaks no TLS.
    pub fn client(&self, manner: &Manner, is_http2: bool) -> Option<Box<dyn Layer>> {
        let of_identity = manner.identity.and_then(|identity| self.client_of.get(identity));
        let config = of_identity.unwrap_or(if is_http2 { &self.client_h2 } else { &self.client });
        let connection = ClientConnection::new(config.of(manner), name()).expect("it can be used");
        (manner.flaw != Flaw::Plain).then(|| TlsLayer::boxed(connection.into(), manner, None))
    }

    /// What a server speaks through.
    pub fn server(&self, manner: &Manner) -> Box<dyn Layers> {
        Box::new(TlsServer { config: self.server.of(manner), manner: manner.clone() })
    }
}

/// HTTP/2 in the handshake (RFC 9113, 3.2).
const ALPN_H2: &[u8] = b"h2";

fn name() -> ServerName<'static> {
    ServerName::try_from("sim").expect("it is one")
}

#[derive(Debug)]
struct TlsServer {
    config: Arc<ServerConfig>,
    manner: Manner,
}

impl Layers for TlsServer {
    fn next(&self) -> Box<dyn Layer> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).expect("it can be used");
        let beginning = self.manner.beginnings.as_ref().map(|beginnings| {
            let number = beginnings.borrow().len();
            beginnings.borrow_mut().push(Vec::new());
            (Rc::clone(beginnings), number)
        });
        TlsLayer::boxed(connection.into(), &self.manner, beginning)
    }
}

/// TLS at a peer's side of one connection.
struct TlsLayer {
    connection: Connection,
    manner: Manner,
    input: LayerInput,
    /// The record that has not wholly arrived.
    partial: Vec<u8>,
    output: VecDeque<u8>,
    /// Bytes that were ever in the output.
    made: usize,
    said: usize,
    /// Where each record with plaintext ends: in the output, and in the plaintext.
    records: Vec<(usize, usize)>,
    /// Where the header goes that is not complete, and which one of those it is.
    beginning: Option<(Beginnings, usize)>,
}

impl TlsLayer {
    fn boxed(connection: Connection, manner: &Manner, beginning: Option<(Beginnings, usize)>) -> Box<dyn Layer> {
        let mut layer = Self {
            connection,
            manner: manner.clone(),
            input: LayerInput::Open,
            partial: Vec::new(),
            output: manner.preamble.iter().copied().collect(),
            made: manner.preamble.len(),
            said: 0,
            records: Vec::new(),
            beginning,
        };
        if let Flaw::Garbage(bytes) = &manner.flaw {
            layer.output.extend(bytes);
            layer.made += bytes.len();
        }
        layer.collect();
        Box::new(layer)
    }

    /// Moves what the connection has to send to the output.
    fn collect(&mut self) {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).expect("memory takes everything");
        }
        if let Flaw::Flip(at) = self.manner.flaw
            && let Some(byte) = at.checked_sub(self.made).and_then(|at| bytes.get_mut(at))
        {
            *byte ^= 1 << (at % 8);
        }
        self.made += bytes.len();
        self.output.extend(bytes);
    }

    /// Takes the header from the front, and returns what follows it.
    fn take_beginning<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some((beginnings, number)) = self.beginning.take() else { return bytes };
        let mut all = beginnings.borrow_mut();
        let beginning = &mut all[number];
        let before = beginning.len();
        beginning.extend_from_slice(bytes);
        match read_header(beginning) {
            Ok(Some((_, length))) => {
                beginning.truncate(length);
                return &bytes[length - before..];
            }
            Ok(None) => {
                drop(all);
                self.beginning = Some((beginnings, number));
            }
            Err(_) => self.input = LayerInput::Failed(PeerEnd::Garbled),
        }
        &[]
    }

    fn note_partial(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut whole = 0;
        while let Some([_, _, _, high, low]) = self.partial.get(whole..whole + 5)
            && let end = whole + 5 + usize::from(u16::from_be_bytes([*high, *low]))
            && end <= self.partial.len()
        {
            whole = end;
        }
        self.partial.drain(..whole);
    }
}

impl Layer for TlsLayer {
    fn hear(&mut self, bytes: &[u8], received: &mut Vec<u8>) {
        let mut bytes = self.take_beginning(bytes);
        self.note_partial(bytes);
        while !bytes.is_empty() && self.input == LayerInput::Open {
            if self.connection.read_tls(&mut bytes).expect("plaintext is taken at once") == 0 {
                break;
            }
            let processed = self.connection.process_new_packets();
            let mut memory = [0; 16 << 10];
            while let Ok(count @ 1..) = self.connection.reader().read(&mut memory) {
                received.extend_from_slice(&memory[..count]);
            }
            self.input = match processed {
                Ok(state) if state.peer_has_closed() => LayerInput::Ended,
                Ok(_) => LayerInput::Open,
                Err(Error::AlertReceived(_)) => LayerInput::Failed(PeerEnd::Alerted),
                Err(_) => LayerInput::Failed(PeerEnd::Garbled),
            };
            self.collect();
        }
    }

    fn input(&self) -> LayerInput {
        self.input
    }

    fn undecrypted(&self) -> usize {
        self.partial.len()
    }

    fn is_opening(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn say(&mut self, plaintext: &[u8], rng: &mut Rng) -> usize {
        if self.connection.is_handshaking() {
            return 0;
        }
        if self.manner.updates_keys && rng.below(8) == 0 {
            self.connection.refresh_traffic_keys().expect("1.3 has updates of keys");
        }
        let count = plaintext.len().min(self.manner.record_bytes_max);
        let count = self.connection.writer().write(&plaintext[..count]).expect("it takes a record");
        self.collect();
        self.said += count;
        self.records.push((self.made, self.said));
        count
    }

    fn end(&mut self) -> bool {
        if self.connection.is_handshaking() {
            return false;
        }
        if self.manner.flaw != Flaw::NoEnd {
            self.connection.send_close_notify();
            self.collect();
        }
        true
    }

    fn output(&mut self) -> &mut VecDeque<u8> {
        &mut self.output
    }

    fn plaintext_in(&self, output_bytes: usize) -> usize {
        let sound = output_bytes.min(self.manner.spoiled_from().unwrap_or(usize::MAX));
        let whole = self.records.partition_point(|(end, _)| *end <= sound);
        whole.checked_sub(1).map_or(0, |last| self.records[last].1)
    }

    fn cut(&self) -> Option<(usize, Cut)> {
        self.manner.cut
    }

    fn ends_in_order(&self) -> bool {
        self.manner.flaw != Flaw::NoEnd
    }

    fn stays_open(&self) -> bool {
        self.manner.stays_open && self.ends_in_order()
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("manner", &self.manner).field("input", &self.input).finish_non_exhaustive()
    }
}
