//! Files to serve.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::client::uninterrupted;
use super::content::Content;

/// A large file that takes little room: holes, and every 8 MiB a block of its own content, so that a
/// shifted or lost stretch shows.
#[track_caller]
pub fn write_sparse(path: &Path, length: u64) {
    let mut file = File::create(path).expect("a temporary file can be made");
    file.set_len(length).expect("it can be made long");
    let mut block = [0; 4096];
    for offset in (0..length).step_by(8 << 20) {
        Content::new(offset).fill(&mut block);
        let fits = usize::try_from(length - offset).unwrap_or(usize::MAX).min(block.len());
        file.seek(SeekFrom::Start(offset)).expect("it can be sought in");
        file.write_all(&block[..fits]).expect("it can be written");
    }
}

/// Reads `stream` to its end and compares it with the file as it comes.
#[track_caller]
pub fn assert_stream_is_file(mut stream: impl Read, path: &Path) {
    let mut file = File::open(path).expect("the file is there");
    let length = file.metadata().expect("it has a size").len();
    let (mut received, mut expected) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut position = 0_u64;
    loop {
        let got = match uninterrupted(|| stream.read(&mut received)) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) => panic!("after {position} of {length} bytes: {error}"),
        };
        assert!(position + got as u64 <= length, "more bytes came than the {length} of the file");
        file.read_exact(&mut expected[..got]).expect("the file is as long as it said");
        assert!(received[..got] == expected[..got], "a difference within {got} bytes from {position} on");
        position += got as u64;
    }
    assert_eq!(position, length, "the stream ended early");
}
