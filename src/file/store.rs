//! The files that one worker has at hand: open ones, small ones in memory, and what is on its way.
//!
//! ```text
//!               Opened                  large: kept open           last user gone          Done
//!   Opening ─────────────► Opened ──────────────────────► (cache) ─────────────► Closing ───────► gone
//!      │ Failed               │ small                        ▲
//!      ▼                      └─────► Reading ───────────────┘ in memory
//!   told, and known for a while                                ▲
//!   Listing, Fetching ──► Compressing ─────────────────────────┘
//! ```
//!
//! It is asked, and asked again: a session that needs something not at hand is told to wait, is pumped
//! when it has come, and asks anew. So a request that needs several look-ups is one function of what is
//! at hand, not a machine with a state for each.
//!
//! A result is used for a validity time; then the path is opened again, and if it leads to the same
//! file, unchanged, what is in memory stays. One look-up serves all who wait for it. It does not know
//! what files are for.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::cache::{self, Cache};
use super::compress::{self, Coding, Level};
use super::resource::Released;
pub use super::resource::{Content, OpenFile, Prepared, Resource};
use crate::driver::{Computation, Fault, File, FileInfo, FileKind, FolderEntry, Op, Ops, Outcome, Root, Time, Token};
use crate::table::{Key, Table};

/// The kind that marks the store's tokens.
pub const STORE: u8 = 2;

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// For how long a result is used before the path is opened again.
    pub valid_for: Duration,
    /// How long after its last use a result is kept; a large file stays open for so long.
    pub idle_for: Duration,
    /// Files up to so many bytes are kept in memory, larger ones open.
    pub small_bytes_max: u64,
    /// The most results kept.
    pub entries_max: u32,
    /// The most files kept open that nobody is being sent: connections need descriptors, too.
    pub open_max: u32,
    /// The most bytes of memory that results may hold.
    pub bytes_max: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            valid_for: Duration::from_secs(1),
            idle_for: Duration::from_secs(20),
            small_bytes_max: 32 << 10,
            entries_max: 4096,
            open_max: 4096,
            bytes_max: 64 << 20,
        }
    }
}

/// The most failed look-ups that are remembered, apart from the others, so that a client who asks for
/// what is not there cannot push out what is.
const FAULTS_MAX: u32 = 512;

/// Files up to so many bytes are read into memory to be compressed.
const FETCH_BYTES_MAX: u64 = 8 << 20;

/// Idle results are looked for in portions of so many.
const SWEEP_MAX: usize = 64;

/// Where paths begin: a root, and its number among the roots of this worker.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder that no path leaves.
    pub root: Arc<Root>,
    /// Distinguishes the same path under different roots.
    pub number: u16,
}

/// The answer of a store.
#[derive(Debug)]
pub enum Lookup<T> {
    /// It is at hand, or known not to be had.
    Found(Result<T, Fault>),
    /// It will be; the session that asked is woken then, and asks again.
    Pending,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry {
    /// The session to wake.
    pub waiter: Key,
    /// The time of this turn.
    pub now: Time,
    /// When the request began: what was looked up after that is good enough for it, however slow the rest is.
    pub since: Time,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    cache: Cache<Box<[u8]>, Kept>,
    faults: Cache<Box<[u8]>, (Fault, Time)>,
    jobs: Table<Job>,
    /// Jobs under way, by what they are to find.
    under_way: HashMap<Box<[u8]>, Key>,
    /// Jobs with an outcome to act on.
    dirty: Vec<Key>,
    released: Released,
    woken: Vec<Key>,
    /// Open files among the cache's.
    open: u32,
    /// Results that are not to be kept, for those who are woken in this turn.
    passing: HashMap<Box<[u8]>, Result<Found, Fault>>,
}

#[derive(Clone, Debug)]
struct Kept {
    found: Found,
    since: Time,
}

#[derive(Clone, Debug)]
enum Found {
    Resource(Rc<Resource>),
    Folder(Rc<[FolderEntry]>),
}

#[derive(Debug)]
struct Job {
    key: Box<[u8]>,
    waiters: SmallVec<[Key; 2]>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Opening {
        previous: Option<Rc<Resource>>,
    },
    Opened {
        previous: Option<Rc<Resource>>,
        file: File,
        info: FileInfo,
    },
    /// The file is held open for the kernel, which reads it.
    Reading {
        _file: OpenFile,
        info: FileInfo,
    },
    Listing,
    /// Reading a large file to compress it.
    Fetching {
        source: Rc<Resource>,
        coding: Coding,
        level: Level,
    },
    Fetched {
        source: Rc<Resource>,
        coding: Coding,
        level: Level,
        bytes: Arc<[u8]>,
    },
    Compressing {
        source: Rc<Resource>,
        coding: Coding,
    },
    Closing,
}

/// What a key is about, its first byte.
#[derive(Clone, Copy, Debug)]
enum Aspect {
    Plain,
    Folder,
    Coded(Coding),
}

type CacheKey = SmallVec<[u8; 160]>;

impl Store {
    /// A store with nothing in it.
    pub fn new(limits: StoreLimits) -> Self {
        let bounds = cache::Limits {
            entries_max: limits.entries_max,
            bytes_max: limits.bytes_max,
            valid_for: limits.valid_for,
            idle_for: limits.idle_for,
        };
        Self {
            limits,
            cache: Cache::new(bounds),
            faults: Cache::new(cache::Limits { entries_max: FAULTS_MAX, bytes_max: limits.bytes_max, ..bounds }),
            jobs: Table::new(),
            under_way: HashMap::new(),
            dirty: Vec::new(),
            released: Released::default(),
            woken: Vec::new(),
            open: 0,
            passing: HashMap::new(),
        }
    }

