//! Tests of settings: handshakes in memory, between rustls on both sides.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::{ClientConnection, Resumption};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::tls::acme::{AcmeIssuer, AcmeSource};

/// An authority, and the folder for what it signs.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn signed(&self, names: &[&str]) -> (CertificateDer<'static>, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key)
    }

    /// Files of a certificate for these names.
    fn source(&self, names: &[&str]) -> CertificateSource {
        let key = KeyPair::generate().unwrap();
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(all).unwrap().signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{}.{end}", names.join("_").replace('*', "star")));
        let (cert, key_path) = (path("crt"), path("key"));
        fs::write(&cert, certificate.pem()).unwrap();
        fs::write(&key_path, key.serialize_pem()).unwrap();
        CertificateSource::Files { cert, key: key_path }
    }

    fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Crypto::default().provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn client_with_certificate(&self, signed_by: &Self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let (certificate, key) = signed_by.signed(&["client"]);
        ClientConfig::builder_with_provider(Crypto::default().provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap()
    }
}

fn config(settings: &ServerSettings, keys: &Arc<TicketKeys>) -> Arc<ServerConfig> {
    settings.load(&Crypto::default()).unwrap().server_config(keys).unwrap()
}

fn fresh_keys() -> Arc<TicketKeys> {
    TicketKeys::new(Crypto::default())
}

/// What came of a handshake.
#[derive(Debug)]
struct Connected {
    version: Option<ProtocolVersion>,
    kind: Option<HandshakeKind>,
    alpn: Option<Vec<u8>>,
    /// The certificate of the server.
    certificate: Vec<u8>,
}

/// Shakes hands in memory, and delivers the tickets that follow.
fn connect(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> Result<Connected, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Connected {
        version: client.protocol_version(),
        kind: client.handshake_kind(),
        alpn: client.alpn_protocol().map(<[u8]>::to_vec),
        certificate: client.peer_certificates().unwrap()[0].to_vec(),
    })
}

fn der(source: &CertificateSource) -> Vec<u8> {
    let CertificateSource::Files { cert, .. } = source else { panic!("it has files") };
    certificates(cert).unwrap()[0].to_vec()
}

#[test]
fn the_name_that_the_client_asks_for_selects_the_certificate() {
    let authority = Authority::new();
    let (first, second, wild) =
        (authority.source(&["first.org"]), authority.source(&["second.org"]), authority.source(&["*.wild.org"]));
    let settings = ServerSettings::new(vec![first.clone(), second.clone(), wild.clone()]);
    let server = config(&settings, &fresh_keys());
    let client = Arc::new(authority.client());
    for (name, source) in [("second.org", &second), ("first.org", &first), ("a.wild.org", &wild)] {
        assert_eq!(connect(&server, &client, name).unwrap().certificate, der(source), "{name}");
    }
    let set = settings.load(&Crypto::default()).unwrap();
    let set = set.certificates();
    let names = |name| set.choose(name).map(|certificate| certificate.dns_names[0].clone());
    assert_eq!(names(None).as_deref(), Some("first.org"));
    assert_eq!(names(Some("a.b.wild.org")).as_deref(), Some("first.org"), "a star is one label");
    assert!(set.covers("a.wild.org", "b.wild.org:8443"));
    assert!(!set.covers("a.wild.org", "first.org"), "421: another certificate has this name");
    assert!(!set.covers("a.wild.org", "stranger.org"), "421: no certificate has this name");
    assert!(set.covers("stranger.org", "other.org"), "the default was served");
}

#[test]
fn a_name_that_no_certificate_has_is_refused_if_that_is_asked_for() {
    let authority = Authority::new();
    let mut settings = ServerSettings::new(vec![authority.source(&["first.org"]), authority.source(&["127.0.0.1"])]);
    settings.unknown_name = UnknownName::Refuse;
    let set = settings.load(&Crypto::default()).unwrap();
    assert!(set.certificates().choose(None).is_none());
    assert!(set.certificates().choose(Some("other.org")).is_none());
    let (server, client) = (config(&settings, &fresh_keys()), Arc::new(authority.client()));
    assert!(connect(&server, &client, "first.org").is_ok());
    assert!(connect(&server, &client, "other.org").is_err());
}

