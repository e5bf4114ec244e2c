//! Whether all servers that may get a path read it as the same path.
//!
//! RFC 3986 allows several readings of a path, and servers differ. A proxy that checks a path by
//! its own reading and forwards it unchanged can be made to forward a path that another reading
//! would reject: `/public/..;/admin` is beneath `/public` for a server that does not know
//! parameters, and is `/admin` for one that drops them first.
//!
//! So a path is forwarded unchanged only if all readings lead to the same route
//! ([`is_read_alike`]). A *reading* is one combination of these choices:
//!
//! | what | choices |
//! |---|---|
//! | escapes | not decoded; decoded in segments that were split before; decoded, then split; decoded twice, then split |
//! | `\` | an ordinary character; a slash |
//! | `;` and the rest of its segment | ordinary characters; parameters, dropped; the same before anything is decoded |
//! | empty segments | kept; dropped |
//! | `.` and `..` | ordinary segments; resolved; leading above the root is a result, too |
//!
//! The reading that does not decode concerns only escapes that could be left out: of letters,
//! digits and `-._~` (RFC 3986, 2.3), and of `/`, `\` and `;`. A space or an umlaut has no other
//! spelling, so it is compared decoded.
//!
//! Not considered: the case of letters, dots and blanks at the end of a name, overlong UTF-8. A
//! server that ignores these should not share routes with others.

use smallvec::SmallVec;

use super::INLINE;
use crate::http::token::hex_value;

/// Whether `pick` returns the same for all readings of a path. It gets each reading in the form of
/// [`super::DecodedPath`], except that there may be empty segments and dots in it, and a NUL for a
/// slash that is part of a name.
///
/// Nearly all paths have only one reading. They cost one check of each octet.
pub fn is_read_alike<T: PartialEq>(raw: &[u8], pick: impl Fn(&[u8]) -> T) -> bool {
    let features = Features::of(raw);
    if features == Features::default() {
        return true;
    }
    let mut path = SmallVec::new();
    let mut first = None;
    let mut agrees = |raw: &[u8], reading: Reading| {
        if !reading.read(raw, &mut path) {
            return false;
        }
        let found = pick(&path);
        match &first {
            Some(first) => *first == found,
            None => {
                first = Some(found);
                true
            }
        }
    };
    let all = Reading::all(features);
    if !all.clone().all(|reading| agrees(raw, reading)) {
        return false;
    }
    if !features.twice {
        return true;
    }
    let once = decoded(raw);
    all.filter(|reading| reading.escapes == Escapes::BeforeSplit).all(|reading| agrees(&once, reading))
}

/// The parts of a path that can be read in more than one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Features {
    escapes: bool,
    /// An escaped percent sign. Decoding twice may yield anything after it.
    twice: bool,
    backslash: bool,
    parameters: bool,
    empty: bool,
    dots: bool,
}

impl Features {
    fn of(raw: &[u8]) -> Self {
        let mut features = Self::default();
        let mut rest = raw;
        while let [byte, after @ ..] = rest {
            rest = after;
            match *byte {
                b'/' => features.note_start(rest),
                b'%' => escape(rest).into_iter().for_each(|escaped| features.note_escape(escaped)),
                byte => features.note(byte),
            }
        }
        features
    }

    /// Records the start of a segment.
    fn note_start(&mut self, rest: &[u8]) {
        self.empty |= rest.first() == Some(&b'/');
        let is_end = |byte: Option<&u8>| matches!(byte, None | Some(b'/'));
        self.dots |= match rest {
            [b'.', b'.', after @ ..] | [b'.', after @ ..] => is_end(after.first()),
            _ => false,
        };
    }

    fn note_escape(&mut self, escaped: u8) {
        self.escapes |= can_be_unescaped(escaped);
        self.note(escaped);
        match escaped {
            b'%' => {
                *self = Self { escapes: true, twice: true, backslash: true, parameters: true, empty: true, dots: true };
            }
            b'/' => (self.empty, self.dots) = (true, true),
            b'.' => self.dots = true,
            _ => {}
        }
    }

    fn note(&mut self, byte: u8) {
        match byte {
            // What remains after a cut may be dots, or empty.
            b'\\' => (self.backslash, self.empty, self.dots) = (true, true, true),
            b';' => (self.parameters, self.empty, self.dots) = (true, true, true),
            _ => {}
        }
    }
}

/// One way to read a path.
#[derive(Clone, Copy, Debug)]
struct Reading {
    escapes: Escapes,
    backslash_is_slash: bool,
    parameters: Parameters,
    drops_empty: bool,
    resolves_dots: bool,
}

