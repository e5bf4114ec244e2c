//! The commands that serve: from options to a running server, and to its end.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::args::{LogOptions, ProxyOptions, ServeOptions, ServerOptions};
use super::banner;
use super::failure::Failure;
use crate::buffer::PoolConfig;
use crate::config::file::FileMode;
use crate::config::units::Size;
use crate::config::{
    ForwardConfig, FrontConfig, HandlerConfig, HttpLimits, Limits, ListenAddress, ListenerConfig, ServerConfig,
    Service, SiteConfig,
};
use crate::core::Server;
use crate::driver::limits;
use crate::driver::probe::Selection;
use crate::http::HeadLimits;
use crate::telemetry::access::{AccessFormat, AccessLog};
use crate::telemetry::{self, LogFormat};
use crate::upstream::GroupConfig;

/// Relays to upstreams.
pub fn proxy(options: ProxyOptions, server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    let group = GroupConfig::of(options.upstream);
    let service = if options.http {
        let forward = ForwardConfig {
            connect_timeout: server.connect_timeout.0,
            response_timeout: options.response_timeout.0,
            ..ForwardConfig::new(group)
        };
        let front = FrontConfig::of(HandlerConfig::Forward(Box::new(forward)), Some("xps".to_owned()));
        Service::Http { front, access: access_log(&options.access_log, options.access_format)? }
    } else {
        Service::TcpProxy(group)
    };
    serve(each(&options.listen, &service), server, log, &[])
}

/// Where requests are recorded.
fn access_log(wanted: &str, format: AccessFormat) -> Result<Option<AccessLog>, Failure> {
    match wanted {
        "off" => Ok(None),
        "-" => Ok(Some(AccessLog::to_stdout(format))),
        path => {
            let path = Path::new(path);
            let failed = |error| Failure::AccessLog { path: path.to_owned(), error };
            AccessLog::to_file(path, format).map(Some).map_err(failed)
        }
    }
}

/// Serves a folder over HTTP.
pub fn files(options: ServeOptions, server: &ServerOptions, log: &LogOptions) -> Result<(), Failure> {
    let root = options.dir.canonicalize().map_err(|error| Failure::Folder { path: options.dir.clone(), error })?;
    let access = access_log(&options.access_log, options.access_format)?;
    let site = SiteConfig {
        root: Some(root),
        index: options.index,
        listing: !options.no_listing,
        dot_files: options.dot_files,
        fallback: options.fallback,
        compression: !options.no_compression,
        precompressed: !options.no_precompressed,
        server_name: Some(options.server_name).filter(|name| !name.is_empty()),
        charset: options.charset,
        cors: options.cors,
        fields: options.header.into_iter().map(|header| (header.name, header.value)).collect(),
    };
    serve(each(&options.listen, &Service::Http { front: FrontConfig::site(site), access }), server, log, &[])
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

/// The root, and the file's path from there. Links are resolved beneath the root when the file is opened, not here: a
/// link in the root that leads out of it is not followed.
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
    let folder = folder.canonicalize().map_err(failed)?;
    let root = match root {
        Some(root) => root.canonicalize().map_err(|error| Failure::File { path: root, error })?,
        None => folder.clone(),
    };
    let Ok(path) = folder.join(name).strip_prefix(&root).map(Path::to_owned) else {
        return Err(Failure::OutsideRoot { path: file.to_owned(), root });
    };
    // Every connection would meet it; better it is said now.
    let target = file.canonicalize().map_err(failed)?;
    if !target.starts_with(&root) {
        return Err(Failure::LeadsOut { path: file.to_owned(), target, root });
    }
    Ok((root, path))
}

fn each(listen: &[ListenAddress], service: &Service) -> Vec<ListenerConfig> {
    listen.iter().map(|address| ListenerConfig { address: address.clone(), service: service.clone() }).collect()
}

/// Starts a server, says so, and serves until it is stopped. `hints` are lines for the banner.
pub fn serve(
    mut listeners: Vec<ListenerConfig>,
    options: &ServerOptions,
    log: &LogOptions,
    hints: &[String],
) -> Result<(), Failure> {
    let _log = telemetry::start(telemetry::Setup::for_servers(log.log_level, log.log_format)).map_err(Failure::Log)?;
    refuse_twice(&listeners)?;
    set_modes(&mut listeners, options.socket_mode);
    let descriptors = raise_descriptors();
    let access_logs: Vec<AccessLog> = listeners.iter().filter_map(|listener| listener.service.access_log()).collect();
    let services: Vec<&'static str> = listeners.iter().map(|listener| listener.service.name()).collect();
    let workers = options.workers.map_or_else(limits::usable_cpus, usize::from);
    let mut limits = limits_of(options);
    if let Some(descriptors) = descriptors {
        share_descriptors(descriptors / workers as u64, &listeners, &mut limits);
    }
    let server = Server::start(ServerConfig {
        listeners,
        workers,
        pin_workers: options.pin_workers,
        backend: options.backend.into(),
        uring_off: options.uring_off.iter().copied().collect(),
        limits,
    })?;
    tell_choice(&server);
    let speaks = !log.quiet && log.log_format == LogFormat::Human;
    if speaks {
        banner::show(&server, &services, hints);
    }
    let drain_timeout = options.drain_timeout;
    server.run(|connections| {
        if speaks && connections > 0 {
            // The log tells it too; who cannot read this has chosen so.
            let _ = writeln!(
                io::stderr(),
                "xps: draining {connections} connections, at most {drain_timeout}; interrupt again to stop at once"
            );
        }
    })?;
    // All listeners of one command share it.
    if let Some(dropped) = access_logs.first().map(AccessLog::dropped_lines).filter(|dropped| *dropped > 0) {
        tracing::warn!(dropped, "access log lines were lost in all");
    }
    Ok(())
}

