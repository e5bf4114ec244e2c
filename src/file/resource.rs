//! [`Resource`]: an opened file or folder: its metadata, and its content or open file.
//!
//! A resource is shared by all responses that send it. It does not know its path, nor how long it
//! is valid.

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::driver::{File, FileInfo};
use crate::http::Coding;
use crate::http::charset;
use crate::http::media_type::MediaType;
use crate::http::validators::FileVersion;

/// An opened file or folder.
#[derive(Debug)]
pub struct Resource {
    /// The result of `fstat(2)` at opening; for compressed content, that of the source file.
    pub info: FileInfo,
    /// Whether the file's modification time was old enough at reading that a later change would
    /// show in it.
    pub is_settled: bool,
    /// The content coding, if it is compressed.
    pub coding: Option<Coding>,
    /// The content, or the open file.
    pub content: Content,
    /// The media type by its name.
    media_type: OnceCell<MediaType>,
    /// Whether it is UTF-8 and not plain ASCII; detected once.
    utf8: OnceCell<bool>,
    /// What the encoder of responses keeps with the file. Only the encoder knows its type.
    encoded: OnceCell<Box<dyn Any>>,
}

/// The content of a resource.
#[derive(Debug)]
pub enum Content {
    /// All bytes, in memory.
    Memory(Arc<[u8]>),
    /// An open file to send from.
    File(OpenFile),
    /// A folder.
    Folder,
    /// A FIFO, socket or device: never read.
    Special,
}

/// An open file. The store closes it when the last reference is dropped.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    released: Released,
}

/// Files without references, to be closed by the store.
pub(super) type Released = Rc<RefCell<Vec<File>>>;

impl Resource {
    pub(super) fn new(info: FileInfo, is_settled: bool, coding: Option<Coding>, content: Content) -> Rc<Self> {
        Rc::new(Self {
            info,
            is_settled,
            coding,
            content,
            media_type: OnceCell::new(),
            utf8: OnceCell::new(),
            encoded: OnceCell::new(),
        })
    }

    /// Whether a file with this metadata has the same bytes as this resource.
    pub(super) fn is_still(&self, info: &FileInfo) -> bool {
        self.is_settled && self.info == *info
    }

    /// The version of the file, for its validators.
    pub const fn version(&self) -> FileVersion {
        FileVersion { size: self.info.size, modified_ns: self.info.modified_ns, inode: self.info.inode }
    }

    /// The media type by the file's name. Cached, since the registry is large.
    pub fn media_type(&self, path: &[u8]) -> MediaType {
        *self.media_type.get_or_init(|| MediaType::of_name(path))
    }

    /// Whether its start is UTF-8 and not plain ASCII. `None`: not known yet, see
    /// [`Store::is_utf8`].
    ///
    /// [`Store::is_utf8`]: super::store::Store::is_utf8
    pub fn is_utf8(&self) -> Option<bool> {
        match &self.content {
            Content::Memory(bytes) => Some(*self.utf8.get_or_init(|| charset::is_utf8(bytes))),
            Content::File(_) => self.utf8.get().copied(),
            Content::Folder | Content::Special => Some(false),
        }
    }

    /// Stores whether it is UTF-8.
    pub(super) fn set_utf8(&self, is_utf8: bool) {
        // A second check saw the same bytes.
        let _ = self.utf8.set(is_utf8);
    }

    /// What an encoder of responses keeps with the file; `None` if it keeps nothing.
    pub fn encoded<T: Any>(&self) -> Option<&T> {
        self.encoded.get()?.downcast_ref()
    }

    /// The same; if there is nothing, the default is put there.
    ///
    /// # Panics
    /// If there is something of another type.
    #[expect(clippy::expect_used, reason = "a process has one encoder of responses")]
    pub fn encoded_or_default<T: Any + Default>(&self) -> &T {
        self.encoded.get_or_init(|| Box::new(T::default())).downcast_ref().expect("there is one encoder")
    }

    /// Length of the content in bytes.
    pub fn content_bytes(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_) => self.info.size,
            Content::Folder | Content::Special => 0,
        }
    }
}

impl OpenFile {
    /// Wraps a file. The drop adds it to `released`.
    pub(super) const fn new(file: File, released: Released) -> Self {
        Self { file, released }
    }

    /// The file, valid while this is held.
    pub const fn file(&self) -> File {
        self.file
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.released.borrow_mut().push(self.file);
    }
}
