//! Running out of buffers or descriptors: operations wait or fail, and continue afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use xps::internals::buffer::PoolConfig;
use xps::internals::driver::{Fault, Op, OpId, Outcome, Socket};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{Rig, chain_of};
use crate::support::{Content, patience};
use crate::world::{World, connect};

pub fn receivers_without_a_buffer_wait_without_spinning_and_get_theirs<K: Kind>(case: &Case<K>) {
    const RECEIVERS: usize = 6;
    const BYTES: usize = 1000;
    let mut rig = case.rig_with(PoolConfig { small_bytes: 4096, large_bytes: 4096, small_max: 2, large_max: 1 });
    let mut peers = Vec::new();
    for index in 0..RECEIVERS {
        let (socket, mut far) = rig.connection();
        rig.write(&mut far, &Content::bytes(index as u64, BYTES));
        peers.push((rig.submit(Op::Recv { socket }), socket, far, Vec::new()));
    }
    // The case holds them, like a state machine.
    let mut held = Vec::new();
    rig.until("every buffer in use", |rig| {
        for (index, (recv, ..)) in peers.iter().enumerate() {
            held.extend(rig.take(*recv).into_iter().map(|outcome| (index, outcome)));
        }
        held.len() >= 2
    });
    rig.turn(Some(Duration::from_millis(20)));
    let enters = rig.counters().enters;
    rig.turn(Some(Duration::from_millis(100)));
    assert!(rig.counters().enters - enters <= 4, "it spins: {} enters", rig.counters().enters - enters);
    assert!(rig.counters().buffers_exhausted > 0);
    let take = |peers: &mut Vec<(_, _, _, Vec<u8>)>, index: usize, outcome| match outcome {
        Outcome::Received(buffer) => peers[index].3.extend_from_slice(&buffer),
        other => panic!("{other:?}"),
    };
    for (index, outcome) in held.drain(..) {
        take(&mut peers, index, outcome);
    }
    rig.until("everybody's bytes", |rig| {
        for index in 0..RECEIVERS {
            for outcome in rig.take(peers[index].0) {
                take(&mut peers, index, outcome);
            }
        }
        peers.iter().all(|(.., bytes)| bytes.len() == BYTES)
    });
    for (index, (recv, socket, _far, bytes)) in peers.into_iter().enumerate() {
        assert_eq!(bytes, Content::bytes(index as u64, BYTES));
        rig.cancel_and_close(recv, socket);
    }
    rig.finish();
}

pub fn a_receiver_that_waits_for_a_buffer_can_be_cancelled<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig_with(PoolConfig { small_bytes: 4096, large_bytes: 4096, small_max: 1, large_max: 0 });
    let (greedy, mut greedy_far) = rig.connection();
    let (hungry, mut hungry_far) = rig.connection();
    rig.write(&mut greedy_far, b"mine");
    let greedy_recv = rig.submit(Op::Recv { socket: greedy });
    let mut held = Vec::new();
    rig.until("the only buffer in use", |rig| {
        held.extend(rig.take(greedy_recv));
        !held.is_empty()
    });
    rig.write(&mut hungry_far, b"and mine?");
    let recv = rig.submit(Op::Recv { socket: hungry });
    rig.until("a receiver without a buffer", |rig| rig.counters().buffers_exhausted > 0);
    assert!(matches!(rig.cancel(recv), Outcome::Cancelled));
    // The bytes remain in the socket for the next `Recv`, which waits for a buffer.
    let recv = rig.submit(Op::Recv { socket: hungry });
    rig.turn(Some(Duration::from_millis(5)));
    assert!(rig.take(recv).is_empty());
    held.clear();
    assert_eq!(rig.receive(recv, 9), b"and mine?");
    rig.cancel_and_close(recv, hungry);
    rig.cancel_and_close(greedy_recv, greedy);
    rig.finish();
}

/// So small that buffers are scarce from the first one on.
const SCARCE: PoolConfig = PoolConfig { small_bytes: 4096, large_bytes: 4096, small_max: 16, large_max: 1 };

