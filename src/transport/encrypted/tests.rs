//! Two transports, connected by a kernel of a few lines.

#[cfg(feature = "ktls-tx")]
mod kernel_tls;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;

use super::*;
use crate::buffer::{Chunk, Pool, PoolConfig, SizeClass};
use crate::driver::{Request, TlsFault};
use crate::table::{RawKey, Table};
use crate::tcp::ConnectionTokens;
use crate::tls::testing::{Authority, NAME, VERSIONS};
use crate::transport::Transport;

const RECV: u8 = 0;
const SEND: u8 = 1;
const CLOSE: u8 = 2;
const READ: u8 = 3;

/// The file that is sent, in bytes.
const FILE_BYTES: usize = 300_000;

/// One side: its transport, and what the kernel knows of its socket.
struct Side {
    transport: Transport,
    ops: Ops,
    got: Vec<u8>,
    recv: Option<(OpId, bool)>,
    /// The send in flight, and what the kernel has not taken of it.
    send: Option<(OpId, Vec<u8>)>,
    /// The computation in flight.
    computing: Option<(OpId, Computation)>,
    computations: usize,
    threads: Threads,
    arrived: VecDeque<u8>,
    /// The other side has ended or reset.
    end: Option<Outcome>,
    is_reset: bool,
    /// The records that the kernel makes of what is sent.
    #[cfg(feature = "ktls-tx")]
    kernel_tls: kernel_tls::KernelTls,
}

/// The threads for computations.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Threads {
    Free,
    /// They have no time now.
    Busy,
    /// Their queue is full.
    Full,
}

struct Pair {
    pool: Pool,
    client: Side,
    server: Side,
    /// The most bytes that arrive, and that the kernel takes, at once.
    cut: usize,
    /// The kernel takes nothing.
    is_stuck: bool,
    now: Time,
}

impl Pair {
    fn new(cut: usize) -> Self {
        Self::of(cut, &VERSIONS)
    }

    fn of(cut: usize, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let authority = Authority::new();
        let (socket, tokens) = endpoint();
        let reads = Token { slot: READ, ..tokens.send };
        let server = Transport::tls_server(socket, tokens, reads, Arc::new(authority.server(versions, false))).unwrap();
        let (socket, tokens) = endpoint();
        let name = NAME.try_into().unwrap();
        let client = Transport::tls_client(socket, tokens, Arc::new(authority.client(&VERSIONS, false)), name).unwrap();
        let pool = Pool::new(PoolConfig::default());
        let (client, server) = (Side::new(client), Side::new(server));
        Self { pool, client, server, cut, is_stuck: false, now: Time::ZERO }
    }

    /// Runs until nothing changes.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let Self { pool, client, server, cut, is_stuck, now } = self;
            let cut = if *is_stuck { 0 } else { *cut };
            let mut is_news = client.turn(server, pool, cut, *now);
            is_news |= server.turn(client, pool, cut, *now);
            if !is_news {
                return;
            }
        }
        panic!("it never settles");
    }

    fn shaken(mut self) -> Self {
        self.client.transport.set_receiving(true, &mut self.client.ops);
        self.server.transport.set_receiving(true, &mut self.server.ops);
        self.settle();
        assert!(matches!(self.client.transport.handshake(), Some(Handshake::Done(_))), "{:?}", self.client.transport);
        assert!(matches!(self.server.transport.handshake(), Some(Handshake::Done(_))), "{:?}", self.server.transport);
        assert!(self.client.transport.can_send() && self.server.transport.can_send());
        self
    }
}

fn endpoint() -> (Socket, ConnectionTokens) {
    let token = |slot| Token { machine: RawKey::from_parts(0, 0), kind: 0, slot };
    let tokens = ConnectionTokens { recv: token(RECV), send: token(SEND), close: token(CLOSE) };
    (Socket::of_key(Table::new().insert(())), tokens)
}

fn file() -> File {
    File::of_key(Table::new().insert(()))
}

fn byte_of_file(at: usize) -> u8 {
    (at * 13 + at / 255) as u8
}