    /// What a path leads to.
    pub fn get(&mut self, place: &Place, path: &CStr, inquiry: Inquiry, ops: &mut Ops) -> Lookup<Rc<Resource>> {
        let key = key_of(place, Aspect::Plain, path);
        let previous = match self.at_hand(&key, inquiry) {
            AtHand::Good(Found::Resource(resource)) => return Lookup::Found(Ok(resource)),
            AtHand::Fault(fault) => return Lookup::Found(Err(fault)),
            AtHand::Old(Found::Resource(resource)) => Some(resource),
            AtHand::Good(Found::Folder(_)) | AtHand::Old(Found::Folder(_)) | AtHand::Nothing => None,
        };
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, Step::Opening { previous }) {
            ops.submit(token(job), Op::Open { root: Arc::clone(&place.root), path: CString::from(path) });
        }
        Lookup::Pending
    }

    /// What lies in a folder.
    pub fn list(&mut self, place: &Place, path: &CStr, inquiry: Inquiry, ops: &mut Ops) -> Lookup<Rc<[FolderEntry]>> {
        let key = key_of(place, Aspect::Folder, path);
        match self.at_hand(&key, inquiry) {
            AtHand::Good(Found::Folder(entries)) => return Lookup::Found(Ok(entries)),
            AtHand::Fault(fault) => return Lookup::Found(Err(fault)),
            AtHand::Old(_) | AtHand::Good(Found::Resource(_)) | AtHand::Nothing => {}
        }
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, Step::Listing) {
            ops.submit(token(job), Op::List { root: Arc::clone(&place.root), path: CString::from(path) });
        }
        Lookup::Pending
    }

    /// A file's content compressed, or the file as it is where that is not worth it.
    pub fn coded(
        &mut self,
        place: &Place,
        path: &CStr,
        (coding, level): (Coding, Level),
        source: &Rc<Resource>,
        inquiry: Inquiry,
        ops: &mut Ops,
    ) -> Lookup<Rc<Resource>> {
        let key = key_of(place, Aspect::Coded(coding), path);
        // However old: what was made of the same file's same bytes is the same.
        if let AtHand::Good(Found::Resource(coded)) | AtHand::Old(Found::Resource(coded)) = self.at_hand(&key, inquiry)
            && coded.info == source.info
        {
            return Lookup::Found(Ok(coded));
        }
        let source = Rc::clone(source);
        let step = match &source.content {
            Content::Memory(bytes) => {
                let bytes = Arc::clone(bytes);
                Step::Fetched { source, coding, level, bytes }
            }
            Content::File(_) if source.info.size <= FETCH_BYTES_MAX => Step::Fetching { source, coding, level },
            Content::File(_) | Content::Folder | Content::Special => return Lookup::Found(Ok(source)),
        };
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, step) {
            match self.jobs.get(job).map(|job| &job.step) {
                Some(Step::Fetching { source, .. }) => {
                    if let Content::File(open) = &source.content {
                        let length = source.info.size as usize;
                        ops.submit(token(job), Op::Read { file: open.file(), offset: 0, length });
                    }
                }
                _ => self.compress(job, ops),
            }
        }
        Lookup::Pending
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, job: Key, outcome: Outcome, now: Time) {
        let Some(Job { key, waiters, step }) = self.jobs.remove(job) else { return };
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
                    step: Step::Fetched { source, coding, level, bytes: bytes.into() },
                });
            }
            (Step::Reading { info, .. }, Outcome::Read(bytes)) if bytes.len() as u64 == info.size => {
                Ok(Found::Resource(Rc::new(Resource::new(info, None, Content::Memory(bytes.into())))))
            }
            (Step::Compressing { source, coding }, Outcome::Computed(bytes)) => {
                let is_smaller = compress::is_worth_sending(source.info.size, bytes.len() as u64) && !bytes.is_empty();
                Ok(Found::Resource(if is_smaller {
                    Rc::new(Resource::new(source.info, Some(coding), Content::Memory(bytes.into())))
                } else {
                    source
                }))
            }
            (Step::Listing, Outcome::Listed(entries)) => Ok(Found::Folder(entries.into())),
            // It changed between the asking for its size and the reading.
            (Step::Fetching { .. } | Step::Reading { .. }, Outcome::Read(_)) => Err(Fault::FileTruncated),
            (_, Outcome::Failed(fault)) => Err(fault),
            (step, outcome) => {
                crate::tcp::unexpected("store", &step, &outcome, token(job));
                Err(Fault::Os(libc::EIO))
            }
        };
        self.settle(key, waiters, result, now);
    }

    /// Emits what is wanted now: closes what nobody uses, reads and compresses what was opened and read.
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
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

    /// The sessions that were told to wait, and need not any more.
    pub fn take_woken(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.woken)
    }

    /// Lets go of results that nobody has used for a while.
    pub fn sweep(&mut self, now: Time) {
        let mut evicted = Vec::new();
        self.cache.sweep(now, SWEEP_MAX, &mut evicted);
        self.let_go(evicted);
        self.faults.sweep(now, SWEEP_MAX, &mut Vec::new());
    }

    /// When [`Store::sweep`] has something to do.
    pub fn next_sweep(&self) -> Option<Time> {
        [self.cache.next_sweep(), self.faults.next_sweep()].into_iter().flatten().min()
    }

    /// Lets go of everything; the next pump closes what nobody is being sent.
    pub fn clear(&mut self) {
        self.cache.clear(&mut Vec::new());
        self.open = 0;
        self.faults.clear(&mut Vec::new());
        self.passing.clear();
    }

    /// Whether nothing is open and nothing under way.
    pub fn is_at_rest(&self) -> bool {
        self.cache.is_empty() && self.jobs.is_empty() && self.released.borrow().is_empty()
    }

    /// Whether the key names a job under way.
    pub fn has_job(&self, job: Key) -> bool {
        self.jobs.contains(job)
    }

    /// The sessions that wait for something under way.
    pub fn waiters(&self) -> impl Iterator<Item = Key> + '_ {
        self.jobs.iter().flat_map(|(_, job)| job.waiters.iter().copied())
    }

    fn at_hand(&mut self, key: &[u8], inquiry: Inquiry) -> AtHand {
        match self.passing.get(key) {
            Some(Ok(found)) => return AtHand::Good(found.clone()),
            Some(Err(fault)) => return AtHand::Fault(*fault),
            None => {}
        }
        let is_good = |since: Time| since >= inquiry.since;
        match self.faults.get(key, inquiry.now) {
            cache::Lookup::Fresh((fault, _)) => return AtHand::Fault(*fault),
            cache::Lookup::Stale((fault, since)) if is_good(*since) => return AtHand::Fault(*fault),
            cache::Lookup::Stale(_) | cache::Lookup::Absent => {}
        }
        match self.cache.get(key, inquiry.now) {
            cache::Lookup::Fresh(kept) => AtHand::Good(kept.found.clone()),
            cache::Lookup::Stale(kept) if is_good(kept.since) => AtHand::Good(kept.found.clone()),
            cache::Lookup::Stale(kept) => AtHand::Old(kept.found.clone()),
            cache::Lookup::Absent => AtHand::Nothing,
        }
    }

    /// Has the session wait for a job that is under way; else starts one, whose operation is the caller's to submit.
    fn join_or_start(&mut self, key: &[u8], waiter: Key, step: Step) -> Option<Key> {
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

    /// The job's next step, to be taken by the pump.
    fn go_on(&mut self, job: Job) {
        let name = job.key.clone();
        let key = self.jobs.insert(job);
        self.under_way.insert(name, key);
        self.dirty.push(key);
    }

    /// Decides what becomes of a file that was opened.
    fn take_in(&mut self, job: Key, now: Time, ops: &mut Ops) {
        let Some(Job { key, waiters, step }) = self.jobs.remove(job) else { return };
        let Step::Opened { previous, file, info } = step else { return };
        let open = OpenFile::new(file, Rc::clone(&self.released));
        let resource = match (previous, info.kind) {
            (Some(previous), _) if previous.info == info => previous,
            (_, FileKind::Directory) => Rc::new(Resource::new(info, None, Content::Folder)),
            (_, FileKind::Special) => Rc::new(Resource::new(info, None, Content::Special)),
            (_, FileKind::Regular) if info.size == 0 => {
                Rc::new(Resource::new(info, None, Content::Memory(Arc::new([]))))
            }
            (_, FileKind::Regular) if info.size <= self.limits.small_bytes_max => {
                let name = key.clone();
                let job = self.jobs.insert(Job { key, waiters, step: Step::Reading { _file: open, info } });
                self.under_way.insert(name, job);
                ops.submit(token(job), Op::Read { file, offset: 0, length: info.size as usize });
                return;
            }
            (_, FileKind::Regular) => Rc::new(Resource::new(info, None, Content::File(open))),
        };
        self.settle(key, waiters, Ok(Found::Resource(resource)), now);
    }

    fn compress(&mut self, job: Key, ops: &mut Ops) {
        let Some(Job { step, .. }) = self.jobs.get_mut(job) else { return };
        let Step::Fetched { source, coding, level, bytes } = step else { return };
        let (source, coding, level, bytes) = (Rc::clone(source), *coding, *level, Arc::clone(bytes));
        *step = Step::Compressing { source, coding };
        let computation = Computation::new(move || {
            // An empty result is not worth sending, so the file goes out as it is.
            compress::compress(coding, level, &bytes).unwrap_or_default()
        });
        ops.submit(token(job), Op::Compute(computation));
    }

    /// Keeps a job's result, and wakes those who wait for it.
    fn settle(&mut self, key: Box<[u8]>, waiters: SmallVec<[Key; 2]>, result: Result<Found, Fault>, now: Time) {
        self.under_way.remove(&key);
        self.woken.extend(waiters);
        match result {
            Ok(found) => {
                self.faults.remove(&key);
                self.keep(key, found, now);
            }
            Err(fault) => {
                let kept = self.cache.remove(&key);
                self.let_go(kept);
                if matches!(fault, Fault::Os(libc::EMFILE | libc::ENFILE)) {
                    // Files at hand must not be why others cannot be opened; and the next attempt may well succeed.
                    self.close_down_to(0);
                    self.passing.insert(key, Err(fault));
                } else {
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
        // The one that came just now is the last to go: whoever asked for it has yet to get it.
        self.close_down_to(self.limits.open_max.max(1));
    }

    /// Lets the least recently used results go until so few of them are open files. The next pump closes those that
    /// nobody is being sent from.
    fn close_down_to(&mut self, open_max: u32) {
        while self.open > open_max {
            let Some(evicted) = self.cache.evict_one() else { break };
            self.let_go([evicted]);
        }
    }

    /// Counts what has left the cache, and drops it.
    fn let_go(&mut self, gone: impl IntoIterator<Item = Kept>) {
        let open = gone.into_iter().filter(|kept| kept.found.is_open()).count();
        self.open = self.open.saturating_sub(open as u32);
    }
}

/// What is known of a key.
enum AtHand {
    Good(Found),
    Old(Found),
    Fault(Fault),
    Nothing,
}

impl Found {
    /// Whether it holds a descriptor.
    fn is_open(&self) -> bool {
        matches!(self, Self::Resource(resource) if matches!(resource.content, Content::File(_)))
    }

    /// Bytes of memory, about: of a small file three times its size, since it is kept as responses, too.
    fn memory(&self) -> usize {
        match self {
            Self::Resource(resource) => match &resource.content {
                Content::Memory(bytes) => 512 + 3 * bytes.len(),
                Content::File(_) | Content::Folder | Content::Special => 512,
            },
            Self::Folder(entries) => entries.iter().map(|entry| 96 + entry.name.len()).sum(),
        }
    }
}

fn token(job: Key) -> Token {
    Token { machine: job, kind: STORE, slot: 0 }
}

fn key_of(place: &Place, aspect: Aspect, path: &CStr) -> CacheKey {
    let mut key = CacheKey::new();
    key.push(match aspect {
        Aspect::Plain => b'p',
        Aspect::Folder => b'f',
        Aspect::Coded(Coding::Gzip) => b'g',
        Aspect::Coded(Coding::Brotli) => b'b',
        Aspect::Coded(Coding::Zstd) => b'z',
    });
    key.extend_from_slice(&place.number.to_ne_bytes());
    key.extend_from_slice(path.to_bytes());
    key
}

#[cfg(test)]
mod tests;
