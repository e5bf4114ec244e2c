//! `--abuse`: what attacks over HTTP/2 cost xps and nginx, in processor time for each byte that the attacker sends, and in
//! memory. Both keep their limits, which are their defence, at the defaults.
//!
//! The attacks are those of the tests (`tests/support/h2/attack.rs`). Each run has a new server and an attacker, a process
//! tied to the other processor.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::attacker::{self, Cost};
use crate::clocks::children_of;
use crate::documents;
use crate::h2::attack::{self, HELD, LARGE_BYTES};
use crate::markdown::{aligned, figure};
use crate::processes::{Guarded, Processors, interrupted, tie};
use crate::report::Spread;
use crate::run::{free_port, ns, origin_of};
use crate::servers::{find, nginx};

/// One way to cost a server much.
pub struct Attack {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// What follows the preface on each connection.
    pub bytes: fn() -> Vec<u8>,
    /// How connections follow each other.
    pub manner: Manner,
}

/// How connections follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One after another, each until the server ends it or all is sent.
    Flood,
    /// So many, which stay open.
    Hold(usize),
}

/// Connections that stay open.
const HELD_CONNECTIONS: usize = 50;

/// All attacks, and a connection that only stays, for comparison.
pub const ATTACKS: &[Attack] = &[
    flood("rapid-reset", attack::rapid_resets),
    flood("made-you-reset", attack::made_you_reset),
    flood("continuation-empty", attack::empty_continuations),
    flood("continuation", attack::continuations),
    flood("hpack-bomb", attack::index_bombs),
    flood("field-bomb", attack::field_bombs),
    flood("malformed-heads", attack::malformed_heads),
    flood("ping", attack::pings),
    flood("settings", attack::settings),
    flood("empty-data", attack::empty_data),
    flood("tiny-data", attack::tiny_data),
    flood("priority", attack::priorities),
    flood("unknown-frames", attack::unknown_frames),
    flood("reset-ended", attack::resets_of_ended_streams),
    flood("window-trifles", attack::window_trifles),
    flood("last-stream", attack::last_stream),
    hold("zero-windows", attack::without_windows),
    hold("slow-windows", attack::slow_windows),
    Attack { name: "idle", bytes: page, manner: Manner::Hold(1000) },
];

const fn flood(name: &'static str, bytes: fn() -> Vec<u8>) -> Attack {
    Attack { name, bytes, manner: Manner::Flood }
}

const fn hold(name: &'static str, bytes: fn() -> Vec<u8>) -> Attack {
    Attack { name, bytes, manner: Manner::Hold(HELD_CONNECTIONS) }
}

/// An ordinary request.
fn page() -> Vec<u8> {
    attack::get(1, attack::PAGE)
}

/// What is compared.
pub struct Comparison<'a> {
    /// The xps binary.
    pub xps: &'a Path,
    /// Which processors to use.
    pub processors: &'a Processors,
    /// How long a flood lasts.
    pub measured: Duration,
    /// How often each is done.
    pub rounds: u32,
    /// Which attacks; all if it is empty.
    pub names: &'a [String],
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Xps,
    Nginx,
}

/// The hidden arguments with which the benchmark starts itself.
pub const SILENT_ORIGIN: &str = "--as-silent-origin";
pub const ATTACKER: &str = "--as-attacker";

/// Time for a server to start.
const START_MAX: Duration = Duration::from_secs(5);

