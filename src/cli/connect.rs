//! `xps connect`: sends standard input to a server and writes what it sends to standard output.

use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use super::Invocation;
use super::args::{ConnectOptions, ConnectTls};
use super::failure::Failure;
use super::serve::config_of;
use crate::config::{ServerConfig, UpstreamAddress};
use crate::core::{StartError, client};
use crate::telemetry;
use crate::tls::server::Crypto;
use crate::tls::{ClientSettings, TlsPeer};

/// Bytes per read between the terminal and the socket pair. 64 KiB.
const PIECE_BYTES: usize = 64 << 10;

/// Connects. Returns when the server has ended its side and its data is written.
pub fn run(options: ConnectOptions, invocation: &Invocation) -> Result<(), Failure> {
    let ConnectOptions { upstream, tls, backend, pipe, timeout, log } = options;
    let tls = tls_of(&upstream, tls)?;
    let ServerConfig { backend, uring_off, limits, .. } = config_of(&[&backend, &pipe, &timeout]);
    invocation.backend.set(backend);
    let setup = telemetry::LogSetup::for_clients(log.log_level, invocation.log_format);
    let _log = telemetry::start(setup)?;
    let (ours, theirs) = UnixStream::pair().map_err(Failure::Bridge)?;
    let input = ours.try_clone().map_err(Failure::Bridge)?;
    // Not joined: it may wait for a terminal for ever. It ends with the process.
    thread::Builder::new().name("xps-input".into()).spawn(move || send_input(input)).map_err(Failure::Bridge)?;
    let output = thread::Builder::new()
        .name("xps-output".into())
        .spawn(move || receive_output(ours))
        .map_err(Failure::Bridge)?;
    let ended = client::run(theirs, upstream, tls, backend, uring_off, limits);
    let written = output.join().unwrap_or_else(|_| Err(io::Error::other("the output thread panicked")));
    ended?;
    written.map_err(Failure::Output)
}

/// What TLS to the server needs; `None` for an address in plain text.
fn tls_of(upstream: &UpstreamAddress, options: ConnectTls) -> Result<Option<TlsPeer>, Failure> {
    let ConnectTls { ca, insecure, sni, alpn } = options;
    let UpstreamAddress::Tcp { host, is_tls: true, .. } = upstream else {
        let is_given = ca.is_some() || insecure || sni.is_some() || !alpn.is_empty();
        let hint = "--ca, --insecure, --sni and --alpn are for TLS: write tls://HOST:PORT";
        return if is_given { Err(Failure::Usage(hint.to_owned())) } else { Ok(None) };
    };
    let alpn = alpn.into_iter().map(String::into_bytes).collect();
    let settings = ClientSettings { verify: !insecure, ca, server_name: sni, certificate: None, alpn };
    let peer = settings.load(&Crypto::default()).map_err(StartError::Tls)?.peer(host);
    peer.map(Some).map_err(|bad| Failure::Usage(bad.to_string()))
}

/// Copies standard input to the socket, then shuts down the sending side.
fn send_input(mut socket: UnixStream) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                if socket.write_all(&piece[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // The connection may have ended meanwhile.
    let _ = socket.shutdown(Shutdown::Write);
}

/// Copies the socket to standard output. If standard input is a terminal, the end of the server's
/// side ends both directions, so that the user need not end the input as well.
fn receive_output(mut socket: UnixStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut output = io::stdout().lock();
    loop {
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                // Flushed after each read: output may be interactive.
                if let Err(error) = output.write_all(&piece[..count]).and_then(|()| output.flush()) {
                    let _ = socket.shutdown(Shutdown::Both);
                    return if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) };
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The session reports why the connection broke.
            Err(_) => break,
        }
    }
    if io::stdin().is_terminal() {
        let _ = socket.shutdown(Shutdown::Both);
    }
    Ok(())
}
