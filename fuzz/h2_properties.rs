//! What must hold for any bytes at all that an HTTP/2 client sends. As in `properties.rs`.

use xps::internals::http::forward::{Authority, RequestContext, RequestRules, write_request};
use xps::internals::http::h2::frame::{self, FRAME_BYTES_MIN, HEADER_BYTES, PREFACE, push_settings};
use xps::internals::http::h2::head::{HeadContext, StoredHead, parse, parse_trailers};
use xps::internals::http::h2::hpack::encoder::push_field;
use xps::internals::http::h2::hpack::{Decoder, huffman};
use xps::internals::http::h2::reader::{DataPiece, Event};
use xps::internals::http::h2::{BlockReader, ConnectionError, FieldBlock, Frame, FrameReader, StreamId};
use xps::internals::http::request::{self, HeadLimits, Parsed, RequestHead};
use xps::internals::http::{BodyFraming, Known, Method, Scheme, Version};

/// The frames found do not depend on how the bytes arrive, and each is found as soon as it can be. The first byte
/// decides the cuts, and whether the connection has begun before.
pub fn frames(bytes: &[u8]) {
    let Some((&seed, rest)) = bytes.split_first() else { return };
    let mut sent = Vec::new();
    if seed % 2 == 1 {
        sent.extend_from_slice(PREFACE);
        push_settings(&mut sent, &[]);
    }
    sent.extend_from_slice(rest);
    let whole = read(&sent, sent.len().max(1));
    assert_eq!(read(&sent, 1), whole, "byte by byte");
    assert_eq!(read(&sent, usize::from(seed / 2) + 1), whole);
}

/// What was read, without the pieces in which data arrived.
#[derive(Debug, PartialEq, Eq)]
enum Note {
    Frame(String),
    Data { stream: StreamId, data: Vec<u8>, flow_bytes: u32, frame_bytes: u32, end_stream: bool },
}

/// What is read of bytes that arrive in pieces of this size, and why the reading ends if it does. A connection holds what
/// is not consumed, and no more.
fn read(sent: &[u8], size: usize) -> (Vec<Note>, Option<ConnectionError>) {
    let (mut reader, mut notes, mut at, mut end, mut wanted) = (FrameReader::of_server(), Vec::new(), 0, 0, 0);
    loop {
        let step = match reader.next(&sent[at..end]) {
            Ok(step) => step,
            Err(error) => return (notes, Some(error)),
        };
        assert!(step.consumed <= end - at);
        let has_event = step.event.is_some();
        assert!(!has_event || end - at >= wanted, "an event without the bytes that it wants");
        match step.event {
            Some(Event::Data(piece)) => note_data(&mut notes, piece, &sent[at..end]),
            Some(event) => {
                if let Event::Frame(frame) = &event {
                    check_written_again(frame, &sent[at..at + step.consumed]);
                }
                notes.push(Note::Frame(format!("{event:?}")));
            }
            None => {
                assert!(end - at - step.consumed < step.wanted);
                assert!(step.wanted <= HEADER_BYTES + FRAME_BYTES_MIN as usize);
            }
        }
        at += step.consumed;
        wanted = step.wanted;
        if !has_event {
            if end == sent.len() {
                return (notes, None);
            }
            end = sent.len().min(end + size);
        }
    }
}

fn note_data(notes: &mut Vec<Note>, piece: DataPiece, bytes: &[u8]) {
    let arrived = &bytes[piece.data];
    if let Some(frame_bytes) = piece.frame_bytes {
        let DataPiece { stream, flow_bytes, end_stream, .. } = piece;
        notes.push(Note::Data { stream, data: arrived.to_vec(), flow_bytes, frame_bytes, end_stream });
        return;
    }
    let Some(Note::Data { stream, data, flow_bytes, frame_bytes, end_stream }) = notes.last_mut() else {
        panic!("a piece without its frame")
    };
    assert_eq!((*stream, *end_stream), (piece.stream, false));
    data.extend_from_slice(arrived);
    *flow_bytes += piece.flow_bytes;
    *end_stream = piece.end_stream;
    assert!(*flow_bytes <= *frame_bytes);
}

