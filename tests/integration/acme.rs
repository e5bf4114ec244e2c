//! Certificates that are obtained: from pebble, a small authority for tests, over loopback.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::support::environment::require_program;
use crate::support::log::Record;
use crate::support::process::Signal;
use crate::support::program::Program;
use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Launch, Xps, ask, backends, eventually};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// The name that certificates are obtained for.
const NAME: &str = "www.example.test";

/// Ports that are free. Programs that need to know each other's have no use for 0. The kernel's own choice could be taken
/// again before they listen: these are below what it chooses from (`ip_local_port_range`), and each is given out once.
fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let next = || {
        let at = std::process::id().wrapping_mul(97).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + at % COUNT).expect("a port")
    };
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); N].map(|()| (0..COUNT).map(|_| next()).find(is_free).expect("a free port"))
}

/// The authority, a name server that knows every name as 127.0.0.1, and the ports that the authority
/// connects to.
struct Pebble {
    _dns: Program,
    program: Program,
    /// Signed the certificate of the directory. Its folder also has the configuration and the storage.
    authority: Authority,
    port: u16,
    http_port: u16,
    tls_port: u16,
}

impl Pebble {
    /// `variables`: of its environment, besides those that make it quick and picky.
    #[track_caller]
    fn start(test: &str, variables: &[(&str, &str)]) -> Option<Self> {
        let program = require_program(test, "pebble", "pebble")?;
        let name_server = require_program(test, "pebble-challtestsrv", "pebble")?;
        let [port, management, http_port, tls_port, dns, dns_management] = free_ports();
        let authority = Authority::new();
        let site = authority.signed(&["127.0.0.1"]);
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": site.cert,
            "privateKey": site.key,
            "httpPort": http_port,
            "tlsPort": tls_port,
        } });
        let file = authority.path("pebble.json");
        fs::write(&file, config.to_string()).expect("a temporary file");
        let mut dns_command = Command::new(name_server);
        dns_command.args([
            "-dns01",
            &format!("127.0.0.1:{dns}"),
            "-management",
            &format!("127.0.0.1:{dns_management}"),
        ]);
        dns_command.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let dns_program = Program::start(&mut dns_command);
        let mut command = Command::new(program);
        command.arg("-strict").arg("-config").arg(&file).args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        // Every sixth nonce is refused, as the protocol allows.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "16").envs(variables.iter().copied());
        let program = Program::start(&mut command);
        for port in [port, dns_management] {
            eventually("the authority listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        Some(Self { _dns: dns_program, program, authority, port, http_port, tls_port })
    }

    fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    fn storage(&self) -> PathBuf {
        self.authority.path("storage")
    }

    /// A file in the storage of this directory.
    fn stored(&self, name: &str) -> PathBuf {
        self.storage().join(format!("127.0.0.1_{}_dir", self.port)).join(name)
    }

    /// What `acme` needs in the configuration.
    fn acme(&self) -> Value {
        let (directory, storage, ca) = (self.directory(), self.storage(), self.authority.ca());
        json!({ "directory": directory, "storage": storage, "ca": ca, "email": "admin@example.test" })
    }

    fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port))
    }

    fn http_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http_port))
    }

    /// Writes a configuration: TLS by `acme` for [`NAME`], a redirect to it, and metrics.
    fn configure(&self, acme: &Value) {
        configure(&self.authority, acme, self.tls_port, Some(self.http_port));
    }

    /// Starts xps with what is configured.
    fn launch(&self, backend: Backend) -> Xps {
        Launch::new(backend, ["run"]).in_folder(&self.authority.path("")).listening_on(3).start()
    }
}

fn configure(authority: &Authority, acme: &Value, tls_port: u16, http_port: Option<u16>) {
    let routes = json!([{ "req_path": "/", "type": "metrics" }]);
    let mut servers = vec![
        json!({
            "listeners": [{ "host": "127.0.0.1", "port": tls_port, "tls": { "acme": acme } }],
            "hostnames": [NAME],
            "routes": routes,
        }),
        // Not at 127.0.0.1, so that tests find it.
        json!({ "listeners": [{ "host": "127.0.0.2", "port": 0 }], "routes": routes }),
    ];
    if let Some(port) = http_port {
        servers.push(json!({ "listeners": [{ "host": "127.0.0.1", "port": port, "redirect_to_https": true }] }));
    }
    let file = json!({ "access_log": "off", "workers": 2, "servers": servers });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
}

