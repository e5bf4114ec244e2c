//! The choice of a driver: whether io_uring is available, why not, and the remedy.
//!
//! Availability is tested with system calls, never by version numbers: distributions backport
//! features, and containers block system calls.

use std::fs;
use std::io;

use super::uring::{self, Refused, RingSize, What};
use super::{Feature, FeatureSet};

/// The I/O back-end to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring if it is available; otherwise epoll, with the reason in [`Selection`].
    #[default]
    Auto,
    /// io_uring. The start fails if it is not available.
    IoUring,
    /// epoll, also if io_uring is available.
    Epoll,
}

/// The drivers for a real kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// [`super::Uring`].
    IoUring,
    /// [`super::Epoll`].
    Epoll,
}

impl Backend {
    /// The name, as `--backend` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// The chosen driver, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The chosen driver.
    pub backend: Backend,
    /// The reason, in a few words.
    pub reason: String,
    /// Whether the driver was chosen because the preferred one, io_uring, is unavailable.
    pub is_fallback: bool,
    /// What makes the preferred driver available.
    pub remedy: Option<&'static str>,
    /// The size of each worker's ring, with io_uring.
    pub ring_size: RingSize,
}

impl Selection {
    const fn preferred(backend: Backend, reason: String, ring_size: RingSize) -> Self {
        Self { backend, reason, is_fallback: false, remedy: None, ring_size }
    }
}

/// Why io_uring cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// `ENOSYS`: the kernel was built without io_uring, or is too old.
    #[error("this kernel has no io_uring")]
    NotInKernel,
    /// `EPERM`, and the system setting `kernel.io_uring_disabled` is not 0.
    #[error("io_uring is switched off on this system (kernel.io_uring_disabled is {setting})")]
    Disabled {
        /// 1: disabled for processes outside of `kernel.io_uring_group`; 2: for all processes.
        setting: u32,
    },
    /// `EPERM` or `EACCES`, and a seccomp filter is in force.
    #[error("io_uring is blocked by this process's seccomp filter, as in many containers ({call} is denied)")]
    Seccomp {
        /// The first call that the filter denies.
        call: &'static str,
    },
    /// `EPERM` or `EACCES`, and neither the setting nor a seccomp filter explains it.
    #[error("io_uring is forbidden here ({0})")]
    Forbidden(String),
    /// The kernel lacks something that the driver requires.
    #[error("this kernel's io_uring lacks {0}")]
    Lacks(&'static str),
    /// `ENOMEM`: even the smallest rings cannot be created for all workers. A reason to fall back:
    /// epoll locks no memory, and a server that runs and warns is better than none.
    #[error("cannot create io_uring: ENOMEM (RLIMIT_MEMLOCK too low, or out of memory)")]
    LockedMemory,
    /// `EMFILE` or `ENFILE`: no descriptor is left for a ring. Never a reason to fall back.
    #[error("cannot create io_uring: no file descriptor left")]
    Descriptors,
    /// Another error that does not mean that io_uring is missing. Never a reason to fall back.
    #[error("cannot create io_uring: {0}")]
    Resource(String),
}

impl Unavailable {
    /// What makes io_uring available, or avoids it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotInKernel | Self::Lacks(_) => "use Linux 6.0 or later, or `--backend epoll`",
            Self::Disabled { setting: 1 } => {
                "sysctl kernel.io_uring_disabled=0 (or join the group in kernel.io_uring_group), or `--backend epoll`"
            }
            Self::Disabled { .. } => "sysctl kernel.io_uring_disabled=0, or `--backend epoll`",
            Self::Seccomp { .. } => {
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile \
                 (docker run --security-opt seccomp=PROFILE), or `--backend epoll`"
            }
            Self::Forbidden(_) => "check the kernel log for a denial by a security module, or `--backend epoll`",
            Self::LockedMemory => {
                "ulimit -l unlimited (LimitMEMLOCK=infinity in a unit, docker run --ulimit memlock=-1), \
                 fewer --workers, more memory for the control group, or `--backend epoll`"
            }
            Self::Descriptors => "ulimit -n 65536 (LimitNOFILE=65536 in a unit), or `--backend epoll`",
            Self::Resource(_) => "`--backend epoll`, which needs no ring",
        }
    }

    /// Whether `auto` may use epoll instead: io_uring is unavailable, or lacks a resource that
    /// epoll does not need.
    pub const fn allows_fallback(&self) -> bool {
        match self {
            Self::NotInKernel
            | Self::Disabled { .. }
            | Self::Seccomp { .. }
            | Self::Forbidden(_)
            | Self::Lacks(_)
            | Self::LockedMemory => true,
            Self::Descriptors | Self::Resource(_) => false,
        }
    }
}