/// A frame with one form only is written as it was read, but for what is ignored: undefined flags, a reserved bit.
fn check_written_again(frame: &Frame<'_>, read: &[u8]) {
    let written = match *frame {
        Frame::ResetStream { stream, code } => frame::reset_stream(stream, code).to_vec(),
        Frame::WindowUpdate { stream, increment } => frame::window_update(stream, increment).to_vec(),
        Frame::Ping { ack, payload } => frame::ping(ack, payload).to_vec(),
        Frame::SettingsAck => frame::SETTINGS_ACK.to_vec(),
        _ => return,
    };
    let read = &read[read.len() - written.len()..];
    assert_eq!(written[..4], read[..4], "length and type");
    assert_eq!(written.get(HEADER_BYTES + 1..), read.get(HEADER_BYTES + 1..));
}

/// Fields, errors and the decoder's table do not depend on how a block is cut; memory is bounded; and what was decoded is
/// decoded again after it was encoded. The bytes are blocks, each after its length.
pub fn hpack(bytes: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 1000, fields_max: 20, ..HeadLimits::default() };
    let (mut decoder, mut pieces_decoder) = (Decoder::new(), Decoder::new());
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        let (mut whole, mut pieces) = (BlockReader::new(&limits), BlockReader::new(&limits));
        let result = whole.push(&mut decoder, block, true);
        let size = block.len() / 8 + 1;
        let mut in_pieces = Ok(());
        for piece in block.chunks(size) {
            in_pieces = in_pieces.and_then(|()| pieces.push(&mut pieces_decoder, piece, false));
        }
        in_pieces = in_pieces.and_then(|()| pieces.push(&mut pieces_decoder, b"", true));
        assert_eq!(in_pieces, result);
        for memory in [decoder.memory(), pieces_decoder.memory()] {
            // Twice the table's bytes, and its entries.
            assert!(memory <= 3 * 4096, "{memory} bytes");
        }
        assert!(whole.memory() <= 16 * limits.head_bytes_max + 8 * block.len(), "{} bytes", whole.memory());
        if result.is_err() {
            break;
        }
        let (whole, pieces) = (whole.take(), pieces.take());
        assert_eq!((fields(&pieces), pieces.excess()), (fields(&whole), whole.excess()));
        assert!(pieces.never_indexed().eq(whole.never_indexed()));
        check_encoded_again(&whole, &limits);
    }
    let mut text = Vec::new();
    if huffman::decode(bytes, &mut text).is_ok() {
        let mut encoded = Vec::new();
        huffman::encode(text.iter().copied(), &mut encoded);
        assert_eq!(encoded, bytes, "each text has one code");
    }
}

fn fields(block: &FieldBlock) -> Vec<(Vec<u8>, Vec<u8>)> {
    block.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}

fn check_encoded_again(block: &FieldBlock, limits: &HeadLimits) {
    let mut encoded = Vec::new();
    for field in block.iter() {
        push_field(&mut encoded, field.name, field.value);
    }
    let mut reader = BlockReader::new(limits);
    let (mut decoder, before) = (Decoder::new(), Decoder::new().memory());
    reader.push(&mut decoder, &encoded, true).expect("it was encoded here");
    assert_eq!((fields(reader.fields()), reader.fields().excess()), (fields(block), None));
    assert_eq!(decoder.memory(), before, "nothing is put into the table");
}

/// A list of fields that is accepted is a request of HTTP/1.1 too, and what an upstream gets for it is one. The first
/// byte decides about END_STREAM and extended CONNECT. Each line is a field, its name up to the first `=`, and 0x1f
/// stands for LF in it.
pub fn head(bytes: &[u8]) {
    let Some((&seed, text)) = bytes.split_first() else { return };
    let limits = HeadLimits { head_bytes_max: 4096, request_line_bytes_max: 1024, fields_max: 40 };
    let mut encoded = Vec::new();
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Vec<u8> = line.iter().map(|&byte| if byte == 0x1f { b'\n' } else { byte }).collect();
        let name_length = line.iter().position(|&byte| byte == b'=').unwrap_or(line.len());
        let (name, value) = (&line[..name_length], line.get(name_length + 1..).unwrap_or_default());
        // Lengths of one octet, and the name as it is.
        let (name, value) = (&name[..name.len().min(126)], &value[..value.len().min(126)]);
        encoded.extend_from_slice(&[&[0x00, name.len() as u8], name, &[value.len() as u8], value].concat());
    }
    let mut reader = BlockReader::new(&limits);
    if reader.push(&mut Decoder::new(), &encoded, true).is_err() {
        return;
    }
    let context = HeadContext { end_stream: seed % 2 == 1, connect_protocol: seed / 2 % 2 == 1 };
    let block = reader.take();
    let Ok(head) = parse(&block, context, &limits) else { return };
    assert!(parse_trailers(&block).is_err(), "trailers have no :method");
    let stored = StoredHead::new(block.clone(), context);
    assert_eq!(stored.head(&limits).as_ref(), Ok(&head), "as often as it is wanted");
    check_head(&head, context, &limits);
    if head.protocol.is_none() {
        check_as_http1(&head);
    }
    pass_on(&head);
}

