//! One worker's state and the loop that joins it to a driver; and the server that runs workers.
//!
//! * [`Core`] is a worker without the kernel: listeners, sessions, timers.
//! * [`Worker`] is the loop that joins a core to a driver.
//! * [`Server`] runs one worker a thread, from binding to the end of the drain.
//! * [`router_of`] is what an HTTP listener would offer, [`dry_run`] what it would answer, [`look_for`] what it lacks: without a server.
//! * [`client`] runs one session without a listener.

pub mod client;
mod dry_run;
pub mod inherit;
mod limit_notice;
mod listen;
mod listeners;
mod live_counts;
mod server;
mod service_builder;
mod socket_file;
mod state;
mod thread;
mod timer_wheel;
mod worker;

pub use dry_run::{dry_run, look_for, router_of};
pub use live_counts::{LiveCounts, Violation};
pub use server::{DrainCause, RunError, Server, ServerHooks, StartError, Stop};
pub use state::{Core, ListenerId};
pub use timer_wheel::{TimerId, TimerWheel};
pub use worker::{Message, Worker, WorkerPlan};
