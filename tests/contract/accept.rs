//! Listening: every connection, with its peer, whoever stops and starts again.

use std::io::{Read, Write};
use std::net::TcpStream;

use xps::driver::{Op, Outcome, Peer};

use crate::kind::{Case, Kind};
use crate::rig::{chain_of, connect};
use crate::support::environment::{allow_descriptors, skip};

pub fn every_connection_is_delivered_with_its_peer<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener });
    // Some before the driver looks, some after.
    for batch in [3, 1, 20] {
        let clients: Vec<TcpStream> = (0..batch).map(|_| connect(address)).collect();
        let mut accepted = Vec::new();
        rig.until("connections", |rig| {
            accepted.extend(rig.take(accept));
            accepted.len() >= batch
        });
        let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().expect("connected")).collect();
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

pub fn a_cancelled_listener_can_be_used_again<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let first = rig.submit(Op::Accept { listener });
    rig.turn(Some(std::time::Duration::ZERO));
    assert!(matches!(rig.cancel(first), Outcome::Cancelled));
    // It waits in the backlog meanwhile.
    let client = connect(address);
    let second = rig.submit(Op::Accept { listener });
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

pub fn thousands_of_sockets_are_served<K: Kind>(case: &Case<K>) {
    let count = case.plenty(4000);
    if !allow_descriptors(2 * 4000 + 1000) {
        return skip("thousands_of_sockets_are_served", "the system allows too few descriptors");
    }
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener });
    let mut clients = Vec::new();
    let mut sockets = Vec::new();
    while clients.len() < count {
        let more = (count - clients.len()).min(500);
        clients.extend((0..more).map(|_| connect(address)));
        rig.until("connections", |rig| {
            sockets.extend(rig.take_accepted(accept));
            sockets.len() == clients.len()
        });
    }
    assert_eq!(rig.open_descriptors(), count + 1);
    let receives: Vec<_> = sockets.iter().map(|&socket| rig.submit(Op::Recv { socket })).collect();
    for client in &mut clients {
        client.write_all(b"ping").expect("the socket takes four bytes");
    }
    for (&recv, &socket) in receives.iter().zip(&sockets) {
        let bytes = rig.receive(recv, 4);
        rig.submit(Op::Send { socket, chain: chain_of(bytes) });
    }
    for client in &mut clients {
        rig.turn(Some(std::time::Duration::ZERO));
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"ping");
    }
    drop(clients);
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
