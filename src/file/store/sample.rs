//! Reads the start of a text file to detect its charset.

use std::ffi::CStr;
use std::rc::Rc;

use smallvec::SmallVec;

use super::job::{Step, token};
use super::key::{Aspect, key_of, plain_key_of};
use super::{Content, Found, Inquiry, Lookup, Resource, RootPath, Store};
use crate::driver::{Op, Ops, Outcome};
use crate::http::charset;
use crate::waiter::Waiter;

impl Store {
    /// Whether the start of a file is UTF-8 and not plain ASCII. If the file is not in memory, its
    /// start is read once, and the resource keeps the result.
    pub fn is_utf8(
        &mut self,
        root_path: &RootPath,
        path: &CStr,
        resource: &Rc<Resource>,
        inquiry: Inquiry,
        ops: &mut Ops,
    ) -> Lookup<bool> {
        let open = match (resource.is_utf8(), &resource.content) {
            (Some(is_utf8), _) => return Lookup::Found(Ok(is_utf8)),
            (None, Content::File(open)) => open,
            (None, Content::Memory(_) | Content::Folder | Content::Special) => return Lookup::Found(Ok(false)),
        };
        let key = key_of(root_path, Aspect::Charset, path);
        if let Some(Err(fault)) = self.passing.get(&key[..]) {
            return Lookup::Found(Err(*fault));
        }
        if let Some(job) = self.join_or_start(&key, inquiry.waiter, Step::Sampling { resource: Rc::clone(resource) }) {
            let length = resource.info.size.min(charset::READ_BYTES as u64) as usize;
            ops.submit(token(job), Op::Read { file: open.file(), offset: 0, length });
        }
        Lookup::Pending
    }

    /// Records the outcome of the read. A failure goes to the waiting sessions only and is not
    /// cached: if the file cannot be read, sending it fails too.
    pub(super) fn on_sampled(
        &mut self,
        key: Box<[u8]>,
        waiters: SmallVec<[Waiter; 2]>,
        resource: Rc<Resource>,
        outcome: &Outcome,
    ) {
        match outcome {
            Outcome::Failed(fault) => drop(self.passing.insert(key.clone(), Err(*fault))),
            Outcome::Read(bytes) => resource.set_utf8(charset::is_utf8(bytes)),
            _ => {}
        }
        self.under_way.remove(&key);
        self.woken.extend(waiters);
        // If the resource is too large to be cached, another look-up would give another one, to be
        // read again.
        self.passing.insert(plain_key_of(key), Ok(Found::Resource(resource)));
    }
}
