//! The certificate of a run: servers and the origin show it, clients and servers trust it.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// The name that clients ask for, and that requests name as their host.
pub const NAME: &str = "origin.test";

/// A folder with a certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    folder: PathBuf,
}

impl Identity {
    /// Makes one for an ECDSA key on P-256. It signs itself: each server shows the same bytes, a chain of one.
    pub fn write() -> io::Result<(TempDir, Self)> {
        let folder = tempfile::tempdir()?;
        let identity = Self::at(folder.path());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        // xps checks an upstream's certificate for the address it connects to.
        let names = [NAME.to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?.pem();
        fs::write(identity.certificate(), &certificate)?;
        write_private(&identity.key(), &key.serialize_pem())?;
        write_private(&identity.both(), &(certificate + &key.serialize_pem()))?;
        Ok((folder, identity))
    }

    /// The one that was written to this folder.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate's file, in PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// The key's file, in PEM.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// The file with both.
    pub fn both(&self) -> PathBuf {
        self.folder.join("both.pem")
    }

    /// Reads the certificate.
    pub fn read_certificate(&self) -> io::Result<CertificateDer<'static>> {
        CertificateDer::from_pem_file(self.certificate()).map_err(io::Error::other)
    }

    /// Reads the key.
    pub fn read_key(&self) -> io::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(self.key()).map_err(io::Error::other)
    }
}

/// Only for its owner: servers warn of other keys.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}
