//! What the system lets this process have: descriptors, locked memory, backlog, ports, processors.

use std::fs;
use std::io;
use std::ops::RangeInclusive;

use super::{affinity, sys};

/// A resource's two limits, in its own unit (`getrlimit(2)`); `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// The one in force, which the process may raise.
    pub soft: Option<u64>,
    /// How far it may.
    pub hard: Option<u64>,
}

/// Open descriptors.
///
/// # Errors
/// What `getrlimit(2)` says.
pub fn descriptors() -> io::Result<ResourceLimit> {
    get(libc::RLIMIT_NOFILE)
}

/// Bytes of locked memory. Rings need none since Linux 5.12; a kernel older than that, and registered memory, do.
///
/// # Errors
/// What `getrlimit(2)` says.
pub fn locked_memory() -> io::Result<ResourceLimit> {
    get(libc::RLIMIT_MEMLOCK)
}

/// Raises the soft limit of descriptors to the hard one. Returns the limits before and after.
///
/// # Errors
/// What `getrlimit(2)` and `setrlimit(2)` say.
pub fn raise_descriptors() -> io::Result<(ResourceLimit, ResourceLimit)> {
    let before = descriptors()?;
    if before.soft == before.hard {
        return Ok((before, before));
    }
    let most = before.hard.unwrap_or(libc::RLIM_INFINITY);
    let wanted = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the structure is live.
    sys::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) })?;
    Ok((before, descriptors()?))
}

fn get(resource: libc::__rlimit_resource_t) -> io::Result<ResourceLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is live.
    sys::check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    let known = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Ok(ResourceLimit { soft: known(limit.rlim_cur), hard: known(limit.rlim_max) })
}

/// The most connections that may wait for `accept`, whatever a program asks for.
pub fn backlog_max() -> Option<u64> {
    read_number("/proc/sys/net/core/somaxconn")
}

/// The ports that outgoing connections use.
pub fn port_range() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

/// How many processors this process may use at a time: those of its affinity mask, or fewer if its
/// control group has a quota of processor time, which is rounded up. At least one.
pub fn usable_cpus() -> usize {
    let allowed = affinity::allowed_cpus().map_or(1, |cpus| cpus.len());
    let quota = cgroup_quota().map_or(usize::MAX, |cpus| cpus.ceil() as usize);
    allowed.min(quota).max(1)
}

/// The control group's quota in processors, if it has one (cgroups(7); version 2, then version 1).
pub fn cgroup_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    quota_v2(unified).or_else(quota_v1)
}

/// The least quota on the way from the group up to the root.
fn quota_v2(group: &str) -> Option<f64> {
    let mut path = std::path::Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let mut least: Option<f64> = None;
    while path.starts_with("/sys/fs/cgroup") {
        if let Some(cpus) = fs::read_to_string(path.join("cpu.max")).ok().and_then(|text| parse_cpu_max(&text)) {
            least = Some(least.map_or(cpus, |other| other.min(cpus)));
        }
        if !path.pop() {
            break;
        }
    }
    least
}

/// `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_v1() -> Option<f64> {
    let quota = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").ok()?.trim().parse::<f64>().ok()?;
    let period = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_period_us").ok()?.trim().parse::<f64>().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The running kernel's release, such as `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_understood() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max(""), None);
    }

    #[test]
    fn the_system_answers() {
        assert!(usable_cpus() >= 1);
        assert!(descriptors().unwrap().soft.is_none_or(|soft| soft > 0));
        assert!(!kernel_release().is_empty());
    }
}
