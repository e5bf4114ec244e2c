//! What the store caches, and what waiting sessions get.

use std::time::Duration;

use super::*;
use crate::buffer::Chunk;
use crate::driver::{File, FolderEntry, Request, Root, SymlinkPolicy};

struct Bench {
    store: Store,
    ops: Ops,
    root_path: RootPath,
    waiter: Waiter,
    now: Time,
    files: Table<(), File>,
    /// The folder that the root path leads to.
    folder_is: Result<Arc<Root>, i32>,
    /// Number of checks of the root path.
    looks: u32,
    folder: tempfile::TempDir,
}

/// An arbitrary day; files modified long before are settled.
const NOW_S: u64 = 1_700_000_000;
const LONG_AGO_NS: i64 = 1_600_000_000_000_000_000;

/// Large enough to be kept open, and worth compressing.
const INFO: FileInfo =
    FileInfo { size: 300_000, modified_ns: LONG_AGO_NS, kind: FileKind::Regular, inode: 1, device: 1 };
const SMALL: FileInfo = FileInfo { size: 5, ..INFO };

impl Bench {
    fn new(limits: StoreLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root_path = RootPath::new(folder.path().into(), SymlinkPolicy::Follow);
        let waiter = Waiter::only_stream_of(Table::new().insert(()));
        let mut store = Store::new(limits);
        store.set_unix_seconds(NOW_S);
        let folder_is = Ok(Root::open(folder.path()).unwrap());
        let (ops, now, files) = (Ops::new(), Time::ZERO, Table::new());
        Self { store, ops, root_path, waiter, now, files, folder_is, looks: 0, folder }
    }

    /// A request that begins now.
    fn inquiry(&self) -> Inquiry {
        Inquiry { waiter: self.waiter, now: self.now, since: self.now }
    }

    fn list(&mut self) -> Lookup<Rc<Listed>> {
        self.look();
        self.store.list(&self.root_path, c"many", Sort::default(), self.inquiry(), &mut self.ops)
    }

    fn get(&mut self) -> Lookup<Rc<Resource>> {
        self.get_path(c"file")
    }

    /// Checks the root path if that is due, so that the next operation is the one under test.
    fn look(&mut self) {
        if matches!(self.store.root(&self.root_path, self.inquiry(), &mut self.ops), Lookup::Pending) {
            let root = self.folder_is.clone();
            let (id, token) = self.ops.iter_in_flight().last().unwrap();
            self.ops.settle(id, true);
            let outcome = root.map_or_else(|errno| Outcome::Failed(Fault::Os(errno)), Outcome::Root);
            self.store.on_outcome(token.machine, outcome, self.now);
            self.store.take_woken();
            self.looks += 1;
        }
    }

    fn get_path(&mut self, path: &CStr) -> Lookup<Rc<Resource>> {
        self.look();
        self.store.get(&self.root_path, path, self.inquiry(), &mut self.ops)
    }

    fn coded(&mut self, source: &Rc<Resource>) -> Lookup<Rc<Resource>> {
        self.coded_path(c"file", source)
    }

    fn coded_path(&mut self, path: &CStr, source: &Rc<Resource>) -> Lookup<Rc<Resource>> {
        self.look();
        let how = (Coding::Gzip, Level::default_of(Coding::Gzip));
        self.store.coded(&self.root_path, path, how, source, self.inquiry(), &mut self.ops)
    }

    /// Reports the outcome of the only job in progress, and returns whether the session was woken.
    fn bring(&mut self, outcome: Outcome) -> bool {
        let (id, token) = self.ops.iter_in_flight().next().unwrap();
        self.ops.settle(id, true);
        self.store.on_outcome(token.machine, outcome, self.now);
        self.store.pump(self.now, &mut self.ops);
        self.store.take_woken() == [self.waiter]
    }

    /// Runs the computation in progress, and reports its result.
    fn compute(&mut self) -> bool {
        let mut computed = None;
        for request in self.ops.drain() {
            if let Request::Start(_, Op::Compute(computation)) = request {
                computed = Some(computation.run());
            }
        }
        self.bring(Outcome::Computed(computed.expect("something to be computed")))
    }

