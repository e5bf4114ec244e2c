//! The field lines of a head: a compact index into the bytes of the head.
//!
//! For each line it keeps the positions of name and value, and for each [`Known`] name the number
//! of its first line. Looking up a known field that is absent costs nothing. The bytes belong to
//! the caller. The meaning of fields is not known here.

use std::fmt;

use smallvec::SmallVec;

/// Lines that are indexed without an allocation; browsers send 10 to 25.
const INLINE: usize = 32;

/// Value in `first`: there is no such field.
const ABSENT: u8 = u8::MAX;

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'b> {
    /// A token, in the case in which it was sent.
    pub name: &'b [u8],
    /// Without surrounding white space. No control bytes except tabs; bytes beyond ASCII are
    /// possible.
    pub value: &'b [u8],
}

/// The field lines of one head, in order.
#[derive(Clone)]
pub struct Fields<'b> {
    head: &'b [u8],
    lines: SmallVec<[Line; INLINE]>,
    first: [u8; Known::COUNT],
    repeated: u64,
}

/// Positions of a line's parts in the head. 16 bits suffice, see `HEAD_BYTES_CEILING`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) name_at: u16,
    pub(super) name_length: u16,
    pub(super) value_at: u16,
    pub(super) value_length: u16,
}

impl<'b> Fields<'b> {
    /// Indexes `lines`, which a parser found in `head`. Returns `false`, and the index must not be
    /// used, if a line lies outside of `head` or beyond 64 KiB, or there are more than 255.
    pub(super) fn index(&mut self, head: &'b [u8], lines: &[httparse::Header<'b>]) -> bool {
        self.head = head;
        self.lines.clear();
        self.first = [ABSENT; Known::COUNT];
        self.repeated = 0;
        self.lines.reserve(lines.len());
        (0..ABSENT).zip(lines).all(|(number, line)| self.push(number, line)) && self.lines.len() == lines.len()
    }

    fn push(&mut self, number: u8, line: &httparse::Header<'b>) -> bool {
        let name = line.name.as_bytes();
        let (Some((name_at, name_length)), Some((value_at, value_length))) =
            (place(self.head, name), place(self.head, line.value))
        else {
            return false;
        };
        self.add(number, name, Line { name_at, name_length, value_at, value_length });
        true
    }

    fn add(&mut self, number: u8, name: &[u8], line: Line) {
        self.lines.push(line);
        if let Some(known) = Known::recognise(name) {
            match &mut self.first[known as usize] {
                first if *first == ABSENT => *first = number,
                _ => self.repeated |= 1 << known as u64,
            }
        }
    }

    /// An index without lines, of a head whose lines are added one by one.
    pub(super) fn of(head: &'b [u8]) -> Self {
        Self { head, ..Self::default() }
    }

    /// Adds a line of the head. Returns `false`, and the index must not be used, if there are more
    /// than 255.
    pub(super) fn push_line(&mut self, line: Line) -> bool {
        match u8::try_from(self.lines.len()) {
            Ok(number) if number != ABSENT => self.add(number, line.name(self.head), line),
            Ok(_) | Err(_) => return false,
        }
        true
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All lines in order. Repeated fields are not merged.
    pub fn iter(&self) -> impl Iterator<Item = Field<'b>> + Clone + '_ {
        self.lines.iter().map(|line| self.field(*line))
    }

    /// Bytes that the lines take up when they are written.
    pub fn line_bytes(&self) -> usize {
        let bytes = |line: &Line| usize::from(line.name_length) + usize::from(line.value_length) + ": \r\n".len();
        self.lines.iter().map(bytes).sum()
    }

    /// The first value of the field `name`, which is compared without case.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.all(name).next()
    }

    /// All values of the field `name`, in order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
        let wanted = name.as_bytes();
        self.iter().filter(move |field| field.name.eq_ignore_ascii_case(wanted)).map(|field| field.value)
    }

    /// The first value of a known field, without a search.
    pub fn known(&self, known: Known) -> Option<&'b [u8]> {
        let line = self.lines.get(usize::from(self.first[known as usize]))?;
        Some(self.field(*line).value)
    }

    /// All values of a known field, in order.
    pub fn all_known(&self, known: Known) -> impl Iterator<Item = &'b [u8]> + '_ {
        let others = if self.is_repeated(known) { self.lines.as_slice() } else { &[] };
        let first = usize::from(self.first[known as usize]);
        let others = others.iter().skip(first.saturating_add(1)).map(|line| self.field(*line));
        let others = others.filter(move |field| Known::recognise(field.name) == Some(known)).map(|field| field.value);
        self.known(known).into_iter().chain(others)
    }

    /// Whether there is more than one line of a known field.
    pub const fn is_repeated(&self, known: Known) -> bool {
        self.repeated & (1 << known as u64) != 0
    }

    fn field(&self, line: Line) -> Field<'b> {
        Field { name: line.name(self.head), value: line.value(self.head) }
    }
}

impl Line {
    /// The name in the head.
    pub(super) fn name(self, head: &[u8]) -> &[u8] {
        part(head, self.name_at, self.name_length)
    }

    /// The value in the head.
    pub(super) fn value(self, head: &[u8]) -> &[u8] {
        part(head, self.value_at, self.value_length)
    }
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self { head: &[], lines: SmallVec::new(), first: [ABSENT; Known::COUNT], repeated: 0 }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields<'_> {}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name.escape_ascii(), self.value.escape_ascii())
    }
}

