//! Short text that lies where it is stored, so that making one allocates nothing.

use std::fmt;

/// Text of at most `N` bytes, at most 255.
#[derive(Clone, Copy)]
pub struct InlineText<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> InlineText<N> {
    /// The text that these arguments make: `InlineText::format(format_args!(…))`.
    ///
    /// Every use has an `N` that its longest text fits; one that did not would be cut, and noticed in debug builds.
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

    /// The text. Only whole pieces are ever appended, so the bytes are always UTF-8.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for InlineText<N> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let start = usize::from(self.length);
        let room = self.bytes.get_mut(start..start + piece.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(piece.as_bytes());
        // Below `N`, which fits.
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
