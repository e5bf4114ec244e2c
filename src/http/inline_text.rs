//! [`inline_text`]: formats short text in place, without allocation.

use std::fmt;

use arrayvec::ArrayString;

/// Formats these arguments: `inline_text(format_args!(…))`.
///
/// Each use has an `N` that fits its longest text. Longer text would be truncated, and fails an
/// assertion in debug builds.
pub fn inline_text<const N: usize>(arguments: fmt::Arguments<'_>) -> ArrayString<N> {
    let mut text = ArrayString::new();
    let written = fmt::write(&mut text, arguments);
    debug_assert!(written.is_ok(), "{arguments} is longer than {N} bytes");
    text
}
