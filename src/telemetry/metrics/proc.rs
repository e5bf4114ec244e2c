//! What the kernel knows of this process and of the system, from `/proc`.
//!
//! Everything is optional: without `/proc`, or if it looks different, a figure is left out.

use std::fs;
use std::str::FromStr;

/// Ticks per second in `/proc` (USER_HZ, proc_pid_stat(5)): 100 on every architecture that xps supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Above this size of the table of descriptors, they are not counted one by one: that would take longer
/// than a scrape may.
const COUNTED_MAX: u64 = 4096;

/// Processor time of this process, in seconds.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    cpu_seconds_of(&stat)
}

/// The same of one of its threads; `thread`: as `PID/task/TID`.
pub(super) fn thread_cpu_seconds(thread: &str) -> Option<f64> {
    // In nanoseconds, if the kernel keeps them.
    if let Ok(text) = fs::read_to_string(format!("/proc/{thread}/schedstat"))
        && let Some(nanos) = text.split_whitespace().next().and_then(|nanos| f64::from_str(nanos).ok())
    {
        return Some(nanos / 1e9);
    }
    cpu_seconds_of(&fs::read_to_string(format!("/proc/{thread}/stat")).ok()?)
}

/// The calling thread, for [`thread_cpu_seconds`].
pub(super) fn this_thread() -> Option<String> {
    fs::read_link("/proc/thread-self").ok()?.into_os_string().into_string().ok()
}

/// Fields 14 and 15 of a `stat` file (proc_pid_stat(5)).
fn cpu_seconds_of(stat: &str) -> Option<f64> {
    // The name in field 2 may hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system) = (u64::from_str(fields.next()?).ok()?, u64::from_str(fields.next()?).ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Memory of this process that is in use, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Open descriptors of this process.
pub(super) fn open_descriptors() -> Option<u64> {
    // Linux 6.2 and later: the size of the folder.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => {}
        open => return Some(open),
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    if number(&status, "FDSize:")? > COUNTED_MAX {
        return None;
    }
    // Less the one of the folder itself.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// The number of descriptors that this process may have open; `None` also if there is no limit.
pub(super) fn descriptors_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Memory of the system in bytes: in use, and all.
pub(super) fn system_memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let all = kibibytes(&text, "MemTotal:")?;
    Some((all.saturating_sub(kibibytes(&text, "MemAvailable:")?), all))
}

/// Processor time of the system in ticks: in use, and all.
pub(super) fn system_ticks() -> Option<(u64, u64)> {
    system_ticks_of(&fs::read_to_string("/proc/stat").ok()?)
}

fn system_ticks_of(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // The last two, time of guests, are part of the first two.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    // Idle, and waiting for a disk.
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all.saturating_sub(idle), all))
}

/// A line `Name:  12 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    Some(number(text, name)? * 1024)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(cpu_seconds_of("1 (a) b) c) S 1 1 1 0 -1 4 1 2 3 4 150 50 0 0 20"), Some(2.0));
        assert_eq!(cpu_seconds_of("1 (a"), None);
        assert_eq!(system_ticks_of("cpu  10 1 5 80 4 0 0 0 7 0\ncpu0 1\n"), Some((16, 100)));
        assert_eq!(system_ticks_of("intr 1"), None);
        assert_eq!(kibibytes("Name: x\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12288));
        assert_eq!(kibibytes("", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_figures() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
        assert!(this_thread().and_then(|thread| thread_cpu_seconds(&thread)).is_some_and(|seconds| seconds >= 0.0));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(open_descriptors().is_some_and(|open| open > 2));
        assert!(system_memory().is_some_and(|(used, all)| used < all));
        assert!(system_ticks().is_some_and(|(used, all)| used < all));
    }
}
