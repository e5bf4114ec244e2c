//! `Connect` and `Resolve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Type};
use tempfile::TempDir;
use xps::internals::driver::{Address, Fault, KernelDriver, Op, OpId, Outcome, Socket};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{Rig, chain_of};
use crate::world::{World, unix};

pub fn a_connection_carries_bytes<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for (address, server) in rig.servers().into_iter().filter(|(address, _)| address.inet().is_some()) {
        carries_bytes(&mut rig, address, server);
    }
    rig.finish();
}

pub fn a_path_is_connected_to<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for (address, server) in rig.servers().into_iter().filter(|(address, _)| address.inet().is_none()) {
        carries_bytes(&mut rig, address, server);
    }
    rig.finish();
}

fn carries_bytes<D: World>(rig: &mut Rig<D>, address: Address, mut server: D::Server) {
    let outcome = rig.run(Op::Connect { address });
    let Outcome::Connected(socket) = outcome else { panic!("{outcome:?}") };
    let mut far = rig.accepted(&mut server);
    // No bytes have arrived yet: the driver waits.
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    rig.write(&mut far, b"hello");
    assert_eq!(rig.receive(recv, 5), b"hello");
    assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"well") }), Outcome::Sent));
    assert!(matches!(rig.run(Op::Shutdown { socket }), Outcome::Done));
    assert_eq!(rig.read_rest(&mut far), b"well");
    rig.close_far(far);
    assert!(matches!(rig.end_of(recv), Outcome::Eof));
    rig.close(socket);
}

pub fn a_refused_connection_is_a_fault<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (addresses, _guard) = rig.dead_addresses();
    refuse(&mut rig, addresses.into_iter().filter(|(address, _)| address.inet().is_some()));
    rig.finish();
}

pub fn a_path_where_nobody_listens_is_a_fault<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (addresses, _guard) = rig.dead_addresses();
    refuse(&mut rig, addresses.into_iter().filter(|(address, _)| address.inet().is_none()));
    rig.finish();
}

fn refuse<D: World>(rig: &mut Rig<D>, addresses: impl Iterator<Item = (Address, i32)>) {
    let mut tried = 0;
    for (address, errno) in addresses {
        let outcome = rig.run(Op::Connect { address: address.clone() });
        assert!(matches!(outcome, Outcome::Failed(Fault::Os(code)) if code == errno), "{address}: {outcome:?}");
        tried += 1;
    }
    assert!(tried > 0);
    assert_eq!(rig.open_descriptors(), 0);
}

pub fn a_connect_that_hangs_can_be_cancelled<K: KernelKind>(case: &Case<K>) {
    const HANGING: usize = 4;
    let mut rig = case.rig();
    // The kernel drops connection requests to a listener whose backlog is full, so connects wait.
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    listener.listen(0).expect("it is bound");
    let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    let mut connected = Vec::new();
    let mut hanging = Vec::new();
    while hanging.len() < HANGING {
        assert!(connected.len() < 64, "the backlog is never full");
        let id = rig.submit(Op::Connect { address: address.into() });
        rig.turn(Some(Duration::from_millis(20)));
        match rig.take(id).pop() {
            Some(Outcome::Connected(socket)) => connected.push(socket),
            Some(other) => panic!("{other:?}"),
            None => hanging.push(id),
        }
    }
    for id in hanging {
        assert!(matches!(rig.cancel(id), Outcome::Cancelled));
    }
    for socket in connected {
        rig.close(socket);
    }
    rig.finish();
}

pub fn a_full_backlog_of_a_path_is_waited_for<K: KernelKind>(case: &Case<K>) {
    const WAITING: usize = 8;
    let mut rig = case.rig();
    let full = FullPath::new();
    let (mut connected, waiting) = full.fill(&mut rig, WAITING);
    // Nothing accepts, for longer than the interval between two tries of a driver.
    rig.turn(Some(Duration::from_millis(30)));
    assert!(waiting.iter().all(|id| !rig.is_over(*id)), "the backlog is still full");
    let mut accepted = Vec::new();
    for _ in 0..connected.len() + WAITING {
        rig.until("the next connection in the backlog", |_| match full.listener.accept() {
            Ok((stream, _)) => {
                accepted.push(stream);
                true
            }
            Err(_) => false,
        });
    }
    for id in waiting {
        let outcome = rig.end_of(id);
        let Outcome::Connected(socket) = outcome else { panic!("{outcome:?}") };
        connected.push(socket);
    }
    for socket in connected {
        rig.close(socket);
    }
    rig.finish();
}

pub fn a_wait_for_a_full_backlog_can_be_cancelled<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    let full = FullPath::new();
    let (connected, waiting) = full.fill(&mut rig, 4);
    for (number, id) in waiting.into_iter().enumerate() {
        assert!(matches!(rig.cancel(id), Outcome::Cancelled));
        // Its index is reused soon. A late try must not affect the new operation.
        let other = rig.run(Op::Connect { address: unix(Path::new("/no/such/folder")) });
        assert!(matches!(other, Outcome::Failed(Fault::Os(libc::ENOENT))), "{number}: {other:?}");
        rig.turn(Some(Duration::from_millis(15)));
    }
    for socket in connected {
        rig.close(socket);
    }
    rig.finish();
}

/// A unix socket with the shortest backlog, on which nothing accepts.
struct FullPath {
    /// Non-blocking.
    listener: UnixListener,
    address: Address,
    _folder: TempDir,
}

impl FullPath {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("socket");
        let listener = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::unix(&path).expect("a short path")).expect("a new file");
        listener.listen(0).expect("it is bound");
        listener.set_nonblocking(true).expect("a live socket");
        Self { listener: listener.into(), address: unix(&path), _folder: folder }
    }

    /// Connects until this number waits; the connected ones come first.
    fn fill<D: KernelDriver>(&self, rig: &mut Rig<D>, count: usize) -> (Vec<Socket>, Vec<OpId>) {
        let (mut connected, mut waiting) = (Vec::new(), Vec::new());
        while waiting.len() < count {
            assert!(connected.len() < 64, "the backlog is never full");
            let id = rig.submit(Op::Connect { address: self.address.clone() });
            rig.turn(Some(Duration::ZERO));
            rig.turn(Some(Duration::ZERO));
            match rig.take(id).pop() {
                Some(Outcome::Connected(socket)) => connected.push(socket),
                Some(other) => panic!("{other:?}"),
                None => waiting.push(id),
            }
        }
        (connected, waiting)
    }
}

pub fn names_are_resolved_or_not<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let outcome = rig.run(Op::Resolve { host: "localhost".into(), port: 8080 });
    let Outcome::Resolved(addresses) = outcome else { panic!("{outcome:?}") };
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 8080), "{addresses:?}");
    for (text, address) in [("192.0.2.1", "192.0.2.1:80"), ("2001:db8::1", "[2001:db8::1]:80")] {
        let outcome = rig.run(Op::Resolve { host: text.into(), port: 80 });
        let expected: SocketAddr = address.parse().expect("an address");
        assert!(matches!(&outcome, Outcome::Resolved(addresses) if *addresses == [expected]), "{outcome:?}");
    }
    // RFC 6761: this name never exists. It fails also if no name server can be reached.
    for nonsense in ["no-such-host.invalid", "", "nul\0byte"] {
        let outcome = rig.run(Op::Resolve { host: nonsense.into(), port: 80 });
        assert!(matches!(outcome, Outcome::Failed(_)), "{nonsense:?}: {outcome:?}");
    }
    rig.finish();
}
