//! The addresses that a server listens on, kept across reloads of its configuration.
//!
//! Each worker has its own socket on each internet address. The supervisor keeps a duplicate of
//! every socket, so that a replacement process can inherit the sockets in whose backlogs clients
//! wait. The file of a unix socket is removed when the last worker is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::SockRef;

use super::inherit::{HandedSocket, InheritedSockets};
use super::listen;
use super::server::StartError;
use super::socket_file::{self, SocketFile};
use super::state::ListenerId;
use crate::config::{ListenAddress, ListenerConfig, ServerConfig};
use crate::driver::Address;

/// All listening addresses with their sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    list: Vec<BoundListener>,
    next_id: u32,
    /// Backlog of the last configuration.
    backlog: i32,
}

#[derive(Debug)]
struct BoundListener {
    id: ListenerId,
    /// The configured address; port 0 means any port.
    wanted: ListenAddress,
    /// The bound address, with the real port.
    address: Address,
    /// The sockets of all workers; for a unix socket, the one that they share.
    sockets: Vec<OwnedFd>,
    file: Option<Arc<SocketFile>>,
}

/// A prepared change of the listeners. Committing it cannot fail.
#[derive(Debug)]
pub(super) struct Change {
    next: Listeners,
    /// For each listener of the configuration: its ID, and the new sockets for each worker.
    pub(super) shares: Vec<(ListenerId, Vec<Vec<OwnedFd>>)>,
}

impl Listeners {
    /// Binds those of the addresses `wanted` that are new. Nothing changes before
    /// [`Listeners::commit`].
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(super) fn prepare<'c>(
        &self,
        wanted: impl Iterator<Item = &'c ListenerConfig>,
        config: &ServerConfig,
        workers: usize,
        inherited: &mut InheritedSockets,
    ) -> Result<Change, StartError> {
        let mut next = Self { list: Vec::new(), next_id: self.next_id, backlog: config.limits.backlog };
        let mut shares = Vec::new();
        let mut here: Vec<&BoundListener> = self.list.iter().collect();
        for listener in wanted {
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

    /// Applies a prepared change.
    pub(super) fn commit(&mut self, change: Change) -> Vec<(ListenerId, Vec<Vec<OwnedFd>>)> {
        let has_new_backlog = !self.list.is_empty() && self.backlog != change.next.backlog;
        *self = change.next;
        self.list.iter().for_each(BoundListener::apply_mode);
        if has_new_backlog {
            self.list.iter().for_each(|listening| listening.apply_backlog(self.backlog));
        }
        change.shares
    }

    /// The bound addresses, in the order of the configuration, with real ports.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.list.iter().map(|listening| listening.address.clone()).collect()
    }

    /// Duplicates of all sockets, for a replacement process.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(super) fn export_sockets(&self) -> io::Result<Vec<HandedSocket>> {
        let handed = |listening: &BoundListener, socket: &OwnedFd| {
            let has_file = listening.file.as_ref().is_some_and(|file| file.is_owned());
            Ok(HandedSocket { address: listening.address.clone(), socket: socket.try_clone()?, has_file })
        };
        self.list.iter().flat_map(|here| here.sockets.iter().map(move |socket| handed(here, socket))).collect()
    }

    /// Takes ownership of the files of all unix sockets: they are removed when this is dropped.
    pub(super) fn own_files(&self) {
        self.files().for_each(SocketFile::own);
    }

    /// Gives up ownership of the socket files: another process has the sockets and removes them.
    pub(super) fn disown_files(&self) {
        self.files().for_each(SocketFile::disown);
    }

    /// Closes the duplicates, so that a socket is closed as soon as its worker closes it.
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

    /// Applies the backlog to existing sockets, too: a second listen(2) only changes the queue
    /// length.
    fn apply_backlog(&self, backlog: i32) {
        for socket in &self.sockets {
            if let Err(error) = SockRef::from(socket).listen(backlog) {
                tracing::warn!(address = %self.address, %error, "the backlog cannot be changed");
            }
        }
    }

    /// Applies the file mode to an existing socket's file. Until the commit, the old mode holds.
    fn apply_mode(&self) {
        if let (Some(file), ListenAddress::Unix { path, mode: Some(mode) }) = (&self.file, &self.wanted)
            && let Err(error) = file.set_mode(*mode)
        {
            tracing::warn!(%path, %error, "cannot change the mode of the socket file");
        }
    }
}

/// The sockets of one address, and the address with its real port.
struct NewSockets {
    address: Address,
    sockets: Vec<OwnedFd>,
    file: Option<Arc<SocketFile>>,
}

/// The sockets for an address: inherited ones if there are any, else new ones.
fn bind(
    wanted: &ListenAddress,
    config: &ServerConfig,
    workers: usize,
    inherited: &mut InheritedSockets,
) -> io::Result<NewSockets> {
    if let Some(bound) = take_over(inherited.take(&wanted.address())) {
        tracing::info!(address = %bound.address, sockets = bound.sockets.len(), "listening on inherited sockets");
        return Ok(bound);
    }
    let backlog = config.limits.backlog;
    match wanted {
        ListenAddress::Inet(address) => {
            let operator = config.operator.listeners().map(|(_, listener)| listener);
            let all = config.listeners.iter().chain(operator).filter_map(|listener| listener.address.inet());
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

/// Wraps the inherited sockets of one address.
fn take_over(handed: Vec<HandedSocket>) -> Option<NewSockets> {
    let first = handed.first()?;
    let address = first.address.clone();
    let file = match &address {
        // Without the file no client can connect any more, but those in the backlog are served.
        Address::Unix(path) if first.has_file => SocketFile::find(path)
            .inspect_err(|error| tracing::warn!(%path, %error, "the file of an inherited socket is gone"))
            .ok(),
        Address::Unix(_) | Address::Inet(_) => None,
    };
    let sockets: Vec<OwnedFd> = handed.into_iter().map(|handed| handed.socket).collect();
    for socket in sockets.iter().filter(|_| matches!(address, Address::Inet(_))) {
        // The process that made the socket may not have set it.
        if let Err(error) = SockRef::from(socket).set_tcp_nodelay(true) {
            tracing::warn!(%address, %error, "cannot set TCP_NODELAY on inherited socket");
        }
    }
    Some(NewSockets { address, sockets, file: file.map(Arc::new) })
}

/// Distributes sockets over the workers. With fewer sockets than workers, some workers share a
/// socket. With more, some workers have several: clients may wait in the backlog of each.
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
    use crate::config::{BackendChoice, Limits, OperatorConfig, ServiceConfig};
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
            operator: OperatorConfig::default(),
        }
    }

    fn change(listeners: &Listeners, paths: &[&UnixPath]) -> Result<Change, StartError> {
        let config = config(paths);
        listeners.prepare(config.listeners.iter(), &config, 2, &mut InheritedSockets::default())
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
        // Connects until the backlog is full, as no connection is accepted. Returns the number
        // added.
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
            let config = with_backlog(backlog);
            listeners.prepare(config.listeners.iter(), &config, 2, &mut InheritedSockets::default()).unwrap()
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
