//! `--ab`: two servers, or one with two settings, are started in turns, measured, and compared.
//!
//! What differs between two runs of the same server on a machine that others use, too, is often more than what is
//! looked for. So A and B run in turns, each pair gives a ratio, and the result is the median of the ratios with its
//! interval.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::failure::Failure;
use crate::config::UpstreamAddress;
use crate::driver::{affinity, signals};
use crate::load::Report;
use crate::load::report::figure::Figure;
use crate::load::statistics::{self, Difference, PAIRS_MIN, Verdict};

/// The figures that are compared.
const FIGURES: [Figure; 4] = [Figure::ServerTime, Figure::Rate, Figure::Mean, Figure::Percentile(99.0)];

/// How long a server may take until it listens, and until it has ended.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two looks whether it listens, or has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The commands of two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rivals {
    a: Vec<String>,
    b: Vec<String>,
}

impl Rivals {
    /// `ab`: the command of A, and `command` that of B; or `NAME=X,Y`, an option that `command` is started with; or
    /// `NAME=X`, which only B is started with.
    pub fn parse(ab: &str, command: &[String]) -> Result<Self, String> {
        if command.is_empty() {
            return Err(
                "--ab needs a command: --ab 'COMMAND OF A' -- COMMAND OF B, or --ab NAME=X,Y -- COMMAND".to_owned()
            );
        }
        let setting = ab.split_once('=').filter(|(name, _)| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        });
        let Some((name, values)) = setting else {
            let a: Vec<_> = ab.split_ascii_whitespace().map(str::to_owned).collect();
            if a.is_empty() {
                return Err("--ab has no command".to_owned());
            }
            return Ok(Self { a, b: command.to_vec() });
        };
        let (of_a, of_b) = values.split_once(',').unwrap_or(("", values));
        let with = |value: &str| {
            let option = (!value.is_empty()).then(|| [format!("--{name}"), value.to_owned()]);
            command.iter().cloned().chain(option.into_iter().flatten()).collect()
        };
        Ok(Self { a: with(of_a), b: with(of_b) })
    }

    /// Measures both in turns, `rounds` times. `measure` gets the process of the server; with `None` it ends.
    pub fn compete(
        &self,
        address: &UpstreamAddress,
        rounds: u32,
        mut measure: impl FnMut(u32) -> Result<Option<Report>, Failure>,
    ) -> Result<Contest, Failure> {
        if is_listening(address) {
            return Err(Failure::Usage(format!("something listens at {address} already: end it, so that A and B can")));
        }
        let processors = Processors::split();
        let mut pairs = Vec::new();
        for round in 0..rounds {
            let mut run = |command: &[String]| -> Result<Option<Report>, Failure> {
                let server = processors.start(command, address)?;
                let report = measure(server.child.id())?;
                server.stop(address)?;
                Ok(report)
            };
            // What comes first in a pair may be at an advantage.
            let is_a_first = round % 2 == 0;
            let (first, second) = if is_a_first { (&self.a, &self.b) } else { (&self.b, &self.a) };
            let Some(first) = run(first)? else { break };
            let Some(second) = run(second)? else { break };
            let (a, b) = if is_a_first { (first, second) } else { (second, first) };
            super::super::say(&format!("pair {} of {rounds}\n", round + 1));
            pairs.push((a, b));
        }
        Ok(Contest { rivals: self.clone(), pairs, is_pinned: processors.is_pinned() })
    }
}

/// The processors of the servers and those of the load generator.
#[derive(Debug)]
struct Processors {
    server: Vec<usize>,
    load: Vec<usize>,
}

impl Processors {
    /// The last one is the servers', if there are several.
    fn split() -> Self {
        let all = affinity::allowed_cpus().unwrap_or_default();
        match all.split_last() {
            Some((server, load)) if !load.is_empty() => Self { server: vec![*server], load: load.to_vec() },
            Some(_) | None => Self { server: Vec::new(), load: Vec::new() },
        }
    }

    const fn is_pinned(&self) -> bool {
        !self.server.is_empty()
    }

