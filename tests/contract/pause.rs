//! `Ops::pause`: nothing is received, but an error of the connection is reported.

use std::time::Duration;

use xps::internals::driver::{Fault, Op, OpId, Outcome, Socket};

use crate::kind::{Case, Kind};
use crate::rig::Rig;
use crate::support::{Content, assert_same_bytes};
use crate::world::World;

/// The time to observe that something does not happen.
const MOMENT: Duration = Duration::from_millis(100);

/// A connection with a `Recv` that has been paused for some turns.
fn paused<D: World>(rig: &mut Rig<D>) -> (Socket, OpId, D::Far) {
    let (socket, far) = rig.connection();
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    rig.pause(recv);
    rig.watch(MOMENT / 10);
    (socket, recv, far)
}

/// Waits for the report that the connection broke.
#[track_caller]
fn expect_broken<D: World>(rig: &mut Rig<D>, recv: OpId, errno: i32) {
    let mut news = Vec::new();
    rig.until("the news of a reset", |rig| {
        news.extend(rig.take(recv));
        !news.is_empty()
    });
    assert!(matches!(news[..], [Outcome::Broken(Fault::Os(code))] if code == errno), "{news:?}");
}

pub fn a_paused_receive_goes_on_where_it_was<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, recv, mut far) = paused(&mut rig);
    for round in 0..3 {
        rig.write(&mut far, b"while it was paused");
        rig.watch(MOMENT);
        assert!(rig.take(recv).is_empty(), "round {round}");
        rig.resume(recv);
        assert_eq!(rig.receive(recv, 19), b"while it was paused");
        rig.pause(recv);
        rig.watch(MOMENT / 10);
    }
    rig.cancel_and_close(recv, socket);
    rig.finish();
}

pub fn a_reset_is_told_while_nothing_is_received<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, recv, mut far) = paused(&mut rig);
    let content = Content::bytes(12, 20_000);
    rig.write(&mut far, &content);
    rig.reset_far(far);
    expect_broken(&mut rig, recv, libc::ECONNRESET);
    // Bytes that arrived before are still received.
    rig.resume(recv);
    let end = rig.end_of(recv);
    assert!(matches!(end, Outcome::Eof | Outcome::Failed(_)), "{end:?}");
    assert_same_bytes(&rig.take_bytes(recv).bytes, &content);
    rig.close(socket);
    rig.finish();
}

pub fn a_reset_before_the_pause_is_told<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, far) = rig.connection();
    rig.reset_far(far);
    let recv = rig.submit(Op::Recv { socket });
    rig.pause(recv);
    rig.until("the reset", |rig| {
        let is_told = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Broken(Fault::Os(libc::ECONNRESET)) | Outcome::Failed(Fault::Os(libc::ECONNRESET))
            )
        };
        let news = rig.take(recv);
        assert!(news.iter().all(is_told), "{news:?}");
        !news.is_empty()
    });
    if !rig.is_over(recv) {
        let outcome = rig.cancel(recv);
        assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    }
    rig.close(socket);
    rig.finish();
}

/// The end of input is not an error: it waits until the receive continues, and costs nothing.
pub fn an_end_waits_for_the_receive_to_go_on<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, recv, mut far) = paused(&mut rig);
    rig.write(&mut far, b"the last");
    rig.end_sending(&mut far);
    rig.watch(MOMENT / 2);
    let before = rig.counters().enters;
    rig.watch(MOMENT);
    assert!(rig.take(recv).is_empty());
    assert!(rig.counters().enters - before < 20, "{} times for nothing", rig.counters().enters - before);
    // Nor does it hide a later error; but the outcome is `Eof`, since the reset came after the end.
    rig.reset_far(far);
    expect_broken(&mut rig, recv, libc::EPIPE);
    rig.resume(recv);
    let end = rig.end_of(recv);
    assert!(matches!(end, Outcome::Eof), "{end:?}");
    assert_eq!(rig.take_bytes(recv).bytes, b"the last");
    rig.close(socket);
    rig.finish();
}

pub fn pauses_against_arrivals_lose_no_byte<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let whole = Content::bytes(9, 4 << 20);
    rig.pour(&mut far, whole.clone());
    rig.end_sending(&mut far);
    let recv = rig.submit(Op::Recv { socket });
    let mut got = Vec::new();
    rig.until("every byte and the end", |rig| {
        // Some in the same turn, some a turn apart.
        let odd = rig.now().as_nanos() / 1000 % 3;
        rig.pause(recv);
        if odd == 0 {
            rig.turn(Some(Duration::ZERO));
        }
        rig.resume(recv);
        if odd == 1 {
            rig.turn(Some(Duration::from_micros(200)));
        }
        got.extend(rig.take_bytes(recv).bytes);
        rig.is_over(recv)
    });
    assert_same_bytes(&got, &whole);
    rig.close(socket);
    rig.finish();
}

/// A relay pauses its source whenever its buffers are full, and resumes it when they are sent.
pub fn a_short_pause_of_bulk_asks_nothing_of_the_kernel<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let content = Content::bytes(10, case.kind.more_than_sockets_hold());
    rig.pour(&mut far, content.clone());
    rig.end_sending(&mut far);
    let recv = rig.submit(Op::Recv { socket });
    let (mut got, mut pauses) = (Vec::new(), 0);
    rig.until("every byte and the end", |rig| {
        let news = rig.take_bytes(recv).bytes;
        if !news.is_empty() {
            got.extend(news);
            pauses += 1;
            rig.pause(recv);
            rig.turn(Some(Duration::ZERO));
            rig.resume(recv);
        }
        rig.is_over(recv)
    });
    let counters = rig.counters();
    if counters.promotions > 0 {
        // One receive for each pause. The first bytes, which come into small buffers, may cost more.
        assert!(counters.submissions <= pauses * 3 / 2 + 100, "{pauses} pauses: {counters:?}");
    }
    assert_same_bytes(&got, &content);
    rig.close(socket);
    rig.finish();
}
