//! The load generator of `xps bench`: clients that ask a server as fast as it can, or at a fixed rate,
//! and what they measured.
//!
//! * [`Plan`] says what is asked of whom, how often, and what a correct answer is.
//! * [`Tally`] is what one thread has counted so far. Its size does not depend on how long it counts.
//! * [`Report`] is the result of a run: what is printed, stored and compared.
//!
//! It measures a server from outside, whichever server that is. It knows nothing of a server's parts.

#![forbid(unsafe_code)]

mod assemble;
mod body;
mod connection;
mod exchange;
pub mod find_max;
mod generator;
mod http1;
mod http2;
mod manifest;
mod plan;
pub mod processor;
mod progress;
pub mod report;
mod run;
mod run_delay;
mod schedule;
pub mod statistics;
mod tally;
mod tcp;

pub use assemble::{Circumstances, RingUse, ServerUse};
pub use plan::{Expect, HttpTarget, HttpVersion, Origin, Plan, Stop, TcpMode, Work};
pub use report::{
    ClientCost, Distribution, ErrorCounts, Interval, Manifest, Pacing, Percentile, REPORT_VERSION, Report, RingCost,
    ServerCost,
};
pub use run::{Outcome, Run, RunError};
pub use tally::{ErrorKind, Tally};
