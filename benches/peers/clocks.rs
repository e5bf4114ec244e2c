//! What processor time was used, by whom.
//!
//! A process's time is read from its processor clock (`clock_getcpuclockid(3)`): nanoseconds, all
//! threads, also those that have ended. It does not hold what the kernel did elsewhere on the
//! process's behalf; the whole machine's time does.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// The processes whose time is told apart.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The server's.
    pub server: Vec<u32>,
    /// Load generator and origin.
    pub peers: Vec<u32>,
}

/// All clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    server: Duration,
    server_user: Duration,
    peers: Duration,
    idle: Duration,
    stolen: Duration,
    cpus: u32,
}

/// What was used between two samples.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// By the clock on the wall.
    pub elapsed: Duration,
    /// The server's processes.
    pub server: Duration,
    /// Its part outside the kernel. The kernel estimates this from its ticks.
    pub server_user: Duration,
    /// Load generator and origin.
    pub peers: Duration,
    /// All processors: everything that was not idle, whoever used it.
    pub machine: Duration,
    /// Time that the hypervisor kept for others: a sign of noise.
    pub stolen: Duration,
}

impl Sample {
    /// Reads all clocks.
    pub fn take(groups: &Groups) -> io::Result<Self> {
        let (idle, stolen, cpus) = machine()?;
        Ok(Self {
            at: Instant::now(),
            server: sum(&groups.server, processor_time)?,
            server_user: sum(&groups.server, user_time)?,
            peers: sum(&groups.peers, processor_time)?,
            idle,
            stolen,
            cpus,
        })
    }

    /// What was used since an earlier sample.
    pub fn since(&self, earlier: &Self) -> Usage {
        let elapsed = self.at - earlier.at;
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        Usage {
            elapsed,
            server: self.server.saturating_sub(earlier.server),
            server_user: self.server_user.saturating_sub(earlier.server_user),
            peers: self.peers.saturating_sub(earlier.peers),
            // Idle time is measured; busy time would be sampled by ticks, which is coarser.
            machine: (elapsed * self.cpus).saturating_sub(self.idle.saturating_sub(earlier.idle) + stolen),
            stolen,
        }
    }
}

/// The children of a process, as the kernel lists them now.
pub fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat_field(pid, PARENT).is_ok_and(|found| found == u64::from(parent)))
        .collect()
}

fn sum(pids: &[u32], clock: fn(u32) -> io::Result<Duration>) -> io::Result<Duration> {
    pids.iter().map(|&pid| clock(pid)).sum()
}

/// Fields of `/proc/PID/stat`, counted as in proc(5) but from the one after the name, which may
/// itself contain anything: field 3 there is 0 here.
const PARENT: usize = 1;
const USER_TICKS: usize = 11;

fn stat_field(pid: u32, field: usize) -> io::Result<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    line.rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(field)?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

fn user_time(pid: u32) -> io::Result<Duration> {
    stat_field(pid, USER_TICKS).map(ticks)
}

fn ticks(count: u64) -> Duration {
    // SAFETY: takes no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs(count) / u32::try_from(per_second).unwrap_or(100).max(1)
}

fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut clock = MaybeUninit::uninit();
    // SAFETY: the pointer is to writable memory of the right type.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, clock.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the first call succeeded, so the clock is initialised; the second is given writable
    // memory of the right type, and initialises it unless it fails.
    let time = unsafe {
        if libc::clock_gettime(clock.assume_init(), time.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        time.assume_init()
    };
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Idle (and waiting for disks) and stolen time of all processors together, and their number.
fn machine() -> io::Result<(Duration, Duration, u32)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // proc(5): user nice system idle iowait irq softirq steal.
    let [_, _, _, idle, iowait, _, _, steal, ..] = fields[..] else {
        return Err(io::Error::other("/proc/stat has an unknown form"));
    };
    let cpus = text.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
    Ok((ticks(idle + iowait), ticks(steal), cpus as u32))
}
