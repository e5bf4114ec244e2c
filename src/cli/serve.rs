//! The commands that serve: each builds a configuration from its options and runs the server.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::Invocation;
use super::args::{
    self, EchoOptions, H2cOption, ProxyOptions, ReceiveOptions, ReverseOptions, SendOptions, ServeOptions, Settings,
    SocketOptions,
};
use super::failure::Failure;
use super::operate::{operate, operate_once};
use super::tls;
use super::units::StatusPage;
use crate::config::file::{AccessTarget, File};
use crate::config::{
    FileRouteConfig, ForwardConfig, HTTP_PROTOCOLS, HandlerConfig, ListenAddress, ListenerConfig, OnMissing,
    ResponseConfig, RouterConfig, ServerConfig, ServiceConfig, UPSTREAM_HTTP_PROTOCOLS, resolve, start,
};
use crate::driver::{SymlinkPolicy, limits};
use crate::file::compress::Compression;
use crate::http::Status;
use crate::session::{CloseReason, Naming, SessionEnd};
use crate::telemetry::access_log::{AccessFormat, AccessLogConfig, AccessLogOutput, Sample};
use crate::upstream::{ConnectPolicy, GroupConfig};

/// `xps proxy`.
pub fn proxy(options: ProxyOptions, invocation: &Invocation) -> Result<(), Failure> {
    let ProxyOptions { server, socket, tls, pipe, connect, h2c, http_limits, upload, log, .. } = &options;
    let mut config = config_of(&[server, pipe, connect, http_limits, upload]);
    let connect_timeout = config.limits.connect_timeout;
    let upstream_tls = tls::to_upstreams(&options, if options.http { &UPSTREAM_HTTP_PROTOCOLS } else { &[] })?;
    let of_addresses = GroupConfig::of(options.upstream.clone());
    let group = GroupConfig { policy: options.balance.into(), tls: upstream_tls, ..of_addresses };
    let service = if options.http {
        let forward = ForwardConfig {
            connect_timeout,
            response_timeout: options.response_timeout.0,
            ..ForwardConfig::new(group)
        };
        let log = access_log(&options.access_log, options.access_format)?;
        ServiceConfig::Http(RouterConfig::of(HandlerConfig::Forward(Box::new(forward)), ResponseConfig::default(), log))
    } else {
        refuse_options_of_http(invocation)?;
        ServiceConfig::TcpProxy(group, ConnectPolicy { tries_max: 0, connect_timeout })
    };
    config.listeners = each(&options.listen, socket, &service);
    let hints = tls::put(tls, if options.http { &HTTP_PROTOCOLS } else { &[] }, &mut config.listeners)?;
    if options.http {
        permit_h2c(*h2c, &mut config.listeners)?;
    }
    operate(config, log, &hints, None, invocation)
}

/// Options that need `--http` are an error without it. Environment variables are ignored instead:
/// they may be set for other commands.
fn refuse_options_of_http(invocation: &Invocation) -> Result<(), Failure> {
    let mut given = invocation.given.iter().filter(|given| !given.is_variable);
    match given.find(|given| args::PROXY_HTTP.contains(&given.id.as_str())) {
        Some(given) => {
            let option = given.id.replace('_', "-");
            Err(Failure::Usage(format!("--{option} needs --http: without it, `xps proxy` relays bytes unchanged")))
        }
        None => Ok(()),
    }
}

/// The configuration of a command without a file: the defaults, overridden by options.
pub fn config_of(settings: &[&dyn Settings]) -> ServerConfig {
    let mut file = File::default();
    settings.iter().for_each(|group| group.apply(&mut file));
    resolve::without_listeners(&file, limits::usable_cpus())
}

/// The access log of `--access-log`.
fn access_log(wanted: &AccessTarget, format: AccessFormat) -> Result<Option<AccessLogConfig>, Failure> {
    let output = match wanted {
        AccessTarget::Off => return Ok(None),
        AccessTarget::Stdout => AccessLogOutput::Stdout,
        AccessTarget::File(path) => AccessLogOutput::of_path(absolute(path)?),
        AccessTarget::Syslog(config) => AccessLogOutput::Syslog(config.clone()),
    };
    Ok(Some(AccessLogConfig { output, format: format.into(), sample: Sample::ALL }))
}