fn bytes_of_file(length: usize) -> Vec<u8> {
    (0..length).map(byte_of_file).collect()
}

impl Side {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            ops: Ops::new(),
            got: Vec::new(),
            recv: None,
            send: None,
            computing: None,
            computations: 0,
            threads: Threads::Free,
            arrived: VecDeque::new(),
            end: None,
            is_reset: false,
            #[cfg(feature = "ktls-tx")]
            kernel_tls: kernel_tls::KernelTls::Absent,
        }
    }

    /// What a session does in a turn, and then what the kernel does.
    fn turn(&mut self, other: &mut Self, pool: &Pool, cut: usize, now: Time) -> bool {
        while let Some(buffer) = self.transport.take_received() {
            self.got.extend_from_slice(&buffer);
        }
        self.transport.pump(now, &mut self.ops);
        assert!(self.transport.memory() <= self.transport.memory_max());
        self.kernel(other, pool, cut)
    }

    fn kernel(&mut self, other: &mut Self, pool: &Pool, cut: usize) -> bool {
        let mut is_news = false;
        let requests: Vec<Request> = self.ops.drain().collect();
        for request in requests {
            is_news = true;
            match request {
                Request::Start(id, Op::Recv { .. }) => self.recv = Some((id, true)),
                #[cfg(feature = "ktls-tx")]
                Request::Start(id, op) if self.kernel_tls.concerns(&op) => self.run_kernel_tls(other, id, op),
                Request::Start(id, Op::Send { chain, .. }) => self.send = Some((id, chain.to_vec())),
                Request::Start(id, Op::Read { offset, length, .. }) => {
                    let end = (offset as usize + length).min(FILE_BYTES);
                    self.complete(id, Outcome::Read(Chunk::owned((offset as usize..end).map(byte_of_file).collect())));
                }
                Request::Start(id, Op::Compute(computation)) => self.computing = Some((id, computation)),
                Request::Start(id, Op::Shutdown { .. }) => {
                    other.end = Some(Outcome::Eof);
                    self.complete(id, Outcome::Done);
                }
                Request::Start(id, Op::Close { .. }) => {
                    other.end.get_or_insert(Outcome::Eof);
                    self.complete(id, Outcome::Done);
                }
                Request::Start(id, Op::Reset { .. }) => {
                    other.is_reset = true;
                    other.arrived.clear();
                    other.end = Some(Outcome::Failed(Fault::Os(libc::ECONNRESET)));
                    self.complete(id, Outcome::Reset { lost: 0 });
                }
                Request::Start(id, Op::Flush { .. }) => self.complete(id, Outcome::Done),
                Request::Start(_, op) => panic!("{op:?}"),
                Request::Pause(_) => self.recv = self.recv.map(|(id, _)| (id, false)),
                Request::Resume(_) => self.recv = self.recv.map(|(id, _)| (id, true)),
                Request::Cancel(id) => {
                    if self.recv.is_some_and(|(recv, _)| recv == id) {
                        self.recv = None;
                        self.complete(id, Outcome::Cancelled);
                    }
                    if self.computing.take_if(|(computing, _)| *computing == id).is_some() {
                        self.complete(id, Outcome::Cancelled);
                    }
                    if let Some((_, bytes)) = self.send.take_if(|(send, _)| *send == id) {
                        // Attempted once.
                        let is_whole = cut >= bytes.len();
                        other.arrived.extend(bytes.into_iter().take(cut));
                        self.complete(id, if is_whole { Outcome::Sent } else { Outcome::Cancelled });
                    }
                }
            }
        }
        if self.threads != Threads::Busy
            && let Some((id, computation)) = self.computing.take()
        {
            is_news = true;
            self.computations += 1;
            let outcome = match self.threads {
                Threads::Full => Outcome::Failed(Fault::Os(libc::ENOBUFS)),
                Threads::Free | Threads::Busy => Outcome::Computed(computation.run()),
            };
            self.complete(id, outcome);
        }
        if cut > 0
            && let Some((id, mut bytes)) = self.send.take()
        {
            is_news = true;
            let count = cut.min(bytes.len());
            other.arrived.extend(bytes.drain(..count));
            if bytes.is_empty() {
                self.complete(id, Outcome::Sent);
            } else {
                self.send = Some((id, bytes));
                self.complete(id, Outcome::Progress(count as u64));
            }
        }
        if let Some((id, true)) = self.recv {
            let count = self.arrived.len().min(cut).min(16 << 10);
            if count > 0 {
                is_news = true;
                let fill = |memory: &mut [u8]| {
                    memory.iter_mut().zip(self.arrived.drain(..count)).for_each(|(to, from)| *to = from);
                    Ok::<_, Infallible>(count)
                };
                let buffer = pool.filled(SizeClass::Small, fill).unwrap().unwrap();
                self.complete(id, Outcome::Received(buffer));
            } else if self.arrived.is_empty()
                && let Some(outcome) = self.end.take()
            {
                is_news = true;
                self.recv = None;
                self.complete(id, outcome);
            }
        }
        is_news
    }

    fn complete(&mut self, id: OpId, outcome: Outcome) {
        let token = self.ops.settle(id, outcome.is_final()).unwrap();
        match token.slot {
            RECV => assert!(self.transport.on_received(outcome).is_none()),
            SEND => self.transport.on_sent(outcome),
            CLOSE => self.transport.on_closed(outcome),
            _ => self.transport.on_read(outcome),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.transport.send(Chunk::shared(bytes).into(), &mut self.ops);
    }
}

