//! Work off the loop: lanes do not delay each other, lookups are merged, cancelled tasks leave the
//! queue.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;
use xps::internals::driver::{Computation, Fault, KernelDriver, Offload, OffloadLimits, Op, OpId, Outcome, Root};

use crate::kind::{Case, KernelKind};
use crate::rig::{Rig, computed};
use crate::support::patience;

/// One thread per lane, so that one task occupies it.
const NARROW: OffloadLimits = OffloadLimits {
    names_threads: 1,
    disk_threads: 1,
    computation_threads: 1,
    queue_max: 64,
    idle_for: Duration::from_secs(60),
};

/// A resolver that returns when it is released, and records the names that it was called with.
struct Resolver {
    offload: Offload,
    asked: Arc<Mutex<Vec<String>>>,
    release: mpsc::Sender<()>,
    has_begun: mpsc::Receiver<()>,
}

impl Resolver {
    fn new(limits: OffloadLimits) -> Self {
        let (release, gate) = mpsc::channel();
        let (begin, has_begun) = mpsc::channel();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (noted, gate) = (Arc::clone(&asked), Mutex::new((gate, begin)));
        let offload = Offload::with_resolver(limits, move |name| {
            noted.lock().expect("no panic").push(name.to_owned());
            let gate = gate.lock().expect("no panic");
            let _ = gate.1.send(());
            // Ends with the sender, too.
            let _ = gate.0.recv();
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from(([192, 0, 2, 2], 0))])
        });
        Self { offload, asked, release, has_begun }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    #[track_caller]
    fn wait_until_asked(&self) {
        self.has_begun.recv_timeout(patience()).expect("the resolver is asked");
    }

    #[track_caller]
    fn answer(&self) {
        self.release.send(()).expect("it waits");
    }
}

fn resolve<D: KernelDriver>(rig: &mut Rig<D>, host: &str, port: u16) -> OpId {
    rig.submit(Op::Resolve { host: host.into(), port })
}

/// A computation that lasts until the sender is used or dropped. Returns when it has begun.
#[track_caller]
fn long_computation<D: KernelDriver>(rig: &mut Rig<D>, bytes: usize) -> (OpId, mpsc::Sender<()>) {
    let (release, gate) = mpsc::channel();
    let (begin, has_begun) = mpsc::channel();
    let id = rig.submit(Op::Compute(Computation::of(bytes, move || {
        let _ = begin.send(());
        let _ = gate.recv();
    })));
    rig.until("the computation begins", |_| has_begun.try_recv().is_ok());
    (id, release)
}

#[track_caller]
fn ports(outcome: Outcome) -> Vec<u16> {
    match outcome {
        Outcome::Resolved(addresses) => addresses.iter().map(SocketAddr::port).collect(),
        other => panic!("{other:?}"),
    }
}

pub fn no_kind_of_work_holds_up_another<K: KernelKind>(case: &Case<K>) {
    let resolver = Resolver::new(NARROW);
    let mut rig = case.rig_with_offload(resolver.offload.clone());
    let folder = TempDir::new().expect("a temporary folder");
    let root = Root::open(folder.path()).expect("it was just made");
    let hanging: Vec<_> = (0..40).map(|number| resolve(&mut rig, &format!("name{number}.test"), 80)).collect();
    let (computing, release) = long_computation(&mut rig, 1 << 20);
    let queued = rig.submit(Op::Compute(Computation::new(|| ())));
    let outcome = rig.run(Op::List { root, path: c".".into() });
    assert!(matches!(outcome, Outcome::Listed(_)), "{outcome:?}");
    assert_eq!(ports(rig.run(Op::Resolve { host: "::1".into(), port: 7 })), [7], "an address in text needs no thread");
    drop(release);
    for id in [computing, queued] {
        let outcome = rig.end_of(id);
        assert!(matches!(outcome, Outcome::Computed(_)), "{outcome:?}");
    }
    assert!(hanging.iter().all(|&id| !rig.is_over(id)));
    for id in hanging {
        assert!(matches!(rig.cancel(id), Outcome::Cancelled));
    }
    drop(resolver.release);
    rig.finish();
}

pub fn look_ups_of_one_name_are_one<K: KernelKind>(case: &Case<K>) {
    let resolver = Resolver::new(OffloadLimits { names_threads: 4, ..NARROW });
    let (mut rig, mut other) =
        (case.rig_with_offload(resolver.offload.clone()), case.rig_with_offload(resolver.offload.clone()));
    let first = resolve(&mut rig, "name.test", 1);
    rig.turn(Some(Duration::ZERO));
    resolver.wait_until_asked();
    let others: Vec<_> = (2..40).map(|port| (port, resolve(&mut rig, "Name.TEST", port))).collect();
    let elsewhere = resolve(&mut other, "name.test", 50);
    rig.turn(Some(Duration::ZERO));
    other.turn(Some(Duration::ZERO));
    // One request is cancelled, which does not wait for the lookup.
    assert!(matches!(rig.cancel(first), Outcome::Cancelled));
    resolver.answer();
    for (port, id) in others {
        assert_eq!(ports(rig.end_of(id)), [port, port]);
    }
    assert_eq!(ports(other.end_of(elsewhere)), [50, 50], "another worker waits for the same lookup");
    assert_eq!(resolver.asked(), ["name.test"]);
    // Results are not cached here: a later request is a new lookup.
    let again = resolve(&mut rig, "name.test", 1);
    resolver.answer();
    rig.end_of(again);
    assert_eq!(resolver.asked().len(), 2);
    rig.finish();
    other.finish();
}

