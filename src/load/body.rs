//! Whether a body is the expected one.

use std::fmt;

use aws_lc_rs::digest;

use super::plan::Expect;
use super::tally::ErrorKind;

/// Bytes of a body that are compared with those of the first response. Of a longer one, the rest is
/// compared by its length.
const COMPARED_BYTES_MAX: usize = 64 << 10;

/// The body of the first response to a request.
#[derive(Debug, Default)]
pub struct Reference(Option<(Vec<u8>, u64)>);

/// The body of one response, while it arrives.
#[derive(Debug)]
pub struct BodyCheck {
    bytes: u64,
    digest: Option<Digest>,
    sameness: Sameness,
}

/// The SHA-256 of what has arrived.
struct Digest(Box<digest::Context>);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

#[derive(Debug)]
enum Sameness {
    /// Not wanted.
    Any,
    /// There was no reference when the response began: its bytes, to become it or to be compared later.
    Collected(Vec<u8>),
    /// Equal to the reference so far.
    Same,
    Different,
}

impl BodyCheck {
    /// Nothing has arrived.
    pub fn new(expect: &Expect, reference: &Reference) -> Self {
        let digest = expect.sha256.map(|_| Digest(Box::new(digest::Context::new(&digest::SHA256))));
        let sameness = match (expect.is_same, &reference.0) {
            (false, _) => Sameness::Any,
            (true, None) => Sameness::Collected(Vec::new()),
            (true, Some(_)) => Sameness::Same,
        };
        Self { bytes: 0, digest, sameness }
    }

    /// More of it has arrived.
    pub fn on_data(&mut self, data: &[u8], reference: &Reference) {
        if let Some(Digest(digest)) = &mut self.digest {
            digest.update(data);
        }
        match &mut self.sameness {
            Sameness::Any | Sameness::Different => {}
            Sameness::Collected(bytes) => {
                let room = COMPARED_BYTES_MAX - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(room)]);
            }
            Sameness::Same => {
                let first = reference.0.as_ref().map_or(&[][..], |(first, _)| first);
                let rest = first.get(usize::try_from(self.bytes).unwrap_or(usize::MAX)..).unwrap_or_default();
                let compared = rest.len().min(data.len());
                if rest[..compared] != data[..compared] {
                    self.sameness = Sameness::Different;
                }
            }
        }
        self.bytes += data.len() as u64;
    }

    /// It is complete: what is wrong with it.
    pub fn end(self, expect: &Expect, reference: &mut Reference) -> Option<ErrorKind> {
        if let Some(length) = expect.length
            && self.bytes != length
        {
            return Some(if self.bytes < length { ErrorKind::ShortBody } else { ErrorKind::WrongBody });
        }
        if let (Some(Digest(digest)), Some(expected)) = (self.digest, &expect.sha256)
            && digest.finish().as_ref() != expected
        {
            return Some(ErrorKind::WrongBody);
        }
        let is_same = match (self.sameness, &reference.0) {
            (Sameness::Any, _) => true,
            (Sameness::Different, _) => false,
            (Sameness::Same, Some((_, length))) => *length == self.bytes,
            (Sameness::Collected(bytes), Some((first, length))) => *first == bytes && *length == self.bytes,
            (Sameness::Collected(bytes), None) => {
                reference.0 = Some((bytes, self.bytes));
                true
            }
            (Sameness::Same, None) => true,
        };
        (!is_same).then_some(ErrorKind::WrongBody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(expect: &Expect, reference: &mut Reference, pieces: &[&[u8]]) -> Option<ErrorKind> {
        let mut check = BodyCheck::new(expect, reference);
        pieces.iter().for_each(|piece| check.on_data(piece, reference));
        check.end(expect, reference)
    }

    #[test]
    fn a_body_is_checked_by_its_length() {
        let expect = Expect { length: Some(3), ..Expect::default() };
        let mut none = Reference::default();
        assert_eq!(result(&expect, &mut none, &[b"ab", b"c"]), None);
        assert_eq!(result(&expect, &mut none, &[b"ab"]), Some(ErrorKind::ShortBody));
        assert_eq!(result(&expect, &mut none, &[b"abcd"]), Some(ErrorKind::WrongBody));
    }

    #[test]
    fn a_body_is_checked_by_its_digest() {
        let sum = digest::digest(&digest::SHA256, b"abc");
        let expect = Expect { sha256: sum.as_ref().try_into().ok(), ..Expect::default() };
        let mut none = Reference::default();
        assert_eq!(result(&expect, &mut none, &[b"a", b"bc"]), None);
        assert_eq!(result(&expect, &mut none, &[b"abd"]), Some(ErrorKind::WrongBody));
    }

    #[test]
    fn a_body_is_compared_with_the_first_one_however_it_is_cut() {
        let expect = Expect { is_same: true, ..Expect::default() };
        let mut reference = Reference::default();
        // Two begin before there is a reference.
        let mut early = BodyCheck::new(&expect, &reference);
        assert_eq!(result(&expect, &mut reference, &[b"ab", b"cd"]), None);
        early.on_data(b"abcx", &reference);
        assert_eq!(early.end(&expect, &mut reference), Some(ErrorKind::WrongBody));
        assert_eq!(result(&expect, &mut reference, &[b"a", b"bcd"]), None);
        for other in [&b"abc"[..], b"abcde", b"xbcd", b""] {
            assert_eq!(result(&expect, &mut reference, &[other]), Some(ErrorKind::WrongBody), "{other:?}");
        }
    }

    #[test]
    fn of_a_long_body_the_beginning_and_the_length_are_compared() {
        let expect = Expect { is_same: true, ..Expect::default() };
        let mut reference = Reference::default();
        let long = vec![b'x'; COMPARED_BYTES_MAX + 10];
        assert_eq!(result(&expect, &mut reference, &[&long]), None);
        assert_eq!(result(&expect, &mut reference, &[&long[..100], &long[100..]]), None);
        assert_eq!(result(&expect, &mut reference, &[&long[1..]]), Some(ErrorKind::WrongBody));
    }
}
