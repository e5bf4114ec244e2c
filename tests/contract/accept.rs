//! `Accept`: every connection is delivered, with its peer, also when accepting is cancelled and
//! restarted.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xps::internals::buffer::PoolConfig;
use xps::internals::driver::{Fault, KernelDriver, Offload, Op, OpId, Outcome, Peer};

use crate::kind::{Case, KernelKind, Kind, OnEpoll};
use crate::rig::{Rig, chain_of};
use crate::support::environment::{allow_descriptors, skip};
use crate::support::patience;
use crate::world::connect;

pub fn every_connection_is_delivered_with_its_peer<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    // Some before the driver looks, some after.
    for batch in [3, 1, 20] {
        let clients: Vec<_> = (0..batch).map(|_| rig.client(address)).collect();
        let mut accepted = Vec::new();
        rig.until("connections", |rig| {
            accepted.extend(rig.take(accept));
            accepted.len() >= batch
        });
        let mut expected: Vec<_> = clients.iter().map(|client| rig.client_address(client)).collect();
        for outcome in accepted {
            let Outcome::Accepted { socket, peer: Peer::Inet(peer) } = outcome else { panic!("{outcome:?}") };
            let place = expected.iter().position(|address| *address == peer);
            expected.swap_remove(place.expect("one of the clients, once"));
            rig.close(socket);
        }
        assert!(expected.is_empty());
    }
    rig.cancel_and_close(accept, listener);
    rig.finish();
}

pub fn a_connection_has_an_address_of_its_own<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    let _client = rig.client(address);
    let mut accepted = Vec::new();
    rig.until("a connection", |rig| {
        accepted.extend(rig.take_accepted(accept));
        !accepted.is_empty()
    });
    let outcome = rig.run(Op::LocalAddress { socket: accepted[0] });
    assert!(matches!(outcome, Outcome::Local(Some(local)) if local == address), "{outcome:?}");
    rig.close(accepted[0]);
    rig.cancel_and_close(accept, listener);
    for (address, _server) in rig.servers() {
        let outcome = rig.run(Op::Connect { address: address.clone() });
        let Outcome::Connected(socket) = outcome else { panic!("{outcome:?}") };
        let outcome = rig.run(Op::LocalAddress { socket });
        assert!(matches!(outcome, Outcome::Local(local) if local.is_some() == address.inet().is_some()), "{outcome:?}");
        rig.close(socket);
    }
    rig.finish();
}

pub fn a_cancelled_listener_can_be_used_again<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let first = rig.submit(Op::Accept { listener, most: u32::MAX });
    rig.turn(Some(Duration::ZERO));
    assert!(matches!(rig.cancel(first), Outcome::Cancelled));
    // The connection waits in the backlog meanwhile.
    let client = rig.client(address);
    let second = rig.submit(Op::Accept { listener, most: u32::MAX });
    let mut accepted = Vec::new();
    rig.until("a connection", |rig| {
        accepted.extend(rig.take_accepted(second));
        !accepted.is_empty()
    });
    rig.close(accepted[0]);
    rig.cancel_and_close(second, listener);
    drop(client);
    rig.finish();
}

pub fn no_more_connections_come_than_were_asked_for<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    // All connections wait in the backlog.
    let clients: Vec<_> = (0..10).map(|_| rig.client(address)).collect();
    for most in [3, 1, 6] {
        let accept = rig.submit(Op::Accept { listener, most });
        let mut accepted = Vec::new();
        rig.until("the end", |rig| {
            accepted.extend(rig.take(accept));
            accepted.iter().any(Outcome::is_final)
        });
        assert!(matches!(accepted.pop(), Some(Outcome::Cancelled)));
        assert_eq!(accepted.len(), most as usize);
        for outcome in accepted {
            let Outcome::Accepted { socket, .. } = outcome else { panic!("{outcome:?}") };
            rig.close(socket);
        }
    }
    rig.close(listener);
    drop(clients);
    rig.finish();
}

pub fn several_drivers_accept_from_one_unix_socket<K: KernelKind>(case: &Case<K>) {
    const CLIENTS: usize = 200;
    let (listener, path, _folder) = unix_listener();
    let mut rigs = [case.rig(), case.rig()];
    let mut accepts = Vec::new();
    for rig in &mut rigs {
        let listener = rig.adopt(listener.try_clone().expect("a descriptor"));
        accepts.push((listener, rig.submit(Op::Accept { listener, most: u32::MAX })));
        rig.turn(Some(Duration::ZERO));
    }
    let clients: Vec<_> = (0..CLIENTS).map(|_| UnixStream::connect(&path).expect("room in the backlog")).collect();
    let mut count = 0;
    let deadline = Instant::now() + patience();
    while count < CLIENTS {
        assert!(Instant::now() < deadline, "{count} of {CLIENTS} connections");
        for (rig, (_, accept)) in rigs.iter_mut().zip(&accepts) {
            rig.turn(Some(Duration::from_millis(1)));
            for outcome in rig.take(*accept) {
                let Outcome::Accepted { socket, peer: Peer::Local } = outcome else { panic!("{outcome:?}") };
                rig.close(socket);
                count += 1;
            }
        }
    }
    assert_eq!(count, CLIENTS);
    for (mut rig, (listener, accept)) in rigs.into_iter().zip(accepts) {
        rig.cancel_and_close(accept, listener);
        rig.finish();
    }
    drop(clients);
}

