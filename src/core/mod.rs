//! One worker's state and the loop that joins it to a driver; and the server that runs workers.

mod config;

pub use config::{
    BackendChoice, InvalidUpstreamAddress, Limits, ListenerConfig, ServerConfig, Service, UpstreamAddress,
};
