//! Tests of a protocol in plain, over TLS: the same requests, bytes and ends of connections.
//!
//! With `XPS_TEST_TLS=1`, a server that was started with [`Launch::over_tls_where_asked`] gets a certificate, and
//! [`connect`] gives a connection to a *bridge* in this process instead of one to the server. The bridge speaks
//! TLS with the server and plain with the test. `XPS_TEST_TLS=1.2` does the same with TLS 1.2.
//!
//! `XPS_TEST_TLS=h2c` and `h2` are for tests of HTTP, whose servers start with [`Launch::over_what_is_asked`]: behind a
//! second bridge ([`super::h2::bridge`]) the text of the test becomes HTTP/2, with prior knowledge or over TLS 1.3. A test of
//! what only HTTP/1.1 has begins with [`http1_only!`].
//!
//! Each kind of end means the same on both sides:
//!
//! | one side | other side |
//! |---|---|
//! | the test ends its sending half | close_notify, then FIN to the server |
//! | the test resets the connection | reset of the server's connection |
//! | close_notify from the server | FIN to the test |
//! | end of input without close_notify, an alert, a reset | reset of the test's connection |
//!
//! The bridge adds the buffers of two sockets, holds two descriptors more for each connection, and the server sees the port
//! of the bridge. A test to which that matters begins with [`plain_only!`].
//!
//! [`Launch::over_tls_where_asked`]: super::Launch::over_tls_where_asked
//! [`Launch::over_what_is_asked`]: super::Launch::over_what_is_asked
//! [`connect`]: super::client::connect

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use socket2::SockRef;

use super::client::{is_timeout, uninterrupted};
use super::environment::skip;
use super::tls::{Authority, Client, Signed};

/// What tests are to run over.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    Plain,
    Tls(&'static SupportedProtocolVersion),
    /// HTTP/2 with prior knowledge.
    H2c,
    /// HTTP/2 over TLS 1.3.
    H2,
}

impl Over {
    /// What is asked for.
    pub fn asked() -> Self {
        match std::env::var("XPS_TEST_TLS").unwrap_or_default().as_str() {
            "" | "0" => Self::Plain,
            "1" => Self::Tls(&TLS13),
            "1.2" => Self::Tls(&TLS12),
            "h2c" => Self::H2c,
            "h2" => Self::H2,
            other => panic!("XPS_TEST_TLS={other}: it is 1, 1.2 for TLS 1.2, h2, or h2c"),
        }
    }

    pub fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }
}

/// Whether there are bridges.
pub fn is_asked() -> bool {
    !matches!(Over::asked(), Over::Plain)
}

/// Ends a test that is about what lies below TLS, and says why, where tests run over TLS.
macro_rules! plain_only {
    ($reason:literal) => {
        if crate::support::bridge::skips_over_tls($reason) {
            return;
        }
    };
}
pub(crate) use plain_only;

/// Ends a test that is about what HTTP/2 does not have or does otherwise, and says why, where tests run over HTTP/2.
/// `tests/tidy.rs` counts them.
macro_rules! http1_only {
    ($reason:literal) => {
        if crate::support::bridge::skips_over_http2($reason) {
            return;
        }
    };
}
pub(crate) use http1_only;

/// Whether this test does not run, which is said.
pub fn skips_over_tls(reason: &str) -> bool {
    skip_if(is_asked(), &format!("plain only: {reason}"))
}

/// Whether this test does not run, which is said.
pub fn skips_over_http2(reason: &str) -> bool {
    skip_if(Over::asked().is_http2(), &format!("HTTP/1.1 only: {reason}"))
}

fn skip_if(is_skipped: bool, reason: &str) -> bool {
    // Tests have a thread each, and its name, unless they run one by one.
    if is_skipped {
        skip(thread::current().name().unwrap_or("a test"), reason);
    }
    is_skipped
}

/// What a server of TLS and its clients need. The addresses are reached through bridges as long as it lives.
pub struct Encryption {
    authority: Authority,
    signed: Signed,
    config: Arc<ClientConfig>,
    is_http2: bool,
    covered: Covered,
}

impl Encryption {
    /// If tests are to run over this.
    pub fn of(over: Over) -> Option<Self> {
        match over {
            Over::Plain | Over::H2c => None,
            Over::Tls(version) => Some(Self::new(version)),
            Over::H2 => Some(Self::speaking(&TLS13, "h2")),
        }
    }

    /// With a certificate of its own.
    pub fn new(version: &'static SupportedProtocolVersion) -> Self {
        Self::speaking(version, "http/1.1")
    }

    fn speaking(version: &'static SupportedProtocolVersion, protocol: &str) -> Self {
        let authority = Authority::new();
        let signed = authority.signed(&["127.0.0.1", "::1", "localhost"]);
        let config = Client::trusting(&authority).speaking(version).offering(&[protocol]).config();
        Self { authority, signed, config, is_http2: protocol == "h2", covered: Covered::default() }
    }