/// Facts about the process and the system that distinguish the causes of one `errno`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The process's seccomp mode (`proc(5)`): 0 none, 1 strict, 2 a filter.
    pub seccomp_mode: Option<u32>,
    /// `kernel.io_uring_disabled` (Linux 6.6): 0 enabled, 1 disabled for processes outside of a
    /// group, 2 disabled for all. Only a kernel that has io_uring has the setting.
    pub io_uring_disabled: Option<u32>,
}

impl Environment {
    /// Reads the facts of this process.
    pub fn observe() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        Self {
            seccomp_mode: status
                .lines()
                .find_map(|line| line.strip_prefix("Seccomp:"))
                .and_then(|mode| mode.trim().parse().ok()),
            io_uring_disabled: setting.trim().parse().ok(),
        }
    }
}

/// The parts of io_uring that are available to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// The optional features.
    pub features: FeatureSet,
    /// The largest size at which every worker can have a ring.
    pub size: RingSize,
}

/// Chooses the driver for this number of workers.
///
/// # Errors
/// io_uring was requested and is unavailable, or lacks a resource that epoll needs as well.
pub fn choose(choice: BackendChoice, off: FeatureSet, workers: usize) -> Result<Selection, Unavailable> {
    match choice {
        BackendChoice::Epoll => Ok(Selection::preferred(Backend::Epoll, DEMANDED.to_owned(), RingSize::FULL)),
        BackendChoice::IoUring => availability(off, workers).map(|Available { size, .. }| {
            Selection::preferred(Backend::IoUring, DEMANDED.to_owned() + &smaller(size, workers), size)
        }),
        BackendChoice::Auto => choose_by(availability(off, workers), off, workers),
    }
}

/// The choice of `auto`, given what is available.
///
/// # Errors
/// io_uring lacks a resource that epoll needs as well.
pub fn choose_by(
    available: Result<Available, Unavailable>,
    off: FeatureSet,
    workers: usize,
) -> Result<Selection, Unavailable> {
    match available {
        Ok(Available { features, size }) => {
            let missing = FeatureSet::ALL.minus(features.minus(off));
            let reason = if missing.iter().next().is_none() {
                "available, with every optional feature".to_owned()
            } else {
                let names: Vec<_> = missing.iter().map(Feature::name).collect();
                format!("available, without {}", names.join(", "))
            };
            Ok(Selection::preferred(Backend::IoUring, reason + &smaller(size, workers), size))
        }
        Err(unavailable) if unavailable.allows_fallback() => Ok(Selection {
            backend: Backend::Epoll,
            reason: unavailable.to_string(),
            is_fallback: true,
            remedy: Some(unavailable.remedy()),
            ring_size: RingSize::FULL,
        }),
        Err(unavailable) => Err(unavailable),
    }
}

const DEMANDED: &str = "as demanded";

/// The part of the reason about rings that are smaller than [`RingSize::FULL`]; otherwise empty.
fn smaller(size: RingSize, workers: usize) -> String {
    if size == RingSize::FULL {
        return String::new();
    }
    let RingSize { submissions, completions, .. } = size;
    format!(
        ", with rings of {submissions} and {completions} entries: RLIMIT_MEMLOCK allows no larger ones for {workers} workers"
    )
}

/// Tests what of io_uring is available for this number of workers at a time, each with everything
/// that the driver requires.
///
/// # Errors
/// The reason why io_uring is unavailable.
pub fn availability(off: FeatureSet, workers: usize) -> Result<Available, Unavailable> {
    uring::try_out().map_err(|Refused { what, error }| match what {
        What::Call(call) => diagnose(call, &error, Environment::observe()),
        What::Lacking(what) => Unavailable::Lacks(what),
    })?;
    let features = uring::kernel_features();
    let size = uring::fitting(workers, FeatureSet::ALL.minus(off), features.minus(off))
        .map_err(|error| diagnose(SETUP, &error, Environment::observe()))?;
    Ok(Available { features, size })
}

/// The call that creates a ring.
const SETUP: &str = "io_uring_setup";

