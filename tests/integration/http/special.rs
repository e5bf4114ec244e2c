//! What is no regular file and no folder is never opened: not by a listing, not by a request for it.

use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::http::site::Site;
use crate::support::namespace::Mounts;
use crate::support::{Launch, WaitingWriter, backends, skip};

backends! {
    fn a_fifo_is_listed_and_refused_and_its_writer_waits_on(backend) {
        let site = Site::of(backend, &[], |root| std::fs::create_dir(root.join("folder")).expect("a folder"));
        let writer = WaitingWriter::at(&site.path("folder/fifo"));
        assert!(site.get("/folder/").text().contains("fifo"));
        writer.assert_waits();
        for lines in ["", "Accept-Encoding: gzip\r\n", "Range: bytes=0-1\r\n"] {
            assert_eq!(site.get_with("/folder/fifo", lines).status, 403);
            writer.assert_waits();
        }
        for target in ["/folder/fifo/", "/folder/fifo/below"] {
            let status = site.get(target).status;
            assert!(matches!(status, 403 | 404), "{target}: {status}");
            writer.assert_waits();
        }
        assert_eq!(writer.finish(), WaitingWriter::TEXT);
    }

    fn a_fifo_that_is_an_index_a_fallback_or_a_compressed_form_is_not_opened(backend) {
        let site = Site::of(backend, &["--index", "index.html,fifo", "--fallback", "folder/fifo"], |root| {
            std::fs::create_dir(root.join("folder")).expect("a folder");
            std::fs::write(root.join("page.html"), "a page").expect("a file");
        });
        let (index, coded) = (WaitingWriter::at(&site.path("folder/fifo")), WaitingWriter::at(&site.path("page.html.gz")));
        assert_eq!(site.get("/folder/").status, 200, "it is listed");
        assert_eq!(site.get("/nothing").status, 404);
        assert_eq!(site.get_with("/page.html", "Accept-Encoding: gzip\r\n").text(), "a page");
        for writer in [index, coded] {
            writer.assert_waits();
            assert_eq!(writer.finish(), WaitingWriter::TEXT);
        }
    }

    fn sockets_and_devices_are_refused(backend) {
        let site = Site::new(backend, &[]);
        let _socket = UnixListener::bind(site.path("socket")).expect("a socket");
        assert_eq!(site.get("/socket").status, 403);
        // One without a driver: had it been opened, that would have failed otherwise (ENXIO).
        let made = Command::new("mknod").arg(site.path("device")).args(["c", "60", "7"]).output().expect("mknod starts");
        if made.status.success() {
            assert_eq!(site.get("/device").status, 403);
        } else {
            skip("sockets_and_devices_are_refused, the device", "this user may make none");
        }
        assert_eq!(site.get("/").status, 200);
    }

    fn a_folder_is_listed_without_proc(backend) {
        let Some(mounts) = Mounts::made_by("a_folder_is_listed_without_proc", "mount -t tmpfs none /proc") else { return };
        let site = Site::launched(backend, &[], |launch| launch.through(mounts.words), |_| {});
        let page = site.get("/");
        assert_eq!(page.status, 200);
        assert!(page.text().contains("href=\"/probe\""));
        assert_eq!(site.get("/probe").status, 200);
    }

    fn what_a_command_line_names_is_not_waited_for_if_it_is_a_fifo(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fifo = folder.path().join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo starts");
        assert!(made.success());
        let (fifo, folder) = (fifo.to_str().expect("text"), folder.path().to_str().expect("text"));
        for (words, reason) in [
            (["serve", folder, "--access-log", fifo], "no reader"),
            (["serve", folder, "--error-page", &format!("404={fifo}")], "not a regular file"),
            (["serve", fifo, "--log-level", "info"], "not a folder"),
            (["send", fifo, "--log-level", "info"], "not a regular file"),
        ] {
            let finished = Launch::new(backend, words).run(b"");
            assert!(!finished.status.success() && finished.errors.contains(reason), "{words:?}: {}", finished.errors);
        }
    }
}
