//! `xps send`: the file's bytes, exactly, to whoever connects; and nothing else, ever.
//!
//! The program runs in the file's folder and is given a bare name, so that the path means the same
//! relative to the working folder and relative to the root.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::client::{read_until_cut, reset};
use crate::support::environment::bulk;
use crate::support::files::{assert_stream_is_file, write_sparse};
use crate::support::{Backend, Content, Launch, Xps, assert_same_bytes, backends, connect, read_rest, was_cut};

/// A temporary folder with the served file `public/file` and, next to `public`, what must not get out.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("public")).expect("a folder in it");
        std::fs::write(folder.path().join("secret"), SECRET).expect("a file in it");
        let site = Self { folder };
        std::fs::write(site.file(), content).expect("a file in it");
        site
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("public")
    }

    fn file(&self) -> std::path::PathBuf {
        self.root().join("file")
    }

    fn secret(&self) -> std::path::PathBuf {
        self.folder.path().join("secret")
    }

    /// `xps send PATH`, started in the root.
    fn launch(&self, backend: Backend, path: &str) -> Launch {
        Launch::send(backend, Path::new(path)).in_folder(&self.root())
    }

    /// Serves the file, with a root that must not be left.
    fn start(&self, backend: Backend) -> Xps {
        self.launch(backend, "file").flag("--root").flag(self.root().display()).start()
    }
}

const SECRET: &[u8] = b"not for the public";

/// Connects and reads to the end.
fn download(xps: &Xps) -> Vec<u8> {
    read_rest(&connect(xps.address()))
}

