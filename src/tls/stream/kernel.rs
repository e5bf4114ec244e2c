//! A connection whose sending direction is handed to the kernel.

use super::{HEADER_BYTES, Stream, record_length};
use crate::driver::{Alert, SendKeys, TlsFault};
use crate::tls::ktls::{Scope, Sending};

/// The type of a record with an alert (RFC 8446, 5.1).
const ALERT: u8 = 21;

impl Stream {
    pub(super) fn scope(&self) -> Option<Scope> {
        self.sending.as_ref().map(Sending::scope)
    }

    /// Whether the kernel can continue to encrypt what is sent: TLS 1.3 with AES-GCM, on a server's
    /// side, before any update of the keys.
    pub fn can_be_handed_over(&self) -> bool {
        self.can_seal() && self.sending.as_ref().is_some_and(|sending| sending.can_be_handed_over())
    }

    /// The keys for the kernel. What TLS itself had to send before must be taken, and until the kernel
    /// has refused ([`Stream::take_back`]) nothing is sealed.
    pub fn hand_over(&mut self) -> Option<SendKeys> {
        debug_assert!(!self.has_output(), "handed over with something to send");
        let sending = self.sending.as_ref().filter(|_| self.can_seal())?;
        sending.hand_over()
    }

    /// The kernel has refused. This stream encrypts again, unless TLS itself had something to say in the
    /// meantime: the sequence of records has a gap then, and the connection fails.
    pub fn take_back(&mut self) {
        if self.sending.as_ref().is_some_and(|sending| !sending.take_back()) {
            self.output = Vec::new();
            self.fail(TlsFault::Internal);
        }
    }

    /// After the stream was handed over: the next alert for the peer, which the kernel has to encrypt.
    pub fn take_alert(&mut self) -> Option<Alert> {
        while let Some(length) = record_length(&self.output).filter(|length| *length <= self.output.len()) {
            let is_alert = self.output.first() == Some(&ALERT);
            let alert = self.output.get(HEADER_BYTES..length).and_then(|payload| Alert::try_from(payload).ok());
            self.output.drain(..length);
            // The rest are messages about new keys, which the kernel does not have.
            if let Some(alert) = alert.filter(|_| is_alert) {
                return Some(alert);
            }
        }
        self.output = Vec::new();
        None
    }

    /// Whether the peer has asked for an update of the keys with which the kernel encrypts.
    pub fn is_outdated(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.is_outdated())
    }

    /// Asks the peer for an update of its keys, in what TLS itself has to send.
    #[cfg(test)]
    pub(crate) fn refresh_keys(&mut self) {
        self.session.refresh_keys(&mut self.output);
    }

    /// The keys with which the kernel encrypts must not be used any more.
    pub fn exhaust(&mut self) {
        self.fail(TlsFault::Internal);
    }
}
