//! Validators of a file version: its entity tag and its modification date (RFC 9110, 8.8).
//!
//! They are made from the metadata of the file, never from its content. They do not know the
//! request: see [`conditional`](super::conditional).

use arrayvec::ArrayString;

use super::Coding;
use super::date::HttpDate;
use super::inline_text::inline_text;

/// Two quotes, three numbers of up to 16 hexadecimal digits, two dashes, and the mark of a coding.
const TAG_BYTES_MAX: usize = 2 + 3 * 16 + 2 + 4;

/// What distinguishes one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// Bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The inode number.
    pub inode: u64,
}

/// The validators of one representation of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators {
    tag: EntityTag,
    modified_s: u64,
    is_date_strong: bool,
}

impl Validators {
    /// The validators of a file, or of the file compressed with `coding`. `now_s` is the time at
    /// which `version` was read, in seconds since 1970.
    ///
    /// A modification time in the future becomes now (RFC 9110, 8.8.2.1: `Last-Modified` must not
    /// be in the future). One before 1970 becomes 1970, since no client can parse an earlier date.
    pub fn new(version: FileVersion, coding: Option<Coding>, now_s: u64) -> Self {
        let modified_s = u64::try_from(version.modified_ns.div_euclid(1_000_000_000)).unwrap_or(0);
        Self {
            tag: EntityTag::new(version, coding),
            modified_s: modified_s.min(now_s),
            // Within the same second a file can change again and keep the date.
            is_date_strong: modified_s < now_s,
        }
    }

    /// If `varies`, the file is sent in several representations. All have its date, so the date
    /// does not identify the one that a client has.
    #[must_use]
    pub const fn of_several(self, varies: bool) -> Self {
        Self { is_date_strong: self.is_date_strong && !varies, ..self }
    }

    /// The entity tag.
    pub const fn tag(&self) -> &EntityTag {
        &self.tag
    }

    /// The modification time in seconds since 1970, as in `Last-Modified`.
    pub const fn modified_s(&self) -> u64 {
        self.modified_s
    }

    /// Whether the date identifies one version (RFC 9110, 8.8.2.2) in one representation, so that
    /// ranges may rely on it.
    pub const fn is_date_strong(&self) -> bool {
        self.is_date_strong
    }

    /// The value of `Last-Modified`.
    pub fn last_modified(&self) -> HttpDate {
        HttpDate::new(self.modified_s)
    }
}

/// A strong entity tag, quotes included: `"size-mtime-identity"`, and a mark such as `-gz` if coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag(ArrayString<TAG_BYTES_MAX>);

impl EntityTag {
    /// The tag of a file, or of the file compressed with `coding`: other bytes, so another tag.
    pub fn new(version: FileVersion, coding: Option<Coding>) -> Self {
        let FileVersion { size, modified_ns, inode } = version;
        let mark = coding.map_or("", Coding::tag_mark);
        let identity = fold(inode, modified_ns as u64);
        Self(inline_text(format_args!("\"{size:x}-{modified_ns:x}-{identity:x}{mark}\"")))
    }

    /// The field value, quotes included.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The field value, quotes included.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Mixes the inode number with the modification time, so that a replaced file has another tag. The
/// inode number itself cannot be read off: it would help to guess NFS handles. The device is left
/// out, since it may change with every mount.
const fn fold(inode: u64, modified: u64) -> u64 {
    let product = (inode ^ 0x9e37_79b9_7f4a_7c15) as u128 * ((modified ^ 0xd1b5_4a32_d192_ed03) | 1) as u128;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileVersion = FileVersion { size: 612, modified_ns: 784_111_777_123_456_789, inode: 4711 };
    const NOW_S: u64 = 1_700_000_000;

    #[test]
    fn a_tag_changes_with_size_time_inode_and_coding() {
        let tag = EntityTag::new;
        let tags = [
            tag(FILE, None),
            tag(FILE, Some(Coding::Gzip)),
            tag(FILE, Some(Coding::Brotli)),
            tag(FILE, Some(Coding::Zstd)),
            tag(FileVersion { size: 613, ..FILE }, None),
            tag(FileVersion { modified_ns: FILE.modified_ns + 1, ..FILE }, None),
            tag(FileVersion { inode: 4712, ..FILE }, None),
        ];
        for (index, one) in tags.iter().enumerate() {
            assert!(tags[index + 1..].iter().all(|other| one != other), "{one:?} is there twice");
            let inner = one.as_str().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            assert!(inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{inner}");
        }
        assert!(tags[1].as_str().ends_with("-gz\""));
    }

    #[test]
    fn a_tag_of_the_largest_numbers_fits() {
        let version = FileVersion { size: u64::MAX, modified_ns: -1, inode: u64::MAX };
        let tag = EntityTag::new(version, Some(Coding::Zstd));
        assert!(tag.as_str().ends_with("-zst\""), "{tag:?}");
    }

    #[test]
    fn a_tag_does_not_show_the_inode() {
        assert!(!EntityTag::new(FILE, None).as_str().contains(&format!("{:x}", FILE.inode)));
    }

    #[test]
    fn last_modified_is_a_date_of_the_preferred_form() {
        assert_eq!(Validators::new(FILE, None, NOW_S).last_modified().as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_date_in_the_future_is_now_and_one_before_1970_is_1970() {
        let date = |modified_ns| Validators::new(FileVersion { modified_ns, ..FILE }, None, NOW_S);
        assert_eq!(date(i64::MAX).last_modified().as_bytes(), b"Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(date(-1).last_modified().as_bytes(), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(i64::MIN).modified_s(), 0);
    }

    #[test]
    fn a_date_is_strong_once_its_second_has_passed() {
        let strong = |modified_s: i64| {
            let version = FileVersion { modified_ns: modified_s * 1_000_000_000 + 999_999_999, ..FILE };
            Validators::new(version, None, NOW_S).is_date_strong()
        };
        let now = NOW_S as i64;
        assert_eq!([strong(now - 1), strong(now), strong(now + 1)], [true, false, false]);
    }

    #[test]
    fn a_date_that_several_representations_share_is_not_strong() {
        let strong = |varies| Validators::new(FILE, None, NOW_S).of_several(varies).is_date_strong();
        assert_eq!([strong(false), strong(true)], [true, false]);
    }
}
