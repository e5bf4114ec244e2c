//! Connecting out, and the names of where to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Type};
use xps::driver::{Fault, Op, Outcome};

use crate::kind::{Case, Kind};
use crate::rig::chain_of;
use crate::support::patience;

pub fn a_connection_carries_bytes<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let address = listener.local_addr().expect("it is bound");
        let outcome = rig.run(Op::Connect { address });
        let Outcome::Connected(socket) = outcome else { panic!("{outcome:?}") };
        let (mut far, _) = listener.accept().expect("somebody connected");
        far.set_read_timeout(Some(patience())).expect("not zero");
        let recv = rig.submit(Op::Recv { socket });
        far.write_all(b"hello").expect("room");
        assert_eq!(rig.receive(recv, 5), b"hello");
        assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"well") }), Outcome::Sent));
        let mut answer = [0; 4];
        far.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"well");
        rig.cancel_and_close(recv, socket);
    }
    rig.finish();
}

pub fn a_refused_connection_is_a_fault<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    // Bound and not listening: nobody else can take the port meanwhile.
    let bound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = bound.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    let outcome = rig.run(Op::Connect { address });
    assert!(matches!(outcome, Outcome::Failed(Fault::Os(libc::ECONNREFUSED))), "{outcome:?}");
    assert_eq!(rig.open_descriptors(), 0);
    rig.finish();
}

pub fn a_connect_that_hangs_can_be_cancelled<K: Kind>(case: &Case<K>) {
    const HANGING: usize = 4;
    let mut rig = case.rig();
    // The kernel drops connection requests to a listener whose backlog is full: those who ask, wait.
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    listener.listen(0).expect("it is bound");
    let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    let mut connected = Vec::new();
    let mut hanging = Vec::new();
    while hanging.len() < HANGING {
        assert!(connected.len() < 64, "the backlog is never full");
        let id = rig.submit(Op::Connect { address });
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
    // RFC 6761: this name never exists; whether a name server says so or none can be asked.
    for nonsense in ["no-such-host.invalid", "", "nul\0byte"] {
        let outcome = rig.run(Op::Resolve { host: nonsense.into(), port: 80 });
        assert!(matches!(outcome, Outcome::Failed(_)), "{nonsense:?}: {outcome:?}");
    }
    rig.finish();
}
