//! nginx, as a server of files that also takes uploads, and as a proxy.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::gateway::Port;
use crate::support::environment::require_program;
use crate::support::program::Program;

/// A running nginx with a folder of its own.
#[derive(Debug)]
pub struct Nginx {
    _program: Program,
    port: Port,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Serves the files of its folder, and stores what is PUT there. Its connections are kept, as by default for a
    /// thousand requests each.
    #[track_caller]
    pub fn of_files(test: &str) -> Option<Self> {
        Self::start(test, |folder, listen| {
            format!(
                "server {{
        listen {listen};
        root {folder}/root;
        gzip on;
        gzip_types text/plain;
        # It does not compress for whoever comes through a proxy, unless it is told to.
        gzip_proxied any;
        client_max_body_size 0;
        location /stored/ {{ dav_methods PUT; }}
    }}"
            )
        })
    }

    /// A proxy in front of something else, with connections that it keeps.
    #[track_caller]
    pub fn in_front_of(test: &str, upstream: SocketAddr) -> Option<Self> {
        Self::start(test, |_, listen| {
            format!(
                "upstream behind {{
        server {upstream};
        keepalive 4;
    }}
    server {{
        listen {listen};
        client_max_body_size 0;
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}"
            )
        })
    }

    #[track_caller]
    fn start(test: &str, server: impl FnOnce(&str, SocketAddr) -> String) -> Option<Self> {
        let nginx = require_program(test, "nginx", "nginx-light")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join("root/stored")).expect("folders in it");
        let port = Port::reserve();
        let server = server(folder.path().to_str().expect("a path of text"), port.address());
        // One process: when it is killed, nothing is left.
        let configuration = format!(
            "daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{ }}
http {{
    log_format connections \"$connection\";
    access_log {CONNECTIONS} connections;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    types {{ text/plain txt; }}
    {server}
}}
"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, configuration).expect("a file");
        let mut program =
            Program::start(Command::new(nginx).arg("-p").arg(folder.path()).arg("-c").arg(path).args(["-e", "stderr"]));
        port.wait_for(&mut program);
        Some(Self { _program: program, port, folder })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A file that it serves.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    /// The number of the connection over which each request so far came, in the order of their ends.
    #[track_caller]
    pub fn connections(&self) -> Vec<u64> {
        let log = fs::read_to_string(self.folder.path().join(CONNECTIONS)).expect("nginx writes it");
        log.lines().map(|line| line.parse().expect("a number")).collect()
    }
}

const CONNECTIONS: &str = "connections.log";