/// A path that stays the same when the current folder changes.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    start::absolute(path).map_err(|error| Failure::File { path: path.to_owned(), error })
}

/// `xps serve`.
pub fn files(options: ServeOptions, invocation: &Invocation) -> Result<(), Failure> {
    let mut config = config_of(&[&options.server, &options.http_limits]);
    let failed = |error| Failure::Folder { path: options.dir.clone(), error };
    if !options.dir.metadata().map_err(failed)?.is_dir() {
        return Err(Failure::NotAFolder { path: options.dir });
    }
    let root = start::absolute(&options.dir).map_err(failed)?;
    let access = access_log(&options.access_log, options.access_format)?;
    let compression = Compression {
        size_min: options.compression_min_size.0 as u64,
        level: options.compression_level,
        ..Compression::default()
    };
    let file_route = FileRouteConfig {
        root: Some(root),
        index: options.index,
        listing: !options.no_listing,
        dot_files: options.dot_files,
        fallback: options.fallback,
        symlinks: if options.no_symlinks { SymlinkPolicy::Refuse } else { SymlinkPolicy::Follow },
        compression: (!options.no_compression).then_some(compression),
        precompressed: !options.no_precompressed,
        charset: options.charset,
        ..FileRouteConfig::default()
    };
    let responses = ResponseConfig {
        server_name: Some(options.server_name).filter(|name| !name.is_empty()),
        replaced: options.header.iter().map(|header| header.0.name.clone()).collect(),
        fields: options.header.into_iter().map(|header| (header.0.name, header.0.value)).collect(),
        error_pages: error_pages(&options.error_page)?,
        cors: options.cors,
        ..ResponseConfig::default()
    };
    let router = RouterConfig::of(HandlerConfig::Files(Box::new(file_route)), responses, access);
    let service = ServiceConfig::Http(router);
    config.listeners = each(&options.listen, &options.socket, &service);
    let hints = tls::put(&options.tls, &HTTP_PROTOCOLS, &mut config.listeners)?;
    permit_h2c(options.h2c, &mut config.listeners)?;
    operate(config, &options.log, &hints, None, invocation)
}

/// Permits HTTP/2 without TLS on all listeners, if that is wanted.
fn permit_h2c(H2cOption { h2c }: H2cOption, listeners: &mut [ListenerConfig]) -> Result<(), Failure> {
    if h2c && listeners.iter().any(|listener| listener.tls.is_some()) {
        return Err(Failure::Usage("--h2c is for connections without TLS".to_owned()));
    }
    listeners.iter_mut().for_each(|listener| listener.h2c = h2c);
    Ok(())
}

/// The pages of `--error-page`.
fn error_pages(wanted: &[StatusPage]) -> Result<Vec<(Status, PathBuf)>, Failure> {
    wanted.iter().map(|page| Ok((page.status, absolute(&page.path)?))).collect()
}

/// `xps echo`.
pub fn echo(options: &EchoOptions, invocation: &Invocation) -> Result<(), Failure> {
    let EchoOptions { listen, server, socket, pipe, log } = options;
    let listeners = each(listen, socket, &ServiceConfig::Echo);
    operate(ServerConfig { listeners, ..config_of(&[server, pipe]) }, log, &[], None, invocation)
}

/// `xps reverse`.
pub fn reverse(options: &ReverseOptions, invocation: &Invocation) -> Result<(), Failure> {
    let ReverseOptions { listen, once, server, socket, pipe, line, log } = options;
    let listeners = each(listen, socket, &ServiceConfig::Reverse);
    let config = ServerConfig { listeners, ..config_of(&[server, pipe, line]) };
    if !*once {
        return operate(config, log, &[], None, invocation);
    }
    if config.listeners.len() > 1 {
        return Err(Failure::Usage("--once serves one client, so it listens on one address".to_owned()));
    }
    match operate_once(config, log, invocation)? {
        Some(_) => Err(Failure::ClientLeft),
        None => Ok(()),
    }
}