impl Comparison<'_> {
    /// Does all of it, and returns the table.
    pub fn run(&self) -> Result<String, String> {
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        let is_chosen = |attack: &&Attack| self.names.is_empty() || self.names.iter().any(|name| name == attack.name);
        for attack in ATTACKS.iter().filter(is_chosen) {
            let (mut xps, mut nginx) = (Vec::new(), Vec::new());
            for round in 0..self.rounds {
                let order = if round % 2 == 0 { [Victim::Xps, Victim::Nginx] } else { [Victim::Nginx, Victim::Xps] };
                for victim in order {
                    eprint!("{} round {}/{} {victim:?}", attack.name, round + 1, self.rounds);
                    let cost = self.attacked(victim, attack).map_err(|error| format!("{}: {error}", attack.name))?;
                    eprintln!(" {cost:?}");
                    if victim == Victim::Xps { &mut xps } else { &mut nginx }.push(cost);
                }
            }
            rows.push(row(attack, &xps, &nginx));
        }
        Ok(format!("\n{} rounds\n\n{}{LEGEND}", self.rounds, aligned(&rows)))
    }

    fn attacked(&self, victim: Victim, attack: &Attack) -> io::Result<Cost> {
        let folder = tempfile::tempdir()?;
        let (_origin, origin_port) = origin_of(&[SILENT_ORIGIN], self.processors)?;
        let port = free_port()?;
        write_files(folder.path())?;
        let mut command = match victim {
            Victim::Xps => xps(self.xps, folder.path(), port, origin_port)?,
            Victim::Nginx => nginx(folder.path(), port, origin_port)?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Guarded::start(command, self.processors.server)?;
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = attacker::request(port) {
            if Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let pids: Vec<u32> = [vec![server.id()], children_of(server.id())].concat();
        let task = json!({ "port": port, "pids": pids, "measured_ns": ns(self.measured) });
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ATTACKER, attack.name, &task.to_string()]).stdin(Stdio::null());
        tie(&mut command, self.processors.peers);
        let output = command.output()?;
        if interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let value: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let cost = value.as_ref().and_then(Cost::of_json);
        cost.ok_or_else(|| io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Where the files of a server are, in its folder.
const SITE: &str = "site";

/// The files that attacks ask for.
fn write_files(folder: &Path) -> io::Result<()> {
    let files = folder.join(SITE).join("files");
    fs::create_dir_all(&files)?;
    documents::write_synced(&files.join("page"), b"a page")?;
    documents::write_synced(&files.join("large"), &vec![b'x'; LARGE_BYTES])
}

fn xps(xps: &Path, folder: &Path, port: u16, origin: u16) -> io::Result<Command> {
    let routes = json!([
        { "req_path": "/", "type": "file_serve", "dir_path": folder.join(SITE) },
        { "req_path": HELD, "type": "reverse_proxy", "upstreams": [format!("127.0.0.1:{origin}")] },
    ]);
    let listeners = json!([{ "host": "127.0.0.1", "port": port, "h2c": true }]);
    let file = folder.join("xps.json");
    fs::write(&file, json!({ "servers": [{ "listeners": listeners, "routes": routes }] }).to_string())?;
    let mut command = Command::new(xps);
    command.arg("run").arg(file).args(["--workers", "1", "--log-level", "error"]);
    Ok(command)
}

fn nginx(folder: &Path, port: u16, origin: u16) -> io::Result<Command> {
    let program = find("nginx").ok_or_else(|| io::Error::other("nginx is not in PATH"))?;
    let site = folder.join(SITE);
    let text = format!(
        "{}
daemon off;
worker_processes 1;
error_log stderr error;
pid nginx.pid;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    open_file_cache max=1000;
    server {{
        listen 127.0.0.1:{port} http2;
        root {};
        location {HELD} {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
",
        nginx::user(),
        site.display(),
    );
    let configuration = folder.join("nginx.conf");
    fs::write(&configuration, text)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(configuration).args(["-e", "stderr"]);
    Ok(command)
}

const HEAD: [&str; 9] = [
    "attack",
    "xps ns/byte",
    "nginx ns/byte",
    "xps ÷ nginx",
    "xps KiB",
    "nginx KiB",
    "xps bytes",
    "nginx bytes",
    "end",
];

fn row(attack: &Attack, xps: &[Cost], nginx: &[Cost]) -> Vec<String> {
    let median = |costs: &[Cost], of: fn(&Cost) -> f64| figure(Spread::of(costs.iter().map(of).collect()).median);
    let ratio = Spread::of(xps.iter().zip(nginx).map(|(xps, nginx)| xps.ns_per_byte() / nginx.ns_per_byte()).collect());
    let ratio = format!("{} ({} to {})", figure(ratio.median), figure(ratio.least), figure(ratio.most));
    let end = |costs: &[Cost]| costs.last().map_or("", Cost::end).to_owned();
    vec![
        attack.name.to_owned(),
        median(xps, Cost::ns_per_byte),
        median(nginx, Cost::ns_per_byte),
        ratio,
        median(xps, Cost::kibibytes),
        median(nginx, Cost::kibibytes),
        median(xps, Cost::bytes_each),
        median(nginx, Cost::bytes_each),
        format!("{}, {}", end(xps), end(nginx)),
    ]
}

/// What the columns mean.
const LEGEND: &str = "
ns/byte   processor time of the server for each byte that the attacker sent, also on connections that were ended soon
KiB       by how much the server's memory grew at most: of connections that stay, for each of them
bytes     that the attacker could send on a connection before the server ended it, or all there were
end       how most connections ended, of xps and of nginx: by a GOAWAY with this code, closed without one, or not at all
";