pub fn a_driver_that_is_gone_keeps_no_connection_of_a_shared_socket<K: KernelKind>(case: &Case<K>) {
    let (listener, path, _folder) = unix_listener();
    let (mut first, mut second) = (case.rig(), case.rig());
    let one = first.adopt(listener.try_clone().expect("a descriptor"));
    let other = second.adopt(listener);
    let ended = first.submit(Op::Accept { listener: one, most: u32::MAX });
    first.turn(Some(Duration::ZERO));
    let accept = second.submit(Op::Accept { listener: other, most: u32::MAX });
    second.turn(Some(Duration::ZERO));
    first.cancel_and_close(ended, one);
    for _ in 0..3 {
        let _client = UnixStream::connect(&path).expect("room in the backlog");
        let mut accepted = Vec::new();
        second.until("a connection", |rig| {
            accepted.extend(rig.take_accepted(accept));
            !accepted.is_empty()
        });
        second.close(accepted[0]);
    }
    first.finish();
    second.cancel_and_close(accept, other);
    second.finish();
}

pub fn a_connection_that_woke_one_who_was_just_stopping_is_not_forgotten<K: KernelKind>(case: &Case<K>) {
    let (unix, path, _folder) = unix_listener();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    tcp.set_nonblocking(true).expect("a live socket");
    let address = tcp.local_addr().expect("it is bound");
    forgets_nobody(case, unix.into(), || UnixStream::connect(&path).expect("room in the backlog"));
    forgets_nobody(case, tcp.into(), || connect(address));
}

fn forgets_nobody<K: KernelKind, C>(case: &Case<K>, listener: OwnedFd, connect: impl Fn() -> C) {
    let (mut first, mut second) = (case.rig(), case.rig());
    let one = first.adopt(listener.try_clone().expect("a descriptor"));
    let other = second.adopt(listener);
    let stopped = first.submit(Op::Accept { listener: one, most: u32::MAX });
    first.turn(Some(Duration::ZERO));
    let accept = second.submit(Op::Accept { listener: other, most: u32::MAX });
    second.turn(Some(Duration::ZERO));
    // The kernel may wake only the first driver for it, whose accept is about to be cancelled.
    let _client = connect();
    first.cancel(stopped);
    match first.take_accepted(stopped).pop() {
        Some(socket) => first.close(socket),
        None => {
            let mut accepted = Vec::new();
            second.until("a connection", |rig| {
                accepted.extend(rig.take_accepted(accept));
                !accepted.is_empty()
            });
            second.close(accepted[0]);
        }
    }
    first.close(one);
    first.finish();
    second.cancel_and_close(accept, other);
    second.finish();
}

fn unix_listener() -> (UnixListener, PathBuf, TempDir) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a new file");
    // Again, with a backlog for all of them.
    socket2::SockRef::from(&listener).listen(4096).expect("a longer backlog");
    listener.set_nonblocking(true).expect("a live socket");
    (listener, path, folder)
}

pub fn a_listener_stays_non_blocking_for_those_who_share_it<K: KernelKind>(case: &Case<K>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a live socket");
    let address = listener.local_addr().expect("it is bound");
    let mut rig = case.rig();
    let theirs = rig.adopt(listener.try_clone().expect("a descriptor"));
    assert!(is_nonblocking(&listener), "adopted");
    // Many at once, and one by one.
    for most in [u32::MAX, 1] {
        let accept = rig.submit(Op::Accept { listener: theirs, most });
        rig.turn(Some(Duration::ZERO));
        assert!(is_nonblocking(&listener), "accepting");
        let _client = connect(address);
        let mut accepted = Vec::new();
        rig.until("a connection", |rig| {
            accepted.extend(rig.take(accept));
            !accepted.is_empty()
        });
        let Outcome::Accepted { socket, .. } = accepted.remove(0) else { panic!("{accepted:?}") };
        rig.close(socket);
        if most == u32::MAX {
            assert!(matches!(rig.cancel(accept), Outcome::Cancelled));
        } else if accepted.is_empty() {
            assert!(matches!(rig.end_of(accept), Outcome::Cancelled));
        }
    }
    rig.close(theirs);
    assert!(is_nonblocking(&listener), "closed");
    rig.finish();
    assert!(is_nonblocking(&listener), "the driver is gone");
}

