//! Child processes that are tied to a processor and cannot outlive the benchmark.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A child process; dropping it ends it and its own children.
pub struct Guarded {
    child: Child,
}

/// Time to end after SIGTERM, before SIGKILL.
const TERM_MAX: Duration = Duration::from_secs(2);

/// How often to look whether a process that was asked to end has ended.
const TERM_POLL: Duration = Duration::from_millis(5);

impl Guarded {
    /// Starts a command on this processor, in a process group of its own.
    pub fn start(mut command: Command, cpu: Option<usize>) -> io::Result<Self> {
        command.process_group(0);
        tie(&mut command, cpu);
        Ok(Self { child: command.spawn()? })
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn signal_group(&self, signal: i32) {
        // SAFETY: takes no pointers. The child is not yet waited for, or has just been and leads a
        // group of its own, so the number cannot be that of a stranger.
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), signal) };
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.signal_group(libc::SIGTERM);
        let deadline = Instant::now() + TERM_MAX;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(TERM_POLL),
                Ok(Some(_)) => return,
                Err(_) => break,
            }
        }
        self.signal_group(libc::SIGKILL);
        // Nothing is left to do about an error here.
        let _ = self.child.wait();
    }
}

/// Ties a command to a processor, and its life to that of this thread.
pub fn tie(command: &mut Command, cpu: Option<usize>) {
    let before_exec = move || {
        // SAFETY: plain system calls on values of this frame, all of them allowed between fork and
        // exec. An all-zero CPU set is valid, and `CPU_SET` checks its bounds.
        unsafe {
            // SIGTERM, which a server with children of its own passes on.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            if let Some(cpu) = cpu {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls that are allowed there, and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
}

/// The two processors of a run, and what is wrong with them, if anything.
#[derive(Clone, Debug)]
pub struct Processors {
    /// For the server; `None`: no choice.
    pub server: Option<usize>,
    /// For load generator and origin.
    pub peers: Option<usize>,
    /// A remark for the reader of the figures.
    pub remark: Option<&'static str>,
}

impl Processors {
    /// Chooses two processors that this process may use; of different cores if there are such.
    pub fn choose() -> Self {
        let allowed = fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| {
                let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
                Some(parse_list(line))
            })
            .unwrap_or_default();
        let [server, second, ..] = allowed[..] else {
            return Self {
                server: None,
                peers: None,
                remark: Some("only one processor: server and load share it, so times hold more cache misses"),
            };
        };
        let siblings = fs::read_to_string(format!("/sys/devices/system/cpu/cpu{server}/topology/thread_siblings_list"))
            .map(|line| parse_list(&line))
            .unwrap_or_default();
        match allowed.iter().find(|&cpu| *cpu != server && !siblings.contains(cpu)) {
            Some(&peers) => Self { server: Some(server), peers: Some(peers), remark: None },
            None => Self {
                server: Some(server),
                peers: Some(second),
                remark: Some("the two processors are threads of one core: each slows the other"),
            },
        }
    }
}

/// Reads the kernel's lists: `0-3,8`.
fn parse_list(text: &str) -> Vec<usize> {
    text.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on an interrupt (Ctrl-C) only makes [`interrupted`] true, so that guards still run.
pub fn catch_interrupts() {
    // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
    unsafe { libc::signal(libc::SIGINT, on_interrupt as *const () as libc::sighandler_t) };
}

/// Whether the user wants the benchmark to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
