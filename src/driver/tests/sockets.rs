//! Accepting, receiving, sending, connecting.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::buffer::Chunk;
use crate::driver::Peer;

pub(super) fn bytes_come_back_from_an_echo(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener });
    let mut client = TcpStream::connect(address).unwrap();
    rig.until(|rig| !rig.accepted(accept).is_empty());
    let Outcome::Accepted { socket, peer } = rig.done.remove(0).outcome else { panic!() };
    assert_eq!(peer, Peer::Inet(client.local_addr().unwrap()));
    let recv = rig.submit(Op::Recv { socket });
    for round in 0..100_u8 {
        client.write_all(&[round; 100]).unwrap();
        let bytes = rig.receive(recv, 100);
        assert!(matches!(rig.run(Op::Send { socket, chain: Chain::from(Chunk::shared(bytes)) }), Outcome::Sent));
        let mut answer = [0; 100];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [round; 100]);
    }
    drop(client);
    assert!(matches!(rig.end_of(recv), Outcome::Eof));
    rig.close(socket);
    assert!(matches!(rig.cancel(accept), Outcome::Cancelled));
    rig.close(listener);
    rig.assert_at_rest();
}

pub(super) fn more_connections_than_one_quota_are_all_accepted(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener });
    let mut clients = Vec::new();
    for count in [1, 100, 300] {
        clients.extend((clients.len()..count).map(|_| TcpStream::connect(address).unwrap()));
        rig.until(|rig| rig.accepted(accept).len() == count);
    }
    for socket in rig.accepted(accept) {
        rig.close(socket);
    }
    rig.cancel(accept);
    rig.close(listener);
    rig.assert_at_rest();
}

pub(super) fn the_end_of_input_comes_after_every_byte_and_sending_goes_on(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, mut far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    let sent = pattern(1 << 20);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            far.write_all(&sent).unwrap();
            far.shutdown(std::net::Shutdown::Write).unwrap();
            far
        }
    });
    let mut bytes = Vec::new();
    rig.until(|rig| {
        let received = rig.take_received(recv);
        bytes.extend(received.bytes);
        received.end.is_some_and(|end| matches!(end, Outcome::Eof))
    });
    assert_eq!(bytes, sent);
    let has_large_buffers =
        !matches!(kind, Kind::Uring(off) if off.has(Feature::LargeBuffers) || off.has(Feature::BufferRing));
    assert!(!has_large_buffers || rig.driver.counters().promotions >= 1);
    let mut far = writer.join().unwrap();
    assert!(matches!(rig.run(Op::Send { socket, chain: Chain::from(&b"late"[..]) }), Outcome::Sent));
    assert!(matches!(rig.run(Op::Shutdown { socket }), Outcome::Done));
    let mut late = Vec::new();
    far.read_to_end(&mut late).unwrap();
    assert_eq!(late, b"late");
    assert!(matches!(rig.run(Op::Recv { socket }), Outcome::Eof), "the end stays the end");
    rig.close(socket);
    rig.assert_at_rest();
}

pub(super) fn an_end_that_arrives_with_the_last_bytes_is_not_missed(kind: Kind) {
    for length in [1, 100, 16 << 10] {
        let mut rig = Rig::new(kind);
        let (socket, mut far) = rig.connection();
        far.write_all(&pattern(length)).unwrap();
        drop(far);
        let recv = rig.submit(Op::Recv { socket });
        let end = rig.end_of(recv);
        assert!(matches!(end, Outcome::Eof));
        assert_eq!(rig.take_received(recv).bytes, pattern(length));
        rig.close(socket);
        rig.assert_at_rest();
    }
}

pub(super) fn urgent_data_does_not_hide_what_follows_it(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, mut far) = rig.connection();
    far.write_all(b"abc").unwrap();
    // SAFETY: pointer and length are those of a static byte.
    assert_eq!(unsafe { libc::send(far.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) }, 1);
    far.write_all(b"def").unwrap();
    let recv = rig.submit(Op::Recv { socket });
    assert_eq!(rig.receive(recv, 6), b"abcdef");
    rig.cancel(recv);
    rig.close(socket);
    rig.assert_at_rest();
}

pub(super) fn a_big_send_reaches_a_slow_reader_byte_for_byte(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, far) = rig.connection();
    let bytes = pattern(8 << 20);
    let send = rig.submit(Op::Send { socket, chain: Chain::from(Chunk::shared(bytes.clone())) });
    rig.until(|rig| rig.driver.counters().short_sends > 0);
    let far = reader(far);
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    let progress: u64 = rig
        .done
        .iter()
        .map(|completion| match completion.outcome {
            Outcome::Progress(count) if completion.id == send => count,
            _ => panic!("{completion:?}"),
        })
        .sum();
    assert!(progress > 0 && progress < bytes.len() as u64);
    rig.close(socket);
    assert!(far.join().unwrap() == bytes);
    rig.assert_at_rest();
}

pub(super) fn a_chain_of_many_chunks_arrives_in_order(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, far) = rig.connection();
    let far = reader(far);
    let bytes = pattern(300_000);
    let mut chain = Chain::new();
    for piece in bytes.chunks(97) {
        chain.push(Chunk::shared(piece));
    }
    assert!(matches!(rig.run(Op::Send { socket, chain }), Outcome::Sent));
    rig.close(socket);
    assert!(far.join().unwrap() == bytes);
    rig.assert_at_rest();
}

