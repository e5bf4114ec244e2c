//! Files beneath a root: open, read, list, write, publish and remove; and computations.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use xps::internals::driver::{Computation, Fault, File, FileKind, Op, Outcome, Root, SymlinkPolicy};

use crate::kind::{Case, KernelKind, Kind};
use crate::rig::{Rig, computed};
use crate::support::{Content, WaitingWriter};
use crate::world::World;

/// `outside/secret`, and next to it the root, with every kind of path that could lead there, as far as
/// this world has them.
fn tree<D: World>(rig: &mut Rig<D>) -> (TempDir, Arc<Root>) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path();
    fs::create_dir_all(path.join("outside")).expect("a new folder");
    fs::create_dir_all(path.join("root/below")).expect("a new folder");
    fs::write(path.join("outside/secret"), "secret").expect("room");
    rig.put(&path.join("root"), "file", b"twelve bytes");
    rig.put(&path.join("root"), "below/deep", b"deep");
    if D::HAS_SPECIAL_FILES {
        symlink("below/deep", path.join("root/inward")).expect("a link");
        symlink("../outside/secret", path.join("root/outward")).expect("a link");
        symlink(path.join("outside/secret"), path.join("root/absolute")).expect("a link");
        symlink("../outside", path.join("root/below/folder_outward")).expect("a link");
        symlink("loop", path.join("root/loop")).expect("a link");
        let status = Command::new("mkfifo").arg(path.join("root/fifo")).status().expect("mkfifo is in coreutils");
        assert!(status.success());
    }
    let root = Root::open(&path.join("root")).expect("it was just made");
    (folder, root)
}

/// The elements that exist in this world, of some with whether they need special files.
fn existing<D: World, T>(elements: impl IntoIterator<Item = (bool, T)>) -> impl Iterator<Item = T> {
    let exists = |(is_special, element): (bool, T)| (!is_special || D::HAS_SPECIAL_FILES).then_some(element);
    elements.into_iter().filter_map(exists)
}

#[track_caller]
fn open<D: World>(rig: &mut Rig<D>, root: &Arc<Root>, path: &str) -> Outcome {
    rig.run(Op::Open { root: Arc::clone(root), path: CString::new(path).expect("no NUL"), known_regular: false })
}

pub fn a_file_is_opened_with_what_it_is<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (_folder, root) = tree(&mut rig);
    let files =
        [(false, ("file", 12)), (false, ("below/deep", 4)), (false, ("below/../file", 12)), (true, ("inward", 4))];
    for (path, size) in existing::<K::Driver, _>(files) {
        let Outcome::Opened(file, info) = open(&mut rig, &root, path) else { panic!("{path}") };
        assert_eq!((info.size, info.kind), (size, FileKind::Regular), "{path}");
        assert!(info.modified_ns > 0);
        assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    }
    rig.finish();
}

pub fn nothing_outside_the_root_is_opened<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (folder, root) = tree(&mut rig);
    let absolute = folder.path().join("outside/secret").display().to_string();
    for path in [
        "..",
        "../outside/secret",
        "below/../../outside/secret",
        "outward",
        "absolute",
        "below/folder_outward/secret",
        "/etc/passwd",
        "/proc/self/root",
        &absolute,
    ] {
        let outcome = open(&mut rig, &root, path);
        assert!(matches!(outcome, Outcome::Failed(_)), "{path}: {outcome:?}");
    }
    rig.finish();
}

pub fn what_is_not_a_file_does_no_harm<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (_folder, root) = tree(&mut rig);
    for path in ["missing", "", "file/below", "loop", &"long".repeat(2000)] {
        let outcome = open(&mut rig, &root, path);
        assert!(matches!(outcome, Outcome::Failed(_)), "{path}: {outcome:?}");
    }
    // Neither open blocks. A plain open(2) of a FIFO without a writer would.
    let others = [
        (true, ("fifo", FileKind::Special)),
        (false, ("below", FileKind::Directory)),
        (false, (".", FileKind::Directory)),
    ];
    for (path, expected) in existing::<K::Driver, _>(others) {
        let outcome = open(&mut rig, &root, path);
        let Outcome::Opened(file, info) = outcome else { panic!("{path}: {outcome:?}") };
        assert_eq!(info.kind, expected, "{path}");
        assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    }
    rig.finish();
}

