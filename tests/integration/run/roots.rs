//! Folders, the configuration and the program are followed by the paths that lead to them: a link that is switched, a folder
//! that is made again, a file system that is mounted or unmounted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::place::{Place, Service, files, routes, wait_for_end};
use crate::support::namespace::Mounts;
use crate::support::process::Signal;
use crate::support::{Backend, Content, Launch, Xps, assert_same_bytes, backends, connect, eventually, read_rest};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";
const GONE: &str = "cannot open the root folder: requests for it get 503";

#[track_caller]
fn ask(wire: &mut Wire, target: &str) -> Response {
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    wire.response()
}

/// Status and text of `/page`.
#[track_caller]
fn page(wire: &mut Wire) -> String {
    let response = ask(wire, "/page");
    format!("{} {}", response.status, response.text())
}

/// Makes a link lead elsewhere, in one step.
#[track_caller]
fn switch(link: &Path, target: &str) {
    let new = link.with_extension("new");
    symlink(target, &new).expect("a link");
    fs::rename(new, link).expect("the same folder");
}

/// Releases `one` and `two`, each with a page that says so, and `current`, which leads to the first.
fn releases(backend: Backend) -> Place {
    let place = Place::new(backend);
    place.page("one", "one");
    place.page("two", "two");
    switch(&place.path("current"), "one");
    place
}

/// `xps run` in the place's folder, with a log as detailed as it is asked for.
fn run(backend: Backend, place: &Place) -> Launch {
    Launch::new(backend, ["run"]).in_folder(&place.path("."))
}

/// With this written in the limits of the store.
fn configure(place: &Place, folder: &str, store: Value) {
    place.configure_with([files(HERE, folder)], |document| document["limits"]["store"] = store);
}

