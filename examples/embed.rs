//! A server in a program of one's own: echo on a port of the kernel's choice, until Ctrl-C. `cargo run --example embed`

use std::error::Error;

use xps::{
    AdmissionConfig, BackendChoice, FeatureSet, Limits, ListenAddress, ListenerConfig, OperatorConfig, Server,
    ServerConfig, ServiceConfig,
};

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(ServerConfig {
        listeners: vec![ListenerConfig::new(ListenAddress::Inet(([127, 0, 0, 1], 0).into()), ServiceConfig::Echo)],
        workers: 1,
        pin_workers: false,
        backend: BackendChoice::Auto,
        uring_off: FeatureSet::NONE,
        admission: AdmissionConfig::default(),
        limits: Limits::default(),
        operator: OperatorConfig::default(),
    })?;
    println!("echo on {}, by {}", server.addresses()[0], server.selection().backend.name());
    server.run(|connections| println!("{connections} connections to go"))?;
    Ok(())
}
