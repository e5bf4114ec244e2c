//! `SendFile`: whole files and ranges, uncached files, stalled peers, and files that became
//! shorter.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use xps::internals::buffer::Chain;
use xps::internals::driver::{Fault, File, Op, Outcome};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{Rig, chain_of, progress};
use crate::support::{Content, assert_same_bytes};
use crate::world::{Folder, World};

/// A folder with one file of seeded content.
pub fn folder<D: World>(rig: &mut Rig<D>, length: usize) -> Folder {
    rig.folder("file", &Content::bytes(9, length))
}

#[track_caller]
pub fn open<D: World>(rig: &mut Rig<D>, folder: &Folder) -> File {
    match rig.run(Op::Open { root: Arc::clone(&folder.root), path: c"file".into(), known_regular: false }) {
        Outcome::Opened(file, _) => file,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn close<D: World>(rig: &mut Rig<D>, file: File) {
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
}

pub fn a_file_and_what_goes_before_it_arrive_whole<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    for length in [1, 70_000, case.plenty(16 << 20)] {
        let folder = folder(&mut rig, length);
        let file = open(&mut rig, &folder);
        for head in [&b""[..], b"a head\r\n\r\n"] {
            let (socket, mut far) = rig.connection();
            rig.listen(&mut far);
            let mut chain = Chain::new();
            chain.push(head);
            let send = rig.submit(Op::SendFile { socket, head: chain, file, offset: 0, length: length as u64 });
            assert!(matches!(rig.end_of(send), Outcome::Sent));
            assert!(progress(&rig.take(send)) < (head.len() + length) as u64, "the last bytes come with `Sent`");
            rig.close(socket);
            assert_same_bytes(&rig.read_rest(&mut far), &[head, &Content::bytes(9, length)].concat());
        }
        close(&mut rig, file);
    }
    rig.finish();
}

pub fn a_range_is_a_range<K: Kind>(case: &Case<K>) {
    const LENGTH: usize = 1 << 20;
    let mut rig = case.rig();
    let folder = folder(&mut rig, LENGTH);
    let content = Content::bytes(9, LENGTH);
    let file = open(&mut rig, &folder);
    for (offset, length) in [(0, 1), (4095, 4098), (LENGTH - 1, 1), (12_345, 700_000)] {
        let (socket, mut far) = rig.connection();
        rig.listen(&mut far);
        let (offset, length) = (offset as u64, length as u64);
        let outcome = rig.run(Op::SendFile { socket, head: Chain::new(), file, offset, length });
        assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
        rig.close(socket);
        let range = offset as usize..(offset + length) as usize;
        assert_same_bytes(&rig.read_rest(&mut far), &content[range]);
    }
    close(&mut rig, file);
    rig.finish();
}

pub fn a_file_that_is_not_in_the_cache_arrives_whole<K: KernelKind>(case: &Case<K>) {
    let length = case.plenty(8 << 20);
    let mut rig = case.rig();
    let folder = folder(&mut rig, length);
    // Best effort: writes the file to the disk and drops it from the page cache. If that fails, the
    // case is one more transfer from the cache.
    let path = folder.path().join("file");
    let _ = Command::new("sync").arg(&path).status();
    let _ = Command::new("dd").arg(format!("if={}", path.display())).args(["iflag=nocache", "count=0"]).output();
    let file = open(&mut rig, &folder);
    let (socket, mut far) = rig.connection();
    rig.listen(&mut far);
    let outcome = rig.run(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: length as u64 });
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    rig.close(socket);
    close(&mut rig, file);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(9, length));
    rig.finish();
}

pub fn a_stalled_peer_gets_the_rest_when_it_reads_again<K: Kind>(case: &Case<K>) {
    let length = case.plenty(64 << 20).max(case.kind.more_than_sockets_hold() / 2);
    let mut rig = case.rig();
    let folder = folder(&mut rig, length);
    let file = open(&mut rig, &folder);
    let (socket, mut far) = rig.connection();
    let send = rig.submit(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: length as u64 });
    let enters = until_stalled(&mut rig);
    assert!(enters <= 4, "it spins: {enters} enters while the peer reads nothing");
    assert!(!rig.is_over(send));
    rig.listen(&mut far);
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    rig.close(socket);
    close(&mut rig, file);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(9, length));
    rig.finish();
}

