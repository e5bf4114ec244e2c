//! Everything that the judge lets pass, and why. What is not here is demanded.

use xps::internals::driver::sim::{Peer, PeerEnd, PeerId, Sim};

use crate::forward::{Ask, Forwarding, origin_address};
use crate::origin::Exchange;
use crate::scenario::{Client, FileCase, Scenario, Stop};
use crate::tls::Manner;

/// A reason for which something may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// The client does not read to the end, or breaks off: it cannot be brought everything.
    Rude,
    /// The run has time-outs, or is stopped in the middle: they may end anything at any moment.
    Hurried,
    /// A fault was injected into this connection: a reset destroys what its sender had on its way.
    Faulted,
    /// Opening a file failed, found no descriptor, or the file became shorter.
    FileTrouble,
    /// A connect or a look-up failed, or found no descriptor, somewhere in the run.
    UpstreamTrouble,
    /// An upstream of the run breaks off, refuses, or chatters.
    UnreliableUpstream,
    /// Who goes on sending after a refusal, or a body after its answer, longer than the server lingers, is reset, with
    /// everything in hand.
    SendsAfterRefusal,
    /// Who is answered while it still sends its body is told that there will be no further answers.
    AnsweredEarly,
    /// An answer whose end is that of the connection was cut by its server, in order: its client cannot tell.
    CutInSilence,
    /// Who is still sending when a reset comes hears of it there, and reads no more, though there is more to be read.
    HearsInSending,
    /// A file that cannot be served is refused by closing. Over TLS, what says that this is the end is tried once and not
    /// waited for: the client may think that something is missing, and is right.
    Refused,
    /// All answers are there, each with its own end. Over TLS, what says that nothing follows is tried once and not waited
    /// for.
    NoCloseNotify,
    /// The upstream broke off before it had said anything, in the handshake or right behind it: it could not be reached.
    NotReached,
    /// A stream that the client has reset counts until the server has dealt with it: another may be refused meanwhile.
    GivenUp,
    /// The client has asked for more at a time than it may: any of it may be refused.
    FilledUp,
    /// A tunnel that has ended both ways counts until what it has for its upstream is there: another stream may be refused
    /// meanwhile.
    TunnelCounts,
    /// A tunnel is none of the requests that may be asked again, nor one whose end shows that it was cut.
    Tunnel,
    /// The client broke before there was a connection to its upstream: what it had sent has nowhere to go.
    NowhereToGo,
}

impl Allowance {
    /// Whether it is granted: a condition with its reason.
    pub const fn if_so(self, holds: bool) -> bool {
        holds
    }
}

/// Whether nothing but the server decides what this client gets.
pub fn is_undisturbed(scenario: &Scenario, client: &Client, sim: &Sim, id: PeerId) -> bool {
    let excuses = [
        Allowance::Rude.if_so(!client.reads_all),
        Allowance::Hurried.if_so(scenario.stop != Stop::WhenDone),
        Allowance::Faulted.if_so(sim.is_faulted(id)),
    ];
    !excuses.contains(&true)
}

/// Whether this client's file is refused, and its connection need not end in order.
pub fn is_refused_over_tls(case: FileCase, manner: Option<&Manner>) -> bool {
    let is_refused = matches!(case, FileCase::Missing | FileCase::Outside | FileCase::Folder);
    Allowance::Refused.if_so(is_refused && manner.is_some())
}

/// Whether this client went on sending for longer than the server lingers, so that a reset took what it had not looked at.
pub fn was_reset_while_sending(sim: &Sim, id: PeerId) -> bool {
    let has_missed = sim.peer(id).unheard_bytes() + sim.unread_by(id) > 0;
    Allowance::SendsAfterRefusal.if_so(has_missed && sim.peer(id).end() == Some(PeerEnd::WasReset))
}

/// Whether nothing has passed to an upstream over TLS or from it.
pub fn was_not_reached(sim: &Sim, server: PeerId, manner: Option<&Manner>) -> bool {
    let has_passed = sim.taken_from(server) > 0 || !sim.peer(server).received().is_empty();
    Allowance::NotReached.if_so(manner.is_some() && !has_passed)
}

/// Whether opening files has failed anywhere.
pub fn has_file_trouble(sim: &Sim) -> bool {
    let injected = sim.injected();
    Allowance::FileTrouble.if_so(injected.opens + injected.descriptors + injected.truncations > 0)
}

/// Whether reaching upstreams has failed anywhere.
pub fn has_upstream_trouble(sim: &Sim) -> bool {
    let injected = sim.injected();
    Allowance::UpstreamTrouble.if_so(injected.connects + injected.resolves + injected.descriptors > 0)
}

/// Whether something of the world's stood between the proxy and its servers.
pub fn origins_are_disturbed(forwarding: &Forwarding, sim: &Sim) -> bool {
    let mut peers = (0..forwarding.origins.len()).flat_map(|number| sim.upstream_peers(origin_address(number)));
    has_upstream_trouble(sim) || Allowance::Faulted.if_so(peers.any(|peer| sim.is_faulted(*peer)))
}

/// Whether a request may come to nothing since an upstream of the run is none to rely on.
pub fn may_fail(ask: &Ask, forwarding: &Forwarding) -> bool {
    // The client need not notice that a connection ended which had only been kept: it may be asked again, on another one.
    let is_repeatable = forwarding.is_fickle_at_worst() && ask.method.is_idempotent() && ask.body.is_none();
    Allowance::UnreliableUpstream.if_so(!forwarding.is_reliable() && !is_repeatable)
}

/// Whether a request for a tunnel may come to nothing, since its server is none to rely on.
pub fn tunnel_may_fail(forwarding: &Forwarding) -> bool {
    Allowance::Tunnel.if_so(!forwarding.is_reliable())
}

/// Whether one of these was a tunnel that its server ended in order, before all had come back.
pub fn tunnel_was_cut<'e>(mut exchanges: impl Iterator<Item = &'e Exchange>) -> bool {
    let is_cut = |exchange: &Exchange| exchange.says_end && exchange.habit.cut.is_some();
    Allowance::Tunnel.if_so(exchanges.any(is_cut))
}

/// Whether a server answered before it had read the request's body.
pub fn was_answered_early(ask: &Ask, forwarding: &Forwarding) -> bool {
    let log = forwarding.log.borrow();
    Allowance::AnsweredEarly.if_so(log.iter().any(|exchange| exchange.id == Some(ask.id) && exchange.habit.is_early))
}

/// Whether one of these is an answer that cannot be told from a whole one.
pub fn was_cut_in_silence<'e>(mut exchanges: impl Iterator<Item = &'e Exchange>) -> bool {
    Allowance::CutInSilence.if_so(exchanges.any(|exchange| exchange.says_end && exchange.habit.is_cut_in_silence()))
}

/// Whether a connection ended in order: the peer saw its end, or it had all it had asked for.
pub fn ended_in_order(peer: &Peer, was_refused: bool, manner: Option<&Manner>) -> bool {
    let is_in_order = peer.end() == Some(PeerEnd::Closed) || ended_after_refusal(peer.end(), was_refused);
    let lacks_close_notify = manner.is_some() && peer.end() == Some(PeerEnd::Truncated);
    is_in_order && peer.saw_eof() || Allowance::NoCloseNotify.if_so(lacks_close_notify)
}

/// Whether a connection that was refused something, or is not read any more, ended as it should.
fn ended_after_refusal(end: Option<PeerEnd>, was_refused: bool) -> bool {
    Allowance::SendsAfterRefusal.if_so(was_refused && end == Some(PeerEnd::WasReset))
}