    /// A fake open file; closing it only submits an operation.
    fn opened(&mut self, info: FileInfo) -> Outcome {
        Outcome::Opened(File::of_key(self.files.insert(())), info)
    }

    /// The resource of a path, after the file was opened, and read if it is small.
    fn fetched(&mut self, path: &CStr, info: FileInfo, content: &[u8]) -> Rc<Resource> {
        assert!(matches!(self.get_path(path), Lookup::Pending));
        let outcome = self.opened(info);
        if !self.bring(outcome) {
            assert!(self.bring(Outcome::Read(Chunk::owned(content.to_vec()))));
            self.settle_closed();
        }
        self.found(path)
    }

    fn found(&mut self, path: &CStr) -> Rc<Resource> {
        match self.get_path(path) {
            Lookup::Found(Ok(resource)) => resource,
            other => panic!("{other:?}"),
        }
    }

    /// Completes every close in progress, and returns their number.
    fn settle_closed(&mut self) -> usize {
        self.end_turn();
        let closing: Vec<_> = self.ops.iter_in_flight().collect();
        for (id, token) in &closing {
            self.ops.settle(*id, true);
            self.store.on_outcome(token.machine, Outcome::Done, self.now);
        }
        closing.len()
    }

    fn end_turn(&mut self) {
        self.store.pump(self.now, &mut self.ops);
    }
}

fn entries(count: usize) -> Vec<FolderEntry> {
    (0..count).map(|number| FolderEntry { name: number.to_string().into_bytes(), info: Some(INFO) }).collect()
}

/// If it were only dropped, the waiting session would request it forever.
#[test]
fn a_result_larger_than_all_that_may_be_kept_still_reaches_who_waits_for_it() {
    let mut bench = Bench::new(StoreLimits { bytes_max: 1000, ..StoreLimits::default() });
    assert!(matches!(bench.list(), Lookup::Pending));
    assert!(bench.bring(Outcome::Listed(entries(100))));
    assert!(matches!(bench.list(), Lookup::Found(Ok(listed)) if listed.entries().len() == 100));
    bench.end_turn();
    assert!(matches!(bench.list(), Lookup::Pending), "it is not kept for longer than a turn");
}

#[test]
fn running_out_of_descriptors_is_told_and_not_remembered() {
    let mut bench = Bench::new(StoreLimits::default());
    assert!(matches!(bench.get(), Lookup::Pending));
    assert!(bench.bring(Outcome::Failed(Fault::Os(libc::EMFILE))));
    assert!(matches!(bench.get(), Lookup::Found(Err(Fault::Os(libc::EMFILE)))));
    bench.end_turn();
    assert!(matches!(bench.get(), Lookup::Pending), "the next request tries again");
    assert!(bench.bring(Outcome::Failed(Fault::Os(libc::ENOENT))));
    bench.end_turn();
    assert!(matches!(bench.get(), Lookup::Found(Err(Fault::Os(libc::ENOENT)))), "a missing file is cached for a while");
}

#[test]
fn a_large_folder_is_sorted_elsewhere_and_once() {
    for bytes_max in [64 << 20, 1000] {
        let mut bench = Bench::new(StoreLimits { bytes_max, ..StoreLimits::default() });
        assert!(matches!(bench.list(), Lookup::Pending));
        assert!(bench.bring(Outcome::Listed(entries(SORT_AT_ONCE_MAX + 1))));
        assert!(matches!(bench.list(), Lookup::Pending), "it is being sorted");
        assert!(bench.compute());
        let Lookup::Found(Ok(listed)) = bench.list() else { panic!("it is there, cached or not") };
        assert!(listed.is_sorted(Sort::default()));
        if bytes_max > 1000 {
            bench.end_turn();
            assert!(matches!(bench.list(), Lookup::Found(Ok(again)) if Rc::ptr_eq(&again, &listed)));
        }
    }
}

