//! What this kernel and this process may use, why not, and what to do about it; and the choice of a driver.
//!
//! Everything is found out by asking the kernel, never by comparing version numbers: distributions
//! backport, containers block.

use std::fs;
use std::io;

use super::uring::{self, Refused, RingSize, What};
use super::{Feature, FeatureSet};

/// Which driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring where it is available, else epoll, saying why.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// The drivers that stand on a kernel.
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

/// Which driver was chosen, and why that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The driver.
    pub backend: Backend,
    /// Why, in a few words.
    pub reason: String,
    /// It is not the one that would have been preferred.
    pub is_fallback: bool,
    /// What would let the preferred one be used.
    pub remedy: Option<&'static str>,
    /// How large the rings of each worker are, with io_uring.
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
    /// `ENOSYS`: the kernel was built without it, or is too old.
    #[error("this kernel has no io_uring")]
    NotInKernel,
    /// `EPERM`, and the system setting says so.
    #[error("io_uring is switched off on this system (kernel.io_uring_disabled is {setting})")]
    Disabled {
        /// 1: for those outside of the group, 2: for everybody.
        setting: u32,
    },
    /// `EPERM` or `EACCES`, and a seccomp filter is in force.
    #[error("io_uring is blocked by this process's seccomp filter, as in many containers ({call} is denied)")]
    Seccomp {
        /// The call that it denies, the first of them.
        call: &'static str,
    },
    /// `EPERM` or `EACCES` without a reason to be seen.
    #[error("io_uring is forbidden here ({0})")]
    Forbidden(String),
    /// Something that the driver cannot do without is missing.
    #[error("this kernel's io_uring lacks {0}")]
    Lacks(&'static str),
    /// `ENOMEM`: it is there, but not even its smallest rings may be had for all workers. A reason to fall back: epoll
    /// locks no memory, and a server that serves and warns is of more use than none.
    #[error("cannot create io_uring: ENOMEM (RLIMIT_MEMLOCK too low, or out of memory)")]
    LockedMemory,
    /// `EMFILE`, `ENFILE`: no descriptor is left for a ring. Never a reason to fall back.
    #[error("a ring cannot be made: no file descriptor is left for it")]
    Descriptors,
    /// Another error that does not mean that io_uring is missing. Never a reason to fall back.
    #[error("a ring cannot be made: {0}")]
    Resource(String),
}

impl Unavailable {
    /// What would lift the obstacle.
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
            Self::Forbidden(_) => "look for a security module's denial in the kernel log, or `--backend epoll`",
            Self::LockedMemory => {
                "ulimit -l unlimited (LimitMEMLOCK=infinity in a unit, docker run --ulimit memlock=-1), \
                 fewer --workers, more memory for the control group, or `--backend epoll`"
            }
            Self::Descriptors => "ulimit -n 65536 (LimitNOFILE=65536 in a unit), or `--backend epoll`",
            Self::Resource(_) => "`--backend epoll` does without rings",
        }
    }

    /// Whether `auto` may take epoll instead: io_uring is not to be had, or short of what epoll does without.
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

/// What else is known about the process and the system, by which one errno's causes are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The process's seccomp mode (`proc(5)`): 0 none, 1 strict, 2 a filter.
    pub seccomp_mode: Option<u32>,
    /// `kernel.io_uring_disabled` (Linux 6.6): 0 for nobody, 1 for those outside of a group, 2 for
    /// all. Only a kernel that has io_uring has the setting.
    pub io_uring_disabled: Option<u32>,
}

impl Environment {
    /// Those of this process, now.
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

/// What this process can have of io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// The optional features.
    pub features: FeatureSet,
    /// The largest rings of which as many as asked for fit.
    pub size: RingSize,
}

/// Chooses the driver for so many workers.
///
/// # Errors
/// io_uring was demanded and is unavailable, or is there but short of a resource that epoll needs as well.
pub fn choose(choice: BackendChoice, off: FeatureSet, workers: usize) -> Result<Selection, Unavailable> {
    match choice {
        BackendChoice::Epoll => Ok(Selection::preferred(Backend::Epoll, DEMANDED.to_owned(), RingSize::FULL)),
        BackendChoice::IoUring => availability(off, workers).map(|Available { size, .. }| {
            Selection::preferred(Backend::IoUring, DEMANDED.to_owned() + &smaller(size, workers), size)
        }),
        BackendChoice::Auto => choose_by(availability(off, workers), off, workers),
    }
}

/// What `auto` chooses where so much is available.
///
/// # Errors
/// io_uring is there but short of a resource that epoll needs as well.
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

/// What is to be said of rings that are smaller than usual.
fn smaller(size: RingSize, workers: usize) -> String {
    if size == RingSize::FULL {
        return String::new();
    }
    let RingSize { submissions, completions, .. } = size;
    format!(
        ", with rings of {submissions} and {completions} entries: RLIMIT_MEMLOCK allows no larger ones for {workers} workers"
    )
}

/// What this process can have of io_uring, for so many workers at a time, each with everything that the driver cannot do
/// without.
///
/// # Errors
/// Why not.
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

/// The call whose refusal says most.
const SETUP: &str = "io_uring_setup";

/// What the refusal of a call for a ring means.
pub fn diagnose(call: &'static str, error: &io::Error, environment: Environment) -> Unavailable {
    let Environment { seccomp_mode, io_uring_disabled } = environment;
    // The setting is of making rings: where one was made, it allows them.
    let io_uring_disabled = if call == SETUP { io_uring_disabled } else { Some(0) };
    let is_filtered = seccomp_mode == Some(SECCOMP_MODE_FILTER);
    match error.raw_os_error() {
        // Some container runtimes let the filter pretend that the call does not exist. The setting
        // exists only where the call does.
        Some(libc::ENOSYS) if is_filtered && io_uring_disabled.is_some() => Unavailable::Seccomp { call },
        Some(libc::ENOSYS) => Unavailable::NotInKernel,
        Some(libc::EPERM | libc::EACCES) => match io_uring_disabled {
            Some(setting @ 1..) => Unavailable::Disabled { setting },
            Some(0) | None if is_filtered => Unavailable::Seccomp { call },
            Some(0) | None => Unavailable::Forbidden(error.to_string()),
        },
        Some(libc::EINVAL) => Unavailable::Lacks("the set-up that this program asks for"),
        Some(libc::ENOMEM) => Unavailable::LockedMemory,
        Some(libc::EMFILE | libc::ENFILE) => Unavailable::Descriptors,
        _ => Unavailable::Resource(error.to_string()),
    }
}

/// `SECCOMP_MODE_FILTER`, as `proc(5)` shows it.
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