backends! {
    fn the_file_is_sent_exactly(backend) {
        let content = Content::bytes(1, 3_000_017);
        let site = Site::new(&content);
        let xps = site.launch(backend, "file").start();
        for _ in 0..3 {
            assert_same_bytes(&download(&xps), &content);
        }
    }

    fn a_path_from_the_top_will_do(backend) {
        let site = Site::new(b"absolute");
        let xps = Launch::send(backend, &site.file()).start();
        assert_eq!(download(&xps), b"absolute");
    }

    fn several_clients_are_served_at_once(backend) {
        let content = Content::bytes(2, bulk(8 << 20));
        let site = Site::new(&content);
        let xps = site.start(backend);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_same_bytes(&download(&xps), &content));
            }
        });
    }

    fn a_large_file_is_sent_whole(backend) {
        let site = Site::new(b"");
        write_sparse(&site.file(), bulk(512 << 20) as u64 + 5);
        let xps = site.start(backend);
        assert_stream_is_file(connect(xps.address()), &site.file());
    }

    fn an_empty_file_is_an_end_at_once(backend) {
        let site = Site::new(b"");
        let xps = site.start(backend);
        assert_eq!(download(&xps), b"");
    }

    fn the_file_is_opened_anew_for_each_client(backend) {
        let site = Site::new(b"the first edition");
        let xps = site.start(backend);
        assert_eq!(download(&xps), b"the first edition");
        std::fs::write(site.file(), b"the second").expect("it can be written");
        assert_eq!(download(&xps), b"the second");
    }

    fn a_file_missing_at_the_start_is_an_error_with_words(backend) {
        let site = Site::new(b"");
        let finished = site.launch(backend, "no-such-file").run(b"");
        assert!(matches!(finished.status.code(), Some(1 | 2)), "{}: {}", finished.status, finished.errors);
        assert!(finished.errors.contains("no-such-file"), "says what: {}", finished.errors);
    }

    fn a_file_deleted_later_is_an_end_without_a_byte(backend) {
        let site = Site::new(b"soon gone");
        let xps = site.start(backend);
        std::fs::remove_file(site.file()).expect("it was there");
        assert!(was_cut(&connect(xps.address())));
        std::fs::write(site.file(), b"back again").expect("it can be written");
        assert_eq!(download(&xps), b"back again");
    }

    fn a_file_deleted_while_it_is_sent_is_sent_whole(backend) {
        let content = Content::bytes(3, bulk(64 << 20));
        let site = Site::new(&content);
        let xps = site.start(backend);
        let mut stream = connect(xps.address());
        let mut received = vec![0; 1000];
        stream.read_exact(&mut received).expect("the file has begun");
        std::fs::remove_file(site.file()).expect("it was there");
        received.extend(read_rest(&stream));
        assert_same_bytes(&received, &content);
    }

    fn a_path_that_leaves_the_root_is_refused(backend) {
        let site = Site::new(b"");
        for path in ["../secret", &site.secret().display().to_string(), "../public/../secret"] {
            match site.launch(backend, path).flag("--root").flag(site.root().display()).try_start() {
                Ok(xps) => assert!(was_cut(&connect(xps.address())), "{path} was sent"),
                Err(refusal) => {
                    assert!(matches!(refusal.status.code(), Some(1 | 2)), "{path}: {}\n{}", refusal.status, refusal.log);
                }
            }
        }
    }

    fn a_link_that_leads_out_of_the_root_is_not_followed(backend) {
        let site = Site::new(b"harmless");
        let xps = site.start(backend);
        for target in [site.secret().as_path(), Path::new("../secret")] {
            std::fs::remove_file(site.file()).expect("it was there");
            symlink(target, site.file()).expect("a link can be made");
            assert!(was_cut(&connect(xps.address())), "a link to {}", target.display());
        }
        std::fs::remove_file(site.file()).expect("it was there");
        std::fs::write(site.file(), b"harmless again").expect("it can be written");
        assert_eq!(download(&xps), b"harmless again");
    }

    fn a_fifo_is_neither_read_nor_waited_for(backend) {
        let site = Site::new(b"harmless");
        let xps = site.start(backend);
        std::fs::remove_file(site.file()).expect("it was there");
        let made = Command::new("mkfifo").arg(site.file()).status().expect("mkfifo starts");
        assert!(made.success());
        assert!(was_cut(&connect(xps.address())));
        assert!(was_cut(&connect(xps.address())), "the server lives on");
    }

    fn a_folder_is_not_sent(backend) {
        let site = Site::new(b"harmless");
        let xps = site.start(backend);
        std::fs::remove_file(site.file()).expect("it was there");
        std::fs::create_dir(site.file()).expect("a folder in its place");
        assert!(was_cut(&connect(xps.address())));
    }

    fn a_file_that_shrinks_while_it_is_sent_ends_early(backend) {
        let site = Site::new(b"");
        let length = 256 << 20;
        write_sparse(&site.file(), length);
        let xps = site.start(backend);
        let mut stream = connect(xps.address());
        stream.read_exact(&mut [0; 100_000]).expect("the file has begun");
        File::options().write(true).open(site.file()).expect("it is there").set_len(0).expect("it can be cut");
        let (rest, _reset_or_end) = read_until_cut(&stream);
        assert!((rest.len() as u64) < length / 2, "{} bytes came of a file that was cut", rest.len());
        std::fs::write(site.file(), b"whole again").expect("it can be written");
        assert_eq!(download(&xps), b"whole again");
    }

    fn a_client_that_goes_away_harms_nobody(backend) {
        let content = Content::bytes(4, bulk(16 << 20));
        let site = Site::new(&content);
        let xps = site.start(backend);
        for _ in 0..8 {
            let mut stream = connect(xps.address());
            stream.read_exact(&mut [0; 1000]).expect("the file has begun");
            reset(stream);
        }
        assert_same_bytes(&download(&xps), &content);
    }

    fn what_a_client_says_does_not_matter(backend) {
        let content = Content::bytes(5, 200_000);
        let site = Site::new(&content);
        let xps = site.start(backend);
        let mut stream = connect(xps.address());
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the server takes it");
        let (received, _reset_or_end) = read_until_cut(&stream);
        assert!(content.starts_with(&received), "something else was sent");
    }
}