pub fn nothing_but_a_regular_file_is_opened<K: KernelKind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (folder, root) = tree(&mut rig);
    let writer = WaitingWriter::at(&folder.path().join("root/fifo"));
    for path in ["fifo", "below/../fifo"] {
        let outcome = open(&mut rig, &root, path);
        let Outcome::Opened(file, info) = outcome else { panic!("{path}: {outcome:?}") };
        assert_eq!(info.kind, FileKind::Special);
        assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
        writer.assert_waits();
    }
    let outcome = rig.run(Op::List { root: Arc::clone(&root), path: c".".into() });
    assert!(matches!(&outcome, Outcome::Listed(entries) if entries.len() == 7), "{outcome:?}");
    assert!(matches!(rig.run(Op::List { root, path: c"fifo".into() }), Outcome::Failed(Fault::Os(libc::ENOTDIR))));
    writer.assert_waits();
    assert_eq!(writer.finish(), WaitingWriter::TEXT);
    rig.finish();
}

pub fn a_root_is_the_folder_that_its_path_leads_to_now<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (folder, _) = tree(&mut rig);
    let path: Arc<Path> = folder.path().join("current").into();
    let mut find = |present: Option<&Arc<Root>>| {
        rig.run(Op::FindRoot { path: Arc::clone(&path), symlinks: SymlinkPolicy::Refuse, present: present.cloned() })
    };
    assert!(matches!(find(None), Outcome::Failed(Fault::Os(libc::ENOENT))));
    symlink("root/below", &path).expect("a link");
    let Outcome::Root(first) = find(None) else { panic!("it leads to a folder") };
    assert_eq!((first.path(), first.symlinks()), (&path, SymlinkPolicy::Refuse));
    for _ in 0..3 {
        assert!(matches!(find(Some(&first)), Outcome::Root(root) if Arc::ptr_eq(&root, &first)));
    }
    fs::remove_file(&path).expect("it was there");
    symlink("outside", &path).expect("a link");
    let Outcome::Root(second) = find(Some(&first)) else { panic!("it leads to a folder") };
    assert_ne!(first.id(), second.id());
    // Created again, it is another folder: the inode number of a folder that is held open is not
    // reused.
    fs::remove_dir_all(folder.path().join("outside")).expect("it was there");
    let gone = find(Some(&second));
    assert!(matches!(gone, Outcome::Failed(Fault::Os(libc::ENOENT))), "{gone:?}");
    fs::create_dir(folder.path().join("outside")).expect("a new folder");
    assert!(matches!(find(Some(&second)), Outcome::Root(root) if root.id() != second.id()));
    fs::remove_dir(folder.path().join("outside")).expect("it was there");
    fs::write(folder.path().join("outside"), "a file").expect("room");
    let gone = find(Some(&second));
    assert!(matches!(gone, Outcome::Failed(Fault::Os(libc::ENOTDIR))), "{gone:?}");
    rig.finish();
}

/// `known_regular` skips the lookup with `O_PATH`, and the file is still regular.
pub fn what_is_known_to_be_a_regular_file_is_opened<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (_folder, root) = tree(&mut rig);
    let mut open = |path: &CStr| rig.run(Op::Open { root: Arc::clone(&root), path: path.into(), known_regular: true });
    let Outcome::Opened(file, info) = open(c"file") else { panic!("the file is there") };
    assert_eq!((info.size, info.kind), (12, FileKind::Regular));
    for path in [c"missing", c"outward"] {
        let outcome = open(path);
        assert!(matches!(outcome, Outcome::Failed(_)), "{path:?}: {outcome:?}");
    }
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}

pub fn a_read_gives_what_the_file_has<K: Kind>(case: &Case<K>) {
    const LENGTH: usize = 300_000;
    let mut rig = case.rig();
    let content = Content::bytes(10, LENGTH);
    let folder = rig.folder("file", &content);
    let Outcome::Opened(file, _) = open(&mut rig, &folder.root, "file") else { panic!("the file is there") };
    for (offset, length) in [(0, 1), (0, LENGTH), (12_345, 100_000), (LENGTH - 10, 100), (LENGTH, 1), (2 * LENGTH, 5)] {
        let outcome = rig.run(Op::Read { file, offset: offset as u64, length });
        let Outcome::Read(bytes) = outcome else { panic!("{outcome:?}") };
        let start = offset.min(LENGTH);
        assert_eq!(bytes[..], content[start..(start + length).min(LENGTH)], "{offset}+{length}");
    }
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}

