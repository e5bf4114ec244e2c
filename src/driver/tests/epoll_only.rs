//! What is measured or refused in epoll's own way.

use std::os::fd::OwnedFd;

use super::*;

#[test]
fn an_exchange_costs_one_wait_one_receive_and_one_send() {
    const ROUNDS: u64 = 100;
    let mut rig = Rig::new(Kind::Epoll);
    let (socket, mut client) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Duration::ZERO);
    let before = rig.driver.counters();
    for _ in 0..ROUNDS {
        client.write_all(b"ping").unwrap();
        rig.receive(recv, 4);
        rig.run(Op::Send { socket, chain: Chain::from(&b"pong"[..]) });
        client.read_exact(&mut [0; 4]).unwrap();
    }
    let after = rig.driver.counters();
    assert_eq!(after.submissions - before.submissions, 2 * ROUNDS);
    assert_eq!(after.enters - before.enters, ROUNDS);
    rig.cancel(recv);
    rig.close(socket);
    rig.assert_at_rest();
}

#[test]
fn a_descriptor_that_epoll_will_not_have_fails_its_operations() {
    let mut rig = Rig::new(Kind::Epoll);
    let socket = rig.driver.adopt(OwnedFd::from(tempfile::tempfile().unwrap()));
    assert!(matches!(rig.run(Op::Recv { socket }), Outcome::Failed(Fault::Os(libc::EPERM))));
    rig.close(socket);
    rig.assert_at_rest();
}
