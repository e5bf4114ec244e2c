//! Echo: sends back what it receives, until the client closes its side.

use super::{CloseReason, Context, Task};
use crate::buffer::{Buffer, Chain};
use crate::tcp::{End, Pipe};
use crate::transport::{Transport, relay_back};

#[derive(Debug)]
pub(super) struct Echo {
    pipe: Pipe,
}

impl Echo {
    pub(super) const fn new() -> Self {
        Self { pipe: Pipe::new() }
    }
}

impl Task for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.pipe.push(buffer);
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        relay_back(client, &mut self.pipe, cx.hold_max, cx.ops);
        close_reason_of(client)
    }

    fn take_unsent(&mut self) -> Chain {
        self.pipe.take()
    }

    fn memory(&self) -> usize {
        self.pipe.memory()
    }
}

/// The close reason of a session without an upstream, once it ends.
pub(super) fn close_reason_of(client: &Transport) -> Option<CloseReason> {
    if client.is_shut_down() {
        return Some(CloseReason::Done);
    }
    if let Some(End::Failed(fault)) = client.input_end() {
        return Some(CloseReason::ClientLost(fault));
    }
    client.send_fault().map(CloseReason::ClientLost)
}