/// The value of a metric.
fn metric(xps: &Xps, name: &str) -> Option<u64> {
    let address = xps.addresses().iter().find(|address| address.ip().to_string() == "127.0.0.2")?;
    let answer = ask(*address, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().to_owned();
    value.parse().ok()
}

const OBTAINED: &str = "xps_acme_attempts_total{result=\"obtained\"}";
const FAILED: &str = "xps_acme_attempts_total{result=\"failed\"}";

fn next_attempt(xps: &Xps) -> u64 {
    let name = format!("xps_acme_next_attempt_timestamp_seconds{{domain=\"{NAME}\"}}");
    metric(xps, &name).expect("there is one")
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs()
}

/// The certificate that a client gets, and what it offers.
fn served(address: SocketAddr) -> Option<CertificateDer<'static>> {
    let client = Client::trusting_anyone().offering(&["http/1.1"]);
    client.connect(address, NAME).ok()?.certificate().cloned()
}

fn stored(path: &std::path::Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a stored certificate")
}

fn obtained(record: &Record) -> bool {
    record.message() == "a certificate was obtained"
}

fn failed(record: &Record) -> bool {
    record.message() == "no certificate could be obtained"
}

backends! {
    fn a_certificate_is_obtained_over_http_though_all_else_is_redirected(backend) {
        let Some(pebble) = Pebble::start("acme: http-01", &[]) else { return };
        pebble.configure(&pebble.acme());
        let xps = pebble.launch(backend);
        let record = xps.log().wait_for("the certificate", obtained);
        assert_eq!((record.text("domain"), record.text("challenge")), (Some(NAME), Some("http-01")), "{record}");
        let file = pebble.stored(&format!("{NAME}.pem"));
        assert_eq!(served(pebble.tls_address()), Some(stored(&file)));
        for name in [&format!("{NAME}.pem"), "account.pem"] {
            let mode = pebble.stored(name).metadata().expect("it is stored").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        // The token is no longer pending, so the route answers.
        let request = format!("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        let answer = ask(pebble.http_address(), request.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 308 "), "{}", answer.escape_ascii());
        eventually("the metric", || metric(&xps, OBTAINED) == Some(1));
        assert_eq!(metric(&xps, FAILED), Some(0));
        eventually("the next attempt is the renewal", || next_attempt(&xps) > now() + 24 * 60 * 60);
        let expiry = format!("xps_tls_certificate_expiry_timestamp_seconds{{certificate=\"{}\"}}", file.display());
        assert!(metric(&xps, &expiry).is_some_and(|at| at > now()));

        // The next process has it from the beginning, without the authority.
        xps.finish();
        drop(pebble.program);
        let xps = Launch::new(backend, ["run"]).in_folder(&pebble.authority.path("")).listening_on(3).start();
        assert_eq!(served(SocketAddr::from(([127, 0, 0, 1], pebble.tls_port))), Some(stored(&file)));
        assert!(next_attempt(&xps) > now() + 24 * 60 * 60);
        assert!(!xps.log().records().iter().any(failed));
        xps.finish();
    }

    fn a_certificate_is_obtained_by_a_handshake(backend) {
        let Some(pebble) = Pebble::start("acme: tls-alpn-01", &[]) else { return };
        let mut acme = pebble.acme();
        acme["challenge"] = "tls-alpn-01".into();
        pebble.configure(&acme);
        let xps = pebble.launch(backend);
        let record = xps.log().wait_for("the certificate", obtained);
        assert_eq!(record.text("challenge"), Some("tls-alpn-01"), "{record}");
        assert_eq!(served(pebble.tls_address()), Some(stored(&pebble.stored(&format!("{NAME}.pem")))));
        // Nothing is to be checked any longer.
        let validation = Client::trusting_anyone().offering(&["acme-tls/1"]);
        assert!(validation.connect(pebble.tls_address(), NAME).is_err());
        xps.finish();
    }

    fn a_renewed_certificate_is_served_to_new_connections_and_the_old_ones_go_on(backend) {
        let Some(pebble) = Pebble::start("acme: renewal", &[("PEBBLE_VA_NOSLEEP", "0"), ("PEBBLE_VA_SLEEPTIME", "2")]) else { return };
        // Two thirds of its lifetime are over.
        let old = pebble.authority.signed_with(&[NAME], |it| {
            let day = |days: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days * 24 * 60 * 60);
            let today = now() / (24 * 60 * 60);
            (it.not_before, it.not_after) = (day(today - 80), day(today + 10));
        });
        let file = pebble.stored(&format!("{NAME}.pem"));
        fs::create_dir_all(file.parent().expect("a folder")).expect("a temporary folder");
        let read = |path: &PathBuf| fs::read_to_string(path).expect("a temporary file");
        fs::write(&file, read(&old.cert) + &read(&old.key)).expect("a temporary file");
        pebble.configure(&pebble.acme());
        let xps = pebble.launch(backend);
        let client = Client::trusting(&pebble.authority).offering(&["http/1.1"]);
        // The authority waits a moment before it checks.
        let mut early = client.connect(pebble.tls_address(), NAME).expect("the old certificate is served");
        assert_eq!(early.certificate(), Some(&old.der));
        xps.log().wait_for("the renewal", obtained);
        let renewed = stored(&file);
        assert_ne!(renewed, old.der);
        assert_eq!(served(pebble.tls_address()), Some(renewed));
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        early.write_all(request.as_bytes()).expect("the connection is still there");
        assert!(early.read_rest().expect("a whole response").starts_with(b"HTTP/1.1 200 "));
        xps.finish();
    }

    fn an_authority_out_of_reach_stops_nothing_else(backend) {
        let authority = Authority::new();
        let [port, tls_port] = free_ports();
        let acme = json!({ "directory": format!("https://127.0.0.1:{port}/dir"), "storage": authority.path("storage") });
        configure(&authority, &acme, tls_port, None);
        let xps = Launch::new(backend, ["run"]).in_folder(&authority.path("")).listening_on(2).start();
        let record = xps.log().wait_for("the failure", failed);
        assert_eq!((record.level(), record.text("domain")), ("WARN", Some(NAME)), "{record}");
        assert!(record.text("error").is_some_and(|error| error.contains("refused")), "{record}");
        assert!(record.text("hint").is_some_and(|hint| hint.contains("directory")), "{record}");
        eventually("the metric", || metric(&xps, FAILED) == Some(1));
        // It is two minutes, and up to a fifth more.
        eventually("the back-off", || (100..=150).contains(&next_attempt(&xps).saturating_sub(now())));
        assert_eq!(served(SocketAddr::from(([127, 0, 0, 1], tls_port))), None, "there is no certificate");
        xps.finish();
    }

    fn a_stop_does_not_wait_for_an_authority_that_says_nothing(backend) {
        let authority = Authority::new();
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = silent.local_addr().expect("it is bound");
        let acme = json!({ "directory": format!("https://{address}/dir"), "storage": authority.path("storage") });
        let [tls_port] = free_ports();
        configure(&authority, &acme, tls_port, None);
        let xps = Launch::new(backend, ["run"]).in_folder(&authority.path("")).listening_on(2).start();
        let (_connection, _) = silent.accept().expect("it connects");
        let begun = Instant::now();
        let log = xps.log().clone();
        xps.finish();
        // The request would time out after a minute, and the drain after five seconds.
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(!log.records().iter().any(failed), "a stop is no failure");
    }
}

