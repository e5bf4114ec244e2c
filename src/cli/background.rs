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
pub struct BackgroundTasks {
    background_tasks: Option<Sender<BackgroundTask>>,
    done: Receiver<()>,
}

type BackgroundTask = Box<dyn FnOnce() + Send>;

impl BackgroundTasks {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new(name: &str) -> io::Result<Self> {
        let (background_tasks, queue) = mpsc::channel::<BackgroundTask>();
        let (tell, done) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for task in queue {
                task();
            }
            // Whoever waits for it may have given up.
            let _ = tell.send(());
        })?;
        Ok(Self { background_tasks: Some(background_tasks), done })
    }

    /// Has it done, after all that was asked for before.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        if let Some(background_tasks) = &self.background_tasks {
            // The thread ends with this only.
            let _ = background_tasks.send(Box::new(task));
        }
    }
}

impl Drop for BackgroundTasks {
    /// What is under way may finish within a moment. What cannot, because nobody reads it, is given up.
    fn drop(&mut self) {
        drop(self.background_tasks.take());
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
    fn tasks_are_done_in_order_before_the_end() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let background_tasks = BackgroundTasks::new("tasks").unwrap();
        for number in 0..10 {
            let done = Arc::clone(&done);
            background_tasks.run(move || done.lock().unwrap().push(number));
        }
        drop(background_tasks);
        assert_eq!(*done.lock().unwrap(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_never_ends_holds_nobody_up() {
        let (_keep, never) = mpsc::channel::<()>();
        let background_tasks = BackgroundTasks::new("tasks").unwrap();
        background_tasks.run(move || {
            let _ = never.recv();
        });
        drop(background_tasks);
    }
}
