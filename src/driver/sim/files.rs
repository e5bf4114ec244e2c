//! The simulated files: paths and bytes; folders exist only as parts of paths.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::driver::{Fault, FileInfo, FileKind, FolderEntry, new_file};

/// All files, by their path beneath any root.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<Vec<u8>, Arc<[u8]>>);

/// A file that state machines hold open.
#[derive(Debug)]
pub(super) struct OpenFile {
    bytes: Arc<[u8]>,
    length: usize,
    /// Operations in flight on it.
    pub users: usize,
    /// It is being closed.
    pub is_closing: bool,
    /// Its path, if it was created for writing.
    written_as: Option<Vec<u8>>,
}

/// The modification time of all files, in 2001.
const MODIFIED_NS: i64 = 1_000_000_000_000_000_000;

impl Files {
    pub(super) fn add(&mut self, path: &str, bytes: Vec<u8>) {
        self.0.insert(path.as_bytes().to_vec(), bytes.into());
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(path, bytes)| (&path[..], &bytes[..]))
    }

    /// Looks a path up like `openat2(2)` with `RESOLVE_BENEATH`.
    pub(super) fn open(&self, path: &CStr) -> Result<(OpenFile, FileInfo), Fault> {
        let path = self.resolve(path)?;
        if let Some(bytes) = self.0.get(&path) {
            let info = info_of(FileKind::Regular, bytes.len() as u64, inode_of(&path, bytes));
            return Ok((OpenFile::new(Arc::clone(bytes)), info));
        }
        if self.is_folder(&path) {
            let info = info_of(FileKind::Directory, 4096, inode_of(&path, &[]));
            return Ok((OpenFile::new(Arc::new([])), info));
        }
        Err(Fault::Os(libc::ENOENT))
    }

    /// Follows a path to where it leads, which need not exist. Folders on the way must.
    fn resolve(&self, path: &CStr) -> Result<Vec<u8>, Fault> {
        let path = path.to_bytes();
        if path.is_empty() {
            return Err(Fault::Os(libc::ENOENT));
        }
        if path.starts_with(b"/") {
            return Err(Fault::Os(libc::EXDEV));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            let folder = parts.join(&b'/');
            if self.0.contains_key(&folder) {
                return Err(Fault::Os(libc::ENOTDIR));
            }
            match part {
                b"" | b"." => {}
                b".." if parts.is_empty() => return Err(Fault::Os(libc::EXDEV)),
                b".." if !self.is_folder(&folder) => return Err(Fault::Os(libc::ENOENT)),
                b".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        Ok(parts.join(&b'/'))
    }

    /// Whether this is the root, or a file lies beneath it.
    fn is_folder(&self, path: &[u8]) -> bool {
        let is_beneath = |file: &Vec<u8>| file.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
        path.is_empty() || self.0.keys().any(is_beneath)
    }

    /// Creates a file for writing.
    pub(super) fn create(&mut self, name: &CStr) -> Result<(OpenFile, FileInfo), Fault> {
        let path = name_of(name)?;
        if self.0.contains_key(&path) || self.is_folder(&path) {
            return Err(Fault::Os(libc::EEXIST));
        }
        let bytes: Arc<[u8]> = Arc::new([]);
        self.0.insert(path.clone(), Arc::clone(&bytes));
        let info = info_of(FileKind::Regular, 0, inode_of(&path, &bytes));
        Ok((OpenFile { written_as: Some(path), ..OpenFile::new(bytes) }, info))
    }

    /// Writes to a file, even if it was removed.
    pub(super) fn write(&mut self, file: &mut OpenFile, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let Some(path) = &file.written_as else { return Err(Fault::Os(libc::EBADF)) };
        let mut content = file.bytes.to_vec();
        let end = offset as usize + bytes.len();
        content.resize(content.len().max(end), 0);
        content[offset as usize..end].copy_from_slice(bytes);
        (file.bytes, file.length) = (content.into(), file.length.max(end));
        if let Some(named) = self.0.get_mut(path) {
            *named = Arc::clone(&file.bytes);
        }
        Ok(())
    }

    /// Renames a file.
    pub(super) fn rename(
        &mut self,
        file: &mut OpenFile,
        (from, to): (&CStr, &CStr),
        replaces: bool,
    ) -> Result<(), Fault> {
        let (from, to) = (name_of(from)?, name_of(to)?);
        if !replaces && self.0.contains_key(&to) {
            return Err(Fault::Os(libc::EEXIST));
        }
        let bytes = self.0.remove(&from).ok_or(Fault::Os(libc::ENOENT))?;
        self.0.insert(to.clone(), bytes);
        file.written_as = Some(to);
        Ok(())
    }

    /// Removes a file.
    pub(super) fn remove(&mut self, name: &CStr) -> Result<(), Fault> {
        self.0.remove(&name_of(name)?).map(drop).ok_or(Fault::Os(libc::ENOENT))
    }

    /// Lists a folder.
    pub(super) fn list(&self, path: &CStr) -> Result<Vec<FolderEntry>, Fault> {
        let path = self.resolve(path)?;
        let mut entries: BTreeMap<Vec<u8>, FileInfo> = BTreeMap::new();
        for (file, bytes) in &self.0 {
            let rest = match file.strip_prefix(&path[..]) {
                Some(rest) if path.is_empty() => rest,
                Some([b'/', rest @ ..]) => rest,
                Some([]) => return Err(Fault::Os(libc::ENOTDIR)),
                Some(_) | None => continue,
            };
            let (name, info) = match rest.iter().position(|byte| *byte == b'/') {
                Some(end) => (&rest[..end], info_of(FileKind::Directory, 4096, inode_of(&rest[..end], &[]))),
                None => (rest, info_of(FileKind::Regular, bytes.len() as u64, inode_of(file, bytes))),
            };
            entries.insert(name.to_vec(), info);
        }
        if entries.is_empty() && !path.is_empty() {
            return Err(Fault::Os(libc::ENOENT));
        }
        Ok(entries.into_iter().map(|(name, info)| FolderEntry { name, info: Some(info) }).collect())
    }
}

/// The name of an entry of the root.
fn name_of(name: &CStr) -> Result<Vec<u8>, Fault> {
    new_file::check_name(name).map_err(|error| Fault::from_io(&error))?;
    Ok(name.to_bytes().to_vec())
}

fn info_of(kind: FileKind, size: u64, inode: u64) -> FileInfo {
    FileInfo { size, modified_ns: MODIFIED_NS, kind, inode, device: 1 }
}

/// The inode number. A file that is replaced by one with other bytes gets another number, as on a
/// disk.
fn inode_of(path: &[u8], bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, bytes).hash(&mut hasher);
    hasher.finish()
}

