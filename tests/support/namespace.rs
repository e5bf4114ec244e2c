//! Mounts that only the program under test sees.

use std::process::{Command, Stdio};

use super::environment::skip;

/// The words that run a shell command in a mount namespace of its own before the program; `None`, said aloud, where that
/// is not permitted.
pub fn with_mounts(test: &str, command: &str) -> Option<Vec<String>> {
    let script = format!("{command} && exec \"$@\"");
    for unshare in [&["unshare", "-m"][..], &["unshare", "-r", "-m"]] {
        let words: Vec<String> =
            unshare.iter().copied().chain(["sh", "-c", &script, "sh"]).map(str::to_owned).collect();
        let tried = Command::new(&words[0])
            .args(&words[1..])
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if tried.is_ok_and(|status| status.success()) {
            return Some(words);
        }
    }
    skip(test, "this user may not have a mount namespace");
    None
}
