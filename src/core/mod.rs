//! The state of one worker, the loop that connects it to a driver, and the server that runs
//! workers.
//!
//! * [`Core`] is the state of one worker: listeners, sessions, timers. It never calls the kernel.
//! * [`Worker`] is the loop that connects a state machine to a driver. [`SupervisedCore`] is the
//!   one of a server: a core with the messages to it.
//! * [`Server`] runs one worker per thread, from binding to the end of the drain.
//! * [`operator`] is the worker for those who operate the server.
//! * [`look`] checks that what a configuration names is there, without changing anything.
//! * [`router_of`] and [`dry_run`](fn@dry_run) evaluate a service without a server: what it offers, and how it
//!   responds.
//! * [`client`] runs one outbound session.

pub mod client;
mod dry_run;
mod expiry_watch;
mod handshakes;
pub mod inherit;
mod limit_notice;
mod listen;
mod listeners;
mod live_counts;
pub mod look;
mod opened;
mod operator;
mod pid_file;
mod server;
mod service_builder;
mod socket_file;
mod state;
mod supervised;
mod thread;
mod timer_wheel;
mod worker;

pub use dry_run::{HeadLength, dry_run, router_of};
pub use live_counts::{LiveCounts, Violation};
pub(crate) use operator::OPERATOR_DESCRIPTORS;
pub use server::{DrainCause, RunError, Server, ServerHooks, StartError, Stop};
pub use state::{Core, ListenerId};
pub use supervised::{Message, SupervisedCore, WorkerPlan};
pub use timer_wheel::{TimerId, TimerWheel};
pub(crate) use worker::settle;
pub use worker::{Environment, Machine, Worker};
