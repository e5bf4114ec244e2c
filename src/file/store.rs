//! [`Store`]: the file cache of one worker. It holds open files, small files in memory, folder
//! listings, and the jobs that fetch them.
//!
//! ```text
//!               Opened                  large: kept open           last user gone          Done
//!   Opening ─────────────► Opened ──────────────────────► (cache) ─────────────► Closing ───────► gone
//!      │ Failed               │ small                        ▲
//!      ▼                      └─────► Reading ───────────────┘ in memory
//!   waiters get the error, cached for a while                  ▲
//!   Listing ──► Sorting, Fetching ──► Compressing ─────────────┘
//! ```
//!
//! A path is relative to a [`RootPath`]. Which folder that leads to is checked first, at most once
//! a second.
//!
//! A session calls again until it gets a result. If the result is not cached, the session gets
//! [`Lookup::Pending`], is pumped once the job is done, and repeats the call. So a request that
//! needs several look-ups is one function of the cached results, not a state machine with a state
//! for each.
//!
//! A result is valid for a time; then the path is opened again. If it leads to the same unchanged
//! file, the content in memory is kept. One job serves all sessions that wait for it. The store
//! does not know what the files are for.

mod found;
mod job;
mod key;
mod limits;
mod root_path;
mod root_paths;
mod sample;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use smallvec::SmallVec;

use self::found::{Cached, Found, Kept};
use self::job::{Job, Step, token};
use self::key::{Aspect, key_of, path_of};
pub use self::limits::StoreLimits;
pub use self::root_path::{RootPath, WeakRootPath};
use self::root_paths::{RootPaths, root_of};
use super::cache::{self, Cache};
use super::compress::{self, Level};
use super::listing::{Listed, Sort};
use super::resource::Released;
pub use super::resource::{Content, OpenFile, Resource};
use crate::driver::{Computation, Fault, FileInfo, FileKind, Op, Ops, Outcome, Time};
use crate::http::Coding;
use crate::table::{Key, RawKey, Table};
use crate::waiter::Waiter;

/// The result of a compression. `None`: it failed, and the file is sent uncompressed.
type Compressed = Option<Arc<[u8]>>;

/// The token kind of the store.
pub const STORE: u8 = 2;

/// Maximum of cached errors. They have a cache of their own, so that a client that requests missing
/// files cannot evict existing ones.
const FAULTS_MAX: u32 = 512;

/// Maximum size of an open file that is read into memory to be compressed.
const FETCH_BYTES_MAX: u64 = 8 << 20;

/// Listings of up to this many entries are sorted in the event loop, larger ones on another thread.
const SORT_AT_ONCE_MAX: usize = 256;

/// Listings in use may hold this many times `bytes_max` before no folder is listed any more. A
/// folder that changes constantly leaves another listing with each client that does not read its
/// own.
const LISTED_FACTOR: usize = 2;

/// Minimum size that a listing in use counts for. Bytes.
const LISTED_BYTES_MIN: usize = 4 << 10;

/// A file that was modified less than this before it was read may have been modified again since
/// with the same modification time: file systems count time in ticks of up to 10 ms.
const TICK_NS: i128 = 20_000_000;

/// Uncertainty of the time of day: it is known to the second, and no turn of the event loop takes
/// another one.
const NOW_NS: i128 = 2_000_000_000;

/// Number of entries that one sweep examines.
const SWEEP_MAX: usize = 64;

/// The result of a look-up.
#[derive(Debug)]
pub enum Lookup<T> {
    /// The result, or the error.
    Found(Result<T, Fault>),
    /// A job is in progress. It wakes the session when it is done; then the session repeats the
    /// call.
    Pending,
}

/// The caller of a look-up, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry {
    /// Who is woken once the result is there.
    pub waiter: Waiter,
    /// The time of this turn of the event loop.
    pub now: Time,
    /// When the request began: a result obtained after that is valid for it, however long the
    /// request takes.
    pub since: Time,
}

