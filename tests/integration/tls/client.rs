//! The client of the tests, against a server of rustls: what it reports is what was agreed on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};

use crate::support::tls::{Authority, Client, Signed};

/// A server with this certificate.
pub fn configured(signed: &Signed) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&signed.cert).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&signed.key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Answers each connection with what it has read up to its end, and ends it in order.
fn echo(signed: &Signed) -> SocketAddr {
    let config = configured(signed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, tcp.unwrap());
            let mut received = Vec::new();
            if stream.read_to_end(&mut received).is_ok() && stream.write_all(&received).is_ok() {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

#[test]
fn it_tells_what_was_agreed_on_and_resumes() {
    let authority = Authority::new();
    let signed = authority.signed(&["example.org"]);
    let address = echo(&signed);
    let client = Client::trusting(&authority).offering(&["h2", "http/1.1"]);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut stream = client.connect(address, "example.org").unwrap();
        assert_eq!(stream.version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(stream.alpn().as_deref(), Some("http/1.1"));
        stream.write_all(b"hello").unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.read_rest().unwrap(), b"hello");
        assert_eq!(stream.kind(), Some(kind));
        assert_eq!(stream.certificate(), Some(&signed.der));
    }
}

#[test]
fn it_speaks_the_versions_that_it_should_and_trusts_whom_it_should() {
    let authority = Authority::new();
    let address = echo(&authority.signed(&["example.org"]));
    let old = Client::trusting(&authority).speaking(&rustls::version::TLS12).forgetful();
    for _ in 0..2 {
        let stream = old.connect(address, "example.org").unwrap();
        assert_eq!((stream.version(), stream.kind()), (Some(ProtocolVersion::TLSv1_2), Some(HandshakeKind::Full)));
    }
    assert!(Client::trusting(&Authority::new()).connect(address, "example.org").is_err(), "another authority");
    assert!(Client::trusting(&authority).connect(address, "example.com").is_err(), "another name");
    assert!(Client::trusting_anyone().connect(address, "example.com").is_ok());
}
