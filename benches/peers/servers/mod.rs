//! The table of servers: in which scenarios each takes part, and what is changed in a variant.
//!
//! All of them use one worker, log nothing, and otherwise keep their defaults, except where a
//! variant's name or the scenario says what was changed. How they are configured is in a file each.

mod haproxy;
pub mod nginx;
mod xps;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificate::Identity;
use crate::scenario::{Scenario, Service, Tls};

/// One server, in one configuration. To add one, add a row to [`SERVERS`].
pub struct Server {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// Whose it is.
    pub product: Product,
    /// Whether it makes sense in this scenario.
    pub fits: fn(&Scenario) -> bool,
    /// Writes its configuration for what the setup asks, and says how to start it.
    pub command: fn(&Setup<'_>) -> io::Result<Command>,
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Ours on io_uring.
    XpsUring,
    /// Ours on epoll: the same machines, another driver.
    XpsEpoll,
    /// Another build of ours, on either.
    Baseline,
    /// haproxy.org
    Haproxy,
    /// nginx.org
    Nginx,
}

/// What a server is told.
pub struct Setup<'a> {
    /// What it shall do.
    pub scenario: &'a Scenario,
    /// Where it may write.
    pub folder: &'a Path,
    /// The files that it serves, if that is what it does.
    pub documents: &'a Path,
    /// What it shows to clients, or trusts an origin by, if there is TLS.
    pub identity: &'a Identity,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Where the origin listens.
    pub origin: u16,
    /// How many connections it must be ready for.
    pub connections: u32,
    /// How many exchanges are under way at a time: so many connections to the origin are worth keeping.
    pub concurrency: usize,
    /// The xps binary.
    pub xps: &'a Path,
}

/// All servers, in the order of even rounds; odd rounds go backwards.
pub const SERVERS: &[Server] = &[
    Server {
        name: "xps-io_uring",
        product: Product::XpsUring,
        fits: any,
        command: |setup| xps::command(setup, "io_uring"),
    },
    Server { name: "xps-epoll", product: Product::XpsEpoll, fits: any, command: |setup| xps::command(setup, "epoll") },
    Server {
        name: "baseline-io_uring",
        product: Product::Baseline,
        fits: any,
        command: |setup| xps::command(setup, "io_uring"),
    },
    Server {
        name: "baseline-epoll",
        product: Product::Baseline,
        fits: any,
        command: |setup| xps::command(setup, "epoll"),
    },
    Server {
        name: "haproxy",
        product: Product::Haproxy,
        fits: relays_or_answers,
        command: |setup| haproxy::command(setup, "", ""),
    },
    Server {
        name: "haproxy-splice",
        product: Product::Haproxy,
        fits: relays_bulk,
        command: |setup| haproxy::command(setup, "", "option splice-auto"),
    },
    Server {
        name: "haproxy-splice-all",
        product: Product::Haproxy,
        fits: relays_bulk,
        // `splice-auto` chooses connections by a guess; these take all.
        command: |setup| haproxy::command(setup, "", "option splice-request\n    option splice-response"),
    },
    Server {
        name: "haproxy-256k",
        product: Product::Haproxy,
        fits: relays_bulk,
        command: |setup| haproxy::command(setup, "tune.bufsize 262144", ""),
    },
    Server { name: "nginx", product: Product::Nginx, fits: any, command: |setup| nginx::command(setup, "") },
    Server {
        name: "nginx-256k",
        product: Product::Nginx,
        fits: relays_bulk,
        command: |setup| nginx::command(setup, nginx::large_buffers(setup.scenario.service)),
    },
    Server {
        name: "nginx-chunk-64k",
        product: Product::Nginx,
        fits: serves_long_streams,
        // Its default of 8 KiB makes sendfile(2) of many large files at a time slow.
        command: |setup| nginx::command(setup, "http2_chunk_size 64k;"),
    },
];

impl Server {
    /// Why it cannot take part, if it cannot: what is missing and how to get it.
    pub fn missing(&self, scenario: &Scenario, xps: &Path) -> Option<String> {
        if scenario.streams().is_some() && find("h2load").is_none() {
            return Some("h2load is not in PATH; Debian: apt-get install nghttp2-client".to_owned());
        }
        match self.product {
            Product::XpsUring | Product::XpsEpoll | Product::Baseline => xps::missing(scenario, xps),
            Product::Haproxy => haproxy::missing(),
            Product::Nginx => nginx::missing(scenario.service),
        }
    }
}

/// Finds a program in PATH or where Debian keeps servers.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn any(_: &Scenario) -> bool {
    true
}

fn relays(scenario: &Scenario) -> bool {
    match scenario.service {
        Service::Relay | Service::HttpProxy => true,
        Service::Files => false,
    }
}

/// HAProxy serves no folder, but what fits its buffers it keeps in memory: its TLS can be measured beside that of others.
fn relays_or_answers(scenario: &Scenario) -> bool {
    relays(scenario) || (scenario.tls == Tls::Clients && scenario.body_bytes <= haproxy::ANSWER_BYTES_MAX)
}

fn relays_bulk(scenario: &Scenario) -> bool {
    relays(scenario) && scenario.is_bulk()
}

fn serves_long_streams(scenario: &Scenario) -> bool {
    scenario.service == Service::Files && scenario.streams().is_some() && scenario.body_bytes >= 64 << 10
}

fn required(program: &str) -> io::Result<PathBuf> {
    find(program).ok_or_else(|| io::Error::other(format!("{program} has gone")))
}
