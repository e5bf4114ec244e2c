//! TLS on real sockets: a worker of the library on each back-end, and rustls' own client.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;
use xps::internals::config::{FileRouteConfig, HandlerConfig, Limits, ResponseConfig, RouterConfig, ServiceConfig};
use xps::internals::core::{Core, ListenerId, Message, SupervisedCore, Worker, router_of};
use xps::internals::driver::{Epoll, EpollConfig, KernelDriver, Uring, UringConfig, Waker};
use xps::internals::session::http::RouterCell;
use xps::internals::session::{ListenerContext, Service};

use crate::support::{Backend, backends, patience, uninterrupted};

/// Larger than what is encrypted at a time, than a buffer of a socket, and no multiple of a record.
const LARGE: usize = 3_000_017;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A certificate, who trusts it, and who has it.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new() -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key: &KeyPair = &signed.signing_key;
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self { chain: vec![signed.cert.der().clone()], key }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.chain[0].clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// A worker in a thread, with one listener.
struct Server {
    address: SocketAddr,
    identity: Identity,
    messages: mpsc::Sender<Message>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// How a listener is set up, besides TLS.
#[derive(Clone, Copy, Default)]
struct Settings {
    expects_proxy_header: bool,
    head_timeout: Option<Duration>,
}

impl Server {
    fn start(backend: Backend, service: ServiceConfig, settings: Settings) -> Self {
        let identity = Identity::new();
        let tls = identity.server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let serve = move || {
            let mut limits = Limits::default();
            if let Some(head_timeout) = settings.head_timeout {
                limits.http.head_timeout = head_timeout;
            }
            let service = match &service {
                ServiceConfig::Http(_) => {
                    let router = router_of(&service).unwrap().unwrap();
                    Service::Http(RouterCell::new(Rc::into_inner(router).unwrap()))
                }
                ServiceConfig::Echo => Service::Echo,
                other => panic!("{other:?}"),
            };
            let expects_proxy_header = settings.expects_proxy_header;
            let context = ListenerContext { expects_proxy_header, tls: Some(Arc::new(tls.into())), ..service.into() };
            match backend {
                Backend::Epoll => {
                    run(Epoll::new(EpollConfig::default()).unwrap(), listener, context, limits, inbox, &ready)
                }
                _ => run(Uring::new(UringConfig::new(limits.pool)).unwrap(), listener, context, limits, inbox, &ready),
            }
        };
        let thread = thread::spawn(serve);
        let waker = started.recv().unwrap();
        Self { address, identity, messages, waker, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        stream.set_write_timeout(Some(patience())).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Client {
        self.client_with(&self.identity.client(versions))
    }

    fn client_with(&self, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), self.connect())
    }

    /// Ends the worker, which has nothing left then.
    fn stop(mut self) {
        self.messages.send(Message::Drain).unwrap();
        self.waker.wake();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn run(
    mut driver: impl KernelDriver,
    listener: TcpListener,
    context: ListenerContext,
    limits: Limits,
    inbox: mpsc::Receiver<Message>,
    ready: &mpsc::Sender<Waker>,
) {
    let drain_timeout = limits.drain_timeout;
    let mut core = Core::new(limits);
    core.add_listener(ListenerId(0), driver.adopt(listener.into()), context);
    ready.send(driver.waker()).unwrap();
    Worker::new(driver, SupervisedCore::new(core, inbox, drain_timeout)).run().unwrap();
}

fn site() -> (TempDir, ServiceConfig) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("small.txt"), "a small file").unwrap();
    std::fs::write(folder.path().join("large.bin"), pattern(LARGE)).unwrap();
    let route = FileRouteConfig { root: Some(folder.path().to_owned()), ..FileRouteConfig::default() };
    let router = RouterConfig::of(HandlerConfig::Files(Box::new(route)), ResponseConfig::default(), None);
    (folder, ServiceConfig::Http(router))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 253) as u8).collect()
}

