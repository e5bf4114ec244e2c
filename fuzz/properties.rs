//! What must hold for any bytes at all. The fuzz targets here and the bounded tests in `tests/http_properties.rs` run
//! the same functions; each panics when its property is broken.

use std::convert::Infallible;
use std::mem::{Discriminant, discriminant};

use xps::internals::buffer::{Chain, Inbox, Pool, PoolConfig, SizeClass};
use xps::internals::client::{ClientConnection, ClientError, ClientLimits, Event, Request};
use xps::internals::http::chunked::{Decoder, Step};
use xps::internals::http::forward::{
    Authority, ConnectionNames, RequestContext, RequestRules, ResponseContext, ResponseRules, upgrade_to_forward,
    write_request, write_response,
};
use xps::internals::http::path::{decode, encode_path};
use xps::internals::http::request::{HeadLimits, Parsed, RequestHead, parse};
use xps::internals::http::token::is_token;
use xps::internals::http::{
    AcceptEncoding, BadResponse, BodyFraming, BodyWriter, Coding, DateLine, ErrorResponse, HeadEncoder, Known, Method,
    ResponseFraming, ResponseHead, Scheme, Trailers, Version, date, h2, preferred_type, response_head,
};

/// Heads longer than this are not cut at every byte: that takes the square of the time.
const CUT_EVERYWHERE_BYTES_MAX: usize = 512;

/// A head is found, refused or not complete, and which of these does not depend on how its bytes arrive. What is found
/// keeps the promises that the session relies on.
pub fn head(bytes: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 4096, request_line_bytes_max: 1024, fields_max: 40 };
    let whole = parse(bytes, &limits);
    let end = match &whole {
        Ok(Parsed::Complete { head, length }) => {
            assert!(*length <= bytes.len() && *length <= limits.head_bytes_max);
            assert!(bytes[..*length].ends_with(b"\r\n\r\n"));
            check_head(head, &limits);
            *length
        }
        Ok(Parsed::Partial) | Err(_) => bytes.len(),
    };
    let cuts = if end <= CUT_EVERYWHERE_BYTES_MAX { 1 } else { end / 16 };
    let mut is_refused = false;
    for cut in (0..end).step_by(cuts) {
        match (parse(&bytes[..cut], &limits), &whole) {
            (Ok(Parsed::Partial), _) => assert!(!is_refused, "refused, then not, at {cut}"),
            (Err(_), Err(_)) => is_refused = true,
            (early, whole) => panic!("{early:?} at {cut}, but {whole:?} in the end"),
        }
    }
    if let Ok(Parsed::Complete { length, head }) = &whole {
        assert_eq!(parse(&bytes[..*length], &limits), whole, "what follows a head does not change it");
        pass_on(head);
    }
}

/// What an upstream gets for a head is one too, and says the same.
fn pass_on(head: &RequestHead<'_>) {
    let upstream_authority = Authority::new("upstream").expect("it is one");
    let upgrade = upgrade_to_forward(head);
    let context = RequestContext {
        client: None,
        client_is_trusted: false,
        scheme: Scheme::Http,
        client_subject: None,
        upstream_authority: &upstream_authority,
        framing: head.framing,
        upgrade,
        websocket_key: None,
        request_id: None,
    };
    let mut out = Vec::new();
    write_request(head, &RequestRules::default(), &context, &mut out);
    let Ok(Parsed::Complete { head: sent, length }) = parse(&out, &HeadLimits::default()) else {
        panic!("{}", out.escape_ascii())
    };
    assert_eq!(length, out.len());
    assert_eq!((sent.method, sent.framing, sent.upgrade()), (head.method, head.framing, upgrade));
    assert_eq!((sent.host, sent.target.path()), (head.host.or(Some("upstream")), head.target.path()));
    assert!(sent.keep_alive && sent.version == Version::Http11);
}