    /// Starts a server, and waits until it listens. A process is started with the processors of its parent.
    fn start(&self, command: &[String], address: &UpstreamAddress) -> Result<Server, Failure> {
        self.restrict(&self.server);
        let (program, arguments) = command.split_first().ok_or(Failure::NothingMeasured)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.restrict(&self.load);
        let mut server = Server {
            child: child.map_err(|error| Failure::Rival { command: command.join(" "), reason: error.to_string() })?,
            command: command.join(" "),
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_listening(address) {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(server.failure(&format!("it ended before it listened at {address} ({status})")));
            }
            if Instant::now() > deadline {
                return Err(server.failure(&format!("it does not listen at {address}")));
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(server)
    }

    fn restrict(&self, cpus: &[usize]) {
        if self.is_pinned()
            && let Err(error) = affinity::restrict_thread(cpus)
        {
            tracing::warn!(?cpus, %error, "cannot choose processors");
        }
    }
}

/// A server that was started. It does not outlive this.
#[derive(Debug)]
struct Server {
    child: Child,
    command: String,
}

impl Server {
    fn failure(&self, reason: &str) -> Failure {
        Failure::Rival { command: self.command.clone(), reason: reason.to_owned() }
    }

    /// Ends it, and waits until its address is free.
    fn stop(mut self, address: &UpstreamAddress) -> Result<(), Failure> {
        let stopped = signals::ask_to_stop(self.child.id());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while stopped.is_ok() && !matches!(self.child.try_wait(), Ok(Some(_))) && Instant::now() < deadline {
            thread::sleep(LOOK_INTERVAL);
        }
        // One that has ended is not killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_listening(address) {
            return Err(self
                .failure(&format!("another process of it still listens at {address}; start it without a supervisor")));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a connection can be made.
fn is_listening(address: &UpstreamAddress) -> bool {
    match address {
        UpstreamAddress::Tcp { host, port, .. } => {
            let addresses = (&**host, *port).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>);
            let addresses = addresses.unwrap_or_default();
            addresses.iter().any(|address| TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok())
        }
        UpstreamAddress::Unix(path) => UnixStream::connect(path.as_ref()).is_ok(),
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Contest {
    rivals: Rivals,
    pairs: Vec<(Report, Report)>,
    /// Servers and load generator had processors of their own.
    is_pinned: bool,
}

impl Contest {
    fn differences(&self) -> impl Iterator<Item = (Figure, Option<Difference>, Option<(f64, f64)>)> {
        FIGURES.into_iter().map(|figure| {
            let values = self.pairs.iter().map(|(a, b)| figure.value(a).zip(figure.value(b)));
            let values: Option<Vec<(f64, f64)>> = values.collect();
            let values = values.unwrap_or_default();
            let (of_a, of_b): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
            let medians = statistics::median(&of_a).zip(statistics::median(&of_b));
            (figure, Difference::of(&values, figure.better()), medians)
        })
    }

    fn errors(&self) -> (u64, u64) {
        self.pairs.iter().fold((0, 0), |(a, b), (one, other)| (a + one.errors.total(), b + other.errors.total()))
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!("A  {}\nB  {}\n\n", self.rivals.a.join(" "), self.rivals.b.join(" "));
        for (figure, difference, medians) in self.differences() {
            let Some((a, b)) = medians else { continue };
            let name = if figure == Figure::Percentile(99.0) { "p99".to_owned() } else { figure.name() };
            let verdict = match difference {
                None => format!("too few pairs to tell: {PAIRS_MIN} are needed (--rounds)"),
                Some(difference) if difference.verdict == Verdict::NoDifference => difference.to_string(),
                Some(difference) => format!("B is {difference}"),
            };
            let _ = writeln!(text, "{name:<12}{:>10} {:>10}  {verdict}", figure.show(a), figure.show(b));
        }
        let (a, b) = self.errors();
        if a + b > 0 {
            let _ = writeln!(text, "errors      {a:>10} {b:>10}");
        }
        if !self.is_pinned {
            text.push_str("\nwarning:    the servers and the load generator share one processor\n");
        }
        text
    }

    /// As JSON: the commands, the medians and the verdicts, and each report.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .differences()
            .map(|(figure, difference, medians)| {
                json!({
                    "figure": if figure == Figure::Percentile(99.0) { "p99".to_owned() } else { figure.name() },
                    "median_a": medians.map(|(a, _)| a),
                    "median_b": medians.map(|(_, b)| b),
                    "verdict": difference.map(|difference| difference.verdict.to_string()),
                    "ratio": difference.map(|difference| difference.ratio),
                    "low": difference.map(|difference| difference.low),
                    "high": difference.map(|difference| difference.high),
                })
            })
            .collect();
        let pairs: Vec<Value> = self.pairs.iter().map(|(a, b)| json!({ "a": a, "b": b })).collect();
        json!({ "version": 1, "a": self.rivals.a, "b": self.rivals.b, "figures": figures, "pairs": pairs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn two_commands_or_one_with_two_settings() {
        let command = words("xps serve www");
        let of = |ab: &str| Rivals::parse(ab, &command).unwrap();
        assert_eq!(of("nginx -c a.conf"), Rivals { a: words("nginx -c a.conf"), b: command.clone() });
        let backends = of("backend=io_uring,epoll");
        assert_eq!(backends.a, words("xps serve www --backend io_uring"));
        assert_eq!(backends.b, words("xps serve www --backend epoll"));
        let feature = of("uring-off=accept-multishot");
        assert_eq!((feature.a, feature.b), (command.clone(), words("xps serve www --uring-off accept-multishot")));
        assert!(Rivals::parse("backend=a,b", &[]).is_err());
        assert!(Rivals::parse(" ", &command).is_err());
    }
}
