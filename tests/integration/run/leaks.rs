//! What reloads leave behind: nothing, also while connections stay open.

use serde_json::json;

use crate::place::{Place, Service, routes};
use crate::run::reload::{proxied, upstream};
use crate::support::process::Usage;
use crate::support::{backends, eventually};
use crate::wire::Wire;

const RELOADS: usize = 50;

/// What malloc and the caches of two workers may differ by.
const RSS_SLACK_BYTES: u64 = 16 << 20;

/// The numbers of the threads with this name.
pub fn threads(service: &Service, name: &str) -> Vec<String> {
    let folder = format!("/proc/{}/task", service.pid());
    let tasks = std::fs::read_dir(folder).expect("the process lives").flatten();
    let is_it =
        |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let mut numbers: Vec<String> =
        tasks.filter(|task| is_it(&task.path())).map(|task| task.file_name().to_string_lossy().into_owned()).collect();
    numbers.sort();
    numbers
}

#[track_caller]
fn expect_page(wire: &mut Wire) {
    wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(wire.response().status, 200);
}

backends! {
    fn reloads_leave_no_thread_descriptor_or_memory_behind(backend) {
        let place = Place::new(backend);
        place.page("folder", "here");
        let upstream = upstream("from the upstream");
        let configure = |number: usize| {
            let files = json!({ "req_path": "/", "type": "file_serve", "dir_path": "folder" });
            let mut other = routes("127.0.0.2", json!([files]));
            // One log is another one each time, one stays.
            other["access_log"] = json!(format!("log-{number}"));
            let mut here = routes("127.0.0.1", json!([files, proxied("/chat", &upstream)]));
            here["access_log"] = json!("kept-log");
            place.configure([here, other]);
        };
        configure(0);
        let service = Service::new(place.launch().listening_on(2).start());
        let (here, there) = (service.address_on("127.0.0.1"), service.address_on("127.0.0.2"));
        let mut upgraded = Wire::to(here);
        upgraded.send("GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(upgraded.response().status, 101);
        let mut idle = Vec::new();
        let mut reload = |number: usize| {
            for address in [here, there] {
                let mut wire = Wire::to(address);
                expect_page(&mut wire);
                idle.push(wire);
            }
            configure(number);
            service.reload();
        };
        (1..=3).for_each(&mut reload);
        let logs = || threads(&service, "xps-access-log");
        eventually("two logs are open", || logs().len() == 2);
        let (before, kept) = (Usage::of(service.first.pid()), logs());
        (4..=3 + RELOADS).for_each(&mut reload);
        eventually("no more logs are open than are named", || logs().len() == 2);
        assert!(kept.iter().any(|number| logs().contains(number)), "a log that stays keeps its thread");
        let usage = || Usage::of(service.first.pid());
        eventually("no descriptors but those of connections", || usage().descriptors <= before.descriptors + 2 * RELOADS);
        let grown = usage().rss_bytes.saturating_sub(before.rss_bytes);
        assert!(grown < RSS_SLACK_BYTES, "{grown} bytes more");
        // All of them are still served.
        upgraded.send("hello");
        assert_eq!(upgraded.take(5), b"hello");
        idle.iter_mut().for_each(expect_page);
        eventually("what they asked for is in the log that is named now", || {
            std::fs::read_to_string(place.path(&format!("log-{}", 3 + RELOADS))).is_ok_and(|log| log.lines().count() >= RELOADS)
        });
    }
}
