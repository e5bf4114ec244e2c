//! A server of somebody else's, as a peer of the program under test.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use super::environment::patience;
use super::log::Log;

/// A running program; killed when it is dropped. If the test has failed, what it said is shown.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Child,
    lines: Mutex<Receiver<String>>,
    errors: Log,
}

impl Program {
    /// Starts it.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let lines = Mutex::new(lines_of(process.stdout.take().expect("standard output is a pipe")));
        let errors = Log::follow(process.stderr.take().expect("standard error is a pipe"));
        Self { name: format!("{command:?}"), process, lines, errors }
    }

    /// The next line on its standard output, which must come.
    #[track_caller]
    pub fn line(&self) -> String {
        match self.lines.lock().expect("no panic").recv_timeout(patience()) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{self} says nothing for {:?}", patience()),
            Err(RecvTimeoutError::Disconnected) => panic!("{self} has ended"),
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.name, self.errors)
    }
}

/// Lines as they come. The pipe is emptied even if nobody takes them, so that the program is never held up.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}
