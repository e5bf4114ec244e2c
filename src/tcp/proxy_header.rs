//! The PROXY protocol header, by which a proxy names the client it connects for.
//!
//! The protocol is HAProxy's, versions 1 and 2 (`doc/proxy-protocol.txt` in its repository). A header of
//! version 2 may also say what the client has agreed on with the proxy if it speaks TLS: in the fields
//! (TLVs) `PP2_TYPE_SSL`, `PP2_TYPE_ALPN` and `PP2_TYPE_AUTHORITY` (2.2 of the specification). All others
//! are skipped, checksums too.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader, SslInfo, Tlv};

/// Maximum length of a header in bytes: far more than proxies send, and too little to exhaust
/// memory.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Maximum length of a version 1 line with its CRLF, from the specification.
const LINE_BYTES_MAX: usize = 107;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// A binary header.
    V2,
}

/// The two addresses of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The source address.
    pub client: SocketAddr,
    /// The destination address.
    pub server: SocketAddr,
}

/// What the client has agreed on with the proxy, as the proxy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The version, as `TLSv1.3`; printable ASCII without spaces.
    pub version: Option<Box<str>>,
    /// The cipher suite, by the name of the proxy's TLS library; printable ASCII without spaces.
    pub cipher_suite: Option<Box<str>>,
    /// The name that the client asked for (SNI).
    pub server_name: Option<Box<str>>,
    /// The application protocol (ALPN).
    pub protocol: Option<Box<[u8]>>,
    /// The client's certificate, if it has shown one and the proxy has verified it.
    pub certificate: Option<Certificate>,
}

/// A client's certificate, as the proxy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of its subject.
    pub common_name: Option<Box<str>>,
    /// Whether it was shown on an earlier connection of the session, not on this one.
    pub is_of_session: bool,
}

/// Result of [`parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The bytes are the beginning of a header.
    Partial,
    /// The bytes begin with a complete header.
    Complete {
        /// The addresses of the client's connection. `None`: the proxy connects for itself, or for
        /// a client without an internet address.
        ends: Option<Ends>,
        /// What the client has agreed on with the proxy, if it speaks TLS.
        tls: Option<Box<Tls>>,
        /// Length of the header in bytes.
        length: usize,
    },
}

/// The bytes are neither a header of the PROXY protocol nor the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a header of the PROXY protocol")]
pub struct Malformed;

/// Parses the header at the beginning of a connection.
///
/// # Errors
/// The bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok((header, length)) => {
            let ends = header.proxied_address().filter(|address| address.protocol == Protocol::Stream);
            // The proxy's own connection: all that follows the command is to be ignored.
            let tls = if bytes.get(COMMAND_AT) == Some(&LOCAL) { None } else { tls_of(&header)? };
            Ok(Parsed::Complete { ends: ends.map(Ends::from), tls: tls.map(Box::new), length })
        }
        Err(Error::BufferTooShort) if bytes.len() < HEADER_BYTES_MAX && begins_one(bytes) => Ok(Parsed::Partial),
        Err(_) => Err(Malformed),
    }
}

/// Where version 2 has its command, and the one of a connection that is the proxy's own.
const COMMAND_AT: usize = 12;
const LOCAL: u8 = 0x20;

/// Reads what the fields say of TLS. Each may be there once.
fn tls_of(header: &ProxyHeader<'_>) -> Result<Option<Tls>, Malformed> {
    let (mut server_name, mut protocol, mut tls) = (None, None, None);
    for field in header.tlvs() {
        let is_repeated = match field.map_err(|_| Malformed)? {
            Tlv::Authority(name) => server_name.replace(name.as_ref().into()).is_some(),
            Tlv::Alpn(name) => protocol.replace(name.as_ref().into()).is_some(),
            Tlv::Ssl(info) => tls.replace(tls_of_info(&info)?).is_some(),
            _ => false,
        };
        if is_repeated {
            return Err(Malformed);
        }
    }
    Ok(tls.flatten().map(|tls| Tls { server_name, protocol, ..tls }))
}