#[test]
fn a_folder_that_is_as_it_was_is_not_held_twice() {
    let mut bench = Bench::new(StoreLimits::default());
    let mut list = |count: usize| {
        bench.now = bench.now + Duration::from_secs(2);
        assert!(matches!(bench.list(), Lookup::Pending));
        assert!(bench.bring(Outcome::Listed(entries(count))));
        match bench.list() {
            Lookup::Found(Ok(listed)) => listed,
            other => panic!("{other:?}"),
        }
    };
    let (first, second, third) = (list(10), list(10), list(11));
    assert!(Rc::ptr_eq(&first, &second) && !Rc::ptr_eq(&second, &third));
}

/// Otherwise a folder that changes constantly would be held once per client that does not read its
/// listing.
#[test]
fn listings_that_are_being_sent_hold_bounded_memory() {
    let mut bench = Bench::new(StoreLimits { bytes_max: 10 * LISTED_BYTES_MIN, ..StoreLimits::default() });
    let mut sent = Vec::new();
    let fault = loop {
        bench.now = bench.now + Duration::from_secs(2);
        if let Lookup::Found(Err(fault)) = bench.list() {
            break fault;
        }
        assert!(bench.bring(Outcome::Listed(entries(sent.len()))));
        match bench.list() {
            Lookup::Found(Ok(listed)) => sent.push(listed),
            other => panic!("{other:?}"),
        }
        assert!(sent.len() < 100);
    };
    assert_eq!(fault, Fault::Os(libc::ENOMEM));
    sent.clear();
    assert!(matches!(bench.list(), Lookup::Pending), "listings are allowed again");
}

#[test]
fn what_is_of_the_moment_is_told_and_not_remembered() {
    let os = Fault::Os;
    let faults = [libc::EIO, libc::EINTR, libc::ENOMEM, libc::ESTALE, libc::ECANCELED, libc::ENFILE].map(os);
    for fault in faults.into_iter().chain([Fault::FileTruncated]) {
        let mut bench = Bench::new(StoreLimits::default());
        assert!(matches!(bench.get(), Lookup::Pending));
        assert!(bench.bring(Outcome::Failed(fault)));
        assert!(
            matches!(bench.get(), Lookup::Found(Err(told)) if told == fault),
            "the waiting session gets the error: {fault}"
        );
        bench.end_turn();
        assert!(matches!(bench.get(), Lookup::Pending), "the next request tries again: {fault}");
        let outcome = bench.opened(INFO);
        assert!(bench.bring(outcome));
        bench.found(c"file");
        // A later fault is temporary too.
        bench.now = bench.now + Duration::from_secs(60);
        assert!(matches!(bench.get(), Lookup::Pending));
        assert!(bench.bring(Outcome::Failed(fault)));
        assert!(matches!(bench.get(), Lookup::Found(Err(_))));
        bench.end_turn();
        assert!(matches!(bench.get(), Lookup::Pending));
    }
}

/// An error that is cached but not returned would make the server repeat the read endlessly.
#[test]
fn a_file_that_cannot_be_read_to_be_compressed_is_a_fault_and_no_further_reading() {
    let faults = [
        (Outcome::Read(Chunk::owned(vec![0; 50_000])), Fault::FileTruncated),
        (Outcome::Failed(Fault::Os(libc::EIO)), Fault::Os(libc::EIO)),
    ];
    for (outcome, expected) in faults {
        let mut bench = Bench::new(StoreLimits::default());
        let source = bench.fetched(c"file", INFO, b"");
        assert!(matches!(bench.coded(&source), Lookup::Pending));
        assert!(bench.bring(outcome));
        for _ in 0..2 {
            assert!(matches!(bench.coded(&source), Lookup::Found(Err(fault)) if fault == expected));
            assert_eq!(bench.ops.in_flight(), 0);
        }
        // The error is temporary: the next turn tries again.
        bench.end_turn();
        assert!(matches!(bench.coded(&source), Lookup::Pending));
    }
}

