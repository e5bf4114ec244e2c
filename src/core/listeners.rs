//! The addresses that a server listens on, across changes of its configuration.
//!
//! Every worker has sockets of its own on each address. A copy of each stays here, so that a successor can be given the
//! very sockets in whose backlogs clients wait. With a unix socket comes its file, which stays as long as the last worker.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::SockRef;

use super::inherit::{HandedSocket, InheritedSockets};
use super::listen;
use super::server::StartError;
use super::socket_file::{self, SocketFile};
use super::state::ListenerId;
use crate::config::{ListenAddress, ServerConfig};
use crate::driver::Address;

/// The addresses that are listened on.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    list: Vec<BoundListener>,
    next_id: u32,
    /// As it was configured last.
    backlog: i32,
}

#[derive(Debug)]
struct BoundListener {
    id: ListenerId,
    /// As it was asked for; port 0 means any.
    wanted: ListenAddress,
    /// With the real port.
    address: Address,
    /// Those of all workers; of a unix socket, the one that they share.
    sockets: Vec<OwnedFd>,
    file: Option<Arc<SocketFile>>,
}

/// A change that is prepared and can no longer fail.
#[derive(Debug)]
pub(super) struct Change {
    next: Listeners,
    /// For each listener of the configuration: its listener, and for each worker the sockets that are new to it.
    pub(super) shares: Vec<(ListenerId, Vec<Vec<OwnedFd>>)>,
}

impl Listeners {
    /// Binds what the configuration has and this has not. Nothing changes before [`Listeners::commit`].
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub(super) fn prepare(
        &self,
        config: &ServerConfig,
        workers: usize,
        inherited: &mut InheritedSockets,
    ) -> Result<Change, StartError> {
        let mut next = Self { list: Vec::new(), next_id: self.next_id, backlog: config.limits.backlog };
        let mut shares = Vec::new();
        let mut here: Vec<&BoundListener> = self.list.iter().collect();
        for listener in &config.listeners {
            let wanted = &listener.address;
            let failed = |source| StartError::Bind { address: wanted.address(), source };
            if let Some(at) = here.iter().position(|listening| listening.wanted.address() == wanted.address()) {
                let kept = here.swap_remove(at);
                next.list.push(BoundListener { wanted: wanted.clone(), ..kept.copy().map_err(failed)? });
                shares.push((kept.id, Vec::new()));
                continue;
            }
            let NewSockets { address, sockets, file } = bind(wanted, config, workers, inherited).map_err(failed)?;
            let copies = sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>().map_err(failed)?;
            let id = ListenerId(next.next_id);
            next.next_id += 1;
            next.list.push(BoundListener { id, wanted: wanted.clone(), address, sockets: copies, file });
            shares.push((id, dealt(sockets, workers).map_err(failed)?));
        }
        Ok(Change { next, shares })
    }

    /// Makes a prepared change.
    pub(super) fn commit(&mut self, change: Change) -> Vec<(ListenerId, Vec<Vec<OwnedFd>>)> {
        let has_new_backlog = !self.list.is_empty() && self.backlog != change.next.backlog;
        *self = change.next;
        self.list.iter().for_each(BoundListener::apply_mode);
        if has_new_backlog {
            self.list.iter().for_each(|listening| listening.apply_backlog(self.backlog));
        }
        change.shares
    }

