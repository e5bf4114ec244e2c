//! Detects which optional features the kernel has, by trying each.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::accept;
use super::buffer_ring::BufferRing;
use super::ring::Ring;
use super::size::{is_out_of_memory, patiently};
use crate::buffer::{Pool, PoolConfig, SizeClass};
use crate::driver::{Feature, FeatureSet};

const PROBE_ENTRIES: u32 = 4;
const PROBE_GROUP: u16 = 0;

/// Retries of a trial that fails with ENOMEM.
const TRIES_MAX: u32 = 10;

/// How long to wait for a no-op, which completes at once.
const ENTER_MAX: Duration = Duration::from_secs(5);

/// The detected features, once detected: they do not change.
static FOUND: OnceLock<FeatureSet> = OnceLock::new();

/// The optional features that the kernel grants this process. Empty if it creates no ring.
pub fn kernel_features() -> FeatureSet {
    // A trial that ran out of memory is not cached: the next call may have the memory.
    FOUND.get().copied().or_else(|| patiently(TRIES_MAX, find).ok()).unwrap_or(FeatureSet::NONE)
}

fn find() -> io::Result<FeatureSet> {
    let mut features = FeatureSet::NONE;
    let ring = Ring::new(PROBE_ENTRIES, PROBE_ENTRIES, FeatureSet::ALL)?;
    for feature in ring.features().iter() {
        features = features.with(feature);
    }
    let mut probe = io_uring::Probe::new();
    if ring.submitter().register_probe(&mut probe).is_ok() {
        let operations = [
            (Feature::RingOpen, opcode::OpenAt2::CODE),
            (Feature::RingClose, opcode::Close::CODE),
            (Feature::RingConnect, opcode::Connect::CODE),
        ];
        for (feature, code) in operations {
            if probe.is_supported(code) {
                features = features.with(feature);
            }
        }
    }
    drop(ring);
    let mut ring = IoUring::new(PROBE_ENTRIES)?;
    for trial in [accepting, receiving] {
        match trial(&mut ring) {
            Err(error) if is_out_of_memory(&error) => return Err(error),
            found => features = found.unwrap_or(FeatureSet::NONE).iter().fold(features, FeatureSet::with),
        }
    }
    Ok(*FOUND.get_or_init(|| features))
}

/// Why io_uring cannot be used, and what failed.
#[derive(Debug)]
pub struct Refused {
    /// The call that failed, or what the kernel lacks.
    pub what: What,
    /// The kernel's error.
    pub error: io::Error,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A system call.
    Call(&'static str),
    /// A feature that the driver requires.
    Lacking(&'static str),
}

/// Creates a ring and uses it, with all three system calls: each may be forbidden on its own.
pub fn try_out() -> Result<(), Refused> {
    let refused = |what| move |error| Refused { what: What::Call(what), error };
    let lacking = |what| Refused { what: What::Lacking(what), error: io::Error::from_raw_os_error(libc::EINVAL) };
    let ring = patiently(TRIES_MAX, || IoUring::new(PROBE_ENTRIES)).map_err(refused("io_uring_setup"))?;
    let parameters = ring.params();
    let required = [
        (parameters.is_feature_nodrop(), "completions that are never dropped (Linux 5.5)"),
        (parameters.is_feature_fast_poll(), "fast poll (Linux 5.7)"),
        (parameters.is_feature_ext_arg(), "waiting with a time-out (Linux 5.11)"),
    ];
    if let Some((_, what)) = required.iter().find(|(has, _)| !has) {
        return Err(lacking(what));
    }
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused("io_uring_register"))?;
    let operations = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::Read::CODE, "read"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ];
    if let Some((_, name)) = operations.iter().find(|(code, _)| !probe.is_supported(*code)) {
        return Err(lacking(name));
    }
    drop(ring);
    let mut ring = patiently(TRIES_MAX, || Ring::new(PROBE_ENTRIES, PROBE_ENTRIES, FeatureSet::ALL))
        .map_err(refused("io_uring_setup"))?;
    // SAFETY: the entry points to nothing.
    unsafe { ring.push(opcode::Nop::new().build()) };
    ring.enter(Some(ENTER_MAX)).map_err(refused("io_uring_enter"))?;
    if ring.has_completions() {
        Ok(())
    } else {
        Err(lacking("completions: an operation that does nothing did not end"))
    }
}

/// Tries accepts that poll first, on a non-blocking listener: a kernel without them rejects the
/// entry at once.
fn accepting(ring: &mut IoUring) -> io::Result<FeatureSet> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let listener = types::Fd(listener.as_raw_fd());
    let mut waits = |is_multishot| -> io::Result<bool> {
        Ok(refusal(ring, accept::trial(listener, is_multishot))? == Some(libc::ECANCELED))
    };
    let mut features = FeatureSet::NONE;
    if waits(false)? {
        features = features.with(Feature::AcceptPollFirst);
        if waits(true)? {
            features = features.with(Feature::AcceptMultishot);
        }
    }
    Ok(features)
}

/// Tries a buffer ring, and a multishot receive from it.
fn receiving(ring: &mut IoUring) -> io::Result<FeatureSet> {
    let pool = Pool::new(PoolConfig { small_max: 1, large_max: 1, ..PoolConfig::default() });
    let mut buffers = BufferRing::new(&ring.submitter(), PROBE_GROUP, SizeClass::Small, 1, 1)?;
    buffers.refill(&pool);
    let (ours, _theirs) = UnixStream::pair()?;
    let entry = opcode::RecvMulti::new(types::Fd(ours.as_raw_fd()), PROBE_GROUP).build();
    let refused = refusal(ring, entry)?;
    buffers.close(&ring.submitter(), &pool)?;
    let features = FeatureSet::NONE.with(Feature::BufferRing).with(Feature::LargeBuffers);
    Ok(if refused == Some(libc::EINVAL) { features } else { features.with(Feature::RecvMultishot) })
}

/// Submits an entry that has to wait, and cancels it. Returns the error with which it ended, if
/// any.
fn refusal(ring: &mut IoUring, entry: squeue::Entry) -> io::Result<Option<i32>> {
    const TRIED: u64 = 1;
    const CANCEL: u64 = 2;
    let cancel = opcode::AsyncCancel::new(TRIED).build().user_data(CANCEL);
    for entry in [entry.user_data(TRIED), cancel] {
        // SAFETY: the entry's descriptor is open until it has ended, and it points to nothing.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    }
    let mut result = None;
    let mut waiting = 2;
    while waiting > 0 {
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            if completion.user_data() == TRIED {
                result = Some(completion.result()).filter(|result| *result < 0).map(|result| -result).or(result);
            }
            if !cqueue::more(completion.flags()) {
                waiting -= 1;
            }
        }
    }
    Ok(result)
}
