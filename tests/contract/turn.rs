//! Turns: how long they wait, what ends the wait, the limit of completions, and dropping a driver.

use std::io::{Read, Write};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use xps::internals::buffer::{Chain, Chunk};
use xps::internals::driver::{Computation, Op, Outcome, Root, TURN_COMPLETIONS_MAX};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{assert_all_free, computed};
use crate::support::Content;
use crate::world::connect;

pub fn an_idle_turn_lasts_as_long_as_asked<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    for wait in [Duration::from_micros(100), Duration::from_micros(20_300), Duration::from_millis(100)] {
        let enters = rig.counters().enters;
        let start = rig.now();
        let turn = rig.turn(Some(wait));
        assert!(!turn.woken);
        let waited = rig.now().since(start);
        assert!(waited >= wait, "{waited:?} instead of {wait:?}");
        assert!(rig.counters().enters - enters <= 2, "it spins");
    }
    rig.cancel_and_close(recv, socket);
    drop(far);
    rig.finish();
}

pub fn a_waker_ends_an_endless_wait<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    for _ in 0..50 {
        let waker = rig.waker();
        let thread = thread::spawn(move || waker.wake());
        assert!(rig.turn(None).woken);
        thread.join().expect("it only wakes");
        assert!(!rig.turn(Some(Duration::ZERO)).woken, "once is once");
    }
    rig.finish();
}

pub fn a_wake_before_the_wait_counts<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    rig.waker().wake();
    rig.waker().wake();
    assert!(rig.turn(None).woken);
    assert!(!rig.turn(Some(Duration::ZERO)).woken);
    rig.finish();
}

pub fn work_off_the_loop_does_not_look_like_a_message<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (release, gate) = mpsc::channel::<()>();
    let id = rig.submit(Op::Compute(Computation::new(move || {
        // Ends with the sender, too.
        let _ = gate.recv();
        "slow"
    })));
    assert!(!rig.turn(Some(Duration::from_millis(5))).woken);
    release.send(()).expect("it waits");
    let deadline = rig.now() + crate::support::patience();
    while !rig.is_over(id) {
        assert!(rig.now() < deadline);
        assert!(!rig.turn(Some(Duration::from_millis(50))).woken);
    }
    let mut outcomes = rig.take(id);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(computed::<&str>(outcomes.remove(0)), "slow");
    // The result of a cancelled computation is dropped.
    let (release, gate) = mpsc::channel::<()>();
    let id = rig.submit(Op::Compute(Computation::new(move || {
        let _ = gate.recv();
    })));
    rig.turn(Some(Duration::ZERO));
    assert!(matches!(rig.cancel(id), Outcome::Cancelled));
    drop(release);
    rig.turn(Some(Duration::from_millis(5)));
    rig.finish();
}

pub fn more_operations_than_a_turn_hands_out_all_end<K: Kind>(case: &Case<K>) {
    const COUNT: usize = TURN_COMPLETIONS_MAX + 1000;
    let mut rig = case.rig();
    let folder = rig.folder("file", b"0123456789");
    let outcome = rig.run(Op::Open { root: Arc::clone(&folder.root), path: c"file".into(), known_regular: false });
    let Outcome::Opened(file, _) = outcome else { panic!("{outcome:?}") };
    let reads: Vec<_> = (0..COUNT).map(|_| rig.submit(Op::Read { file, offset: 3, length: 4 })).collect();
    rig.until("every read", |rig| reads.iter().all(|&id| rig.is_over(id)));
    let mut ended = 0;
    for id in reads {
        let outcomes = rig.take(id);
        assert!(matches!(&outcomes[..], [Outcome::Read(bytes)] if **bytes == *b"3456"), "{outcomes:?}");
        ended += 1;
    }
    assert_eq!(ended, COUNT);
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}

pub fn a_driver_dropped_in_the_middle_leaves_nothing<K: KernelKind>(case: &Case<K>) {
    const BYTES: usize = 32 << 20;
    let folder = TempDir::new().expect("a temporary folder");
    let bytes: Arc<[u8]> = Content::bytes(18, BYTES).into();
    std::fs::write(folder.path().join("file"), &bytes).expect("room");
    let root = Root::open(folder.path()).expect("it was just made");
    // Once with the operations only queued, once with them running.
    for is_under_way in [false, true] {
        let mut rig = case.rig();
        let outcome = rig.run(Op::Open { root: Arc::clone(&root), path: c"file".into(), known_regular: false });
        let Outcome::Opened(file, _) = outcome else { panic!("{outcome:?}") };
        let (listener, address) = rig.listener();
        let (receiver, mut receiver_far) = rig.tcp_connection();
        let (sender, mut sender_far) = rig.tcp_connection();
        let (file_sender, mut file_far) = rig.tcp_connection();
        rig.submit(Op::Accept { listener, most: u32::MAX });
        rig.submit(Op::Recv { socket: receiver });
        let chain = Chain::from(Chunk::shared(Arc::clone(&bytes)));
        rig.submit(Op::Send { socket: sender, chain });
        rig.submit(Op::SendFile { socket: file_sender, head: Chain::new(), file, offset: 0, length: BYTES as u64 });
        rig.submit(Op::Resolve { host: "localhost".into(), port: 1 });
        receiver_far.write_all(&[1; 1000]).expect("room");
        let client = connect(address);
        if is_under_way {
            rig.until("a full socket", |rig| rig.counters().short_sends > 0);
            rig.turn(Some(Duration::from_millis(5)));
        }
        let pool = rig.pool();
        rig.abandon();
        assert_all_free(&pool);
        assert_eq!(Arc::strong_count(&bytes), 1, "the bytes that were being sent are freed");
        // The peers see an end or a reset, and received the first part of what was sent.
        for far in [&mut sender_far, &mut file_far] {
            let mut received = Vec::new();
            let _ = far.read_to_end(&mut received);
            assert_eq!(received, bytes[..received.len()]);
        }
        let _ = receiver_far.read_to_end(&mut Vec::new());
        drop(client);
    }
}