#[test]
fn bytes_of_both_sides_arrive_and_are_counted_as_plaintext() {
    for cut in [7, 1000, 1 << 20] {
        let mut pair = Pair::new(cut).shaken();
        let bytes = bytes_of_file(150_000);
        pair.client.send(&bytes);
        assert!(!pair.client.transport.can_send());
        pair.server.send(b"short");
        pair.settle();
        assert!(pair.server.got == bytes && pair.client.got == b"short");
        let (client, server) = (&pair.client.transport, &pair.server.transport);
        assert_eq!((client.given_bytes(), client.sent_bytes(), client.delivered_bytes()), (150_000, 150_000, 150_000));
        assert_eq!((client.undelivered_bytes(), server.received_bytes(), server.sent_bytes()), (0, 150_000, 5));
        assert!(client.can_send() && client.is_sending_at_rest());
        assert_eq!((client.memory(), server.memory()), (0, 0));
    }
}

#[test]
fn what_is_sent_in_part_counts_in_part() {
    let mut pair = Pair::new(1 << 20).shaken();
    pair.client.send(&bytes_of_file(60_000));
    pair.is_stuck = true;
    pair.settle();
    assert_eq!((pair.client.transport.given_bytes(), pair.client.transport.sent_bytes()), (60_000, 0));
    pair.is_stuck = false;
    pair.cut = 30_000;
    let Pair { client, server, pool, cut, now, .. } = &mut pair;
    client.turn(server, pool, *cut, *now);
    let sent = client.transport.sent_bytes();
    assert!((29_000..30_000).contains(&sent), "{sent}");
    assert_eq!(client.transport.undelivered_bytes(), 60_000 - sent);
}

#[test]
fn a_file_is_read_encrypted_and_sent_in_pieces() {
    for cut in [5000, 1 << 20] {
        for (offset, length) in [(0, FILE_BYTES), (3, 1), (100, 64 << 10), (1000, (64 << 10) + 1), (5, 200_000)] {
            let mut pair = Pair::new(cut).shaken();
            let side = &mut pair.server;
            let head = Chain::from(&b"head "[..]);
            side.transport.send_file(head, file(), offset as u64, length as u64, &mut side.ops);
            assert!(!side.transport.can_send() && !side.transport.is_sending_at_rest());
            pair.settle();
            assert!(
                pair.client.got[..5] == *b"head "
                    && pair.client.got[5..] == bytes_of_file(FILE_BYTES)[offset..][..length]
            );
            assert_eq!(pair.server.transport.sent_bytes(), 5 + length as u64);
            assert!(pair.server.transport.can_send() && pair.server.transport.memory() == 0);
        }
    }
}

