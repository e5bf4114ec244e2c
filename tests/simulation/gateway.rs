//! What stands in front of the listeners and behind the proxy in a run over TLS: gateways that name their clients in a
//! PROXY protocol header before the ClientHello, certificates of clients, and health checks. The proxy announces its
//! clients to its upstreams in the same way.
//!
//! It is drawn apart from the rest, so that seeds keep their meaning. Headers are written and read here by the
//! specification, without the code that is tested.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use xps::internals::driver::sim::Rng;
use xps::internals::tcp::proxy_header::ProxyVersion;
use xps::internals::tls::server::ClientAuthMode;
use xps::internals::upstream::group::{CheckConfig, CheckKind, HttpCheck};

use crate::scenario::{Mood, Scenario, Service};
use crate::tls::{Flaw, Manner};

/// What is special about a run.
#[derive(Debug)]
pub struct Gateways {
    /// The server believes what headers say.
    pub are_trusted: bool,
    /// Whether clients are asked for certificates.
    pub client_auth: Option<ClientAuthMode>,
    /// Connections to upstreams over TLS begin with a header of this version.
    pub announce: Option<ProxyVersion>,
    /// The servers behind the proxy are checked.
    pub checks: Option<CheckConfig>,
}

/// The addresses in the header of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

/// The beginnings of all connections to one upstream, in their order.
pub type Beginnings = Rc<RefCell<Vec<Vec<u8>>>>;

/// The request of a health check asks for this: no client does.
pub const CHECK_ID: u32 = 9_999;

/// Whose certificates clients show. Those of one identity resume each other's sessions.
pub const IDENTITIES: [&str; 2] = ["client a", "client b"];

impl Scenario {
    /// The same with gateways, certificates and health checks.
    pub fn behind_gateways(mut self, mood: Mood) -> Self {
        let rng = &mut Rng::new(self.seed ^ 0x9a7e_3a15);
        let Some(tls) = &mut self.tls else { return self };
        let proxy_has_gateway = tls.proxy && rng.coin();
        let client_auth = match rng.below(4) {
            0 => None,
            1 => Some(ClientAuthMode::Require),
            _ => Some(ClientAuthMode::Request),
        };
        for (number, (client, manner)) in self.clients.iter_mut().zip(&mut tls.clients).enumerate() {
            let has_gateway = match client.service {
                Service::Forward(_) => proxy_has_gateway,
                _ => rng.coin(),
            };
            let version = if rng.coin() { ProxyVersion::V1 } else { ProxyVersion::V2 };
            let identity = if rng.below(4) == 0 { None } else { Some(rng.below(IDENTITIES.len() as u64) as usize) };
            let Some(manner) = manner.as_mut() else { continue };
            manner.identity = identity;
            if has_gateway {
                // Who says nothing of a client is no gateway.
                if manner.flaw == Flaw::Plain {
                    manner.flaw = Flaw::None;
                }
                manner.announce_by(Ends::of(number), version);
            }
            if client_auth == Some(ClientAuthMode::Require) && identity.is_none() {
                client.is_polite = false;
            }
        }
        let announce = [None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)][rng.below(3) as usize];
        if announce.is_some() {
            tls.upstreams.iter_mut().flatten().for_each(Manner::expect_header);
            if self.forwarding.manners.iter().all(Option::is_some) {
                self.forwarding.manners.iter_mut().flatten().for_each(Manner::expect_header);
            }
        }
        let interval = Duration::from_millis(rng.range(50, 1000));
        let checks = (mood == Mood::Any && rng.coin()).then(|| CheckConfig {
            kind: match rng.below(3) {
                0 => CheckKind::Connect,
                _ => CheckKind::Http(Box::new(HttpCheck::get(format!("/{CHECK_ID}/{}", rng.below(3_000))))),
            },
            interval,
            // Longer than anything takes that is not a fault.
            timeout: Duration::from_secs(200),
            rise: 1 + rng.below(3) as u32,
            fall: 1 + rng.below(3) as u32,
        });
        tls.gateways = Some(Gateways { are_trusted: rng.coin(), client_auth, announce, checks });
        self
    }

    pub fn gateways(&self) -> Option<&Gateways> {
        self.tls.as_ref()?.gateways.as_ref()
    }

    /// Whether this client shows no certificate where it has to: it is not served.
    pub fn lacks_certificate(&self, client: usize) -> bool {
        let is_required = self.gateways().is_some_and(|gateways| gateways.client_auth == Some(ClientAuthMode::Require));
        is_required && self.manner_of(client).is_some_and(|manner| manner.identity.is_none())
    }

    /// Whose certificate the server has seen of this client.
    pub fn shown_identity(&self, client: usize) -> Option<&'static str> {
        self.gateways()?.client_auth?;
        self.manner_of(client)?.identity.map(|identity| IDENTITIES[identity])
    }
}