/// Turns until one whole wait has no outcome. Returns the number of enters in that wait.
#[track_caller]
fn until_stalled<D: World>(rig: &mut Rig<D>) -> u64 {
    const WAIT: Duration = Duration::from_millis(100);
    let mut last = 0;
    rig.until("the socket is full", |rig| {
        let before = rig.counters();
        let start = rig.now();
        rig.turn(Some(WAIT));
        last = rig.counters().enters - before.enters;
        rig.now().since(start) >= WAIT && rig.counters().completions == before.completions
    });
    last
}

pub fn a_stalled_transfer_can_be_cancelled<K: Kind>(case: &Case<K>) {
    let length = case.kind.more_than_sockets_hold();
    let mut rig = case.rig();
    let folder = folder(&mut rig, length);
    let file = open(&mut rig, &folder);
    let (socket, mut far) = rig.connection();
    let send = rig.submit(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: length as u64 });
    until_stalled(&mut rig);
    assert!(matches!(rig.cancel(send), Outcome::Cancelled));
    let reported = progress(&rig.take(send));
    rig.close(socket);
    close(&mut rig, file);
    let received = rig.read_rest(&mut far);
    assert_eq!(received.len() as u64, reported, "progress is what the kernel took");
    assert_same_bytes(&received, &Content::bytes(9, received.len()));
    rig.finish();
}

pub fn a_file_that_became_shorter_is_a_fault<K: Kind>(case: &Case<K>) {
    const LENGTH: usize = 100_000;
    let mut rig = case.rig();
    let folder = folder(&mut rig, LENGTH);
    let file = open(&mut rig, &folder);
    let (socket, mut far) = rig.connection();
    rig.listen(&mut far);
    let promised = 2 * LENGTH as u64;
    let outcome = rig.run(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: promised });
    assert!(matches!(outcome, Outcome::Failed(Fault::FileTruncated)), "{outcome:?}");
    rig.close(socket);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(9, LENGTH));
    close(&mut rig, file);
    rig.finish();
}

pub fn a_range_beyond_all_offsets_is_a_fault<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let folder = folder(&mut rig, 10);
    let file = open(&mut rig, &folder);
    for (offset, length) in [(11, 1), (u64::MAX, 1), (1, u64::MAX), (i64::MAX as u64, 1)] {
        let (socket, _far) = rig.connection();
        let outcome = rig.run(Op::SendFile { socket, head: Chain::new(), file, offset, length });
        assert!(matches!(outcome, Outcome::Failed(Fault::FileTruncated)), "{offset}+{length}: {outcome:?}");
        rig.close(socket);
    }
    close(&mut rig, file);
    rig.finish();
}

pub fn a_reset_during_a_transfer_fails_it<K: Kind>(case: &Case<K>) {
    let length = case.kind.more_than_sockets_hold();
    let mut rig = case.rig();
    let folder = folder(&mut rig, length);
    let file = open(&mut rig, &folder);
    let (socket, far) = rig.connection();
    let send = rig.submit(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: length as u64 });
    until_stalled(&mut rig);
    rig.reset_far(far);
    let end = rig.end_of(send);
    assert!(matches!(end, Outcome::Failed(fault) if fault.is_disconnect()), "{end:?}");
    rig.close(socket);
    close(&mut rig, file);
    rig.finish();
}

pub fn a_socket_goes_on_receiving_during_a_transfer<K: Kind>(case: &Case<K>) {
    let length = case.plenty(16 << 20);
    let mut rig = case.rig();
    let folder = folder(&mut rig, length);
    let file = open(&mut rig, &folder);
    let (socket, mut far) = rig.connection();
    rig.listen(&mut far);
    let recv = rig.submit(Op::Recv { socket });
    let send = rig.submit(Op::SendFile { socket, head: chain_of(*b""), file, offset: 0, length: length as u64 });
    let mut asked = 0;
    let mut heard = 0;
    rig.until("the file and the words", |rig| {
        if !rig.is_over(send) && asked - heard < 1000 {
            rig.write(&mut far, b"meanwhile ");
            asked += 10;
        }
        let delivery = rig.take_bytes(recv);
        assert!(delivery.end.is_none(), "{:?}", delivery.end);
        heard += delivery.bytes.len();
        rig.is_over(send) && heard == asked
    });
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    rig.cancel_and_close(recv, socket);
    close(&mut rig, file);
    assert_same_bytes(&rig.read_rest(&mut far), &Content::bytes(9, length));
    rig.finish();
}
