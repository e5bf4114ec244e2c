//! What the store keeps, and what it tells those who wait.

use super::*;

struct Bench {
    store: Store,
    ops: Ops,
    place: Place,
    waiter: Key,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(limits: StoreLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { root: Root::open(folder.path()).unwrap(), number: 0 };
        let waiter = Table::new().insert(());
        Self { store: Store::new(limits), ops: Ops::new(), place, waiter, _folder: folder }
    }

    fn inquiry(&self) -> Inquiry {
        Inquiry { waiter: self.waiter, now: Time::ZERO, since: Time::ZERO }
    }

    fn list(&mut self) -> Lookup<Rc<[FolderEntry]>> {
        self.store.list(&self.place, c"many", self.inquiry(), &mut self.ops)
    }

    fn get(&mut self) -> Lookup<Rc<Resource>> {
        self.store.get(&self.place, c"file", self.inquiry(), &mut self.ops)
    }

    /// Brings the outcome of the only job under way, and returns whether somebody was woken.
    fn bring(&mut self, outcome: Outcome) -> bool {
        let (id, token) = self.ops.iter_in_flight().next().unwrap();
        self.ops.settle(id, true);
        self.store.on_outcome(token.machine, outcome, Time::ZERO);
        self.store.pump(Time::ZERO, &mut self.ops);
        self.store.take_woken() == [self.waiter]
    }

    fn end_turn(&mut self) {
        self.store.pump(Time::ZERO, &mut self.ops);
    }
}

/// Were it only dropped, whoever waits would ask for it for ever.
#[test]
fn a_result_larger_than_all_that_may_be_kept_still_reaches_who_waits_for_it() {
    let mut bench = Bench::new(StoreLimits { bytes_max: 1000, ..StoreLimits::default() });
    assert!(matches!(bench.list(), Lookup::Pending));
    let entry = |number: usize| FolderEntry { name: number.to_string().into_bytes(), info: None };
    assert!(bench.bring(Outcome::Listed((0..100).map(entry).collect())));
    assert!(matches!(bench.list(), Lookup::Found(Ok(entries)) if entries.len() == 100));
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
    assert!(matches!(bench.get(), Lookup::Pending), "the next one who asks has another attempt");
    assert!(bench.bring(Outcome::Failed(Fault::Os(libc::ENOENT))));
    bench.end_turn();
    assert!(matches!(bench.get(), Lookup::Found(Err(Fault::Os(libc::ENOENT)))), "what is missing is known for a while");
}