pub(super) fn cancelled_operations_end_once_and_leave_nothing(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    let send = rig.submit(Op::Send { socket, chain: Chain::from(Chunk::shared(pattern(16 << 20))) });
    rig.until(|rig| rig.driver.counters().short_sends > 0);
    assert!(matches!(rig.cancel(recv), Outcome::Cancelled));
    assert!(matches!(rig.cancel(send), Outcome::Cancelled));
    // A second cancel finds nobody.
    rig.ops.cancel(recv);
    rig.ops.cancel(send);
    rig.turn(Duration::ZERO);
    let early = rig.submit(Op::Recv { socket });
    rig.ops.cancel(early);
    assert!(matches!(rig.end_of(early), Outcome::Cancelled));
    rig.close(socket);
    drop(far);
    rig.assert_at_rest();
}

pub(super) fn what_arrives_after_a_cancel_waits_for_the_next_receive(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, mut far) = rig.connection();
    let first = rig.submit(Op::Recv { socket });
    rig.turn(Duration::ZERO);
    rig.cancel(first);
    far.write_all(b"later").unwrap();
    rig.turn(Duration::from_millis(5));
    let second = rig.submit(Op::Recv { socket });
    assert_eq!(rig.receive(second, 5), b"later");
    rig.cancel(second);
    rig.close(socket);
    rig.assert_at_rest();
}

pub(super) fn a_reset_fails_both_directions_and_ours_reaches_the_peer(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    let send = rig.submit(Op::Send { socket, chain: Chain::from(Chunk::shared(pattern(16 << 20))) });
    rig.until(|rig| rig.driver.counters().short_sends > 0);
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    // Linux tells of a reset once: who comes second may see a plain end.
    let (received, sent) = (rig.end_of(recv), rig.end_of(send));
    let is_told = |outcome: &Outcome| matches!(outcome, Outcome::Failed(fault) if fault.is_disconnect());
    assert!(is_told(&sent), "{sent:?}");
    assert!(is_told(&received) || matches!(received, Outcome::Eof), "{received:?}");
    rig.close(socket);
    let (socket, mut far) = rig.connection();
    assert!(matches!(rig.run(Op::Reset { socket }), Outcome::Done));
    assert_eq!(far.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    rig.assert_at_rest();
}

pub(super) fn connects_succeed_fail_and_can_be_cancelled(kind: Kind) {
    let mut rig = Rig::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let Outcome::Connected(socket) = rig.run(Op::Connect { address }) else { panic!() };
    let (mut far, _) = listener.accept().unwrap();
    assert!(matches!(rig.run(Op::Send { socket, chain: Chain::from(&b"hello"[..]) }), Outcome::Sent));
    let mut bytes = [0; 5];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    far.write_all(b"answer").unwrap();
    let recv = rig.submit(Op::Recv { socket });
    assert_eq!(rig.receive(recv, 6), b"answer");
    rig.cancel(recv);
    rig.close(socket);
    drop(listener);
    let refused = rig.run(Op::Connect { address });
    assert!(matches!(refused, Outcome::Failed(Fault::Os(libc::ECONNREFUSED))), "{refused:?}");
    rig.assert_at_rest();
}

pub(super) fn a_connect_that_hangs_can_be_cancelled(kind: Kind) {
    let mut rig = Rig::new(kind);
    // A backlog that is full: the kernel drops further requests to connect, so they wait.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connects: Vec<_> = (0..8).map(|_| rig.submit(Op::Connect { address })).collect();
    rig.until(|rig| !rig.done.is_empty());
    let hanging: Vec<_> = connects.into_iter().filter(|id| rig.ops.owner(*id).is_some()).collect();
    assert!(!hanging.is_empty());
    for id in hanging {
        let end = rig.cancel(id);
        assert!(matches!(end, Outcome::Cancelled | Outcome::Connected(_)), "{end:?}");
        if let Outcome::Connected(socket) = end {
            rig.close(socket);
        }
    }
    let connected: Vec<_> = rig.done.drain(..).map(|completion| completion.outcome).collect();
    for outcome in connected {
        let Outcome::Connected(socket) = outcome else { panic!("{outcome:?}") };
        rig.close(socket);
    }
    rig.assert_at_rest();
}

pub(super) fn a_socket_pair_serves_as_well(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (near, mut far) = UnixStream::pair().unwrap();
    let socket = rig.driver.adopt(near.into());
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Duration::ZERO);
    far.write_all(b"ping").unwrap();
    assert_eq!(rig.receive(recv, 4), b"ping");
    let bytes = pattern(1 << 20);
    let send = rig.submit(Op::Send { socket, chain: Chain::from(Chunk::shared(bytes.clone())) });
    rig.turn(Duration::ZERO);
    let mut got = vec![0; bytes.len()];
    let far = std::thread::spawn(move || {
        far.read_exact(&mut got).unwrap();
        got
    });
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    assert!(far.join().unwrap() == bytes);
    assert!(matches!(rig.end_of(recv), Outcome::Eof));
    rig.close(socket);
    rig.assert_at_rest();
}

pub(super) fn an_event_of_a_closed_socket_never_reaches_the_next_owner_of_its_place(kind: Kind) {
    let mut rig = Rig::new(kind);
    for _ in 0..50 {
        let (near, mut far) = tcp_pair();
        // An open duplicate keeps the description, and a registration left behind, alive.
        let duplicate = near.try_clone().unwrap();
        let socket = rig.driver.adopt(near.into());
        far.write_all(b"stale").unwrap();
        rig.close(socket);
        let (socket, far_of_next) = rig.connection();
        let recv = rig.submit(Op::Recv { socket });
        rig.turn(Duration::ZERO);
        assert!(rig.take_received(recv).bytes.is_empty());
        rig.cancel(recv);
        rig.close(socket);
        drop((duplicate, far_of_next));
    }
    rig.assert_at_rest();
}
