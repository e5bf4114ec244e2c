//! The static table (RFC 7541, appendix A).

/// Number of entries; the dynamic table's indices follow.
pub(super) const LENGTH: usize = 61;

/// The entry with this index, from 1 to [`LENGTH`].
pub(super) fn entry(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = TABLE.get(index.checked_sub(1)?)?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// The index of a field that is in the table with its value. Only pseudo-header fields are, and one
/// `Accept-Encoding`.
pub(super) fn index_of(name: &[u8], value: &[u8]) -> Option<usize> {
    let is_it = |entry: &(&str, &str)| entry.0.as_bytes() == name && entry.1.as_bytes() == value;
    TABLE[..FIRST_WITHOUT_VALUE].iter().position(is_it).map(|place| place + 1)
}

/// The first index of a name, which is compared without case.
pub(super) fn index_of_name(name: &[u8]) -> Option<usize> {
    let candidates = BY_LENGTH.get(name.len())?;
    let mut candidates = candidates.iter().map(|&index| usize::from(index)).take_while(|&index| index > 0);
    candidates.find(|&index| TABLE[index - 1].0.as_bytes().eq_ignore_ascii_case(name))
}

/// From this place on, no entry has a value.
const FIRST_WITHOUT_VALUE: usize = 16;

/// Length of the longest name.
const NAME_BYTES_MAX: usize = 27;

/// Largest number of names of one length.
const SAME_LENGTH_MAX: usize = 6;

/// The indices of the names of each length, zero after the last.
static BY_LENGTH: [[u8; SAME_LENGTH_MAX]; NAME_BYTES_MAX + 1] = {
    let mut table = [[0; SAME_LENGTH_MAX]; NAME_BYTES_MAX + 1];
    let mut place = 0;
    while place < LENGTH {
        let length = TABLE[place].0.len();
        let is_first = place == 0 || !equal(TABLE[place - 1].0.as_bytes(), TABLE[place].0.as_bytes());
        if is_first {
            let mut column = 0;
            while table[length][column] != 0 {
                column += 1;
            }
            table[length][column] = place as u8 + 1;
        }
        place += 1;
    }
    table
};

const fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if one[place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}

static TABLE: [(&str, &str); LENGTH] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_first_index_in_any_case() {
        for (name, _) in TABLE {
            let first = TABLE.iter().position(|entry| entry.0 == name).map(|place| place + 1);
            assert_eq!(index_of_name(name.as_bytes()), first, "{name}");
            assert_eq!(index_of_name(name.to_uppercase().as_bytes()), first, "{name}");
        }
        for other in ["", "x", "hosts", "content-typf", "access-control-allow-origins", &"x".repeat(100)] {
            assert_eq!(index_of_name(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn entries_with_a_value_are_found_by_it() {
        for (place, (name, value)) in TABLE.iter().enumerate().filter(|(_, entry)| !entry.1.is_empty()) {
            assert_eq!(index_of(name.as_bytes(), value.as_bytes()), Some(place + 1));
        }
        assert_eq!(index_of(b":status", b"201"), None);
    }

    /// Indices that the RFC's examples name, and both ends.
    #[test]
    fn indices_are_those_of_the_rfc() {
        assert_eq!(entry(0), None);
        assert_eq!(entry(1), Some((&b":authority"[..], &b""[..])));
        assert_eq!(entry(2), Some((&b":method"[..], &b"GET"[..])));
        assert_eq!(entry(8), Some((&b":status"[..], &b"200"[..])));
        for (index, name) in
            [(24, "cache-control"), (28, "content-length"), (33, "date"), (46, "location"), (55, "set-cookie")]
        {
            assert_eq!(entry(index), Some((name.as_bytes(), &b""[..])));
        }
        assert_eq!(entry(61), Some((&b"www-authenticate"[..], &b""[..])));
        assert_eq!(entry(62), None);
    }
}
