//! `Send`: all bytes or an error, also if the peer reads slowly.

use std::sync::LazyLock;
use std::time::Duration;

use xps::internals::buffer::{Chain, Chunk};
use xps::internals::driver::{Op, Outcome};

use crate::kind::{Case, Kind};
use crate::rig::{chain_of, progress};
use crate::support::{Content, assert_same_bytes};
use crate::world::End;

pub fn a_big_send_reaches_a_slow_reader_byte_for_byte<K: Kind>(case: &Case<K>) {
    let length = case.plenty(64 << 20);
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let send = rig.submit(Op::Send { socket, chain: chain_of(Content::bytes(4, length)) });
    // The peer reads nothing until the socket is full.
    rig.until("a full socket", |rig| rig.counters().short_sends > 0);
    rig.listen(&mut far);
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    let reported = progress(&rig.take(send));
    assert!(reported > 0 && reported < length as u64, "progress of {reported}; the rest comes with `Sent`");
    rig.close(socket);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(4, length));
    rig.finish();
}

pub fn a_chain_of_many_chunks_arrives_in_order<K: Kind>(case: &Case<K>) {
    static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| Content::bytes(5, 300_000));
    let mut rig = case.rig();
    // Fewer chunks than one call gathers, exactly as many, and many more.
    for (piece, length) in [(1000, 5000), (10, 640), (97, 300_000)] {
        let (socket, mut far) = rig.connection();
        rig.listen(&mut far);
        let bytes = &CONTENT[..length];
        let mut chain = Chain::new();
        for (index, piece) in bytes.chunks(piece).enumerate() {
            match index % 2 {
                0 => chain.push(Chunk::shared(piece)),
                _ => chain.push(piece),
            }
        }
        assert!(matches!(rig.run(Op::Send { socket, chain }), Outcome::Sent));
        rig.close(socket);
        assert_same_bytes(&rig.read_rest(&mut far), bytes);
    }
    rig.finish();
}

pub fn received_buffers_can_be_sent_on<K: Kind>(case: &Case<K>) {
    let length = case.plenty(16 << 20);
    let mut rig = case.rig();
    let (source, mut near) = rig.connection();
    let (sink, mut far) = rig.connection();
    rig.listen(&mut far);
    rig.pour(&mut near, Content::bytes(6, length));
    rig.end_sending(&mut near);
    let recv = rig.submit(Op::Recv { socket: source });
    let mut queued = Chain::new();
    let mut sending = None;
    let mut is_over = false;
    rig.until("the relay", |rig| {
        for outcome in rig.take(recv) {
            match outcome {
                Outcome::Received(buffer) => queued.push(buffer),
                Outcome::Eof => is_over = true,
                other => panic!("{other:?}"),
            }
        }
        if sending.is_some_and(|send| rig.is_over(send)) {
            sending = None;
        }
        if sending.is_none() && !queued.is_empty() {
            sending = Some(rig.submit(Op::Send { socket: sink, chain: queued.take() }));
        }
        is_over && sending.is_none()
    });
    rig.close(source);
    rig.close(sink);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(6, length));
    rig.finish();
}

pub fn both_directions_at_once<K: Kind>(case: &Case<K>) {
    let length = case.plenty(16 << 20);
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    rig.listen(&mut far);
    rig.pour(&mut far, Content::bytes(7, length));
    rig.end_sending(&mut far);
    let recv = rig.submit(Op::Recv { socket });
    let send = rig.submit(Op::Send { socket, chain: chain_of(Content::bytes(8, length)) });
    let mut received = Content::new(7);
    let mut end = None;
    rig.until("both ends", |rig| {
        let delivery = rig.take_bytes(recv);
        received.expect(&delivery.bytes);
        end = end.take().or(delivery.end);
        end.is_some() && rig.is_over(send)
    });
    assert!(matches!(end, Some(Outcome::Eof)), "{end:?}");
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    assert_eq!(received.position(), length as u64);
    rig.close(socket);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(8, length));
    rig.finish();
}

pub fn a_reset_during_a_send_fails_it<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, far) = rig.connection();
    let send = rig.submit(Op::Send { socket, chain: chain_of(vec![1; case.kind.more_than_sockets_hold()]) });
    rig.until("a full socket", |rig| rig.counters().short_sends > 0);
    rig.reset_far(far);
    let end = rig.end_of(send);
    assert!(matches!(end, Outcome::Failed(fault) if fault.is_disconnect()), "{end:?}");
    // The next send fails too, and raises no SIGPIPE.
    let end = rig.run(Op::Send { socket, chain: chain_of(*b"anybody?") });
    assert!(matches!(end, Outcome::Failed(fault) if fault.is_disconnect()), "{end:?}");
    rig.close(socket);
    rig.finish();
}

pub fn after_a_shutdown_the_peer_sees_the_end_and_can_still_talk<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"that is all") }), Outcome::Sent));
    assert!(matches!(rig.run(Op::Shutdown { socket }), Outcome::Done));
    assert_eq!(rig.read_rest(&mut far), b"that is all");
    // The driver goes on receiving.
    rig.write(&mut far, b"but not for me");
    assert_eq!(rig.receive(recv, 14), b"but not for me");
    rig.close_far(far);
    assert!(matches!(rig.end_of(recv), Outcome::Eof));
    rig.close(socket);
    rig.finish();
}

pub fn our_reset_reaches_the_peer<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    assert!(matches!(rig.cancel(recv), Outcome::Cancelled));
    assert!(matches!(rig.run(Op::Reset { socket }), Outcome::Reset { lost: 0 }));
    assert_eq!(rig.heard(&mut far), (Vec::new(), End::Reset));
    rig.finish();
}
