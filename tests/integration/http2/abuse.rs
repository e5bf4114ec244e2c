//! What costs a client little and a server much (RFC 9113, 10.5): each has a limit, beyond which the connection ends with
//! ENHANCE_YOUR_CALM, or the stream with REFUSED_STREAM. Others are served meanwhile.

use std::time::Instant;

use super::rig::{HELD, Rig, expect_service};
use crate::support::environment::report;
use crate::support::h2::attack;
use crate::support::h2::client::{Connection, Fault};
use crate::support::h2::frame::{Frame, code, setting};
use crate::support::{Backend, backends, is_wrapped};

/// What an attack may cost: memory that stays, and processor time for each of its bytes. In a debug build everything takes
/// many times longer.
const GROWN_MAX: u64 = 4 << 20;
const NANOSECONDS_A_BYTE_MAX: u128 = if cfg!(debug_assertions) { 3000 } else { 150 };

/// Sends this to a server in pieces while it takes them, and expects GOAWAY(ENHANCE_YOUR_CALM), a count of `limit`, and that
/// another connection is served all the time.
#[track_caller]
fn expect_calm(backend: Backend, limit: &str, attack: &[u8]) {
    let rig = Rig::new(backend);
    let mut good = rig.connection();
    expect_service(&mut good);
    let before = rig.usage();
    let mut bad = rig.connection();
    // The attacker does not look at what comes of its streams.
    for _ in 0..2000 {
        bad.new_stream();
    }
    let mut sent = 0;
    let since = Instant::now();
    for piece in attack.chunks(16 << 10) {
        sent += piece.len();
        if bad.try_send(piece).is_err() {
            break;
        }
    }
    let goaway = bad.expect_goaway();
    let usage = rig.usage();
    let cpu = usage.cpu.saturating_sub(before.cpu);
    let grown = usage.rss_bytes.saturating_sub(before.rss_bytes);
    report(&format!(
        "{limit} over {backend:?}: {sent} bytes, {:?} of processor time, {} KiB, over after {:?}: {}",
        cpu,
        grown >> 10,
        since.elapsed(),
        goaway.reason
    ));
    assert_eq!(goaway.code, code::ENHANCE_YOUR_CALM, "{goaway:?}");
    expect_service(&mut good);
    assert!(rig.exceeded(limit) >= 1, "{limit} is counted");
    assert!(is_wrapped() || grown < GROWN_MAX, "{grown} bytes of memory");
    // The clock of /proc ticks in hundredths of a second.
    let time_max = NANOSECONDS_A_BYTE_MAX * sent as u128 + 30_000_000;
    assert!(is_wrapped() || cpu.as_nanos() < time_max, "{cpu:?} for {sent} bytes");
}