/// Reads the fields in `PP2_TYPE_SSL`. `None`: the client does not speak TLS.
fn tls_of_info(info: &SslInfo<'_>) -> Result<Option<Tls>, Malformed> {
    let (mut version, mut cipher_suite, mut common_name) = (None, None, None);
    for field in info.tlvs() {
        let is_repeated = match field.map_err(|_| Malformed)? {
            Tlv::SslVersion(name) => version.replace(word(&name)?).is_some(),
            Tlv::SslCipher(name) => cipher_suite.replace(word(&name)?).is_some(),
            Tlv::SslCn(name) => common_name.replace(name.as_ref().into()).is_some(),
            _ => false,
        };
        if is_repeated {
            return Err(Malformed);
        }
    }
    // `verify` is zero only if a certificate was shown and found to be good.
    let has_certificate = (info.client_cert_conn() || info.client_cert_sess()) && info.verify() == 0;
    let certificate = has_certificate.then(|| Certificate { common_name, is_of_session: !info.client_cert_conn() });
    let tls = Tls { version, cipher_suite, server_name: None, protocol: None, certificate };
    Ok(info.client_ssl().then_some(tls))
}

/// A name of the specification: printable ASCII without spaces.
fn word(text: &str) -> Result<Box<str>, Malformed> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| text.into()).ok_or(Malformed)
}

/// Encodes a header for this connection. `ends` is `None` if the connection is the proxy's own, as for
/// health checks. Only version 2 says what `tls` is, and not without `ends`.
pub fn header(version: ProxyVersion, ends: Option<Ends>, tls: Option<&Tls>) -> Vec<u8> {
    let header = match ends {
        Some(ends) => {
            let fields = tls.filter(|_| version == ProxyVersion::V2).into_iter().flat_map(Tls::fields);
            ProxyHeader::with_tlvs(Some(ends.of_one_family().into()), fields)
        }
        None => ProxyHeader::with_local(),
    };
    let mut bytes = Vec::with_capacity(128);
    // Both addresses are of one family, and the fields are far from too long, so the encoder cannot fail.
    let written = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    debug_assert!(written.is_ok(), "{written:?} for {ends:?}");
    bytes
}

/// Whether the bytes may become a header. A peer that does not speak the protocol is rejected at
/// its first bytes.
fn begins_one(bytes: &[u8]) -> bool {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    // Runs again for each piece that arrives, so it does as little as possible.
    let may_be_line = || bytes.len() < LINE_BYTES_MAX && !bytes.contains(&b'\n');
    (begins(b"PROXY ") && may_be_line()) || begins(b"\r\n\r\n\0\r\nQUIT\n")
}

/// The longest text that is sent in a field, in bytes: a common name has at most 64 characters (RFC 5280,
/// appendix A), a host name 255 bytes.
const TEXT_BYTES_MAX: usize = 512;

impl Tls {
    /// The fields of version 2. A text that is too long is left out.
    fn fields(&self) -> Vec<Tlv<'_>> {
        fn short(text: Option<&str>) -> Option<&str> {
            text.filter(|text| text.len() <= TEXT_BYTES_MAX)
        }
        let mut fields = Vec::with_capacity(3);
        if let Some(protocol) = self.protocol.as_deref().filter(|protocol| protocol.len() <= TEXT_BYTES_MAX) {
            fields.push(Tlv::Alpn(protocol.into()));
        }
        if let Some(name) = short(self.server_name.as_deref()) {
            fields.push(Tlv::Authority(name.into()));
        }
        let (on_connection, in_session) = match &self.certificate {
            Some(certificate) => (!certificate.is_of_session, true),
            None => (false, false),
        };
        let mut info = SslInfo::new(true, on_connection, in_session, u32::from(!in_session));
        if let Some(version) = short(self.version.as_deref()) {
            info.append_tlv(Tlv::SslVersion(version.into()));
        }
        if let Some(cipher_suite) = short(self.cipher_suite.as_deref()) {
            info.append_tlv(Tlv::SslCipher(cipher_suite.into()));
        }
        let common_name = self.certificate.as_ref().and_then(|certificate| certificate.common_name.as_deref());
        if let Some(name) = short(common_name) {
            info.append_tlv(Tlv::SslCn(name.into()));
        }
        fields.push(Tlv::Ssl(info));
        fields
    }
}

impl Ends {
    /// Converts both addresses to IPv4 or both to IPv6, since a header has one family.
    fn of_one_family(self) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let ends = Self { client: canonical(self.client), server: canonical(self.server) };
        if ends.client.is_ipv4() == ends.server.is_ipv4() {
            return ends;
        }
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()),
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        Self { client: mapped(ends.client), server: mapped(ends.server) }
    }
}

impl From<&ProxiedAddress> for Ends {
    fn from(address: &ProxiedAddress) -> Self {
        Self { client: address.source, server: address.destination }
    }
}

