//! curl.

use std::path::PathBuf;
use std::process::Command;

use crate::support::environment::require_program;
use crate::support::patience;
use crate::support::process::{Finished, run_to_end};

/// Runs curl.
#[derive(Debug)]
pub struct Curl(PathBuf);

impl Curl {
    /// `None`, visibly, where there is none.
    pub fn find(test: &str) -> Option<Self> {
        require_program(test, "curl", "curl").map(Self)
    }

    /// curl, quiet but for errors, without the settings of whoever runs the tests.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        let time = patience().as_secs().to_string();
        command.args(["-q", "-sS", "--noproxy", "*", "--max-time", &time]).args(words).env("LC_ALL", "C");
        command
    }

    /// Runs it with this on standard input; it must end well.
    #[track_caller]
    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Finished {
        let finished = run_to_end(&mut self.command(words), input);
        assert!(finished.status.success(), "curl {words:?}: {}\n{}", finished.status, finished.errors);
        finished
    }

    /// Runs it and returns what it wrote to standard output: the body, if nothing else was asked for.
    #[track_caller]
    pub fn get(&self, words: &[&str]) -> Vec<u8> {
        self.run_with(words, b"").output
    }

    /// The status and the head of an answer, of which the body is dropped; the lines without their ends.
    #[track_caller]
    pub fn head(&self, words: &[&str]) -> Vec<String> {
        let head = self.get(&[&["-o", "/dev/null", "-D", "-"], words].concat());
        String::from_utf8(head).expect("a head of text").lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// The status alone.
    #[track_caller]
    pub fn status(&self, words: &[&str]) -> String {
        let status = self.get(&[&["-o", "/dev/null", "-w", "%{http_code}"], words].concat());
        String::from_utf8(status).expect("a number")
    }
}

/// The value of a field in a head, its name in lower case.
pub fn field<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter()
        .filter_map(|line| line.split_once(": "))
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|f| f.1)
}
