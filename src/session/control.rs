//! [`Control`]: what the requests of those who operate the server share with the server itself.
//!
//! A command is executed by the supervisor, which owns the server. The worker that got it goes on:
//!
//! ```text
//!   handler    ask(waiter, command) ─► None: the request waits, as for a look-up of the store
//!   supervisor take_asked() … answer(waiter, reply), then `Message::Resume(waiter)` to the worker
//!   handler    is asked again: ask(waiter, …) ─► Some(reply)
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::driver::Waker;
use crate::upstream::shared::OperatorState;
use crate::waiter::Waiter;

/// The state of the server for its operators, and the commands between the operators' worker and the
/// supervisor.
#[derive(Debug, Default)]
pub struct Control {
    /// It drains, or is about to.
    is_leaving: AtomicBool,
    /// Locked for moments, by the operators' worker and the supervisor only.
    commands: Mutex<Vec<(Waiter, Stage)>>,
    supervisor: Option<Waker>,
}

/// How far a command is.
#[derive(Debug)]
enum Stage {
    Asked(Command),
    InProgress,
    Answered(Reply),
}

/// Replies that are kept at most, for requests that have not taken them yet. More than there are
/// connections: those whose client has left are dropped, the oldest first.
const REPLIES_MAX: usize = 128;

/// What an operator asks of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What runs, since when, and how it is.
    Status,
    /// Read the configuration again.
    Reload,
    /// The limits in force.
    Limits,
    /// The directives of the log.
    LogLevel,
    /// Replace the directives of the log.
    SetLogLevel(String),
    /// Reopen the files of logs.
    RotateLogs,
    /// The endpoints of upstream groups.
    Endpoints,
    /// Change an endpoint, named by `GROUP/ADDRESS`, or by `ADDRESS` in all groups.
    SetEndpoint(String, EndpointChange),
}

/// What an operator changes of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointChange {
    /// Which requests it takes. `auto` also removes a weight that was set.
    State(OperatorState),
    /// Its weight.
    Weight(u32),
}

/// The reply to a command, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done(String),
    /// The server refuses it, and nothing has changed.
    Refused(String),
}

impl Control {
    /// Commands wake this supervisor.
    pub fn new(supervisor: Waker) -> Self {
        Self { supervisor: Some(supervisor), ..Self::default() }
    }

    /// Whether the server accepts connections and goes on doing so. Balancers ask for it.
    pub fn is_ready(&self) -> bool {
        !self.is_leaving.load(Ordering::Relaxed)
    }

    /// Says from now on that the server is not ready.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// The reply to the command of this request. `None`: it is not there yet. The command is asked once,
    /// and the request is resumed when there is a reply.
    pub fn ask(&self, waiter: Waiter, command: Command) -> Option<Reply> {
        let mut commands = self.commands();
        let Some(at) = commands.iter().position(|(other, _)| *other == waiter) else {
            commands.push((waiter, Stage::Asked(command)));
            drop(commands);
            self.supervisor.iter().for_each(Waker::wake);
            return None;
        };
        match commands.remove(at) {
            (_, Stage::Answered(reply)) => Some(reply),
            unanswered => {
                commands.push(unanswered);
                None
            }
        }
    }

    /// The next command to execute, and the request that waits for its reply.
    pub fn take_asked(&self) -> Option<(Waiter, Command)> {
        self.commands().iter_mut().find_map(|(waiter, stage)| match std::mem::replace(stage, Stage::InProgress) {
            Stage::Asked(command) => Some((*waiter, command)),
            other => {
                *stage = other;
                None
            }
        })
    }

    /// Stores the reply to a command. The request has to be resumed after that.
    pub fn answer(&self, waiter: Waiter, reply: Reply) {
        let mut commands = self.commands();
        if let Some((_, stage)) = commands.iter_mut().find(|(other, _)| *other == waiter) {
            *stage = Stage::Answered(reply);
        }
        let is_answered = |(_, stage): &(Waiter, Stage)| matches!(stage, Stage::Answered(_));
        if commands.iter().filter(|command| is_answered(command)).count() > REPLIES_MAX
            && let Some(oldest) = commands.iter().position(is_answered)
        {
            commands.remove(oldest);
        }
    }

    fn commands(&self) -> MutexGuard<'_, Vec<(Waiter, Stage)>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::waiter::SessionTable;

    fn waiters(count: usize) -> Vec<Waiter> {
        let mut sessions: Table<(), SessionTable> = Table::new();
        (0..count).map(|_| Waiter::only_stream_of(sessions.insert(()))).collect()
    }

    #[test]
    fn a_command_is_executed_once_and_each_request_gets_its_own_reply() {
        let control = Control::default();
        let [one, other] = waiters(2)[..] else { panic!("two were made") };
        assert_eq!(control.ask(one, Command::Reload), None);
        assert_eq!(control.ask(other, Command::Status), None);
        assert_eq!(control.take_asked(), Some((one, Command::Reload)));
        // A request may be asked again without cause.
        assert_eq!(control.ask(one, Command::Reload), None);
        assert_eq!(control.take_asked(), Some((other, Command::Status)));
        assert_eq!(control.take_asked(), None);
        control.answer(one, Reply::Refused("no".into()));
        control.answer(other, Reply::Done("yes".into()));
        assert_eq!(control.ask(other, Command::Status), Some(Reply::Done("yes".into())));
        assert_eq!(control.ask(one, Command::Reload), Some(Reply::Refused("no".into())));
        // The next request of the connection is another command.
        assert_eq!(control.ask(one, Command::Status), None);
        assert_eq!(control.take_asked(), Some((one, Command::Status)));
    }

    #[test]
    fn replies_to_clients_that_have_left_do_not_pile_up() {
        let control = Control::default();
        for waiter in waiters(3 * REPLIES_MAX) {
            assert_eq!(control.ask(waiter, Command::Status), None);
            assert!(control.take_asked().is_some());
            control.answer(waiter, Reply::Done(String::new()));
        }
        assert_eq!(control.commands().len(), REPLIES_MAX);
    }
}