/// `O_NONBLOCK` belongs to the open file description, which all processes share (proc(5)).
fn is_nonblocking(listener: &TcpListener) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", listener.as_raw_fd())).expect("it is open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("proc(5) promises flags");
    let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
    flags & libc::O_NONBLOCK != 0
}

pub fn drivers_of_both_kinds_share_a_listener_and_lose_nothing<K: KernelKind>(case: &Case<K>) {
    const CLIENTS: usize = 120;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket2::SockRef::from(&listener).listen(4096).expect("a longer backlog");
    listener.set_nonblocking(true).expect("a live socket");
    let address = listener.local_addr().expect("it is bound");
    let copy = || listener.try_clone().expect("a descriptor");
    let (mut first, mut second) =
        (case.rig(), Rig::new(OnEpoll.driver(PoolConfig::default(), Offload::default()).expect("a driver")));
    // A change that one driver makes to the socket applies to the other as well.
    let other = second.adopt(copy());
    let one = first.adopt(copy());
    let first_accept = first.submit(Op::Accept { listener: one, most: u32::MAX });
    let second_accept = second.submit(Op::Accept { listener: other, most: u32::MAX });
    let mut clients = Vec::new();
    let mut count = 0;
    let deadline = Instant::now() + patience();
    while count < CLIENTS {
        assert!(Instant::now() < deadline, "{count} of {CLIENTS} connections");
        if clients.len() < CLIENTS {
            clients.extend((0..3).map(|_| connect(address)));
        }
        // A third user of the listener, which must never block.
        assert!(is_nonblocking(&listener));
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        count += accepted_by(&mut first, first_accept) + accepted_by(&mut second, second_accept);
    }
    assert_eq!(count, CLIENTS);
    first.cancel_and_close(first_accept, one);
    first.finish();
    // The remaining driver accepts alone.
    let _last = connect(address);
    let mut accepted = Vec::new();
    second.until("a connection", |rig| {
        accepted.extend(rig.take_accepted(second_accept));
        !accepted.is_empty()
    });
    second.close(accepted[0]);
    second.cancel_and_close(second_accept, other);
    second.finish();
}

fn accepted_by<D: KernelDriver>(rig: &mut Rig<D>, accept: OpId) -> usize {
    rig.turn(Some(Duration::from_millis(1)));
    let sockets = rig.take_accepted(accept);
    sockets.iter().for_each(|socket| rig.close(*socket));
    sockets.len()
}

pub fn a_listener_that_listens_no_more_is_a_fault<K: KernelKind>(case: &Case<K>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a live socket");
    let mut rig = case.rig();
    let theirs = rig.adopt(listener.try_clone().expect("a descriptor"));
    let accept = rig.submit(Op::Accept { listener: theirs, most: u32::MAX });
    rig.turn(Some(Duration::ZERO));
    // Every process that shares a listener can shut it down for all.
    socket2::SockRef::from(&listener).shutdown(Shutdown::Both).expect("a listener");
    let outcome = rig.end_of(accept);
    assert!(matches!(outcome, Outcome::Failed(Fault::Os(libc::EINVAL))), "{outcome:?}");
    rig.close(theirs);
    rig.finish();
}

pub fn thousands_of_sockets_are_served<K: Kind>(case: &Case<K>) {
    let count = case.plenty(4000);
    if !allow_descriptors(2 * 4000 + 1000) {
        return skip("thousands_of_sockets_are_served", "the system allows too few descriptors");
    }
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    let mut clients = Vec::new();
    let mut sockets = Vec::new();
    while clients.len() < count {
        let more = (count - clients.len()).min(500);
        clients.extend((0..more).map(|_| rig.client(address)));
        rig.until("connections", |rig| {
            sockets.extend(rig.take_accepted(accept));
            sockets.len() == clients.len()
        });
    }
    assert_eq!(rig.open_descriptors(), count + 1);
    let receives: Vec<_> = sockets.iter().map(|&socket| rig.submit(Op::Recv { socket })).collect();
    for client in &mut clients {
        rig.write(client, b"ping");
    }
    for (&recv, &socket) in receives.iter().zip(&sockets) {
        let bytes = rig.receive(recv, 4);
        rig.submit(Op::Send { socket, chain: chain_of(bytes) });
    }
    for client in &mut clients {
        rig.turn(Some(Duration::ZERO));
        assert_eq!(rig.read(client, 4), b"ping");
    }
    clients.into_iter().for_each(|client| rig.close_far(client));
    for recv in receives {
        assert!(matches!(rig.end_of(recv), Outcome::Eof));
    }
    let closes: Vec<_> = sockets.into_iter().map(|socket| rig.submit(Op::Close { socket })).collect();
    for close in closes {
        assert!(matches!(rig.end_of(close), Outcome::Done));
    }
    rig.cancel_and_close(accept, listener);
    rig.finish();
}
