//! Paths: whatever their spelling, nothing outside the root is ever served, and nothing special is read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::http::site::Site;
use crate::support::bridge::Over;
use crate::support::{Backend, backends, skip};
use xps::internals::driver::sim::Rng;

/// What lies beside the root, and must never be seen.
const SECRET: &str = "what lies outside";

/// A root with links of every kind; beside it a secret, which `root/../secret` would be.
#[track_caller]
fn tree(root: &Path) {
    let make = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let outer = root.parent().expect("it has one");
    fs::write(outer.join("secret"), SECRET).expect("a file");
    fs::create_dir(outer.join("outside")).expect("a folder");
    fs::write(outer.join("outside/secret"), SECRET).expect("a file");
    make("file", "file");
    make("sub/leaf", "leaf");
    make("sub/deep/leaf", "deep leaf");
    make(".hidden", SECRET);
    make(".git/config", SECRET);
    make("sub/.hidden", SECRET);
    make(".well-known/security.txt", "well known");
    make("..;/leaf", "an odd folder");
    let link = |target: &str, name: &str| symlink(target, root.join(name)).expect("a link");
    link("sub/deep/leaf", "inside");
    link("sub", "folder");
    link("../file", "sub/up");
    link("../secret", "out");
    link("../outside", "out-folder");
    link("../../secret", "sub/out");
    link("out", "twice");
    link("loop", "loop");
    link("nothing", "dangling");
    symlink(outer.join("secret"), root.join("absolute")).expect("a link");
    symlink(root.join("file"), root.join("absolute-inside")).expect("a link");
    symlink("/etc/passwd", root.join("passwd")).expect("a link");
    symlink("/", root.join("slash")).expect("a link");
}

/// What random paths are made of: names that are there, links that lead astray, and ways to say "up".
const PIECES: &[&str] = &[
    "..",
    "%2e%2e",
    "..%2f..",
    "%252e%252e",
    ".",
    "",
    "sub",
    "deep",
    "folder",
    "file",
    "leaf",
    "up",
    "out",
    "out-folder",
    "outside",
    "secret",
    "twice",
    "absolute",
    "slash",
    "etc",
    "passwd",
    "loop",
    "dangling",
    "root",
    ".hidden",
    ".git",
    "config",
    "..;",
    "%2f",
    "proc",
    "self",
    "environ",
];

