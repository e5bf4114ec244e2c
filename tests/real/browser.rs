//! Chromium, as it shows a page.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::support::environment::require_program;
use crate::support::process::run_to_end;
use crate::support::{is_wrapped, skip};

/// One at a time: a browser takes more of the machine than everything else here.
static TURN: Mutex<()> = Mutex::new(());

/// The document that this page has become; `None` if there is no browser, which is said.
#[track_caller]
pub fn document(test: &str, url: &str, options: &[&str]) -> Option<String> {
    document_and_console(test, url, options).map(|(document, _)| document)
}

/// The same, and the lines that the browser wrote to its console: errors of scripts, styles and attributes.
#[track_caller]
pub fn document_and_console(test: &str, url: &str, options: &[&str]) -> Option<(String, Vec<String>)> {
    if is_wrapped() {
        skip(test, "a browser does not wait for a wrapper");
        return None;
    }
    let chromium = require_program(test, "chromium", "chromium")?;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = tempfile::tempdir().expect("a temporary folder");
    let finished = run_to_end(
        Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-dev-shm-usage", "--ignore-certificate-errors"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .args(options)
            .args(["--enable-logging=stderr", "--dump-dom", url]),
        b"",
    );
    assert!(finished.status.success(), "{}\n{}", finished.status, finished.errors);
    let console = finished.errors.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Some((String::from_utf8_lossy(&finished.output).into_owned(), console))
}
