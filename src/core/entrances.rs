//! The addresses that a server listens on, across changes of its configuration.
//!
//! Every worker has sockets of its own on each address. A copy of each stays here, so that a successor can be given the
//! very sockets in whose backlogs clients wait.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::inherit::Inherited;
use super::listen;
use super::server::StartError;
use super::state::EntranceId;
use crate::config::ServerConfig;

/// The addresses that are listened on.
#[derive(Debug, Default)]
pub(super) struct Entrances {
    list: Vec<Listening>,
    next_id: u32,
}

#[derive(Debug)]
struct Listening {
    id: EntranceId,
    /// As it was asked for; port 0 means any.
    wanted: SocketAddr,
    /// With the real port.
    address: SocketAddr,
    /// Those of all workers.
    sockets: Vec<OwnedFd>,
}

/// A change that is prepared and can no longer fail.
#[derive(Debug)]
pub(super) struct Change {
    next: Entrances,
    /// For each listener of the configuration: its entrance, and for each worker the sockets that are new to it.
    pub(super) shares: Vec<(EntranceId, Vec<Vec<OwnedFd>>)>,
}

impl Entrances {
    /// Binds what the configuration has and this has not. Nothing changes before [`Entrances::commit`].
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub(super) fn prepare(
        &self,
        config: &ServerConfig,
        workers: usize,
        inherited: &mut Inherited,
    ) -> Result<Change, StartError> {
        let mut next = Self { list: Vec::new(), next_id: self.next_id };
        let mut shares = Vec::new();
        let mut here: Vec<&Listening> = self.list.iter().collect();
        for listener in &config.listeners {
            let wanted = listener.address;
            let failed = |source| StartError::Bind { address: wanted, source };
            if let Some(at) = here.iter().position(|listening| listening.wanted == wanted) {
                let kept = here.swap_remove(at);
                next.list.push(kept.copy().map_err(failed)?);
                shares.push((kept.id, Vec::new()));
                continue;
            }
            let (address, sockets) = bind(wanted, config, workers, inherited).map_err(failed)?;
            let copies = sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>().map_err(failed)?;
            let id = EntranceId(next.next_id);
            next.next_id += 1;
            next.list.push(Listening { id, wanted, address, sockets: copies });
            shares.push((id, dealt(sockets, workers).map_err(failed)?));
        }
        Ok(Change { next, shares })
    }

    /// Makes a prepared change.
    pub(super) fn commit(&mut self, change: Change) -> Vec<(EntranceId, Vec<Vec<OwnedFd>>)> {
        *self = change.next;
        change.shares
    }

    /// The addresses, in the order of the configuration, with real ports.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.list.iter().map(|listening| listening.address).collect()
    }

    /// All sockets, for a successor.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.list.iter().flat_map(|listening| &listening.sockets)
    }

    /// Lets go of the copies, so that a socket is closed as soon as its worker closes it.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }
}

impl Listening {
    fn copy(&self) -> std::io::Result<Self> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
        Ok(Self { id: self.id, wanted: self.wanted, address: self.address, sockets })
    }
}

/// The sockets on an address: those that were inherited, or new ones.
fn bind(
    wanted: SocketAddr,
    config: &ServerConfig,
    workers: usize,
    inherited: &mut Inherited,
) -> std::io::Result<(SocketAddr, Vec<OwnedFd>)> {
    if let Some((address, sockets)) = inherited.take(wanted) {
        tracing::info!(%address, sockets = sockets.len(), "listening on sockets that were handed over");
        return Ok((address, sockets));
    }
    let all = config.listeners.iter().map(|listener| listener.address);
    let v6_only = listen::leaves_v4_alone(wanted, all);
    let bound = listen::listen(wanted, v6_only, config.limits.backlog, workers)?;
    Ok((bound.address, bound.sockets))
}

/// Deals sockets out to workers. With fewer sockets than workers some share one; with more some have several, since in each
/// clients may wait.
fn dealt(sockets: Vec<OwnedFd>, workers: usize) -> std::io::Result<Vec<Vec<OwnedFd>>> {
    let mut shares: Vec<Vec<OwnedFd>> = (0..workers).map(|_| Vec::new()).collect();
    let count = sockets.len();
    let shared: Vec<OwnedFd> =
        (count..workers).map(|worker| sockets[worker % count].try_clone()).collect::<Result<_, _>>()?;
    for (number, socket) in sockets.into_iter().chain(shared).enumerate() {
        shares[number % workers].push(socket);
    }
    Ok(shares)
}
