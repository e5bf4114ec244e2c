//! Opening and sending files.

use std::fs;
use std::os::fd::AsRawFd;

use super::*;
use crate::driver::{FileInfo, FileKind};

struct Folder {
    folder: tempfile::TempDir,
    root: Arc<Root>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        Self { folder, root }
    }

    fn with(name: &str, bytes: &[u8]) -> Self {
        let folder = Self::new();
        fs::write(folder.folder.path().join(name), bytes).unwrap();
        folder
    }

    /// Has the kernel drop the file from its cache. A file system without a disk ignores it.
    fn forget_bytes(&self, name: &str) {
        let file = fs::File::open(self.folder.path().join(name)).unwrap();
        // SAFETY: no pointers are passed.
        unsafe {
            libc::fsync(file.as_raw_fd());
            libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
        }
    }

    fn open(&self, rig: &mut Rig, path: &str) -> Result<(File, FileInfo), Fault> {
        let root = Arc::clone(&self.root);
        match rig.run(Op::Open { root, path: CString::new(path).unwrap() }) {
            Outcome::Opened(file, info) => Ok((file, info)),
            Outcome::Failed(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn files_beneath_the_root_open_and_others_do_not(kind: Kind) {
    let mut rig = Rig::new(kind);
    let folder = Folder::with("file", b"twelve bytes");
    fs::create_dir(folder.folder.path().join("sub")).unwrap();
    let (file, info) = folder.open(&mut rig, "sub/../file").unwrap();
    assert_eq!((info.size, info.kind), (12, FileKind::Regular));
    assert!(info.modified_ns > 0);
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    let (file, info) = folder.open(&mut rig, "sub").unwrap();
    assert_eq!(info.kind, FileKind::Directory);
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    assert_eq!(folder.open(&mut rig, "missing").unwrap_err(), Fault::Os(libc::ENOENT));
    for path in ["..", "../x", "/etc/passwd", "sub/../../x"] {
        assert_eq!(folder.open(&mut rig, path).unwrap_err(), Fault::Os(libc::EXDEV), "{path}");
    }
    rig.assert_at_rest();
}

pub(super) fn an_open_that_was_cancelled_leaves_no_file(kind: Kind) {
    let mut rig = Rig::new(kind);
    let folder = Folder::with("file", b"x");
    let id = rig.submit(Op::Open { root: Arc::clone(&folder.root), path: c"file".to_owned() });
    match rig.cancel(id) {
        Outcome::Cancelled => {}
        Outcome::Opened(file, _) => assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done)),
        other => panic!("{other:?}"),
    }
    rig.assert_at_rest();
}

/// The look-up is forced onto the other thread, as on a kernel without `RESOLVE_CACHED`.
pub(super) fn a_range_of_a_file_arrives_byte_for_byte_hot_or_cold(kind: Kind) {
    let bytes = pattern(5 << 20);
    for is_cold in [false, true] {
        let mut rig = Rig::new(kind);
        let folder = Folder::with("file", &bytes);
        let (file, _) = folder.open(&mut rig, "file").unwrap();
        if is_cold {
            folder.forget_bytes("file");
        }
        let (socket, far) = rig.connection();
        let far = reader(far);
        let (offset, length) = (12_345, (4 << 20) + 17);
        let send = rig.submit(Op::SendFile { socket, head: Chain::new(), file, offset, length });
        assert!(matches!(rig.end_of(send), Outcome::Sent));
        assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
        rig.close(socket);
        assert!(far.join().unwrap() == bytes[offset as usize..][..length as usize]);
        rig.assert_at_rest();
    }
}

pub(super) fn a_stalled_peer_holds_its_file_up_and_nobody_else(kind: Kind) {
    let mut rig = Rig::new(kind);
    let bytes = pattern(16 << 20);
    let folder = Folder::with("file", &bytes);
    let (file, info) = folder.open(&mut rig, "file").unwrap();
    let (stalled, stalled_far) = rig.connection();
    let send = rig.submit(Op::SendFile { socket: stalled, head: Chain::new(), file, offset: 0, length: info.size });
    let (lively, lively_far) = rig.connection();
    let lively_far = reader(lively_far);
    assert!(matches!(
        rig.run(Op::SendFile { socket: lively, head: Chain::new(), file, offset: 1, length: 100_000 }),
        Outcome::Sent
    ));
    rig.close(lively);
    assert!(lively_far.join().unwrap() == bytes[1..100_001]);
    rig.until_no_progress(send);
    let enters = rig.driver.counters().enters;
    rig.turn(Duration::from_millis(20));
    assert!(rig.driver.counters().enters - enters <= 3, "it spins");
    assert!(rig.ops.owner(send).is_some());
    let stalled_far = reader(stalled_far);
    assert!(matches!(rig.end_of(send), Outcome::Sent));
    rig.close(stalled);
    assert!(stalled_far.join().unwrap() == bytes);
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.assert_at_rest();
}

pub(super) fn a_file_that_is_shorter_than_promised_is_a_fault(kind: Kind) {
    let mut rig = Rig::new(kind);
    let folder = Folder::with("file", &pattern(1000));
    let (file, _) = folder.open(&mut rig, "file").unwrap();
    let (socket, mut far) = rig.connection();
    for (offset, length) in [(0, 1001), (1000, 1), (5000, 10), (u64::MAX - 1, 2), (1, u64::MAX)] {
        let outcome = rig.run(Op::SendFile { socket, head: Chain::new(), file, offset, length });
        assert!(matches!(outcome, Outcome::Failed(Fault::FileTruncated)), "{offset}+{length}: {outcome:?}");
    }
    far.read_exact(&mut [0; 1000]).unwrap();
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.close(socket);
    rig.assert_at_rest();
}

pub(super) fn a_transfer_can_be_cancelled_while_it_stalls_and_while_it_warms(kind: Kind) {
    let mut rig = Rig::new(kind);
    let folder = Folder::with("file", &pattern(16 << 20));
    let (file, info) = folder.open(&mut rig, "file").unwrap();
    let (socket, _far) = rig.connection();
    let stalling = rig.submit(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: info.size });
    rig.until_no_progress(stalling);
    assert!(matches!(rig.cancel(stalling), Outcome::Cancelled));
    rig.close(socket);
    let (socket, _far) = rig.connection();
    folder.forget_bytes("file");
    let warming = rig.submit(Op::SendFile { socket, head: Chain::new(), file, offset: 0, length: info.size });
    rig.turn(Duration::ZERO);
    assert!(matches!(rig.cancel(warming), Outcome::Cancelled));
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.close(socket);
    rig.turn(Duration::from_millis(50));
    rig.assert_at_rest();
}
