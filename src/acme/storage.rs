//! The files of an authority's directory: the account's key, the certificates, and a lock.
//!
//! ```text
//!   STORAGE/acme-v02.api.letsencrypt.org_directory/
//!     account.pem        the account's private key
//!     example.org.pem    a certificate, its chain and its private key
//!     lock               held by the process that deals with the authority
//! ```
//!
//! All can be read by their owner only. A file is written under another name, synchronised and renamed,
//! so that a reader sees the old one or the new one, also after a crash.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Read and written by the owner only.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// The folder of a directory.
#[derive(Debug)]
pub(super) struct Storage {
    folder: PathBuf,
}

/// While it lives, no other process deals with the authority. The kernel ends it with the process.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl Storage {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&folder)?;
        Ok(Self { folder })
    }

    /// Takes the lock. `None`: another process has it.
    ///
    /// # Errors
    /// The file cannot be opened, or the file system has no locks.
    pub(super) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new().create(true).append(true).mode(PRIVATE_FILE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The account's key, in PEM; `None`: there is none yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn account_key(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.account_file()) {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join("account.pem")
    }

    /// Stores the account's key. Hold the lock.
    ///
    /// # Errors
    /// It cannot be written; an earlier one is still there.
    pub(super) fn store_account_key(&self, key: &str) -> io::Result<()> {
        replace(&self.account_file(), key.as_bytes())
    }
}

/// Replaces a file by another one at once, readable by its owner only. Hold the lock: two writers would
/// use the same other name.
///
/// # Errors
/// It cannot be written; the earlier one is still there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a crash has left may have other permissions.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name lasts only once its folder is synchronised.
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_can_read_and_a_leftover_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let storage = Storage::open(path.clone()).unwrap();
        assert_eq!(mode(&path), PRIVATE_FOLDER);
        assert_eq!(storage.account_key().unwrap(), None);
        fs::write(path.join("account.new"), "of a crash").unwrap();
        for key in ["one", "two"] {
            storage.store_account_key(key).unwrap();
            assert_eq!(storage.account_key().unwrap().as_deref(), Some(key));
            assert_eq!(mode(&storage.account_file()), PRIVATE_FILE);
        }
        assert!(!path.join("account.new").exists());
        // Again, on what is there.
        assert_eq!(Storage::open(path).unwrap().account_key().unwrap().as_deref(), Some("two"));
    }

    #[test]
    fn one_has_the_lock_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [0; 2].map(|_| Storage::open(folder.path().to_owned()).unwrap());
        let lock = one.try_lock().unwrap();
        assert!(lock.is_some());
        assert!(other.try_lock().unwrap().is_none());
        drop(lock);
        assert!(other.try_lock().unwrap().is_some());
    }
}