    /// The addresses, in the order of the configuration, with real ports.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.list.iter().map(|listening| listening.address.clone()).collect()
    }

    /// All sockets, for a successor.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn export_sockets(&self) -> io::Result<Vec<HandedSocket>> {
        let handed = |listening: &BoundListener, socket: &OwnedFd| {
            let has_file = listening.file.as_ref().is_some_and(|file| file.is_owned());
            Ok(HandedSocket { address: listening.address.clone(), socket: socket.try_clone()?, has_file })
        };
        self.list.iter().flat_map(|here| here.sockets.iter().map(move |socket| handed(here, socket))).collect()
    }

    /// The files of unix sockets that are taken over go with this from now on.
    pub(super) fn own_files(&self) {
        self.files().for_each(SocketFile::own);
    }

    /// Another process has the sockets, and their files are its own.
    pub(super) fn disown_files(&self) {
        self.files().for_each(SocketFile::disown);
    }

    /// Lets go of the copies, so that a socket is closed as soon as its worker closes it.
    pub(super) fn close_sockets(&mut self) {
        for listening in &mut self.list {
            listening.sockets.clear();
        }
    }

    fn files(&self) -> impl Iterator<Item = &SocketFile> {
        self.list.iter().filter_map(|listening| listening.file.as_deref())
    }
}

impl BoundListener {
    fn copy(&self) -> std::io::Result<Self> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
        let (wanted, address, file) = (self.wanted.clone(), self.address.clone(), self.file.clone());
        Ok(Self { id: self.id, wanted, address, sockets, file })
    }

    /// Of a socket that was there before, too: listen(2) may be called again, and only changes the length of the queue.
    fn apply_backlog(&self, backlog: i32) {
        for socket in &self.sockets {
            if let Err(error) = SockRef::from(socket).listen(backlog) {
                tracing::warn!(address = %self.address, %error, "the backlog cannot be changed");
            }
        }
    }

    /// Of a socket that was there before, only now.
    fn apply_mode(&self) {
        if let (Some(file), ListenAddress::Unix { path, mode: Some(mode) }) = (&self.file, &self.wanted)
            && let Err(error) = file.set_mode(*mode)
        {
            tracing::warn!(%path, %error, "who may connect cannot be changed");
        }
    }
}

/// The sockets of one address, and the address with its real port.
struct NewSockets {
    address: Address,
    sockets: Vec<OwnedFd>,
    file: Option<Arc<SocketFile>>,
}

/// The sockets on an address: those that were inherited, or new ones.
fn bind(
    wanted: &ListenAddress,
    config: &ServerConfig,
    workers: usize,
    inherited: &mut InheritedSockets,
) -> io::Result<NewSockets> {
    if let Some(bound) = take_over(inherited.take(&wanted.address())) {
        tracing::info!(address = %bound.address, sockets = bound.sockets.len(), "listening on sockets that were handed over");
        return Ok(bound);
    }
    let backlog = config.limits.backlog;
    match wanted {
        ListenAddress::Inet(address) => {
            let all = config.listeners.iter().filter_map(|listener| listener.address.inet());
            let v6_only = listen::leaves_v4_alone(*address, all);
            let bound = listen::listen(*address, v6_only, backlog, workers)?;
            Ok(NewSockets { address: bound.address.into(), sockets: bound.sockets, file: None })
        }
        ListenAddress::Unix { path, mode } => {
            let (socket, file) = socket_file::listen(path, *mode, backlog)?;
            Ok(NewSockets { address: path.clone().into(), sockets: vec![socket], file: Some(Arc::new(file)) })
        }
    }
}

