//! `xps` without a command: a demonstration that needs no other program and no file.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::args::{AllOptions, LogOptions, TlsOptions};
use super::failure::Failure;
use super::operate::operate;
use super::serve::config_of;
use super::{Invocation, banner, tls};
use crate::config::{
    FileRouteConfig, ForwardConfig, HTTP_PROTOCOLS, HandlerConfig, ListenerConfig, ResponseConfig, RouterConfig,
    ServiceConfig, UpstreamAddress, start,
};
use crate::core::inherit;
use crate::upstream::GroupConfig;

/// The ports of eXpServer's last stage: HTTP, proxy, reverse and echo; then HTTPS.
const PORTS: [u16; 5] = [8001, 8002, 8003, 8004, 8443];

/// Number of ports to try, from the usual one on, if it is in use.
const PORTS_TRIED: u16 = 100;

/// The folder that the HTTP port serves if it exists; else it serves built-in pages.
const PUBLIC: &str = "public";

/// Starts five services on [`PORTS`], or on the next free ones. The one over TLS has a certificate that is
/// made for the run.
pub fn run(settings: &AllOptions, log: &LogOptions, invocation: &Invocation) -> Result<(), Failure> {
    let mut config = config_of(&[settings]);
    let ports = ports(&inherit::handed_addresses());
    let [http_port, proxy_port, reverse_port, echo_port, https_port] = ports;
    let listener = |port, service| ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), service);
    let root = start::absolute(Path::new(PUBLIC)).ok().filter(|path| path.is_dir());
    let files = if root.is_some() { "the files of ./public" } else { "pages that explain what runs where" };
    let file_route = FileRouteConfig { root, listing: true, ..FileRouteConfig::default() };
    let upstream = UpstreamAddress::tcp(Ipv4Addr::LOCALHOST.to_string(), http_port);
    let proxy = HandlerConfig::Forward(Box::new(ForwardConfig::new(GroupConfig::of([upstream]))));
    let http = |handler| ServiceConfig::Http(RouterConfig::of(handler, ResponseConfig::default(), None));
    let pages = || http(HandlerConfig::Files(Box::new(file_route.clone())));
    let mut over_tls = vec![listener(https_port, pages())];
    let self_signed = TlsOptions { tls_self_signed: true, ..TlsOptions::default() };
    let certificate = tls::put(&self_signed, &HTTP_PROTOCOLS, &mut over_tls)?;
    config.listeners = vec![
        listener(http_port, pages()),
        listener(proxy_port, http(proxy)),
        listener(reverse_port, ServiceConfig::Reverse),
        listener(echo_port, ServiceConfig::Echo),
    ];
    config.listeners.append(&mut over_tls);
    let commands = hints(&banner::program(), files, ports);
    let hints: Vec<String> = certificate.into_iter().chain(elsewhere(ports)).chain(commands).collect();
    operate(config, log, &hints, None, invocation)
}

/// The ports to listen on: those of the process being replaced, if any; else the usual ones, and for
/// one that is in use the next free one. If another program takes a port before this one listens on
/// it, the start fails with an error.
fn ports(handed: &[SocketAddr]) -> [u16; PORTS.len()] {
    if let [http, proxy, reverse, echo, https] = handed {
        return [http, proxy, reverse, echo, https].map(SocketAddr::port);
    }
    let is_free = |port: u16| match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrInUse,
    };
    let mut chosen = PORTS;
    for at in 0..chosen.len() {
        let usual = PORTS[at];
        let is_ours = |port: u16| port != usual && (PORTS.contains(&port) || chosen[..at].contains(&port));
        let next = (usual..usual + PORTS_TRIED).find(|port| !is_ours(*port) && is_free(*port));
        chosen[at] = next.unwrap_or(usual);
    }
    chosen
}

/// A banner line that lists the ports that differ from the usual ones. The built-in pages name the
/// usual ones.
fn elsewhere(ports: [u16; PORTS.len()]) -> Option<String> {
    let moved = PORTS.iter().zip(ports).filter(|(usual, port)| **usual != *port);
    let moved: Vec<String> = moved.map(|(usual, port)| format!("{port} in place of {usual}")).collect();
    (!moved.is_empty()).then(|| format!("  taken ports: {}", moved.join(", ")))
}

/// Commands to paste into another terminal. `xps` is the command that starts this program.
fn hints(xps: &str, files: &str, [http, proxy, reverse, echo, https]: [u16; PORTS.len()]) -> [String; 13] {
    [
        String::new(),
        format!("Open http://127.0.0.1:{http}/ in a browser: {files}."),
        "Try, in another terminal:".to_owned(),
        format!("  curl -i http://127.0.0.1:{proxy}/            the same, through an HTTP proxy"),
        format!("  curl -k https://127.0.0.1:{https}/           over TLS, without a look at the certificate"),
        format!("  echo stressed | nc -N 127.0.0.1 {reverse}    each line reversed"),
        format!("  nc 127.0.0.1 {echo}                       what you type comes back; Ctrl-D or Ctrl-C ends"),
        "Or, without nc:".to_owned(),
        format!("  echo stressed | {xps} connect 127.0.0.1:{reverse}"),
        format!("  {xps} connect 127.0.0.1:{echo}"),
        String::new(),
        format!("Serve a folder of your own: {xps} serve DIR"),
        format!("Ctrl-C stops. `{xps} --help` lists the other commands."),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_has_the_ports_of_its_predecessor() {
        let handed = [9001, 9002, 9003, 9004, 9443];
        assert_eq!(ports(&handed.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))), handed);
    }

    #[test]
    fn ports_that_are_not_the_usual_ones_are_named() {
        assert_eq!(elsewhere(PORTS), None);
        let told = elsewhere([8001, 8005, 8003, 8004, 8444]);
        assert_eq!(told.as_deref(), Some("  taken ports: 8005 in place of 8002, 8444 in place of 8443"));
    }
}
