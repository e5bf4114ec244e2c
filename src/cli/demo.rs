//! `xps` alone: a demonstration that needs nothing else on the machine.

use std::net::{Ipv4Addr, SocketAddr};

use super::args::{LogOptions, ServerOptions};
use super::banner;
use super::failure::Failure;
use super::serve::serve;
use crate::config::{ListenerConfig, Service, UpstreamAddress};

const PROXY_PORT: u16 = 8001;
const TEXT_PORT: u16 = 8002;
const REVERSE_PORT: u16 = 8003;
const ECHO_PORT: u16 = 8004;

/// Four services on the ports that the original's road ends with.
pub fn run(server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    let listener = |port, service| ListenerConfig { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), service };
    let upstream = UpstreamAddress { host: Ipv4Addr::LOCALHOST.to_string().into(), port: TEXT_PORT };
    let listeners = vec![
        listener(PROXY_PORT, Service::TcpProxy(upstream)),
        listener(TEXT_PORT, Service::SendText(WELCOME.as_bytes())),
        listener(REVERSE_PORT, Service::Reverse),
        listener(ECHO_PORT, Service::Echo),
    ];
    serve(listeners, server, log, &hints(&banner::program()))
}

/// What to paste into another terminal. `xps` is the command that starts this program.
fn hints(xps: &str) -> [String; 11] {
    [
        String::new(),
        "Try, in another terminal:".to_owned(),
        format!("  nc 127.0.0.1 {ECHO_PORT}                          what you type comes back; Ctrl-D or Ctrl-C ends"),
        format!("  echo stressed | nc -N 127.0.0.1 {REVERSE_PORT}       each line reversed"),
        format!("  nc 127.0.0.1 {PROXY_PORT} < /dev/null              a text, relayed from port {TEXT_PORT}"),
        "Or, without nc:".to_owned(),
        format!("  {xps} connect 127.0.0.1:{ECHO_PORT}"),
        format!("  echo stressed | {xps} connect 127.0.0.1:{REVERSE_PORT}"),
        format!("  {xps} connect 127.0.0.1:{PROXY_PORT} < /dev/null"),
        String::new(),
        format!("Ctrl-C stops. `{xps} --help` shows what else there is."),
    ]
}

const WELCOME: &str = "\
Welcome to xps.

This text came from port 8002. If you asked port 8001, a TCP proxy fetched it
for you: accept, connect, receive, send, each of them an operation that was
submitted to the kernel and completed some microseconds later.

  8001  relays to 8002
  8002  sends this text, then closes
  8003  sends each line back reversed
  8004  echoes
";