impl Ends {
    /// What the gateway of this client says.
    fn of(client: usize) -> Self {
        let address = |host, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, host)), port);
        Self { client: address(100 + client as u8, 5000 + client as u16), server: address(1, 443) }
    }

    /// A header with them (section 2 of the specification).
    pub fn header(self, version: ProxyVersion) -> Vec<u8> {
        let Self { client, server } = self;
        match version {
            ProxyVersion::V1 => {
                let (client_port, server_port) = (client.port(), server.port());
                format!("PROXY TCP4 {} {} {client_port} {server_port}\r\n", client.ip(), server.ip()).into_bytes()
            }
            ProxyVersion::V2 => {
                let mut bytes = [SIGNATURE, &[0x21, 0x11, 0, 12]].concat();
                let octets = |address: SocketAddr| match address.ip() {
                    IpAddr::V4(ip) => ip.octets(),
                    IpAddr::V6(_) => unreachable!("they are all of one family"),
                };
                bytes.extend([octets(client), octets(server)].concat());
                bytes.extend([client.port().to_be_bytes(), server.port().to_be_bytes()].concat());
                bytes
            }
        }
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is the proxy's own.
    Own,
    Client {
        ends: Ends,
        /// Only version 2 says it.
        tls: Option<ToldTls>,
    },
}

/// What a header says of a client's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldTls {
    /// The name in its certificate, if it has shown one.
    pub common_name: Option<String>,
}

/// Reads the header at the beginning of a connection, and how long it is; `None`: it is not complete.
pub fn read_header(bytes: &[u8]) -> Result<Option<(Told, usize)>, String> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins(b"PROXY ") {
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
        return Ok(Some((read_line(line)?, end + 2)));
    }
    if !begins(SIGNATURE) {
        return Err(format!("no header: {}", bytes[..bytes.len().min(20)].escape_ascii()));
    }
    let Some([command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let length = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    let Some(rest) = bytes.get(16..length) else { return Ok(None) };
    match (command, family) {
        (0x20, _) => Ok(Some((Told::Own, length))),
        (0x21, 0x11) => {
            let (ends, fields) = rest.split_at_checked(12).ok_or("too short for its addresses")?;
            Ok(Some((Told::Client { ends: read_ends(ends), tls: read_tls(fields)? }, length)))
        }
        other => Err(format!("command and family {other:?}")),
    }
}

fn read_line(line: &str) -> Result<Told, String> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN"] => Ok(Told::Own),
        ["PROXY", "TCP4", client, server, client_port, server_port] => {
            let address =
                |host: &str, port: &str| format!("{host}:{port}").parse().map_err(|error| format!("{line:?}: {error}"));
            let ends = Ends { client: address(client, client_port)?, server: address(server, server_port)? };
            Ok(Told::Client { ends, tls: None })
        }
        _ => Err(format!("{line:?}")),
    }
}

/// The addresses and ports of IPv4, which are 12 bytes.
fn read_ends(bytes: &[u8]) -> Ends {
    let address = |host: usize, port: usize| {
        let ip = Ipv4Addr::new(bytes[host], bytes[host + 1], bytes[host + 2], bytes[host + 3]);
        SocketAddr::new(IpAddr::V4(ip), u16::from_be_bytes([bytes[port], bytes[port + 1]]))
    };
    Ends { client: address(0, 8), server: address(4, 10) }
}

/// What the fields say of TLS (2.2.5 of the specification).
fn read_tls(fields: &[u8]) -> Result<Option<ToldTls>, String> {
    const SSL: u8 = 0x20;
    const COMMON_NAME: u8 = 0x22;
    /// A certificate was shown on the connection, or in its session.
    const SHOWN: u8 = 0x06;
    let Some(ssl) = read_field(fields, SSL)? else { return Ok(None) };
    let (head, fields) = ssl.split_at_checked(5).ok_or("a short field of TLS")?;
    let name = read_field(fields, COMMON_NAME)?.map(|name| String::from_utf8_lossy(name).into_owned());
    let is_shown = head[0] & SHOWN != 0 && head[1..] == [0; 4];
    if is_shown != name.is_some() {
        return Err(format!("a certificate is shown: {is_shown}, of {name:?}"));
    }
    Ok(Some(ToldTls { common_name: name }))
}

/// The content of the field of this kind.
fn read_field(mut fields: &[u8], wanted: u8) -> Result<Option<&[u8]>, String> {
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (content, rest) = rest.split_at_checked(length).ok_or("a field that is too long")?;
        if *kind == wanted {
            return Ok(Some(content));
        }
        fields = rest;
    }
    Ok(None)
}

/// A certificate with this common name, as far as its subject is to be read (RFC 5280, 4.1).
pub fn certificate(common_name: &str) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    let sequence = |parts: &[&[u8]]| der(SEQUENCE, &parts.concat());
    let algorithm = sequence(&[&der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
    let attribute = sequence(&[&der(6, &[0x55, 4, 3]), &der(12, common_name.as_bytes())]);
    let name = sequence(&[&der(0x31, &attribute)]);
    let validity = sequence(&[&der(23, b"250101000000Z"), &der(23, b"490101000000Z")]);
    let key_kind =
        sequence(&[&der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])]);
    let key = sequence(&[&key_kind, &der(3, &[0, 4])]);
    let (version, serial) = (der(0xa0, &der(2, &[2])), der(2, &[1]));
    let signed = sequence(&[&version, &serial, &algorithm, &name, &validity, &name, &key]);
    sequence(&[&signed, &algorithm, &der(3, &[0, 0])])
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match u8::try_from(content.len()).expect("it is short") {
        short @ ..0x80 => vec![short],
        long => vec![0x81, long],
    };
    [&[tag], &length[..], content].concat()
}