/// `xps send`.
pub fn send(options: SendOptions, invocation: &Invocation) -> Result<(), Failure> {
    let SendOptions { file, listen, root, server, socket, log } = options;
    let (root, path) = beneath(&file, root)?;
    let listeners = each(&listen, &socket, &ServiceConfig::SendFile { root, path, on_missing: OnMissing::Refuse });
    operate(ServerConfig { listeners, ..config_of(&[&server]) }, &log, &[], None, invocation)
}

/// `xps receive`.
pub fn receive(options: ReceiveOptions, invocation: &Invocation) -> Result<(), Failure> {
    let ReceiveOptions { file, listen, keep, force, server, socket, pipe, log } = options;
    let failed = |reason: io::Error| Failure::NotReceived { path: file.clone(), reason: reason.to_string() };
    let name =
        file.file_name().map(PathBuf::from).ok_or_else(|| failed(io::Error::other("the path has no file name")))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = folder.canonicalize().map_err(failed)?;
    // Checked here because each connection would fail. Links are not followed, so none is replaced.
    match file.symlink_metadata() {
        Ok(found) if !found.is_file() => return Err(failed(io::Error::other("it exists and is not a regular file"))),
        Ok(_) if !force && !keep => return Err(Failure::FileThere(file)),
        Ok(_) | Err(_) => {}
    }
    let service = ServiceConfig::Receive { root, name, naming: Naming { is_numbered: keep, replaces: force } };
    let config = ServerConfig { listeners: each(&listen, &socket, &service), ..config_of(&[&server, &pipe]) };
    if keep {
        return operate(config, &log, &[], None, invocation);
    }
    if config.listeners.len() > 1 {
        let message = "without --keep, only one connection is accepted, so give only one address to listen on";
        return Err(Failure::Usage(message.to_owned()));
    }
    let reason = match operate_once(config, &log, invocation)? {
        Some(SessionEnd { close_reason: CloseReason::Done, .. }) => return Ok(()),
        Some(session_end) => session_end.to_string(),
        None => "no client connected".to_owned(),
    };
    Err(Failure::NotReceived { path: file, reason })
}

/// The root, and the path of the file beneath it. Links are not resolved here: those in the path of
/// the root are resolved when it is opened, those beneath it when the file is opened. A link that
/// leads out of the root is not followed.
fn beneath(file: &Path, root: Option<PathBuf>) -> Result<(PathBuf, PathBuf), Failure> {
    let failed = |error| Failure::File { path: file.to_owned(), error };
    if !file.metadata().map_err(failed)?.is_file() {
        let is_folder = file.is_dir();
        return Err(failed(match is_folder {
            true => io::ErrorKind::IsADirectory.into(),
            false => io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"),
        }));
    }
    let name = file.file_name().ok_or_else(|| failed(io::Error::other("the path has no file name")))?;
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
        // The paths may reach the same folder through different links, or through `..`.
        Ok(_) | Err(_) => match folder.canonicalize().map_err(failed)?.join(name).strip_prefix(&resolved) {
            Ok(path) => path.to_owned(),
            Err(_) => return Err(Failure::OutsideRoot { path: file.to_owned(), root }),
        },
    };
    leads_into(file, &resolved)?;
    Ok((root, path))
}

/// Refuses a link that leads out of the root. Checked here because each connection would fail.
fn leads_into(file: &Path, root: &Path) -> Result<(), Failure> {
    let target = file.canonicalize().map_err(|error| Failure::File { path: file.to_owned(), error })?;
    if target.starts_with(root) {
        return Ok(());
    }
    Err(Failure::LeadsOut { path: file.to_owned(), target, root: root.to_owned() })
}

fn each(listen: &[ListenAddress], socket: &SocketOptions, service: &ServiceConfig) -> Vec<ListenerConfig> {
    let with_mode = |address: &ListenAddress| match address.clone() {
        ListenAddress::Unix { path, mode } => ListenAddress::Unix { path, mode: mode.or(socket.socket_mode) },
        inet @ ListenAddress::Inet(_) => inet,
    };
    listen.iter().map(|address| ListenerConfig::new(with_mode(address), service.clone())).collect()
}
