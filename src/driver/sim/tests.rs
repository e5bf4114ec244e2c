//! Tests of the simulation, with a small echo server built from the TCP state machines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::buffer::{Chain, PoolConfig};
use crate::driver::{Fault, Outcome, Root, Token, UnixPath};
use crate::table::RawKey;
use crate::tcp::{CloseKind, ConnectionTokens, End, Listener, Pipe};
use crate::transport::{Transport, relay_back};

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8004);
const PIPE_BYTES_MAX: usize = 32 << 10;
const TURNS_MAX: usize = 200_000;

const LISTENER: u8 = 0;
const SESSION: u8 = 1;
const RECV: u8 = 0;
const SEND: u8 = 1;
const CLOSE: u8 = 2;

/// A server that sends back all bytes that it receives.
struct Echo {
    ops: Ops,
    listener: Listener,
    sessions: Table<(Transport, Pipe)>,
    is_accepting: bool,
    alarms: Vec<String>,
}

impl Echo {
    fn new(socket: Socket) -> Self {
        let token = Token { machine: RawKey::from_parts(0, 0), kind: LISTENER, slot: 0 };
        Self {
            ops: Ops::new(),
            listener: Listener::new(socket, token),
            sessions: Table::new(),
            is_accepting: true,
            alarms: Vec::new(),
        }
    }

    fn on_completion(&mut self, Completion { id, outcome }: Completion) {
        let Some(token) = self.ops.settle(id, outcome.is_final()) else {
            return self.alarms.push(format!("an outcome for {id}, which is not in flight: {outcome:?}"));
        };
        if token.kind == LISTENER {
            if let Ok(Some((socket, _))) = self.listener.on_outcome(outcome) {
                self.sessions.insert_with(|key| {
                    let token = |slot| Token { machine: key.raw(), kind: SESSION, slot };
                    let tokens = ConnectionTokens { recv: token(RECV), send: token(SEND), close: token(CLOSE) };
                    (Transport::plain(socket, tokens), Pipe::new())
                });
            }
            return;
        }
        let Some((connection, pipe)) = self.sessions.get_mut(token.machine.typed()) else {
            return self.alarms.push(format!("an outcome for a closed session: {outcome:?}"));
        };
        match token.slot {
            RECV => connection.on_received(outcome).into_iter().for_each(|buffer| pipe.push(buffer)),
            SEND => connection.on_sent(outcome),
            _ => connection.on_closed(outcome),
        }
    }

