//! The optional features of the `uring` driver.
//!
//! Each has a name, so that it can be probed, switched off (`--uring-off`), measured, and tested in
//! its absence on a kernel that has it.

use std::fmt;
use std::str::FromStr;

/// An optional feature. The driver works without any of them, but is slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Feature {
    /// `IORING_SETUP_DEFER_TASKRUN` with `SINGLE_ISSUER` (Linux 6.1): the kernel processes
    /// completions in batches when the worker enters the ring. Without it: `COOP_TASKRUN`.
    DeferTaskrun,
    /// `IORING_SETUP_NO_SQARRAY` (Linux 6.6): one indirection less per submission.
    NoSqArray,
    /// `IORING_REGISTER_RING_FDS` (Linux 5.18): saves a descriptor lookup at each enter.
    RegisteredRing,
    /// `IORING_ACCEPT_POLL_FIRST` (Linux 6.10): an accept waits for readiness, also on a
    /// non-blocking listener. Without it: a poll, then `accept4(2)`.
    AcceptPollFirst,
    /// `IORING_ACCEPT_MULTISHOT` (Linux 5.19): one submission accepts many connections; needs
    /// `accept-poll-first`. Without it: one submission per connection.
    AcceptMultishot,
    /// `IORING_RECV_MULTISHOT` (Linux 6.0): one submission receives many times; needs `buffer-ring`.
    RecvMultishot,
    /// `IORING_REGISTER_PBUF_RING` (Linux 5.19): the kernel picks a buffer when bytes arrive.
    /// Without it: wait for readiness, then receive into a buffer.
    BufferRing,
    /// Sockets that receive bulk data switch to large receive buffers.
    LargeBuffers,
    /// `IORING_OP_OPENAT2` (Linux 5.6) through the ring. Without it: on an offload thread if the
    /// open may block.
    RingOpen,
    /// `IORING_OP_CLOSE` (Linux 5.6) through the ring. Without it: `close(2)`.
    RingClose,
    /// `IORING_OP_CONNECT` (Linux 5.5) through the ring. Without it: `connect(2)` and a poll.
    RingConnect,
}

impl Feature {
    /// Every feature, in display order.
    pub const ALL: [Self; 11] = [
        Self::DeferTaskrun,
        Self::NoSqArray,
        Self::RegisteredRing,
        Self::AcceptPollFirst,
        Self::AcceptMultishot,
        Self::RecvMultishot,
        Self::BufferRing,
        Self::LargeBuffers,
        Self::RingOpen,
        Self::RingClose,
        Self::RingConnect,
    ];

    /// The name that `--uring-off` takes and `xps probe` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeferTaskrun => "defer-taskrun",
            Self::NoSqArray => "no-sqarray",
            Self::RegisteredRing => "registered-ring",
            Self::AcceptPollFirst => "accept-poll-first",
            Self::AcceptMultishot => "accept-multishot",
            Self::RecvMultishot => "recv-multishot",
            Self::BufferRing => "buffer-ring",
            Self::LargeBuffers => "large-buffers",
            Self::RingOpen => "ring-open",
            Self::RingClose => "ring-close",
            Self::RingConnect => "ring-connect",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not the name of a feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such feature; the features are {}", Feature::ALL.map(Feature::name).join(", "))]
pub struct UnknownFeature;

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, UnknownFeature> {
        Self::ALL.into_iter().find(|feature| feature.name() == name).ok_or(UnknownFeature)
    }
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet(u32);

impl FeatureSet {
    /// No feature.
    pub const NONE: Self = Self(0);

    /// Every feature.
    pub const ALL: Self = Self((1 << Feature::ALL.len()) - 1);

    /// Whether the feature is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// The set with this feature.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// The set without this feature.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u32))
    }

    /// The features in this set that are not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The features in the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

impl fmt::Display for FeatureSet {
    /// The form that `--uring-off` takes: names, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, feature) in self.iter().enumerate() {
            write!(f, "{}{feature}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromIterator<Feature> for FeatureSet {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_feature() {
        for feature in Feature::ALL {
            assert_eq!(feature.name().parse(), Ok(feature));
        }
        assert!("io-uring-but-faster".parse::<Feature>().is_err());
    }

    #[test]
    fn sets_add_and_subtract() {
        let set: FeatureSet = [Feature::BufferRing, Feature::RingOpen].into_iter().collect();
        assert_eq!(FeatureSet::ALL.minus(set).iter().count(), Feature::ALL.len() - 2);
        assert_eq!(set.without(Feature::RingOpen).iter().collect::<Vec<_>>(), [Feature::BufferRing]);
    }
}
