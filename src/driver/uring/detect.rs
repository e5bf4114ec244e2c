//! Which optional features this kernel has, found out by trying each.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::accept;
use super::buffer_ring::BufferRing;
use crate::buffer::{Pool, PoolConfig, SizeClass};
use crate::driver::{Feature, FeatureSet};

const PROBE_ENTRIES: u32 = 4;
const PROBE_GROUP: u16 = 0;

/// The optional features that this kernel grants this process. None at all if it grants no ring.
pub fn kernel_features() -> FeatureSet {
    let mut features = FeatureSet::NONE;
    let Ok(ring) = super::ring::Ring::new(PROBE_ENTRIES, PROBE_ENTRIES, FeatureSet::ALL) else { return features };
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
    for feature in accepting().unwrap_or(FeatureSet::NONE).iter() {
        features = features.with(feature);
    }
    for feature in receiving().unwrap_or(FeatureSet::NONE).iter() {
        features = features.with(feature);
    }
    features
}

/// Tries accepts that poll first, on a listener that does not wait: a kernel without them refuses the entry at once.
fn accepting() -> io::Result<FeatureSet> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let listener = types::Fd(listener.as_raw_fd());
    let mut ring = IoUring::new(PROBE_ENTRIES)?;
    let mut waits = |is_multishot| -> io::Result<bool> {
        Ok(refusal(&mut ring, accept::trial(listener, is_multishot))? == Some(libc::ECANCELED))
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
fn receiving() -> io::Result<FeatureSet> {
    let mut ring = IoUring::new(PROBE_ENTRIES)?;
    let pool = Pool::new(PoolConfig { small_max: 1, large_max: 1, ..PoolConfig::default() });
    let Ok(mut buffers) = BufferRing::new(&ring.submitter(), PROBE_GROUP, SizeClass::Small, 1, 1) else {
        return Ok(FeatureSet::NONE);
    };
    buffers.refill(&pool);
    let (ours, _theirs) = UnixStream::pair()?;
    let entry = opcode::RecvMulti::new(types::Fd(ours.as_raw_fd()), PROBE_GROUP).build();
    let refused = refusal(&mut ring, entry)?;
    buffers.close(&ring.submitter(), &pool)?;
    let features = FeatureSet::NONE.with(Feature::BufferRing).with(Feature::LargeBuffers);
    Ok(if refused == Some(libc::EINVAL) { features } else { features.with(Feature::RecvMultishot) })
}

/// Submits an entry that has nothing to do yet, and cancels it: the error with which it ended, if it did.
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
