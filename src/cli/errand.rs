//! What may have to wait for somebody, done by a thread of its own: words for a terminal, messages to a service manager.
//!
//! A pipe that nobody reads, a terminal that was stopped and a manager that is busy hold up whoever writes to them. The thread
//! that obeys signals must not be held up, so it hands its words over and goes on.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// A thread that does one thing after the other.
#[derive(Debug)]
pub struct Errands {
    errands: Option<Sender<Errand>>,
    done: Receiver<()>,
}

type Errand = Box<dyn FnOnce() + Send>;

impl Errands {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new(name: &str) -> io::Result<Self> {
        let (errands, queue) = mpsc::channel::<Errand>();
        let (tell, done) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for errand in queue {
                errand();
            }
            // Whoever waits for it may have given up.
            let _ = tell.send(());
        })?;
        Ok(Self { errands: Some(errands), done })
    }

    /// Has it done, after all that was asked for before.
    pub fn run(&self, errand: impl FnOnce() + Send + 'static) {
        if let Some(errands) = &self.errands {
            // The thread ends with this only.
            let _ = errands.send(Box::new(errand));
        }
    }
}

impl Drop for Errands {
    /// What is under way may finish within a moment. What cannot, because nobody reads it, is given up.
    fn drop(&mut self) {
        drop(self.errands.take());
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

/// As long as the log takes to be written out at the end.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn errands_are_done_in_order_before_the_end() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let errands = Errands::new("errands").unwrap();
        for number in 0..10 {
            let done = Arc::clone(&done);
            errands.run(move || done.lock().unwrap().push(number));
        }
        drop(errands);
        assert_eq!(*done.lock().unwrap(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_never_ends_holds_nobody_up() {
        let (_keep, never) = mpsc::channel::<()>();
        let errands = Errands::new("errands").unwrap();
        errands.run(move || {
            let _ = never.recv();
        });
        drop(errands);
    }
}
