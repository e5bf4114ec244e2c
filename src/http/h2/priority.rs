//! The priority that a client gives a response (RFC 9218): the value of the `Priority` field or of
//! a PRIORITY_UPDATE frame.
//!
//! It is a dictionary of structured fields (RFC 9651, 3.2), of which two members have a meaning.
//! All others are parsed, so that a malformed value is recognised, and skipped. A priority is advice
//! and a malformed one is none: it is never an error. In what order responses are sent is not
//! decided here.

/// Depth of what is parsed is fixed, and so is its length: a longer value is no priority.
const VALUE_BYTES_MAX: usize = 256;

/// How urgent a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priority {
    /// 0 (first) to 7 (last).
    pub urgency: u8,
    /// Whether the client can use the response as it arrives, so that such responses share the
    /// connection. `None`: it does not say, which for RFC 9218, 4.2, is no.
    pub incremental: Option<bool>,
}

impl Default for Priority {
    /// Of a request that has none.
    fn default() -> Self {
        Self { urgency: 3, incremental: None }
    }
}

impl Priority {
    /// The priority in a value; `None` if the value is malformed. A member that is absent, of another
    /// type or out of range has its default (RFC 9218, 4).
    ///
    /// ```
    /// use xps::internals::http::h2::Priority;
    ///
    /// assert_eq!(Priority::parse(b"u=1, i"), Some(Priority { urgency: 1, incremental: Some(true) }));
    /// ```
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        let mut priority = Self::default();
        let mut input = Input { rest: value };
        input.skip(b" ");
        while !input.rest.is_empty() {
            let key = input.key()?;
            // Of a repeated member the last counts.
            let item = if input.take(b'=') { input.member()? } else { Item::Boolean(true) };
            input.parameters()?;
            match (key, item) {
                (b"u", Item::Integer(urgency @ 0..=7)) => priority.urgency = urgency as u8,
                (b"u", _) => priority.urgency = Self::default().urgency,
                (b"i", Item::Boolean(incremental)) => priority.incremental = Some(incremental),
                (b"i", _) => priority.incremental = Self::default().incremental,
                _ => {}
            }
            input.skip(b" \t");
            if input.rest.is_empty() {
                break;
            }
            if !input.take(b',') {
                return None;
            }
            input.skip(b" \t");
            if input.rest.is_empty() {
                return None;
            }
        }
        Some(priority)
    }
}

/// A value of a member or parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Boolean(bool),
    Integer(i64),
    /// Any other, well-formed.
    Other,
}

/// What is still to be parsed.
struct Input<'b> {
    rest: &'b [u8],
}

impl<'b> Input<'b> {
    /// Consumes the next byte if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Consumes bytes as long as they are as wanted.
    fn take_while(&mut self, is_wanted: impl Fn(u8) -> bool) -> &'b [u8] {
        let length = self.rest.iter().position(|&byte| !is_wanted(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.take_while(|byte| bytes.contains(&byte));
    }

    fn key(&mut self) -> Option<&'b [u8]> {
        let is_first = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'*';
        self.rest.first().filter(|byte| is_first(byte))?;
        let is_next =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'*');
        Some(self.take_while(is_next))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    /// An item, or a list of items in parentheses.
    fn member(&mut self) -> Option<Item> {
        if !self.take(b'(') {
            return self.item();
        }
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.rest, [b' ' | b')', ..]) {
                return None;
            }
        }
    }

    /// An item without its parameters.
    fn item(&mut self) -> Option<Item> {
        match *self.rest.first()? {
            b'?' => {
                self.take(b'?');
                if self.take(b'1') {
                    return Some(Item::Boolean(true));
                }
                self.take(b'0').then_some(Item::Boolean(false))
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'@' => {
                self.take(b'@');
                match self.number()? {
                    Item::Integer(_) => Some(Item::Other),
                    Item::Boolean(_) | Item::Other => None,
                }
            }
            b'"' => self.string(),
            b':' => {
                self.take(b':');
                self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
                self.take(b':').then_some(Item::Other)
            }
            b'%' => {
                self.take(b'%');
                self.take(b'"').then_some(())?;
                self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"');
                self.take(b'"').then_some(Item::Other)
            }
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take_while(|byte| crate::http::token::is_token_byte(byte) || matches!(byte, b':' | b'/'));
                Some(Item::Other)
            }
            _ => None,
        }
    }

    /// An integer of at most 15 digits, or a decimal of 12 and 3.
    fn number(&mut self) -> Option<Item> {
        let is_negative = self.take(b'-');
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        if self.take(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            return (digits.len() <= 12 && matches!(fraction.len(), 1..=3)).then_some(Item::Other);
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Item::Integer(if is_negative { -number } else { number }))
    }

    fn string(&mut self) -> Option<Item> {
        self.take(b'"');
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            if self.take(b'"') {
                return Some(Item::Other);
            }
            let is_escape = self.take(b'\\') && (self.take(b'"') || self.take(b'\\'));
            if !is_escape {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(value: &str) -> Option<(u8, Option<bool>)> {
        Priority::parse(value.as_bytes()).map(|priority| (priority.urgency, priority.incremental))
    }

    #[test]
    fn two_members_have_a_meaning() {
        for (value, expected) in [
            ("", (3, None)),
            ("u=0", (0, None)),
            ("u=7,i", (7, Some(true))),
            (" u=5 ,\ti=?1 ", (5, Some(true))),
            ("i=?0", (3, Some(false))),
            ("u=1, i, u=2", (2, Some(true))),
            ("u=1;a=b, i;x", (1, Some(true))),
            ("u=-0", (0, None)),
        ] {
            assert_eq!(parsed(value), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn a_member_out_of_range_or_of_another_type_has_its_default() {
        for value in ["u=8", "u=-1", "u=1.0", "u", "u=a", "u=(1 2)", "i=1", "i=yes", "u=999999999999999"] {
            assert_eq!(parsed(value), Some((3, None)), "{value:?}");
        }
    }

    #[test]
    fn other_members_are_skipped_whatever_their_type() {
        for other in [
            "a",
            "a=b/c:d",
            "*x=?0",
            "a=\"u=1, \\\" \\\\\"",
            "a=:aGk=:",
            "a=(1 \"x\";y 2.5);z",
            "a=()",
            "a=@-5",
            "a=%\"%c3\"",
        ] {
            assert_eq!(parsed(&format!("{other}, u=6")), Some((6, None)), "{other}");
        }
    }

    #[test]
    fn a_malformed_value_is_none() {
        for bad in [
            ",",
            "u=1,",
            "u=",
            "u=1 i",
            "U=1",
            "=1",
            "u==1",
            "u=1;",
            "i=?2",
            "u=1,,i",
            "a=\"x",
            "a=\"\\x\"",
            "a=:x",
            "a=(1",
            "a=(1,2)",
            "u=1234567890123456",
            "u=1.",
            "u=1.2345",
            "u=1\n",
            "\tu=1",
            "a=@1.5",
            "u=-",
            "a=%x",
            "a=(1;2)",
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        assert_eq!(parsed(&format!("u=1, a={}", "x".repeat(300))), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_value_has_an_urgency_in_range_or_is_none(value in "[ui=?01-9;, ()\"\\\\:@%.a*-]{0,40}") {
            if let Some(priority) = Priority::parse(value.as_bytes()) {
                prop_assert!(priority.urgency <= 7);
            }
        }
    }
}