    /// The flags for the server.
    pub fn flags(&self) -> [String; 4] {
        let word = |path: &Path| path.to_str().expect("a path of text").to_owned();
        ["--tls-cert".to_owned(), word(&self.signed.cert), "--tls-key".to_owned(), word(&self.signed.key)]
    }

    /// The certificate and key of the server.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// The file of the authority that other clients have to trust.
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// From now on these are addresses of the server.
    pub fn covers(&mut self, addresses: &[SocketAddr]) {
        self.covered.add(addresses, &Route { tls: Some(Arc::clone(&self.config)), is_http2: self.is_http2 });
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").field("signed", &self.signed).finish_non_exhaustive()
    }
}

/// Addresses that are reached through bridges as long as it lives.
#[derive(Debug, Default)]
pub struct Covered {
    addresses: Vec<SocketAddr>,
}

impl Covered {
    /// These are addresses of a server of HTTP/2 with prior knowledge.
    pub fn by_h2c(&mut self, addresses: &[SocketAddr]) {
        self.add(addresses, &Route { tls: None, is_http2: true });
    }

    fn add(&mut self, addresses: &[SocketAddr], route: &Route) {
        self.addresses.extend_from_slice(addresses);
        servers().extend(addresses.iter().map(|address| (*address, route.clone())));
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        if !self.addresses.is_empty() {
            servers().retain(|(address, _)| !self.addresses.contains(address));
        }
    }
}

/// What lies between a test and a server.
#[derive(Clone)]
struct Route {
    tls: Option<Arc<ClientConfig>>,
    is_http2: bool,
}

/// The addresses that are reached through bridges.
static SERVERS: Mutex<Vec<(SocketAddr, Route)>> = Mutex::new(Vec::new());

fn servers() -> MutexGuard<'static, Vec<(SocketAddr, Route)>> {
    SERVERS.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// The connection for a test that has connected to `address`: to a bridge, or as it is if there is none.
pub fn through(address: SocketAddr, server: TcpStream) -> TcpStream {
    let route = servers().iter().find(|(of, _)| *of == address).map(|(_, route)| route.clone());
    let Some(Route { tls, is_http2 }) = route else { return server };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = match tls {
        Some(config) => through_tls(address, server, config),
        None => server,
    };
    if is_http2 { super::h2::bridge::through(scheme, server) } else { server }
}

fn through_tls(address: SocketAddr, server: TcpStream, config: Arc<ClientConfig>) -> TcpStream {
    let tls = ClientConnection::new(config, ServerName::from(address.ip())).expect("a name that can be verified");
    let (near, test) = pair().expect("two connected sockets");
    for stream in [&server, &test] {
        stream.set_nodelay(true).expect("TCP has it");
        stream.set_write_timeout(Some(LOOK_INTERVAL)).expect("a time-out that is not zero");
    }
    let bridge = Bridge {
        test,
        server,
        tls: Mutex::new(tls),
        has_lost_test: AtomicBool::new(false),
        has_lost_server: AtomicBool::new(false),
        has_all_arrived: AtomicBool::new(false),
    };
    spawn(move || bridge.run());
    near
}

pub fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    Ok((near, listener.accept()?.0))
}

pub fn spawn(act: impl FnOnce() + Send + 'static) {
    // Tests have many connections, and the default would be a large part of a small machine's address space.
    thread::Builder::new().stack_size(512 << 10).spawn(act).expect("a thread");
}

/// How often an end is looked for that a socket does not announce to who writes.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// As much as a record holds.
const PIECE_BYTES: usize = 16 << 10;

/// One connection of a test.
struct Bridge {
    test: TcpStream,
    server: TcpStream,
    tls: Mutex<ClientConnection>,
    /// The test has reset its connection. Noted, because a socket tells of it only once.
    has_lost_test: AtomicBool,
    /// The server has.
    has_lost_server: AtomicBool,
    /// Nothing more comes from the server.
    has_all_arrived: AtomicBool,
}