pub fn what_was_read_stays_while_it_is_held<K: Kind>(case: &Case<K>) {
    const LENGTH: usize = 64 << 10;
    const PIECES: usize = 6;
    let mut rig = case.rig();
    let content = Content::bytes(11, PIECES * LENGTH);
    let folder = rig.folder("file", &content);
    let Outcome::Opened(file, _) = open(&mut rig, &folder.root, "file") else { panic!("the file is there") };
    let mut held = Vec::new();
    // Every other piece is dropped at once, so that its memory may be used for the next.
    for round in 0..2 {
        for (index, piece) in content.chunks(LENGTH).enumerate() {
            let outcome = rig.run(Op::Read { file, offset: (index * LENGTH) as u64, length: LENGTH });
            let Outcome::Read(bytes) = outcome else { panic!("{outcome:?}") };
            assert_eq!(bytes[..], *piece, "piece {index} of round {round}");
            if (index + round) % 2 == 0 {
                held.push((bytes, piece));
            }
        }
    }
    assert!(held.iter().all(|(bytes, piece)| bytes[..] == **piece));
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}

pub fn a_folder_is_listed<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (_folder, root) = tree(&mut rig);
    let Outcome::Listed(mut entries) = rig.run(Op::List { root: Arc::clone(&root), path: c".".into() }) else {
        panic!("the root is a folder");
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let kinds: Vec<_> = entries
        .iter()
        .map(|entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry.info.map(|info| info.kind)))
        .collect();
    let expected = [
        (true, ("absolute", None)),
        (false, ("below", Some(FileKind::Directory))),
        (true, ("fifo", Some(FileKind::Special))),
        (false, ("file", Some(FileKind::Regular))),
        (true, ("inward", Some(FileKind::Regular))),
        (true, ("loop", None)),
        (true, ("outward", None)),
    ];
    let expected: Vec<_> = existing::<K::Driver, _>(expected).map(|(name, kind)| (name.to_owned(), kind)).collect();
    assert_eq!(kinds, expected);
    for path in [c"..", c"file", c"missing", c"below/folder_outward"] {
        let outcome = rig.run(Op::List { root: Arc::clone(&root), path: path.into() });
        assert!(matches!(outcome, Outcome::Failed(_)), "{path:?}: {outcome:?}");
    }
    rig.finish();
}

pub fn a_computation_comes_back<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let ids: Vec<_> =
        (0..20_u8).map(|number| rig.submit(Op::Compute(Computation::new(move || (number, vec![number; 3]))))).collect();
    for (number, id) in (0_u8..).zip(ids) {
        assert_eq!(computed::<(u8, Vec<u8>)>(rig.end_of(id)), (number, vec![number; 3]));
    }
    rig.finish();
}

#[track_caller]
fn create<D: World>(rig: &mut Rig<D>, root: &Arc<Root>, name: &str) -> File {
    let outcome = rig.run(Op::Create { root: Arc::clone(root), name: CString::new(name).expect("no NUL") });
    let Outcome::Opened(file, info) = outcome else { panic!("{name}: {outcome:?}") };
    assert_eq!((info.size, info.kind), (0, FileKind::Regular));
    file
}

fn publish(root: &Arc<Root>, file: File, to: &str, replaces: bool) -> Op {
    let to = CString::new(to).expect("no NUL");
    Op::Publish { root: Arc::clone(root), file, from: c"new".into(), to, replaces }
}