pub fn a_look_up_that_was_given_up_serves_the_next<K: KernelKind>(case: &Case<K>) {
    let resolver = Resolver::new(NARROW);
    let mut rig = case.rig_with_offload(resolver.offload.clone());
    for _ in 0..5 {
        let id = resolve(&mut rig, "name.test", 1);
        rig.turn(Some(Duration::ZERO));
        if resolver.asked().is_empty() {
            resolver.wait_until_asked();
        }
        assert!(matches!(rig.cancel(id), Outcome::Cancelled), "it ends without the resolver's answer");
    }
    let id = resolve(&mut rig, "name.test", 9);
    rig.turn(Some(Duration::ZERO));
    resolver.answer();
    assert_eq!(ports(rig.end_of(id)), [9, 9]);
    assert_eq!(resolver.asked(), ["name.test"]);
    rig.finish();
}

pub fn what_is_cancelled_leaves_the_queue<K: KernelKind>(case: &Case<K>) {
    let resolver = Resolver::new(NARROW);
    let mut rig = case.rig_with_offload(resolver.offload.clone());
    let hanging = resolve(&mut rig, "hanging.test", 1);
    let (computing, release) = long_computation(&mut rig, 0);
    resolver.wait_until_asked();
    let count = Arc::new(AtomicUsize::new(0));
    let names: Vec<_> = (0..20).map(|number| resolve(&mut rig, &format!("name{number}.test"), 1)).collect();
    let computations: Vec<_> = (0..20)
        .map(|_| {
            let count = Arc::clone(&count);
            rig.submit(Op::Compute(Computation::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })))
        })
        .collect();
    rig.turn(Some(Duration::ZERO));
    for id in names.into_iter().chain(computations) {
        assert!(matches!(rig.cancel(id), Outcome::Cancelled));
    }
    assert_eq!(Arc::strong_count(&count), 1, "nothing that was cancelled is kept");
    // A dropped driver leaves nothing in the queue either.
    let mut other = case.rig_with_offload(resolver.offload.clone());
    resolve(&mut other, "other.test", 1);
    let counted = Arc::clone(&count);
    other.submit(Op::Compute(Computation::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    })));
    other.turn(Some(Duration::ZERO));
    other.abandon();
    assert_eq!(Arc::strong_count(&count), 1);
    drop(release);
    assert!(matches!(rig.end_of(computing), Outcome::Computed(_)));
    resolver.answer();
    ports(rig.end_of(hanging));
    let last = resolve(&mut rig, "last.test", 1);
    resolver.answer();
    ports(rig.end_of(last));
    assert_eq!(resolver.asked(), ["hanging.test", "last.test"]);
    rig.finish();
}

pub fn a_full_queue_refuses_and_recovers<K: KernelKind>(case: &Case<K>) {
    let resolver = Resolver::new(OffloadLimits { queue_max: 1, ..NARROW });
    let mut rig = case.rig_with_offload(resolver.offload.clone());
    let (computing, release) = long_computation(&mut rig, 0);
    let queued = rig.submit(Op::Compute(Computation::new(|| ())));
    let outcome = rig.run(Op::Compute(Computation::new(|| ())));
    let Outcome::Failed(fault) = outcome else { panic!("{outcome:?}") };
    assert!(fault.is_shortage() && fault != Fault::FileTruncated, "{fault:?}");
    drop(release);
    for id in [computing, queued] {
        assert!(matches!(rig.end_of(id), Outcome::Computed(_)));
    }
    assert!(matches!(rig.run(Op::Compute(Computation::new(|| ()))), Outcome::Computed(_)));
    rig.finish();
}

pub fn small_computations_do_not_wait_for_large_ones<K: KernelKind>(case: &Case<K>) {
    let offload = Offload::new(OffloadLimits { computation_threads: 3, ..NARROW });
    let mut rig = case.rig_with_offload(offload);
    let large: Vec<_> = (0..2).map(|_| long_computation(&mut rig, 8 << 20)).collect();
    let waiting: Vec<_> =
        (0..2_u8).map(|number| rig.submit(Op::Compute(Computation::of(8 << 20, move || number)))).collect();
    for number in 0..10_u8 {
        let outcome = rig.run(Op::Compute(Computation::of(1000, move || number)));
        assert_eq!(computed::<u8>(outcome), number);
    }
    assert!(waiting.iter().all(|&id| !rig.is_over(id)), "one thread is left to the small ones");
    for (id, release) in large {
        drop(release);
        assert!(matches!(rig.end_of(id), Outcome::Computed(_)));
    }
    for id in waiting {
        assert!(matches!(rig.end_of(id), Outcome::Computed(_)));
    }
    rig.finish();
}

pub fn threads_without_work_end<K: KernelKind>(case: &Case<K>) {
    /// Signals the end of its thread.
    struct Last(mpsc::Sender<()>);
    impl Drop for Last {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });

    let watched = |sender: &mpsc::Sender<()>| {
        let last = Last(sender.clone());
        Op::Compute(Computation::new(move || {
            LAST.set(Some(last));
        }))
    };
    let (sender, has_ended) = mpsc::channel();
    let offload = Offload::new(OffloadLimits { idle_for: Duration::from_millis(10), ..NARROW });
    let mut rig = case.rig_with_offload(offload.clone());
    rig.run(watched(&sender));
    has_ended.recv_timeout(patience()).expect("it ends when it has nothing to do");
    assert!(matches!(rig.run(Op::Compute(Computation::new(|| ()))), Outcome::Computed(_)), "and there is another");
    offload.set_limits(NARROW);
    rig.run(watched(&sender));
    assert!(has_ended.try_recv().is_err());
    drop(offload);
    rig.finish();
    has_ended.recv_timeout(patience()).expect("it ends with the last driver");
}