#[test]
fn a_directory_that_is_not_trusted_is_told_and_a_reload_tries_again() {
    let Some(pebble) = Pebble::start("acme: another authority", &[]) else { return };
    let mut acme = pebble.acme();
    let other = Authority::new();
    acme["ca"] = other.ca().display().to_string().into();
    pebble.configure(&acme);
    let xps = pebble.launch(Backend::Epoll);
    let record = xps.log().wait_for("the failure", failed);
    assert!(record.text("error").is_some_and(|error| error.contains("invalid peer certificate")), "{record}");
    assert!(record.text("hint").is_some_and(|hint| hint.contains("acme.ca")), "{record}");
    pebble.configure(&pebble.acme());
    xps.signal(Signal::Hangup);
    xps.log().wait_for("the certificate", obtained);
    assert_eq!(served(pebble.tls_address()), Some(stored(&pebble.stored(&format!("{NAME}.pem")))));
    xps.finish();
}

#[test]
fn check_and_explain_know_what_is_still_to_be_obtained() {
    let authority = Authority::new();
    let run = |acme: &Value, words: &[&str]| {
        configure(&authority, acme, 443, Some(80));
        Launch::new(Backend::Epoll, words.iter().copied()).in_folder(&authority.path("")).run(b"")
    };
    let well = json!({ "storage": authority.path("not/yet") });
    let checked = run(&well, &["check"]);
    assert_eq!((checked.status.code(), checked.errors.as_str()), (Some(0), ""));
    assert!(!authority.path("not").exists(), "a check makes nothing");
    let explained = run(&well, &["explain", "xps_config.json", "GET", &format!("https://{NAME}/")]);
    assert!(explained.errors.contains("has not been obtained yet"), "{}", explained.errors);
    for (acme, expected) in [
        (json!({ "storage": authority.ca() }), "cannot store certificates in"),
        (json!({ "storage": authority.path("not/yet"), "ca": authority.path("none.pem") }), "none.pem"),
    ] {
        for command in ["check", "run"] {
            let finished = run(&acme, &[command]);
            assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
            assert!(finished.errors.contains(expected), "{expected} is missing:\n{}", finished.errors);
        }
    }
}