/// A certificate that is obtained while the server runs, in an empty folder.
fn obtained(domain: &str, storage: &Path) -> AcmeSource {
    let issuer = AcmeIssuer {
        directory: "https://ca.test/dir".to_owned(),
        email: None,
        storage: storage.to_owned(),
        ca: None,
        challenge: None,
    };
    AcmeSource { domain: domain.to_owned(), issuer: Arc::new(issuer) }
}

#[test]
fn a_certificate_that_is_obtained_is_served_from_the_next_handshake_on_and_after_a_restart() {
    let (authority, storage) = (Authority::new(), tempfile::tempdir().unwrap());
    let other = authority.source(&["other.org"]);
    let obtained = obtained("first.org", storage.path());
    let mut settings = ServerSettings::new(vec![CertificateSource::Acme(obtained.clone()), other.clone()]);
    settings.alpn = vec![b"http/1.1".to_vec()];
    let loaded = settings.load(&Crypto::default()).unwrap();
    let server = loaded.server_config(&fresh_keys()).unwrap();
    let client = Arc::new(authority.client());
    assert!(connect(&server, &client, "first.org").is_err(), "there is none yet");
    assert_eq!(connect(&server, &client, "other.org").unwrap().certificate, der(&other));
    let names = |name| loaded.certificates().choose(name).map(|certificate| certificate.dns_names[0].clone());
    assert_eq!(names(None).as_deref(), Some("other.org"), "the first one that is there");

    let first = authority.source(&["first.org"]);
    let provider = default_provider();
    let certificate = Arc::new(Certificate::load(&first, &provider, Crypto::default().now(), &mut Vec::new()).unwrap());
    let issued: Vec<_> = loaded.certificates().issued().collect();
    let [issued] = issued.as_slice() else { panic!("it is one") };
    issued.set(Arc::clone(&certificate));
    assert_eq!(connect(&server, &client, "first.org").unwrap().certificate, der(&first));
    assert_eq!(names(None).as_deref(), Some("first.org"));

    // An authority checks the name by a handshake with this protocol alone.
    let mut validation = authority.client();
    validation.alpn_protocols = vec![ACME_TLS.to_vec()];
    let validation = Arc::new(validation);
    assert!(connect(&server, &validation, "first.org").is_err(), "none is expected");
    issued.set_challenge(Some(Arc::clone(&certificate.key)));
    assert!(connect(&server, &validation, "first.org").is_ok());
    assert!(connect(&server, &validation, "other.org").is_err());
    issued.set_challenge(None);
    assert!(connect(&server, &validation, "first.org").is_err());

    let CertificateSource::Files { cert, key } = &first else { panic!("it is in files") };
    let file = obtained.file();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let pem = |path| fs::read_to_string(path).unwrap();
    fs::write(&file, pem(cert) + &pem(key)).unwrap();
    assert_eq!(connect(&config(&settings, &fresh_keys()), &client, "first.org").unwrap().certificate, der(&first));
}

