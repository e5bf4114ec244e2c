//! The deploy hook for certbot, `contrib/certbot/deploy-hook`, with a `systemctl` of the test's.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::tls::{Authority, Client, Signed};
use crate::support::{Launch, backends};

/// What there is of certbot and systemd, in a folder.
struct Host {
    root: TempDir,
    authority: Authority,
    /// How often a certificate was renewed.
    renewals: u32,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let host = Self { root, authority: Authority::new(), renewals: 0 };
        fs::create_dir(host.path("bin")).expect("a temporary folder");
        let systemctl = format!(
            "#!/bin/sh\necho \"$*\" >>{calls}\nif [ -e {pid} ]; then kill -HUP $(cat {pid}); fi\n",
            calls = host.path("calls").display(),
            pid = host.path("pid").display(),
        );
        fs::write(host.path("bin/systemctl"), systemctl).expect("a temporary file");
        fs::set_permissions(host.path("bin/systemctl"), Permissions::from_mode(0o755)).expect("a temporary file");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Renews the certificate as certbot does: links that lead to the newest files, then the hook.
    fn renew(&mut self) -> Signed {
        self.renewals += 1;
        let signed = self.authority.signed(&["example.org"]);
        let lineage = self.path("letsencrypt/live/example.org");
        let archive = self.path("letsencrypt/archive/example.org");
        for folder in [&lineage, &archive] {
            fs::create_dir_all(folder).expect("a temporary folder");
        }
        for (source, name) in [(&signed.cert, "fullchain"), (&signed.key, "privkey")] {
            let (link, numbered) = (lineage.join(format!("{name}.pem")), format!("{name}{}.pem", self.renewals));
            fs::copy(source, archive.join(&numbered)).expect("a temporary file");
            let _ = fs::remove_file(&link);
            symlink(Path::new("../../archive/example.org").join(numbered), link).expect("a link");
        }
        let path = std::env::var("PATH").expect("there are programs");
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/certbot/deploy-hook");
        let status = Command::new(hook)
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("RENEWED_LINEAGE", lineage)
            .env("XPS_TLS_DIR", self.path("etc/xps/tls"))
            .env("XPS_TLS_GROUP", self.group().to_string())
            .status()
            .expect("the hook can be executed");
        assert!(status.success(), "{status}");
        signed
    }

    /// A group that this process is in.
    fn group(&self) -> u32 {
        self.root.path().metadata().expect("it is there").gid()
    }

    /// The permissions of a file or folder that the hook has made.
    fn mode(&self, name: &str) -> u32 {
        let metadata = self.path("etc/xps/tls").join(name).metadata().expect("the hook has made it");
        assert_eq!(metadata.gid(), self.group(), "{name}");
        metadata.mode() & 0o7777
    }
}

backends! {
    fn what_was_renewed_is_served_and_only_its_group_can_read_it(backend) {
        let mut host = Host::new();
        let first = host.renew();
        for (name, mode) in [
            ("", 0o750),
            ("example.org", 0o750),
            ("example.org/fullchain.pem", 0o640),
            ("example.org/privkey.pem", 0o640),
        ] {
            assert_eq!(host.mode(name), mode, "{name}");
        }
        let folder = host.path("etc/xps/tls/example.org");
        let certificates = json!([{ "cert": folder.join("fullchain.pem"), "key": folder.join("privkey.pem") }]);
        let listener = json!({ "host": "127.0.0.1", "port": 0, "tls": { "certificates": certificates } });
        let file = json!({ "servers": [{ "listeners": [listener], "protocol": "tcp", "handler": "echo" }] });
        fs::write(host.path("xps_config.json"), file.to_string()).expect("a temporary file");
        let xps = Launch::new(backend, ["run"]).in_folder(&host.path("")).start();
        fs::write(host.path("pid"), xps.pid().to_string()).expect("a temporary file");
        let client = Client::trusting(&host.authority).forgetful();
        let shown = || client.connect(xps.address(), "example.org").expect("a handshake").certificate().cloned();
        assert_eq!(shown(), Some(first.der));
        let second = host.renew();
        xps.log().wait_for("the reload", |record| record.message() == "the configuration was reloaded");
        assert_eq!(shown(), Some(second.der));
        assert_eq!(host.mode("example.org/privkey.pem"), 0o640);
        let names = fs::read_dir(&folder).expect("it is there").count();
        assert_eq!(names, 2, "nothing is left of the copying");
        let calls = fs::read_to_string(host.path("calls")).expect("the hook has called systemctl");
        assert_eq!(calls, "try-reload-or-restart xps\n".repeat(2));
        // certbot runs as root. Elsewhere the files belong to the user of the test.
        if folder.metadata().expect("it is there").uid() == 0 {
            let records = xps.log().records();
            assert!(records.iter().all(|record| !record.message().contains("can read the private key")));
        }
        xps.finish();
    }
}
