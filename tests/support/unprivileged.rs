//! A program run by a user who may do nothing special, and of whom nothing else runs: what a limit counts is the
//! program's alone.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::environment::{require_program, skip};

/// A user.
#[derive(Clone, Copy, Debug)]
pub struct Nobody(u32);

/// User numbers that no system gives out by itself (systemd's documentation of UIDs and GIDs).
const FIRST: u32 = 1_879_048_192;

impl Nobody {
    /// A new one; `None`, said aloud, where this process may not become somebody else.
    pub fn new(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        require_program(test, "setpriv", "util-linux")?;
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !is_root {
            skip(test, "only root may run a program as another user");
            return None;
        }
        let user = Self(FIRST + std::process::id() % 100_000 * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100);
        let program = Path::new(env!("CARGO_BIN_EXE_xps"));
        let tried = user.command(&[&program.display().to_string(), "man"]).stdout(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            skip(test, &format!("another user may not run {}", program.display()));
            return None;
        }
        Some(user)
    }

    /// The words that start a program as this user.
    pub fn words(self) -> Vec<String> {
        let user = self.0;
        vec!["setpriv".into(), format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]
    }

    /// The same, with a limit of the shell's `ulimit`: `-l 64`, for example.
    pub fn words_with(self, limit: &str) -> Vec<String> {
        let mut words = self.words();
        words.extend(["sh", "-c", &format!("ulimit {limit} && exec \"$@\""), "sh"].map(str::to_owned));
        words
    }

    /// A command run by this user.
    pub fn command(self, words: &[&str]) -> Command {
        let own = self.words();
        let mut command = Command::new(&own[0]);
        command.args(&own[1..]).args(words).stdin(Stdio::null());
        command
    }
}