fn check_head(head: &RequestHead<'_>, context: HeadContext, limits: &HeadLimits) {
    assert!(head.version == Version::Http2 && head.keep_alive);
    // The authority may be one more.
    assert!(head.fields.len() <= limits.fields_max + 1);
    assert!(head.host.is_some() && head.fields.all_known(Known::Host).eq(head.host.map(str::as_bytes)));
    assert!(head.protocol.is_none() || (head.method == Method::Connect && context.connect_protocol));
    for field in head.fields.iter() {
        assert!(!field.name.is_empty() && !field.name.starts_with(b":"));
        assert!(!field.name.iter().any(u8::is_ascii_uppercase));
        assert!(!field.name.iter().chain(field.value).any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert_eq!(field.value.trim_ascii(), field.value);
    }
    for known in [Known::Connection, Known::TransferEncoding, Known::Upgrade, Known::KeepAlive, Known::ProxyConnection]
    {
        assert_eq!(head.fields.known(known), None);
    }
    assert!(head.fields.all_known(Known::Cookie).count() <= 1);
    match head.framing {
        BodyFraming::None => assert!(context.end_stream),
        BodyFraming::Length(length) => assert!(length == 0 || !context.end_stream),
        BodyFraming::Chunked => assert!(!context.end_stream),
    }
}

fn as_http1(text: &[u8]) -> RequestHead<'_> {
    match request::parse(text, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, length }) if length == text.len() => head,
        other => panic!("{other:?}: {}", text.escape_ascii()),
    }
}

/// The same request as text, with nothing checked in between.
fn check_as_http1(head: &RequestHead<'_>) {
    let mut text = head.method.as_str().as_bytes().to_vec();
    text.push(b' ');
    match (head.target.path(), head.target.query()) {
        (Some(path), query) => {
            text.extend_from_slice(path.as_bytes());
            text.extend_from_slice(&query.map(|query| [b"?", query].concat()).unwrap_or_default());
        }
        (None, _) if head.method == Method::Connect => text.extend_from_slice(head.host.unwrap_or_default().as_bytes()),
        (None, _) => text.push(b'*'),
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");
    for field in head.fields.iter() {
        text.extend_from_slice(&[field.name, b": ", field.value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    let same = as_http1(&text);
    assert_eq!((same.method, same.target, same.host, same.expect), (head.method, head.target, head.host, head.expect));
    assert_eq!(same.fields, head.fields);
    if matches!(head.framing, BodyFraming::Length(_)) {
        assert_eq!(same.framing, head.framing);
    }
}

/// What an upstream gets is one request, with the same meaning.
fn pass_on(head: &RequestHead<'_>) {
    let upstream_authority = Authority::new("upstream").expect("it is one");
    let context = RequestContext {
        client: None,
        client_is_trusted: false,
        scheme: Scheme::Https,
        client_subject: None,
        upstream_authority: &upstream_authority,
        framing: head.framing,
        upgrade: None,
        websocket_key: None,
        request_id: None,
    };
    let mut out = Vec::new();
    write_request(head, &RequestRules::default(), &context, &mut out);
    let sent = as_http1(&out);
    assert_eq!((sent.host, sent.framing, sent.upgrade()), (head.host, head.framing, None));
    assert_eq!((sent.target.path(), sent.target.query()), (head.target.path(), head.target.query()));
    let method = if head.protocol.is_some() { Method::Get } else { head.method };
    assert_eq!(sent.method, method);
    assert!(sent.keep_alive && sent.version == Version::Http11);
}
