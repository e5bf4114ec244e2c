//! A kernel that encrypts, and what the peer makes of it.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::*;
use crate::driver::SendKeys;

/// The types of records (RFC 8446, 5.1).
const DATA: u8 = 23;
const ALERT: u8 = 21;

/// What one side's kernel knows of TLS.
pub(super) enum KernelTls {
    /// Nothing: it refuses keys.
    Absent,
    /// It takes keys.
    Present,
    /// It encrypts.
    Begun { key: LessSafeKey, nonce: [u8; 12], sequence: u64 },
}

impl KernelTls {
    fn begin(&mut self, keys: &SendKeys) -> Outcome {
        if matches!(self, Self::Absent) {
            return Outcome::Failed(Fault::Os(libc::ENOPROTOOPT));
        }
        assert!(matches!(self, Self::Present), "begun twice");
        let (key, nonce, sequence) = keys.parts();
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        *self = Self::Begun { key: LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap()), nonce, sequence };
        Outcome::Done
    }

    /// Whether the operation is about it, or changed by it.
    pub(super) const fn concerns(&self, op: &Op) -> bool {
        match op {
            Op::BeginKernelTls { .. } | Op::SettleKernelTls { .. } | Op::SendFile { .. } => true,
            Op::Send { .. } => matches!(self, Self::Begun { .. }),
            _ => false,
        }
    }

    /// The bytes on the wire (RFC 8446, 5.2).
    fn records(&mut self, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let Self::Begun { key, nonce, sequence } = self else { panic!("the kernel does not encrypt") };
        let mut wire = Vec::new();
        for piece in bytes.chunks(16 << 10) {
            let mut record = piece.to_vec();
            record.push(kind);
            let [high, low] = u16::try_from(record.len() + 16).unwrap().to_be_bytes();
            let header = [DATA, 3, 3, high, low];
            let mut own = *nonce;
            own[4..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(to, byte)| *to ^= byte);
            *sequence += 1;
            key.seal_in_place_append_tag(Nonce::assume_unique_for_key(own), Aad::from(header), &mut record).unwrap();
            wire.extend(header);
            wire.extend(record);
        }
        wire
    }
}

impl Side {
    /// Carries out an operation that the kernel's TLS has to do with, at once.
    pub(super) fn run_kernel_tls(&mut self, other: &mut Self, id: OpId, op: Op) {
        let (record, outcome) = match op {
            Op::BeginKernelTls { keys, .. } => (Vec::new(), self.kernel_tls.begin(&keys)),
            Op::SettleKernelTls { alert, .. } => {
                let record = alert.map_or_else(Vec::new, |alert| self.kernel_tls.records(ALERT, &alert));
                (record, Outcome::Done)
            }
            Op::Send { chain, .. } => (self.kernel_tls.records(DATA, &chain.to_vec()), Outcome::Sent),
            Op::SendFile { head, offset, length, .. } => {
                let (start, end) = (offset as usize, ((offset + length) as usize).min(FILE_BYTES));
                let mut bytes = head.to_vec();
                bytes.extend((start..end).map(byte_of_file));
                let is_short = ((end - start) as u64) < length;
                let outcome = if is_short { Outcome::Failed(Fault::FileTruncated) } else { Outcome::Sent };
                (self.kernel_tls.records(DATA, &bytes), outcome)
            }
            op => panic!("{op:?}"),
        };
        other.arrived.extend(record);
        self.complete(id, outcome);
    }
}

impl Pair {
    /// A connection whose server has a kernel with TLS.
    fn with_kernel_tls(cut: usize) -> Self {
        let mut pair = Self::new(cut);
        pair.server.kernel_tls = KernelTls::Present;
        pair.shaken()
    }

    fn send_file(&mut self, offset: usize, length: usize) {
        let side = &mut self.server;
        let head = Chain::from(&b"head "[..]);
        side.transport.send_file(head, file(), offset as u64, length as u64, &mut side.ops);
    }

    fn is_begun(&self) -> bool {
        matches!(self.server.kernel_tls, KernelTls::Begun { .. })
    }
}