/// Two sockets of ours on one address would be told apart by nobody; and the kernel's word, that it
/// is in use, would send people looking for a stranger.
fn refuse_twice(listeners: &[ListenerConfig]) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    let twice = listeners.iter().map(|listener| listener.address.address()).find(|address| {
        // Port 0 is a different one each time.
        address.inet().is_none_or(|address| address.port() != 0) && !seen.insert(address.clone())
    });
    twice.map_or(Ok(()), |address| Err(Failure::ListedTwice(address)))
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

/// The log's word on which driver runs and why; the banner has it too, but not everybody sees that.
fn tell_choice(server: &Server) {
    let Selection { backend, reason, is_fallback } = server.selection();
    let (backend, workers, version) = (backend.name(), server.workers(), env!("CARGO_PKG_VERSION"));
    if *is_fallback {
        tracing::warn!(backend, reason, workers, version, "started without io_uring");
    } else {
        tracing::info!(backend, reason, workers, version, "started");
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
        pool: pool_of(options.buffers),
        http: HttpLimits {
            head: HeadLimits { head_bytes_max: options.http.head_size.0, ..HeadLimits::default() },
            head_timeout: options.http.head_timeout.0,
            keep_alive_timeout: options.http.keep_alive_timeout.0,
            send_timeout: options.http.send_timeout.0,
            body_timeout: options.http.body_timeout.0,
            requests_max: options.http.max_requests,
            ..HttpLimits::default()
        },
        ..Limits::default()
    }
}

/// Of all descriptors, files kept open that nobody is being sent may have one in so many.
const OPEN_FILES_SHARE: u64 = 8;

/// What a worker needs for itself: its ring, its wakers, its part of the listeners, and some to spare.
const OWN_DESCRIPTORS: u64 = 24;

/// Bounds connections so that each can have what it needs: a client that waits in the backlog is better off than one
/// whose file or upstream cannot be opened.
fn share_descriptors(descriptors: u64, listeners: &[ListenerConfig], limits: &mut Limits) {
    let serves = |is: fn(&Service) -> bool| listeners.iter().any(|listener| is(&listener.service));
    let for_files =
        if serves(|service| matches!(service, Service::Http { .. })) { descriptors / OPEN_FILES_SHARE } else { 0 };
    let each = if serves(|service| matches!(service, Service::TcpProxy(_) | Service::SendFile { .. })) { 2 } else { 1 };
    let connections = descriptors.saturating_sub(OWN_DESCRIPTORS + for_files) / each;
    limits.connections_max = limits.connections_max.min(usize::try_from(connections).unwrap_or(usize::MAX)).max(1);
    limits.store.open_max = limits.store.open_max.min(u32::try_from(for_files).unwrap_or(u32::MAX));
}

/// Half of the memory for each size of buffer.
fn pool_of(memory: Size) -> PoolConfig {
    let PoolConfig { small_bytes, large_bytes, .. } = PoolConfig::default();
    let count = |bytes: usize| (memory.0 / 2 / bytes).min(POOL_BUFFERS_MAX);
    PoolConfig { small_bytes, large_bytes, small_max: count(small_bytes), large_max: count(large_bytes) }
}

/// The pool numbers the buffers of a size in 16 bits.
const POOL_BUFFERS_MAX: usize = 1 << 16;

/// Raises the limit of descriptors as far as it goes, and says where it stands, if there is one.
fn raise_descriptors() -> Option<u64> {
    match limits::raise_descriptors() {
        Ok((before, after)) => {
            if before == after {
                tracing::debug!(limit = after.soft, "descriptor limit is as high as allowed");
            } else {
                tracing::info!(from = before.soft, to = after.soft, "descriptor limit raised");
            }
            after.soft
        }
        Err(error) => {
            tracing::warn!(%error, "cannot raise the descriptor limit");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;
    use crate::config::units::BUFFERS_BYTES_MIN;

    #[test]
    fn the_memory_that_is_asked_for_by_default_is_the_pool_s_own() {
        assert_eq!(pool_of(args::default_buffers()), PoolConfig::default());
    }

    #[test]
    fn the_least_and_the_most_memory_make_pools_within_their_bounds() {
        let least = pool_of(Size(BUFFERS_BYTES_MIN));
        assert!(least.small_max > 0 && least.large_max > 0, "{least:?}");
        let most = pool_of(Size(usize::MAX));
        assert_eq!((most.small_max, most.large_max), (POOL_BUFFERS_MAX, POOL_BUFFERS_MAX));
    }

    #[test]
    fn an_address_given_twice_is_refused_but_not_a_port_that_the_kernel_chooses() {
        let listen = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            refuse_twice(&each(&addresses, &Service::Echo))
        };
        assert!(matches!(listen(&["8004", "127.0.0.1:8004", ":8004"]), Err(Failure::ListedTwice(_))));
        assert!(matches!(listen(&["unix:/a", "unix:/b", "unix:/a"]), Err(Failure::ListedTwice(_))));
        assert!(listen(&["8004", "127.0.0.1:8004", "8003"]).is_ok());
        assert!(listen(&["127.0.0.1:0", "127.0.0.1:0"]).is_ok());
    }
}