pub fn of_scarce_buffers_a_receiver_that_is_paused_holds_one<K: KernelKind>(case: &Case<K>) {
    // With two for each there would be none for the last ones.
    const RECEIVERS: usize = 12;
    let mut rig = case.rig_with(SCARCE);
    let content = Content::bytes(25, 8 * SCARCE.small_bytes);
    let mut peers = Vec::new();
    let take = |rig: &mut Rig<K::Driver>, peers: &mut Vec<(OpId, Socket, TcpStream, Vec<Outcome>)>| {
        for (recv, _, _, held) in peers {
            let news = rig.take(*recv);
            if !news.is_empty() {
                rig.pause(*recv);
                held.extend(news);
            }
            assert!(held.len() <= 1, "more than one: {held:?}");
        }
    };
    for _ in 0..RECEIVERS {
        let (socket, mut far) = rig.tcp_connection();
        far.write_all(&content).expect("room");
        peers.push((rig.submit(Op::Recv { socket }), socket, far, Vec::new()));
        rig.turn(Some(Duration::ZERO));
        take(&mut rig, &mut peers);
    }
    rig.until("a buffer for each", |rig| {
        take(rig, &mut peers);
        peers.iter().all(|(.., held)| held.len() == 1)
    });
    rig.watch(Duration::from_millis(20));
    assert!(peers.iter().all(|(recv, ..)| rig.take(*recv).is_empty()), "paused");
    for (recv, socket, _far, held) in peers {
        let Some(Outcome::Received(first)) = held.into_iter().next() else { panic!("bytes") };
        let got = first.len();
        assert_eq!(first[..], content[..got]);
        drop(first);
        rig.resume(recv);
        assert_eq!(rig.receive(recv, content.len() - got), content[got..]);
        rig.cancel_and_close(recv, socket);
    }
    rig.finish();
}

pub fn scarce_buffers_bring_every_byte<K: Kind>(case: &Case<K>) {
    brings_every_byte(case, SCARCE, case.plenty(4 << 20));
}

pub fn without_large_buffers_small_ones_do<K: Kind>(case: &Case<K>) {
    brings_every_byte(case, PoolConfig { large_max: 0, ..PoolConfig::default() }, 4 << 20);
}

/// Receives `bytes` bytes of a peer that sends them at once, into the buffers of this pool.
fn brings_every_byte<K: Kind>(case: &Case<K>, pool: PoolConfig, bytes: usize) {
    let mut rig = case.rig_with(pool);
    let (socket, mut far) = rig.connection();
    rig.pour(&mut far, Content::bytes(26, bytes));
    let recv = rig.submit(Op::Recv { socket });
    let mut content = Content::new(26);
    while content.position() < bytes as u64 {
        turn_with_bytes(&mut rig);
        content.expect(&rig.take_bytes(recv).bytes);
    }
    rig.cancel(recv);
    rig.close(socket);
    rig.finish();
}

pub fn bulk_goes_on_when_large_buffers_are_held<K: Kind>(case: &Case<K>) {
    const BYTES: usize = 8 << 20;
    let mut rig = case.rig_with(PoolConfig { large_max: 2, ..PoolConfig::default() });
    let (socket, mut far) = rig.connection();
    rig.pour(&mut far, Content::bytes(17, BYTES));
    let recv = rig.submit(Op::Recv { socket });
    let small = PoolConfig::default().small_bytes;
    let mut content = Content::new(17);
    let mut hoard = Vec::new();
    while content.position() < BYTES as u64 {
        turn_with_bytes(&mut rig);
        for outcome in rig.take(recv) {
            let Outcome::Received(buffer) = outcome else { panic!("{outcome:?}") };
            content.expect(&buffer);
            // A slow consumer keeps every large buffer.
            if buffer.capacity() > small {
                hoard.push(buffer);
            }
        }
    }
    let expected = if case.kind.has_large_buffers() { 2 } else { 0 };
    assert_eq!(hoard.len(), expected, "{:?}", rig.counters());
    drop(hoard);
    rig.cancel(recv);
    rig.close(socket);
    rig.finish();
}

