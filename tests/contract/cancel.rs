//! Cancelling: a cancel may come too late, and no byte is lost.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use xps::internals::driver::{Computation, Op, OpId, Outcome, Socket};

use crate::kind::{Case, Kind};
use crate::rig::{Rig, chain_of, progress};
use crate::support::{Content, assert_same_bytes};
use crate::world::World;

/// More bytes than any socket holds.
fn too_many_bytes<K: Kind>(case: &Case<K>) -> Arc<[u8]> {
    vec![1; case.kind.more_than_sockets_hold()].into()
}

/// Operations that would wait for long, each on a socket of its own.
struct Waiting<F> {
    ids: Vec<OpId>,
    sockets: Vec<Socket>,
    _peers: Vec<F>,
}

fn start_what_waits<D: World>(rig: &mut Rig<D>, bytes: &Arc<[u8]>) -> Waiting<D::Far> {
    let (listener, _) = rig.listener();
    let (receiver, receiver_far) = rig.connection();
    let (sender, sender_far) = rig.connection();
    let ids = vec![
        rig.submit(Op::Accept { listener, most: u32::MAX }),
        rig.submit(Op::Recv { socket: receiver }),
        rig.submit(Op::Send { socket: sender, chain: chain_of(Arc::clone(bytes)) }),
    ];
    Waiting { ids, sockets: vec![listener, receiver, sender], _peers: vec![receiver_far, sender_far] }
}

#[track_caller]
fn cancel_all<D: World>(rig: &mut Rig<D>, waiting: Waiting<D::Far>) {
    for &id in &waiting.ids {
        rig.ask_to_cancel(id);
    }
    for id in waiting.ids {
        let outcome = rig.end_of(id);
        assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
        progress(&rig.take(id));
    }
    for socket in waiting.sockets {
        rig.close(socket);
    }
}

pub fn cancels_at_once_end_everything<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let bytes = too_many_bytes(case);
    for _ in 0..20 {
        // The driver gets the operation and its cancel in the same turn.
        let waiting = start_what_waits(&mut rig, &bytes);
        cancel_all(&mut rig, waiting);
    }
    rig.finish();
}

pub fn cancels_later_end_everything<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let bytes = too_many_bytes(case);
    for _ in 0..5 {
        let waiting = start_what_waits(&mut rig, &bytes);
        let before = rig.counters().short_sends;
        rig.until("a full socket", |rig| rig.counters().short_sends > before);
        rig.turn(Some(Duration::from_millis(5)));
        cancel_all(&mut rig, waiting);
    }
    rig.finish();
}

pub fn a_cancel_that_comes_too_late_does_nothing<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let send = rig.submit(Op::Send { socket, chain: chain_of(*b"sent") });
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    assert!(matches!(rig.cancel(recv), Outcome::Cancelled));
    for id in [send, recv, send] {
        rig.ask_to_cancel(id);
    }
    rig.turn(Some(Duration::from_millis(5)));
    // Twice while it is in flight, too.
    let recv = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    rig.ask_to_cancel(recv);
    rig.ask_to_cancel(recv);
    assert!(matches!(rig.end_of(recv), Outcome::Cancelled));
    rig.close(socket);
    assert_eq!(rig.read_rest(&mut far), b"sent");
    rig.finish();
}

pub fn a_stale_cancel_does_not_hit_the_next_of_the_same_index<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let first = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    assert!(matches!(rig.cancel(first), Outcome::Cancelled));
    let second = rig.submit(Op::Recv { socket });
    assert_eq!((first.index(), first == second), (second.index(), false), "the index is used again, the name is not");
    rig.ask_to_cancel(first);
    rig.turn(Some(Duration::from_millis(5)));
    rig.write(&mut far, b"still there");
    assert_eq!(rig.receive(second, 11), b"still there");
    rig.cancel_and_close(second, socket);
    rig.finish();
}

pub fn what_ends_soon_ends_once_whichever_way_the_race_goes<K: Kind>(case: &Case<K>) {
    const TURNS_MAX: usize = 3;
    let mut rig = case.rig();
    let folder = rig.folder("file", b"content");
    let root = Arc::clone(&folder.root);
    let servers = rig.servers();
    let Outcome::Opened(file, _) =
        rig.run(Op::Open { root: Arc::clone(&root), path: c"file".into(), known_regular: false })
    else {
        panic!("the file is there")
    };
    let Outcome::Opened(written, _) = rig.run(Op::Create { root: Arc::clone(&root), name: c"written".into() }) else {
        panic!("there is none of this name")
    };
    // Cancelled in the turn that starts them, and one and two turns after it.
    for turns in 0..TURNS_MAX {
        let (socket, far) = rig.connection();
        let ids = [
            Op::Connect { address: servers[0].0.clone() },
            Op::FindRoot { path: Arc::clone(root.path()), symlinks: root.symlinks(), present: None },
            Op::FindRoot { path: Arc::clone(root.path()), symlinks: root.symlinks(), present: Some(Arc::clone(&root)) },
            Op::Open { root: Arc::clone(&root), path: c"file".into(), known_regular: false },
            Op::Read { file, offset: 0, length: 7 },
            Op::List { root: Arc::clone(&root), path: c".".into() },
            Op::Create { root: Arc::clone(&root), name: CString::new(format!("new{turns}")).expect("no NUL") },
            Op::Write { file: written, offset: 0, bytes: b"content".to_vec() },
            Op::Resolve { host: "localhost".into(), port: 1 },
            Op::Compute(Computation::new(|| ())),
            Op::LocalAddress { socket },
            Op::Shutdown { socket },
        ]
        .map(|op| rig.submit(op));
        for _ in 0..turns {
            rig.turn(Some(Duration::ZERO));
        }
        ids.into_iter().for_each(|id| rig.ask_to_cancel(id));
        // The rig checks which outcomes are legal. What was opened despite the cancel must be
        // closed.
        for id in ids {
            match rig.end_of(id) {
                Outcome::Connected(socket) => rig.close(socket),
                Outcome::Opened(file, _) => assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done)),
                Outcome::Failed(fault) => panic!("{fault:?}"),
                Outcome::Accepted { .. }
                | Outcome::Received(_)
                | Outcome::Broken(_)
                | Outcome::Progress(_)
                | Outcome::Eof
                | Outcome::Sent
                | Outcome::Resolved(_)
                | Outcome::Root(_)
                | Outcome::Read(_)
                | Outcome::Written
                | Outcome::Listed(_)
                | Outcome::Computed(_)
                | Outcome::Local(_)
                | Outcome::Done
                | Outcome::Reset { .. }
                | Outcome::Cancelled => {}
            }
        }
        rig.close(socket);
        rig.close_far(far);
    }
    for file in [file, written] {
        assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    }
    rig.finish();
}