impl OpenFile {
    fn new(bytes: Arc<[u8]>) -> Self {
        Self { length: bytes.len(), bytes, users: 0, is_closing: false, written_as: None }
    }

    /// The bytes from `offset`, at most `length`; empty beyond the end.
    pub(super) fn read(&self, offset: u64, length: u64) -> &[u8] {
        let end = (offset.saturating_add(length)).min(self.length as u64) as usize;
        let start = offset.min(end as u64) as usize;
        &self.bytes[start..end]
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Makes the file shorter.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_looked_up_beneath_the_root_only() {
        let mut files = Files::default();
        files.add("a/b", b"bytes".to_vec());
        let open = |path: &CStr| files.open(path).map(|(_, info)| (info.kind, info.size));
        assert_eq!(open(c"./a//b"), Ok((FileKind::Regular, 5)));
        assert_eq!(open(c"a"), Ok((FileKind::Directory, 4096)));
        assert_eq!(open(c"ab"), Err(Fault::Os(libc::ENOENT)));
        assert_eq!(open(c"/a/b"), Err(Fault::Os(libc::EXDEV)));
        assert_eq!(open(c"a/../a/b"), Ok((FileKind::Regular, 5)));
        assert_eq!(open(c"a/../../a/b"), Err(Fault::Os(libc::EXDEV)));
        assert_eq!(open(c"ab/../a/b"), Err(Fault::Os(libc::ENOENT)));
        assert_eq!(open(c"a/b/c"), Err(Fault::Os(libc::ENOTDIR)));
    }

    #[test]
    fn a_new_file_has_a_name_that_is_free_and_no_path() {
        let mut files = Files::default();
        files.add("a/b", b"bytes".to_vec());
        let mut create = |name: &CStr| files.create(name).map(drop);
        for name in [c"", c".", c"..", c"a/c", c"/c"] {
            assert_eq!(create(name), Err(Fault::Os(libc::EINVAL)), "{name:?}");
        }
        assert_eq!((create(c"a"), create(c"c")), (Err(Fault::Os(libc::EEXIST)), Ok(())));
    }

    #[test]
    fn a_truncated_file_ends_sooner() {
        let mut files = Files::default();
        files.add("f", b"0123456789".to_vec());
        let (mut file, _) = files.open(c"f").unwrap();
        assert_eq!(file.read(8, 8), b"89");
        file.truncate(4);
        assert_eq!((file.read(2, 8), file.read(8, 8)), (&b"23"[..], &b""[..]));
    }
}