/// Finds the cause of the error of an io_uring call.
pub fn diagnose(call: &'static str, error: &io::Error, environment: Environment) -> Unavailable {
    let Environment { seccomp_mode, io_uring_disabled } = environment;
    // The setting only concerns the creation of rings: after another call, one was created.
    let io_uring_disabled = if call == SETUP { io_uring_disabled } else { Some(0) };
    let is_filtered = seccomp_mode == Some(SECCOMP_MODE_FILTER);
    match error.raw_os_error() {
        // The filters of some container runtimes return `ENOSYS`, as if the call did not exist. The
        // setting exists only if the call does.
        Some(libc::ENOSYS) if is_filtered && io_uring_disabled.is_some() => Unavailable::Seccomp { call },
        Some(libc::ENOSYS) => Unavailable::NotInKernel,
        Some(libc::EPERM | libc::EACCES) => match io_uring_disabled {
            Some(setting @ 1..) => Unavailable::Disabled { setting },
            Some(0) | None if is_filtered => Unavailable::Seccomp { call },
            Some(0) | None => Unavailable::Forbidden(error.to_string()),
        },
        Some(libc::EINVAL) => Unavailable::Lacks("the setup that xps requires"),
        Some(libc::ENOMEM) => Unavailable::LockedMemory,
        Some(libc::EMFILE | libc::ENFILE) => Unavailable::Descriptors,
        _ => Unavailable::Resource(error.to_string()),
    }
}

/// `SECCOMP_MODE_FILTER`, as in `proc(5)`.
const SECCOMP_MODE_FILTER: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosed(errno: i32, seccomp_mode: Option<u32>, io_uring_disabled: Option<u32>) -> Unavailable {
        diagnose(SETUP, &io::Error::from_raw_os_error(errno), Environment { seccomp_mode, io_uring_disabled })
    }

    #[test]
    fn the_three_ways_to_be_without_io_uring_are_told_apart() {
        assert_eq!(diagnosed(libc::ENOSYS, Some(0), None), Unavailable::NotInKernel);
        assert_eq!(diagnosed(libc::EPERM, Some(2), Some(2)), Unavailable::Disabled { setting: 2 });
        assert_eq!(diagnosed(libc::EPERM, Some(0), Some(1)), Unavailable::Disabled { setting: 1 });
        assert_eq!(diagnosed(libc::EPERM, Some(2), Some(0)), Unavailable::Seccomp { call: SETUP });
        assert_eq!(diagnosed(libc::EPERM, Some(2), None), Unavailable::Seccomp { call: SETUP });
        assert!(matches!(diagnosed(libc::EPERM, Some(0), Some(0)), Unavailable::Forbidden(_)));
        assert!(matches!(diagnosed(libc::EACCES, None, None), Unavailable::Forbidden(_)));
    }

    #[test]
    fn a_filter_that_denies_the_call_exists_is_seen_through() {
        assert_eq!(diagnosed(libc::ENOSYS, Some(2), Some(0)), Unavailable::Seccomp { call: SETUP });
        assert_eq!(diagnosed(libc::ENOSYS, Some(2), None), Unavailable::NotInKernel);
        assert_eq!(diagnosed(libc::ENOSYS, Some(0), Some(0)), Unavailable::NotInKernel);
    }

    #[test]
    fn a_lack_of_what_epoll_needs_as_well_is_no_reason_to_fall_back() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::EFAULT] {
            assert!(!diagnosed(errno, Some(0), Some(0)).allows_fallback());
        }
        for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOMEM] {
            assert!(diagnosed(errno, Some(2), Some(0)).allows_fallback());
        }
    }

    #[test]
    fn a_call_that_alone_is_denied_is_named_and_no_setting_is_blamed() {
        let denied = |errno| {
            let environment = Environment { seccomp_mode: Some(2), io_uring_disabled: Some(1) };
            diagnose("io_uring_enter", &io::Error::from_raw_os_error(errno), environment)
        };
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
            assert_eq!(denied(errno), Unavailable::Seccomp { call: "io_uring_enter" });
        }
        assert!(denied(libc::EPERM).to_string().contains("io_uring_enter is denied"));
    }

    #[test]
    fn each_shortage_names_the_limit_to_raise() {
        assert!(diagnosed(libc::ENOMEM, None, None).remedy().contains("ulimit -l"));
        assert!(diagnosed(libc::EMFILE, None, None).remedy().contains("ulimit -n"));
        assert!(diagnosed(libc::EPERM, None, Some(1)).remedy().contains("io_uring_group"));
    }

    #[test]
    fn epoll_is_always_to_be_had() {
        let selection = choose(BackendChoice::Epoll, FeatureSet::NONE, 1).unwrap();
        assert_eq!((selection.backend, selection.is_fallback), (Backend::Epoll, false));
    }
}