pub fn a_cancel_does_not_undo_a_close<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for _ in 0..20 {
        let (socket, mut far) = rig.connection();
        let close = rig.submit(Op::Close { socket });
        rig.ask_to_cancel(close);
        assert!(matches!(rig.end_of(close), Outcome::Done));
        assert_eq!(rig.read_rest(&mut far), b"");
    }
    rig.finish();
}

pub fn what_comes_after_a_cancel_waits_for_the_next_receive<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let first = rig.submit(Op::Recv { socket });
    rig.turn(Some(Duration::ZERO));
    assert!(matches!(rig.cancel(first), Outcome::Cancelled));
    rig.write(&mut far, b"later");
    rig.turn(Some(Duration::from_millis(5)));
    let second = rig.submit(Op::Recv { socket });
    assert_eq!(rig.receive(second, 5), b"later");
    rig.cancel_and_close(second, socket);
    rig.finish();
}

pub fn cancels_against_arrivals_lose_no_byte<K: Kind>(case: &Case<K>) {
    let length = case.plenty(16 << 20);
    let mut rig = case.rig();
    let (socket, mut far) = rig.connection();
    let mut sizes = Content::new(11);
    let mut content = Content::new(12);
    let mut left = length;
    while left > 0 {
        // Single bytes, messages and bulk in turn.
        let bound = [1, 100, 5000, 300_000][sizes.below(4)];
        let mut piece = vec![0; (1 + sizes.below(bound)).min(left)];
        content.fill(&mut piece);
        left -= piece.len();
        rig.pour(&mut far, piece);
    }
    rig.end_sending(&mut far);
    let mut dice = Content::new(13);
    let mut content = Content::new(12);
    let mut cancelled = 0;
    let mut recv = rig.submit(Op::Recv { socket });
    rig.until("the end", |rig| {
        let delivery = rig.take_bytes(recv);
        content.expect(&delivery.bytes);
        match delivery.end {
            Some(Outcome::Eof) => return true,
            Some(Outcome::Cancelled) => {
                cancelled += 1;
                recv = rig.submit(Op::Recv { socket });
                if dice.below(3) == 0 {
                    // Before the driver has started the operation.
                    rig.ask_to_cancel(recv);
                }
            }
            Some(other) => panic!("{other:?}"),
            None => {
                if dice.below(3) == 0 {
                    rig.ask_to_cancel(recv);
                }
            }
        }
        false
    });
    assert_eq!(content.position(), length as u64);
    assert!(cancelled > 0);
    rig.close(socket);
    rig.finish();
}

pub fn cancels_against_sends_leave_a_beginning_of_the_bytes<K: Kind>(case: &Case<K>) {
    const LENGTH: usize = 4 << 20;
    let mut rig = case.rig();
    let (listener, address) = rig.listener();
    let accept = rig.submit(Op::Accept { listener, most: u32::MAX });
    let mut dice = Content::new(14);
    let bytes: Arc<[u8]> = Content::bytes(15, LENGTH).into();
    for _ in 0..20 {
        let mut client = rig.client(address);
        let mut sockets = Vec::new();
        rig.until("a connection", |rig| {
            sockets.extend(rig.take_accepted(accept));
            !sockets.is_empty()
        });
        rig.listen(&mut client);
        let socket = sockets[0];
        let send = rig.submit(Op::Send { socket, chain: chain_of(Arc::clone(&bytes)) });
        for _ in 0..dice.below(6) {
            rig.turn(Some(Duration::from_millis(1)));
        }
        rig.ask_to_cancel(send);
        let end = rig.end_of(send);
        let reported = progress(&rig.take(send));
        rig.close(socket);
        let received = rig.read_rest(&mut client);
        assert_same_bytes(&received, &bytes[..received.len()]);
        match end {
            Outcome::Sent => assert_eq!(received.len(), LENGTH),
            Outcome::Cancelled => assert_eq!(received.len() as u64, reported, "progress is what the kernel took"),
            other => panic!("{other:?}"),
        }
    }
    rig.cancel_and_close(accept, listener);
    rig.finish();
}
