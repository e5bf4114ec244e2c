//! A thread for tasks that may block: writing to a terminal, notifying a service manager.
//!
//! A pipe without reader, a stopped terminal and a busy service manager block their writer. The
//! thread that handles signals must not block, so it hands these tasks over.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// A thread that runs one task after the other.
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
    /// The thread cannot be started.
    pub fn new(name: &str) -> io::Result<Self> {
        let (background_tasks, queue) = mpsc::channel::<BackgroundTask>();
        let (tell, done) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for task in queue {
                task();
            }
            // `drop` may have stopped waiting.
            let _ = tell.send(());
        })?;
        Ok(Self { background_tasks: Some(background_tasks), done })
    }

    /// Queues a task. It runs after all tasks queued before.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        if let Some(background_tasks) = &self.background_tasks {
            // Cannot fail: the thread ends only when this sender is dropped.
            let _ = background_tasks.send(Box::new(task));
        }
    }
}

impl Drop for BackgroundTasks {
    /// Waits at most [`PATIENCE`] for the queued tasks. Tasks that are still blocked then are
    /// abandoned.
    fn drop(&mut self) {
        drop(self.background_tasks.take());
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

/// Time for the queued tasks at the end: the same as for writing out the log. 1 s.
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
