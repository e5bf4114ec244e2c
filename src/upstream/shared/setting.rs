//! What an operator has set for an endpoint. The supervisor stores it, and each worker reads it when it
//! picks an endpoint. Setting something does not end requests in progress.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What an operator has set for an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum OperatorState {
    /// Nothing: health checks and failed requests decide.
    #[default]
    Auto,
    /// It takes requests, whatever checks and failed requests say.
    Up,
    /// It takes no requests, as if its health checks failed.
    Down,
    /// It takes no further requests, not even those whose cookie names it.
    Drain,
}

impl OperatorState {
    const ALL: [Self; 4] = [Self::Auto, Self::Up, Self::Down, Self::Drain];

    /// Its name for operators.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
        }
    }

    /// Whether no request goes to the endpoint.
    pub const fn excludes(self) -> bool {
        matches!(self, Self::Down | Self::Drain)
    }
}

/// What an operator has set for an endpoint, for all workers.
#[derive(Debug)]
pub struct OperatorSetting {
    state: AtomicU8,
    /// Instead of the configured weight; [`NO_WEIGHT`]: that one.
    weight: AtomicU64,
}

const NO_WEIGHT: u64 = u64::MAX;

impl Default for OperatorSetting {
    /// Nothing is set.
    fn default() -> Self {
        Self { state: AtomicU8::new(OperatorState::Auto as u8), weight: AtomicU64::new(NO_WEIGHT) }
    }
}

impl OperatorSetting {
    /// The state that is set.
    pub fn state(&self) -> OperatorState {
        let state = self.state.load(Ordering::Relaxed);
        OperatorState::ALL.get(usize::from(state)).copied().unwrap_or_default()
    }

    /// The weight that is set instead of the configured one.
    pub fn weight(&self) -> Option<u32> {
        u32::try_from(self.weight.load(Ordering::Relaxed)).ok()
    }

    /// Sets the state.
    pub fn set_state(&self, state: OperatorState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Sets the weight; `None`: the configured one.
    pub fn set_weight(&self, weight: Option<u32>) {
        self.weight.store(weight.map_or(NO_WEIGHT, u64::from), Ordering::Relaxed);
    }
}
