//! A listing as JSON.
//!
//! ```text
//! {"path":"/a%20b/","entries":[
//! {"name":"x","type":"file","href":"/a%20b/x","size":12,"modified":"2024-02-29T23:59:59Z"}
//! ]}
//! ```

use std::io::Write;

use super::escape::json_string;
use super::{Entry, Folder};
use crate::driver::FileKind;

pub(super) fn write_head(folder: &Folder, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"path\":\"");
    out.extend_from_slice(&folder.url);
    out.extend_from_slice(b"\",\"entries\":[\n");
}

pub(super) fn write_row(folder: &Folder, is_first: bool, entry: Entry<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if is_first { b"{\"name\":" } else { b",\n{\"name\":" });
    json_string(entry.name, out);
    let kind = match entry.info.kind {
        FileKind::Regular => "file",
        FileKind::Directory => "folder",
        FileKind::Special => "special",
    };
    append(out, format_args!(",\"type\":\"{kind}\""));
    match entry.info.kind {
        FileKind::Regular | FileKind::Directory => {
            out.extend_from_slice(b",\"href\":\"");
            folder.write_url_of(entry, out);
            out.push(b'"');
        }
        FileKind::Special => {}
    }
    match entry.info.kind {
        FileKind::Regular => append(out, format_args!(",\"size\":{}", entry.info.size)),
        FileKind::Directory | FileKind::Special => {}
    }
    append(out, format_args!(",\"modified\":\"{}\"}}", entry.modified()));
}

pub(super) fn write_tail(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n]}\n");
}

/// Writing to memory cannot fail.
fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}