/// The same as [`head`], of an upstream's answer. The first byte decides whether it is to HEAD.
pub fn response_head(bytes: &[u8]) {
    let Some((&seed, bytes)) = bytes.split_first() else { return };
    let to_head = seed % 2 == 1;
    let limits = HeadLimits { head_bytes_max: 4096, request_line_bytes_max: 1024, fields_max: 40 };
    let whole = response_head::parse(bytes, to_head, &limits);
    let end = match &whole {
        Ok(response_head::Parsed::Complete { head, length }) => {
            let text = bytes.get(..*length).expect("it is within what came");
            // Lines of an answer may end in LF alone.
            assert!(text.ends_with(b"\n\r\n") || text.ends_with(b"\n\n"));
            assert_eq!(response_head::parse(&bytes[..*length], to_head, &limits), whole, "whatever follows");
            for to in [Version::Http10, Version::Http11] {
                pass_back(head, to_head, to);
            }
            // HTTP/2 has no 101.
            if head.status.code() != 101 {
                pass_back_in_http2(head);
            }
            *length
        }
        Ok(response_head::Parsed::Partial) | Err(_) => bytes.len(),
    };
    let mut is_refused = false;
    for cut in (0..end).step_by(1 + end / CUT_EVERYWHERE_BYTES_MAX) {
        match (response_head::parse(&bytes[..cut], to_head, &limits), &whole) {
            (Ok(response_head::Parsed::Partial), _) => assert!(!is_refused, "refused, then not, at {cut}"),
            (Err(BadResponse { .. }), Err(_)) => is_refused = true,
            (early, whole) => panic!("{early:?} at {cut}, but {whole:?} in the end"),
        }
    }
}

/// What a client gets for a head is one too, and says the same in the client's version.
fn pass_back(head: &ResponseHead<'_>, to_head: bool, to: Version) {
    let framing = head.framing.for_client(to);
    let mut encoder = HeadEncoder::new();
    let context = ResponseContext { date: &DateLine::new(0), set_cookie: None, passes_trailers: false };
    write_response(head, &ResponseRules::default(), &context, &mut encoder);
    let out = encoder.end_forwarded(head, to, head.keep_alive);
    let Ok(response_head::Parsed::Complete { head: sent, length }) =
        response_head::parse(&out, to_head, &HeadLimits::default())
    else {
        panic!("{}", out.escape_ascii())
    };
    assert_eq!(length, out.len());
    assert_eq!((sent.status, sent.reason, sent.framing), (head.status, head.reason, framing));
    assert!(sent.framing != ResponseFraming::UntilClose || !sent.keep_alive);
    assert!(sent.fields.all_known(Known::SetCookie).eq(head.fields.all_known(Known::SetCookie)));
}

/// The same in HTTP/2, where no field concerns the connection.
fn pass_back_in_http2(head: &ResponseHead<'_>) {
    let mut encoder = h2::HeadEncoder::new();
    let context = ResponseContext { date: &DateLine::new(0), set_cookie: None, passes_trailers: true };
    write_response(head, &ResponseRules::default(), &context, &mut encoder);
    let mut reader = h2::BlockReader::new(&HeadLimits { head_bytes_max: 1 << 16, ..HeadLimits::default() });
    let decoded = reader.push(&mut h2::hpack::Decoder::new(), &encoder.end_forwarded(head), true);
    assert_eq!((decoded, reader.fields().excess()), (Ok(()), None));
    let mut sent = reader.fields().iter();
    let status = sent.next().expect("it is first");
    assert_eq!((status.name, status.value), (&b":status"[..], &head.status.digits()[..]));
    for field in sent.clone() {
        assert!(is_token(field.name) && !field.name.iter().any(u8::is_ascii_uppercase));
        assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert_eq!(field.value.trim_ascii(), field.value);
        assert!(Known::recognise(field.name).is_none_or(|known| known == Known::Trailer || !known.is_hop_by_hop()));
    }
    let values = |name: &'static [u8]| sent.clone().filter(move |field| field.name == name).map(|field| field.value);
    assert!(values(b"set-cookie").eq(head.fields.all_known(Known::SetCookie)));
    let declared = match head.declared_framing(Version::Http2) {
        ResponseFraming::Length(length) if !head.status.forbids_length() => Some(length.to_string()),
        _ => None,
    };
    assert!(values(b"content-length").eq(declared.as_deref().map(str::as_bytes)));
}

