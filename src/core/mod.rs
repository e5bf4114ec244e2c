//! One worker's state and the loop that joins it to a driver; and the server that runs workers.
//!
//! * [`Core`] is a worker without the kernel: listeners, sessions, timers.
//! * [`Worker`] is the loop that joins a core to a driver.
//! * [`Server`] runs one worker a thread, from binding to the end of the drain.
//! * [`front_of`] is what an HTTP listener would offer, [`rehearse`] what it would answer, [`look_for`] what it lacks: without a server.
//! * [`client`] runs one session without a listener.

mod blueprint;
mod census;
pub mod client;
mod dry;
mod entrances;
mod full;
pub mod inherit;
mod listen;
mod server;
mod socket_file;
mod state;
mod thread;
mod wheel;
mod worker;

pub use census::{Census, Violation};
pub use dry::{front_of, look_for, rehearse};
pub use server::{DrainCause, Operator, RunError, Server, StartError, Stop};
pub use state::{Core, EntranceId};
pub use wheel::{TimerId, Wheel};
pub use worker::{Duties, Message, Worker};
