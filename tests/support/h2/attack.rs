//! What costs a client little and a server much (RFC 9113, 10.5), as the bytes that a client sends after its preface. The
//! tests check what comes of it; `cargo bench --bench peers -- --abuse` measures what it costs.
//!
//! `/files` is a folder, and what is below [`HELD`] goes to an upstream that never answers.

#![allow(dead_code, reason = "each program uses its own part")]

use super::frame::{Frame, code, flag, kind, setting};
use super::hpack;

/// Where nothing is answered.
pub const HELD: &str = "/held";

/// A small file.
pub const PAGE: &str = "/files/page";

/// A file of [`LARGE_BYTES`].
pub const LARGE: &str = "/files/large";

/// More than any buffer takes.
pub const LARGE_BYTES: usize = 1 << 20;

pub fn block(method: &str, path: &str) -> Vec<u8> {
    hpack::encode([(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)])
}

pub fn get(stream: u32, path: &str) -> Vec<u8> {
    Frame::headers(stream, block("GET", path), true).bytes()
}

pub fn post(stream: u32, path: &str) -> Vec<u8> {
    Frame::headers(stream, block("POST", path), false).bytes()
}

/// The numbers of so many streams.
pub fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// CVE-2023-44487.
pub fn rapid_resets() -> Vec<u8> {
    streams(1000).flat_map(|stream| [get(stream, HELD), Frame::reset(stream, code::CANCEL).bytes()].concat()).collect()
}

/// CVE-2025-8671: the client lets the server reset the streams.
pub fn made_you_reset() -> Vec<u8> {
    streams(1500).flat_map(|stream| [post(stream, HELD), Frame::window_update(stream, 0).bytes()].concat()).collect()
}

/// Trailers that do not end their stream, which the server has answered already.
pub fn trailers_that_are_late() -> Vec<u8> {
    let trailers = Frame::headers(1, hpack::encode([("x", "y")]), false).bytes();
    [post(1, PAGE), trailers.repeat(20_000)].concat()
}

/// CVE-2024-27316.
pub fn empty_continuations() -> Vec<u8> {
    let start = Frame::new(kind::HEADERS, 0, 1, block("GET", "/")).bytes();
    [start, Frame::continuation(1, [], false).bytes().repeat(10_000)].concat()
}

/// The same, each with a field.
pub fn continuations() -> Vec<u8> {
    let field = hpack::encode([("x", "y".repeat(1000))]);
    let start = Frame::new(kind::HEADERS, 0, 1, block("GET", "/")).bytes();
    [start, Frame::continuation(1, field, false).bytes().repeat(1000)].concat()
}

/// CVE-2019-9512.
pub fn pings() -> Vec<u8> {
    Frame::ping([0; 8], false).bytes().repeat(20_000)
}

/// CVE-2019-9515.
pub fn settings() -> Vec<u8> {
    Frame::settings(&[]).bytes().repeat(20_000)
}

/// CVE-2019-9518.
pub fn empty_data() -> Vec<u8> {
    [post(1, HELD), Frame::data(1, [], false).bytes().repeat(20_000)].concat()
}

/// A byte in each frame, within the windows that a client has at first.
pub fn tiny_data() -> Vec<u8> {
    [post(1, HELD), Frame::data(1, [b'x'], false).bytes().repeat(60_000)].concat()
}

/// CVE-2019-9513.
pub fn priorities() -> Vec<u8> {
    Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 1]).bytes().repeat(200_000)
}

pub fn unknown_frames() -> Vec<u8> {
    Frame::new(0xbb, 0, 0, [0; 1000]).bytes().repeat(4000)
}

/// Padding with a byte of data in each frame, 257 bytes of the window.
pub fn padding(stream: u32, frames: usize) -> Vec<u8> {
    Frame::new(kind::DATA, flag::PADDED, stream, [&[255, b'x'], &[0; 255][..]].concat()).bytes().repeat(frames)
}

pub fn resets_of_ended_streams() -> Vec<u8> {
    [get(1, PAGE), Frame::reset(1, code::CANCEL).bytes().repeat(20_000)].concat()
}

/// A window that grows by a trifle.
pub fn window_trifles() -> Vec<u8> {
    [get(1, HELD), Frame::window_update(1, 1).bytes().repeat(200_000)].concat()
}

pub fn malformed_heads() -> Vec<u8> {
    let block = hpack::encode([("X", "1")]);
    streams(2000).flat_map(|stream| Frame::headers(stream, block.clone(), true).bytes()).collect()
}

/// A head with a field of 4000 bytes, and an index of one byte for it, again and again.
pub fn index_bomb() -> Vec<u8> {
    let mut bomb = block("GET", PAGE);
    hpack::push_literal(&mut bomb, 0x40, b"x", &[b'y'; 4000]);
    bomb.extend([0xbe; 12_000]);
    bomb
}

/// So many requests with that head.
pub fn index_bombs() -> Vec<u8> {
    let bomb = index_bomb();
    streams(20).flat_map(|stream| Frame::headers(stream, bomb.clone(), true).bytes()).collect()
}

/// A head of many small fields.
pub fn field_bomb() -> Vec<u8> {
    let mut bomb = block("GET", PAGE);
    for _ in 0..3000 {
        hpack::push_literal(&mut bomb, 0, b"x", b"");
    }
    bomb
}

/// Requests with that head.
pub fn field_bombs() -> Vec<u8> {
    let bomb = field_bomb();
    streams(20).flat_map(|stream| Frame::headers(stream, bomb.clone(), true).bytes()).collect()
}

/// The last stream that there can be (5.1.1), so that each request needs a connection of its own.
pub fn last_stream() -> Vec<u8> {
    get((1 << 31) - 1, PAGE)
}

/// A hundred responses for which there is no window.
pub fn without_windows() -> Vec<u8> {
    let settings = Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]).bytes();
    [settings, streams(100).flat_map(|stream| get(stream, LARGE)).collect()].concat()
}

/// The same, with a window for one byte of each, again and again.
pub fn slow_windows() -> Vec<u8> {
    let bytes: Vec<u8> = streams(100).flat_map(|stream| Frame::window_update(stream, 1).bytes()).collect();
    [without_windows(), bytes.repeat(40)].concat()
}
