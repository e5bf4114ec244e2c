//! CPU affinity of threads.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this thread may run on, in order of number (`sched_getaffinity(2)`).
///
/// # Errors
/// As `sched_getaffinity(2)`.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Pins this thread to one CPU (`sched_setaffinity(2)`).
///
/// # Errors
/// The CPU does not exist, or the process may not use it.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    restrict_thread(&[cpu])
}

/// Restricts this thread, and what it starts from now on, to these CPUs (`sched_setaffinity(2)`).
///
/// # Errors
/// One of the CPUs does not exist, or the process may use none of them.
pub fn restrict_thread(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        if *cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        set.set(*cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}
