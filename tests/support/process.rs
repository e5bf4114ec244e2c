//! A process seen from outside: its end, its memory, processor time and descriptors, and signals to it.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::environment::{patience, skip};

/// Signals that are sent to the program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Hangup,
    Interrupt,
    Terminate,
    User1,
    User2,
    /// SIGSTOP: it does not run until it is told to continue.
    Stop,
    Continue,
}

impl Signal {
    /// Its number, as in signal(7).
    pub const fn number(self) -> i32 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
            Self::User1 => 10,
            Self::User2 => 12,
            Self::Stop => 19,
            Self::Continue => 18,
        }
    }

    /// Sends it. The process must not have been waited for, or its number may be another's.
    #[track_caller]
    pub fn send(self, process: &Child) {
        // The shell's builtin: it needs no package, and no `unsafe`.
        let command = format!("kill -{} {}", self.number(), process.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("sh starts");
        assert!(status.success(), "`{command}` failed: {status}");
    }
}

/// A program that is not `xps` and dies of SIGHUP. `None`, said visibly, if this process ignores the
/// signal, as under `nohup`: a child inherits that.
pub fn sleeper(test: &str) -> Option<Child> {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process has a status");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("it says what is ignored");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
    if ignored & (1 << (Signal::Hangup.number() - 1)) != 0 {
        skip(test, "SIGHUP is ignored here; run it without nohup");
        return None;
    }
    Some(Command::new("sleep").arg("600").spawn().expect("sleep is everywhere"))
}

/// A program that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub output: Vec<u8>,
    /// What it wrote to standard error.
    pub errors: String,
}

/// Runs a program to its end with this on standard input. It must end by itself.
#[track_caller]
pub fn run_to_end(command: &mut Command, input: &[u8]) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = process.stdin.take().expect("standard input is a pipe");
    let mut stdout = process.stdout.take().expect("standard output is a pipe");
    let mut stderr = process.stderr.take().expect("standard error is a pipe");
    std::thread::scope(|scope| {
        // The program may end without reading all of it.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = scope.spawn(move || read_all(&mut stdout));
        let errors = scope.spawn(move || read_all(&mut stderr));
        let status = wait_for_exit(&mut process, patience());
        if status.is_none() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let (output, errors) = (output.join().expect("no panic"), errors.join().expect("no panic"));
        let errors = String::from_utf8_lossy(&errors).into_owned();
        let status = status.unwrap_or_else(|| panic!("{command:?} did not end in {:?}\n{errors}", patience()));
        Finished { status, output, errors }
    })
}

fn read_all(source: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = source.read_to_end(&mut bytes);
    bytes
}

/// Waits for a process to end; `None` when the time is up.
pub fn wait_for_exit(process: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        match process.try_wait().expect("a child can be waited for") {
            Some(status) => return Some(status),
            None if Instant::now() >= deadline => return None,
            // No portable event tells of the end of a child within a time.
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// What a process has used, as `/proc` tells.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Processor time so far, user and system.
    pub cpu: Duration,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// Reads the usage of a living process.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the process lives");
        let status = read("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5) promises VmRSS");
        let rss_kib: u64 = rss.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        let stat = read("stat");
        // The name in brackets may hold anything, so count from behind it: utime and stime are the
        // 14th and 15th fields, the 12th and 13th after the name.
        let after_name = stat.rsplit_once(')').expect("proc(5) promises brackets").1;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().expect("ticks")).sum();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").count();
        Self { rss_bytes: rss_kib * 1024, cpu: Duration::from_millis(ticks * MILLISECONDS_PER_TICK), descriptors }
    }
}

/// Lets a running process open so many descriptors more. An accept of io_uring that waits already has the limit of before.
#[track_caller]
pub fn allow_more_descriptors(pid: u32, more: usize) {
    let names = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    let open: Vec<usize> = names.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The limit is on the number of a new one, which is the lowest that is free.
    let taken_below = |limit: usize| open.iter().filter(|number| **number < limit).count();
    let limit = (0..).find(|limit| limit + 1 - taken_below(limit + 1) > more).expect("it has not all numbers");
    let limit = format!("--nofile={limit}:");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().expect("prlimit starts");
    assert!(status.success(), "prlimit {limit}: {status}");
}

/// The processor time a process uses in one second. The wait is the measurement.
#[track_caller]
pub fn cpu_within_a_second(pid: u32) -> Duration {
    let before = Usage::of(pid).cpu;
    std::thread::sleep(Duration::from_secs(1));
    Usage::of(pid).cpu.saturating_sub(before)
}

/// `USER_HZ`, which Linux has fixed at 100 for programs on every architecture that matters here (time(7)).
const MILLISECONDS_PER_TICK: u64 = 10;
