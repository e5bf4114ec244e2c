//! wrk in the load generator's place: an independent check. It opens its connections and warms up within the measured
//! time, and checks only that answers are not errors.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clocks::Sample;
use crate::load::{Measured, Task};
use crate::processes::tie;
use crate::scenario::{Pattern, Scenario, Tls};
use crate::servers::find;

/// Whether it can make such exchanges. Its TLS cannot be restricted to one cipher suite.
pub fn fits(scenario: &Scenario) -> bool {
    scenario.pattern == Pattern::KeepAlive && scenario.tls != Tls::Clients
}

/// Measures a server with it, on this processor.
pub fn run(scenario: &Scenario, task: &Task, cpu: Option<usize>) -> io::Result<Measured> {
    let program = find("wrk").ok_or_else(|| io::Error::other("wrk is not in PATH; Debian: apt-get install wrk"))?;
    let mut command = Command::new(program);
    command.args(["-t", "1", "--latency", "-c", &scenario.connections.to_string()]);
    command.args(["-d", &format!("{}s", task.measured.as_secs().max(1))]);
    command.arg(format!("http://127.0.0.1:{}{}", task.port, scenario.path())).stdin(Stdio::null());
    tie(&mut command, cpu);
    let before = Sample::take(&task.groups)?;
    let output = command.output()?;
    // wrk has ended, so of the peers' time only the origin's is known; the machine's is whole.
    let usage = Sample::take(&task.groups)?.since(&before);
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        return Err(io::Error::other(format!("wrk: {}", line.trim())));
    }
    let words = |wanted: &str| {
        let line = text.lines().find(|line| line.contains(wanted))?;
        Some(line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let parsed = || {
        let exchanges = words(" requests in ")?.first()?.parse().ok()?;
        let p50 = time(words(" 50%")?.get(1)?)?;
        let p99 = time(words(" 99%")?.get(1)?)?;
        Some(Measured { exchanges, usage, p50: Some(p50), p99: Some(p99) })
    };
    parsed().ok_or_else(|| io::Error::other("wrk's answer is not understood"))
}

fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}
