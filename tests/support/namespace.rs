//! Mounts that only the program under test sees.

use std::process::{Command, Stdio};

use super::environment::skip;

/// How a program gets mounts of its own.
#[derive(Debug)]
pub struct Mounts {
    /// The words that go before the program.
    pub words: Vec<String>,
    /// Whether it is also in a user namespace, as it must be unless it is root's.
    has_users: bool,
}

impl Mounts {
    /// A mount namespace in which this shell command is run before the program; `None`, said aloud, where that is not
    /// permitted.
    pub fn made_by(test: &str, command: &str) -> Option<Self> {
        let script = format!("{command} && exec \"$@\"");
        for has_users in [false, true] {
            let unshare = if has_users { ["unshare", "-rm"] } else { ["unshare", "-m"] };
            let words: Vec<String> =
                unshare.into_iter().chain(["sh", "-c", &script, "sh"]).map(str::to_owned).collect();
            let tried = Command::new(&words[0])
                .args(&words[1..])
                .arg("true")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if tried.is_ok_and(|status| status.success()) {
                return Some(Self { words, has_users });
            }
        }
        skip(test, "this user may not have a mount namespace");
        None
    }

    /// Runs a shell command among the mounts of this process, and says whether it succeeded.
    #[track_caller]
    pub fn run(&self, process: u64, command: &str) -> bool {
        let namespaces = if self.has_users { &["-U", "-m", "--preserve-credentials"][..] } else { &["-m"] };
        let output = Command::new("nsenter")
            .args(["-t", &process.to_string()])
            .args(namespaces)
            .args(["sh", "-c", command])
            .output()
            .expect("nsenter starts");
        output.status.success()
    }
}