impl Bridge {
    fn run(self) {
        // A server at its limit does not accept: the test must not wait for this.
        if let Err(error) = self.shake_hands() {
            if !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) {
                eprintln!("no handshake: {error}");
            }
            return set_reset(&self.test);
        }
        let bridge = Arc::new(self);
        let other = Arc::clone(&bridge);
        spawn(move || other.relay_to_server());
        bridge.relay_to_test();
        bridge.has_all_arrived.store(true, Ordering::SeqCst);
    }

    fn shake_hands(&self) -> io::Result<()> {
        let mut tls = self.tls();
        while tls.is_handshaking() {
            uninterrupted(|| tls.complete_io(&mut &self.server))?;
        }
        // A handshake has ended with something to write in TLS 1.3.
        while tls.wants_write() {
            uninterrupted(|| tls.write_tls(&mut &self.server))?;
        }
        Ok(())
    }

    fn relay_to_server(&self) {
        let mut bytes = vec![0; PIECE_BYTES];
        loop {
            match uninterrupted(|| (&self.test).read(&mut bytes)) {
                Err(_) => return self.abandon(),
                Ok(_) if self.has_lost_test() => return,
                Ok(0) => break,
                Ok(got) => {
                    let records = self.records(|tls| tls.writer().write_all(&bytes[..got]).expect("it fits"));
                    if let Err(lost) = self.write_to_server(&records) {
                        return self.give_up_sending(lost);
                    }
                }
            }
        }
        let records = self.records(|tls| tls.send_close_notify());
        if let Err(lost) = self.write_to_server(&records) {
            return self.give_up_sending(lost);
        }
        let _ = self.server.shutdown(Shutdown::Write);
        // A reset may still follow the end.
        while !self.has_all_arrived.load(Ordering::SeqCst) {
            if is_broken(&self.test) {
                return self.abandon();
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn give_up_sending(&self, lost: Lost) {
        match lost {
            Lost::Test => self.abandon(),
            // What has come before can still be read.
            Lost::Server => {
                self.has_lost_server.store(true, Ordering::SeqCst);
                set_reset(&self.test);
            }
        }
    }

    fn relay_to_test(&self) {
        let mut bytes = vec![0; PIECE_BYTES];
        let mut has_ended = false;
        let mut got = 0;
        loop {
            // The handshake may have read more than itself.
            let mut records = &bytes[..got];
            while !has_ended {
                let plain = match self.plain(&mut records) {
                    Ok((plain, is_end)) => {
                        has_ended = is_end;
                        plain
                    }
                    Err(error) => {
                        eprintln!("not a record, or an alert: {error}");
                        return self.cut();
                    }
                };
                match self.write_to_test(&plain) {
                    Ok(()) => {}
                    Err(Lost::Test) => return self.abandon(),
                    Err(Lost::Server) => return self.cut(),
                }
                if has_ended {
                    let _ = self.test.shutdown(Shutdown::Write);
                }
                if records.is_empty() {
                    break;
                }
            }
            got = match uninterrupted(|| (&self.server).read(&mut bytes)) {
                Ok(0) if has_ended => return,
                Ok(0) | Err(_) => return self.cut(),
                Ok(got) => got,
            };
        }
    }

    /// What the next records hold, and whether the last one of them is close_notify.
    fn plain(&self, records: &mut &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let mut tls = self.tls();
        if !records.is_empty() {
            tls.read_tls(records)?;
        }
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        tls.reader().read_exact(&mut plain)?;
        Ok((plain, state.peer_has_closed()))
    }

    /// The records that come of this. They are written without the lock: what comes from the server must not wait for it.
    fn records(&self, act: impl FnOnce(&mut ClientConnection)) -> Vec<u8> {
        let mut records = Vec::new();
        let mut tls = self.tls();
        act(&mut tls);
        while tls.wants_write() {
            tls.write_tls(&mut records).expect("memory takes it");
        }
        records
    }

    fn write_to_server(&self, bytes: &[u8]) -> Result<(), Lost> {
        let is_test_lost = || self.has_lost_test() || is_broken(&self.test);
        write(&self.server, bytes, || if is_test_lost() { Err(Lost::Test) } else { Ok(()) }, Lost::Server)
    }

    fn write_to_test(&self, bytes: &[u8]) -> Result<(), Lost> {
        let is_server_lost = || self.has_lost_server.load(Ordering::SeqCst) || is_broken(&self.server);
        let look = || match self.has_lost_test() {
            true => Err(Lost::Test),
            false if is_server_lost() => Err(Lost::Server),
            false => Ok(()),
        };
        write(&self.test, bytes, look, Lost::Test)
    }

    /// The server has ended the connection out of order: the test sees a reset.
    fn cut(&self) {
        if !self.has_lost_test() {
            set_reset(&self.test);
            let _ = self.test.shutdown(Shutdown::Read);
            let _ = self.server.shutdown(Shutdown::Both);
        }
    }

    /// The test has reset the connection: the server sees that. Nothing is sent before it.
    fn abandon(&self) {
        self.has_lost_test.store(true, Ordering::SeqCst);
        set_reset(&self.server);
        for stream in [&self.server, &self.test] {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    fn has_lost_test(&self) -> bool {
        self.has_lost_test.load(Ordering::SeqCst)
    }

    fn tls(&self) -> MutexGuard<'_, ClientConnection> {
        self.tls.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Whose connection is broken.
enum Lost {
    Test,
    Server,
}

/// Writes all. While `to` takes nothing, `look` says whether there is a reason to give up.
fn write(mut to: &TcpStream, mut bytes: &[u8], look: impl Fn() -> Result<(), Lost>, broken: Lost) -> Result<(), Lost> {
    while !bytes.is_empty() {
        match uninterrupted(|| to.write(bytes)) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if is_timeout(&error) => look()?,
            Err(_) => return Err(broken),
        }
    }
    Ok(())
}

/// Makes closing it a reset.
pub fn set_reset(stream: &TcpStream) {
    // It may be broken already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Whether the other end has reset it.
fn is_broken(stream: &TcpStream) -> bool {
    !matches!(stream.take_error(), Ok(None))
}