#[test]
fn what_was_compressed_once_is_at_hand() {
    let mut bench = Bench::new(StoreLimits::default());
    let source = bench.fetched(c"file", INFO, b"");
    assert!(matches!(bench.coded(&source), Lookup::Pending));
    assert!(!bench.bring(Outcome::Read(Chunk::owned(vec![b'a'; 300_000]))), "it is only read");
    assert!(bench.compute());
    for seconds in [0, 10] {
        bench.now = Time::ZERO + Duration::from_secs(seconds);
        let Lookup::Found(Ok(coded)) = bench.coded(&source) else { panic!("it is there") };
        assert_eq!(coded.coding, Some(Coding::Gzip));
        assert_eq!(bench.ops.in_flight(), 0);
    }
    assert_eq!(bench.store.coding_bytes, 0);
}

#[test]
fn what_no_thread_can_be_had_for_goes_out_as_it_is_and_is_tried_again() {
    let mut bench = Bench::new(StoreLimits::default());
    let source = bench.fetched(c"file", INFO, b"");
    for _ in 0..2 {
        assert!(matches!(bench.coded(&source), Lookup::Pending));
        assert!(!bench.bring(Outcome::Read(Chunk::owned(vec![b'a'; 300_000]))), "it is only read");
        assert!(bench.bring(Outcome::Failed(Fault::Os(libc::ENOBUFS))));
        assert!(matches!(bench.coded(&source), Lookup::Found(Ok(plain)) if Rc::ptr_eq(&plain, &source)));
        assert_eq!(bench.store.coding_bytes, 0);
        bench.end_turn();
    }
}

/// Each file waits in memory for one of a few threads.
#[test]
fn no_more_is_being_compressed_than_may_be() {
    let mut bench = Bench::new(StoreLimits { coding_bytes_max: 2 * INFO.size, ..StoreLimits::default() });
    let source = bench.fetched(c"file", INFO, b"");
    assert!(matches!(bench.coded_path(c"a", &source), Lookup::Pending));
    assert!(matches!(bench.coded_path(c"b", &source), Lookup::Pending));
    assert!(matches!(bench.coded_path(c"c", &source), Lookup::Found(Ok(plain)) if Rc::ptr_eq(&plain, &source)));
    assert!(matches!(bench.coded_path(c"a", &source), Lookup::Pending), "what is under way is waited for");
    assert!(bench.bring(Outcome::Failed(Fault::Os(libc::EIO))));
    assert!(matches!(bench.coded_path(c"c", &source), Lookup::Pending));
}

#[test]
fn a_file_changed_in_the_moment_it_was_read_is_read_again() {
    let second_ns = NOW_S as i64 * 1_000_000_000;
    for (modified_ns, is_kept) in [
        (second_ns - TICK_NS as i64, true),
        (second_ns - TICK_NS as i64 + 1, false),
        (second_ns + 999_999_999, false),
        // Another modification would not have this time.
        (second_ns + 3_600_000_000_000, true),
    ] {
        let mut bench = Bench::new(StoreLimits::default());
        let info = FileInfo { modified_ns, ..SMALL };
        bench.fetched(c"file", info, b"older");
        bench.now = Time::ZERO + Duration::from_secs(2);
        bench.store.set_unix_seconds(NOW_S + 2);
        assert!(matches!(bench.get(), Lookup::Pending));
        let outcome = bench.opened(info);
        assert_eq!(bench.bring(outcome), is_kept, "{modified_ns}");
        if !is_kept {
            assert!(bench.bring(Outcome::Read(Chunk::owned(b"newer".to_vec()))));
            let newer = bench.found(c"file");
            assert!(matches!(&newer.content, Content::Memory(bytes) if &bytes[..] == b"newer"));
            assert!(newer.is_settled, "it is read again only once");
        }
    }
}

#[test]
fn a_store_keeps_no_more_than_it_may() {
    let paths: Vec<CString> = (0..50).map(|number| CString::new(format!("file{number}")).unwrap()).collect();
    let few = StoreLimits { entries_max: 10, ..StoreLimits::default() };
    let light = StoreLimits { bytes_max: 5000, ..StoreLimits::default() };
    for limits in [few, light] {
        let mut bench = Bench::new(limits);
        for path in &paths {
            bench.fetched(path, SMALL, b"12345");
            assert!(bench.store.cache.len() <= 10 && bench.store.cache.bytes() <= limits.bytes_max);
        }
        assert!(matches!(bench.get_path(&paths[49]), Lookup::Found(Ok(_))));
        assert!(matches!(bench.get_path(&paths[0]), Lookup::Pending), "the oldest has gone");
    }
}

