//! Both sides in memory: each is tested with the other, and the server's with rustls' own client.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig};

use super::*;
use crate::buffer::PoolConfig;
use crate::tls::testing::{Authority, NAME, VERSIONS};

fn pool() -> Pool {
    Pool::new(PoolConfig { small_bytes: 16 << 10, large_bytes: 256 << 10, small_max: 4096, large_max: 64 })
}

fn buffer(pool: &Pool, bytes: &[u8]) -> Buffer {
    let class = if bytes.len() <= 16 << 10 { SizeClass::Small } else { SizeClass::Large };
    let fill = |memory: &mut [u8]| {
        memory[..bytes.len()].copy_from_slice(bytes);
        Ok::<_, Infallible>(bytes.len())
    };
    pool.filled(class, fill).unwrap().unwrap()
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// A server and a client, and what is on its way between them.
struct Pair {
    pool: Pool,
    server: Stream,
    client: Stream,
    /// The most bytes that arrive in one buffer.
    cut: usize,
    server_got: Vec<u8>,
    client_got: Vec<u8>,
}

impl Pair {
    fn new(server: ServerConfig, client: ClientConfig, cut: usize) -> Self {
        Self::of(&Arc::new(server), &Arc::new(client), cut)
    }

    fn of(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, cut: usize) -> Self {
        Self {
            pool: pool(),
            server: Stream::server(Arc::clone(server)).unwrap(),
            client: Stream::client(Arc::clone(client), name()).unwrap(),
            cut,
            server_got: Vec::new(),
            client_got: Vec::new(),
        }
    }

    /// Passes on what either side has to say, until both are silent.
    fn settle(&mut self) {
        loop {
            let (up, down) = (self.client.take_output().to_vec(), self.server.take_output().to_vec());
            if up.is_empty() && down.is_empty() {
                return;
            }
            deliver(&self.pool, &up, self.cut, &mut self.server, &mut self.server_got);
            deliver(&self.pool, &down, self.cut, &mut self.client, &mut self.client_got);
        }
    }

    fn shaken(mut self) -> Self {
        self.settle();
        assert!(self.server.is_established() && self.client.is_established(), "{:?} {:?}", self.server, self.client);
        self
    }

    /// Sends plaintext from the client to the server.
    fn send_up(&mut self, mut plaintext: Chain) {
        while !plaintext.is_empty() {
            let sealed = self.client.seal(&mut plaintext).to_vec();
            deliver(&self.pool, &sealed, self.cut, &mut self.server, &mut self.server_got);
        }
    }

    /// Sends plaintext from the server to the client.
    fn send_down(&mut self, mut plaintext: Chain) {
        while !plaintext.is_empty() {
            let sealed = self.server.seal(&mut plaintext).to_vec();
            deliver(&self.pool, &sealed, self.cut, &mut self.client, &mut self.client_got);
        }
    }
}

/// Feeds bytes in buffers of at most `cut` bytes, and takes the plaintext.
fn deliver(pool: &Pool, bytes: &[u8], cut: usize, to: &mut Stream, got: &mut Vec<u8>) {
    for piece in bytes.chunks(cut) {
        to.feed(buffer(pool, piece));
        while let Some(buffer) = to.take() {
            assert!(!buffer.is_empty());
            got.extend_from_slice(&buffer);
        }
    }
}

fn chain(bytes: &[u8]) -> Chain {
    Chunk::shared(bytes).into()
}

/// Bytes that differ from their neighbours.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn both_versions_shake_hands_however_the_bytes_are_cut() {
    let authority = Authority::new();
    for version in VERSIONS {
        for cut in [1, 2, 3, 5, 6, 7, 64, 1000, 16 << 10] {
            let mut pair =
                Pair::new(authority.server(&[version], false), authority.client(&[version], false), cut).shaken();
            pair.send_up(chain(b"hello"));
            pair.send_down(chain(b"good day"));
            assert_eq!((&pair.server_got[..], &pair.client_got[..]), (&b"hello"[..], &b"good day"[..]), "cut {cut}");
            let Handshake::Done(info) = pair.server.handshake() else { panic!("{:?}", pair.server) };
            assert_eq!(info.version, if version.version == ProtocolVersion::TLSv1_3 { "TLSv1.3" } else { "TLSv1.2" });
            assert_eq!(info.server_name, Some(NAME));
            assert_eq!(info.protocol, Some(&b"http/1.1"[..]));
            assert!(info.cipher_suite.starts_with("TLS"), "{}", info.cipher_suite);
            assert!(!info.is_resumed && info.peer_certificates.is_empty());
        }
    }
}

