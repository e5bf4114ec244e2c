//! `Recv`: every byte once, in order, then the end; an idle connection holds no buffer.

use std::io::Write;
use std::time::Duration;

use xps::internals::buffer::SizeClass;
use xps::internals::driver::{Op, Outcome};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{Rig, chain_of};
use crate::support::Content;

pub fn bytes_come_back_from_an_echo<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut client) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    for round in 0..50 {
        let message = Content::bytes(round, 1 + 97 * round as usize);
        rig.write(&mut client, &message);
        let bytes = rig.receive(recv, message.len());
        assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(bytes) }), Outcome::Sent));
        assert_eq!(rig.read(&mut client, message.len()), message);
    }
    rig.close_far(client);
    assert!(matches!(rig.end_of(recv), Outcome::Eof));
    rig.close(socket);
    rig.finish();
}

pub fn the_end_comes_after_every_byte_and_sending_goes_on<K: Kind>(case: &Case<K>) {
    const BYTES: usize = 1 << 20;
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    rig.pour(&mut far, Content::bytes(1, BYTES));
    rig.end_sending(&mut far);
    let mut content = Content::new(1);
    let mut end = None;
    rig.until("the end", |rig| {
        let delivery = rig.take_bytes(recv);
        content.expect(&delivery.bytes);
        end = delivery.end;
        end.is_some()
    });
    assert!(matches!(end, Some(Outcome::Eof)), "{end:?}");
    assert_eq!(content.position(), BYTES as u64);
    assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"late") }), Outcome::Sent));
    assert!(matches!(rig.run(Op::Shutdown { socket }), Outcome::Done));
    assert_eq!(rig.read_rest(&mut far), b"late");
    assert!(matches!(rig.run(Op::Recv { socket }), Outcome::Eof), "the end stays the end");
    rig.close(socket);
    rig.finish();
}

pub fn an_end_that_arrives_with_the_last_bytes_is_not_missed<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for length in [0, 1, 100, 16 << 10, (16 << 10) + 1] {
        let (socket, mut far) = rig.connection();
        rig.write(&mut far, &Content::bytes(2, length));
        rig.close_far(far);
        let recv = rig.submit(Op::Recv { socket });
        assert!(matches!(rig.end_of(recv), Outcome::Eof));
        assert_eq!(rig.take_bytes(recv).bytes, Content::bytes(2, length));
        rig.close(socket);
    }
    rig.finish();
}

pub fn bulk_and_messages_in_turn_keep_their_order<K: Kind>(case: &Case<K>) {
    const ROUNDS: u64 = 6;
    const MESSAGES: usize = 8;
    let bulk_bytes = case.plenty(8 << 20);
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    let mut received = Content::new(3);
    let mut sent = Content::new(3);
    for _ in 0..ROUNDS {
        let mut bytes = vec![0; bulk_bytes];
        sent.fill(&mut bytes);
        rig.pour(&mut far, bytes);
        let end = sent.position();
        rig.until("bulk", |rig| {
            received.expect(&rig.take_bytes(recv).bytes);
            received.position() == end
        });
        for _ in 0..MESSAGES {
            let mut message = [0; 100];
            sent.fill(&mut message);
            rig.write(&mut far, &message);
            received.expect(&rig.receive(recv, message.len()));
        }
    }
    if case.kind.has_promotions() {
        let counters = rig.counters();
        assert!(counters.promotions >= 2, "{counters:?}");
        // Each promotion leads to an operation with the new size; a socket that alternates between
        // the sizes without receiving fails here.
        assert!(counters.promotions < counters.submissions / 2, "{counters:?}");
    }
    rig.cancel_and_close(recv, socket);
    rig.finish();
}

pub fn an_idle_connection_holds_no_buffer<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    rig.turn(Some(Duration::ZERO));
    let held = |rig: &Rig<K::Driver>| {
        [SizeClass::Small, SizeClass::Large].map(|class| {
            let usage = rig.usage(class);
            (usage.with_driver, usage.leased)
        })
    };
    let before = held(&rig);
    let mut idle = Vec::new();
    for _ in 0..300 {
        let (socket, far) = rig.connection();
        idle.push((rig.submit(Op::Recv { socket }), socket, far));
    }
    rig.turn(Some(Duration::from_millis(5)));
    assert_eq!(held(&rig), before);
    for (recv, socket, _far) in idle {
        rig.cancel_and_close(recv, socket);
    }
    rig.finish();
}

pub fn urgent_data_does_not_hide_what_follows_it<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.tcp_connection();
    far.write_all(b"abc").expect("room");
    socket2::SockRef::from(&far).send_out_of_band(b"!").expect("room");
    far.write_all(b"def").expect("room");
    let recv = rig.submit(Op::Recv { socket });
    assert_eq!(rig.receive(recv, 6), b"abcdef");
    rig.cancel_and_close(recv, socket);
    rig.finish();
}

pub fn a_reset_fails_a_receive<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for is_armed_before in [true, false] {
        let (socket, far) = rig.connection();
        let early = is_armed_before.then(|| rig.submit(Op::Recv { socket }));
        rig.turn(Some(Duration::ZERO));
        rig.reset_far(far);
        let recv = early.unwrap_or_else(|| rig.submit(Op::Recv { socket }));
        let end = rig.end_of(recv);
        assert!(matches!(end, Outcome::Failed(fault) if fault.is_disconnect()), "{end:?}");
        rig.close(socket);
    }
    rig.finish();
}

pub fn a_socket_that_is_always_ready_does_not_hold_up_another<K: Kind>(case: &Case<K>) {
    const TURNS_MAX: usize = 40;
    let mut rig = case.rig();
    let (busy, mut far) = rig.connection();
    let (quiet, mut quiet_far) = rig.connection();
    // More than is received.
    rig.pour(&mut far, vec![7; 64 << 20]);
    let busy_recv = rig.submit(Op::Recv { socket: busy });
    let quiet_recv = rig.submit(Op::Recv { socket: quiet });
    let mut flooded = 0;
    rig.until("a flood", |rig| {
        flooded += rig.take_bytes(busy_recv).bytes.len();
        flooded > 4 << 20
    });
    rig.write(&mut quiet_far, b"me too");
    let mut turns = 0;
    rig.until("the quiet one", |rig| {
        turns += 1;
        rig.take_bytes(busy_recv);
        !rig.take_bytes(quiet_recv).bytes.is_empty()
    });
    assert!(turns < TURNS_MAX, "it took {turns} turns");
    assert!(matches!(rig.cancel(busy_recv), Outcome::Cancelled));
    rig.take_bytes(busy_recv);
    rig.close(busy);
    rig.cancel_and_close(quiet_recv, quiet);
    rig.finish();
}
