//! The commands that serve: from options to a running server, and to its end.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::args::{LogOptions, ProxyOptions, ServeOptions, ServerOptions};
use super::failure::Failure;
use super::operate::operate;
use super::units::StatusPage;
use crate::admission::AdmissionConfig;
use crate::buffer::PoolConfig;
use crate::config::build;
use crate::config::file::FileMode;
use crate::config::units::Size;
use crate::config::{
    AnswerConfig, ForwardConfig, FrontConfig, HandlerConfig, HttpLimits, Limits, ListenAddress, ListenerConfig,
    ServerConfig, Service, SiteConfig, start,
};
use crate::driver::{Links, limits};
use crate::file::compress::Compression;
use crate::http::HeadLimits;
use crate::http::error_page::ErrorPages;
use crate::telemetry::access::{AccessFormat, AccessLog};
use crate::upstream::{GroupConfig, Rules};

/// Relays to upstreams.
pub fn proxy(options: ProxyOptions, server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    let group = GroupConfig { policy: options.balance.into(), ..GroupConfig::of(options.upstream) };
    let service = if options.http {
        let forward = ForwardConfig {
            connect_timeout: server.connect_timeout.0,
            response_timeout: options.response_timeout.0,
            ..ForwardConfig::new(group)
        };
        let log = access_log(&options.access_log, options.access_format)?;
        Service::Http(FrontConfig::of(HandlerConfig::Forward(Box::new(forward)), AnswerConfig::default(), log))
    } else {
        Service::TcpProxy(group, Rules { tries_max: 0, connect_timeout: server.connect_timeout.0 })
    };
    serve(each(&options.listen, &service), server, log, &[])
}

/// Where requests are recorded.
fn access_log(wanted: &str, format: AccessFormat) -> Result<Option<AccessLog>, Failure> {
    match wanted {
        "off" => Ok(None),
        "-" => {
            let failed = |error| Failure::AccessLog { path: "-".into(), error };
            AccessLog::to_stdout(format).map(Some).map_err(failed)
        }
        path => {
            let path = Path::new(path);
            let failed = |error| Failure::AccessLog { path: path.to_owned(), error };
            let whole = start::absolute(path).map_err(failed)?;
            AccessLog::to_file(&whole, format).map(Some).map_err(failed)
        }
    }
}

/// Serves a folder over HTTP.
pub fn files(options: ServeOptions, server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    let failed = |error| Failure::Folder { path: options.dir.clone(), error };
    options.dir.metadata().map_err(failed)?;
    let root = start::absolute(&options.dir).map_err(failed)?;
    let access = access_log(&options.access_log, options.access_format)?;
    let compression = Compression {
        size_min: options.compression_min_size.0 as u64,
        level: options.compression_level,
        ..Compression::default()
    };
    let site = SiteConfig {
        root: Some(root),
        index: options.index,
        listing: !options.no_listing,
        dot_files: options.dot_files,
        fallback: options.fallback,
        links: if options.no_symlinks { Links::Refuse } else { Links::Follow },
        compression: (!options.no_compression).then_some(compression),
        precompressed: !options.no_precompressed,
        charset: options.charset,
        cors: options.cors,
    };
    let answers = AnswerConfig {
        server_name: Some(options.server_name).filter(|name| !name.is_empty()),
        replaced: options.header.iter().map(|header| header.0.name.clone()).collect(),
        fields: options.header.into_iter().map(|header| (header.0.name, header.0.value)).collect(),
        error_pages: error_pages(&options.error_page)?,
        ..AnswerConfig::default()
    };
    let front = FrontConfig::of(HandlerConfig::Site(Box::new(site)), answers, access);
    serve(each(&options.listen, &Service::Http(front)), server, log, &[])
}

/// Reads the pages that are sent in place of ours.
fn error_pages(wanted: &[StatusPage]) -> Result<ErrorPages, Failure> {
    let read = |page: &StatusPage| {
        let failed = |error| Failure::ErrorPage { path: page.path.clone(), error };
        Ok((page.status, build::error_page(&page.path).map_err(failed)?))
    };
    wanted.iter().map(read).collect()
}

/// Sends back.
pub fn echo(listen: &[ListenAddress], server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    serve(each(listen, &Service::Echo), server, log, &[])
}

/// Sends back reversed.
pub fn reverse(listen: &[ListenAddress], server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    serve(each(listen, &Service::Reverse), server, log, &[])
}

/// Sends a file.
pub fn send(
    file: &Path,
    listen: &[ListenAddress],
    root: Option<PathBuf>,
    server: &ServerOptions,
    log: &LogOptions,
) -> Result<(), Failure> {
    let (root, path) = beneath(file, root)?;
    serve(each(listen, &Service::SendFile { root, path }), server, log, &[])
}