backends! {
    fn rapid_resets(backend) {
        expect_calm(backend, "early_resets", &attack::rapid_resets());
    }

    fn made_you_reset(backend) {
        expect_calm(backend, "resets_emitted", &attack::made_you_reset());
    }

    fn continuations_without_end(backend) {
        expect_calm(backend, "continuations_max", &attack::empty_continuations());
    }

    fn continuations_of_a_field_each_without_end(backend) {
        expect_calm(backend, "continuations_max", &attack::continuations());
    }

    fn pings(backend) {
        expect_calm(backend, "pings_per_second", &attack::pings());
    }

    fn settings(backend) {
        expect_calm(backend, "settings_per_second", &attack::settings());
    }

    fn empty_data(backend) {
        expect_calm(backend, "empty_data_per_second", &attack::empty_data());
    }

    fn priorities(backend) {
        expect_calm(backend, "overhead_bytes", &attack::priorities());
    }

    fn unknown_frames(backend) {
        expect_calm(backend, "overhead_bytes", &attack::unknown_frames());
    }

    fn padding(backend) {
        let attack = [attack::post(1, "/count"), attack::padding(1, 250)].concat();
        // As much as the windows allow and no more: this alone breaks no limit.
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let stream = connection.new_stream();
        connection.send(attack);
        connection.note_sent(stream, 250 * 257);
        connection.upload(stream, b"", true);
        assert_eq!(connection.response(stream).text(), "250");
    }

    fn resets_of_streams_that_have_ended(backend) {
        expect_calm(backend, "resets_per_second", &attack::resets_of_ended_streams());
    }

    /// Of a body that is not wanted, and of one whose stream has ended long ago: not more than what may have been on its way.
    fn data_on_streams_that_were_left(backend) {
        for method in ["POST", "GET"] {
            let rig = Rig::new(backend);
            let mut connection = rig.connection();
            let stream = connection.request_of(&connection.fields(method, "/files/page", &[]), method == "GET");
            connection.response(stream);
            let frame = Frame::data(stream, [b'x'; 4096], false).bytes();
            let mut sent = 0;
            'flood: while sent < 16 << 20 {
                while connection.connection_room() < 4096 {
                    if !connection.read_frame() {
                        break 'flood;
                    }
                }
                if connection.try_send(&frame).is_err() {
                    break;
                }
                connection.note_sent(0, 4096);
                sent += 4096;
            }
            let goaway = connection.expect_goaway();
            assert_eq!(goaway.code, code::ENHANCE_YOUR_CALM, "{method}: {goaway:?} after {sent} bytes");
            // All of a window, a hundred frames and what they had already been followed by.
            assert!(sent < 1 << 20, "{method}: {sent} bytes");
            assert!(rig.exceeded("glitches_max") >= 1 && rig.exceeded("stream_window") >= 1);
        }
    }

    fn trailers_on_a_stream_that_was_left(backend) {
        expect_calm(backend, "glitches_max", &attack::trailers_that_are_late());
    }

    fn windows_that_grow_by_a_trifle(backend) {
        expect_calm(backend, "overhead_bytes", &attack::window_trifles());
    }

    fn malformed_heads(backend) {
        expect_calm(backend, "glitches_max", &attack::malformed_heads());
    }

    fn a_bomb_of_indices(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        expect_service(&mut connection);
        let before = rig.usage();
        let bomb = attack::index_bomb();
        for _ in 0..20 {
            let stream = connection.new_stream();
            if connection.try_send(Frame::headers(stream, bomb.clone(), true).bytes()).is_err() {
                break;
            }
            match connection.try_response(stream) {
                Ok(response) => assert_eq!(response.status, 431),
                Err(fault) => {
                    assert_eq!(fault, Fault::Connection(code::ENHANCE_YOUR_CALM));
                    break;
                }
            }
        }
        let grown = rig.usage().rss_bytes.saturating_sub(before.rss_bytes);
        report(&format!("a bomb of indices over {backend:?}: {} KiB", grown >> 10));
        assert!(is_wrapped() || grown < GROWN_MAX, "{grown} bytes");
        expect_service(&mut rig.connection());
    }

    fn a_bomb_of_small_fields(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let stream = connection.new_stream();
        connection.send(Frame::headers(stream, attack::field_bomb(), true).bytes());
        match connection.try_response(stream) {
            Ok(response) => assert_eq!(response.status, 431),
            Err(fault) => assert_eq!(fault, Fault::Connection(code::ENHANCE_YOUR_CALM)),
        }
        expect_service(&mut rig.connection());
    }

    fn streams_beyond_the_limit_are_refused(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let held: Vec<u32> = (0..100).map(|_| connection.get(HELD)).collect();
        for _ in 0..3 {
            let stream = connection.get(HELD);
            assert_eq!(connection.expect_reset(stream), code::REFUSED_STREAM);
        }
        assert!(held.iter().all(|stream| !connection.is_over(*stream)));
        connection.send_frame(&Frame::reset(held[0], code::CANCEL));
        connection.ping().expect("it goes on");
        let stream = connection.get("/files/page");
        assert_eq!(connection.response(stream).status, 200);
        assert!(rig.exceeded("streams_max") >= 3);
    }

    fn heads_that_wait_are_bounded(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        expect_service(&mut connection);
        let before = rig.usage();
        let long = "y".repeat(15_000);
        let requests: Vec<u32> = (0..90).map(|_| connection.request("GET", HELD, &[("x", &long)])).collect();
        connection.ping().expect("it goes on");
        let refused = requests.iter().filter(|stream| connection.reset_of(**stream) == Some(code::REFUSED_STREAM)).count();
        assert!((60..90).contains(&refused), "{refused} of 90 are refused");
        assert!(rig.exceeded("held_heads") >= refused as u64);
        let grown = rig.usage().rss_bytes.saturating_sub(before.rss_bytes);
        assert!(is_wrapped() || grown < 8 << 20, "{grown} bytes");
    }

    fn data_beyond_a_window(backend) {
        let rig = Rig::new(backend);
        let mut connection = rig.connection();
        let stream = connection.open("POST", HELD, &[]);
        connection.ping().expect("it goes on");
        // All of the stream's window, and one byte.
        let window = connection.settings.iter().find(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE).map_or(65_535, |of| of.1);
        let bytes = vec![0; window as usize + 1];
        for piece in bytes.chunks(16 << 10) {
            connection.send_frame(&Frame::data(stream, piece, false));
        }
        match connection.try_response(stream) {
            Err(Fault::Stream(code::FLOW_CONTROL_ERROR) | Fault::Connection(code::FLOW_CONTROL_ERROR)) => {}
            other => panic!("{other:?}"),
        }
        expect_service(&mut rig.connection());
    }

    /// After the last number there can be no further stream (5.1.1).
    fn the_last_of_all_streams_is_served(backend) {
        let rig = Rig::new(backend);
        let mut connection = Connection::to(rig.address());
        let last = (1 << 31) - 1;
        connection.use_streams_from(last);
        let stream = connection.get("/files/page");
        assert_eq!((stream, connection.response(stream).status), (last, 200));
        // It need not say that there is none.
        assert!(matches!(connection.ping(), Ok(()) | Err(Fault::End)));
        expect_service(&mut rig.connection());
    }
}
