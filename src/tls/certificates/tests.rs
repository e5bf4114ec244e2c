//! Tests of loading certificates and keys of every kind, and of what is wrong with them.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::tls::server::Crypto;

/// 2026-11-29, 00:00 UTC.
const NOW: i64 = 1_795_910_400;

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only its owner may read.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn source(&self, cert: &str, key: &str) -> CertificateSource {
        CertificateSource::Files { cert: self.put("cert.pem", cert), key: self.put("key.pem", key) }
    }
}

fn parameters(names: &[&str]) -> CertificateParams {
    let mut parameters =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(2027, 1, 1);
    parameters
}

/// A certificate and its key in PEM.
fn made(names: &[&str]) -> (String, String) {
    made_by(&parameters(names), &KeyPair::generate().unwrap())
}

fn made_by(parameters: &CertificateParams, key: &KeyPair) -> (String, String) {
    (parameters.self_signed(key).unwrap().pem(), key.serialize_pem())
}

fn load(source: &CertificateSource) -> Result<(Certificate, Vec<Notice>), String> {
    load_at(source, NOW)
}

fn load_at(source: &CertificateSource, now: i64) -> Result<(Certificate, Vec<Notice>), String> {
    let mut notices = Vec::new();
    match Certificate::load(source, &Crypto::default().provider, now, &mut notices) {
        Ok(certificate) => Ok((certificate, notices)),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs `openssl`, which is needed for the older forms of keys. `None`: it is not installed.
fn openssl(files: &Files, arguments: &[&str]) -> Option<()> {
    let output = Command::new("openssl").args(arguments).current_dir(files.folder.path()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

#[test]
fn keys_of_every_algorithm_are_read() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let (cert, key) = made_by(&parameters(&["example.org"]), &KeyPair::generate_for(algorithm).unwrap());
        let files = Files::new();
        let (certificate, notices) = load(&files.source(&cert, &key)).unwrap();
        assert_eq!((certificate.dns_names.as_slice(), notices.as_slice()), (&["example.org".to_owned()][..], &[][..]));
    }
}

#[test]
fn keys_in_the_older_forms_are_read() {
    for (algorithm, convert, label) in [
        (&PKCS_ECDSA_P256_SHA256, ["ec", "-in", "key.pem", "-out", "old.pem"].as_slice(), "BEGIN EC PRIVATE KEY"),
        (
            &PKCS_RSA_SHA256,
            ["rsa", "-in", "key.pem", "-traditional", "-out", "old.pem"].as_slice(),
            "BEGIN RSA PRIVATE KEY",
        ),
    ] {
        let (cert, key) = made_by(&parameters(&["example.org"]), &KeyPair::generate_for(algorithm).unwrap());
        let files = Files::new();
        files.source(&cert, &key);
        if openssl(&files, convert).is_none() {
            eprintln!("skipped: there is no openssl");
            return;
        }
        let old = std::fs::read_to_string(files.path("old.pem")).unwrap();
        assert!(old.contains(label), "{old}");
        assert!(load(&files.source(&cert, &old)).is_ok(), "{label}");
    }
}

#[test]
fn chain_and_key_may_be_in_one_file_in_any_order() {
    let (cert, key) = made(&["example.org"]);
    let files = Files::new();
    for text in [format!("{key}{cert}"), format!("{cert}{key}"), format!("a comment\n{cert}\nanother\n{key}")] {
        let path = files.put("both.pem", &text);
        assert!(load(&CertificateSource::Files { cert: path.clone(), key: path }).is_ok(), "{text}");
    }
}

#[test]
fn the_first_certificate_of_a_chain_is_the_servers() {
    let ((cert, key), (authority, _)) = (made(&["example.org"]), made(&["authority"]));
    let files = Files::new();
    let (certificate, _) = load(&files.source(&format!("{cert}{authority}"), &key)).unwrap();
    assert_eq!((certificate.key.cert.len(), certificate.dns_names[0].as_str()), (2, "example.org"));
    let wrong_order = load(&files.source(&format!("{authority}{cert}"), &key)).unwrap_err();
    assert!(wrong_order.contains("it is not the key of the certificate"), "{wrong_order}");
}

#[test]
fn what_cannot_be_used_is_named_with_its_file_and_the_reason() {
    let (cert, key) = made(&["example.org"]);
    let (_, other_key) = made(&["example.org"]);
    let files = Files::new();
    let folder = files.folder.path().display().to_string();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (cert, key, file, reason) in [
        ("", key.as_str(), "certificate FOLDER/cert.pem", "it contains no certificate in PEM form"),
        (key.as_str(), key.as_str(), "certificate FOLDER/cert.pem", "it contains no certificate in PEM form"),
        (cert.as_str(), "", "private key FOLDER/key.pem", "it contains no private key in PEM form"),
        (cert.as_str(), cert.as_str(), "private key FOLDER/key.pem", "it contains no private key in PEM form"),
        (
            cert.as_str(),
            other_key.as_str(),
            "private key FOLDER/key.pem",
            "it is not the key of the certificate FOLDER/cert.pem",
        ),
        (
            cert.as_str(),
            encrypted,
            "private key FOLDER/key.pem",
            "the key is encrypted; `openssl pkey -in FILE -out FILE` removes the passphrase",
        ),
        (&cert[..200], key.as_str(), "certificate FOLDER/cert.pem", "a PEM section has no end"),
    ] {
        let expected = format!("cannot use the {file}: {reason}").replace("FOLDER", &folder);
        assert_eq!(load(&files.source(cert, key)).unwrap_err(), expected);
    }
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(load(&files.source(garbage, &key)).is_err());
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let error = load(&files.source(&cert, garbage)).unwrap_err();
    assert!(error.contains("the key is malformed or of an unsupported kind"), "{error}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let (cert, key) = made(&["example.org"]);
    let files = Files::new();
    let missing = files.path("missing.pem");
    let (cert, key) = (files.put("cert.pem", &cert), files.put("key.pem", &key));
    for (source, role) in [
        (CertificateSource::Files { cert: missing.clone(), key }, "certificate"),
        (CertificateSource::Files { cert: cert.clone(), key: missing.clone() }, "private key"),
    ] {
        let expected = format!("cannot use the {role} {}: No such file or directory (os error 2)", missing.display());
        assert_eq!(load(&source).unwrap_err(), expected);
    }
    let folder = files.folder.path().to_owned();
    let error = load(&CertificateSource::Files { cert, key: folder }).unwrap_err();
    assert!(error.ends_with("not a regular file"), "{error}");
}

#[test]
fn a_certificate_is_used_only_between_its_dates() {
    let (cert, key) = made(&["example.org"]);
    let files = Files::new();
    let source = files.source(&cert, &key);
    let cert = files.path("cert.pem").display().to_string();
    const DAY: i64 = SECONDS_A_DAY;
    // From 2026-01-01 to 2027-01-01.
    let expired = load_at(&source, NOW + 40 * DAY).unwrap_err();
    assert_eq!(expired, format!("cannot use the certificate {cert}: it expired on 2027-01-01"));
    let early = load_at(&source, NOW - 400 * DAY).unwrap_err();
    assert_eq!(early, format!("cannot use the certificate {cert}: it is not valid before 2026-01-01"));
    let (_, notices) = load_at(&source, NOW + 26 * DAY).unwrap();
    let shown: Vec<String> = notices.iter().map(Notice::to_string).collect();
    assert_eq!(shown, [format!("the certificate {cert} expires on 2027-01-01, in 7 days")]);
    assert_eq!(load_at(&source, NOW).unwrap().1, []);
}

#[test]
fn a_key_that_others_can_read_draws_a_notice() {
    let (cert, key) = made(&["example.org"]);
    let files = Files::new();
    let source = files.source(&cert, &key);
    let path = files.path("key.pem");
    for (mode, draws) in [(0o600, false), (0o400, false), (0o660, true), (0o604, true)] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let (_, notices) = load(&source).unwrap();
        let expected = draws.then(|| Notice::KeyReadable { path: path.clone(), mode });
        assert_eq!(notices, expected.into_iter().collect::<Vec<_>>(), "{mode:o}");
    }
}

#[test]
fn the_group_of_a_key_of_root_may_read_it() {
    const ROOT: u32 = 0;
    const USER: u32 = 1000;
    for (mode, owner, expected) in [
        (0o600, ROOT, false),
        (0o640, ROOT, false),
        (0o440, ROOT, false),
        (0o660, ROOT, true),
        (0o650, ROOT, true),
        (0o644, ROOT, true),
        (0o600, USER, false),
        (0o640, USER, true),
        (0o604, USER, true),
    ] {
        assert_eq!(is_exposed(mode, owner), expected, "{mode:o} {owner}");
    }
}

#[test]
fn names_and_addresses_are_those_that_clients_look_at() {
    let names = ["Example.org", "*.example.org", "127.0.0.1", "::1"];
    let (cert, key) = made(&names);
    let (certificate, _) = load(&Files::new().source(&cert, &key)).unwrap();
    assert_eq!(certificate.names().collect::<Vec<_>>(), ["example.org", "*.example.org", "127.0.0.1", "::1"]);
    for covered in [
        "example.org",
        "EXAMPLE.ORG:8443",
        "a.example.org",
        "example.org.",
        "127.0.0.1:1",
        "[::1]:8443",
        "[::1]",
        "::1",
    ] {
        assert!(certificate.covers(covered), "{covered}");
    }
    for other in ["a.b.example.org", "org", ".example.org", "127.0.0.2", "[::2]", "", "example.com", "xexample.org"] {
        assert!(!certificate.covers(other), "{other}");
    }
    let (cert, key) = made(&[]);
    let (_, notices) = load(&Files::new().source(&cert, &key)).unwrap();
    assert!(matches!(notices.as_slice(), [Notice::NoNames { .. }]), "{notices:?}");
}

#[test]
fn a_self_signed_certificate_serves_at_once_and_hides_its_key() {
    let own = SelfSigned::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()], NOW).unwrap();
    let fingerprint = own.fingerprint();
    assert_eq!((fingerprint.len(), fingerprint.matches(':').count()), (95, 31));
    assert!(!format!("{own:?}").contains("key"));
    let (certificate, notices) = load(&CertificateSource::SelfSigned(Arc::new(own))).unwrap();
    assert_eq!((notices.as_slice(), certificate.fingerprint()), (&[][..], Some(fingerprint)));
    assert!(certificate.covers("localhost:8443") && certificate.covers("127.0.0.1"));
}