fn check_head(head: &RequestHead<'_>, limits: &HeadLimits) {
    assert!(head.fields.len() <= limits.fields_max);
    assert!(head.host.is_some() || head.version == Version::Http10);
    for field in head.fields.iter() {
        assert!(!field.name.is_empty());
        assert!(!field.name.iter().chain(field.value).any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert_eq!(field.value.trim_ascii(), field.value);
    }
    for known in [Known::Host, Known::ContentLength, Known::Connection] {
        assert!(head.fields.all_known(known).eq(head.fields.all(known.as_str())));
        assert_eq!(head.fields.known(known), head.fields.get(known.as_str()));
    }
    let has_length = head.fields.known(Known::ContentLength).is_some();
    let has_codings = head.fields.known(Known::TransferEncoding).is_some();
    match head.framing {
        BodyFraming::None => assert!(!has_length && !has_codings),
        BodyFraming::Length(_) => assert!(has_length && !has_codings),
        BodyFraming::Chunked => assert!(!has_length && has_codings && head.version == Version::Http11),
    }
    if let Some(raw) = head.target.path() {
        assert!(raw.starts_with('/') && raw.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        path(raw.as_bytes());
    }
}

/// The data found and where the body ends do not depend on how the bytes arrive. The first byte decides the cuts.
pub fn chunked(bytes: &[u8]) {
    let Some((&seed, bytes)) = bytes.split_first() else { return };
    let whole = decoded(bytes, &[bytes.len()]);
    assert_eq!(decoded(bytes, &[1]), whole, "byte by byte");
    assert_eq!(decoded(bytes, &[usize::from(seed % 16) + 1, usize::from(seed / 16) + 1]), whole);
    if let Ok((data, Some((end, trailers)))) = whole {
        assert!(data.len() < end && end <= bytes.len());
        forwarded_trailers(&trailers);
    }
}

/// Trailers that are forwarded end where their message ends, and change nothing of it, even if they are taken for fields
/// of its head.
fn forwarded_trailers(received: &Trailers) {
    let named = ConnectionNames::default();
    let forwarded = [
        RequestRules::default().pass_trailers(Box::new(received.clone()), &named),
        ResponseRules::default().pass_trailers(Box::new(received.clone()), &named),
    ];
    for trailers in forwarded.into_iter().flatten() {
        let written = BodyWriter::Chunked.end_with(&trailers);
        let followed = [&written[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(decoded(&followed, &[followed.len()]), Ok((Vec::new(), Some((written.len(), (*trailers).clone())))));
        let start: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n";
        let merged = [start, &written[b"0\r\n".len()..]].concat();
        let limits = HeadLimits { head_bytes_max: 1 << 16, ..HeadLimits::default() };
        let Ok(Parsed::Complete { head, length }) = parse(&merged, &limits) else {
            assert!(trailers.iter().count() > limits.fields_max - 2, "{trailers:?}");
            continue;
        };
        assert_eq!((length, head.host, head.framing), (merged.len(), Some("h"), BodyFraming::Chunked));
        for known in Known::ALL {
            let is_ours = matches!(known, Known::Host | Known::TransferEncoding);
            assert_eq!(head.fields.all_known(*known).count(), usize::from(is_ours), "{known:?}");
        }
    }
}

/// What is found in a body: the data, and if it ended, where it did and its trailers.
pub type Found = (Vec<u8>, Option<(usize, Trailers)>);

/// What is found in `bytes`, given to the decoder in pieces of these sizes in turn.
pub fn decoded(bytes: &[u8], sizes: &[usize]) -> Result<Found, ErrorResponse> {
    let (mut decoder, mut data, mut at) = (Decoder::default(), Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    while at < bytes.len() {
        let piece_end = bytes.len().min(at + sizes.next().unwrap());
        while at <= piece_end {
            match decoder.decode(&bytes[at..piece_end])? {
                Step::Data { skip, length } => {
                    assert!(length > 0 && at + skip + length <= piece_end);
                    data.extend_from_slice(&bytes[at + skip..][..length]);
                    at += skip + length;
                }
                Step::More => break,
                Step::End { consumed } => {
                    let trailers = decoder.take_trailers().map_or_else(Trailers::default, |trailers| *trailers);
                    return Ok((data, Some((at + consumed, trailers))));
                }
            }
        }
        at = piece_end;
    }
    Ok((data, None))
}

/// What a client reads does not depend on how the bytes arrive. The first byte decides the requests, the second the cuts.
pub fn client(bytes: &[u8]) {
    let [requests, cuts, bytes @ ..] = bytes else { return };
    let whole = responses(*requests, bytes, bytes.len().max(1));
    assert_eq!(responses(*requests, bytes, 1), whole, "byte by byte");
    assert_eq!(responses(*requests, bytes, usize::from(*cuts) + 1), whole);
}

/// What is read of the responses: the statuses of the heads with their data, where each ends, why the reading ends, and
/// how many requests have no response then.
type Responses = (Vec<(u16, Vec<u8>, bool)>, Option<Discriminant<ClientError>>, usize);

/// The responses to a number of requests, some of them HEAD, that arrive in pieces of this size; then the end of input.
fn responses(requests: u8, bytes: &[u8], size: usize) -> Responses {
    let (pool, mut inbox) = (Pool::new(PoolConfig::default()), Inbox::default());
    let limits = ClientLimits { interim_bytes_max: 100, pipeline_max: 4, ..ClientLimits::default() };
    let (mut connection, mut out) = (ClientConnection::new(limits), Chain::new());
    for number in 0..requests % 5 {
        let method = if requests >> (4 + number % 4) & 1 == 0 { Method::Get } else { Method::Head };
        assert!(connection.may_request());
        connection.request(&Request::builder(method, "/", "h").end(), &mut out);
    }
    let mut read: Vec<(u16, Vec<u8>, bool)> = Vec::new();
    for piece in bytes.chunks(size.min(pool.size(SizeClass::Small))) {
        let fill = |memory: &mut [u8]| {
            memory[..piece.len()].copy_from_slice(piece);
            Ok::<_, Infallible>(piece.len())
        };
        inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
        loop {
            match connection.read(&mut inbox, |head| head.status.code()) {
                Ok(Event::Wait) => break,
                Ok(Event::Interim(status) | Event::Head(status)) => read.push((status, Vec::new(), false)),
                Ok(Event::Data(data)) => read.last_mut().expect("data follows a head").1.extend_from_slice(&data),
                Ok(Event::End(_)) => read.last_mut().expect("an end follows a head").2 = true,
                Err(error) => return (read, Some(discriminant(&error)), connection.unanswered()),
            }
        }
    }
    let error = connection.on_end(&inbox).err().map(|error| discriminant(&error));
    assert!(connection.is_over() && !connection.may_request());
    (read, error, connection.unanswered())
}

/// No path leads above its root, and one that was decoded survives being written and read again.
pub fn path(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let Ok(path) = decode(raw) else { return };
    let decoded = path.as_bytes();
    assert!(!decoded.contains(&0) && !decoded.starts_with(b"/") && !decoded.ends_with(b"/"));
    assert!(path.segments().all(|segment| !matches!(segment, b"" | b"." | b"..")));
    assert_eq!(path.segments().collect::<Vec<_>>().join(&b'/'), decoded);
    assert_eq!(path.has_dot_segment(), path.segments().any(|segment| segment[0] == b'.'));
    assert!(!path.is_root() || path.ends_with_slash());
    assert_eq!(path.as_c_str().to_bytes(), if path.is_root() { b"." } else { decoded });

    let mut written = Vec::new();
    encode_path(decoded, path.ends_with_slash(), &mut written);
    assert!(written.iter().all(u8::is_ascii_graphic) && !written.starts_with(b"//"));
    assert_eq!(decode(std::str::from_utf8(&written).unwrap()).as_ref(), Ok(&path));
}

/// Whatever is chosen was offered and is chosen once; the other negotiations do not panic on the same bytes.
pub fn accept_encoding(bytes: &[u8]) {
    let offers = Coding::ALL;
    let accepted = AcceptEncoding::parse(bytes.split(|&byte| byte == b'\n'));
    let preference = accepted.choose(&offers);
    let chosen = preference.as_slice();
    for (at, coding) in chosen.iter().enumerate() {
        assert!(!chosen[..at].contains(coding));
    }
    let fewer = accepted.choose(&offers[1..]);
    assert!(fewer.as_slice().iter().eq(chosen.iter().filter(|coding| **coding != Some(offers[0]))));
    assert_eq!(AcceptEncoding::parse(std::iter::empty()).choose(&offers).as_slice(), [None]);

    let types = ["text/html", "application/json"];
    let preferred = std::str::from_utf8(bytes).ok().and_then(|accept| preferred_type(Some(accept), &types));
    assert!(preferred.is_none_or(|preferred| types.contains(&preferred)));
    assert!(date::parse(bytes).is_none_or(|seconds| seconds < 253_402_300_800));
}
