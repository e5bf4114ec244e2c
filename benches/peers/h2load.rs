//! h2load, which makes the load of HTTP/2: a generator from another project, as wrk is for HTTP/1.1. It opens its
//! connections within the measured time, and counts what it gets; it does not compare it.

use std::io;
use std::process::{Command, Stdio};

use crate::clocks::Sample;
use crate::load::{Measured, Task};
use crate::processes::tie;
use crate::scenario::{Scenario, Tls};
use crate::servers::find;
use crate::tls::Version;

/// Whether it can make such exchanges: it has no option for the version of TLS.
pub fn fits(scenario: &Scenario, version: Version) -> bool {
    scenario.tls != Tls::Clients || version == Version::V13
}

/// Asks once.
pub fn exchange(scenario: &Scenario, port: u16) -> io::Result<()> {
    let mut command = command(scenario, port)?;
    let output = command.args(["-n", "1", "-c", "1"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match Counts::read(&text, scenario) {
        Some(counts) if counts.data == scenario.body_bytes as u64 => Ok(()),
        Some(_) | None => Err(io::Error::other("h2load gets no whole answer")),
    }
}

/// Measures a server with it, on this processor.
pub fn run(scenario: &Scenario, task: &Task, cpu: Option<usize>) -> io::Result<Measured> {
    let mut command = command(scenario, task.port)?;
    command.args(["-m", &scenario.streams().unwrap_or(1).to_string(), "-c", &scenario.connections.to_string()]);
    command.args(["-D", &task.measured.as_secs().max(1).to_string()]);
    tie(&mut command, cpu);
    let before = Sample::take(&task.groups)?;
    let output = command.output()?;
    // It has ended, so of the peers' time only the origin's is known; the machine's is whole.
    let usage = Sample::take(&task.groups)?.since(&before);
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = Counts::read(&text, scenario)
        .ok_or_else(|| io::Error::other(format!("not all went well with h2load: {}", summary(&text))))?;
    // By bytes: those under way in the end count in part.
    Ok(Measured { exchanges: counts.data as f64 / scenario.body_bytes as f64, usage, p50: None, p99: None })
}

/// The command for one thread and this server. All servers do the same work for TLS.
fn command(scenario: &Scenario, port: u16) -> io::Result<Command> {
    let program = find("h2load").ok_or_else(|| io::Error::other("h2load has gone"))?;
    let scheme = if scenario.tls == Tls::Clients { "https" } else { "http" };
    let mut command = Command::new(program);
    command.args(["-t", "1", "--groups", "X25519", "--tls13-ciphers", "TLS_AES_128_GCM_SHA256"]);
    command.arg(format!("{scheme}://127.0.0.1:{port}{}", scenario.path())).stdin(Stdio::null());
    Ok(command)
}

/// What it has counted.
struct Counts {
    /// Bytes of bodies.
    data: u64,
}

impl Counts {
    /// `None`: a request failed, the status was another than 200, or it was not HTTP/2.
    fn read(text: &str, scenario: &Scenario) -> Option<Self> {
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let protocol = if scenario.tls == Tls::Clients { "h2" } else { "h2c" };
        let is_http2 = line("Application protocol: ")?.trim() == protocol;
        let is_complete = line("requests: ")?.ends_with(" 0 failed, 0 errored, 0 timeout");
        let statuses = line("status codes: ")?;
        let is_good = !statuses.starts_with("0 2xx") && statuses.ends_with("2xx, 0 3xx, 0 4xx, 0 5xx");
        // The last one is `NUMBER (BYTES) data`.
        let (_, bytes) = line("traffic: ")?.strip_suffix(") data")?.rsplit_once('(')?;
        (is_http2 && is_complete && is_good).then_some(Self { data: bytes.parse().ok()? })
    }
}

/// The lines that say how it went.
fn summary(text: &str) -> String {
    let lines = text.lines().filter(|line| line.starts_with("requests:") || line.starts_with("status codes:"));
    lines.collect::<Vec<_>>().join("; ")
}
