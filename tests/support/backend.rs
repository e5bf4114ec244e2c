//! The back-ends as a parameter of tests.

use std::process::{Command, Stdio};
use std::sync::LazyLock;

use xps::internals::driver::Feature;

use super::environment::{patience, skip};
use super::process::wait_for_exit;

/// How the program under test is to reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring; without the features that `XPS_TEST_URING_OFF` names, if it is set.
    IoUring,
    /// io_uring, with one optional feature switched off.
    IoUringWithout(Feature),
    /// io_uring, with every optional feature switched off.
    IoUringBare,
    /// epoll.
    Epoll,
}

impl Backend {
    /// The flags that choose it.
    pub fn flags(self) -> Vec<String> {
        let flags = |name: &str, off: Option<String>| {
            let mut flags = vec!["--backend".to_owned(), name.to_owned()];
            flags.extend(off.into_iter().flat_map(|off| ["--uring-off".to_owned(), off]));
            flags
        };
        match self {
            Self::IoUring => flags("io_uring", std::env::var("XPS_TEST_URING_OFF").ok()),
            Self::IoUringWithout(feature) => flags("io_uring", Some(feature.name().to_owned())),
            Self::IoUringBare => flags("io_uring", Some(Feature::ALL.map(Feature::name).join(","))),
            Self::Epoll => flags("epoll", None),
        }
    }

    /// Whether it can be used here.
    pub fn is_available(self) -> bool {
        self.obstacle().is_none()
    }

    /// Why it cannot be used here, if so.
    fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Epoll => None,
            Self::IoUring | Self::IoUringWithout(_) | Self::IoUringBare => URING_OBSTACLE.as_deref(),
        }
    }
}

/// Runs one case, or skips it visibly where the back-end is missing. With `XPS_REQUIRE_IO_URING=1` a
/// missing one is a failure: a gate must not pass because it tested nothing.
pub fn run(test: &str, backend: Backend, case: impl FnOnce(Backend)) {
    match backend.obstacle() {
        None => case(backend),
        Some(why) if std::env::var("XPS_REQUIRE_IO_URING").is_ok_and(|required| required == "1") => {
            panic!("XPS_REQUIRE_IO_URING is set, and io_uring is unavailable: {why}")
        }
        Some(why) => skip(test, why),
    }
}

/// Why io_uring cannot be used here, if so; `xps probe` is asked once.
static URING_OBSTACLE: LazyLock<Option<String>> = LazyLock::new(|| uring_obstacle().err());

fn uring_obstacle() -> Result<(), String> {
    let mut probe = Command::new(env!("CARGO_BIN_EXE_xps"))
        .args(["probe", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`xps probe --json` did not start: {error}"))?;
    // What it prints fits into the pipe, so it can be read after the end.
    if wait_for_exit(&mut probe, patience()).is_none() {
        let _ = probe.kill();
        let _ = probe.wait();
        return Err("`xps probe --json` did not end".to_owned());
    }
    let output = probe.wait_with_output().map_err(|error| format!("`xps probe --json`: {error}"))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("`xps probe --json` printed no JSON: {}", String::from_utf8_lossy(&output.stdout)))?;
    match &report["io_uring"]["available"] {
        serde_json::Value::Bool(true) => Ok(()),
        available => Err(format!("`xps probe --json` says available: {available}")),
    }
}