#[test]
fn nothing_is_held_once_all_is_taken() {
    let authority = Authority::new();
    let mut pair = Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 700).shaken();
    pair.send_up(chain(&pattern(100_000)));
    pair.send_down(chain(&pattern(100_000)));
    pair.settle();
    assert_eq!((pair.server.memory(), pair.client.memory()), (0, 0));
    assert_eq!(pair.pool.usage(SizeClass::Small).leased, 0);
}

#[test]
fn much_arrives_both_ways_whatever_the_sizes() {
    let authority = Authority::new();
    let bytes = pattern(300_001);
    for version in VERSIONS {
        for cut in [13, 1000, 5000, 16 << 10, 256 << 10] {
            let mut pair =
                Pair::new(authority.server(&[version], false), authority.client(&[version], false), cut).shaken();
            pair.send_up(chain(&bytes));
            assert!(pair.server_got == bytes, "cut {cut}");
            for size in [1, 100, 1023, 1024, 8000, 16_300, 16_400, 70_000] {
                pair.client_got.clear();
                let mut pieces = Chain::new();
                for piece in bytes[..100_000].chunks(size) {
                    pieces.push(Chunk::shared(piece));
                }
                pair.send_down(pieces);
                assert!(pair.client_got == bytes[..100_000], "cut {cut}, pieces of {size}");
            }
        }
    }
}

#[test]
fn a_call_encrypts_no_more_than_its_bound_and_joins_small_pieces() {
    let authority = Authority::new();
    let mut pair = Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 16 << 10).shaken();
    let mut plaintext = chain(&pattern(200_000));
    let sealed = pair.server.seal(&mut plaintext);
    assert_eq!(plaintext.len(), 200_000 - SEAL_BYTES_MAX);
    assert!(sealed.len() < SEAL_BYTES_MAX + 10 * OVERHEAD_BYTES_MAX, "{} bytes", sealed.len());
    let mut pieces = Chain::new();
    (0..10).for_each(|_| pieces.push(Chunk::shared(pattern(100))));
    let sealed = pair.server.seal(&mut pieces);
    assert!(sealed.len() < 1000 + OVERHEAD_BYTES_MAX, "one record: {} bytes", sealed.len());
}

#[test]
fn a_hello_in_two_records_is_understood_with_its_name() {
    let authority = Authority::new();
    for at in [1, 3, 4, 40, 100] {
        for cut in [1, 4, 50, 16 << 10] {
            let mut pair = Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 16 << 10);
            let hello = pair.client.take_output().to_vec();
            let (header, payload) = hello.split_at(HEADER_BYTES);
            let record = |payload: &[u8]| {
                [&header[..3], &u16::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
            };
            // And once over three.
            let parts = [&payload[..at], &payload[at..at + 10], &payload[at + 10..]].map(record).concat();
            assert_eq!(ClientHello::read(&parts).unwrap().server_name.as_deref(), Some(NAME));
            deliver(&pair.pool, &parts, cut, &mut pair.server, &mut pair.server_got);
            assert_eq!(pair.server.server_name(), Some(NAME), "at {at}, cut {cut}");
            pair.shaken();
        }
    }
}

#[test]
fn a_later_connection_resumes() {
    let authority = Authority::new();
    for version in VERSIONS {
        let mut server = authority.server(&[version], false);
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let (server, client) = (Arc::new(server), Arc::new(authority.client(&[version], false)));
        for is_resumed in [false, true, true] {
            let pair = Pair::of(&server, &client, 100).shaken();
            let Handshake::Done(info) = pair.server.handshake() else { panic!("{:?}", pair.server) };
            assert_eq!(info.is_resumed, is_resumed);
            let Handshake::Done(info) = pair.client.handshake() else { panic!("{:?}", pair.client) };
            assert_eq!(info.is_resumed, is_resumed);
        }
    }
}

