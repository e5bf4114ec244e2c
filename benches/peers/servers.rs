//! The table of servers: how each is found, configured and started as a TCP relay.
//!
//! All of them use one worker, log nothing, and otherwise keep their defaults, except where a
//! variant's name says what was changed.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scenario::Scenario;

/// One server, in one configuration. To add one, add a row to [`SERVERS`].
pub struct Server {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// Whose it is.
    pub product: Product,
    /// Whether it makes sense in this scenario.
    pub fits: fn(&Scenario) -> bool,
    /// Writes its configuration and says how to start it.
    pub command: fn(&Setup<'_>) -> io::Result<Command>,
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Ours on io_uring.
    XpsUring,
    /// Ours on epoll: the same machines, another driver.
    XpsEpoll,
    /// haproxy.org
    Haproxy,
    /// nginx.org
    Nginx,
}

/// What a server is told.
pub struct Setup<'a> {
    /// Where it may write.
    pub folder: &'a Path,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Where the origin listens.
    pub origin: u16,
    /// The xps binary.
    pub xps: &'a Path,
}

/// All servers, in the order of even rounds; odd rounds go backwards.
pub const SERVERS: &[Server] = &[
    Server { name: "xps-io_uring", product: Product::XpsUring, fits: any, command: |setup| xps(setup, "io_uring") },
    Server { name: "xps-epoll", product: Product::XpsEpoll, fits: any, command: |setup| xps(setup, "epoll") },
    Server { name: "haproxy", product: Product::Haproxy, fits: any, command: |setup| haproxy(setup, "", "") },
    Server {
        name: "haproxy-splice",
        product: Product::Haproxy,
        fits: bulk,
        command: |setup| haproxy(setup, "", "option splice-auto"),
    },
    Server {
        name: "haproxy-splice-all",
        product: Product::Haproxy,
        fits: bulk,
        // `splice-auto` chooses connections by a guess; these take all.
        command: |setup| haproxy(setup, "", "option splice-request\n    option splice-response"),
    },
    Server {
        name: "haproxy-256k",
        product: Product::Haproxy,
        fits: bulk,
        command: |setup| haproxy(setup, "tune.bufsize 262144", ""),
    },
    Server { name: "nginx", product: Product::Nginx, fits: any, command: |setup| nginx(setup, "") },
    Server {
        name: "nginx-256k",
        product: Product::Nginx,
        fits: bulk,
        command: |setup| nginx(setup, "proxy_buffer_size 256k;"),
    },
];

impl Product {
    /// Why it cannot take part, if it cannot: what is missing and how to get it.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::XpsUring | Self::XpsEpoll => None,
            Self::Haproxy => find("haproxy").is_none().then(|| "not in PATH; Debian: apt-get install haproxy".into()),
            Self::Nginx => match stream_module() {
                Ok(_) => None,
                Err(why) => Some(why.into()),
            },
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

fn bulk(scenario: &Scenario) -> bool {
    scenario.bulk
}

fn xps(setup: &Setup<'_>, backend: &str) -> io::Result<Command> {
    let mut command = Command::new(setup.xps);
    command.args(["proxy", "--workers", "1", "--backend", backend, "--log-format", "json", "--log-level", "error"]);
    command.arg("--listen").arg(format!("127.0.0.1:{}", setup.port));
    command.arg("--upstream").arg(format!("127.0.0.1:{}", setup.origin));
    Ok(command)
}

fn haproxy(setup: &Setup<'_>, tuning: &str, option: &str) -> io::Result<Command> {
    let configuration = setup.folder.join("haproxy.cfg");
    let Setup { port, origin, .. } = setup;
    let text = format!(
        "global
    nbthread 1
    maxconn 4096
    {tuning}

defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {option}

listen relay
    bind 127.0.0.1:{port}
    server origin 127.0.0.1:{origin}
"
    );
    fs::write(&configuration, text)?;
    let mut command = Command::new(required("haproxy")?);
    command.arg("-db").arg("-f").arg(configuration);
    Ok(command)
}

fn nginx(setup: &Setup<'_>, directive: &str) -> io::Result<Command> {
    let configuration = setup.folder.join("nginx.conf");
    let Setup { port, origin, .. } = setup;
    let load_module = match stream_module() {
        Ok(Some(module)) => format!("load_module {};", module.display()),
        Ok(None) => String::new(),
        Err(why) => return Err(io::Error::other(why)),
    };
    let text = format!(
        "{load_module}
daemon off;
worker_processes 1;
error_log stderr error;
pid nginx.pid;
events {{
    worker_connections 4096;
}}
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass 127.0.0.1:{origin};
        {directive}
    }}
}}
"
    );
    fs::write(&configuration, text)?;
    let mut command = Command::new(required("nginx")?);
    command.arg("-p").arg(setup.folder).arg("-c").arg(configuration).args(["-e", "stderr"]);
    Ok(command)
}

/// Where nginx's stream module is; `None` if it is built in.
fn stream_module() -> Result<Option<PathBuf>, &'static str> {
    const NO_NGINX: &str = "not in PATH; Debian: apt-get install nginx-light libnginx-mod-stream";
    const NO_STREAM: &str = "no stream module; Debian: apt-get install libnginx-mod-stream";
    let program = find("nginx").ok_or(NO_NGINX)?;
    let output = Command::new(program).arg("-V").output().map_err(|_| NO_NGINX)?;
    let build = String::from_utf8_lossy(&output.stderr);
    let mut options = build.split_ascii_whitespace();
    if options.clone().any(|option| option == "--with-stream") {
        return Ok(None);
    }
    let folder = options.find_map(|option| option.strip_prefix("--modules-path=")).ok_or(NO_STREAM)?;
    let module = Path::new(folder).join("ngx_stream_module.so");
    if module.is_file() { Ok(Some(module)) } else { Err(NO_STREAM) }
}

fn required(program: &str) -> io::Result<PathBuf> {
    find(program).ok_or_else(|| io::Error::other(format!("{program} has gone")))
}