#[test]
fn a_file_that_is_too_short_is_sent_as_far_as_it_goes() {
    let mut pair = Pair::new(1 << 20).shaken();
    let side = &mut pair.server;
    side.transport.send_file(Chain::new(), file(), 200_000, 200_000, &mut side.ops);
    pair.settle();
    assert!(pair.client.got == bytes_of_file(FILE_BYTES)[200_000..]);
    let side = &mut pair.server;
    assert!(side.transport.lacks_file() && side.transport.is_broken() && !side.transport.can_send());
    assert_eq!(side.transport.undelivered_bytes(), 100_000);
    // The connection is intact: it can end in order.
    side.transport.shutdown(&mut side.ops);
    pair.settle();
    assert!(pair.server.transport.is_shut_down());
    assert_eq!(pair.client.transport.input_end(), Some(End::Eof));
}

#[test]
fn a_shutdown_is_a_close_notify_and_the_other_direction_stays_open() {
    let mut pair = Pair::new(1000).shaken();
    pair.client.send(b"question");
    pair.settle();
    pair.client.transport.shutdown(&mut pair.client.ops);
    assert!(!pair.client.transport.is_sending_at_rest());
    pair.settle();
    assert!(pair.client.transport.is_shut_down() && pair.client.transport.is_sending_at_rest());
    assert_eq!(pair.server.transport.input_end(), Some(End::Eof));
    assert!(!pair.server.transport.is_broken());
    pair.server.send(b"answer");
    pair.settle();
    assert_eq!(pair.client.got, b"answer");
}

/// Closes one side, as a session does, until it is closed.
fn close(pair: &mut Pair, close_kind: CloseKind) {
    for _ in 0..100_000 {
        pair.server.transport.close(close_kind, &mut pair.server.ops);
        if pair.server.transport.is_closed() {
            break;
        }
        let Pair { client, server, pool, cut, is_stuck, .. } = pair;
        server.kernel(client, pool, if *is_stuck { 0 } else { *cut });
        if !*is_stuck {
            client.turn(server, pool, *cut, Time::ZERO);
        }
    }
    assert!(pair.server.transport.is_closed(), "{:?}", pair.server.transport);
    pair.settle();
}

#[test]
fn a_slow_answer_is_computed_away_from_the_loop_or_here_if_no_thread_does() {
    for (cut, threads) in
        [(1, Threads::Free), (1000, Threads::Full), (1 << 20, Threads::Free), (1 << 20, Threads::Full)]
    {
        let mut pair = Pair::new(cut);
        pair.server.transport.work_away();
        pair.server.threads = threads;
        let mut pair = pair.shaken();
        assert_eq!((pair.server.computations, pair.client.computations), (1, 0));
        pair.client.send(b"up");
        pair.server.send(b"down");
        pair.settle();
        assert!(pair.server.got == b"up" && pair.client.got == b"down");
        assert_eq!((pair.server.computations, pair.server.transport.memory()), (1, 0));
    }
}

#[test]
fn nothing_is_received_while_an_answer_is_computed_and_a_close_does_not_wait_for_it() {
    for close_kind in [None, Some(CloseKind::Fin), Some(CloseKind::FlushReset), Some(CloseKind::Reset)] {
        let mut pair = Pair::new(1 << 20);
        pair.server.transport.work_away();
        pair.server.threads = Threads::Busy;
        pair.client.transport.set_receiving(true, &mut pair.client.ops);
        pair.server.transport.set_receiving(true, &mut pair.server.ops);
        pair.settle();
        assert!(pair.server.computing.is_some());
        assert!(matches!(pair.server.transport.handshake(), Some(Handshake::InProgress)));
        pair.server.transport.set_receiving(true, &mut pair.server.ops);
        assert!(!pair.server.transport.is_receiving());
        match close_kind {
            None => {
                pair.server.threads = Threads::Free;
                pair.settle();
                pair.shaken();
            }
            Some(close_kind) => {
                close(&mut pair, close_kind);
                assert_eq!(pair.server.ops.in_flight(), 0);
            }
        }
    }
}