#[test]
fn a_store_holds_no_more_files_open_than_it_may() {
    let mut bench = Bench::new(StoreLimits { open_max: 3, ..StoreLimits::default() });
    let mut closed = 0;
    for number in 0..10 {
        bench.fetched(&CString::new(format!("file{number}")).unwrap(), INFO, b"");
        closed += bench.settle_closed();
        assert_eq!(bench.store.open, (number + 1).min(3));
    }
    assert_eq!(closed, 7);
    bench.store.clear();
    assert_eq!(bench.settle_closed(), 3);
    assert!(bench.store.is_at_rest());
}

fn seconds(count: u64) -> Time {
    Time::ZERO + Duration::from_secs(count)
}

#[test]
fn a_place_is_looked_at_once_a_second_while_it_is_asked_for_and_never_when_idle() {
    let mut bench = Bench::new(StoreLimits::default());
    bench.fetched(c"file", SMALL, b"12345");
    for millis in 0..5000 {
        bench.now = Time::ZERO + Duration::from_millis(millis);
        bench.look();
    }
    assert_eq!(bench.looks, 5);
    bench.now = seconds(60);
    bench.store.sweep(bench.now);
    bench.end_turn();
    assert_eq!((bench.looks, bench.ops.in_flight()), (5, 0));
}

#[test]
fn a_path_that_leads_to_another_folder_is_followed_and_nothing_of_the_old_one_is_kept() {
    let mut bench = Bench::new(StoreLimits::default());
    bench.fetched(c"large", INFO, b"");
    bench.fetched(c"file", SMALL, b"older");
    let other = tempfile::tempdir().unwrap();
    bench.folder_is = Ok(Root::open(other.path()).unwrap());
    bench.now = Time::ZERO + Duration::from_millis(999);
    assert!(matches!(bench.get(), Lookup::Found(Ok(_))), "it was looked at a moment ago");
    bench.now = seconds(1);
    assert!(matches!(bench.get(), Lookup::Pending));
    assert_eq!((bench.store.cache.len(), bench.store.open), (0, 0));
    bench.end_turn();
    assert_eq!(bench.ops.in_flight(), 2, "the large file is closed, the small one opened");
}

#[test]
fn a_folder_that_is_gone_is_a_fault_of_its_own_until_it_is_back() {
    let mut bench = Bench::new(StoreLimits::default());
    let folder = bench.folder_is.clone();
    bench.fetched(c"file", SMALL, b"12345");
    bench.folder_is = Err(libc::ENOENT);
    for second in [1, 2] {
        bench.now = seconds(second);
        for _ in 0..3 {
            assert!(matches!(bench.get(), Lookup::Found(Err(Fault::RootLost(libc::ENOENT)))));
            assert!(matches!(bench.list(), Lookup::Found(Err(Fault::RootLost(libc::ENOENT)))));
        }
    }
    assert_eq!(bench.looks, 3, "once a second");
    bench.folder_is = folder;
    bench.now = seconds(3);
    bench.fetched(c"file", SMALL, b"12345");
}

/// Otherwise a shortage of descriptors would close a folder that is open already.
#[test]
fn a_look_that_fails_for_the_moment_changes_nothing() {
    let mut bench = Bench::new(StoreLimits::default());
    bench.fetched(c"file", SMALL, b"12345");
    for errno in [libc::EMFILE, libc::EIO, libc::ENOMEM] {
        bench.folder_is = Err(errno);
        bench.now = bench.now + Duration::from_secs(1);
        bench.look();
        assert!(bench.root_path.is_good(bench.now) && bench.store.cache.len() == 1, "{errno}");
    }
}

