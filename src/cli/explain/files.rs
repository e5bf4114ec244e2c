//! Names the file that a client would get. The dry run has decided the status before.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::refused;
use super::report::Report;
use super::response::DryRunResponse;
use crate::cli::failure::Failure;
use crate::http::{RequestHead, path};
use crate::session::http::{FileRoute, Source};

/// Explains the response to a request for a file.
pub(super) fn explain(
    file_route: &FileRoute,
    head: &RequestHead<'_>,
    response: &DryRunResponse,
    report: &mut Report,
) -> Result<(), Failure> {
    let Source::Folder(_) = file_route.source else {
        report.add("to", "the built-in pages");
        return response.plainly(report);
    };
    let root = file_route.config.root.as_deref().unwrap_or(Path::new(""));
    report.add("folder", root.display().to_string());
    let decoded = path::decode(head.target.path().unwrap_or("/")).map_err(refused)?;
    let beneath = decoded.beneath(&file_route.prefix).to_bytes();
    let wanted = if beneath == b"." { root.to_owned() } else { root.join(OsStr::from_bytes(beneath)) };
    match response.status {
        403 | 404 if wanted.is_dir() && !file_route.config.listing && !file_route.hides(&decoded) => {
            Err(response.failure("the folder has no index file, and listing is off"))
        }
        404 if file_route.hides(&decoded) => Err(response.failure("files whose name begins with a dot are not served")),
        404 if wanted.is_file() => Err(response.failure(&format!("{} is not a folder", wanted.display()))),
        404 => Err(response.failure(&format!("{} does not exist", wanted.display()))),
        403 => Err(response.failure(&format!("{} cannot be read, or a symbolic link leads to it", wanted.display()))),
        200 | 206 | 304 => {
            report.add("to", name(file_route, root, &wanted, decoded.ends_with_slash()));
            if file_route.config.compression.is_some() {
                report.add("", "compressed, if the client accepts it and the type and size qualify");
            }
            Ok(())
        }
        _ => response.plainly(report),
    }
}

/// Describes what is sent, for a response that is not an error.
fn name(file_route: &FileRoute, root: &Path, wanted: &Path, is_folder: bool) -> String {
    let file = |path: &Path| match path.metadata() {
        Ok(found) => format!("the file {}, {} bytes", path.display(), found.len()),
        Err(_) => format!("the file {}", path.display()),
    };
    let index = || file_route.config.index.iter().map(|name| wanted.join(name)).find(|path| path.is_file());
    match (wanted.is_dir(), is_folder, &file_route.config.fallback) {
        (true, true, _) => index().map_or_else(|| format!("a listing of {}", wanted.display()), |index| file(&index)),
        (false, false, _) if wanted.is_file() => file(wanted),
        (_, _, Some(fallback)) => {
            format!("{}, the fallback for {}", file(&root.join(fallback)), wanted.display())
        }
        (_, _, None) => file(wanted),
    }
}
