//! The subject of a certificate as text (RFC 4514).

use std::fmt::Write as _;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// The longest subject that is written, in bytes. A longer one is left out: a part of it could be the
/// subject of another.
const SUBJECT_BYTES_MAX: usize = 2 << 10;

/// Attributes that have a name (RFC 4514, 3, and two that every other program names), by the DER of their
/// number.
const NAMES: [(&[u8], &str); 11] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// The subject of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// All of it, as `CN=client,O=Example`: printable ASCII, in which all that could have a meaning is
    /// escaped (RFC 4514, 2.4). Empty: it has no attribute, is malformed or longer than 2 KiB.
    pub text: Box<str>,
    /// The first common name.
    pub common_name: Option<Box<str>>,
}

impl Subject {
    /// The subject of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self::parse(certificate).unwrap_or_default()
    }

    /// The subject of which only the common name is known.
    pub fn of_common_name(common_name: &str) -> Self {
        let mut text = "CN=".to_owned();
        push_value(&mut text, common_name);
        Self { text: bounded(text).unwrap_or_default(), common_name: Some(common_name.into()) }
    }

    fn parse(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().next().and_then(|attribute| attribute.as_str().ok());
        let mut text = String::new();
        // The last one of the sequence comes first (RFC 4514, 2.1).
        let all: Vec<_> = subject.iter().collect();
        for name in all.into_iter().rev() {
            for (place, attribute) in name.iter().enumerate() {
                match (text.is_empty(), place) {
                    (true, _) => {}
                    (false, 0) => text.push(','),
                    (false, _) => text.push('+'),
                }
                push(&mut text, attribute)?;
            }
        }
        Some(Self { text: bounded(text)?, common_name: common_name.map(Box::from) })
    }
}

fn bounded(text: String) -> Option<Box<str>> {
    (text.len() <= SUBJECT_BYTES_MAX).then(|| text.into())
}

/// Writes an attribute. `None`: its number is too large.
fn push(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let number = attribute.attr_type();
    let name = NAMES.iter().find(|(der, _)| *der == number.as_bytes()).map(|(_, name)| *name);
    match (name, attribute.as_str()) {
        (Some(name), Ok(value)) => {
            text.push_str(name);
            text.push('=');
            push_value(text, value);
        }
        (name, _) => {
            match name {
                Some(name) => text.push_str(name),
                None => {
                    for (place, arc) in number.iter()?.enumerate() {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "{}{arc}", if place == 0 { "" } else { "." });
                    }
                }
            }
            text.push_str("=#");
            let value = attribute.attr_value();
            let header = &value.header;
            let kind =
                (header.class() as u8) << 6 | u8::from(header.constructed()) << 5 | (header.tag().0 & 0x1f) as u8;
            let mut hex = |byte: u8| {
                let _ = write!(text, "{byte:02X}");
            };
            hex(kind);
            let content = value.as_bytes();
            match content.len() {
                short @ ..0x80 => hex(short as u8),
                long => {
                    let octets = long.to_be_bytes();
                    let from = octets.iter().position(|octet| *octet != 0).unwrap_or(0);
                    hex(0x80 | (octets.len() - from) as u8);
                    octets[from..].iter().for_each(|octet| hex(*octet));
                }
            }
            content.iter().for_each(|octet| hex(*octet));
        }
    }
    Some(())
}

/// Writes a value with escapes (RFC 4514, 2.4). All that is not printable ASCII is escaped, too.
fn push_value(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn subject(attributes: &[(DnType, DnValue)]) -> Subject {
        let mut parameters = CertificateParams::new(vec!["a.org".to_owned()]).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            parameters.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Subject::of(certificate.der())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn the_last_attribute_comes_first() {
        let Subject { text, common_name } = subject(&[
            (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
            (DnType::OrganizationName, utf8("Example")),
            (DnType::CommonName, utf8("client 7")),
        ]);
        assert_eq!((&*text, common_name.as_deref()), ("CN=client 7,O=Example,C=DE", Some("client 7")));
        assert_eq!(subject(&[]), Subject::default());
        assert_eq!(Subject::of(b"no certificate"), Subject::default());
    }

    /// Whatever a certificate says, the text is one line, and one subject.
    #[test]
    fn what_could_have_a_meaning_is_escaped() {
        for (value, expected) in [
            ("a,CN=root", "CN=a\\,CN=root"),
            ("#1 \"x\" <y>;z+\\", "CN=\\#1 \\\"x\\\" \\<y\\>\\;z\\+\\\\"),
            (" both ends ", "CN=\\ both ends\\ "),
            ("a\r\nX-Admin: 1", "CN=a\\0D\\0AX-Admin: 1"),
            ("gr\u{fc}n\0\u{7f}", "CN=gr\\C3\\BCn\\00\\7F"),
            (" ", "CN=\\ "),
        ] {
            let subject = subject(&[(DnType::CommonName, utf8(value))]);
            assert_eq!((&*subject.text, subject.common_name.as_deref()), (expected, Some(value)));
            assert_eq!(Subject::of_common_name(value), subject);
        }
        let long = subject(&[(DnType::CommonName, utf8(&"x".repeat(3000)))]);
        assert_eq!(long, Subject::default());
    }

    #[test]
    fn what_has_no_name_or_is_no_text_is_in_hexadecimal() {
        let number = DnType::CustomDnType(vec![1, 2, 840, 7]);
        assert_eq!(&*subject(&[(number.clone(), utf8("ab"))]).text, "1.2.840.7=#0C026162");
        let long = subject(&[(number, utf8(&"a".repeat(200)))]).text;
        assert!(long.starts_with("1.2.840.7=#0C81C86161") && long.len() == 17 + 400, "{long}");
        let teletex = DnValue::TeletexString("ab".try_into().unwrap());
        assert_eq!(&*subject(&[(DnType::CommonName, teletex)]).text, "CN=#14026162");
    }
}