#[test]
fn what_is_no_hello_is_answered_as_without_threads() {
    for bytes in
        [&b"GET / HTTP/1.1"[..], b"\x15\x03\x03\0\x02\x02\x28", b"\x16\x03\x01\0\x04\x02\0\0\0", b"AB\x03\x01\x02"]
    {
        let faults = [false, true].map(|is_away| {
            let mut pair = Pair::new(1 << 20);
            if is_away {
                pair.server.transport.work_away();
            }
            pair.server.arrived.extend(bytes);
            pair.server.end = Some(Outcome::Eof);
            pair.server.transport.set_receiving(true, &mut pair.server.ops);
            let Pair { client, server, pool, .. } = &mut pair;
            while server.turn(client, pool, 1 << 20, Time::ZERO) {}
            server.transport.receive_fault()
        });
        assert!(faults[0].is_some() && faults[0] == faults[1], "{}: {faults:?}", bytes.escape_ascii());
    }
}

#[test]
fn an_orderly_close_says_so_and_waits_for_no_one() {
    let mut pair = Pair::new(1 << 20).shaken();
    close(&mut pair, CloseKind::Fin);
    assert_eq!(pair.client.transport.input_end(), Some(End::Eof));

    // The peer reads nothing: it is not waited for, and sees a truncation.
    let mut pair = Pair::new(1 << 20).shaken();
    pair.is_stuck = true;
    close(&mut pair, CloseKind::Fin);
    pair.is_stuck = false;
    pair.settle();
    assert_eq!(pair.client.transport.input_end(), Some(End::Failed(Fault::Tls(TlsFault::Truncated))));
}

#[test]
fn a_close_in_the_middle_is_seen_as_one() {
    // A send is cut off.
    let mut pair = Pair::new(1000).shaken();
    pair.server.send(&bytes_of_file(100_000));
    close(&mut pair, CloseKind::Fin);
    assert!(pair.client.is_reset && pair.client.got.len() < 100_000);
    assert_eq!(pair.server.transport.given_bytes(), 100_000);

    // All that was given is sent before the reset.
    let mut pair = Pair::new(1000).shaken();
    pair.server.send(&bytes_of_file(100_000));
    close(&mut pair, CloseKind::FlushReset);
    assert!(pair.client.is_reset);
    assert_eq!(pair.server.transport.sent_bytes(), 100_000);
    assert!(matches!(pair.client.transport.input_end(), Some(End::Failed(_))));

    // Unless the time for it is up.
    let mut pair = Pair::new(1000).shaken();
    pair.server.send(&bytes_of_file(100_000));
    pair.is_stuck = true;
    pair.server.transport.close(CloseKind::FlushReset, &mut pair.server.ops);
    assert!(!pair.server.transport.is_closed());
    close(&mut pair, CloseKind::Reset);
    assert!(pair.client.is_reset);

    // A file is being read.
    let mut pair = Pair::new(1000).shaken();
    let side = &mut pair.server;
    side.transport.send_file(Chain::new(), file(), 0, 200_000, &mut side.ops);
    side.transport.close(CloseKind::Reset, &mut side.ops);
    assert!(!side.transport.is_closed());
    close(&mut pair, CloseKind::Reset);
    assert_eq!(pair.server.ops.in_flight(), 0);
}

#[test]
fn an_end_without_close_notify_is_a_fault() {
    let mut pair = Pair::new(1000).shaken();
    pair.client.send(b"part of it");
    pair.settle();
    pair.server.end = Some(Outcome::Eof);
    pair.settle();
    assert_eq!(pair.server.got, b"part of it");
    let fault = Fault::Tls(TlsFault::Truncated);
    assert_eq!(pair.server.transport.input_end(), Some(End::Failed(fault)));
    assert_eq!(pair.server.transport.receive_fault(), Some(fault));
    assert!(pair.server.transport.is_broken() && fault.is_disconnect());
}

