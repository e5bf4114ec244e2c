//! `xps` alone: a demonstration that needs nothing else on the machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::args::{AllOptions, LogOptions};
use super::failure::Failure;
use super::operate::operate;
use super::serve::config_of;
use super::{Invocation, banner};
use crate::config::{
    AnswerConfig, ForwardConfig, FrontConfig, HandlerConfig, ListenerConfig, Service, SiteConfig, UpstreamAddress,
};
use crate::upstream::GroupConfig;

const HTTP_PORT: u16 = 8001;
const PROXY_PORT: u16 = 8002;
const REVERSE_PORT: u16 = 8003;
const ECHO_PORT: u16 = 8004;

/// What port 8001 serves if it is there.
const PUBLIC: &str = "public";

/// Four services on the ports that the original's road ends with.
pub fn run(settings: &AllOptions, log: &LogOptions, invocation: &Invocation) -> Result<(), Failure> {
    let mut config = config_of(&[settings]);
    let listener = |port, service| ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), service);
    let root = PathBuf::from(PUBLIC).canonicalize().ok().filter(|path| path.is_dir());
    let files = if root.is_some() { "the files of ./public" } else { "pages that explain what runs where" };
    let site = SiteConfig { root, listing: true, ..SiteConfig::default() };
    let upstream = UpstreamAddress::tcp(Ipv4Addr::LOCALHOST.to_string(), HTTP_PORT);
    let connect_timeout = config.limits.connect_timeout;
    let forward = ForwardConfig { connect_timeout, ..ForwardConfig::new(GroupConfig::of([upstream])) };
    let proxy = HandlerConfig::Forward(Box::new(forward));
    let http = |handler| Service::Http(FrontConfig::of(handler, AnswerConfig::default(), None));
    config.listeners = vec![
        listener(HTTP_PORT, http(HandlerConfig::Site(Box::new(site)))),
        listener(PROXY_PORT, http(proxy)),
        listener(REVERSE_PORT, Service::Reverse),
        listener(ECHO_PORT, Service::Echo),
    ];
    operate(config, log, &hints(&banner::program(), files), None, invocation)
}

/// What to paste into another terminal. `xps` is the command that starts this program.
fn hints(xps: &str, files: &str) -> [String; 12] {
    [
        String::new(),
        format!("Open http://127.0.0.1:{HTTP_PORT}/ in a browser: {files}."),
        "Try, in another terminal:".to_owned(),
        format!("  curl -i http://127.0.0.1:{PROXY_PORT}/            the same, through an HTTP proxy"),
        format!("  echo stressed | nc -N 127.0.0.1 {REVERSE_PORT}    each line reversed"),
        format!("  nc 127.0.0.1 {ECHO_PORT}                       what you type comes back; Ctrl-D or Ctrl-C ends"),
        "Or, without nc:".to_owned(),
        format!("  echo stressed | {xps} connect 127.0.0.1:{REVERSE_PORT}"),
        format!("  {xps} connect 127.0.0.1:{ECHO_PORT}"),
        String::new(),
        format!("Serve a folder of your own: {xps} serve DIR"),
        format!("Ctrl-C stops. `{xps} --help` shows what else there is."),
    ]
}