#[test]
fn the_lowest_version_is_that_of_the_settings() {
    let authority = Authority::new();
    let mut settings = ServerSettings::new(vec![authority.source(&["first.org"])]);
    let mut old = authority.client();
    old = ClientConfig::builder_with_provider(Arc::clone(old.crypto_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates({
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            roots
        })
        .with_no_client_auth();
    let old = Arc::new(old);
    let server = config(&settings, &fresh_keys());
    assert_eq!(connect(&server, &old, "first.org").unwrap().version, Some(ProtocolVersion::TLSv1_2));
    let new = Arc::new(authority.client());
    assert_eq!(connect(&server, &new, "first.org").unwrap().version, Some(ProtocolVersion::TLSv1_3));
    settings.min_version = MinVersion::Tls13;
    assert!(connect(&config(&settings, &fresh_keys()), &old, "first.org").is_err());
}

#[test]
fn the_application_protocol_is_agreed_on_and_others_are_refused() {
    let authority = Authority::new();
    let mut settings = ServerSettings::new(vec![authority.source(&["first.org"])]);
    settings.alpn = vec![b"http/1.1".to_vec()];
    let server = config(&settings, &fresh_keys());
    let offering = |protocols: &[&str]| {
        let mut client = authority.client();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        connect(&server, &Arc::new(client), "first.org")
    };
    assert_eq!(offering(&["h2", "http/1.1"]).unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(offering(&[]).unwrap().alpn, None);
    assert!(offering(&["h2"]).is_err());
}

#[test]
fn client_certificates_are_requested_or_required() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut settings = ServerSettings::new(vec![authority.source(&["first.org"])]);
    let with = |settings: &ServerSettings, client: ClientConfig| {
        connect(&config(settings, &fresh_keys()), &Arc::new(client), "first.org").is_ok()
    };
    settings.client_auth = Some(ClientAuth { ca: authority.ca(), mode: ClientAuthMode::Require });
    assert!(with(&settings, authority.client_with_certificate(&authority)));
    assert!(!with(&settings, authority.client_with_certificate(&other)), "of another authority");
    assert!(!with(&settings, authority.client()), "none");
    settings.client_auth = Some(ClientAuth { ca: authority.ca(), mode: ClientAuthMode::Request });
    assert!(with(&settings, authority.client_with_certificate(&authority)));
    assert!(!with(&settings, authority.client_with_certificate(&other)));
    assert!(with(&settings, authority.client()));
    settings.client_auth = Some(ClientAuth { ca: Path::new("/missing/ca.pem").into(), mode: ClientAuthMode::Request });
    let errors = settings.load(&Crypto::default()).unwrap_err();
    assert_eq!(
        errors.iter().map(LoadError::to_string).collect::<Vec<_>>(),
        ["cannot use the authority of client certificates /missing/ca.pem: No such file or directory (os error 2)"]
    );
}

#[test]
fn sessions_are_resumed_by_ticket_or_by_cache_or_not_at_all() {
    let authority = Authority::new();
    let base = ServerSettings::new(vec![authority.source(&["first.org"])]);
    for version in [&TLS12, &TLS13] {
        for (tickets, session_cache, resumes) in [(true, 0, true), (false, 16, true), (false, 0, false)] {
            let settings = ServerSettings { tickets, session_cache, ..base.clone() };
            let server = config(&settings, &fresh_keys());
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let client = ClientConfig::builder_with_provider(Crypto::default().provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let client = Arc::new(client);
            let kind = || connect(&server, &client, "first.org").unwrap().kind;
            assert_eq!(kind(), Some(HandshakeKind::Full));
            let expected = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
            assert_eq!(kind(), Some(expected), "{version:?} tickets: {tickets}, cache: {session_cache}");
        }
    }
}

#[test]
fn a_ticket_of_a_listener_without_client_certificates_lets_no_one_past_another() {
    let authority = Authority::new();
    let open = ServerSettings::new(vec![authority.source(&["first.org"])]);
    let client_auth = Some(ClientAuth { ca: authority.ca(), mode: ClientAuthMode::Require });
    let closed = ServerSettings { client_auth, ..open.clone() };
    let keys = fresh_keys();
    let mut client = authority.client();
    client.resumption = Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    assert!(connect(&config(&open, &keys), &client, "first.org").is_ok());
    assert!(connect(&config(&closed, &keys), &client, "first.org").is_err(), "CVE-2025-23419");
    // With equal settings it resumes, also after a reload that renews the certificate.
    assert!(connect(&config(&open, &keys), &client, "first.org").is_ok());
    authority.source(&["first.org"]);
    let resumed = connect(&config(&open, &keys), &client, "first.org").unwrap();
    assert_eq!(resumed.kind, Some(HandshakeKind::Resumed));
}

#[test]
fn all_that_cannot_be_used_is_told_at_once() {
    let files = |name: &str| CertificateSource::Files { cert: name.into(), key: "/missing/key".into() };
    let settings = ServerSettings::new(vec![files("/missing/a"), files("/missing/b")]);
    let errors = settings.load(&Crypto::default()).unwrap_err();
    let paths: Vec<_> = errors.iter().map(LoadError::path).collect();
    assert_eq!(paths, [Path::new("/missing/a"), Path::new("/missing/b")]);
}

#[test]
fn the_exchange_of_keys_withstands_quantum_computers() {
    let authority = Authority::new();
    let server = config(&ServerSettings::new(vec![authority.source(&["first.org"])]), &fresh_keys());
    let first = server.crypto_provider().kx_groups.first().map(|group| group.name());
    assert_eq!(first, Some(rustls::NamedGroup::X25519MLKEM768));
}
