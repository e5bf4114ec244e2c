//! Joins a client to a connection to an upstream.
//!
//! ```text
//!            a connection          the client's bytes and the upstream's
//!   Reaching ────────────► Reached ── tunnel
//!      │ none can be had
//!      ▼
//!   unreachable: over
//! ```
//!
//! A connection that comes about speaks for its upstream, and at once: it may last for hours, and who of two that are
//! silent is to speak first is not known.

use std::rc::Rc;

use super::template::Ends;
use super::tunnel::Tunnel;
use super::{Context, Ending, Task};
use crate::buffer::{Buffer, Chain, Chunk};
use crate::config::{Limits, UpstreamAddress};
use crate::driver::Time;
use crate::table::Key;
use crate::tcp::{Connection, proxy_header};
use crate::upstream::group::{Choice, HashSource, Policy, Verdict, hash};
use crate::upstream::{Attempt, Group, Progress, Rules, Unreachable};

#[derive(Debug)]
pub(super) struct Proxy {
    attempt: Attempt,
    tunnel: Tunnel,
    stage: Stage,
    deadline: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reaching,
    Reached,
}

impl Proxy {
    pub(super) fn new(session: Key, group: Rc<Group>, rules: Rules, ends: Ends) -> Self {
        let choice = match (group.policy(), ends.peer.ip()) {
            (Policy::Hash(HashSource::Client), Some(client)) => Choice::Hash(hash::of_client(client)),
            // Of bytes nothing else is known.
            _ => Choice::Any,
        };
        let mut tunnel = Tunnel::new();
        if let Some(version) = group.announces() {
            tunnel.push_to_upstream(Chunk::shared(proxy_header::header(version, ends.announced())));
        }
        let attempt = Attempt::new(group, session, choice, rules);
        Self { attempt, tunnel, stage: Stage::Reaching, deadline: None }
    }
}

impl Task for Proxy {
    fn name(&self) -> &'static str {
        "tcp_proxy"
    }

    fn upstream(&self) -> Option<&UpstreamAddress> {
        self.attempt.upstream().map(|upstream| upstream.address())
    }

    fn failure(&self) -> Option<Unreachable> {
        self.attempt.failure()
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.tunnel.push_to_upstream(buffer);
    }

    fn pump(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<Ending> {
        let progress = self.attempt.pump(cx.links, cx.now, cx.ops);
        self.deadline = self.attempt.deadline(cx.links);
        match (self.stage, progress) {
            (_, Progress::Failed(_)) => return Some(Ending::UpstreamUnreachable),
            (Stage::Reaching, Progress::Ready) => {
                self.stage = Stage::Reached;
                self.attempt.note_answer(cx.links, cx.now);
            }
            (Stage::Reaching, Progress::Wait) | (Stage::Reached, Progress::Ready | Progress::Wait) => {}
        }
        let terms = cx.terms();
        let Some((upstream, received)) = self.attempt.connection(cx.links) else {
            self.tunnel.keep(&mut client.reader, cx.hold_max, cx.ops);
            return client.reader.fault().map(Ending::ClientLost);
        };
        let ending = self.tunnel.pump(client, upstream, received, terms, cx.ops);
        self.deadline = Time::earliest(self.deadline, self.tunnel.deadline());
        ending
    }

    fn is_queued(&self) -> bool {
        self.attempt.is_queued()
    }

    fn is_unfinished(&self) -> bool {
        self.tunnel.memory() > 0
    }

    fn deadline(&self, _limits: &Limits) -> Option<Time> {
        self.deadline
    }

    fn take_unsent(&mut self) -> Chain {
        self.tunnel.take_unsent()
    }

    fn close(&mut self, ending: Ending, _client: &Connection, cx: &mut Context<'_>) -> bool {
        if !self.attempt.is_over() {
            let release = ending.release(cx.limits.http.send_timeout);
            self.attempt.finish(release, Verdict::Neutral, cx.links, cx.now);
        }
        true
    }

    fn memory(&self) -> usize {
        self.tunnel.memory()
    }
}
