//! What the tests may expect of the machine, and how long they wait for it.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::bridge::Over;

/// The words that go before the program under test, from `XPS_WRAPPER`: `valgrind --quiet`, for example.
pub fn wrapper() -> Vec<String> {
    std::env::var("XPS_WRAPPER").map(|words| words.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// Whether the program under test runs inside another, which makes it slow and its memory meaningless.
pub fn is_wrapped() -> bool {
    !wrapper().is_empty()
}

/// How long an event may take before the test gives up.
pub fn patience() -> Duration {
    Duration::from_secs(if is_wrapped() { 180 } else { 30 })
}

/// `bytes`, or less where the program runs inside a wrapper.
pub fn bulk(bytes: usize) -> usize {
    if is_wrapped() { bytes / 16 } else { bytes }
}

/// Says that a test checked nothing, past the capture of the test runner.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    // Best effort: a closed standard error is no reason to fail.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Reports a measurement, past the capture of the test runner.
pub fn report(figure: &str) {
    let _ = std::io::stderr().write_all(format!("MEASURED: {figure}\n").as_bytes());
}

/// Waits for a state that nothing announces.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !holds() {
        assert!(Instant::now() < deadline, "waited {:?} in vain: {what}", patience());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where a program is, if it is installed. Debian's servers lie in folders that only root's path has.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The same; where it is missing, that is said, and which Debian package has it.
pub fn require_program(test: &str, name: &str, package: &str) -> Option<PathBuf> {
    let path = find_program(name);
    if path.is_none() {
        skip(test, &format!("{name} is not installed; Debian: apt-get install {package}"));
    }
    path
}

/// Lets this process, which has a descriptor for each client it plays, open `wanted` of them.
/// `false` if the system does not allow it.
pub fn allow_descriptors(wanted: u64) -> bool {
    // A bridge has two for each.
    let wanted = match Over::asked() {
        Over::Plain => wanted,
        Over::Tls(_) | Over::H2c => 3 * wanted,
        Over::H2 => 5 * wanted,
    };
    let (soft, hard) = descriptor_limits();
    if soft >= wanted {
        return true;
    }
    hard >= wanted
        && Command::new("prlimit")
            .args(["--pid", &std::process::id().to_string(), &format!("--nofile={hard}:{hard}")])
            .status()
            .is_ok_and(|status| status.success())
}

/// The soft and the hard limit of this process, from `/proc`.
fn descriptor_limits() -> (u64, u64) {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("/proc is mounted");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("proc(5) promises the line");
    let mut numbers = line.split_whitespace().skip(3).map(|word| word.parse().unwrap_or(u64::MAX));
    (numbers.next().expect("a soft limit"), numbers.next().expect("a hard limit"))
}