impl From<Ends> for ProxiedAddress {
    fn from(ends: Ends) -> Self {
        Self::stream(ends.client, ends.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[test]
    fn what_is_written_is_read_again_also_in_pieces() {
        let cases = [
            Some(ends("192.0.2.1:4711", "198.51.100.1:80")),
            Some(ends("[2001:db8::1]:4711", "[2001:db8::2]:80")),
            None,
        ];
        for (version, ends) in
            [ProxyVersion::V1, ProxyVersion::V2].into_iter().flat_map(|v| cases.map(|ends| (v, ends)))
        {
            let mut bytes = header(version, ends, None);
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Partial), "{version:?} {ends:?} {cut}");
            }
            bytes.extend_from_slice(b"GET /");
            assert_eq!(parse(&bytes), Ok(Parsed::Complete { ends, tls: None, length }), "{version:?}");
        }
    }

    #[test]
    fn the_forms_are_those_of_the_specification() {
        let v4 = Some(ends("192.0.2.1:4711", "198.51.100.1:80"));
        assert_eq!(
            header(ProxyVersion::V1, v4, Some(&Tls::default())),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 80\r\n"
        );
        assert_eq!(header(ProxyVersion::V1, None, None), b"PROXY UNKNOWN\r\n");
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\0\x50";
        assert_eq!(header(ProxyVersion::V2, v4, None), v2);
    }

    #[test]
    fn ends_of_two_families_are_told_in_one() {
        let told =
            |client, server| String::from_utf8(header(ProxyVersion::V1, Some(ends(client, server)), None)).unwrap();
        assert_eq!(told("[2001:db8::1]:1", "192.0.2.1:2"), "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 2\r\n");
        assert_eq!(told("[::ffff:192.0.2.1]:1", "192.0.2.2:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    }

    #[test]
    fn what_is_carried_along_is_skipped() {
        let mut bytes = header(ProxyVersion::V2, Some(ends("192.0.2.1:4711", "198.51.100.1:80")), None);
        bytes[15] += 5;
        bytes.extend_from_slice(b"\x04\0\x02xxGET /");
        let Ok(Parsed::Complete { length, .. }) = parse(&bytes) else { panic!("a header") };
        assert_eq!(&bytes[length..], b"GET /");
    }

    #[test]
    fn whoever_does_not_speak_it_is_told_at_once() {
        for bytes in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"PROXX",
            b"\r\n\r\nx",
            b"PROXY TCP4 1.2.3.4 x 1 2\r\n",
            b"PROXY TCP4 me\r\n",
        ] {
            assert_eq!(parse(bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
        let mut endless = b"PROXY TCP4 1.2.3.4".to_vec();
        endless.resize(LINE_BYTES_MAX, b'1');
        assert_eq!(parse(&endless), Err(Malformed));
        let mut huge = header(ProxyVersion::V2, None, None);
        huge[14] = 0xff;
        huge.resize(HEADER_BYTES_MAX, 0);
        assert_eq!(parse(&huge), Err(Malformed));
    }

    /// A header with these fields.
    fn with_fields(fields: &[u8]) -> Vec<u8> {
        let mut bytes = header(ProxyVersion::V2, Some(ends("192.0.2.1:4711", "198.51.100.1:443")), None);
        bytes[14..16].copy_from_slice(&u16::try_from(12 + fields.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(fields);
        bytes
    }

    fn told(fields: &[u8]) -> Result<Option<Tls>, Malformed> {
        match parse(&with_fields(fields))? {
            Parsed::Complete { tls, .. } => Ok(tls.map(|tls| *tls)),
            Parsed::Partial => panic!("it is complete"),
        }
    }

    fn known() -> Tls {
        Tls {
            version: Some("TLSv1.3".into()),
            cipher_suite: Some("TLS_AES_128_GCM_SHA256".into()),
            server_name: Some("a.org".into()),
            protocol: Some(Box::from(&b"h2"[..])),
            certificate: Some(Certificate { common_name: Some("cl\u{fc}ent".into()), is_of_session: false }),
        }
    }

    #[test]
    fn what_is_said_of_tls_is_read_again() {
        let guest = Tls { certificate: None, server_name: None, protocol: None, ..known() };
        let resumed = Certificate { common_name: None, is_of_session: true };
        for tls in [known(), guest, Tls { certificate: Some(resumed), ..known() }, Tls::default()] {
            let ends = Some(ends("[2001:db8::1]:4711", "[2001:db8::2]:443"));
            let mut bytes = header(ProxyVersion::V2, ends, Some(&tls));
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Partial), "{cut}");
            }
            bytes.extend_from_slice(b"GET /");
            assert_eq!(parse(&bytes), Ok(Parsed::Complete { ends, tls: Some(Box::new(tls)), length }));
        }
        assert_eq!(header(ProxyVersion::V2, None, Some(&known())), header(ProxyVersion::V2, None, None));
        let long = Tls { server_name: Some("x".repeat(70_000).into()), ..known() };
        assert_eq!(
            told(&header(ProxyVersion::V2, Some(ends("1.2.3.4:5", "1.2.3.4:5")), Some(&long))[28..]),
            Ok(Some(Tls { server_name: None, ..known() }))
        );
    }

    /// The octets of the specification, 2.2.
    #[test]
    fn fields_have_the_form_of_the_specification() {
        let bytes = header(ProxyVersion::V2, Some(ends("192.0.2.1:4711", "198.51.100.1:443")), Some(&known()));
        // The client has used TLS and has shown a certificate, on this connection and so in its session.
        let fields = [
            &b"\x01\0\x02h2\x02\0\x05a.org\x20\0\x32\x07\0\0\0\0"[..],
            b"\x21\0\x07TLSv1.3\x23\0\x16TLS_AES_128_GCM_SHA256\x22\0\x07cl\xc3\xbcent",
        ];
        assert_eq!(bytes, with_fields(&fields.concat()));
    }

    #[test]
    fn only_what_is_verified_counts() {
        let ssl = |flags: u8, verify: u8| told(&[0x20, 0, 11, flags, 0, 0, 0, verify, 0x22, 0, 3, b'e', b'v', b'e']);
        let eve = |is_of_session| Some(Certificate { common_name: Some("eve".into()), is_of_session });
        assert_eq!(ssl(7, 0).unwrap().unwrap().certificate, eve(false));
        assert_eq!(ssl(5, 0).unwrap().unwrap().certificate, eve(true));
        assert_eq!(ssl(7, 1).unwrap().unwrap().certificate, None);
        assert_eq!(ssl(1, 0).unwrap().unwrap().certificate, None);
        assert_eq!(ssl(6, 0), Ok(None), "no TLS");
        assert_eq!(told(b"\x02\0\x01a\x01\0\x01b"), Ok(None), "no TLS");
        let mut own = with_fields(b"\x20\0\x05\x01\0\0\0\0");
        own[12] = LOCAL;
        assert!(matches!(parse(&own), Ok(Parsed::Complete { ends: None, tls: None, length }) if length == own.len()));
    }

    #[test]
    fn a_field_that_is_malformed_makes_the_header_so() {
        for fields in [
            &b"\x02"[..],
            b"\x02\0\x02a",
            b"\xea\xff\xffa",
            b"\x02\0\x01\xff",
            b"\x20\0\x04\x01\0\0\0",
            b"\x20\0\x06\x01\0\0\0\0\x21",
            b"\x20\0\x09\x01\0\0\0\0\x21\0\x02a",
            b"\x20\0\x09\x01\0\0\0\0\x21\0\x01\n",
            b"\x20\0\x08\x01\0\0\0\0\x23\0\0",
            b"\x20\0\x09\x01\0\0\0\0\x22\0\x01\xff",
            b"\x20\0\x05\x01\0\0\0\0\x20\0\x05\x01\0\0\0\0",
            b"\x02\0\x01a\x02\0\x01b",
        ] {
            assert_eq!(told(fields), Err(Malformed), "{}", fields.escape_ascii());
        }
        assert_eq!(told(b"\xea\0\x02\0\0\x04\0\0"), Ok(None), "fields that are not known are skipped");
    }

    /// Whatever a peer sends, the result is one, and it does not depend on how the bytes arrive.
    #[test]
    fn no_change_of_a_byte_does_harm() {
        let good = header(ProxyVersion::V2, Some(ends("192.0.2.1:4711", "198.51.100.1:443")), Some(&known()));
        for at in 0..good.len() {
            for change in 1..=u8::MAX {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                let whole = parse(&bytes);
                if let Ok(Parsed::Complete { length, .. }) = &whole {
                    assert!(*length <= bytes.len());
                    assert_eq!(parse(&bytes[..*length]), whole);
                    assert_eq!(parse(&bytes[..length - 1]), Ok(Parsed::Partial));
                }
            }
        }
    }
}
