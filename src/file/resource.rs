//! What a path leads to: what the kernel says of it, and its bytes or where they are.
//!
//! A resource is shared by whoever serves it. It does not know its path, nor how long it is true.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::charset;
use super::compress::Coding;
use super::media_type::MediaType;
use super::validator::EntityTag;
use crate::buffer::Chunk;
use crate::driver::{File, FileInfo};

/// What a path leads to.
#[derive(Debug)]
pub struct Resource {
    /// What `fstat(2)` said when it was opened; of a coded one, what it said of the file.
    pub info: FileInfo,
    /// Whether its modification was long enough ago when it was read that another would show.
    pub is_settled: bool,
    /// How the content is coded.
    pub coding: Option<Coding>,
    /// The bytes, or where they are.
    pub content: Content,
    /// What its name says it is.
    media_type: OnceCell<MediaType>,
    /// Whether it is text beyond ASCII, in UTF-8; looked at once.
    utf8: OnceCell<bool>,
    /// Room for whoever serves it: the whole of it, on a connection that ends after it, and on one that goes on.
    pub prepared: RefCell<[Option<Prepared>; 2]>,
    /// The same: that it has not been modified, to those who name exactly this tag.
    pub not_modified: RefCell<Option<(EntityTag, Prepared)>>,
}

/// A response, for whoever asks the same in the same second.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Who has made it: the routes that serve one folder share its files, and each has fields of its own.
    pub maker: u64,
    /// The second since 1970 within which it may be used.
    pub unix_second: u64,
    /// How it says that the content is coded: a file may be asked for itself, and as its neighbour's coded form.
    pub coding: Option<Coding>,
    /// Head, and body if it has one.
    pub response: Chunk,
}

/// Where a resource's bytes are.
#[derive(Debug)]
pub enum Content {
    /// In memory, all of them.
    Memory(Arc<[u8]>),
    /// In this open file.
    File(OpenFile),
    /// It is a folder.
    Folder,
    /// It is a FIFO, socket or device: never read.
    Special,
}

/// An open file; when the last who holds it is gone, the store closes it.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    released: Released,
}

/// Files that nobody holds any more, to be closed.
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
            prepared: RefCell::default(),
            not_modified: RefCell::new(None),
        })
    }

    /// Whether a file of which this is known now has the bytes that it had.
    pub(super) fn is_still(&self, info: &FileInfo) -> bool {
        self.is_settled && self.info == *info
    }

    /// What it is, by the name under which it was found: looked up once, since the registry is large.
    pub fn media_type(&self, path: &[u8]) -> MediaType {
        *self.media_type.get_or_init(|| MediaType::of_name(path))
    }

    /// Whether its beginning is UTF-8 and not plain ASCII; `None`: it was not looked at yet, see [`Store::is_utf8`].
    ///
    /// [`Store::is_utf8`]: super::store::Store::is_utf8
    pub fn is_utf8(&self) -> Option<bool> {
        match &self.content {
            Content::Memory(bytes) => Some(*self.utf8.get_or_init(|| charset::is_utf8(bytes))),
            Content::File(_) => self.utf8.get().copied(),
            Content::Folder | Content::Special => Some(false),
        }
    }

    /// Records that it is, or is not.
    pub(super) fn set_utf8(&self, is_utf8: bool) {
        // Bytes that were looked at twice were the same ones.
        let _ = self.utf8.set(is_utf8);
    }

    /// Bytes of the content.
    pub fn content_bytes(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_) => self.info.size,
            Content::Folder | Content::Special => 0,
        }
    }
}

impl OpenFile {
    /// Takes a file; the last drop puts it among the released ones.
    pub(super) const fn new(file: File, released: Released) -> Self {
        Self { file, released }
    }

    /// The file, to be sent from as long as this is held.
    pub const fn file(&self) -> File {
        self.file
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.released.borrow_mut().push(self.file);
    }
}