/// The port that the authority connects to is not that of the server.
#[test]
fn what_the_authority_says_is_in_the_log() {
    let Some(pebble) = Pebble::start("acme: a failed validation", &[]) else { return };
    let [tls_port, http_port] = free_ports();
    configure(&pebble.authority, &pebble.acme(), tls_port, Some(http_port));
    let xps = pebble.launch(Backend::Epoll);
    let record = xps.log().wait_for("the failure", failed);
    assert!(record.text("error").is_some_and(|error| error.starts_with("connection: ")), "{record}");
    assert!(record.text("hint").is_some_and(|hint| hint.contains("port 80")), "{record}");
    xps.finish();
}

#[test]
fn processes_that_share_a_storage_obtain_one_certificate() {
    let slow = [("PEBBLE_VA_NOSLEEP", "0"), ("PEBBLE_VA_SLEEPTIME", "3")];
    let Some(pebble) = Pebble::start("acme: two processes", &slow) else { return };
    pebble.configure(&pebble.acme());
    let first = pebble.launch(Backend::Epoll);
    let lock = pebble.stored("lock");
    // Only the first one is where the authority connects to.
    eventually("the first process is at it", || {
        let file = fs::File::open(&lock);
        pebble.stored(&format!("{NAME}.pem")).exists() || file.is_ok_and(|file| file.try_lock().is_err())
    });
    let [tls_port, http_port] = free_ports();
    configure(&pebble.authority, &pebble.acme(), tls_port, Some(http_port));
    let second = pebble.launch(Backend::Epoll);
    first.log().wait_for("the certificate", obtained);
    let certificate = Some(stored(&pebble.stored(&format!("{NAME}.pem"))));
    eventually("both serve it", || {
        [pebble.tls_port, tls_port]
            .into_iter()
            .all(|port| served(SocketAddr::from(([127, 0, 0, 1], port))) == certificate)
    });
    assert!(!second.log().records().iter().any(|record| obtained(record) || failed(record)));
    first.finish();
    second.finish();
}
