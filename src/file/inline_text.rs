//! [`InlineText`]: short text stored in place, without allocation.

use std::fmt;

/// Text of at most `N` bytes, at most 255.
#[derive(Clone, Copy)]
pub struct InlineText<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> InlineText<N> {
    /// Formats these arguments: `InlineText::format(format_args!(…))`.
    ///
    /// Each use has an `N` that fits its longest text. Longer text would be truncated, and fails an
    /// assertion in debug builds.
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        const { assert!(N <= u8::MAX as usize) };
        let mut text = Self { bytes: [0; N], length: 0 };
        let written = fmt::write(&mut text, arguments);
        debug_assert!(written.is_ok(), "{arguments} is longer than {N} bytes");
        text
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The text. Only whole string pieces are appended, so the bytes are always UTF-8.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for InlineText<N> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let start = usize::from(self.length);
        let room = self.bytes.get_mut(start..start + piece.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(piece.as_bytes());
        // At most `N`, which fits in a `u8`.
        self.length += piece.len() as u8;
        Ok(())
    }
}

impl<const N: usize> PartialEq for InlineText<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for InlineText<N> {}

impl<const N: usize> fmt::Debug for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