/// Handling of `;` and the rest of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameters {
    /// Dropped while escapes are decoded.
    Dropped,
    /// Dropped first, so an escape neither begins nor ends it.
    DroppedFirst,
    Kept,
}

/// When escapes are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    Never,
    AfterSplit,
    BeforeSplit,
}

impl Reading {
    /// All readings that differ for a path with these features.
    fn all(features: Features) -> impl Iterator<Item = Self> + Clone {
        const ALL: [Escapes; 3] = [Escapes::BeforeSplit, Escapes::AfterSplit, Escapes::Never];
        const PARAMETERS: [Parameters; 3] = [Parameters::Dropped, Parameters::DroppedFirst, Parameters::Kept];
        let both = |has: bool| [true, false].into_iter().take(1 + usize::from(has));
        let escapes = ALL.into_iter().take(if features.escapes { ALL.len() } else { 1 });
        escapes.flat_map(move |escapes| {
            both(features.backslash).flat_map(move |backslash_is_slash| {
                let parameters = PARAMETERS.into_iter().take(if features.parameters { PARAMETERS.len() } else { 1 });
                parameters.flat_map(move |parameters| {
                    both(features.empty).flat_map(move |drops_empty| {
                        both(features.dots).map(move |resolves_dots| Self {
                            escapes,
                            backslash_is_slash,
                            parameters,
                            drops_empty,
                            resolves_dots,
                        })
                    })
                })
            })
        })
    }

    /// Writes the path according to this reading. `false`: it leads above the root.
    fn read(self, raw: &[u8], path: &mut SmallVec<[u8; INLINE]>) -> bool {
        path.clear();
        let (mut segment_at, mut is_in_parameters) = (0, false);
        let mut rest = raw.strip_prefix(b"/").unwrap_or(raw);
        while let [byte, after @ ..] = rest {
            let escaped = if *byte == b'%' { escape(after) } else { None };
            let escaped = escaped.filter(|byte| self.escapes != Escapes::Never || !can_be_unescaped(*byte));
            rest = if escaped.is_some() { &after[2..] } else { after };
            let is_slash = match escaped.unwrap_or(*byte) {
                b'/' => escaped.is_none() || self.escapes != Escapes::AfterSplit,
                b'\\' => self.backslash_is_slash,
                _ => false,
            };
            // Dropped before decoding.
            let is_slash =
                is_slash && !(is_in_parameters && self.parameters == Parameters::DroppedFirst && escaped.is_some());
            if is_slash {
                if !self.end_segment(path, &mut segment_at) {
                    return false;
                }
                is_in_parameters = false;
                continue;
            }
            match escaped.unwrap_or(*byte) {
                b';' if self.begins_parameters(escaped) => is_in_parameters = true,
                _ if is_in_parameters => {}
                b'/' => path.push(0),
                byte => path.push(byte),
            }
        }
        match &path[segment_at..] {
            b"." | b".." if self.resolves_dots => self.end_segment(path, &mut segment_at),
            _ => true,
        }
    }

    /// Whether a semicolon, escaped or not, begins parameters.
    fn begins_parameters(self, escaped: Option<u8>) -> bool {
        match self.parameters {
            Parameters::Dropped => true,
            Parameters::DroppedFirst => escaped.is_none(),
            Parameters::Kept => false,
        }
    }

    fn end_segment(self, path: &mut SmallVec<[u8; INLINE]>, segment_at: &mut usize) -> bool {
        match &path[*segment_at..] {
            b"" if self.drops_empty => {}
            b"." if self.resolves_dots => path.truncate(*segment_at),
            b".." if self.resolves_dots => {
                let Some(parent_end) = segment_at.checked_sub(1) else { return false };
                let parent_at = path[..parent_end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
                path.truncate(parent_at);
            }
            _ => path.push(b'/'),
        }
        *segment_at = path.len();
        true
    }
}

/// The octet that two digits after a percent sign stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    match digits {
        [high, low, ..] => Some(hex_value(*high)? << 4 | hex_value(*low)?),
        _ => None,
    }
}

/// Whether an octet need not be escaped in a path, and has a meaning there or is compared.
const fn can_be_unescaped(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b';')
}

fn decoded(raw: &[u8]) -> SmallVec<[u8; INLINE]> {
    let mut out = SmallVec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, after @ ..] = rest {
        match (*byte, escape(after)) {
            (b'%', Some(escaped)) => {
                out.push(escaped);
                rest = &after[2..];
            }
            (byte, _) => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
