//! What must hold for the fields of a request for a file, whatever bytes they have. The fuzz targets here and the bounded
//! tests in `tests/file_properties.rs` run the same functions; each panics when its property is broken.

use xps::internals::http::conditional::{Conditions, PreconditionResult, allows_range, evaluate};
use xps::internals::http::multipart::{Boundaries, Multipart, Piece};
use xps::internals::http::range::{RANGES_MAX, Selection, Span, Spans, select};
use xps::internals::http::validators::{EntityTag, FileVersion, Validators};

const FILE: FileVersion = FileVersion { size: 1000, modified_ns: 784_111_777_000_000_000, inode: 1 };

/// The first bytes are the file's size, the rest is the value of `Range`: what is selected is what a plain reading of the
/// standard selects, and a body of several parts has the length that it promises.
pub fn range(bytes: &[u8]) {
    let Some((size, value)) = bytes.split_first_chunk() else { return };
    // Small sizes are the interesting ones; the top bit keeps the others in play.
    let size = u64::from_le_bytes(*size);
    let size = if size >> 63 == 1 { size } else { size % 300 };
    let selection = select(Some(value), size);
    assert_eq!(selection, select_plainly(value, size), "{} of {size}", value.escape_ascii());
    if let Selection::Several(spans) = selection {
        assert!((2..=RANGES_MAX).contains(&spans.len()));
        check_multipart(&spans, size);
    }
}

fn check_multipart(spans: &Spans, size: u64) {
    let boundary = Boundaries::new(size).next(&EntityTag::new(FILE, None));
    let plan = Multipart::new(spans, size, b"text/plain", boundary);
    let pieces: Vec<_> = plan.pieces().collect();
    let length = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.len() as u64,
        Piece::File(span) => span.length,
    });
    assert_eq!(length.fold(0, u64::saturating_add), plan.content_length());
    let files = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(_) => None,
        Piece::File(span) => Some(*span),
    });
    assert!(files.eq(spans.iter().copied()));
}

/// `select` again, with other means: first everything is read, then everything is resolved, then it is judged.
fn select_plainly(value: &[u8], size: u64) -> Selection {
    let Some(specs) = read_plainly(value) else { return Selection::Whole };
    let is_suffix = |(first, last): &(Option<u64>, Option<u64>)| first.is_none() && *last != Some(0);
    if specs.is_empty() || specs.len() > RANGES_MAX || (size == 0 && specs.iter().any(is_suffix)) {
        return Selection::Whole;
    }
    let resolve = |(first, last): (Option<u64>, Option<u64>)| match (first, last) {
        (Some(first), last) => (first, last.unwrap_or(u64::MAX).min(size.wrapping_sub(1))),
        (None, last) => (size - last.unwrap_or(0).min(size), size.wrapping_sub(1)),
    };
    let bounds: Vec<_> = specs.into_iter().map(resolve).filter(|(first, _)| *first < size).collect();
    let mut sorted = bounds.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
        return Selection::Whole;
    }
    let spans: Spans = bounds.iter().map(|(first, last)| Span { offset: *first, length: last - first + 1 }).collect();
    match spans[..] {
        [] => Selection::Unsatisfiable,
        [span] => Selection::One(span),
        [..] => Selection::Several(spans),
    }
}

type PlainSpec = (Option<u64>, Option<u64>);

fn read_plainly(value: &[u8]) -> Option<Vec<PlainSpec>> {
    let text = std::str::from_utf8(value).ok()?;
    let is_blank = |character: char| matches!(character, ' ' | '\t');
    let (unit, set) = text.trim_matches(is_blank).split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let elements = set.split(',').map(|element| element.trim_matches(is_blank)).filter(|element| !element.is_empty());
    elements
        .map(|element| {
            let (first, last) = element.split_once('-')?;
            let (first, last) = (number_plainly(first)?, number_plainly(last)?);
            match (first, last) {
                (None, None) => None,
                (Some(first), Some(last)) if first > last => None,
                spec => Some(spec),
            }
        })
        .collect()
}

/// Nothing if there are no digits; `None` if there is something else.
fn number_plainly(text: &str) -> Option<Option<u64>> {
    match text {
        "" => Some(None),
        text if text.chars().all(|character| character.is_ascii_digit()) => {
            Some(Some(text.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

/// Up to six lines: which fields there are, and their values, in which an `@` stands for the file's tag. Whatever they say,
/// the verdict is one that the fields that are there can lead to, and the fields agree with each other.
pub fn conditional(bytes: &[u8]) {
    let validators = Validators::new(FILE, None, 1_700_000_000);
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let values: Vec<_> = rest.split(|byte| *byte == b'\n').map(|line| with_tag(line, &validators)).collect();
    let field = |index: usize| values.get(index).map(|value| &value[..]).filter(|_| choice >> index & 1 == 1);
    let conditions = Conditions {
        if_match: field(0),
        if_none_match: field(1),
        if_modified_since: field(2),
        if_unmodified_since: field(3),
        if_range: field(4),
    };
    let is_get = choice >> 5 & 1 == 1;
    match evaluate(&conditions, &validators, is_get) {
        PreconditionResult::Proceed => {}
        PreconditionResult::NotModified => {
            assert!(is_get && (conditions.if_none_match.is_some() || conditions.if_modified_since.is_some()));
        }
        PreconditionResult::PreconditionFailed => {
            let has_reason = conditions.if_match.is_some()
                || conditions.if_unmodified_since.is_some()
                || conditions.if_none_match.is_some() && !is_get;
            assert!(has_reason);
        }
    }
    values.iter().for_each(|value| check_value(value, &validators));
}

fn with_tag(line: &[u8], validators: &Validators) -> Vec<u8> {
    let mut value = Vec::with_capacity(line.len());
    for byte in line {
        match byte {
            b'@' => value.extend_from_slice(validators.tag().as_bytes()),
            _ => value.push(*byte),
        }
    }
    value
}

/// What one value means in one field bounds what it can mean in the others.
fn check_value(value: &[u8], validators: &Validators) {
    let none = Conditions::default();
    let verdict = |conditions: &Conditions<'_>| evaluate(conditions, validators, true);
    let is_strong_match =
        |list: &[u8]| verdict(&Conditions { if_match: Some(list), ..none }) == PreconditionResult::Proceed;
    let is_weak_match =
        |list: &[u8]| verdict(&Conditions { if_none_match: Some(list), ..none }) == PreconditionResult::NotModified;
    assert!(!is_strong_match(value) || is_weak_match(value), "a strong match is a weak one");
    if std::str::from_utf8(value).map(|text| text.trim_matches([' ', '\t'])) != Ok("*") {
        let longer = [value, b", \"other\""].concat();
        assert_eq!(is_strong_match(value), is_strong_match(&longer), "one more tag changes nothing");
        assert_eq!(is_weak_match(value), is_weak_match(&longer), "one more tag changes nothing");
    }
    let is_since = verdict(&Conditions { if_modified_since: Some(value), ..none }) == PreconditionResult::NotModified;
    let is_before =
        verdict(&Conditions { if_unmodified_since: Some(value), ..none }) == PreconditionResult::PreconditionFailed;
    assert!(!(is_since && is_before), "not modified since and modified since");
    if allows_range(&Conditions { if_range: Some(value), ..none }, validators) {
        assert!(is_strong_match(value) || (is_since && !is_before), "neither the tag nor the date");
    }
}
