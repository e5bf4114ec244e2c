//! The faults that a run injects, and how often.

use std::time::Duration;

use super::rng::{Chance, Rng};
use crate::buffer::PoolConfig;

/// The fault settings of one run. A chance is drawn at each occasion: each delivery, each
/// connection.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Received bytes are delivered in pieces of any size.
    pub short_reads: Chance,
    /// The kernel takes a send in pieces of any size.
    pub short_writes: Chance,
    /// A peer resets its connection at a random moment.
    pub resets: Chance,
    /// A connect is refused, or times out in the kernel.
    pub connect_failures: Chance,
    /// A connect takes up to a few seconds.
    pub connect_delays: Chance,
    /// Resolving a name fails, or takes long.
    pub resolver_failures: Chance,
    /// A name has addresses without a server, ahead of its own.
    pub dead_addresses: Chance,
    /// A peer reads small pieces with pauses between them.
    pub slow_peers: Chance,
    /// A peer does not read for a while.
    pub stalled_peers: Chance,
    /// A file cannot be opened.
    pub open_failures: Chance,
    /// A file becomes shorter while it is being sent.
    pub truncations: Chance,
    /// Accepting pauses, as after `EMFILE`, though a descriptor is free.
    pub accept_pauses: Chance,
    /// A receive has to wait for a buffer, though one is free.
    pub buffer_shortages: Chance,
    /// A turn returns without any event.
    pub empty_turns: Chance,
    /// Descriptors that may be open at a time, besides listeners.
    pub descriptors_max: usize,
    /// The longest delay of an event without an injected fault.
    pub latency_max: Duration,
    /// Bytes that one direction of a connection holds between writer and reader; at least one.
    pub socket_buffer_bytes: usize,
    /// Completions of one turn, at most; at least one.
    pub batch_max: usize,
    /// The pool of receive buffers.
    pub pool: PoolConfig,
}

/// How many faults were injected that may cost bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Connections that the peer reset.
    pub resets: u64,
    /// Connects that failed.
    pub connects: u64,
    /// Names that were not resolved.
    pub resolves: u64,
    /// Files that could not be opened.
    pub opens: u64,
    /// Files that were truncated.
    pub truncations: u64,
    /// Connects and opens that failed for lack of a descriptor.
    pub descriptors: u64,
}

impl Injected {
    /// The sum of all.
    pub const fn total(&self) -> u64 {
        self.resets + self.connects + self.resolves + self.opens + self.truncations + self.descriptors
    }
}

impl Faults {
    /// No faults; only the order of events is arbitrary.
    pub const fn none() -> Self {
        Self {
            short_reads: Chance::NEVER,
            short_writes: Chance::NEVER,
            resets: Chance::NEVER,
            connect_failures: Chance::NEVER,
            connect_delays: Chance::NEVER,
            resolver_failures: Chance::NEVER,
            dead_addresses: Chance::NEVER,
            slow_peers: Chance::NEVER,
            stalled_peers: Chance::NEVER,
            open_failures: Chance::NEVER,
            truncations: Chance::NEVER,
            accept_pauses: Chance::NEVER,
            buffer_shortages: Chance::NEVER,
            empty_turns: Chance::NEVER,
            descriptors_max: 1024,
            latency_max: Duration::from_micros(200),
            socket_buffer_bytes: 64 << 10,
            batch_max: 64,
            pool: PoolConfig { small_bytes: 4 << 10, large_bytes: 16 << 10, small_max: 256, large_max: 64 },
        }
    }

    /// A different mix for each seed: some faults off, the others of any strength. With all faults
    /// at once, one would hide another.
    pub fn random(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0xfa17);
        let mut maybe = |strongest: u64| match rng.below(2) {
            0 => Chance::NEVER,
            _ => Chance::per_mille(rng.range(1, strongest) as u16),
        };
        let calm = Self {
            short_reads: maybe(900),
            short_writes: maybe(900),
            resets: maybe(400),
            connect_failures: maybe(400),
            connect_delays: maybe(500),
            resolver_failures: maybe(300),
            dead_addresses: maybe(500),
            slow_peers: maybe(500),
            stalled_peers: maybe(500),
            open_failures: maybe(400),
            truncations: maybe(400),
            accept_pauses: maybe(400),
            buffer_shortages: maybe(300),
            empty_turns: maybe(500),
            ..Self::none()
        };
        let small_max = if rng.coin() { rng.range(4, 24) } else { 256 };
        let large_max = if rng.coin() { rng.range(0, 4) } else { 32 };
        Self {
            descriptors_max: if rng.below(4) == 0 { rng.range(2, 12) as usize } else { calm.descriptors_max },
            latency_max: Duration::from_nanos(rng.range(1, 5_000_000)),
            socket_buffer_bytes: rng.length(64 << 10).max(64),
            batch_max: rng.length(256),
            pool: PoolConfig { small_max: small_max as usize, large_max: large_max as usize, ..calm.pool },
            ..calm
        }
    }
}