/// Sent earlier, they would wait for an acknowledgement that the client delays.
#[test]
fn tickets_come_after_the_clients_finished_and_with_the_first_plaintext() {
    let authority = Authority::new();
    let mut pair = Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 16 << 10);
    let hello = pair.client.take_output().to_vec();
    deliver(&pair.pool, &hello, 16 << 10, &mut pair.server, &mut pair.server_got);
    let flight = pair.server.take_output().to_vec();
    deliver(&pair.pool, &flight, 16 << 10, &mut pair.client, &mut pair.client_got);
    assert!(pair.client.is_established() && !pair.server.is_established());
    assert!(!pair.server.has_output());
    // The request comes with the client's last message.
    let request = pair.client.seal(&mut chain(b"request")).to_vec();
    deliver(&pair.pool, &request, 16 << 10, &mut pair.server, &mut pair.server_got);
    assert_eq!(pair.server_got, b"request");
    assert!(pair.server.is_established() && pair.server.has_output());
    let response = pair.server.seal(&mut chain(b"response")).to_vec();
    deliver(&pair.pool, &response, 16 << 10, &mut pair.client, &mut pair.client_got);
    assert_eq!(pair.client_got, b"response");
}

#[test]
fn certificates_of_clients_are_required_where_they_are() {
    let authority = Authority::new();
    for version in VERSIONS {
        let pair = Pair::new(authority.server(&[version], true), authority.client(&[version], true), 900).shaken();
        let Handshake::Done(info) = pair.server.handshake() else { panic!("{:?}", pair.server) };
        assert_eq!(info.peer_certificates.len(), 1);

        let mut pair = Pair::new(authority.server(&[version], true), authority.client(&[version], false), 900);
        pair.settle();
        assert_eq!(pair.server.fault(), Some(TlsFault::NoCertificate));
        // The client hears why: certificate_required, or in TLS 1.2 handshake_failure or another.
        assert!(matches!(pair.client.fault(), Some(TlsFault::Alert(_))), "{:?}", pair.client);

        let stranger = Authority::new();
        let mut pair = Pair::new(authority.server(&[version], true), stranger.client(&[version], true), 900);
        pair.settle();
        assert!(matches!(pair.client.fault(), Some(TlsFault::UnknownIssuer | TlsFault::InvalidCertificate)));
        assert!(matches!(pair.server.fault(), Some(TlsFault::Alert(_))), "{:?}", pair.server);
    }
}

#[test]
fn who_has_no_version_in_common_hears_it() {
    let authority = Authority::new();
    let mut pair = Pair::new(authority.server(&VERSIONS[1..], false), authority.client(&VERSIONS[..1], false), 99);
    pair.settle();
    assert_eq!(pair.server.fault(), Some(TlsFault::Incompatible));
    assert_eq!(pair.client.fault(), Some(TlsFault::Alert(70)));
}

#[test]
fn plain_http_is_recognised_and_garbage_answered_with_an_alert() {
    let authority = Authority::new();
    let config = Arc::new(authority.server(&VERSIONS, false));
    let pool = pool();
    for cut in [1, 2, 3, 4, 5, 100] {
        let of = |bytes: &[u8]| {
            let mut server = Stream::server(Arc::clone(&config)).unwrap();
            deliver(&pool, bytes, cut, &mut server, &mut Vec::new());
            (server.fault(), server.has_output())
        };
        for request in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"OPTIONS * HTTP/1.0\r\n\r\n", b"PRI * HTTP/2.0"] {
            assert_eq!(of(request), (Some(TlsFault::PlainHttp), false), "{}", request.escape_ascii());
        }
        for garbage in
            [&b"\r\n\r\n hello"[..], b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x00\x02", b"EHLOEHLOEHLOEHLOEHLO", &[0; 9]]
        {
            assert_eq!(of(garbage), (Some(TlsFault::NotTls), true), "{} {cut}", garbage.escape_ascii());
        }
        assert_eq!(of(b"GE"), (None, false), "it may become either");
        // A record of 65,535 bytes, and a message of 16 MiB.
        assert_eq!(of(&[22, 3, 1, 255, 255, 0, 0]).0, Some(TlsFault::TooLarge));
        assert_eq!(of(&[22, 3, 1, 0, 5, 1, 255, 255, 255, 0]).0, Some(TlsFault::TooLarge));
    }
}