/// The file cache of one worker.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    root_paths: RootPaths,
    cache: Cache<Box<[u8]>, Kept>,
    faults: Cache<Box<[u8]>, (Fault, Time)>,
    jobs: Table<Job>,
    /// Jobs in progress, by key.
    under_way: HashMap<Box<[u8]>, Key<Job>>,
    /// Jobs with an outcome to handle.
    dirty: Vec<Key<Job>>,
    released: Released,
    woken: Vec<Waiter>,
    /// Number of open files in the cache.
    open: u32,
    /// Results that are not cached, for the sessions woken in this turn.
    passing: HashMap<Box<[u8]>, Result<Found, Fault>>,
    /// Size of the files being compressed.
    coding_bytes: u64,
    /// Listings in use, cached or not, and the memory of each in bytes.
    listed: Vec<(Weak<Listed>, usize)>,
    /// The time of day at the start of this turn, in seconds since 1970.
    unix_seconds: u64,
    counts: StoreCounts,
}

/// What the store has done since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Look-ups that found a valid result from before the request.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Files that were compressed.
    pub compressions: u64,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        let (results, faults) = bounds(limits);
        Self {
            limits,
            root_paths: RootPaths::default(),
            cache: Cache::new(results),
            faults: Cache::new(faults),
            jobs: Table::new(),
            under_way: HashMap::new(),
            dirty: Vec::new(),
            released: Released::default(),
            woken: Vec::new(),
            open: 0,
            passing: HashMap::new(),
            coding_bytes: 0,
            listed: Vec::new(),
            unix_seconds: 0,
            counts: StoreCounts::default(),
        }
    }

    /// What it has done so far.
    pub const fn counts(&self) -> StoreCounts {
        self.counts
    }

    /// Replaces the limits.
    pub fn set_limits(&mut self, limits: StoreLimits) {
        let (results, faults) = bounds(limits);
        let mut evicted = Vec::new();
        self.cache.set_limits(results, &mut evicted);
        self.let_go(evicted);
        self.faults.set_limits(faults, &mut Vec::new());
        self.limits = limits;
        self.close_down_to(limits.open_max);
    }

    /// Opens a path: a file, a folder or a special file.
    pub fn get(&mut self, root_path: &RootPath, path: &CStr, inquiry: Inquiry, ops: &mut Ops) -> Lookup<Rc<Resource>> {
        if let Some(other) = self.enter(root_path, inquiry, ops) {
            return other;
        }
        let key = key_of(root_path, Aspect::Plain, path);
        let previous = match self.cached(&key, inquiry) {
            Cached::Good(Found::Resource(resource)) => return Lookup::Found(Ok(resource)),
            Cached::Fault(fault) => return Lookup::Found(Err(fault)),
            Cached::Old(Found::Resource(resource)) => Some(resource),
            Cached::Good(Found::Folder(_)) | Cached::Old(Found::Folder(_)) | Cached::Nothing => None,
        };
        let known_regular = previous.as_ref().is_some_and(|previous| previous.info.kind == FileKind::Regular);
        let root = match root_of(root_path) {
            Ok(root) => root,
            Err(fault) => return Lookup::Found(Err(fault)),
        };
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, Step::Opening { previous }) {
            ops.submit(token(job), Op::Open { root, path: CString::from(path), known_regular });
        }
        Lookup::Pending
    }

    /// Lists a folder in this order.
    pub fn list(
        &mut self,
        root_path: &RootPath,
        path: &CStr,
        sort: Sort,
        inquiry: Inquiry,
        ops: &mut Ops,
    ) -> Lookup<Rc<Listed>> {
        if let Some(other) = self.enter(root_path, inquiry, ops) {
            return other;
        }
        let sorted = key_of(root_path, Aspect::Sorted(sort), path);
        if let Some(Ok(Found::Folder(listed))) = self.passing.get(&sorted[..]) {
            return Lookup::Found(Ok(Rc::clone(listed)));
        }
        let key = key_of(root_path, Aspect::Folder, path);
        let previous = match self.cached(&key, inquiry) {
            Cached::Good(Found::Folder(listed)) => return self.sort(&sorted, listed, sort, inquiry, ops),
            Cached::Fault(fault) => return Lookup::Found(Err(fault)),
            Cached::Old(Found::Folder(listed)) => Some(listed),
            Cached::Old(Found::Resource(_)) | Cached::Good(Found::Resource(_)) | Cached::Nothing => None,
        };
        if !self.under_way.contains_key(&key[..]) && self.listed_bytes() > self.limits.bytes_max * LISTED_FACTOR {
            return Lookup::Found(Err(Fault::Os(libc::ENOMEM)));
        }
        let root = match root_of(root_path) {
            Ok(root) => root,
            Err(fault) => return Lookup::Found(Err(fault)),
        };
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, Step::Listing { previous }) {
            ops.submit(token(job), Op::List { root, path: CString::from(path) });
        }
        Lookup::Pending
    }

    /// A listing once it is sorted in this order.
    fn sort(
        &mut self,
        key: &[u8],
        listed: Rc<Listed>,
        sort: Sort,
        inquiry: Inquiry,
        ops: &mut Ops,
    ) -> Lookup<Rc<Listed>> {
        if listed.is_sorted(sort) || listed.entries().len() <= SORT_AT_ONCE_MAX {
            return Lookup::Found(Ok(listed));
        }
        let entries = Arc::clone(listed.entries());
        if let Some(job) = self.join_or_start(key, inquiry.waiter, Step::Sorting { listed, sort }) {
            let bytes = entries.len() * size_of::<crate::driver::FolderEntry>();
            let computation = Computation::of(bytes, move || sort.order(&entries));
            ops.submit(token(job), Op::Compute(computation));
        }
        Lookup::Pending
    }

    /// Memory of all listings in use.
    fn listed_bytes(&mut self) -> usize {
        self.listed.retain(|(listed, _)| listed.strong_count() > 0);
        self.listed.iter().map(|(_, bytes)| bytes).sum()
    }

    /// A file's content compressed, or the file itself if compression does not pay.
    pub fn coded(
        &mut self,
        root_path: &RootPath,
        path: &CStr,
        (coding, level): (Coding, Level),
        source: &Rc<Resource>,
        inquiry: Inquiry,
        ops: &mut Ops,
    ) -> Lookup<Rc<Resource>> {
        if let Some(other) = self.enter(root_path, inquiry, ops) {
            return other;
        }
        let key = key_of(root_path, Aspect::Coded(coding, level), path);
        match self.cached(&key, inquiry) {
            Cached::Good(Found::Resource(coded)) if coded.info == source.info => return Lookup::Found(Ok(coded)),
            // Valid at any age: the same bytes compress to the same result.
            Cached::Old(Found::Resource(coded)) if coded.is_still(&source.info) => return Lookup::Found(Ok(coded)),
            // Without this, a failing job would be started again at once, as long as a session
            // waits for it.
            Cached::Fault(fault) => return Lookup::Found(Err(fault)),
            Cached::Good(_) | Cached::Old(_) | Cached::Nothing => {}
        }
        let has_room = self.coding_bytes.saturating_add(source.info.size) <= self.limits.coding_bytes_max;
        if !has_room && !self.under_way.contains_key(&key[..]) {
            return Lookup::Found(Ok(Rc::clone(source)));
        }
        let (source, size) = (Rc::clone(source), source.info.size);
        let step = match &source.content {
            Content::Memory(bytes) => {
                let input = Arc::clone(bytes);
                Step::Fetched { source, coding, level, input }
            }
            Content::File(_) if source.info.size <= FETCH_BYTES_MAX => Step::Fetching { source, coding, level },
            Content::File(_) | Content::Folder | Content::Special => return Lookup::Found(Ok(source)),
        };
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, step) {
            self.coding_bytes += size;
            match self.jobs.get(job).map(|job| &job.step) {
                Some(Step::Fetching { source, .. }) => {
                    if let Content::File(open) = &source.content {
                        ops.submit(token(job), Op::Read { file: open.file(), offset: 0, length: size as usize });
                    }
                }
                _ => self.compress(job, ops),
            }
        }
        Lookup::Pending
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, job: RawKey, outcome: Outcome, now: Time) {
        let job = job.typed();
        let Some(Job { key, waiters, step }) = self.jobs.remove(job) else { return };
        let coding_bytes = step.coding_bytes();
        let step = match step {
            Step::Looking { root_path } => return self.on_looked(&root_path, outcome, waiters, now),
            step => step,
        };
        let result = match (step, outcome) {
            (Step::Closing, Outcome::Done) => return,
            (Step::Opening { previous }, Outcome::Opened(file, info)) => {
                return self.go_on(Job { key, waiters, step: Step::Opened { previous, file, info } });
            }
            (Step::Fetching { source, coding, level }, Outcome::Read(bytes))
                if bytes.len() as u64 == source.info.size =>
            {
                return self.go_on(Job {
                    key,
                    waiters,
                    step: Step::Fetched { source, coding, level, input: bytes.into_shared() },
                });
            }
            (Step::Reading { info, is_settled, .. }, Outcome::Read(bytes)) if bytes.len() as u64 == info.size => {
                Ok(Found::Resource(Resource::new(info, is_settled, None, Content::Memory(bytes.into_shared()))))
            }
            (Step::Compressing { source, coding }, Outcome::Computed(computed)) => {
                let is_smaller = |bytes: &Arc<[u8]>| compress::is_worth_sending(source.info.size, bytes.len() as u64);
                Ok(Found::Resource(match computed.take::<Compressed>().flatten().filter(is_smaller) {
                    Some(bytes) => Resource::new(source.info, source.is_settled, Some(coding), Content::Memory(bytes)),
                    None => source,
                }))
            }
            // No thread is free, or too much is queued: the file is sent uncompressed, and that is
            // not cached.
            (Step::Compressing { source, .. }, Outcome::Failed(_)) => {
                self.coding_bytes -= coding_bytes;
                self.under_way.remove(&key);
                self.woken.extend(waiters);
                self.passing.insert(key, Ok(Found::Resource(source)));
                return;
            }
            (Step::Sampling { resource }, outcome @ (Outcome::Read(_) | Outcome::Failed(_))) => {
                return self.on_sampled(key, waiters, resource, &outcome);
            }
            (Step::Listing { previous }, Outcome::Listed(entries)) => Ok(Found::Folder(match previous {
                // Sessions that send the unchanged listing share it with new ones.
                Some(previous) if **previous.entries() == entries => previous,
                _ => self.new_listing(entries),
            })),
            (Step::Sorting { listed, sort }, Outcome::Computed(computed)) => {
                if let Some(order) = computed.take() {
                    listed.set_order(sort, order);
                }
                self.under_way.remove(&key);
                self.woken.extend(waiters);
                self.passing.insert(key, Ok(Found::Folder(listed)));
                return;
            }
            // The file changed between `fstat` and the read.
            (Step::Fetching { .. } | Step::Reading { .. }, Outcome::Read(_)) => Err(Fault::FileTruncated),
            (_, Outcome::Failed(fault)) => Err(fault),
            (step, outcome) => {
                crate::tcp::unexpected("store", &step, &outcome, token(job));
                Err(Fault::Os(libc::EIO))
            }
        };
        self.coding_bytes -= coding_bytes;
        self.settle(key, waiters, result, now);
    }

    /// Submits what is due: closes unused files, reads opened ones and compresses the ones read.
    #[inline]
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
        // Called twice per turn; usually there is nothing to do.
        if !self.dirty.is_empty() || !self.passing.is_empty() || !self.released.borrow().is_empty() {
            self.act(now, ops);
        }
    }

    // Cold, so that the check alone becomes part of each turn.
    #[cold]
    fn act(&mut self, now: Time, ops: &mut Ops) {
        if self.woken.is_empty() {
            self.passing.clear();
        }
        for job in std::mem::take(&mut self.dirty) {
            match self.jobs.get(job).map(|job| &job.step) {
                Some(Step::Opened { .. }) => self.take_in(job, now, ops),
                Some(Step::Fetched { .. }) => self.compress(job, ops),
                _ => {}
            }
        }
        let released = std::mem::take(&mut *self.released.borrow_mut());
        for file in released {
            let job = self.jobs.insert(Job { key: Box::default(), waiters: SmallVec::new(), step: Step::Closing });
            ops.submit(token(job), Op::CloseFile { file });
        }
    }

    /// Sets the time of day, in seconds since 1970. To be called before each turn.
    pub const fn set_unix_seconds(&mut self, unix_seconds: u64) {
        self.unix_seconds = unix_seconds;
    }

    /// Whether there are any whose jobs are done.
    pub const fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Takes those whose jobs are done.
    pub fn take_woken(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.woken)
    }

    /// Drops results that have been idle for too long.
    pub fn sweep(&mut self, now: Time) {
        let mut evicted = Vec::new();
        self.cache.sweep(now, SWEEP_MAX, &mut evicted);
        self.let_go(evicted);
        self.faults.sweep(now, SWEEP_MAX, &mut Vec::new());
        if self.next_root_path_close().is_some_and(|at| at <= now) {
            self.close_idle_root_paths(now);
        }
    }

    /// When to call [`Store::sweep`] next.
    pub fn next_sweep(&self) -> Option<Time> {
        let cached = Time::earliest(self.cache.next_sweep(), self.faults.next_sweep());
        Time::earliest(cached, self.next_root_path_close())
    }

    /// Drops everything; the next pump closes the files that are not being sent.
    pub fn clear(&mut self) {
        self.cache.clear(&mut Vec::new());
        self.open = 0;
        self.faults.clear(&mut Vec::new());
        self.passing.clear();
    }

    /// Whether nothing is open and no job is in progress.
    pub fn is_at_rest(&self) -> bool {
        self.cache.is_empty() && self.jobs.is_empty() && self.released.borrow().is_empty()
    }

    /// Whether this job is in progress.
    pub fn has_job(&self, job: RawKey) -> bool {
        self.jobs.contains(job.typed())
    }

    /// Those that wait for a job.
    pub fn waiters(&self) -> impl Iterator<Item = Waiter> + '_ {
        self.jobs.iter().flat_map(|(_, job)| job.waiters.iter().copied())
    }

    fn cached(&mut self, key: &[u8], inquiry: Inquiry) -> Cached {
        match self.passing.get(key) {
            Some(Ok(found)) => return Cached::Good(found.clone()),
            Some(Err(fault)) => return Cached::Fault(*fault),
            None => {}
        }
        let is_good = |since: Time| since >= inquiry.since;
        match self.faults.get(key, inquiry.now) {
            cache::Lookup::Fresh((fault, since)) => {
                self.counts.hits += u64::from(!is_good(*since));
                return Cached::Fault(*fault);
            }
            cache::Lookup::Stale((fault, since)) if is_good(*since) => return Cached::Fault(*fault),
            cache::Lookup::Stale(_) | cache::Lookup::Absent => {}
        }
        match self.cache.get(key, inquiry.now) {
            cache::Lookup::Fresh(kept) => {
                // One that this request has waited for has counted as a miss.
                self.counts.hits += u64::from(!is_good(kept.since));
                Cached::Good(kept.found.clone())
            }
            cache::Lookup::Stale(kept) if is_good(kept.since) => Cached::Good(kept.found.clone()),
            cache::Lookup::Stale(kept) => {
                self.counts.misses += 1;
                Cached::Old(kept.found.clone())
            }
            cache::Lookup::Absent => {
                self.counts.misses += 1;
                Cached::Nothing
            }
        }
    }

    /// Adds the waiter to a job in progress for this key. Otherwise starts one and returns it; the
    /// caller submits its operation.
    fn join_or_start(&mut self, key: &[u8], waiter: Waiter, step: Step) -> Option<Key<Job>> {
        if let Some(job) = self.under_way.get(key).and_then(|job| self.jobs.get_mut(*job)) {
            if !job.waiters.contains(&waiter) {
                job.waiters.push(waiter);
            }
            return None;
        }
        let key: Box<[u8]> = key.into();
        let job = self.jobs.insert(Job { key: key.clone(), waiters: SmallVec::from_slice(&[waiter]), step });
        self.under_way.insert(key, job);
        Some(job)
    }

    /// Stores the job's next step, which the pump takes.
    fn go_on(&mut self, job: Job) {
        let name = job.key.clone();
        let key = self.jobs.insert(job);
        self.under_way.insert(name, key);
        self.dirty.push(key);
    }

    /// Handles an opened file by its kind and size.
    fn take_in(&mut self, job: Key<Job>, now: Time, ops: &mut Ops) {
        let Some(Job { key, waiters, step }) = self.jobs.remove(job) else { return };
        let Step::Opened { previous, file, info } = step else { return };
        let open = OpenFile::new(file, Rc::clone(&self.released));
        let is_settled = self.is_settled(&info);
        let made = |content| Resource::new(info, is_settled, None, content);
        let resource = match (previous, info.kind) {
            (Some(previous), _) if previous.is_still(&info) => previous,
            (_, FileKind::Directory) => made(Content::Folder),
            (_, FileKind::Special) => made(Content::Special),
            (_, FileKind::Regular) if info.size == 0 => made(Content::Memory(Arc::new([]))),
            (_, FileKind::Regular) if info.size <= self.limits.small_bytes_max => {
                let name = key.clone();
                let job = self.jobs.insert(Job { key, waiters, step: Step::Reading { _file: open, info, is_settled } });
                self.under_way.insert(name, job);
                ops.submit(token(job), Op::Read { file, offset: 0, length: info.size as usize });
                return;
            }
            (_, FileKind::Regular) => made(Content::File(open)),
        };
        self.settle(key, waiters, Ok(Found::Resource(resource)), now);
    }

    /// Whether a modification after the file is read will change its modification time. A time in
    /// the future is as good as one long past: the next modification will not have it.
    fn is_settled(&self, info: &FileInfo) -> bool {
        let second_ns = i128::from(self.unix_seconds) * 1_000_000_000;
        let age_ns = second_ns - i128::from(info.modified_ns);
        !(-NOW_NS..TICK_NS).contains(&age_ns)
    }

    fn new_listing(&mut self, entries: Vec<crate::driver::FolderEntry>) -> Rc<Listed> {
        let listed = Rc::new(Listed::new(entries));
        self.listed.push((Rc::downgrade(&listed), listed.memory().max(LISTED_BYTES_MIN)));
        listed
    }

    fn compress(&mut self, job: Key<Job>, ops: &mut Ops) {
        let Some(Job { step, .. }) = self.jobs.get_mut(job) else { return };
        let Step::Fetched { source, coding, .. } = step else { return };
        let compressing = Step::Compressing { source: Rc::clone(source), coding: *coding };
        let Step::Fetched { coding, level, input, .. } = std::mem::replace(step, compressing) else { return };
        self.counts.compressions += 1;
        let computation = Computation::of(input.len(), move || -> Compressed {
            Some(compress::compress(coding, level, &input).ok()?.into())
        });
        ops.submit(token(job), Op::Compute(computation));
    }

    /// Caches a job's result and wakes the waiting sessions.
    fn settle(&mut self, key: Box<[u8]>, waiters: SmallVec<[Waiter; 2]>, result: Result<Found, Fault>, now: Time) {
        self.under_way.remove(&key);
        self.woken.extend(waiters);
        match result {
            Ok(found) => {
                self.faults.remove(&key);
                self.keep(key, found, now);
            }
            Err(fault) => {
                if matches!(fault, Fault::Os(libc::EMFILE | libc::ENFILE)) {
                    // Cached open files must not be the reason that others cannot be opened.
                    self.close_down_to(0);
                }
                if fault.is_momentary() {
                    // For the waiting sessions only, not cached: the next try may succeed.
                    tracing::warn!(path = %path_of(&key).escape_ascii(), %fault, "cannot read a file or folder: the next request tries again");
                    self.passing.insert(key, Err(fault));
                } else {
                    let kept = self.cache.remove(&key);
                    self.let_go(kept);
                    let bytes = key.len();
                    self.faults.insert(key, (fault, now), bytes, now, &mut Vec::new());
                }
            }
        }
    }

    fn keep(&mut self, key: Box<[u8]>, found: Found, now: Time) {
        let bytes = key.len() + found.memory();
        if bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            let kept = self.cache.remove(&key);
            self.let_go(kept);
            self.passing.insert(key, Ok(found));
            return;
        }
        self.open += u32::from(found.is_open());
        let mut evicted = Vec::new();
        self.cache.insert(key, Kept { found, since: now }, bytes, now, &mut evicted);
        self.let_go(evicted);
        // The newest file is kept: the session that requested it has yet to get it.
        self.close_down_to(self.limits.open_max.max(1));
    }

    /// Drops the least recently used results until at most `open_max` are open files. The next pump
    /// closes those that are not being sent.
    fn close_down_to(&mut self, open_max: u32) {
        while self.open > open_max {
            let Some(evicted) = self.cache.evict_one() else { break };
            self.let_go([evicted]);
        }
    }

    /// Updates the count of open files for dropped results.
    fn let_go(&mut self, gone: impl IntoIterator<Item = Kept>) {
        let open = gone.into_iter().filter(|kept| kept.found.is_open()).count();
        self.open = self.open.saturating_sub(open as u32);
    }
}

/// The limits of the caches: of results, and of errors.
fn bounds(limits: StoreLimits) -> (cache::Limits, cache::Limits) {
    let StoreLimits { entries_max, bytes_max, valid_for, idle_for, .. } = limits;
    let results = cache::Limits { entries_max, bytes_max, valid_for, idle_for };
    (results, cache::Limits { entries_max: FAULTS_MAX, ..results })
}

#[cfg(test)]
mod tests;
