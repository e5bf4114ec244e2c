//! A configuration file in a folder of its own, and the server that it is for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::log::Record;
use crate::support::process::Signal;
use crate::support::{Backend, Launch, Xps, eventually, patience};

/// A folder with a configuration file.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    backend: Backend,
}

impl Place {
    pub fn new(backend: Backend) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), backend }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes `folder/page` with this content.
    #[track_caller]
    pub fn page(&self, folder: &str, content: impl AsRef<[u8]>) {
        let folder = self.path(folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        std::fs::write(folder.join("page"), content).expect("a temporary file");
    }

    /// Writes the file anew: these servers, two workers.
    pub fn configure(&self, servers: impl IntoIterator<Item = Value>) {
        self.configure_with(servers, |_| {});
    }

    /// The same, after `change` has been at it.
    pub fn configure_with(&self, servers: impl IntoIterator<Item = Value>, change: impl FnOnce(&mut Value)) {
        let off = std::env::var("XPS_TEST_URING_OFF").unwrap_or_default();
        let off: Vec<&str> = off.split(',').filter(|name| !name.is_empty()).collect();
        let backend = match self.backend {
            Backend::IoUring | Backend::IoUringWithout(_) | Backend::IoUringBare => "io_uring",
            Backend::Epoll => "epoll",
        };
        let mut document = json!({
            "backend": backend,
            "uring_off": off,
            "workers": 2,
            "access_log": "off",
            // The profile `expserver` has them on one port, which several tests at once cannot have.
            "metrics": false,
            "limits": { "drain_timeout": "25s" },
            "servers": servers.into_iter().collect::<Vec<_>>(),
        });
        change(&mut document);
        self.write(&document.to_string());
    }

    /// Writes the file anew, whatever this is. Who reads it at that moment sees the old one or the new one.
    pub fn write(&self, text: &str) {
        let new = self.path("new.json");
        std::fs::write(&new, text).expect("a temporary file");
        std::fs::rename(new, self.file()).expect("the same folder");
    }

    pub fn file(&self) -> PathBuf {
        self.path("xps_config.json")
    }

    /// `xps run`, which finds the file by itself.
    pub fn launch(&self) -> Launch {
        Launch::new(self.backend, ["run"])
            .told_nothing()
            .in_folder(self.folder.path())
            // One line a connection is too much under load.
            .logging("info,xps::session=warn")
    }

    #[track_caller]
    pub fn start(&self) -> Service {
        Service::new(self.launch().start())
    }
}

/// A server of files from this folder.
pub fn files(host: &str, folder: &str) -> Value {
    routes(host, json!([{ "req_path": "/", "type": "file_serve", "dir_path": folder }]))
}

/// An HTTP server with these routes.
pub fn routes(host: &str, routes: Value) -> Value {
    json!({ "listeners": [{ "host": host, "port": 0 }], "routes": routes })
}

/// An echo server.
pub fn echo(host: &str) -> Value {
    json!({ "listeners": [{ "host": host, "port": 0 }], "protocol": "tcp", "handler": "echo" })
}

/// A running server, over all processes that take each other's place. The last one is told to end when this is dropped.
#[derive(Debug)]
pub struct Service {
    /// The process that was started first.
    pub first: Xps,
    successor: Option<u64>,
}

impl Service {
    pub fn new(first: Xps) -> Self {
        Self { first, successor: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.first.address()
    }

    /// Where it listens on this host, from its log, old or new.
    #[track_caller]
    pub fn address_on(&self, host: &str) -> SocketAddr {
        self.first.log().wait_until(&format!("an address on {host}"), |records| {
            let texts = records.iter().filter(|record| record.message() == "listening");
            let mut addresses = texts.filter_map(|record| record.text("address")?.parse::<SocketAddr>().ok());
            addresses.find(|address| address.ip().to_string() == host)
        })
    }

    /// The process that serves now.
    pub fn pid(&self) -> u64 {
        self.successor.unwrap_or(u64::from(self.first.pid()))
    }

    /// Sends a signal to the process that serves now.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(signal, self.pid());
    }

    /// How many records say this.
    pub fn count(&self, message: &str) -> usize {
        count(&self.first.log().records(), message)
    }

    /// Does something after which there is one more record that says this; returns the record.
    #[track_caller]
    pub fn until_told(&self, message: &str, act: impl FnOnce()) -> Record {
        let before = self.count(message);
        act();
        self.first.log().wait_until(message, |records| {
            records.iter().filter(|record| record.message() == message).nth(before).cloned()
        })
    }

    /// Has the file read anew, and waits until it is in force.
    #[track_caller]
    pub fn reload(&self) {
        self.until_told("the configuration was reloaded", || self.signal(Signal::Hangup));
    }

    /// Has a new process take over, and waits until the old one drains.
    #[track_caller]
    pub fn replace(&mut self) {
        let drains = self.count("draining");
        let begun = self.until_told("a new process takes over", || self.signal(Signal::User2));
        self.successor = Some(begun.number("process").expect("its number"));
        self.first
            .log()
            .wait_until("the old process drains", |records| (count(records, "draining") > drains).then_some(()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Else the log never ends.
        if let Some(successor) = self.successor.filter(|process| is_alive(*process)) {
            kill(Signal::Terminate, successor);
            if !std::thread::panicking() {
                eventually("the last process ends", || !is_alive(successor));
            }
        }
    }
}

fn count(records: &[Record], message: &str) -> usize {
    records.iter().filter(|record| record.message() == message).count()
}

#[track_caller]
pub fn kill(signal: Signal, process: u64) {
    let command = format!("kill -{} {process}", signal.number());
    let status = Command::new("sh").args(["-c", &command]).status().expect("sh starts");
    assert!(status.success(), "`{command}` failed: {status}");
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub fn is_alive(process: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")) else {
        return false;
    };
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Waits until a process has ended by itself.
#[track_caller]
pub fn wait_for_end(process: u64) {
    eventually(&format!("process {process} ends within {:?}", patience()), || !is_alive(process));
}