backends! {
    fn row_40_no_path_of_random_pieces_leads_out_of_the_root(backend) {
        let site = Site::of(backend, &[], tree);
        let mut found = 0;
        for seed in 0..1500 {
            let mut rng = Rng::new(seed);
            let pieces: Vec<_> = (0..rng.range(1, 8)).map(|_| PIECES[rng.below(PIECES.len() as u64) as usize]).collect();
            let target = format!("/{}", pieces.join("/"));
            let response = site.get(&target);
            let text = response.text();
            assert!(!text.contains(SECRET) && !text.contains("root:"), "{target}: {text}");
            found += u32::from(response.status == 200);
        }
        assert!(found > 20, "{found} paths led to something");
    }

    fn rows_40_77_78_and_88_nothing_outside_the_root_is_ever_served(backend) {
        let site = Site::of(backend, &["--dot-files"], tree);
        let ups = [
            "..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%2f..", "%2e%2e%2f%2e%2e", "..%5c..", "..\\..", "..%00",
            "..;", "..;a=b", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%uff0e%uff0e", "....", "..././", "..%20", "..%09",
            "%2e%2e%5c", "..%c0%af", "..%252f", ".../", "..%0d%0a", "sub/../..", "sub/deep/../../..", "file/..", "./..", "//..",
            "folder/../..", "out-folder", "slash", "slash/etc", "absolute/..",
        ];
        let ends = ["secret", "outside/secret", "etc/passwd", "root/../secret", "proc/self/environ"];
        for up in ups {
            for end in ends {
                for target in [format!("/{up}/{end}"), format!("/{up}/{up}/{end}"), format!("/sub/{up}/{up}/{end}"),
                    format!("//{up}//{end}"), format!("/{up}%2f{end}"), format!("/folder/{up}/{up}/{up}/{end}"), format!("http://h/{up}/{end}")]
                {
                    let response = site.get(&target);
                    assert!(matches!(response.status, 400 | 403 | 404), "{target}: {response:?}");
                    let text = response.text();
                    assert!(!text.contains(SECRET) && !text.contains("root:"), "{target}: {text}");
                }
            }
        }
    }

    fn row_40_dots_and_slashes_within_the_root_are_resolved(backend) {
        let site = Site::of(backend, &[], tree);
        for target in ["/file", "//file", "///file", "/./file", "/sub/../file", "/sub/%2e%2e/file", "/%66ile", "/sub/deep/../../file",
            "/nothing/../file", "http://h/file", "/%2ffile", "/sub/..%2ffile"]
        {
            let response = site.get(target);
            assert_eq!((response.status, response.text().as_str()), (200, "file"), "{target}");
        }
        for target in ["/file/", "/file/x", "/file/.", "/nothing", "/sub/nothing", "/FILE", "/file%20", "/dangling"] {
            assert_eq!(site.get(target).status, 404, "{target}");
        }
        assert_eq!(site.get(&format!("/{}", "a".repeat(300))).status, 404);
        assert_eq!(site.get(&format!("/{}file", "sub/../".repeat(500))).status, 200);
        assert_eq!(site.get(&"/a".repeat(3000)).status, 404);
    }

    fn row_41_links_within_the_root_are_followed_and_others_are_not(backend) {
        let site = Site::of(backend, &[], tree);
        for (target, content) in [("/inside", "deep leaf"), ("/folder/leaf", "leaf"), ("/sub/up", "file"), ("/folder/up", "file")] {
            assert_eq!(site.get(target).text(), content, "{target}");
        }
        for target in ["/out", "/twice", "/sub/out", "/absolute", "/absolute-inside", "/passwd", "/slash", "/slash/etc/passwd",
            "/out-folder", "/out-folder/", "/out-folder/secret", "/loop"]
        {
            assert_eq!(site.get(target).status, 403, "{target}");
        }
        let listing = site.get("/").text();
        assert!(listing.contains("inside") && !listing.contains("passwd"), "{listing}");
    }

    /// Another process swaps a folder for a link out of the root, over and over.
    fn row_88_a_link_swapped_during_look_up_does_not_lead_out(backend) {
        let site = Site::of(backend, &[], tree);
        let folder = site.path("swapped");
        let spare = site.path("spare");
        const NAMES: usize = 2000;
        let outside = site.path("../outside");
        fs::create_dir(&folder).expect("a folder");
        for number in 0..NAMES {
            fs::write(folder.join(format!("secret{number}")), "harmless").expect("a file");
            fs::write(outside.join(format!("secret{number}")), SECRET).expect("a file");
        }
        symlink("../outside", &spare).expect("a link");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let aside = site.path("aside");
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&folder, &aside).expect("a rename");
                    fs::rename(&spare, &folder).expect("a rename");
                    fs::rename(&folder, &spare).expect("a rename");
                    fs::rename(&aside, &folder).expect("a rename");
                }
            });
            let mut wire = site.wire();
            let mut found = 0;
            for number in 0..NAMES {
                // Each its own file, so that nothing is answered from memory.
                wire.send(format!("GET /swapped/secret{number} HTTP/1.1\r\nHost: h\r\n\r\n"));
                let response = wire.response();
                found += usize::from(response.status == 200);
                assert!(!response.text().contains(SECRET), "{response:?}");
                assert!(matches!(response.status, 200 | 403 | 404 | 503), "{response:?}");
                if number % 100 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(0 < found && found < NAMES, "of {NAMES} look-ups {found} found the folder: none met the link");
        });
    }

    fn row_42_dot_files_are_not_there_unless_asked_for(backend) {
        let targets = ["/.hidden", "/.git/config", "/.git/", "/.git", "/sub/.hidden", "/%2ehidden", "/folder/.hidden", "/sub/%2Ehidden"];
        let site = Site::of(backend, &[], tree);
        for target in targets {
            let response = site.get(target);
            assert!(response.status == 404 && !response.text().contains(SECRET), "{target}: {response:?}");
        }
        assert_eq!(site.get("/.well-known/security.txt").text(), "well known");
        assert_eq!(site.get("/sub/.well-known/x").status, 404);
        assert!(!site.get("/").text().contains(".git"));
        let site = Site::of(backend, &["--dot-files"], tree);
        assert_eq!(site.get("/.hidden").text(), SECRET);
        assert_eq!(site.get("/sub/.hidden").text(), SECRET);
        assert!(site.get("/").text().contains(".git"));
    }

    fn row_43_fifos_sockets_and_devices_are_refused_at_once(backend) {
        let site = Site::of(backend, &[], |root| {
            let fifo = Command::new("mkfifo").arg(root.join("fifo")).status().expect("mkfifo starts");
            assert!(fifo.success());
            // Deliberately left open: the socket's file stays.
            let _socket = UnixListener::bind(root.join("socket")).expect("a socket");
            let device = Command::new("mknod").arg(root.join("null")).args(["c", "1", "3"]).status();
            if !device.is_ok_and(|status| status.success()) {
                skip("row_43, devices", "mknod is not allowed here");
                fs::write(root.join("null"), "").expect("a file");
                fs::remove_file(root.join("null")).expect("it was there");
            }
        });
        for name in ["fifo", "socket", "null"].iter().filter(|name| site.path(name).exists()) {
            for target in [format!("/{name}"), format!("/{name}/")] {
                let since = std::time::Instant::now();
                let status = site.get(&target).status;
                assert!(matches!(status, 403 | 404), "{target}: {status}");
                assert!(!(target.ends_with(name) && status != 403), "{target}: {status}");
                assert!(since.elapsed() < crate::support::patience() / 2, "{target} took {:?}", since.elapsed());
            }
        }
        assert_eq!(site.get("/").status, 200, "the listing names them without opening them");
    }

    fn row_44_what_may_not_be_read_is_forbidden_and_what_is_missing_is_not_found(backend) {
        let site = Site::of(backend, &[], |root| {
            for name in ["file", "folder/leaf"] {
                fs::create_dir_all(root.join("folder")).expect("a folder");
                fs::write(root.join(name), SECRET).expect("a file");
            }
            for name in ["file", "folder"] {
                fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o000)).expect("our own");
            }
        });
        if fs::read(site.path("file")).is_ok() {
            skip("row_44, permissions", "this user may read everything");
        } else {
            for target in ["/file", "/folder/", "/folder/leaf"] {
                assert_eq!(site.get(target).status, 403, "{target}");
            }
        }
        fs::set_permissions(site.path("folder"), fs::Permissions::from_mode(0o700)).expect("our own");
        assert_eq!(site.get("/nothing").status, 404);
    }

    fn rows_47_and_58_any_name_that_a_file_can_have_is_served_and_linked(backend) {
        let names: [&[u8]; 16] = [
            b"with space", b"100%", b"%41", b"quote\"s", b"apostrophe's", b"<b>&amp;", b"new\nline", b"cr\r\nSet-Cookie: x",
            "\u{e4}\u{f6}\u{fc} \u{1f980}".as_bytes(), b"\xff\xfe bytes", b"a?b=c", b"a#b", b"a;b", b"back\\slash", b"a:b", b"~+=,@&",
        ];
        let site = Site::of(backend, &[], |root| {
            for (number, name) in names.iter().enumerate() {
                fs::write(root.join(OsStr::from_bytes(name)), format!("file {number}")).expect("a file");
                let folder = root.join("folder").join(OsStr::from_bytes(name));
                fs::create_dir_all(folder).expect("a folder");
            }
        });
        let page = site.get("/").text();
        let links: Vec<&str> = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for (number, name) in names.iter().enumerate() {
            let escaped: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
            let expected = format!("file {number}");
            assert_eq!(site.get(&format!("/{escaped}")).text(), expected, "{}", name.escape_ascii());
            // One of the page's links leads there, too.
            let leads = |link: &&&str| decoded(link) == [b"/", *name].concat();
            let link = links.iter().find(leads).unwrap_or_else(|| panic!("{} is not linked: {page}", name.escape_ascii()));
            assert_eq!(site.get(link).text(), expected, "{link}");
            // Row 82: the redirect to a folder of that name stays one line.
            let response = site.get(&format!("/folder/{escaped}?q"));
            assert_eq!(response.status, 301);
            let location = response.field("Location").expect("a redirect leads somewhere");
            let path = location.strip_suffix("/?q").unwrap_or_else(|| panic!("{location}"));
            assert_eq!(decoded(path), [b"/folder/", *name].concat());
            assert_eq!(response.field("Set-Cookie"), None);
        }
        assert!(!page.contains("<b>&amp;<") && !page.contains("quote\"s"), "{page}");
    }

    fn rows_45_and_77_a_folder_without_its_slash_is_redirected_within_this_host(backend) {
        let site = Site::of(backend, &[], tree);
        for (target, location) in [("/sub", "/sub/"), ("/sub?a=b&c", "/sub/?a=b&c"), ("//sub", "/sub/"), ("///sub/deep", "/sub/deep/"),
            ("/sub/../sub", "/sub/"), ("/%2fsub", "/sub/"), ("/folder", "/folder/"), ("http://elsewhere/sub", "/sub/"), ("/sub?", "/sub/?")]
        {
            let response = site.get(target);
            assert_eq!((response.status, response.field("Location")), (301, Some(location)), "{target}");
            assert_eq!(response.length(), Some(0));
        }
        for target in ["//", "///", "//example.org/..", "//."] {
            let response = site.get(target);
            assert_eq!((response.status, response.field("Location")), (200, None), "{target}");
        }
        let head = site.head("/sub", "");
        assert_eq!((head.status, head.field("Location")), (301, Some("/sub/")));
    }

    fn row_33_a_query_is_opaque_and_a_path_is_not(backend) {
        let site = Site::of(backend, &[], tree);
        for query in ["q=100%", "q=20%+tax+rate", "%", "%zz", "%00", "q=\u{2019}", "sort=size&x=%\u{fc}"] {
            assert_eq!(site.get(&format!("/file?{query}")).text(), "file", "{query}");
            assert_eq!(site.get(&format!("http://h/file?{query}")).text(), "file", "{query}");
            assert_eq!(site.get(&format!("/sub/?{query}")).status, 200, "{query}");
        }
        for (query, location) in [("q=100%", "/sub/?q=100%"), ("q=\u{2019}%2f", "/sub/?q=%E2%80%99%2f")] {
            assert_eq!(site.get(&format!("/sub?{query}")).field("Location"), Some(location));
        }
        let status = |target: &[u8]| site.fate(&[b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat()).0.status;
        assert_eq!(status(b"/file?\xff\xfe\x80"), 200, "whatever its octets mean");
        for target in [
            &b"/file?a\xc3 b"[..], b"/file?a\tb", b"/file?a\0", b"/file?\xc3\xa9\x7f", b"/file?\xc3\xa9#x", b"/file?a#x",
            b"/fil\xc3\xa9?q", b"/\xc3\xa9", b"/file%?q", b"/%zz", b"http://h\xc3\xa9/?q",
        ] {
            // In HTTP/2 a control character makes a head malformed, which resets its stream.
            if Over::asked().is_http2() && target.iter().any(u8::is_ascii_control) {
                continue;
            }
            assert_eq!(status(target), 400, "{}", target.escape_ascii());
        }
    }

    fn row_46_index_files_then_the_listing_then_403(backend) {
        let fill = |root: &Path| {
            for folder in ["both", "second", "none", "wrong/index.html"] {
                fs::create_dir_all(root.join(folder)).expect("a folder");
            }
            fs::write(root.join("both/index.html"), "first").expect("a file");
            fs::write(root.join("both/default.htm"), "second").expect("a file");
            fs::write(root.join("second/default.htm"), "second").expect("a file");
            symlink("/etc/passwd", root.join("none/default.htm.link")).expect("a link");
        };
        let check = |backend: Backend, flags: &[&str], none: u16| {
            let site = Site::of(backend, &[&["--index", "index.html,default.htm"][..], flags].concat(), fill);
            assert_eq!(site.get("/both/").text(), "first");
            assert_eq!(site.get("/both/?query").text(), "first");
            assert_eq!(site.get("/second/").text(), "second");
            assert_eq!(site.get("/none/").status, none);
            assert_eq!(site.get("/wrong/").status, none, "an index that is a folder is none");
            assert_eq!(site.get("/both").status, 301);
        };
        check(backend, &[], 200);
        check(backend, &["--no-listing"], 403);
    }

    fn a_fallback_stands_for_what_does_not_exist(backend) {
        let site = Site::of(backend, &["--fallback", "app.html"], |root| {
            tree(root);
            fs::write(root.join("app.html"), "the application").expect("a file");
        });
        for target in ["/none", "/none/none", "/file/"] {
            let response = site.get(target);
            assert_eq!((response.status, response.text().as_str()), (200, "the application"), "{target}");
            assert_eq!(response.field("Content-Type"), Some("text/html"));
        }
        assert_eq!(site.get("/file").text(), "file");
        for (target, status) in [("/out", 403), ("/../x", 400), ("/.hidden", 404)] {
            assert_eq!(site.get(target).status, status, "{target}");
        }
        let site = Site::new(backend, &["--fallback", "missing.html"]);
        assert_eq!(site.get("/none").status, 404);
    }
}

/// The bytes that a link's path stands for.
fn decoded(link: &str) -> Vec<u8> {
    // In HTML only `&` needs another escape, and paths have it percent-encoded.
    let (mut bytes, mut rest) = (Vec::new(), link.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(&after[..2]).expect("digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}
