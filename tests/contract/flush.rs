//! `Flush` and `Reset`: waiting until sent bytes arrive, and a reset after that wait or without it.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use xps::internals::driver::{Op, OpId, Outcome, Socket};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{Rig, chain_of, progress};
use crate::send_file::{folder, open};
use crate::support::{Content, assert_same_bytes};
use crate::world::{End, World};

/// The time to observe that something does not happen.
const MOMENT: Duration = Duration::from_millis(200);

/// A connection with full sockets, since the peer does not read, and the number of bytes the kernel
/// took.
fn full<D: World>(rig: &mut Rig<D>, content: &[u8]) -> (Socket, D::Far, u64) {
    let (socket, far) = rig.connection();
    let before = rig.counters().short_sends;
    let send = rig.submit(Op::Send { socket, chain: chain_of(content) });
    rig.until("a full socket", |rig| rig.counters().short_sends > before);
    // The kernel's buffers grow for a while: it takes the last bytes now.
    rig.watch(MOMENT);
    let outcome = rig.cancel(send);
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    let taken = progress(&rig.take(send));
    (socket, far, taken)
}

#[track_caller]
fn lost<D: World>(rig: &mut Rig<D>, socket: Socket) -> u64 {
    match rig.run(Op::Reset { socket }) {
        Outcome::Reset { lost } => lost,
        other => panic!("{other:?}"),
    }
}

fn flush<D: World>(rig: &mut Rig<D>, socket: Socket) -> OpId {
    rig.submit(Op::Flush { socket })
}

pub fn what_has_arrived_needs_no_waiting<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    assert!(matches!(rig.run(Op::Flush { socket }), Outcome::Done));
    assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"hello") }), Outcome::Sent));
    let flush = flush(&mut rig, socket);
    let outcome = rig.end_of(flush);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    rig.take(flush);
    assert_eq!(lost(&mut rig, socket), 0);
    assert_eq!(rig.heard(&mut far), (b"hello".to_vec(), End::Reset));
    rig.finish();
}

pub fn a_flush_waits_for_a_peer_to_read_and_a_reset_after_it_destroys_nothing<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let content = Content::bytes(4, case.kind.more_than_sockets_hold());
    let (socket, mut far, taken) = full(&mut rig, &content);
    let flush = flush(&mut rig, socket);
    // What fits into the peer's receive buffer still arrives.
    rig.watch(MOMENT / 4);
    let early = progress(&rig.take(flush));
    let before = rig.counters().enters;
    rig.watch(MOMENT);
    assert!(rig.take(flush).is_empty());
    assert!(rig.counters().enters - before < 40, "{} times for nothing", rig.counters().enters - before);
    rig.listen(&mut far);
    let outcome = rig.end_of(flush);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert!(early + progress(&rig.take(flush)) <= taken);
    assert_eq!(lost(&mut rig, socket), 0);
    let (bytes, end) = rig.heard(&mut far);
    assert_eq!(end, End::Reset);
    assert_same_bytes(&bytes, &content[..usize::try_from(taken).expect("it fits")]);
    rig.finish();
}

pub fn a_flush_ends_with_the_connection<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, far, _) = full(&mut rig, &Content::bytes(4, case.kind.more_than_sockets_hold()));
    let flush = flush(&mut rig, socket);
    rig.turn(Some(Duration::from_millis(5)));
    rig.reset_far(far);
    let outcome = rig.end_of(flush);
    assert!(matches!(outcome, Outcome::Failed(fault) if fault.is_disconnect()), "{outcome:?}");
    progress(&rig.take(flush));
    rig.close(socket);
    rig.finish();
}

pub fn a_reset_tells_what_it_destroys<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let content = Content::bytes(4, case.kind.more_than_sockets_hold());
    let (socket, mut far, taken) = full(&mut rig, &content);
    let flush = flush(&mut rig, socket);
    rig.turn(Some(Duration::from_millis(5)));
    let outcome = rig.cancel(flush);
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    progress(&rig.take(flush));
    let lost = lost(&mut rig, socket);
    let (bytes, end) = rig.heard(&mut far);
    assert_eq!(end, End::Reset);
    assert!(lost > 0 && bytes.len() as u64 <= taken);
    // Bytes in transit at the time of the reset may still have arrived.
    assert!(bytes.len() as u64 >= taken - lost, "{} of {taken} bytes, {lost} lost", bytes.len());
    rig.finish();
}

pub fn what_was_sent_on_a_unix_socket_is_the_peer_s<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (near, mut far) = UnixStream::pair().expect("two sockets");
    let socket = rig.adopt(near);
    assert!(matches!(rig.run(Op::Send { socket, chain: chain_of(*b"hello") }), Outcome::Sent));
    assert!(matches!(rig.run(Op::Flush { socket }), Outcome::Done));
    assert_eq!(lost(&mut rig, socket), 0);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).expect("unix sockets know no reset");
    assert_eq!(bytes, b"hello");
    rig.finish();
}

pub fn a_send_that_is_cancelled_at_once_was_tried<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let folder = folder(&mut rig, 3000);
    let file = open(&mut rig, &folder);
    for _ in 0..20 {
        let (socket, mut far) = rig.connection();
        let ops = [
            Op::Send { socket, chain: chain_of(*b"hello") },
            Op::SendFile { socket, head: chain_of(*b"hello"), file, offset: 0, length: 3000 },
        ];
        for op in ops {
            let send = rig.submit(op);
            let end = rig.cancel(send);
            let reported = progress(&rig.take(send));
            // A socket may take less than it has room for; only the simulation does that here.
            let tried = if matches!(end, Outcome::Sent) { 5 } else { reported.min(5) as usize };
            let least = if K::Driver::TAKES_ALL { 5 } else { 1 };
            assert!(tried >= least, "{tried}: {end:?}");
            assert_eq!(rig.read(&mut far, tried), b"hello"[..tried]);
        }
        rig.close(socket);
    }
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}
