//! Clients that send and are not read, and clients that do not read: what they hold is bounded, and others are served.

use super::rig::{HELD, Rig, expect_service};
use crate::support::environment::report;
use crate::support::h2::frame::{Frame, setting};
use crate::support::{Content, assert_same_bytes, backends, is_wrapped};

const STREAMS: usize = 100;

/// What one connection may make the server hold, with what its allocator keeps.
const HELD_BYTES_MAX: u64 = 4 << 20;

backends! {
    fn a_hundred_uploads_that_are_not_read_hold_no_more_than_the_connections_window(backend) {
        let rig = Rig::new(backend);
        expect_service(&mut rig.connection());
        let before = rig.usage().rss_bytes;
        let mut connection = rig.connection();
        let streams: Vec<u32> = (0..STREAMS).map(|_| connection.open("POST", HELD, &[])).collect();
        // As long as windows are given.
        let mut sent = 0;
        loop {
            let mut has_sent = false;
            for stream in &streams {
                let room = connection.send_room(*stream).min(16 << 10);
                if room > 0 {
                    connection.send_frame(&Frame::data(*stream, vec![0; room], false));
                    connection.note_sent(*stream, room);
                    sent += room;
                    has_sent = true;
                }
            }
            connection.ping().expect("the connection goes on");
            if !has_sent && connection.is_silent(std::time::Duration::from_millis(300)) {
                break;
            }
        }
        let grown = rig.usage().rss_bytes.saturating_sub(before);
        report(&format!("{STREAMS} uploads that are not read over {backend:?}: {} KiB held, {} KiB sent", grown >> 10, sent >> 10));
        assert!(is_wrapped() || grown < HELD_BYTES_MAX, "{grown} bytes are held");
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
