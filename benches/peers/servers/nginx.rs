//! nginx, as a relay of TCP, a server of files, or a proxy of HTTP.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Setup, find, required};
use crate::certificate::NAME;
use crate::scenario::{Service, Tls};

/// Writes its configuration, with these additional directives for the server.
pub fn command(setup: &Setup<'_>, directives: &str) -> io::Result<Command> {
    let service = match setup.scenario.service {
        Service::Relay => relay(setup, directives),
        Service::Files => files(setup, directives),
        Service::HttpProxy => http_proxy(setup, directives),
    };
    let preamble = preamble(setup.scenario.service)?;
    let connections = setup.connections;
    let text = format!(
        "{preamble}
daemon off;
worker_processes 1;
error_log stderr error;
pid nginx.pid;
events {{
    worker_connections {connections};
}}
{service}"
    );
    let configuration = setup.folder.join("nginx.conf");
    fs::write(&configuration, text)?;
    let mut command = Command::new(required("nginx")?);
    command.arg("-p").arg(setup.folder).arg("-c").arg(configuration).args(["-e", "stderr"]);
    Ok(command)
}

/// The directives that let it move a response in large pieces.
pub fn large_buffers(service: Service) -> &'static str {
    match service {
        Service::Relay => "proxy_buffer_size 256k;",
        Service::HttpProxy => "proxy_buffers 8 256k; proxy_buffer_size 256k; proxy_busy_buffers_size 512k;",
        Service::Files => "",
    }
}

/// What must stand before everything else.
fn preamble(service: Service) -> io::Result<String> {
    match service {
        Service::Relay => match stream_module().map_err(io::Error::other)? {
            Some(module) => Ok(format!("load_module {};", module.display())),
            None => Ok(String::new()),
        },
        Service::Files => Ok(user().to_owned()),
        Service::HttpProxy => Ok(String::new()),
    }
}

/// The directive without which its worker gives up the right to enter the temporary folder.
pub fn user() -> &'static str {
    if is_root() { "user root;" } else { "" }
}

fn relay(setup: &Setup<'_>, directives: &str) -> String {
    let Setup { port, origin, .. } = setup;
    format!(
        "stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass 127.0.0.1:{origin};
        {directives}
    }}
}}
"
    )
}

fn files(setup: &Setup<'_>, directives: &str) -> String {
    let Setup { port, documents, .. } = setup;
    let documents = documents.display();
    let (options, tls) = listener(setup);
    http(&format!(
        "    sendfile on;
    tcp_nopush on;
    open_file_cache max=1000;
    server {{
        listen 127.0.0.1:{port}{options};
        root {documents};
        {tls}
        {directives}
    }}"
    ))
}

/// What a listener speaks, and the directives for that.
fn listener(setup: &Setup<'_>) -> (String, String) {
    let http2 = setup.scenario.streams().map_or("", |_| " http2");
    match setup.scenario.tls {
        Tls::Clients => (format!(" ssl{http2}"), listener_tls(setup)),
        Tls::Nowhere | Tls::Origin => (http2.to_owned(), String::new()),
    }
}

/// No cache of sessions, as is its default: clients resume by tickets, in 1.2 too.
fn listener_tls(setup: &Setup<'_>) -> String {
    let (certificate, key) = (setup.identity.certificate(), setup.identity.key());
    format!(
        "ssl_certificate {};
        ssl_certificate_key {};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ecdh_curve X25519;
        ssl_session_tickets on;",
        certificate.display(),
        key.display(),
    )
}

/// The version must be named: 1.3 is not among the defaults of nginx 1.22.
fn origin_tls(setup: &Setup<'_>) -> String {
    let certificate = setup.identity.certificate();
    format!(
        "proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_server_name on;
            proxy_ssl_name {NAME};
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {};",
        certificate.display(),
    )
}

fn http_proxy(setup: &Setup<'_>, directives: &str) -> String {
    let Setup { port, origin, .. } = setup;
    let keep = setup.concurrency.max(64);
    let (options, listener_tls) = listener(setup);
    let (scheme, tls) = match setup.scenario.tls {
        Tls::Origin => ("https", origin_tls(setup)),
        Tls::Nowhere | Tls::Clients => ("http", String::new()),
    };
    http(&format!(
        "    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive {keep};
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port}{options};
        {listener_tls}
        location / {{
            proxy_pass {scheme}://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            # Answers go through memory, as everywhere else.
            proxy_max_temp_file_size 0;
            {directives}
            {tls}
        }}
    }}"
    ))
}

/// What every HTTP server of ours has: paths that it may write to, and connections that last.
fn http(body: &str) -> String {
    format!(
        "http {{
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
{body}
}}
"
    )
}

/// How to get it or its module, if one is not there.
pub fn missing(service: Service) -> Option<String> {
    match service {
        Service::Relay => stream_module().err().map(str::to_owned),
        Service::Files | Service::HttpProxy => find("nginx").is_none().then(|| NO_NGINX.to_owned()),
    }
}

const NO_NGINX: &str = "not in PATH; Debian: apt-get install nginx-light libnginx-mod-stream";
const NO_STREAM: &str = "no stream module; Debian: apt-get install libnginx-mod-stream";

/// Where nginx's stream module is; `None` if it is built in.
fn stream_module() -> Result<Option<PathBuf>, &'static str> {
    let program = find("nginx").ok_or(NO_NGINX)?;
    let output = Command::new(program).arg("-V").output().map_err(|_| NO_NGINX)?;
    let build = String::from_utf8_lossy(&output.stderr);
    let mut options = build.split_ascii_whitespace();
    if options.clone().any(|option| option == "--with-stream") {
        return Ok(None);
    }
    let folder = options.find_map(|option| option.strip_prefix("--modules-path=")).ok_or(NO_STREAM)?;
    let module = Path::new(folder).join("ngx_stream_module.so");
    if module.is_file() { Ok(Some(module)) } else { Err(NO_STREAM) }
}

fn is_root() -> bool {
    // SAFETY: takes no pointers, and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