backends! {
    fn a_switched_link_is_followed_and_downloads_end_with_what_they_began(backend) {
        let place = releases(backend);
        let content = Content::bytes(7, 24 << 20);
        fs::write(place.path("one/large"), &content).expect("room");
        place.configure([files(HERE, "current")]);
        let service = place.start();
        let (mut wire, mut download) = (Wire::to(service.address()), Wire::to(service.address()));
        assert_eq!(page(&mut wire), "200 one");
        download.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(download.head_only().length(), Some(content.len() as u64));
        switch(&place.path("current"), "two");
        eventually("the new release, on the old connection", || page(&mut wire) == "200 two");
        // A worker that has looked a moment ago has the old one for the rest of its second.
        eventually("the new release, at each worker", || {
            page(&mut Wire::to(service.address()));
            service.count("root path leads to another folder now") == 2
        });
        fs::remove_dir_all(place.path("one")).expect("it was there");
        for _ in 0..20 {
            assert_eq!(page(&mut Wire::to(service.address())), "200 two", "never again the old one");
            assert_eq!(ask(&mut wire, "/large").status, 404);
        }
        assert_same_bytes(&download.take(content.len()), &content);
    }

    fn a_folder_that_is_gone_is_503_with_a_warning_and_one_made_again_is_served(backend) {
        let place = Place::new(backend);
        place.page("dist", "older");
        fs::write(place.path("dist/other"), "other").expect("room");
        place.configure_with([files(HERE, "dist")], |document| document["workers"] = json!(1));
        let service = place.start();
        let mut wire = Wire::to(service.address());
        assert_eq!(page(&mut wire), "200 older");
        assert_eq!(ask(&mut wire, "/").status, 200);
        let record = service.until_told(GONE, || {
            fs::remove_dir_all(place.path("dist")).expect("it was there");
            eventually("503", || ask(&mut wire, "/").status == 503);
        });
        assert!(record.text("path").is_some_and(|path| path.ends_with("/dist")), "{record}");
        let refused = ask(&mut wire, "/page");
        assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
        place.page("dist", "newer");
        eventually("the new page", || page(&mut wire) == "200 newer");
        assert_eq!(ask(&mut wire, "/other").status, 404, "nothing of the old folder is left");
        // A rename away and back is the same folder.
        fs::rename(place.path("dist"), place.path("aside")).expect("the same folder");
        eventually("503", || ask(&mut wire, "/page").status == 503);
        fs::rename(place.path("aside"), place.path("dist")).expect("the same folder");
        eventually("the page is back", || page(&mut wire) == "200 newer");
        eventually("each is told once", || (service.count(GONE), service.count("root folder can be opened again")) == (2, 2));
    }

    fn a_command_line_s_folder_is_followed_also_if_it_is_where_the_server_was_started(backend) {
        let place = releases(backend);
        let current = place.path("current");
        let name = current.to_str().expect("text");
        let serve = |folder: &str| Launch::new(backend, ["serve", folder, "--listen", "127.0.0.1:0", "--access-log", "off"]);
        // As a shell says it, the second time.
        for launch in [serve(name), serve(".").in_folder(&current).through(["env", &format!("PWD={name}")])] {
            switch(&current, "one");
            let xps = launch.start();
            let mut wire = Wire::to(xps.address());
            assert_eq!(page(&mut wire), "200 one");
            switch(&current, "two");
            eventually("the new release", || page(&mut wire) == "200 two");
        }
    }

    fn a_file_that_is_sent_is_followed(backend) {
        let place = releases(backend);
        let send = |path: &str| Launch::new(backend, ["send", path, "--listen", "127.0.0.1:0"]).in_folder(&place.path("."));
        let root = place.path("current");
        for launch in [send("current/page"), send("current/page").flag("--root").flag(root.display())] {
            switch(&root, "one");
            let xps = launch.start();
            let sent = |xps: &Xps| String::from_utf8(read_rest(&connect(xps.address()))).expect("text");
            assert_eq!(sent(&xps), "one");
            switch(&root, "two");
            eventually("the new release", || sent(&xps) == "two");
        }
    }

    fn what_is_not_asked_for_can_be_unmounted_and_what_is_mounted_is_served(backend) {
        let test = "what_is_not_asked_for_can_be_unmounted_and_what_is_mounted_is_served";
        let place = Place::new(backend);
        place.page("folder", "beneath");
        // The least that a folder is kept is a second.
        configure(&place, "folder", json!({ "idle_for": "100ms" }));
        let folder = place.path("folder");
        let mount = format!("mount -t tmpfs none {0} && echo mounted > {0}/page && head -c 100000 /dev/zero > {0}/large", folder.display());
        let Some(mounts) = Mounts::made_by(test, &mount) else { return };
        let service = Service::new(place.launch().through(mounts.words.clone()).start());
        let mut wire = Wire::to(service.address());
        assert_eq!(page(&mut wire), "200 mounted\n");
        assert_eq!(ask(&mut wire, "/large").status, 200, "it is kept open");
        eventually("it can be unmounted", || mounts.run(service.pid(), &format!("umount {}", folder.display())));
        assert_eq!(page(&mut wire), "200 beneath", "looked for as soon as it is asked for again");
        assert!(mounts.run(service.pid(), &mount));
        eventually("what is mounted over it", || page(&mut wire) == "200 mounted\n");
    }

    fn a_reload_keeps_what_is_cached(backend) {
        let place = Place::new(backend);
        place.page("folder", "a small page");
        fs::write(place.path("folder/text.txt"), "some text\n".repeat(10_000)).expect("room");
        let configure = |folder: &str| {
            place.configure_with([files(HERE, folder)], |document| {
                document["workers"] = json!(1);
                document["limits"]["store"] = json!({ "valid_for": "10m", "idle_for": "10m" });
            });
        };
        configure("folder");
        let service = Service::new(run(backend, &place).logging("info,xps::driver::ops=trace").start());
        let mut wire = Wire::to(service.address());
        let mut get = |target: &str, lines: &str| {
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
            assert_eq!(wire.response().status, 200, "{target}");
        };
        let mut all = || {
            get("/page", "");
            get("/text.txt", "");
            get("/text.txt", "Accept-Encoding: gzip\r\n");
            get("/", "");
        };
        let work = |kind: &'static str| {
            let records = service.first.log().records();
            records.iter().filter(|record| record.message() == "submit" && record.text("kind") == Some(kind)).count()
        };
        let kinds = ["open", "read", "list", "compute"];
        all();
        // The log is written by a thread of its own: so a reload, which is logged after all that.
        service.reload();
        let before = kinds.map(work);
        assert!(before.iter().all(|count| *count > 0), "{before:?}");
        // The same folder by another path is the same folder.
        switch(&place.path("link"), "folder");
        for folder in ["folder", "folder", "link"] {
            configure(folder);
            service.reload();
            all();
        }
        service.reload();
        assert_eq!(kinds.map(work), before);
    }

    fn a_reload_reads_the_file_that_its_path_leads_to_now(backend) {
        let place = releases(backend);
        for release in ["one", "two"] {
            place.configure([files(HERE, "www")]);
            let folder = place.path(release);
            fs::rename(place.file(), folder.join("xps.json")).expect("the same file system");
            fs::create_dir(folder.join("www")).expect("a folder");
            fs::rename(folder.join("page"), folder.join("www/page")).expect("the same folder");
        }
        let run = |file: &str| Launch::new(backend, ["run", file]);
        let current = place.path("current");
        let pwd = format!("PWD={}", current.display());
        for launch in [run("current/xps.json").in_folder(&place.path(".")), run("xps.json").in_folder(&current).through(["env", &pwd])] {
            switch(&current, "one");
            let mut service = Service::new(launch.start());
            let mut wire = Wire::to(service.address());
            assert_eq!(page(&mut wire), "200 one");
            switch(&current, "two");
            service.reload();
            eventually("the other file's folder", || page(&mut wire) == "200 two");
            // Where the old path is gone, the new process must not look for anything there.
            switch(&current, "one");
            service.replace();
            assert_eq!(service.first.wait().code(), Some(0));
            assert_eq!(page(&mut Wire::to(service.address())), "200 one");
        }
    }

    fn a_replacement_is_the_program_that_the_path_leads_to_now(backend) {
        let place = releases(backend);
        place.configure([files(HERE, "one")]);
        // The new program leaves a mark and becomes the old one. A shell writes it, since nothing that is open to be written in
        // this process, or in one that it is about to start, can be executed.
        let program = env!("CARGO_BIN_EXE_xps");
        let (mark, current) = (place.path("mark"), place.path("current"));
        let script = r#"printf '#!/bin/sh\n: > "%s"\nexec "%s" "$@"\n' "$1" "$2" > "$3" && chmod +x "$3""#;
        let made = Command::new("sh").args(["-c", script, "sh"]).args([&mark, Path::new(program), &place.path("two/xps")]).status();
        assert!(made.expect("sh starts").success());
        symlink(program, place.path("one/xps")).expect("a link");
        let called = current.join("xps");
        let start = run(backend, &place).through(["sh", "-c", r#"called=$0; shift; exec "$called" "$@""#, called.to_str().expect("text")]);
        let mut service = Service::new(start.start());
        let first = service.pid();
        assert_eq!(page(&mut Wire::to(service.address())), "200 one");
        switch(&current, "two");
        service.replace();
        assert!(mark.exists(), "the new program was started");
        wait_for_end(first);
        assert_eq!(page(&mut Wire::to(service.address())), "200 one");
        service.signal(Signal::Terminate);
        wait_for_end(service.pid());
    }

    fn a_root_that_is_gone_at_a_reload_refuses_it(backend) {
        let place = releases(backend);
        place.configure([routes(HERE, json!([{ "req_path": "/", "type": "file_serve", "dir_path": "one" }]))]);
        let service = place.start();
        place.configure([files(HERE, "nothing")]);
        service.until_told("the configuration is refused, and nothing has changed", || service.signal(Signal::Hangup));
        assert_eq!(page(&mut Wire::to(service.address())), "200 one");
    }

    /// They share what is cached of it, and their answers must not be mixed up, in the same second and after a reload either.
    fn routes_of_one_folder_answer_each_in_its_own_way(backend) {
        let place = Place::new(backend);
        place.page("folder", "a page");
        fs::write(place.path("folder/text.txt"), "some text that is here to be compressed\n".repeat(2000)).expect("room");
        let configure = |round: &str| {
            let route = |path: &str, level: u8| {
                let own = format!("{round}{path}");
                json!({ "req_path": path, "type": "file_serve", "dir_path": "folder", "headers": { "set": { "X-Own": own } }, "gzip_level": level })
            };
            place.configure_with([routes(HERE, json!([route("/a", 1), route("/b", 9)]))], |document| document["workers"] = json!(1));
        };
        configure("first");
        let service = place.start();
        let mut wire = Wire::to(service.address());
        let mut tag = String::new();
        for round in ["first", "second", "third"] {
            configure(round);
            service.reload();
            eventually("the configuration", || ask(&mut wire, "/a/page").field("X-Own") == Some(&format!("{round}/a")));
            for _ in 0..100 {
                for route in ["/a", "/b"] {
                    let own = format!("{round}{route}");
                    let response = ask(&mut wire, &format!("{route}/page"));
                    assert_eq!((response.status, response.field("X-Own")), (200, Some(own.as_str())));
                    response.field("ETag").expect("a tag").clone_into(&mut tag);
                    wire.send(format!("GET {route}/page HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tag}\r\n\r\n"));
                    let response = wire.response();
                    assert_eq!((response.status, response.field("X-Own")), (304, Some(own.as_str())));
                }
            }
            let mut coded = |route: &str| {
                wire.send(format!("GET {route}/text.txt HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n"));
                wire.response().body.len()
            };
            assert_ne!(coded("/a"), coded("/b"), "each level by itself");
        }
    }
}