#[test]
fn the_kernel_goes_on_where_rustls_was_and_all_that_follows_goes_through_it() {
    for cut in [1000, 1 << 20] {
        let mut pair = Pair::with_kernel_tls(cut);
        pair.server.send(b"first ");
        pair.settle();
        pair.send_file(100, 200_000);
        assert!(!pair.server.transport.can_send() && !pair.server.transport.is_sending_at_rest());
        pair.settle();
        assert!(pair.is_begun() && pair.server.transport.can_send());
        assert!(
            pair.client.got[..11] == *b"first head "
                && pair.client.got[11..] == bytes_of_file(FILE_BYTES)[100..][..200_000]
        );
        assert_eq!((pair.server.transport.given_bytes(), pair.server.transport.sent_bytes()), (200_011, 200_011));
        assert_eq!(pair.server.transport.memory(), 0);
        pair.client.got.clear();
        // The other direction is as before.
        pair.client.send(&bytes_of_file(100_000));
        pair.server.send(b"second");
        pair.settle();
        assert!(pair.client.got == b"second" && pair.server.got == bytes_of_file(100_000));
        // Short files go through it as well, now.
        pair.send_file(7, 3);
        pair.settle();
        assert_eq!(pair.client.got, [&b"secondhead "[..], &bytes_of_file(FILE_BYTES)[7..10]].concat());
        pair.server.transport.shutdown(&mut pair.server.ops);
        pair.settle();
        assert!(pair.server.transport.is_shut_down());
        assert_eq!(pair.client.transport.input_end(), Some(End::Eof));
        assert_eq!(pair.server.transport.undelivered_bytes(), 0);
    }
}

#[test]
fn a_short_file_is_no_reason_to_ask_the_kernel() {
    let mut pair = Pair::with_kernel_tls(1 << 20);
    pair.send_file(0, 64 << 10);
    pair.settle();
    assert!(!pair.is_begun() && pair.client.got.len() == 5 + (64 << 10));
}

#[test]
fn with_tls_1_2_the_kernel_is_not_asked() {
    let mut pair = Pair::of(1 << 20, &[&rustls::version::TLS12]);
    pair.server.kernel_tls = KernelTls::Present;
    let mut pair = pair.shaken();
    pair.send_file(0, 200_000);
    pair.settle();
    assert!(!pair.is_begun() && pair.client.got.len() == 200_005);
}

#[test]
fn a_file_that_is_too_short_ends_in_order() {
    let mut pair = Pair::with_kernel_tls(1 << 20);
    pair.send_file(200_000, 200_000);
    pair.settle();
    assert!(pair.is_begun() && pair.client.got[5..] == bytes_of_file(FILE_BYTES)[200_000..]);
    let side = &mut pair.server;
    assert!(side.transport.lacks_file() && side.transport.is_broken() && !side.transport.can_send());
    side.transport.shutdown(&mut side.ops);
    pair.settle();
    assert!(pair.server.transport.is_shut_down());
    assert_eq!(pair.client.transport.input_end(), Some(End::Eof));
}

#[test]
fn closing_says_goodbye_through_the_kernel() {
    let mut pair = Pair::with_kernel_tls(1 << 20);
    pair.send_file(0, 200_000);
    pair.settle();
    close(&mut pair, CloseKind::Fin);
    assert!(pair.client.got.len() == 200_005 && !pair.client.is_reset);
    assert_eq!(pair.client.transport.input_end(), Some(End::Eof));
}

#[test]
fn what_the_peer_did_wrong_is_said_through_the_kernel() {
    let mut pair = Pair::with_kernel_tls(1 << 20);
    pair.send_file(0, 200_000);
    pair.settle();
    pair.server.arrived.extend([DATA, 3, 3, 0, 20]);
    pair.server.arrived.extend([0; 20]);
    pair.settle();
    assert_eq!(pair.server.transport.receive_fault(), Some(Fault::Tls(TlsFault::Undecryptable)));
    assert_eq!(pair.client.transport.receive_fault(), Some(Fault::Tls(TlsFault::Alert(20))));
}

#[test]
fn a_key_update_that_the_kernel_cannot_follow_ends_the_connection_after_the_response() {
    let mut pair = Pair::with_kernel_tls(1 << 20);
    pair.send_file(0, 100_000);
    pair.settle();
    assert!(!pair.server.transport.take_ending());
    let Transport::Tls(client) = &mut pair.client.transport else { panic!("it is plain") };
    client.stream.refresh_keys();
    pair.client.send(b"question");
    pair.settle();
    assert_eq!(pair.server.got, b"question");
    assert!(pair.server.transport.take_ending() && !pair.server.transport.take_ending(), "told once");
    pair.client.got.clear();
    pair.server.send(b"answer");
    pair.settle();
    close(&mut pair, CloseKind::Fin);
    assert_eq!(pair.client.got, b"answer");
    assert_eq!(pair.client.transport.input_end(), Some(End::Eof));
}

#[test]
fn a_key_update_before_the_file_is_a_reason_not_to_ask_the_kernel() {
    let mut pair = Pair::with_kernel_tls(1 << 20);
    let Transport::Tls(client) = &mut pair.client.transport else { panic!("it is plain") };
    client.stream.refresh_keys();
    pair.client.send(b"question");
    pair.settle();
    pair.send_file(0, 100_000);
    pair.settle();
    assert!(!pair.is_begun() && pair.client.got.len() == 100_005);
}
