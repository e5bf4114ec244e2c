//! Time, wake-ups, fairness, and running out of buffers and descriptors.

use super::*;
use crate::buffer::Chunk;

pub(super) fn a_waker_ends_an_endless_wait_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let waker = rig.driver.waker();
    let thread = std::thread::spawn(move || waker.wake());
    let turn = rig.driver.turn(&mut rig.ops, None, &mut rig.done).unwrap();
    assert!(turn.woken);
    thread.join().unwrap();
    assert!(!rig.turn(Duration::ZERO).woken);
}

pub(super) fn offloaded_work_does_not_look_like_a_message(kind: Kind) {
    let mut rig = Rig::new(kind);
    let id = rig.submit(Op::Resolve { host: "127.0.0.1".into(), port: 80 });
    let start = Instant::now();
    while rig.ops.owner(id).is_some() && start.elapsed() < PATIENCE {
        assert!(!rig.turn(Duration::from_millis(100)).woken);
    }
    assert!(matches!(&rig.done[0].outcome, Outcome::Resolved(addresses) if addresses[0].port() == 80));
    rig.assert_at_rest();
}

pub(super) fn a_resolve_that_was_cancelled_answers_nobody(kind: Kind) {
    let mut rig = Rig::new(kind);
    let id = rig.submit(Op::Resolve { host: "localhost".into(), port: 80 });
    assert!(matches!(rig.cancel(id), Outcome::Cancelled));
    rig.turn(Duration::from_millis(50));
    rig.assert_at_rest();
}

pub(super) fn receivers_without_a_buffer_wait_and_get_theirs_in_turn(kind: Kind) {
    let pool = PoolConfig { small_bytes: 4096, large_bytes: 4096, small_max: 2, large_max: 0 };
    let mut rig = Rig::with_pool(kind, pool);
    let mut peers = Vec::new();
    for index in 0..6_u8 {
        let (socket, mut far) = rig.connection();
        far.write_all(&[index; 1000]).unwrap();
        peers.push((rig.submit(Op::Recv { socket }), socket, far));
    }
    rig.until(|rig| rig.done.len() == 2);
    let enters = rig.driver.counters().enters;
    rig.turn(Duration::from_millis(20));
    assert_eq!(rig.done.len(), 2, "there are but two buffers");
    assert!(rig.driver.counters().enters - enters <= 3, "it spins");
    assert!(rig.driver.counters().buffers_exhausted >= 4);
    let mut bytes = 0;
    rig.until(|rig| {
        for completion in rig.done.drain(..) {
            let Outcome::Received(buffer) = completion.outcome else { panic!() };
            bytes += buffer.len();
        }
        bytes == 6000
    });
    for (recv, socket, _far) in peers {
        rig.cancel(recv);
        rig.close(socket);
    }
    rig.assert_at_rest();
}

pub(super) fn a_socket_that_is_always_ready_does_not_hold_up_another(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (busy, far) = rig.connection();
    let (quiet, mut quiet_far) = rig.connection();
    let flood = std::thread::spawn(move || {
        let mut far = far;
        let bytes = vec![7; 1 << 20];
        while far.write_all(&bytes).is_ok() {}
    });
    let busy_recv = rig.submit(Op::Recv { socket: busy });
    let quiet_recv = rig.submit(Op::Recv { socket: quiet });
    rig.receive(busy_recv, 4 << 20);
    quiet_far.write_all(b"me too").unwrap();
    let mut turns = 0;
    rig.until(|rig| {
        turns += 1;
        rig.take_received(busy_recv);
        !rig.take_received(quiet_recv).bytes.is_empty()
    });
    assert!(turns < 20, "it took {turns} turns");
    rig.cancel(busy_recv);
    rig.cancel(quiet_recv);
    rig.done.clear();
    assert!(matches!(rig.run(Op::Reset { socket: busy }), Outcome::Done));
    rig.close(quiet);
    flood.join().unwrap();
    rig.assert_at_rest();
}

/// What runs out of descriptors runs in a process of its own: the limit is the whole process's.
pub(super) fn without_descriptors_accepting_pauses_and_recovers(kind: Kind) {
    const CHILD: &str = "XPS_TEST_EMFILE_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let test = std::thread::current().name().unwrap().to_owned();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && words.contains("1 passed"), "{words}");
        return;
    }
    let limit = libc::rlimit { rlim_cur: 128, rlim_max: 128 };
    // SAFETY: the limit is a live local.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let mut rig = Rig::new(kind);
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener });
    let mut client = TcpStream::connect(address).unwrap();
    rig.until(|rig| rig.accepted(accept).len() == 1);
    let first = rig.accepted(accept)[0];
    // The kernel may accept at any moment, so it comes only when there is no descriptor left.
    let second = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).take(128).collect();
    second.connect(&address.into()).unwrap();
    rig.until(|rig| rig.driver.counters().accept_pauses > 0);
    let pauses = rig.driver.counters().accept_pauses;
    let enters = rig.driver.counters().enters;
    rig.turn(Duration::from_millis(250));
    assert!((2..=4).contains(&(rig.driver.counters().accept_pauses - pauses)));
    assert!(rig.driver.counters().enters - enters <= 6, "it spins");
    // Those who are in are served meanwhile.
    assert!(matches!(rig.run(Op::Send { socket: first, chain: Chain::from(Chunk::shared(*b"hi")) }), Outcome::Sent));
    client.read_exact(&mut [0; 2]).unwrap();
    // A descriptor of its own that is closed ends the pause at once.
    rig.close(first);
    rig.until(|rig| rig.accepted(accept).len() == 2);
    // A descriptor of somebody else's ends it after a while.
    let _third = TcpStream::connect(address);
    drop(hoard);
    let _fourth = TcpStream::connect(address).unwrap();
    rig.until(|rig| rig.accepted(accept).len() >= 3);
    drop((client, second));
}

pub(super) fn an_idle_turn_lasts_as_long_as_asked_and_enters_the_kernel_once(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (socket, _far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Duration::ZERO);
    let before = (rig.driver.now(), rig.driver.counters().enters);
    let wait = Duration::from_micros(20_300);
    let turn = rig.turn(wait);
    assert!(!turn.woken && rig.done.is_empty());
    assert!(turn.now.since(before.0) >= wait);
    assert!(rig.driver.counters().enters - before.1 <= 2, "it spins");
    assert_eq!(rig.driver.pool().usage(SizeClass::Small).leased, 0, "an idle connection holds a buffer");
    rig.cancel(recv);
    rig.close(socket);
    rig.assert_at_rest();
}

pub(super) fn one_turn_hands_out_no_more_than_the_limit(kind: Kind) {
    let mut rig = Rig::new(kind);
    let resolves = TURN_COMPLETIONS_MAX + 10;
    let ids: Vec<_> = (0..resolves)
        .map(|_| {
            let id = rig.submit(Op::Resolve { host: "::1".into(), port: 1 });
            rig.ops.cancel(id);
            id
        })
        .collect();
    rig.turn(Duration::ZERO);
    assert_eq!(rig.done.len(), TURN_COMPLETIONS_MAX);
    rig.turn(Duration::ZERO);
    assert_eq!(rig.done.len(), resolves);
    assert!(ids.iter().all(|id| rig.ops.owner(*id).is_none()));
    rig.assert_at_rest();
}