/// One long wait that only an arrival can end. Short waits would hide a receiver that gets no
/// buffer.
#[track_caller]
fn turn_with_bytes<D: World>(rig: &mut Rig<D>) {
    let start = rig.now();
    rig.turn(Some(patience()));
    assert!(rig.now().since(start) < patience(), "the receiver gets no buffer: {:?}", rig.counters());
}

pub fn without_descriptors_accepting_pauses_and_recovers<K: KernelKind>(case: &Case<K>) {
    if !case.is_in_child_with_descriptors(96) {
        return;
    }
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    let mut client = connect(address);
    let mut accepted = Vec::new();
    rig.until("the first connection", |rig| {
        accepted.extend(rig.take_accepted(accept));
        accepted.len() == 1
    });
    // Two connections wait in the backlog without a descriptor: each client takes the only one
    // left.
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(96).collect();
    drop(hoard.pop());
    let second = connect(address);
    drop(hoard.pop());
    let third = connect(address);
    rig.until("a pause", |rig| rig.counters().accept_pauses > 0);
    let before = rig.counters();
    rig.until("more pauses", |rig| rig.counters().accept_pauses >= before.accept_pauses + 2);
    let enters = rig.counters().enters - before.enters;
    assert!(enters <= 16, "it spins: {enters} enters");
    accepted.extend(rig.take_accepted(accept));
    // Accepted connections are served meanwhile.
    let socket = accepted[0];
    assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"hi") }), Outcome::Sent));
    client.read_exact(&mut [0; 2]).expect("an answer");
    // When the driver closes a descriptor, it accepts the next connection.
    let count = accepted.len();
    rig.close(accepted.remove(0));
    rig.until("the next connection", |rig| {
        accepted.extend(rig.take_accepted(accept));
        accepted.len() >= count
    });
    // When descriptors are closed outside of the driver, it accepts after the pause.
    hoard.clear();
    rig.until("the last connection", |rig| {
        accepted.extend(rig.take_accepted(accept));
        accepted.len() >= 2
    });
    for socket in accepted {
        rig.close(socket);
    }
    rig.cancel_and_close(accept, listener);
    drop((client, second, third));
    rig.finish();
}

pub fn a_paused_accept_can_be_cancelled<K: KernelKind>(case: &Case<K>) {
    if !case.is_in_child_with_descriptors(96) {
        return;
    }
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    rig.turn(Some(Duration::ZERO));
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(96).collect();
    drop(hoard.pop());
    let client = connect(address);
    rig.until("a pause", |rig| rig.counters().accept_pauses > 0);
    assert!(matches!(rig.cancel(accept), Outcome::Cancelled));
    drop(hoard);
    // Longer than the pause: the driver must not accept for an operation that has ended.
    rig.turn(Some(Duration::from_millis(150)));
    assert_eq!(rig.open_descriptors(), 1);
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    let mut accepted = Vec::new();
    rig.until("the connection in the backlog", |rig| {
        accepted.extend(rig.take_accepted(accept));
        !accepted.is_empty()
    });
    rig.close(accepted[0]);
    rig.cancel_and_close(accept, listener);
    drop(client);
    rig.finish();
}

pub fn a_connect_without_descriptors_is_a_fault<K: KernelKind>(case: &Case<K>) {
    if !case.is_in_child_with_descriptors(96) {
        return;
    }
    let mut rig = case.rig();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(96).collect();
    let outcome = rig.run(Op::Connect { address: address.into() });
    assert!(matches!(outcome, Outcome::Failed(Fault::Os(libc::EMFILE))), "{outcome:?}");
    drop(hoard);
    let outcome = rig.run(Op::Connect { address: address.into() });
    let Outcome::Connected(socket) = outcome else { panic!("{outcome:?}") };
    let far: Option<TcpStream> = listener.accept().ok().map(|(stream, _)| stream);
    rig.close(socket);
    drop(far);
    rig.finish();
}