macro_rules! known {
    ($($length:literal: $($name:ident $text:literal)+;)+) => {
        /// Fields that xps evaluates, must not forward unchanged, or must not drop.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known {
            $($(
                #[doc = concat!("`", $text, "`")]
                $name,
            )+)+
        }

        impl Known {
            /// All known fields.
            pub const ALL: &[Self] = &[$($(Self::$name),+),+];
            const COUNT: usize = Self::ALL.len();

            /// The known field with this name, compared without case. Few names share a length, so
            /// few are compared. The usual spelling goes first, since it is compared by words instead
            /// of letters.
            pub fn recognise(name: &[u8]) -> Option<Self> {
                match name.len() {
                    $($length => {
                        $(if name == $text.as_bytes() {
                            return Some(Self::$name);
                        })+
                        $(if name.eq_ignore_ascii_case($text.as_bytes()) {
                            return Some(Self::$name);
                        })+
                        None
                    })+
                    _ => None,
                }
            }

            /// The usual spelling.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$name => $text,)+)+
                }
            }
        }
    };
}

known! {
    2: Te "TE";
    3: Via "Via";
    4: Host "Host" Date "Date";
    5: Range "Range";
    6: Accept "Accept" Cookie "Cookie" Expect "Expect" Origin "Origin";
    7: Referer "Referer" Trailer "Trailer" Upgrade "Upgrade";
    8: IfMatch "If-Match" IfRange "If-Range";
    9: Forwarded "Forwarded" XRealIp "X-Real-IP";
    10: Connection "Connection" KeepAlive "Keep-Alive" SetCookie "Set-Cookie" UserAgent "User-Agent";
    12: MaxForwards "Max-Forwards";
    13: Authorization "Authorization" IfNoneMatch "If-None-Match";
    14: ContentLength "Content-Length";
    15: AcceptEncoding "Accept-Encoding" XForwardedFor "X-Forwarded-For";
    16: ProxyConnection "Proxy-Connection" XForwardedHost "X-Forwarded-Host";
    17: TransferEncoding "Transfer-Encoding" IfModifiedSince "If-Modified-Since" XForwardedProto "X-Forwarded-Proto";
    18: ProxyAuthenticate "Proxy-Authenticate";
    19: IfUnmodifiedSince "If-Unmodified-Since" ProxyAuthorization "Proxy-Authorization";
    25: ProxyAuthenticationInfo "Proxy-Authentication-Info";
}

const _: () = assert!(Known::COUNT <= 64, "`repeated` has a bit for each");

impl Known {
    /// Whether it concerns one connection only and is not forwarded (RFC 9110, 7.6.1), even if
    /// `Connection` does not name it; `Trailer` is, where trailers are. All other known fields are end-to-end, and `Connection`
    /// cannot remove them.
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthenticationInfo
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// Position and length of `part`, a slice of `whole`, within it.
fn place(whole: &[u8], part: &[u8]) -> Option<(u16, u16)> {
    let at = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    if at + part.len() > whole.len() {
        return None;
    }
    Some((u16::try_from(at).ok()?, u16::try_from(part.len()).ok()?))
}

fn part(whole: &[u8], at: u16, length: u16) -> &[u8] {
    let at = usize::from(at);
    whole.get(at..at + usize::from(length)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for known in Known::ALL {
            assert_eq!(Known::recognise(known.as_str().as_bytes()), Some(*known));
            assert_eq!(Known::recognise(known.as_str().to_uppercase().as_bytes()), Some(*known));
        }
        assert_eq!(Known::recognise(b"Hosts"), None);
    }

    /// Row 81: repeated fields keep their order.
    #[test]
    fn row_81_repeated_fields_keep_their_order_and_are_never_merged() {
        let head = b"a: 1\r\nCookie: x\r\nRange: r\r\nA: 2\r\nhost: h\r\nrange: s\r\na:\r\n\r\n";
        let mut lines = [httparse::EMPTY_HEADER; 8];
        let httparse::Status::Complete((_, lines)) = httparse::parse_headers(head, &mut lines).unwrap() else {
            panic!("partial")
        };
        let mut fields = Fields::default();
        assert!(fields.index(head, lines));
        assert_eq!(fields.len(), 7);
        assert_eq!(fields.all("a").collect::<Vec<_>>(), [&b"1"[..], b"2", b""]);
        assert_eq!(fields.get("COOKIE"), Some(&b"x"[..]));
        assert_eq!(fields.known(Known::Host), Some(&b"h"[..]));
        assert_eq!(fields.known(Known::Upgrade), None);
        assert_eq!(fields.all_known(Known::Range).collect::<Vec<_>>(), [b"r", b"s"]);
        assert_eq!(fields.all_known(Known::Host).count(), 1);
        assert_eq!(fields.all_known(Known::Upgrade).count(), 0);
        assert!(fields.is_repeated(Known::Range) && !fields.is_repeated(Known::Host));
    }

    #[test]
    fn a_usual_number_of_fields_is_not_allocated() {
        let head = b"x: y\r\n".repeat(INLINE);
        let mut fields = Fields::default();
        let name = |line| std::str::from_utf8(line).unwrap();
        let lines = head.chunks(6).map(|line| httparse::Header { name: name(&line[..1]), value: &line[3..4] });
        let lines: Vec<_> = lines.collect();
        assert!(fields.index(&head, &lines));
        assert!(fields.len() == INLINE && !fields.lines.spilled());
    }
}
