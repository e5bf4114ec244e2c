//! Clients that send and are not read, and clients that do not read: what they hold is bounded, and others are served.

use std::os::unix::net::UnixListener;

use serde_json::json;
use tempfile::TempDir;

use super::rig::{HELD, Rig, expect_service};
use crate::support::environment::report;
use crate::support::files::write_sparse;
use crate::support::h2::client::Connection;
use crate::support::h2::frame::{Frame, setting};
use crate::support::{Content, assert_same_bytes, backends, is_wrapped};

const STREAMS: usize = 100;

/// The defaults.
const CONNECTION_WINDOW: usize = 256 << 10;
const STREAM_WINDOW: usize = 64 << 10;

/// What one connection may make the server hold, with what its allocator keeps.
const HELD_BYTES_MAX: u64 = 4 << 20;

backends! {
    fn a_hundred_uploads_that_are_not_read_hold_no_more_than_the_windows(backend) {
        // Connections that nothing accepts are complete, and take what fits into their socket buffers. Those of a Unix
        // socket have a fixed size. A TCP socket's grow to megabytes, and how far differs from run to run.
        let folder = TempDir::new().expect("a temporary directory");
        let socket = folder.path().join("held");
        let _upstream = UnixListener::bind(&socket).expect("a new file");
        let rig = Rig::with(backend, |document| {
            // A PING follows each round of uploads.
            document["limits"]["http2"]["pings_per_second"] = json!(1_000_000);
            document["limits"]["http2"]["connection_window"] = json!(CONNECTION_WINDOW);
            document["limits"]["http2"]["stream_window"] = json!(STREAM_WINDOW);
            let upstream = format!("unix:{}", socket.display());
            let route = json!({ "req_path": HELD, "type": "reverse_proxy", "upstreams": [upstream] });
            document["servers"][0]["routes"].as_array_mut().expect("routes").insert(0, route);
        });
        expect_service(&mut rig.connection());
        let before = rig.usage().rss_bytes;
        let mut connection = rig.connection();
        let streams: Vec<u32> = (0..STREAMS).map(|_| connection.open("POST", HELD, &[])).collect();
        // As long as windows are given, which they are until the socket buffers of the upstreams are full. Whether there is
        // room is known after the pong: a window may be granted right before it.
        let mut sent = 0;
        loop {
            for stream in &streams {
                let room = connection.send_room(*stream).min(16 << 10);
                if room > 0 {
                    connection.send_frame(&Frame::data(*stream, vec![0; room], false));
                    connection.note_sent(*stream, room);
                    sent += room;
                }
            }
            connection.ping().expect("the connection goes on");
            let has_room = streams.iter().any(|stream| connection.send_room(*stream) > 0);
            if !has_room && connection.is_silent(std::time::Duration::from_millis(300)) {
                break;
            }
        }
        let grown = rig.usage().rss_bytes.saturating_sub(before);
        report(&format!("{STREAMS} uploads that are not read over {backend:?}: {} KiB held, {} KiB sent", grown >> 10, sent >> 10));
        // Each of them may have a window lent. What is held of a body is a vector that grows by doubling: up to twice the
        // bytes, and as many again that the allocator keeps of the smaller vectors before.
        let windows = CONNECTION_WINDOW + STREAMS * STREAM_WINDOW;
        assert!(is_wrapped() || grown < 3 * windows as u64, "{grown} bytes are held");
        // No upload waits for a window while its upstream has room.
        assert!(sent > windows, "only {sent} bytes were taken");
        expect_service(&mut rig.connection());
        // A download on the same connection needs none of that window.
        let stream = connection.request("HEAD", "/files/page", &[]);
        for number in [0, 1] {
            // One of a hundred that wait is one too many.
            if number == 0 {
                connection.read_until("an end", |connection| connection.is_over(stream));
                connection.send_frame(&Frame::reset(streams[0], 8));
                connection.ping().expect("the connection goes on");
            } else {
                let stream = connection.get("/files/page");
                assert_eq!(connection.response(stream).status, 200);
            }
        }
    }

    fn a_hundred_downloads_without_a_window_hold_bounded_memory_and_arrive_in_the_end(backend) {
        const LENGTH: usize = 300_000;
        let rig = Rig::new(backend);
        rig.write("large", Content::bytes(5, LENGTH));
        expect_service(&mut rig.connection());
        let before = rig.usage().rss_bytes;
        let mut connection = Connection::with_settings(rig.address(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        let streams: Vec<u32> = (0..STREAMS).map(|_| connection.get("/files/large")).collect();
        connection.read_until("all heads", |connection| streams.iter().all(|stream| connection.seen(*stream).status == 200));
        connection.ping().expect("the connection goes on");
        let grown = rig.usage().rss_bytes.saturating_sub(before);
        report(&format!("{STREAMS} downloads without a window over {backend:?}: {} KiB held", grown >> 10));
        assert!(is_wrapped() || grown < HELD_BYTES_MAX, "{grown} bytes are held");
        assert!(streams.iter().all(|stream| connection.seen(*stream).body.is_empty()));
        expect_service(&mut rig.connection());
        // First a trifle for each, then all.
        let windows: Vec<u8> = streams.iter().flat_map(|stream| Frame::window_update(*stream, 1).bytes()).collect();
        streams.iter().for_each(|stream| connection.note_granted(*stream, 1));
        connection.send(windows);
        connection.read_until("a byte each", |connection| streams.iter().all(|stream| connection.seen(*stream).body.len() == 1));
        for stream in &streams {
            connection.grant(*stream, LENGTH as u32);
        }
        for stream in &streams {
            assert_same_bytes(&connection.response(*stream).body, &Content::bytes(5, LENGTH));
        }
        connection.finish();
    }

    fn a_client_that_reads_nothing_holds_bounded_memory(backend) {
        let rig = Rig::new(backend);
        write_sparse(&rig.place.path("site").join("sparse"), 1 << 30);
        expect_service(&mut rig.connection());
        let before = rig.usage().rss_bytes;
        let largest = (1 << 31) - 1;
        let mut connection = Connection::with_settings(rig.address(), &[(setting::INITIAL_WINDOW_SIZE, largest)]);
        connection.grant(0, largest - 65_535);
        for _ in 0..STREAMS {
            connection.get("/files/sparse");
        }
        for _ in 0..20 {
            expect_service(&mut rig.connection());
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        let grown = rig.usage().rss_bytes.saturating_sub(before);
        report(&format!("{STREAMS} downloads that are not read over {backend:?}: {} KiB held", grown >> 10));
        assert!(is_wrapped() || grown < 2 * HELD_BYTES_MAX, "{grown} bytes are held");
    }

    fn window_settings_may_change_at_any_time(backend) {
        const LENGTH: usize = 200_000;
        let rig = Rig::new(backend);
        rig.write("large", Content::bytes(6, LENGTH));
        let mut connection = rig.connection();
        let stream = connection.get("/files/large");
        connection.read_until("a beginning", |connection| !connection.seen(stream).body.is_empty());
        for window in [0, 1 << 20, 5, 0, 70_000] {
            let settings = [(setting::INITIAL_WINDOW_SIZE, window)];
            // What comes before the acknowledgement is counted by the old one: the larger of both is allowed.
            let acks = connection.settings_acks;
            connection.send_frame(&Frame::settings(&settings));
            connection.read_until("its acknowledgement", |connection| connection.settings_acks > acks || connection.is_over(stream));
            connection.note_settings(&settings);
        }
        assert_same_bytes(&connection.response(stream).body, &Content::bytes(6, LENGTH));
    }
}
