//! TCP proxy: connects to an upstream and relays bytes both ways.
//!
//! ```text
//!              connected
//!   Connecting ─────────► Connected: tunnel
//!      │ no upstream
//!      ▼
//!   unreachable: over
//! ```
//!
//! A successful connect counts as a success of the upstream at once. The connection may last for
//! hours, and the protocol is unknown, so silence proves nothing.

use std::rc::Rc;

use super::service::Ends;
use super::tunnel::Tunnel;
use super::{CloseReason, Context, Task};
use crate::buffer::{Buffer, Chain, Chunk};
use crate::driver::Time;
use crate::session::Limits;
use crate::transport::Transport;
use crate::upstream::UpstreamAddress;
use crate::upstream::group::{BalanceKey, HashSource, HealthVerdict, Policy, hash};
use crate::upstream::{ConnectPolicy, Progress, Unreachable, UpstreamGroup, UpstreamLease};
use crate::waiter::{SessionKey, Waiter};

#[derive(Debug)]
pub(super) struct Proxy {
    lease: UpstreamLease,
    tunnel: Tunnel,
    stage: Stage,
    deadline: Option<Time>,
    /// The name that the client asked for, if the upstream was chosen by it.
    server_name: Option<Rc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Connected,
}

impl Proxy {
    pub(super) fn new(
        session: SessionKey,
        group: Rc<UpstreamGroup>,
        connect_policy: ConnectPolicy,
        ends: Ends<'_>,
    ) -> Self {
        let balance_key = match (group.policy(), ends.peer.ip()) {
            (Policy::Hash(HashSource::Client), Some(client)) => BalanceKey::Hash(hash::of_client(client)),
            // The other hash sources and the sticky cookie need an HTTP request.
            _ => BalanceKey::Any,
        };
        let announcement = group.announces().map(|version| Chunk::shared(ends.relayed_header(version)));
        let waiter = Waiter::only_stream_of(session);
        let lease = UpstreamLease::new(group, waiter, balance_key, connect_policy, announcement);
        Self { lease, tunnel: Tunnel::new(), stage: Stage::Connecting, deadline: None, server_name: None }
    }

    /// The same, of a client that asked for this name. `opening` was read of it already.
    pub(super) fn named(mut self, server_name: Option<Rc<str>>, opening: Vec<u8>) -> Self {
        self.server_name = server_name;
        self.tunnel.push_to_upstream(Chunk::owned(opening));
        self
    }
}

impl Task for Proxy {
    fn name(&self) -> &'static str {
        "tcp_proxy"
    }

    fn upstream(&self) -> Option<&UpstreamAddress> {
        self.lease.upstream().map(|upstream| upstream.address())
    }

    fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    fn failure(&self) -> Option<Unreachable> {
        self.lease.failure()
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.tunnel.push_to_upstream(buffer);
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        let progress = self.lease.pump(cx.upstream_pool, cx.now, cx.ops);
        self.deadline = self.lease.deadline(cx.upstream_pool);
        match (self.stage, progress) {
            (_, Progress::Failed(_)) => return Some(CloseReason::UpstreamUnreachable),
            (Stage::Connecting, Progress::Ready) => {
                self.stage = Stage::Connected;
                if let Some(header) = self.lease.announcement() {
                    self.tunnel.precede_to_upstream(header);
                }
                self.lease.note_response(cx.upstream_pool, cx.now);
            }
            (Stage::Connecting, Progress::Wait) | (Stage::Connected, Progress::Ready | Progress::Wait) => {}
        }
        let tunnel_limits = cx.tunnel_limits();
        let Some((upstream, received)) = self.lease.bytes(cx.upstream_pool) else {
            let leaves_buffers = self.is_queued() || self.upstream().is_some_and(UpstreamAddress::is_tls);
            self.tunnel.keep(leaves_buffers, client, cx.hold_max, cx.ops);
            return client.receive_fault().map(CloseReason::ClientLost);
        };
        let close_reason = self.tunnel.pump(client, upstream, received, tunnel_limits, cx.ops);
        self.deadline = Time::earliest(self.deadline, self.tunnel.deadline());
        close_reason
    }

    fn is_queued(&self) -> bool {
        self.lease.is_queued()
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

    fn close(&mut self, close_reason: CloseReason, _client: &Transport, cx: &mut Context<'_>) -> bool {
        if !self.lease.is_over() {
            let release = close_reason.release(cx.limits.http.send_timeout);
            self.lease.finish(release, HealthVerdict::Neutral, cx.upstream_pool, cx.now);
        }
        true
    }

    fn memory(&self) -> usize {
        self.tunnel.memory()
    }
}