    fn pump(&mut self) {
        self.listener.pump(if self.is_accepting { u32::MAX } else { 0 }, &mut self.ops);
        let keys: Vec<_> = self.sessions.keys().collect();
        for key in keys {
            let (connection, pipe) = self.sessions.get_mut(key).unwrap();
            let is_broken = matches!(connection.input_end(), Some(End::Failed(_))) || connection.send_fault().is_some();
            if is_broken || connection.is_shut_down() || !self.is_accepting {
                connection.close(CloseKind::Fin, &mut self.ops);
            } else {
                relay_back(connection, pipe, PIPE_BYTES_MAX, &mut self.ops);
            }
            if connection.is_closed() {
                self.sessions.remove(key);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.sessions.is_empty() && self.listener.is_closed()
    }
}

/// Runs an echo server until its peers are done, then stops it. Returns all alarms.
fn run(sim: &mut Sim, socket: Socket) -> Vec<String> {
    let mut echo = Echo::new(socket);
    let mut done = Vec::new();
    for _ in 0..TURNS_MAX {
        echo.pump();
        if echo.is_finished() {
            break;
        }
        sim.turn(&mut echo.ops, None, &mut done).unwrap();
        done.drain(..).for_each(|completion| echo.on_completion(completion));
        if sim.peers_are_done() && echo.is_accepting {
            echo.is_accepting = false;
            echo.listener.close();
        } else if sim.is_stalled() {
            echo.alarms.push("stalled".to_owned());
            break;
        }
    }
    if !echo.is_finished() {
        echo.alarms.push("the server does not stop".to_owned());
    }
    let mut alarms = echo.alarms;
    alarms.extend(sim.violations().iter().map(ToString::to_string));
    let usage = sim.pool().usage(SizeClass::Small);
    let left = (echo.ops.in_flight(), sim.in_flight(), sim.open_descriptors(), usage.leased, usage.with_driver);
    if left != (0, 0, 0, 0, 0) {
        alarms.push(format!("left over: {left:?}"));
    }
    alarms
}

/// A simulation with a listener and some clients that send bytes and expect all of them back.
fn world(seed: u64, faults: Faults) -> (Sim, Socket, Vec<PeerId>) {
    let mut sim = Sim::new(seed, faults);
    let mut rng = Rng::new(!seed);
    let socket = sim.listener(ADDRESS);
    let clients = (0..rng.range(1, 6)).map(|_| {
        let length = rng.length(100_000);
        let bytes = rng.bytes(length);
        let after = Duration::from_micros(rng.below(1000));
        sim.client(ADDRESS, after, vec![Step::Send(bytes), Step::ShutdownWrite, Step::ReadUntilEof])
    });
    let clients = clients.collect();
    (sim, socket, clients)
}

/// One complete run. The alarms include those about wrong bytes.
fn run_seed(seed: u64, faults: Faults, planted_bug: Option<(PlantedBug, u32)>) -> (Sim, Vec<String>) {
    let (mut sim, socket, clients) = world(seed, faults);
    if let Some((planted_bug, occasions)) = planted_bug {
        sim.plant_bug(planted_bug, occasions);
    }
    let mut alarms = run(&mut sim, socket);
    for client in clients {
        let peer = sim.peer(client);
        let is_whole = peer.end() == Some(PeerEnd::Closed) && peer.received() == peer.sent();
        if !(is_whole || sim.is_faulted(client) && peer.sent().starts_with(peer.received())) {
            let (received, sent) = (peer.received().len(), peer.sent().len());
            alarms.push(format!("{client:?} got other bytes back: {received} of {sent}, {:?}", peer.end()));
        }
    }
    (sim, alarms)
}

#[test]
fn an_echo_server_survives_every_mixture_of_faults() {
    for seed in 0..300 {
        let (_, alarms) = run_seed(seed, Faults::random(seed), None);
        assert!(alarms.is_empty(), "seed {seed}: {alarms:#?}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let fingerprint = |seed| run_seed(seed, Faults::random(7), None).0.fingerprint();
    assert_eq!(fingerprint(1), fingerprint(1));
    assert_ne!(fingerprint(1), fingerprint(2));
}

#[test]
fn each_planted_bug_sets_an_alarm_off() {
    let bugs = [PlantedBug::LoseFinal, PlantedBug::RepeatFinal, PlantedBug::SwapReceived, PlantedBug::OverwriteLeased];
    for planted_bug in bugs {
        let mut strikes = 0;
        for seed in 0..40 {
            let (sim, alarms) = run_seed(seed, Faults::none(), Some((planted_bug, seed as u32 % 5)));
            assert_eq!(sim.has_planted_bug(), !alarms.is_empty(), "seed {seed}: {planted_bug:?}, {alarms:?}");
            strikes += u32::from(sim.has_planted_bug());
        }
        assert!(strikes >= 20, "{planted_bug:?} struck only {strikes} times");
    }
}

#[test]
fn a_forgotten_rearm_is_a_stall() {
    let (sim, alarms) = run_seed(3, Faults::none(), Some((PlantedBug::ForgetRearm, 0)));
    assert!(sim.has_planted_bug() && alarms.iter().any(|alarm| alarm == "stalled"), "{alarms:?}");
}

#[test]
#[should_panic = "leased"]
fn the_pool_notices_a_double_free() {
    run_seed(3, Faults::none(), Some((PlantedBug::DoubleFree, 0)));
}

/// Submits operations one at a time and collects their outcomes.
struct Bench {
    sim: Sim,
    ops: Ops,
}

impl Bench {
    fn new(sim: Sim) -> Self {
        Self { sim, ops: Ops::new() }
    }

    fn submit(&mut self, op: Op) -> OpId {
        self.ops.submit(Token { machine: RawKey::from_parts(0, 0), kind: 0, slot: 0 }, op)
    }

    /// Runs turns for this much virtual time, and returns all outcomes.
    fn outcomes(&mut self, wait: Duration) -> Vec<Outcome> {
        let mut done = Vec::new();
        let end = self.sim.now() + wait;
        while self.sim.now() < end {
            let left = end.since(self.sim.now());
            self.sim.turn(&mut self.ops, Some(left), &mut done).unwrap();
        }
        done.into_iter().map(|completion| completion.outcome).collect()
    }

    fn outcome(&mut self, op: Op) -> Outcome {
        self.submit(op);
        let mut outcomes = self.outcomes(Duration::from_secs(200));
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0)
    }

    fn connected(&mut self, address: impl Into<Address>) -> Socket {
        match self.outcome(Op::Connect { address: address.into() }) {
            Outcome::Connected(socket) => socket,
            outcome => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn breaches_of_the_contract_are_noticed() {
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    bench.sim.upstream(ADDRESS, Behaviour::never_accept());
    let socket = bench.connected(ADDRESS);
    let breaches = |bench: &mut Bench, ops: Vec<Op>| {
        bench.sim.violations.clear();
        for op in ops {
            bench.submit(op);
        }
        bench.outcomes(Duration::from_secs(1));
        bench.sim.violations().len()
    };
    let send = || Op::Send { socket, chain: Chain::from(&b"x"[..]) };
    assert_eq!(breaches(&mut bench, vec![send()]), 0);
    assert_eq!(breaches(&mut bench, vec![send(), send()]), 1);
    assert_eq!(breaches(&mut bench, vec![Op::Send { socket, chain: Chain::new() }]), 1);
    assert_eq!(breaches(&mut bench, vec![Op::Accept { listener: socket, most: u32::MAX }]), 1);
    assert_eq!(breaches(&mut bench, vec![Op::Recv { socket }, Op::Recv { socket }]), 1);
    assert_eq!(breaches(&mut bench, vec![Op::Close { socket }]), 1, "the receive is still in flight");
    let other = bench.connected(ADDRESS);
    assert_eq!(breaches(&mut bench, vec![Op::Close { socket: other }, Op::Reset { socket: other }]), 1);
    assert_eq!(breaches(&mut bench, vec![Op::Recv { socket: other }]), 1);
}

#[test]
fn connecting_ends_as_the_address_behaves() {
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    let at = |port| SocketAddr::from(([192, 0, 2, 9], port));
    bench.sim.upstream(at(1), Behaviour::Refuse);
    bench.sim.upstream(at(2), Behaviour::Vanish);
    for (port, errno) in [(1, libc::ECONNREFUSED), (2, libc::ETIMEDOUT), (3, libc::ECONNREFUSED)] {
        let outcome = bench.outcome(Op::Connect { address: at(port).into() });
        assert!(matches!(outcome, Outcome::Failed(Fault::Os(code)) if code == errno), "{port}: {outcome:?}");
    }
    let id = bench.submit(Op::Connect { address: at(2).into() });
    bench.ops.cancel(id);
    let outcomes = bench.outcomes(Duration::from_secs(1));
    assert!(matches!(outcomes[..], [Outcome::Cancelled]), "{outcomes:?}");
}

#[test]
fn a_path_is_connected_to_as_an_address_is() {
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    let path = |text: &str| Address::from(UnixPath::new(text).unwrap());
    bench.sim.upstream(path("/there"), Behaviour::never_accept());
    let socket = bench.connected(path("/there"));
    assert!(matches!(bench.outcome(Op::Close { socket }), Outcome::Done));
    let socket = bench.connected(path("/there"));
    assert!(matches!(bench.outcome(Op::LocalAddress { socket }), Outcome::Local(None)));
    let outcome = bench.outcome(Op::Connect { address: path("/nowhere") });
    assert!(matches!(outcome, Outcome::Failed(Fault::Os(libc::ENOENT))), "{outcome:?}");
}

#[test]
fn a_reset_is_told_once() {
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    bench.sim.upstream(ADDRESS, Behaviour::die_after(0));
    let socket = bench.connected(ADDRESS);
    let first = bench.outcome(Op::Send { socket, chain: Chain::from(&b"x"[..]) });
    assert!(matches!(first, Outcome::Failed(Fault::Os(libc::ECONNRESET))), "{first:?}");
    let second = bench.outcome(Op::Send { socket, chain: Chain::from(&b"x"[..]) });
    assert!(matches!(second, Outcome::Failed(Fault::Os(libc::EPIPE))), "{second:?}");
    assert!(matches!(bench.outcome(Op::Recv { socket }), Outcome::Eof));
    assert!(matches!(bench.outcome(Op::Reset { socket }), Outcome::Reset { lost: 0 }));
    assert_eq!((bench.sim.open_descriptors(), bench.sim.in_flight()), (0, 0));
}

#[test]
fn files_are_sent_and_truncation_is_told() {
    let mut faults = Faults::none();
    let mut bench = Bench::new(Sim::new(1, faults.clone()));
    bench.sim.file("a", vec![b'a'; 10_000]);
    bench.sim.upstream(ADDRESS, Behaviour::Serve(vec![Step::ReadUntilEof]));
    let root = Root::open(std::path::Path::new("/")).unwrap();
    let open = |bench: &mut Bench| match bench.outcome(Op::Open {
        root: Arc::clone(&root),
        path: c"a".to_owned(),
        known_regular: false,
    }) {
        Outcome::Opened(file, info) => (file, info.size),
        outcome => panic!("{outcome:?}"),
    };
    let (file, size) = open(&mut bench);
    let socket = bench.connected(ADDRESS);
    let sent = bench.outcome(Op::SendFile { socket, head: Chain::new(), file, offset: 1000, length: size - 1000 });
    assert!(matches!(sent, Outcome::Sent), "{sent:?}");
    let beyond = bench.outcome(Op::SendFile { socket, head: Chain::new(), file, offset: size, length: 1 });
    assert!(matches!(beyond, Outcome::Failed(Fault::FileTruncated)), "{beyond:?}");
    bench.outcome(Op::CloseFile { file });
    bench.outcome(Op::Close { socket });
    let peer = bench.sim.peer(bench.sim.upstream_peers(ADDRESS)[0]);
    assert_eq!((peer.received(), peer.end()), (&[b'a'; 9000][..], Some(PeerEnd::Closed)));
    assert_eq!((bench.sim.open_descriptors(), bench.sim.in_flight()), (0, 0));
    faults.descriptors_max = 0;
    bench.sim.faults = faults;
    let none_left = bench.outcome(Op::Open { root, path: c"a".to_owned(), known_regular: false });
    assert!(matches!(none_left, Outcome::Failed(Fault::Os(libc::EMFILE))), "{none_left:?}");
}

#[test]
fn machines_can_connect_to_their_own_listener() {
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    let listener = bench.sim.listener(ADDRESS);
    let caller = bench.connected(ADDRESS);
    let accept = bench.submit(Op::Accept { listener, most: u32::MAX });
    let callee = match &bench.outcomes(Duration::from_secs(1))[..] {
        [Outcome::Accepted { socket, .. }] => *socket,
        outcomes => panic!("{outcomes:?}"),
    };
    bench.ops.cancel(accept);
    assert!(bench.outcomes(Duration::from_secs(1)).iter().all(Outcome::is_final));
    let local = bench.outcome(Op::LocalAddress { socket: callee });
    assert!(matches!(local, Outcome::Local(Some(ADDRESS))), "{local:?}");
    bench.submit(Op::Recv { socket: callee });
    bench.submit(Op::Send { socket: caller, chain: Chain::from(&b"hello"[..]) });
    let outcomes = bench.outcomes(Duration::from_secs(1));
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Received(bytes) if &bytes[..] == b"hello")));
}

#[test]
fn a_flush_fails_if_the_peer_did_not_receive_all() {
    static MORE_THAN_FITS: [u8; 1 << 20] = [1; 1 << 20];
    for seed in 0..20 {
        let mut bench = Bench::new(Sim::new(seed, Faults::none()));
        let (socket, peer) = bench.sim.connection();
        let send = bench.submit(Op::Send { socket, chain: Chain::from(&MORE_THAN_FITS[..]) });
        bench.outcomes(Duration::from_secs(1));
        bench.ops.cancel(send);
        bench.submit(Op::Flush { socket });
        bench.sim.instruct(peer, [Step::Reset]);
        let outcomes = bench.outcomes(Duration::from_secs(1));
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
        assert!(outcomes.iter().all(|outcome| !matches!(outcome, Outcome::Done)), "{outcomes:?}");
    }
}

#[test]
fn a_root_is_found_again_only_where_its_path_leads() {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<std::path::Path> = folder.path().join("root").into();
    std::fs::create_dir(&path).unwrap();
    let root = Root::open(&path).unwrap();
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    let mut find = || {
        let (path, present) = (Arc::clone(&path), Some(Arc::clone(&root)));
        bench.outcome(Op::FindRoot { path, symlinks: root.symlinks(), present })
    };
    assert!(matches!(find(), Outcome::Root(found) if Arc::ptr_eq(&found, &root)));
    std::fs::remove_dir(&path).unwrap();
    assert!(matches!(find(), Outcome::Failed(Fault::Os(libc::ENOENT))));
}

#[test]
fn a_socket_gets_one_buffer_at_a_time_while_few_are_left() {
    for seed in 0..50 {
        let calm = Faults::none();
        let pool = PoolConfig { small_max: 6, large_max: 0, ..calm.pool };
        let mut bench = Bench::new(Sim::new(seed, Faults { pool, ..calm }));
        let (socket, peer) = bench.sim.connection();
        let recv = bench.submit(Op::Recv { socket });
        bench.sim.instruct(peer, [Step::Send(vec![1; 50_000])]);
        let mut held = Vec::new();
        for _ in 0..100 {
            let before = held.len();
            bench.sim.turn(&mut bench.ops, Some(Duration::from_millis(10)), &mut held).unwrap();
            assert!(held.len() <= before + 1, "two in one turn: {held:?}");
            if held.len() == 2 {
                break;
            }
        }
        assert_eq!(held.len(), 2, "both are there");
        bench.ops.pause(recv);
        let later = bench.outcomes(Duration::from_secs(1));
        assert!(later.is_empty(), "paused: {later:?}");
    }
}

#[test]
fn a_peer_that_is_led_reads_and_acts_only_as_it_is_instructed() {
    let mut bench = Bench::new(Sim::new(1, Faults::none()));
    let (socket, peer) = bench.sim.connection();
    bench.submit(Op::Recv { socket });
    bench.submit(Op::Send { socket, chain: Chain::from(&b"hello"[..]) });
    let outcomes = bench.outcomes(Duration::from_secs(1));
    assert!(matches!(outcomes[..], [Outcome::Sent]), "{outcomes:?}");
    assert_eq!(bench.sim.peer(peer).received(), b"");
    bench.sim.instruct(peer, [Step::Send(b"well".to_vec()), Step::Flush, Step::ShutdownWrite]);
    bench.sim.set_reading(peer, true);
    let outcomes = bench.outcomes(Duration::from_secs(1));
    assert!(matches!(&outcomes[..], [Outcome::Received(bytes), Outcome::Eof] if bytes[..] == *b"well"), "{outcomes:?}");
    let peer = bench.sim.peer(peer);
    assert_eq!((peer.received(), peer.end(), peer.is_done()), (&b"hello"[..], None, true));
}

/// Hears what comes, and is owed something or not.
#[derive(Clone, Debug)]
struct Waiting {
    is_owed: bool,
}

impl Converse for Waiting {
    fn hear(&mut self, _: &[u8], _: bool, _: &mut Rng) -> Option<Move> {
        None
    }

    fn is_owed(&self) -> bool {
        self.is_owed
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(self.clone())
    }
}

#[test]
fn a_peer_that_is_owed_something_is_not_done() {
    for is_owed in [false, true] {
        let mut sim = Sim::new(1, Faults::none());
        let steps = vec![Step::Converse(Box::new(Waiting { is_owed }))];
        sim.client(ADDRESS, Duration::ZERO, steps);
        assert_eq!(sim.peers_are_done(), !is_owed);
    }
}

/// Executes one operation in a simulation without faults.
fn carried_out(sim: &mut Sim, ops: &mut Ops, op: Op) -> Outcome {
    let id = ops.submit(Token { machine: RawKey::from_parts(0, 0), kind: 0, slot: 0 }, op);
    let mut done = Vec::new();
    for _ in 0..TURNS_MAX {
        sim.turn(ops, None, &mut done).unwrap();
        if let Some(at) = done.iter().position(|completion| completion.id == id && completion.outcome.is_final()) {
            ops.settle(id, true);
            return done.swap_remove(at).outcome;
        }
    }
    panic!("{id} does not end");
}

#[test]
fn a_new_file_is_written_renamed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path()).unwrap();
    let (mut sim, mut ops) = (Sim::new(1, Faults::none()), Ops::new());
    sim.file("taken", b"older".to_vec());
    let create = |name: &std::ffi::CStr| Op::Create { root: Arc::clone(&root), name: name.into() };
    let publish = |file, to: &std::ffi::CStr, replaces| Op::Publish {
        root: Arc::clone(&root),
        file,
        from: c"new".into(),
        to: to.into(),
        replaces,
    };
    let mut run = |op| carried_out(&mut sim, &mut ops, op);
    assert!(matches!(run(create(c"taken")), Outcome::Failed(Fault::Os(libc::EEXIST))));
    let Outcome::Opened(file, _) = run(create(c"new")) else { panic!("the name was not free") };
    assert!(matches!(run(Op::Write { file, offset: 5, bytes: b"bytes".to_vec() }), Outcome::Written));
    assert!(matches!(run(Op::Write { file, offset: 0, bytes: b"five ".to_vec() }), Outcome::Written));
    assert!(matches!(run(publish(file, c"taken", false)), Outcome::Failed(Fault::Os(libc::EEXIST))));
    assert!(matches!(run(publish(file, c"taken", true)), Outcome::Done));
    assert!(matches!(run(Op::CloseFile { file }), Outcome::Done));
    let Outcome::Opened(file, _) =
        run(Op::Open { root: Arc::clone(&root), path: c"taken".into(), known_regular: false })
    else {
        panic!("the published file does not open")
    };
    assert!(matches!(run(Op::Read { file, offset: 0, length: 100 }), Outcome::Read(bytes) if *bytes == *b"five bytes"));
    assert!(matches!(run(Op::CloseFile { file }), Outcome::Done));
    let remove = || Op::Remove { root: Arc::clone(&root), name: c"taken".into() };
    assert!(matches!(run(remove()), Outcome::Done));
    assert!(matches!(run(remove()), Outcome::Failed(Fault::Os(libc::ENOENT))));
}