#[test]
fn a_folder_that_nobody_asks_for_is_let_go_with_its_files() {
    let idle_for = Duration::from_secs(20);
    let mut bench = Bench::new(StoreLimits { idle_for, ..StoreLimits::default() });
    bench.fetched(c"large", INFO, b"");
    bench.now = seconds(5);
    bench.look();
    assert_eq!(bench.store.next_sweep(), Some(seconds(20)));
    let root = Arc::downgrade(bench.folder_is.as_ref().unwrap());
    bench.folder_is = Err(libc::ENOENT);
    for (second, is_held) in [(20, true), (24, true), (25, false)] {
        bench.now = seconds(second);
        bench.store.sweep(bench.now);
        drop(bench.ops.drain());
        assert_eq!(root.strong_count() > 0, is_held, "{second}");
    }
    assert_eq!((bench.settle_closed(), bench.store.next_sweep()), (1, None));
    bench.folder_is = Ok(Root::open(bench.folder.path()).unwrap());
    assert!(matches!(bench.get(), Lookup::Pending), "the path is checked and opened again");
}

#[test]
fn a_reload_and_a_second_place_of_the_same_folder_share_what_is_cached() {
    let mut bench = Bench::new(StoreLimits::default());
    bench.fetched(c"file", SMALL, b"12345");
    let root = || Root::open(bench.folder.path()).unwrap();
    let (again, strict) = (RootPath::new(bench.folder.path().into(), SymlinkPolicy::Follow), root());
    let other = RootPath::new(bench.folder.path().into(), SymlinkPolicy::Refuse);
    let refusing = Root::open_with(bench.folder.path(), SymlinkPolicy::Refuse).unwrap();
    let root_paths = vec![(bench.root_path.clone(), root()), (again.clone(), strict), (other.clone(), refusing)];
    bench.store.keep_root_paths(root_paths, bench.now);
    assert!(matches!(bench.get(), Lookup::Found(Ok(_))), "a reload changes nothing");
    bench.root_path = again;
    bench.store.keep_root_paths(Vec::new(), bench.now);
    assert!(matches!(bench.get(), Lookup::Found(Ok(_))), "the first root path is gone, the folder is not");
    bench.root_path = other;
    assert!(matches!(bench.get(), Lookup::Pending), "the symlink policy differs");
}

#[test]
fn a_large_file_s_beginning_is_read_once_and_by_one_who_asks_for_it() {
    // Cached, and too large to be cached: the waiting session must get it in both cases.
    for bytes_max in [64 << 20, 100] {
        let mut bench = Bench::new(StoreLimits { bytes_max, ..StoreLimits::default() });
        let source = bench.fetched(c"file", INFO, b"");
        assert_eq!(source.is_utf8(), None);
        let ask = |bench: &mut Bench, source: &Rc<Resource>| {
            bench.store.is_utf8(&bench.root_path, c"file", source, bench.inquiry(), &mut bench.ops)
        };
        assert!(matches!(ask(&mut bench, &source), Lookup::Pending));
        assert!(matches!(ask(&mut bench, &source), Lookup::Pending), "one reading serves all");
        assert!(bench.bring(Outcome::Read(Chunk::owned("é".repeat(30_000).into()))));
        let again = bench.found(c"file");
        assert!(Rc::ptr_eq(&again, &source));
        assert!(matches!(ask(&mut bench, &again), Lookup::Found(Ok(true))));
    }
}

#[test]
fn a_beginning_that_cannot_be_read_is_told_to_who_waits_and_not_remembered() {
    let mut bench = Bench::new(StoreLimits::default());
    let source = bench.fetched(c"file", INFO, b"");
    let ask =
        |bench: &mut Bench| bench.store.is_utf8(&bench.root_path, c"file", &source, bench.inquiry(), &mut bench.ops);
    assert!(matches!(ask(&mut bench), Lookup::Pending));
    assert!(bench.bring(Outcome::Failed(Fault::Os(libc::EIO))));
    assert!(matches!(ask(&mut bench), Lookup::Found(Err(Fault::Os(libc::EIO)))), "the error of the read is returned");
    bench.end_turn();
    assert!(matches!(ask(&mut bench), Lookup::Pending), "the next request tries again");
}