#[test]
fn plain_http_can_be_answered_in_plain_bytes() {
    let mut pair = Pair::new(1000);
    pair.server.transport.set_receiving(true, &mut pair.server.ops);
    pair.server.arrived.extend(b"GET / HTTP/1.1\r\n\r\n");
    let Pair { client, server, pool, cut, .. } = &mut pair;
    for _ in 0..3 {
        server.turn(client, pool, *cut, Time::ZERO);
    }
    assert!(matches!(server.transport.handshake(), Some(Handshake::Failed(TlsFault::PlainHttp))));
    server.transport.send_unencrypted(Chain::from(&b"HTTP/1.1 400 "[..]), &mut server.ops);
    for _ in 0..3 {
        server.turn(client, pool, *cut, Time::ZERO);
    }
    assert_eq!(client.arrived, b"HTTP/1.1 400 ");
    server.transport.shutdown(&mut server.ops);
    for _ in 0..3 {
        server.turn(client, pool, *cut, Time::ZERO);
    }
    assert!(server.transport.is_shut_down() && client.end.is_some());
    assert_eq!(server.transport.sent_bytes(), 0);
}

#[test]
fn a_plain_connection_changes_to_tls_after_a_preamble() {
    let authority = Authority::new();
    let (socket, tokens) = endpoint();
    let mut server = Transport::plain(socket, tokens);
    let mut ops = Ops::new();
    server.set_receiving(true, &mut ops);
    let reads = Token { slot: READ, ..tokens.send };
    server.begin_tls_server(reads, Arc::new(authority.server(&VERSIONS, false)), Vec::new()).unwrap();
    assert!(matches!(server.handshake(), Some(Handshake::InProgress)) && !server.can_send());
    assert!(server.is_receiving(), "the receive goes on");
}

/// A connection costs what rustls needs and little more.
#[test]
fn it_is_small() {
    assert!(size_of::<Encrypted>() < 3 << 10, "{} bytes", size_of::<Encrypted>());
}

/// Whatever is sent, cut and closed when: what arrives is the beginning of what was given, and an end
/// of input is seen only after all of it.
#[test]
fn an_end_of_input_is_seen_only_after_everything() {
    let (mut ended, mut broken) = (0, 0);
    for seed in 0..150_u64 {
        let mut state = seed + 1;
        let mut below = move |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let mut pair = Pair::new(20 + below(20_000)).shaken();
        let mut given = Vec::new();
        for _ in 0..below(6) {
            let side = &mut pair.server;
            if side.transport.can_send() {
                let length = 1 + below(100_000);
                if below(2) == 0 {
                    let bytes: Vec<u8> = (0..length).map(|_| below(256) as u8).collect();
                    side.send(&bytes);
                    given.extend(bytes);
                } else {
                    let offset = below(FILE_BYTES - length);
                    side.transport.send_file(Chain::new(), file(), offset as u64, length as u64, &mut side.ops);
                    given.extend_from_slice(&bytes_of_file(FILE_BYTES)[offset..][..length]);
                }
            }
            for _ in 0..below(20) {
                let Pair { client, server, pool, cut, now, .. } = &mut pair;
                server.turn(client, pool, *cut, *now);
                client.turn(server, pool, *cut, *now);
            }
        }
        if below(3) == 0 {
            pair.settle();
        }
        let close_kind = [CloseKind::Fin, CloseKind::FlushReset, CloseKind::Reset][below(3)];
        if close_kind == CloseKind::Fin && pair.server.transport.can_send() && below(2) == 0 {
            pair.server.transport.shutdown(&mut pair.server.ops);
            pair.settle();
        }
        close(&mut pair, close_kind);
        let (client, server) = (&pair.client, &pair.server);
        assert!(given.starts_with(&client.got), "seed {seed}");
        assert_eq!(server.transport.given_bytes(), given.len() as u64, "seed {seed}");
        assert_eq!((server.ops.in_flight(), server.transport.is_closed()), (0, true), "seed {seed}");
        match client.transport.input_end() {
            Some(End::Eof) => {
                assert!(client.got == given, "seed {seed}");
                ended += 1;
            }
            Some(End::Failed(_)) => broken += 1,
            None => panic!("seed {seed}: {:?}", client.transport),
        }
    }
    assert!(ended > 20 && broken > 20, "{ended} ended, {broken} broken");
}