pub fn a_new_file_is_written_and_gets_its_name_in_one_step<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (folder, root) = tree(&mut rig);
    let file = create(&mut rig, &root, "new");
    let content = Content::bytes(11, 3_000_000);
    // In pieces of several sizes, the last one first.
    let cuts = [0, 1, 4096, 70_001, 1_500_000, content.len()];
    for pair in cuts.windows(2).rev() {
        let bytes = content[pair[0]..pair[1]].to_vec();
        assert!(matches!(rig.run(Op::Write { file, offset: pair[0] as u64, bytes }), Outcome::Written), "{pair:?}");
    }
    let top = folder.path().join("root");
    assert!(rig.file(&top, "arrived").is_none());
    assert!(matches!(rig.run(publish(&root, file, "arrived", false)), Outcome::Done));
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    assert!(rig.file(&top, "arrived").is_some_and(|bytes| bytes == content));
    assert!(rig.file(&top, "new").is_none());
    let remove = |name: &str| Op::Remove { root: Arc::clone(&root), name: CString::new(name).expect("no NUL") };
    assert!(matches!(rig.run(remove("arrived")), Outcome::Done));
    assert!(rig.file(&top, "arrived").is_none());
    assert!(matches!(rig.run(remove("arrived")), Outcome::Failed(Fault::Os(ENOENT))));
    rig.finish();
}

pub fn a_name_that_is_taken_is_replaced_only_when_that_is_asked_for<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (folder, root) = tree(&mut rig);
    for taken in existing::<K::Driver, _>([(false, "file"), (false, "below"), (true, "outward"), (true, "loop")]) {
        let outcome = rig.run(Op::Create { root: Arc::clone(&root), name: CString::new(taken).expect("no NUL") });
        assert!(matches!(outcome, Outcome::Failed(Fault::Os(EEXIST))), "{taken}: {outcome:?}");
    }
    let file = create(&mut rig, &root, "new");
    assert!(matches!(rig.run(Op::Write { file, offset: 0, bytes: b"newer".to_vec() }), Outcome::Written));
    for taken in existing::<K::Driver, _>([(false, "file"), (true, "outward")]) {
        let outcome = rig.run(publish(&root, file, taken, false));
        assert!(matches!(outcome, Outcome::Failed(Fault::Os(EEXIST))), "{taken}: {outcome:?}");
    }
    let top = folder.path().join("root");
    assert_eq!(rig.file(&top, "file").expect("it is there"), b"twelve bytes");
    assert!(matches!(rig.run(publish(&root, file, "file", true)), Outcome::Done));
    assert_eq!(rig.file(&top, "file").expect("it is there"), b"newer");
    assert_eq!(fs::read(folder.path().join("outside/secret")).expect("it is there"), b"secret");
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}

pub fn a_new_file_has_a_name_and_no_path<K: Kind>(case: &Case<K>) {
    let mut rig = case.rig();
    let (folder, root) = tree(&mut rig);
    for name in ["", ".", "..", "../x", "below/x", "/tmp/x", "below/folder_outward/x"] {
        let name = CString::new(name).expect("no NUL");
        let outcome = rig.run(Op::Create { root: Arc::clone(&root), name: name.clone() });
        assert!(matches!(outcome, Outcome::Failed(_)), "{name:?}: {outcome:?}");
        let outcome = rig.run(Op::Remove { root: Arc::clone(&root), name: name.clone() });
        assert!(matches!(outcome, Outcome::Failed(_)), "{name:?}: {outcome:?}");
    }
    assert!(folder.path().join("root/below").exists() && folder.path().join("outside/secret").exists());
    rig.finish();
}

pub fn a_write_that_the_kernel_refuses_is_a_fault<K: KernelKind>(case: &Case<K>) {
    // Every write to this device fails with ENOSPC (full(4)).
    let root = Root::open(Path::new("/dev")).expect("a folder");
    let mut rig = case.rig();
    let Outcome::Opened(file, _) = open(&mut rig, &root, "full") else { return };
    // The file is open for reading: the write fails with one error or the other, and ends.
    let outcome = rig.run(Op::Write { file, offset: 0, bytes: vec![1; 100_000] });
    assert!(matches!(outcome, Outcome::Failed(Fault::Os(EBADF | ENOSPC))), "{outcome:?}");
    assert!(matches!(rig.run(Op::CloseFile { file }), Outcome::Done));
    rig.finish();
}

/// As in errno(3) on Linux; the tests need no other part of `libc`.
const ENOENT: i32 = 2;
const EBADF: i32 = 9;
const EEXIST: i32 = 17;
const ENOSPC: i32 = 28;