#[test]
fn a_close_notify_is_an_end_and_its_absence_a_fault() {
    let authority = Authority::new();
    for version in VERSIONS {
        for cut in [1, 10, 16 << 10] {
            let new =
                || Pair::new(authority.server(&[version], false), authority.client(&[version], false), cut).shaken();
            let mut pair = new();
            pair.send_up(chain(b"all"));
            pair.client.close();
            pair.settle();
            pair.server.end();
            assert!(pair.server.peer_has_closed() && pair.server.fault().is_none());
            assert_eq!(pair.server_got, b"all");
            // The other direction is still open.
            pair.send_down(chain(b"answer"));
            pair.server.close();
            pair.server.close();
            pair.settle();
            assert!(pair.client.peer_has_closed());
            assert_eq!(pair.client_got, b"answer");
            assert!(pair.server.seal(&mut chain(b"late")).is_empty(), "nothing follows close_notify");

            let mut pair = new();
            pair.send_up(chain(b"part"));
            pair.server.end();
            assert_eq!(pair.server.fault(), Some(TlsFault::Truncated));
            assert_eq!(pair.server_got, b"part");

            let mut pair = new();
            let sealed = pair.client.seal(&mut chain(b"cut off")).to_vec();
            deliver(&pair.pool, &sealed[..sealed.len() - 1], cut, &mut pair.server, &mut pair.server_got);
            pair.server.end();
            assert_eq!((pair.server.fault(), pair.server_got.len()), (Some(TlsFault::Truncated), 0));
        }
    }
}

#[test]
fn a_client_may_leave_at_any_byte_of_the_handshake() {
    let authority = Authority::new();
    let server = Arc::new(authority.server(&VERSIONS, false));
    let mut pair = Pair::of(&server, &Arc::new(authority.client(&VERSIONS, false)), 16 << 10);
    let hello = pair.client.take_output().to_vec();
    for count in 0..=hello.len() {
        let mut pair = Pair::of(&server, &Arc::new(authority.client(&VERSIONS, false)), 333);
        let hello = pair.client.take_output().to_vec();
        deliver(&pair.pool, &hello[..count.min(hello.len())], 333, &mut pair.server, &mut pair.server_got);
        pair.server.end();
        let fault = if count == 0 { TlsFault::NothingSent } else { TlsFault::Abandoned };
        assert_eq!(pair.server.fault(), Some(fault), "after {count} bytes");
        assert!(pair.server.memory() < 8 << 10);
    }
}

#[test]
fn each_changed_byte_is_noticed() {
    let authority = Authority::new();
    for version in VERSIONS {
        let (server, client) =
            (Arc::new(authority.server(&[version], false)), Arc::new(authority.client(&[version], false)));
        // Type and version of a record are for show.
        for at in 3..33 {
            let mut pair = Pair::of(&server, &client, 16 << 10).shaken();
            let mut sealed = pair.client.seal(&mut chain(b"twelve bytes")).to_vec();
            sealed[at] ^= 1;
            deliver(&pair.pool, &sealed, 16 << 10, &mut pair.server, &mut pair.server_got);
            pair.server.end();
            assert!(pair.server.fault().is_some() && pair.server_got.is_empty(), "byte {at}");
        }
    }
}

/// What an engine under attack meets: valid beginnings, then anything.
#[test]
fn no_input_makes_it_panic_or_grow() {
    let authority = Authority::new();
    let (server, client) = (Arc::new(authority.server(&VERSIONS, true)), Arc::new(authority.client(&VERSIONS, true)));
    let mut seed = 12345_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..400 {
        let mut pair = Pair::of(&server, &client, 1 + random() % 3000);
        for _ in 0..4 {
            let mut up = pair.client.take_output().to_vec();
            for _ in 0..random() % 3 {
                let at = random() % (up.len() + 1);
                match random() % 3 {
                    0 if at < up.len() => up[at] ^= 1 << (random() % 8),
                    1 => up.truncate(at),
                    _ => drop(up.splice(at..at, (0..random() % 2000).map(|_| 23).collect::<Vec<u8>>())),
                }
            }
            deliver(&pair.pool, &up, pair.cut, &mut pair.server, &mut pair.server_got);
            let down = pair.server.take_output().to_vec();
            deliver(&pair.pool, &down, pair.cut, &mut pair.client, &mut pair.client_got);
            assert!(pair.server.memory() <= Stream::MEMORY_MAX + (16 << 10));
        }
        pair.server.end();
        let mut late = chain(b"late");
        let _ = pair.server.seal(&mut late);
        pair.server.close();
    }
}

