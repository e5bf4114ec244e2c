//! The addresses that a server listens on, across changes of its configuration.
//!
//! Every worker has sockets of its own on each address. A copy of each stays here, so that a successor can be given the
//! very sockets in whose backlogs clients wait. With a unix socket comes its file, which stays as long as the last worker.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::SockRef;

use super::inherit::{Handed, Inherited};
use super::listen;
use super::server::StartError;
use super::socket_file::{self, SocketFile};
use super::state::EntranceId;
use crate::config::{ListenAddress, ServerConfig};
use crate::driver::Address;

/// The addresses that are listened on.
#[derive(Debug, Default)]
pub(super) struct Entrances {
    list: Vec<Listening>,
    next_id: u32,
    /// As it was configured last.
    backlog: i32,
}

#[derive(Debug)]
struct Listening {
    id: EntranceId,
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
        let mut next = Self { list: Vec::new(), next_id: self.next_id, backlog: config.limits.backlog };
        let mut shares = Vec::new();
        let mut here: Vec<&Listening> = self.list.iter().collect();
        for listener in &config.listeners {
            let wanted = &listener.address;
            let failed = |source| StartError::Bind { address: wanted.address(), source };
            if let Some(at) = here.iter().position(|listening| listening.wanted.address() == wanted.address()) {
                let kept = here.swap_remove(at);
                next.list.push(Listening { wanted: wanted.clone(), ..kept.copy().map_err(failed)? });
                shares.push((kept.id, Vec::new()));
                continue;
            }
            let Bound { address, sockets, file } = bind(wanted, config, workers, inherited).map_err(failed)?;
            let copies = sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>().map_err(failed)?;
            let id = EntranceId(next.next_id);
            next.next_id += 1;
            next.list.push(Listening { id, wanted: wanted.clone(), address, sockets: copies, file });
            shares.push((id, dealt(sockets, workers).map_err(failed)?));
        }
        Ok(Change { next, shares })
    }

    /// Makes a prepared change.
    pub(super) fn commit(&mut self, change: Change) -> Vec<(EntranceId, Vec<Vec<OwnedFd>>)> {
        let has_new_backlog = !self.list.is_empty() && self.backlog != change.next.backlog;
        *self = change.next;
        self.list.iter().for_each(Listening::apply_mode);
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
    pub(super) fn hand_over(&self) -> io::Result<Vec<Handed>> {
        let handed = |listening: &Listening, socket: &OwnedFd| {
            let has_file = listening.file.as_ref().is_some_and(|file| file.is_owned());
            Ok(Handed { address: listening.address.clone(), socket: socket.try_clone()?, has_file })
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

impl Listening {
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
struct Bound {
    address: Address,
    sockets: Vec<OwnedFd>,
    file: Option<Arc<SocketFile>>,
}

/// The sockets on an address: those that were inherited, or new ones.
fn bind(wanted: &ListenAddress, config: &ServerConfig, workers: usize, inherited: &mut Inherited) -> io::Result<Bound> {
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
            Ok(Bound { address: bound.address.into(), sockets: bound.sockets, file: None })
        }
        ListenAddress::Unix { path, mode } => {
            let (socket, file) = socket_file::listen(path, *mode, backlog)?;
            Ok(Bound { address: path.clone().into(), sockets: vec![socket], file: Some(Arc::new(file)) })
        }
    }
}

/// Sockets on one address that another process listened on before.
fn take_over(handed: Vec<Handed>) -> Option<Bound> {
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
    Some(Bound { address, sockets, file: file.map(Arc::new) })
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
    use crate::admission::AdmissionConfig;
    use crate::config::{BackendChoice, Limits, ListenerConfig, Service};
    use crate::driver::{FeatureSet, UnixPath};

    fn config(paths: &[&UnixPath]) -> ServerConfig {
        let address = |path: &&UnixPath| ListenAddress::Unix { path: (*path).clone(), mode: None };
        let listener = |path| ListenerConfig::new(address(path), Service::Echo);
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

    fn change(entrances: &Entrances, paths: &[&UnixPath]) -> Result<Change, StartError> {
        entrances.prepare(&config(paths), 2, &mut Inherited::default())
    }

    fn exists(path: &UnixPath) -> bool {
        Path::new(path.as_ref()).exists()
    }

    #[test]
    fn the_file_of_a_path_that_is_no_longer_configured_goes_and_the_others_stay() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| UnixPath::new(folder.path().join(name)).unwrap();
        let (old, kept, new) = (path("old"), path("kept"), path("new"));
        let mut entrances = Entrances::default();
        let shares = entrances.commit(change(&entrances, &[&old, &kept]).unwrap());
        assert!(shares.iter().all(|(_, workers)| workers.iter().map(Vec::len).eq([1, 1])), "{shares:?}");
        entrances.commit(change(&entrances, &[&kept, &new]).unwrap());
        assert_eq!([&old, &kept, &new].map(exists), [false, true, true]);
        entrances.close_sockets();
        assert!(exists(&kept), "connections are still served");
        drop(entrances);
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
        let mut entrances = Entrances::default();
        let change = |entrances: &Entrances, backlog| {
            entrances.prepare(&with_backlog(backlog), 2, &mut Inherited::default()).unwrap()
        };
        let _sockets = entrances.commit(change(&entrances, 4));
        let mut waiting = Vec::new();
        assert!(connect_all(&mut waiting) < 10);
        entrances.commit(change(&entrances, 20));
        assert!(connect_all(&mut waiting) >= 10, "{} wait", waiting.len());
    }

    #[test]
    fn a_change_that_fails_leaves_no_file_and_takes_none() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| UnixPath::new(folder.path().join(name)).unwrap();
        let (kept, new, impossible) = (path("kept"), path("new"), path("no/such/folder"));
        let mut entrances = Entrances::default();
        entrances.commit(change(&entrances, &[&kept]).unwrap());
        let refused = change(&entrances, &[&kept, &new, &impossible]);
        assert!(matches!(refused, Err(StartError::Bind { address: Address::Unix(path), .. }) if path == impossible));
        assert_eq!([&kept, &new].map(exists), [true, false]);
    }
}
