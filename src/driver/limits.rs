//! Limits of the system on this process: descriptors, locked memory, backlog, ports, processors.

use std::fs;
use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;

use super::{affinity, sys};

/// The two limits of a resource, in its own unit (`getrlimit(2)`); `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// The limit in force, which the process may raise up to `hard`.
    pub soft: Option<u64>,
    /// The maximum of `soft`.
    pub hard: Option<u64>,
}

/// The limit of open descriptors (`RLIMIT_NOFILE`).
///
/// # Errors
/// As `getrlimit(2)`.
pub fn descriptors() -> io::Result<ResourceLimit> {
    get(libc::RLIMIT_NOFILE)
}

/// The limit of locked memory, in bytes (`RLIMIT_MEMLOCK`). Rings count against it before Linux
/// 5.12 and again since 6.14.
///
/// # Errors
/// As `getrlimit(2)`.
pub fn locked_memory() -> io::Result<ResourceLimit> {
    get(libc::RLIMIT_MEMLOCK)
}

/// Raises the soft limit of descriptors to the hard one. Returns the limits before and after.
///
/// # Errors
/// As `getrlimit(2)` and `setrlimit(2)`.
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

/// The parameter of `getrlimit(2)`: C libraries differ in its type, and only glibc names it.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn get(resource: Resource) -> io::Result<ResourceLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is live.
    sys::check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    let known = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Ok(ResourceLimit { soft: known(limit.rlim_cur), hard: known(limit.rlim_max) })
}

/// The system's maximum of a listener's backlog (`net.core.somaxconn`, listen(2)).
pub fn backlog_max() -> Option<u64> {
    read_number("/proc/sys/net/core/somaxconn")
}

/// The ports of outgoing connections (`net.ipv4.ip_local_port_range`, ip(7)).
pub fn port_range() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

/// The number of processors that this process may use at a time: those of its affinity mask, or its
/// control group's quota of processor time, rounded up, if that is less. At least one.
pub fn usable_cpus() -> usize {
    // The standard library handles more processors than a fixed `cpu_set_t` can hold.
    let fallback = || thread::available_parallelism().map_or(1, NonZero::get);
    let allowed = affinity::allowed_cpus().map_or_else(|_| fallback(), |cpus| cpus.len());
    let quota = cgroup_quota().map_or(usize::MAX, |cpus| cpus.ceil() as usize);
    allowed.min(quota).max(1)
}

/// The control group's quota in processors, if it has one (cgroups(7); version 2, then version 1).
pub fn cgroup_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = group_of(&groups, "").unwrap_or("/");
    let v2 = least_quota(Path::new("/sys/fs/cgroup"), unified, quota_v2);
    v2.or_else(|| {
        let group = group_of(&groups, "cpu").unwrap_or("/");
        least_quota(Path::new("/sys/fs/cgroup/cpu"), group, quota_v1)
    })
}

/// The process's group in the hierarchy of this controller; the unified hierarchy has an empty
/// name. The lines of `/proc/PID/cgroup` are `NUMBER:CONTROLLER,…:PATH`.
fn group_of<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// The smallest quota from the group up to the root: all of them apply. A container may find its
/// own group's files at the root, while `/proc/self/cgroup` has the path on the host; groups that
/// do not exist are skipped.
fn least_quota(root: &Path, group: &str, quota_in: fn(&Path) -> Option<f64>) -> Option<f64> {
    let group = Path::new(group.trim_start_matches('/'));
    let within = group.ancestors().map(|ancestor| root.join(ancestor));
    within.filter_map(|folder| quota_in(&folder)).reduce(f64::min)
}

fn quota_v2(folder: &Path) -> Option<f64> {
    parse_cpu_max(&fs::read_to_string(folder.join("cpu.max")).ok()?)
}

/// `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    quotient(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(folder: &Path) -> Option<f64> {
    let read = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
    quotient(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

/// A quota of −1 means no quota.
fn quotient(quota_us: f64, period_us: f64) -> Option<f64> {
    (quota_us > 0.0 && period_us > 0.0).then(|| quota_us / period_us)
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
    fn the_process_finds_its_group() {
        let hybrid = "4:memory:/m\n2:cpu,cpuacct:/system.slice/xps.service\n1:name=systemd:/s\n0::/u\n";
        assert_eq!(group_of(hybrid, "cpu"), Some("/system.slice/xps.service"));
        assert_eq!(group_of(hybrid, ""), Some("/u"));
        assert_eq!(group_of("0::/only\n", "cpu"), None);
        assert_eq!(group_of("0::/a:b\n", ""), Some("/a:b"));
    }

    #[test]
    fn the_least_quota_on_the_way_to_the_root_binds() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.path().join("outer/cpu.max"), "100000 100000\n").unwrap();
        fs::write(inner.join("cpu.max"), "300000 100000\n").unwrap();
        assert_eq!(least_quota(root.path(), "/outer/inner", quota_v2), Some(1.0));
        assert_eq!(least_quota(root.path(), "/", quota_v2), None);
    }

    #[test]
    fn a_quota_of_version_1_is_that_of_the_group() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("group");
        fs::create_dir(&group).unwrap();
        for (folder, quota) in [(root.path(), "-1\n"), (&group, "250000\n")] {
            fs::write(folder.join("cpu.cfs_quota_us"), quota).unwrap();
            fs::write(folder.join("cpu.cfs_period_us"), "100000\n").unwrap();
        }
        assert_eq!(least_quota(root.path(), "/group", quota_v1), Some(2.5));
        assert_eq!(least_quota(root.path(), "/on/the/host", quota_v1), None);
    }

    #[test]
    fn the_system_answers() {
        assert!(usable_cpus() >= 1);
        assert!(descriptors().unwrap().soft.is_none_or(|soft| soft > 0));
        assert!(!kernel_release().is_empty());
    }
}