#[test]
fn a_record_in_part_does_not_stop_sending() {
    let authority = Authority::new();
    for count in [1, 4, 5, 6, 500] {
        let mut pair =
            Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 16 << 10).shaken();
        let sealed = pair.client.seal(&mut chain(&pattern(1000))).to_vec();
        deliver(&pair.pool, &sealed[..count], 16 << 10, &mut pair.server, &mut pair.server_got);
        pair.send_down(chain(b"meanwhile"));
        deliver(&pair.pool, &sealed[count..], 16 << 10, &mut pair.server, &mut pair.server_got);
        assert_eq!(pair.client_got, b"meanwhile");
        assert!(pair.server_got == pattern(1000));
    }
}

#[test]
fn without_a_free_buffer_it_waits_and_loses_nothing() {
    let authority = Authority::new();
    let mut pair = Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 1000).shaken();
    let tight = Pool::new(PoolConfig { small_bytes: 4096, large_bytes: 4096, small_max: 3, large_max: 1 });
    let mut server =
        std::mem::replace(&mut pair.server, Stream::server(Arc::new(authority.server(&VERSIONS, false))).unwrap());
    server.pool = Some(tight.clone());
    let sealed = pair.client.seal(&mut chain(&pattern(12_000))).to_vec();
    let held: Vec<_> = (0..3).map(|_| tight.take(SizeClass::Small).unwrap()).collect();
    let also_held = tight.take(SizeClass::Large).unwrap();
    for piece in sealed.chunks(1000) {
        server.feed(buffer(&pair.pool, piece));
    }
    assert!(server.take().is_none());
    assert!(server.is_blocked() && !server.is_drained());
    // It can send all the same.
    assert!(!server.seal(&mut chain(b"x")).is_empty());
    held.into_iter().for_each(|id| tight.give_back(id));
    tight.give_back(also_held);
    let mut got = Vec::new();
    while let Some(buffer) = server.take() {
        got.extend_from_slice(&buffer);
    }
    assert!(got == pattern(12_000) && server.is_drained());
}

#[test]
fn a_shared_buffer_is_not_changed() {
    let authority = Authority::new();
    let mut pair = Pair::new(authority.server(&VERSIONS, false), authority.client(&VERSIONS, false), 1000).shaken();
    let sealed = pair.client.seal(&mut chain(b"some bytes")).to_vec();
    let shared = buffer(&pair.pool, &sealed);
    pair.server.feed(shared.clone());
    assert_eq!(pair.server.take().as_deref(), Some(&b"some bytes"[..]));
    assert_eq!(&shared[..], sealed);
}

#[test]
fn the_client_of_rustls_with_its_own_buffers_understands_it() {
    let authority = Authority::new();
    for version in VERSIONS {
        let mut client = ClientConnection::new(Arc::new(authority.client(&[version], false)), name()).unwrap();
        let mut server = Stream::server(Arc::new(authority.server(&[version], false))).unwrap();
        let (pool, mut got) = (pool(), Vec::new());
        client.writer().write_all(&pattern(30_000)).unwrap();
        let mut answer = chain(&pattern(100_000));
        let mut received = Vec::new();
        for _ in 0..20 {
            let mut up = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut up).unwrap();
            }
            deliver(&pool, &up, 4000, &mut server, &mut got);
            let down = server.seal(&mut answer).to_vec();
            let mut rest = &down[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
                let mut piece = [0; 20_000];
                while let Ok(count @ 1..) = client.reader().read(&mut piece) {
                    received.extend_from_slice(&piece[..count]);
                }
            }
            // A new key for what the server sends from now on.
            let _ = client.refresh_traffic_keys();
        }
        assert!(got == pattern(30_000) && received == pattern(100_000), "{} {}", got.len(), received.len());
    }
}
