//! Processor time and memory of a process, as the kernel accounts for them.

use std::fs;
use std::time::Duration;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorTime {
    /// In its own code.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl ProcessorTime {
    /// The time of a process with all its threads, to a hundredth of a second. `None`: there is no such
    /// process, or it cannot be read.
    pub fn of(pid: u32) -> Option<Self> {
        parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// What was used since.
    pub fn since(self, earlier: Self) -> Self {
        Self { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// The unit of times in `/proc`: `USER_HZ`, which is 100 on every architecture that this program runs on.
const TICK: Duration = Duration::from_millis(10);

/// The fields `utime` and `stime` (proc(5)). The name of the program, in parentheses, may hold spaces.
fn parse(stat: &str) -> Option<ProcessorTime> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(|ticks| TICK * ticks);
    Some(ProcessorTime { user: ticks()?, system: ticks()? })
}

/// Largest resident memory of a process so far, in bytes.
pub fn resident_bytes_max(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    kibibytes.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// Whether two processes have to share one processor, the only one that either may use.
pub fn share_one_processor(one: u32, other: u32) -> bool {
    let processors = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:").map(|list| list.trim().to_owned()))
    };
    let (one, other) = (processors(one), processors(other));
    // A list of several has a comma or a dash.
    one == other && one.is_some_and(|list| list.parse::<u32>().is_ok())
}

/// For how long this thread has run, and for how long it waited for a processor.
pub fn thread_time() -> Option<(Duration, Duration)> {
    parse_schedstat(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// The first two numbers of `schedstat`: nanoseconds on a processor, and on a run queue.
pub fn parse_schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().map(Duration::from_nanos));
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 3 0 1 1 1";
        let expected = ProcessorTime { user: Duration::from_millis(1500), system: Duration::from_millis(250) };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("42 (a"), None);
    }

    #[test]
    fn the_account_of_a_thread_is_read() {
        let expected = (Duration::from_nanos(12), Duration::from_nanos(3));
        assert_eq!((parse_schedstat("12 3 4\n"), parse_schedstat("12")), (Some(expected), None));
    }
}