/// Reads one response with a length: its head and its body.
fn response(client: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    client.read_exact(&mut body).unwrap();
    (head, body)
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

backends! {
    fn bytes_come_back_and_the_end_is_said(backend) {
        let server = Server::start(backend, ServiceConfig::Echo, Settings::default());
        for version in VERSIONS {
            let mut client = server.client(&[version]);
            let bytes = pattern(100_000);
            for round in 0..20 {
                client.write_all(&bytes).unwrap();
                let mut back = vec![0; bytes.len()];
                client.read_exact(&mut back).unwrap();
                assert!(back == bytes, "round {round}");
            }
            client.conn.send_close_notify();
            client.flush().unwrap();
            // Without a `close_notify` this would be an error.
            assert_eq!(uninterrupted(|| client.read(&mut [0; 10])).unwrap(), 0);
            assert_eq!(client.conn.protocol_version(), Some(version.version));
        }
        server.stop();
    }

    fn files_are_served_over_one_connection(backend) {
        let (_folder, service) = site();
        let server = Server::start(backend, service, Settings::default());
        for version in VERSIONS {
            let mut client = server.client(&[version]);
            for _ in 0..3 {
                client.write_all(b"GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let (head, body) = response(&mut client);
                assert!(head.starts_with("HTTP/1.1 200 ") && body == b"a small file", "{head}");
                client.write_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let (head, body) = response(&mut client);
                assert!(head.starts_with("HTTP/1.1 200 ") && body == pattern(LARGE), "{head}");
                client.write_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1000-100999\r\n\r\n").unwrap();
                let (head, body) = response(&mut client);
                assert!(head.starts_with("HTTP/1.1 206 ") && body == pattern(LARGE)[1000..101_000], "{head}");
            }
            client.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let (head, _) = response(&mut client);
            assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
            assert_eq!(uninterrupted(|| client.read(&mut [0; 10])).unwrap(), 0, "the end is said");
        }
        server.stop();
    }

    fn plain_http_gets_a_plain_400(backend) {
        let (_folder, service) = site();
        let server = Server::start(backend, service, Settings::default());
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (head, body) = response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("\r\nDate: "), "{head}");
        assert!(String::from_utf8(body).unwrap().contains("HTTPS"));
        assert_eq!(uninterrupted(|| stream.read(&mut [0; 10])).unwrap(), 0);
        drop(stream);
        server.stop();
    }

    fn what_is_not_tls_gets_an_alert(backend) {
        let server = Server::start(backend, ServiceConfig::Echo, Settings::default());
        let mut stream = server.connect();
        stream.write_all(&[0; 100]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50], "decode_error");
        drop(stream);
        // The client does not trust the certificate.
        let mut stranger = server.client_with(&Identity::new().client(&VERSIONS));
        let error = stranger.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        drop(stranger);
        server.stop();
    }

    fn a_handshake_that_is_not_finished_times_out(backend) {
        let settings = Settings { head_timeout: Some(Duration::from_millis(300)), ..Settings::default() };
        let server = Server::start(backend, ServiceConfig::Echo, settings);
        let begun = Instant::now();
        for start in [&b""[..], b"G", &[22, 3, 1, 1, 0, 1]] {
            let mut stream = server.connect();
            stream.write_all(start).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
        assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
        server.stop();
    }

    fn the_handshake_follows_a_proxy_header(backend) {
        let settings = Settings { expects_proxy_header: true, ..Settings::default() };
        let server = Server::start(backend, ServiceConfig::Echo, settings);
        for is_one_piece in [true, false] {
            let mut client = server.client(&VERSIONS);
            let mut first = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec();
            if is_one_piece {
                client.conn.write_tls(&mut first).unwrap();
            }
            client.sock.write_all(&first).unwrap();
            client.write_all(b"hello").unwrap();
            let mut back = [0; 5];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"hello");
        }
        server.stop();
    }

    /// It would be 40 ms for each.
    fn no_handshake_waits_for_a_delayed_acknowledgement(backend) {
        let (_folder, service) = site();
        let server = Server::start(backend, service, Settings::default());
        for version in VERSIONS {
            let config = server.identity.client(&[version]);
            let mut times: Vec<Duration> = (0..15)
                .map(|_| {
                    let begun = Instant::now();
                    let mut client = server.client_with(&config);
                    client.write_all(b"GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                    response(&mut client);
                    begun.elapsed()
                })
                .collect();
            // Such a wait, of 40 ms, would be in each of them. On a busy machine some take longer for other
            // reasons, so the fastest counts.
            times.sort_unstable();
            assert!(times[0] < Duration::from_millis(38), "{times:?}");
        }
        server.stop();
    }

    fn a_client_that_leaves_at_any_time_leaves_nothing_behind(backend) {
        let (_folder, service) = site();
        let server = Server::start(backend, service, Settings::default());
        let config = server.identity.client(&VERSIONS);
        for count in (0..2000).step_by(97) {
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            let mut stream = server.connect();
            stream.write_all(&hello[..count.min(hello.len())]).unwrap();
            match count % 3 {
                0 => drop(stream),
                1 => stream.shutdown(Shutdown::Write).unwrap(),
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
        for _ in 0..10 {
            let mut client = server.client_with(&config);
            client.write_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            client.read_exact(&mut [0; 1000]).unwrap();
        }
        server.stop();
    }
}
