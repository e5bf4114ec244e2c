//! Optional white space around field values: blanks and tabs, nothing else (RFC 9110, 5.6.3).

/// Removes blanks and tabs at both ends. `trim_ascii` would also remove form feeds and line ends.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let value = trim_start(value);
    let end = value.iter().rposition(|byte| !is_ows(*byte)).map_or(0, |last| last + 1);
    &value[..end]
}

/// Removes blanks and tabs at the start.
pub(super) fn trim_start(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !is_ows(*byte)).unwrap_or(value.len());
    &value[start..]
}

const fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