/// Sockets on one address that another process listened on before.
fn take_over(handed: Vec<HandedSocket>) -> Option<NewSockets> {
    let first = handed.first()?;
    let address = first.address.clone();
    let file = match &address {
        // Without it, nobody finds the socket any more; but those who wait in its backlog are served.
        Address::Unix(path) if first.has_file => SocketFile::find(path)
            .inspect_err(|error| tracing::warn!(%path, %error, "a socket was handed over whose file is gone"))
            .ok(),
        Address::Unix(_) | Address::Inet(_) => None,
    };
    let sockets: Vec<OwnedFd> = handed.into_iter().map(|handed| handed.socket).collect();
    for socket in sockets.iter().filter(|_| matches!(address, Address::Inet(_))) {
        // Whoever made it may not have known.
        if let Err(error) = SockRef::from(socket).set_tcp_nodelay(true) {
            tracing::warn!(%address, %error, "small answers may wait for acknowledgements");
        }
    }
    Some(NewSockets { address, sockets, file: file.map(Arc::new) })
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::config::{BackendChoice, Limits, ListenerConfig, ServiceConfig};
    use crate::driver::{FeatureSet, UnixPath};
    use crate::limit::AdmissionConfig;

    fn config(paths: &[&UnixPath]) -> ServerConfig {
        let address = |path: &&UnixPath| ListenAddress::Unix { path: (*path).clone(), mode: None };
        let listener = |path| ListenerConfig::new(address(path), ServiceConfig::Echo);
        ServerConfig {
            listeners: paths.iter().map(listener).collect(),
            workers: 2,
            pin_workers: false,
            backend: BackendChoice::Epoll,
            uring_off: FeatureSet::NONE,
            admission: AdmissionConfig::default(),
            limits: Limits::default(),
        }
    }

    fn change(listeners: &Listeners, paths: &[&UnixPath]) -> Result<Change, StartError> {
        listeners.prepare(&config(paths), 2, &mut InheritedSockets::default())
    }

    fn exists(path: &UnixPath) -> bool {
        Path::new(path.as_ref()).exists()
    }

    #[test]
    fn the_file_of_a_path_that_is_no_longer_configured_goes_and_the_others_stay() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| UnixPath::new(folder.path().join(name)).unwrap();
        let (old, kept, new) = (path("old"), path("kept"), path("new"));
        let mut listeners = Listeners::default();
        let shares = listeners.commit(change(&listeners, &[&old, &kept]).unwrap());
        assert!(shares.iter().all(|(_, workers)| workers.iter().map(Vec::len).eq([1, 1])), "{shares:?}");
        listeners.commit(change(&listeners, &[&kept, &new]).unwrap());
        assert_eq!([&old, &kept, &new].map(exists), [false, true, true]);
        listeners.close_sockets();
        assert!(exists(&kept), "connections are still served");
        drop(listeners);
        assert_eq!([&kept, &new].map(exists), [false, false]);
    }

    #[test]
    fn another_backlog_is_that_of_the_sockets_that_stay_too() {
        let folder = TempDir::new().unwrap();
        let path = UnixPath::new(folder.path().join("path")).unwrap();
        let name = socket2::SockAddr::unix(&path).unwrap();
        // So many more can connect while nobody accepts.
        let connect_all = |waiting: &mut Vec<socket2::Socket>| {
            let before = waiting.len();
            loop {
                let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                if client.connect(&name).is_err() || waiting.len() > 64 {
                    return waiting.len() - before;
                }
                waiting.push(client);
            }
        };
        let with_backlog = |backlog| {
            let config = config(&[&path]);
            ServerConfig { limits: Limits { backlog, ..Limits::default() }, ..config }
        };
        let mut listeners = Listeners::default();
        let change = |listeners: &Listeners, backlog| {
            listeners.prepare(&with_backlog(backlog), 2, &mut InheritedSockets::default()).unwrap()
        };
        let _sockets = listeners.commit(change(&listeners, 4));
        let mut waiting = Vec::new();
        assert!(connect_all(&mut waiting) < 10);
        listeners.commit(change(&listeners, 20));
        assert!(connect_all(&mut waiting) >= 10, "{} wait", waiting.len());
    }

    #[test]
    fn a_change_that_fails_leaves_no_file_and_takes_none() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| UnixPath::new(folder.path().join(name)).unwrap();
        let (kept, new, impossible) = (path("kept"), path("new"), path("no/such/folder"));
        let mut listeners = Listeners::default();
        listeners.commit(change(&listeners, &[&kept]).unwrap());
        let refused = change(&listeners, &[&kept, &new, &impossible]);
        assert!(matches!(refused, Err(StartError::Bind { address: Address::Unix(path), .. }) if path == impossible));
        assert_eq!([&kept, &new].map(exists), [true, false]);
    }
}
