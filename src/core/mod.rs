//! One worker's state and the loop that joins it to a driver; and the server that runs workers.

mod wheel;

pub use wheel::{TimerId, Wheel};