/// The root, and the file's path from there. Links are resolved beneath the root when the file is opened, and on the way to
/// the root when it is looked for, not here: a link in the root that leads out of it is not followed.
fn beneath(file: &Path, root: Option<PathBuf>) -> Result<(PathBuf, PathBuf), Failure> {
    let failed = |error| Failure::File { path: file.to_owned(), error };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let name = file.file_name().ok_or_else(|| failed(io::Error::other("it has no name")))?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let whole_folder = start::absolute(folder).map_err(failed)?;
    let Some(given) = root else {
        leads_into(file, &folder.canonicalize().map_err(failed)?)?;
        return Ok((whole_folder, PathBuf::from(name)));
    };
    let bad_root = |error| Failure::File { path: given.clone(), error };
    let (root, resolved) = (start::absolute(&given).map_err(bad_root)?, given.canonicalize().map_err(bad_root)?);
    let path = match whole_folder.join(name).strip_prefix(&root) {
        Ok(path) if !path.components().any(|part| part == Component::ParentDir) => path.to_owned(),
        // The two paths lead through different links, or up and down again, to the same folder.
        Ok(_) | Err(_) => match folder.canonicalize().map_err(failed)?.join(name).strip_prefix(&resolved) {
            Ok(path) => path.to_owned(),
            Err(_) => return Err(Failure::OutsideRoot { path: file.to_owned(), root }),
        },
    };
    leads_into(file, &resolved)?;
    Ok((root, path))
}

/// Every connection would meet a link that leads out of the root; better it is said now.
fn leads_into(file: &Path, root: &Path) -> Result<(), Failure> {
    let target = file.canonicalize().map_err(|error| Failure::File { path: file.to_owned(), error })?;
    if target.starts_with(root) {
        return Ok(());
    }
    Err(Failure::LeadsOut { path: file.to_owned(), target, root: root.to_owned() })
}

fn each(listen: &[ListenAddress], service: &Service) -> Vec<ListenerConfig> {
    listen.iter().map(|address| ListenerConfig::new(address.clone(), service.clone())).collect()
}

/// Starts a server with these listeners and options, and serves until it is stopped. `hints` are lines for the banner.
pub fn serve(
    mut listeners: Vec<ListenerConfig>,
    options: &ServerOptions,
    log: &LogOptions,
    hints: &[String],
) -> Result<(), Failure> {
    set_modes(&mut listeners, options.socket_mode);
    let config = ServerConfig {
        listeners,
        workers: options.workers.map_or_else(limits::usable_cpus, usize::from),
        pin_workers: options.pin_workers,
        backend: options.backend.into(),
        uring_off: options.uring_off.iter().copied().collect(),
        admission: AdmissionConfig { when_full: options.when_full, ..AdmissionConfig::default() },
        limits: limits_of(options),
    };
    operate(config, log, hints, None)
}

/// Who may connect to unix sockets.
fn set_modes(listeners: &mut [ListenerConfig], wanted: Option<FileMode>) {
    for listener in listeners {
        match &mut listener.address {
            ListenAddress::Unix { mode, .. } => *mode = mode.or(wanted),
            ListenAddress::Inet(_) => {}
        }
    }
}

/// The options' bounds.
pub fn limits_of(options: &ServerOptions) -> Limits {
    Limits {
        connections_max: options.max_connections,
        pipe_bytes_max: options.pipe_size.0,
        line_bytes_max: options.line_max.0,
        backlog: options.backlog,
        idle_timeout: options.idle_timeout.0,
        connect_timeout: options.connect_timeout.0,
        drain_timeout: options.drain_timeout.0,
        replace_timeout: Limits::default().replace_timeout,
        pool: pool_of(options.buffers),
        http: HttpLimits {
            head: HeadLimits { head_bytes_max: options.http.head_size.0, ..HeadLimits::default() },
            head_timeout: options.http.head_timeout.0,
            keep_alive_timeout: options.http.keep_alive_timeout.0,
            drain_idle_timeout: options.http.drain_idle_timeout.0,
            send_timeout: options.http.send_timeout.0,
            body_timeout: options.http.body_timeout.0,
            send_rate_min: options.http.send_rate.0 as u64,
            upload_rate_min: options.http.upload_rate.0 as u64,
            requests_max: options.http.max_requests,
            ..HttpLimits::default()
        },
        ..Limits::default()
    }
}

/// An eighth of the memory for large buffers: without those everything goes on, without small ones nothing. More where there
/// are as many small ones as there can be.
fn pool_of(memory: Size) -> PoolConfig {
    let PoolConfig { small_bytes, large_bytes, .. } = PoolConfig::default();
    let count = |memory: usize, bytes: usize| (memory / bytes).min(POOL_BUFFERS_MAX);
    let small_max = count(7 * (memory.0 / 8), small_bytes);
    let large_max = count(memory.0 - small_max * small_bytes, large_bytes);
    PoolConfig { small_bytes, large_bytes, small_max, large_max }
}

/// The pool numbers the buffers of a size in 16 bits.
const POOL_BUFFERS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;
    use crate::config::units::{BUFFERS_BYTES_MAX, BUFFERS_BYTES_MIN};

    #[test]
    fn the_memory_that_is_asked_for_by_default_is_the_pool_s_own() {
        assert_eq!(pool_of(args::default_buffers()), PoolConfig::default());
    }

    #[test]
    fn the_least_and_the_most_memory_make_pools_within_their_bounds() {
        let least = pool_of(Size(BUFFERS_BYTES_MIN));
        assert!(least.small_max > 0 && least.large_max > 0, "{least:?}");
        let most = pool_of(Size(BUFFERS_BYTES_MAX));
        assert_eq!((most.small_max, most.large_max), (POOL_BUFFERS_MAX, POOL_BUFFERS_MAX));
        for memory in [64 << 20, 3 << 30, BUFFERS_BYTES_MAX] {
            let pool = pool_of(Size(memory));
            let unused = memory - pool.small_max * pool.small_bytes - pool.large_max * pool.large_bytes;
            assert!(unused < pool.large_bytes, "{unused} of {memory} bytes are cut off");
        }
    }
}
