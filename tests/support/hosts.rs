//! A hosts file or a name server of the program's own, so that names lead where a test wants, or nowhere.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::client::uninterrupted;
use super::environment::find_program;

/// A hosts file, seen in a mount namespace only.
#[derive(Debug)]
pub struct Hosts {
    folder: TempDir,
}

impl Hosts {
    /// With these lines.
    pub fn new(lines: &str) -> Self {
        let hosts = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        hosts.write(lines);
        hosts
    }

    /// With other lines from now on, also for who is in the namespace already.
    pub fn write(&self, lines: &str) {
        // In place: it is the file that is mounted, not its name.
        std::fs::write(self.path(), lines).expect("a temporary file");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// The words that start a program in the namespace.
    pub fn namespace(&self) -> Vec<String> {
        let script = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", self.path().display());
        ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// Why a name does not lead to these addresses there, if so.
    pub fn obstacle(&self, name: &str, addresses: &[&str]) -> Option<&'static str> {
        let namespace = self.namespace();
        let is_asked = || {
            let output = Command::new(&namespace[0]).args(&namespace[1..]).args(["getent", "ahosts", name]).output();
            output.is_ok_and(|output| {
                let found = String::from_utf8_lossy(&output.stdout).into_owned();
                addresses.iter().all(|address| found.contains(address))
            })
        };
        let works = find_program("unshare").is_some() && is_asked();
        (!works).then_some("no mount namespace, or its hosts file is not asked")
    }
}

/// A name server that never answers, asked in a mount namespace only.
#[derive(Debug)]
pub struct SilentNameServer {
    folder: TempDir,
    /// It takes the questions, and that is all.
    socket: UdpSocket,
}

impl SilentNameServer {
    /// Asked for longer than any test is patient.
    ///
    /// # Errors
    /// Why there is none: its port is for the privileged.
    pub fn new() -> std::io::Result<Self> {
        // Tests run beside each other, and the port is always the same.
        let addresses = (1..250).map(|number| format!("127.53.{}.{number}", std::process::id() % 256));
        let mut last = Err(std::io::ErrorKind::AddrInUse.into());
        for address in addresses {
            last = UdpSocket::bind((address.as_str(), 53)).map(|socket| (socket, address));
            if last.is_ok() {
                break;
            }
        }
        let (socket, address) = last?;
        let folder = tempfile::tempdir()?;
        let lines = format!("nameserver {address}\noptions timeout:30 attempts:4\n");
        std::fs::write(folder.path().join("resolv.conf"), lines)?;
        Ok(Self { folder, socket })
    }

    /// The words that start a program in the namespace.
    pub fn namespace(&self) -> Vec<String> {
        let file = self.folder.path().join("resolv.conf");
        let script = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", file.display());
        ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// Why it is not asked there for names, if so.
    pub fn obstacle(&self, name: &str) -> Option<&'static str> {
        let namespace = self.namespace();
        let look_up = Command::new(&namespace[0]).args(&namespace[1..]).args(["getent", "ahosts", name]).spawn();
        let Ok(mut look_up) = look_up else { return Some("unshare is not installed") };
        let is_asked = self.is_asked(std::time::Duration::from_secs(5));
        let _ = look_up.kill();
        let _ = look_up.wait();
        // What it asked besides: the other type of address.
        while self.is_asked(std::time::Duration::from_millis(10)) {}
        (!is_asked).then_some("no mount namespace, or its resolv.conf is not asked")
    }

    /// Whether a question comes within this time.
    pub fn is_asked(&self, time: std::time::Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).expect("not zero");
        uninterrupted(|| self.socket.recv(&mut [0; 512])).is_ok()
    }
}
